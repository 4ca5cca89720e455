package brokertest

import (
	"context"
	"crypto/rand"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/fanfare-go/fanfare"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// PresenceOptions describe the presence under test.
type PresenceOptions struct {
	// New returns a presence. It is called at least once per subtest; the kit closes what it gets.
	New func(t testing.TB) fanfare.Presence

	// Shared says that all that New returned in a subtest see each other's members: they use one server.
	Shared bool
}

// RunPresence runs the subtests.
func RunPresence(t *testing.T, o PresenceOptions) {
	for _, s := range presenceSentences {
		t.Run(s.name, func(t *testing.T) { s.check(t, o) })
	}
}

type presenceKit struct {
	*testing.T
	PresenceOptions
	prefix string
}

type presenceSentence struct {
	name, text string
	run        func(k *presenceKit)
}

func (s presenceSentence) check(t *testing.T, o PresenceOptions) {
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("broken sentence of the contract: %s", s.text)
		}
	})
	s.run(&presenceKit{T: t, PresenceOptions: o, prefix: rand.Text()[:10]})
}

var presenceSentences = []presenceSentence{
	{"AddPutsAClientIn", "Add puts a client into a channel, with all that is known about it.", addPutsAClientIn},
	{"AddReplaces", "Add replaces the entry of a client that is there already, also that of another node.", addReplaces},
	{"RemoveTakesAClientOut", "Remove takes a client out of one channel. A client that is not there is not an error.", removeTakesAClientOut},
	{"RemoveIsTheOwners", "A client that by now is the member of another node remains.", removeIsTheOwners},
	{"StatsCountUsers", "Stats counts connections and different users; all anonymous connections are one user.", statsCountUsers},
	{"RemoveNodeTakesAllItsMembers", "RemoveNode takes out all members of a node, and no others.", removeNodeTakesAllItsMembers},
	{"MembersAreTheCallers", "The slice that Members returns belongs to the caller.", membersAreTheCallers},
	{"AnyName", "No character of the name of a channel, client or user is special.", anyName},
	{"ConcurrentUse", "All methods are safe for concurrent use, and the counts come out right.", concurrentUse},
	{"ScanReadsEverybody", "The pages of ScanMembers hold every member, and they end.", scanReadsEverybody},
	{"ScanBesideOthers", "A member that is there all the time comes in one of the pages, whoever comes and goes meanwhile.", scanBesideOthers},
	{"CountedOnAllNodes", "AddCounted and RemoveCounted return how many clients the user has in the channel then, on all nodes; RemoveCounted returns -1 if it removed nothing.", countedOnAllNodes},
	{"CountedAtOnce", "Of clients of a user that come at once exactly one is counted as the first, of those that go at once exactly one as the last.", countedAtOnce},
	{"CancelledContext", "Methods return soon after their context ends, with its error.", presenceCancelledContext},
	{"CloseTwice", "Close may be called twice. Later calls return ErrClosed.", presenceCloseTwice},
}

// presences returns two that see each other; they may be the same one.
func (k *presenceKit) presences() (a, b fanfare.Presence) {
	k.Helper()
	one := func() fanfare.Presence {
		p := k.New(k.T)
		k.Cleanup(func() { _ = p.Close() })
		return p
	}
	a = one()
	if k.Shared {
		return a, one()
	}
	return a, a
}

func (k *presenceKit) name(name string) string { return k.prefix + ":" + name }

func (k *presenceKit) add(p fanfare.Presence, node, channel string, m fanfare.ClientInfo) {
	k.Helper()
	require.NoError(k, p.Add(k.Context(), k.name(node), k.name(channel), m))
}

// expect checks who is in a channel, and that the counts say the same.
func (k *presenceKit) expect(p fanfare.Presence, channel string, want ...fanfare.ClientInfo) {
	k.Helper()
	got, err := p.Members(k.Context(), k.name(channel))
	require.NoError(k, err)
	slices.SortFunc(got, func(a, b fanfare.ClientInfo) int { return strings.Compare(a.Client, b.Client) })
	require.True(k, len(want) == len(got) && (len(want) == 0 || assert.ObjectsAreEqual(want, got)), "want %v, got %v", want, got)
	users := make(map[string]bool)
	for _, m := range want {
		users[m.User] = true
	}
	stats, err := p.Stats(k.Context(), k.name(channel))
	require.NoError(k, err)
	require.Equal(k, fanfare.PresenceStats{Clients: len(want), Users: len(users)}, stats)
}

