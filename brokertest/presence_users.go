package brokertest

import (
	"fmt"
	"sync/atomic"

	"github.com/fanfare-go/fanfare"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// scan reads all pages of a channel, and calls between after each. It returns how often each client came.
func (k *presenceKit) scan(p fanfare.Presence, channel string, limit int, between func(page int)) map[string]int {
	k.Helper()
	scanner, ok := p.(fanfare.PresenceScanner)
	if !ok {
		k.Skip("the presence is no PresenceScanner")
	}
	const maxPages = 10_000
	seen := make(map[string]int)
	cursor := ""
	for page := range maxPages {
		members, next, err := scanner.ScanMembers(k.Context(), k.name(channel), cursor, limit)
		require.NoError(k, err)
		for _, m := range members {
			require.Equal(k, member(m.Client, "u"+m.Client), m)
			seen[m.Client]++
		}
		if next == "" {
			return seen
		}
		cursor = next
		between(page)
	}
	require.FailNow(k, fmt.Sprintf("the scan does not end: %d pages", maxPages))
	return nil
}

func scanReadsEverybody(k *presenceKit) {
	a, b := k.presences()
	for _, members := range []int{0, 1, 10, 11, 1234} {
		channel := fmt.Sprint(members)
		for i := range members {
			p, node := a, "one"
			if i%2 == 1 {
				p, node = b, "two"
			}
			k.add(p, node, channel, member(fmt.Sprint(i), fmt.Sprint("u", i)))
		}
		for _, limit := range []int{1, 10, 1000} {
			if limit == 1 && members > 100 {
				continue
			}
			seen := k.scan(b, channel, limit, func(int) {})
			require.Len(k, seen, members, "%d members, in pages of %d", members, limit)
		}
	}
}

func scanBesideOthers(k *presenceKit) {
	const members = 300
	a, b := k.presences()
	id := func(kind string, i int) string { return fmt.Sprintf("%03d%s", i, kind) }
	for i := range members {
		k.add(a, "one", "x", member(id("stays", i), "u"+id("stays", i)))
		k.add(a, "one", "x", member(id("goes", i), "u"+id("goes", i)))
	}
	next := 0
	seen := k.scan(b, "x", 10, func(int) {
		for range 10 {
			if next == members {
				return
			}
			require.NoError(k, a.Remove(k.Context(), k.name("one"), k.name("x"), id("goes", next)))
			comes := id("comes", members-1-next) // those who go are in front, if there is an order, and those who come behind
			k.add(b, "two", "x", member(comes, "u"+comes))
			next++
		}
	})
	for i := range members {
		require.Positive(k, seen[id("stays", i)], "a member that was there all the time did not come")
	}
}

// counters returns presences that count, for the same members; they may be the same one.
func (k *presenceKit) counters() (a, b fanfare.UserPresence) {
	k.Helper()
	p, q := k.presences()
	a, counts := p.(fanfare.UserPresence)
	if !counts {
		k.Skip("the presence is no UserPresence")
	}
	return a, q.(fanfare.UserPresence)
}

func countedOnAllNodes(k *presenceKit) {
	a, b := k.counters()
	add := func(p fanfare.UserPresence, node, channel, client, user string, want int) {
		k.Helper()
		n, err := p.AddCounted(k.Context(), k.name(node), k.name(channel), member(client, user))
		require.NoError(k, err)
		require.Equal(k, want, n)
	}
	remove := func(p fanfare.UserPresence, node, channel, client string, want int) {
		k.Helper()
		n, err := p.RemoveCounted(k.Context(), k.name(node), k.name(channel), client)
		require.NoError(k, err)
		require.Equal(k, want, n)
	}
	add(a, "one", "x", "a", "ann", 1)
	add(b, "two", "x", "b", "ann", 2)
	add(b, "two", "x", "b", "ann", 2) // once more
	add(b, "two", "x", "c", "ben", 1)
	add(a, "one", "y", "a", "ann", 1)
	k.expect(a.(fanfare.Presence), "x", member("a", "ann"), member("b", "ann"), member("c", "ben"))

	remove(a, "one", "x", "b", -1) // another node's
	remove(a, "one", "x", "nobody", -1)
	remove(a, "one", "nowhere", "a", -1)
	remove(a, "one", "x", "a", 1)
	remove(a, "one", "x", "a", -1)
	add(a, "one", "x", "b", "ann", 1) // another node's now
	remove(b, "two", "x", "b", -1)
	remove(a, "one", "x", "b", 0)
	remove(b, "two", "x", "c", 0)
	remove(a, "one", "y", "a", 0)
	k.expect(b.(fanfare.Presence), "x")

	require.NoError(k, a.(fanfare.Presence).Add(k.Context(), k.name("one"), k.name("x"), member("d", "ann")))
	add(b, "two", "x", "e", "ann", 2)
	require.NoError(k, a.(fanfare.Presence).Remove(k.Context(), k.name("one"), k.name("x"), "d"))
	add(b, "two", "x", "e", "ann", 1)
}

func countedAtOnce(k *presenceKit) {
	const clients, rounds = 8, 20
	a, b := k.counters()
	for range rounds {
		var first, last atomic.Int32
		who := func(i int) (p fanfare.UserPresence, node, client string) {
			return []fanfare.UserPresence{a, b}[i%2], k.name(fmt.Sprint(i % 2)), fmt.Sprint(i)
		}
		concurrently(clients, func(i int) {
			p, node, client := who(i)
			n, err := p.AddCounted(k.Context(), node, k.name("x"), member(client, "u"))
			assert.NoError(k, err)
			if n == 1 {
				first.Add(1)
			}
		})
		concurrently(clients, func(i int) {
			p, node, client := who(i)
			n, err := p.RemoveCounted(k.Context(), node, k.name("x"), client)
			assert.NoError(k, err)
			if n == 0 {
				last.Add(1)
			}
		})
		require.EqualValues(k, 1, first.Load(), "how many were the first")
		require.EqualValues(k, 1, last.Load(), "how many were the last")
	}
}
