package redisbroker

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/fanfare-go/fanfare"
	"github.com/fanfare-go/fanfare/broker/internal/redistest"
)

// fill puts many members into a channel.
func fill(t *testing.T, p *peer, channel string, count int) {
	t.Helper()
	var g errgroup.Group
	g.SetLimit(64)
	for i := range count {
		g.Go(func() error {
			return p.Add(t.Context(), p.node, channel, fanfare.ClientInfo{Client: fmt.Sprint(p.node, i), User: fmt.Sprint(i % 100)})
		})
	}
	require.NoError(t, g.Wait())
}

func TestPresence_LargeChannel(t *testing.T) {
	t.Parallel()
	const each = 5000
	server, a, b := startPair(t, "a", "b")
	fill(t, a, "x", each)
	fill(t, b, "x", each)

	before := calls(server)
	require.Equal(t, fanfare.PresenceStats{Clients: 2 * each, Users: 100}, a.stats("x"))
	after := calls(server)
	for name := range after {
		switch name {
		case "evalsha", "eval", "hlen", "zrange", "zcount", "info", "ping", "time", "zadd", "zscore", "config|get", "zrangebyscore":
		default:
			require.Equal(t, before[name], after[name], "stats call %s", name)
		}
	}
	require.LessOrEqual(t, after["zcount"]-before["zcount"], int64(2))

	seen := make(map[string]int)
	pages := 0
	for cursor, first := "", true; first || cursor != ""; first = false {
		members, next, err := b.ScanMembers(t.Context(), "x", cursor, 700)
		require.NoError(t, err)
		require.LessOrEqual(t, len(members), 700)
		for _, m := range members {
			seen[m.Client]++
		}
		if pages++; pages == 3 { // the place of the cursor is found although its client has left
			last := members[len(members)-1].Client
			require.NoError(t, a.Remove(t.Context(), "a", "x", last))
			require.NoError(t, b.Remove(t.Context(), "b", "x", last))
			fill(t, a, "x", 1) // is there already
		}
		cursor = next
	}
	require.Len(t, seen, 2*each)
	for client, times := range seen {
		require.Equal(t, 1, times, client)
	}
	require.Len(t, b.clients("x"), 2*each-1)
	require.NoError(t, a.RemoveNode(t.Context(), "a"))
	require.NoError(t, b.RemoveNode(t.Context(), "b"))
	require.Equal(t, "0", server.CLI("EXISTS", a.key(kindMembers, "x"), a.key(kindMembers, "x")+"u", a.key(kindMembers, "x")+"o", a.key(kindMembers, "x")+"n"))
}

func TestPresence_KeepAliveDoesNotDependOnMembers(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	a := newPeer(t, "a", server.Addr())
	// measure returns what a renewal costs, however many a busy machine makes meanwhile.
	measure := func() (commands float64) {
		before := calls(server)
		var after map[string]int64
		renewals := func() int64 { return after["time"] - before["time"] } // each asks for the time once, and nothing else does
		eventually(t, 3*testLease, "leases are renewed", func() bool {
			after = calls(server)
			return renewals() >= 3
		})
		for name, count := range after {
			if name != "info" && name != "ping" { // also of the test, and of who looks whether the server is there
				commands += float64(count - before[name])
			}
		}
		return commands / float64(renewals())
	}
	a.add("x", 1)
	few := measure()
	fill(t, a, "x", 3000)
	const channels = 50
	for i := range channels {
		a.add(fmt.Sprint("channel", i), 1)
	}
	many := measure()
	t.Logf("commands of a renewal: %.1f with one member, %.1f with 3,050", few, many)
	require.Less(t, many, few+channels/5, "it may look for the dead in addition, but for nothing in each channel")
}

func TestPresence_Counted(t *testing.T) {
	t.Parallel()
	_, a, b := startPair(t, "a", "b")
	add := func(p *peer, client, user string) int {
		n, err := p.AddCounted(t.Context(), p.node, "x", fanfare.ClientInfo{Client: client, User: user})
		require.NoError(t, err)
		return n
	}
	remove := func(p *peer, client string) int {
		n, err := p.RemoveCounted(t.Context(), p.node, "x", client)
		require.NoError(t, err)
		return n
	}
	require.Equal(t, 1, add(a, "1", "ann"))
	require.Equal(t, 2, add(b, "2", "ann"))
	require.Equal(t, 1, add(b, "3", "ben"))
	require.Equal(t, 2, add(a, "1", "ann"), "it replaces itself")
	require.Equal(t, -1, remove(b, "1"), "another node's")
	require.Equal(t, 1, remove(a, "1"))
	require.Equal(t, -1, remove(a, "1"))
	require.Equal(t, 0, remove(b, "2"))
	require.Equal(t, 2, add(b, "4", "ben"))
	require.Equal(t, 1, add(a, "4", "cleo"), "it moves")
	require.Equal(t, 0, remove(b, "3"))
}

func TestPresence_MalformedCursor(t *testing.T) {
	t.Parallel()
	a := newPeer(t, "a", redistest.Start(t).Addr())
	for _, cursor := range []string{"x", "1", "-1:c", ":"} {
		_, _, err := a.ScanMembers(t.Context(), "x", cursor, 10)
		require.ErrorIs(t, err, errCursor, cursor)
	}
}