func member(client, user string) fanfare.ClientInfo {
	return fanfare.ClientInfo{Client: client, User: user}
}

func addPutsAClientIn(k *presenceKit) {
	a, b := k.presences()
	k.expect(a, "x")
	full := fanfare.ClientInfo{Client: "a", User: "u", ConnInfo: []byte(`{"a":1}`), ChanInfo: []byte(`{"b":2}`)}
	k.add(a, "one", "x", full)
	k.add(b, "two", "x", member("b", ""))
	k.add(b, "two", "y", member("a", "u"))
	k.expect(a, "x", full, member("b", ""))
	k.expect(b, "x", full, member("b", ""))
	k.expect(a, "y", member("a", "u"))
}

func addReplaces(k *presenceKit) {
	a, b := k.presences()
	k.add(a, "one", "x", member("a", "u"))
	k.add(a, "one", "x", member("a", "u"))
	k.expect(b, "x", member("a", "u"))
	k.add(a, "one", "x", member("a", "v"))
	k.expect(b, "x", member("a", "v"))
	k.add(b, "two", "x", member("a", "w"))
	k.expect(a, "x", member("a", "w"))
}

func removeTakesAClientOut(k *presenceKit) {
	a, b := k.presences()
	remove := func(channel, client string) {
		require.NoError(k, a.Remove(k.Context(), k.name("one"), k.name(channel), client))
	}
	k.add(a, "one", "x", member("a", "u"))
	k.add(a, "one", "x", member("b", "u"))
	k.add(a, "one", "y", member("a", "u"))
	remove("x", "a")
	k.expect(b, "x", member("b", "u"))
	k.expect(b, "y", member("a", "u"))
	remove("x", "a")
	remove("x", "never there")
	remove("never used", "a")
	k.expect(b, "x", member("b", "u"))
	remove("x", "b")
	k.expect(b, "x")
	k.add(a, "one", "x", member("a", "u"))
	k.expect(b, "x", member("a", "u"))
}

func removeIsTheOwners(k *presenceKit) {
	a, b := k.presences()
	k.add(a, "one", "x", member("a", "u"))
	k.add(b, "two", "x", member("a", "u"))
	require.NoError(k, a.Remove(k.Context(), k.name("one"), k.name("x"), "a"))
	k.expect(a, "x", member("a", "u"))
	require.NoError(k, a.RemoveNode(k.Context(), k.name("one")))
	k.expect(a, "x", member("a", "u"))
	require.NoError(k, b.Remove(k.Context(), k.name("two"), k.name("x"), "a"))
	k.expect(a, "x")
}

func statsCountUsers(k *presenceKit) {
	a, b := k.presences()
	stats := func() fanfare.PresenceStats {
		s, err := b.Stats(k.Context(), k.name("x"))
		require.NoError(k, err)
		return s
	}
	require.Equal(k, fanfare.PresenceStats{}, stats())
	for i, user := range []string{"u", "u", "v", "", ""} {
		k.add(a, "one", "x", member(fmt.Sprint(i), user))
	}
	require.Equal(k, fanfare.PresenceStats{Clients: 5, Users: 3}, stats())
	for i, want := range []fanfare.PresenceStats{{Clients: 4, Users: 3}, {Clients: 3, Users: 2}, {Clients: 2, Users: 1}, {Clients: 1, Users: 1}, {}} {
		require.NoError(k, a.Remove(k.Context(), k.name("one"), k.name("x"), fmt.Sprint(i)))
		require.Equal(k, want, stats())
	}
}

func removeNodeTakesAllItsMembers(k *presenceKit) {
	a, b := k.presences()
	for i := range 20 {
		channel := fmt.Sprint(i)
		k.add(a, "one", channel, member("a", "u"))
		k.add(a, "one", channel, member("b", "v"))
		if i%2 == 0 {
			k.add(b, "two", channel, member("c", "u"))
		}
	}
	for range 2 { // the second time there is nothing to do
		require.NoError(k, b.RemoveNode(k.Context(), k.name("one")))
		for i := range 20 {
			if i%2 == 0 {
				k.expect(a, fmt.Sprint(i), member("c", "u"))
			} else {
				k.expect(a, fmt.Sprint(i))
			}
		}
	}
}

func membersAreTheCallers(k *presenceKit) {
	a, _ := k.presences()
	k.add(a, "one", "x", member("a", "u"))
	got, err := a.Members(k.Context(), k.name("x"))
	require.NoError(k, err)
	got[0] = member("changed", "changed")
	k.expect(a, "x", member("a", "u"))
}

func anyName(k *presenceKit) {
	a, b := k.presences()
	for _, s := range []string{"a b", "a.b", "*", "news.>", "{x}", "[a-z]?", `"q'`, `back\slash`, "ü→😀", "line\nfeed", "a:b:c", "%s%d"} {
		k.add(a, s, s, member(s, s))
		k.expect(b, s, member(s, s))
		require.NoError(k, a.Remove(k.Context(), k.name(s), k.name(s), s))
		k.expect(b, s)
	}
}

func concurrentUse(k *presenceKit) {
	const workers, rounds = 8, 40
	a, b := k.presences()
	concurrently(workers, func(i int) {
		p := []fanfare.Presence{a, b}[i%2]
		node, client := k.name(fmt.Sprint(i%2)), fmt.Sprint(i)
		for n := range rounds {
			channel := k.name(fmt.Sprint(n % 4))
			assert.NoError(k, p.Add(k.Context(), node, channel, member(client, fmt.Sprint(i%3))))
			_, err := p.Members(k.Context(), channel)
			assert.NoError(k, err)
			stats, err := p.Stats(k.Context(), channel)
			assert.NoError(k, err)
			assert.Positive(k, stats.Clients)
			assert.NoError(k, p.Remove(k.Context(), node, channel, client))
		}
		assert.NoError(k, p.Add(k.Context(), node, k.name("x"), member(client, "u")))
	})
	var want []fanfare.ClientInfo
	for i := range workers {
		want = append(want, member(fmt.Sprint(i), "u"))
	}
	k.expect(a, "x", want...)
	for i := range 4 {
		k.expect(a, fmt.Sprint(i))
	}
}

func (k *presenceKit) methods(ctx context.Context, p fanfare.Presence, check func(method string, err error)) {
	check("Add", p.Add(ctx, k.name("one"), k.name("x"), member("a", "u")))
	check("Remove", p.Remove(ctx, k.name("one"), k.name("x"), "a"))
	_, err := p.Members(ctx, k.name("x"))
	check("Members", err)
	_, err = p.Stats(ctx, k.name("x"))
	check("Stats", err)
	check("RemoveNode", p.RemoveNode(ctx, k.name("one")))
	if scanner, ok := p.(fanfare.PresenceScanner); ok {
		_, _, err := scanner.ScanMembers(ctx, k.name("x"), "", 10)
		check("ScanMembers", err)
	}
	if counter, ok := p.(fanfare.UserPresence); ok {
		_, err := counter.AddCounted(ctx, k.name("one"), k.name("x"), member("a", "u"))
		check("AddCounted", err)
		_, err = counter.RemoveCounted(ctx, k.name("one"), k.name("x"), "a")
		check("RemoveCounted", err)
	}
}

func presenceCancelledContext(k *presenceKit) {
	a, _ := k.presences()
	k.add(a, "one", "x", member("b", "u"))
	ended, cancel := context.WithCancel(k.Context())
	cancel()
	k.methods(ended, a, func(method string, err error) { require.ErrorIs(k, err, context.Canceled, method) })
	k.expect(a, "x", member("b", "u"))
}

func presenceCloseTwice(k *presenceKit) {
	a, _ := k.presences()
	require.NoError(k, a.Close())
	require.NoError(k, a.Close())
	k.methods(k.Context(), a, func(method string, err error) { require.ErrorIs(k, err, fanfare.ErrClosed, method) })
}
