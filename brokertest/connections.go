package brokertest

import (
	"fmt"
	"runtime"
	"sync/atomic"

	"github.com/fanfare-go/fanfare"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

var connectionSentences = []sentence{
	{name: "ConnectionsAreLimitedOnAllNodes", run: connectionsAreLimited,
		text: "AddConnection counts a connection in, if fewer than limit of its user are counted on all nodes. RemoveConnection makes room; it is not an error if the connection is not counted."},
	{name: "ConnectionsAreCountedOnce", run: connectionsAreCountedOnce,
		text: "A connection that is counted already is admitted and stays where it is."},
	{name: "ConnectionsReplaceTheOldest", run: connectionsReplaceTheOldest,
		text: "With replace a connection takes the place of the one that was counted first, which is returned."},
	{name: "ConnectionsGoWithTheirNode", run: connectionsGoWithTheirNode,
		text: "What is counted is gone when the node was detached. Nodes that are not attached get ErrClosed."},
	{name: "ConnectionsThatComeAtOnce", run: connectionsThatComeAtOnce,
		text: "However many connections come at once, at however many nodes, the limit is never exceeded, and nothing stays behind."},
}

// counter is a broker that counts, seen from one node.
type counter struct {
	*kit
	fanfare.ConnectionCounter
	node string
}

// counters returns two nodes that see each other.
func (k *kit) counters() (a, b counter) {
	k.Helper()
	one, two := k.brokers()
	see := func(b fanfare.Broker, name string) counter {
		c, ok := b.(fanfare.ConnectionCounter)
		if !ok {
			k.Skip("the broker is no ConnectionCounter")
		}
		k.node(b, name)
		return counter{k, c, k.prefix + name}
	}
	return see(one, "one"), see(two, "two")
}

func (c counter) connection(user, client string) fanfare.UserConnection {
	return fanfare.UserConnection{Node: c.node, User: c.channel(user), Client: c.channel(client)}
}

// add returns whether the connection was admitted, without replacing another.
func (c counter) add(user, client string, limit int) bool {
	c.Helper()
	a, err := c.AddConnection(c.Context(), c.connection(user, client), limit, false)
	require.NoError(c, err)
	require.Zero(c, a.Replaced)
	return a.Admitted
}

// replace returns the connection that made room.
func (c counter) replace(user, client string, limit int) fanfare.UserConnection {
	c.Helper()
	a, err := c.AddConnection(c.Context(), c.connection(user, client), limit, true)
	require.NoError(c, err)
	require.True(c, a.Admitted)
	return a.Replaced
}

func (c counter) remove(user, client string) {
	c.Helper()
	require.NoError(c, c.RemoveConnection(c.Context(), c.connection(user, client)))
}

func connectionsAreLimited(k *kit) {
	a, b := k.counters()
	require.True(k, a.add("ann", "1", 2))
	require.True(k, b.add("ann", "2", 2))
	require.False(k, a.add("ann", "3", 2))
	require.False(k, b.add("ann", "3", 2))
	require.True(k, b.add("ben", "4", 2), "another user")
	require.True(k, b.add("ann", "5", 3), "the limit is that of the call")
	a.remove("ann", "1")
	require.False(k, a.add("ann", "6", 2))
	b.remove("ann", "2")
	require.True(k, a.add("ann", "6", 2))

	a.remove("ann", "1")
	b.remove("ann", "6") // which is the other node's
	a.remove("nobody", "1")
	require.False(k, b.add("ann", "7", 2))
}

func connectionsAreCountedOnce(k *kit) {
	a, b := k.counters()
	require.True(k, a.add("ann", "1", 2))
	require.True(k, b.add("ann", "2", 2))
	require.True(k, a.add("ann", "1", 2))
	require.Zero(k, a.replace("ann", "1", 2))
	require.Equal(k, a.connection("ann", "1"), b.replace("ann", "3", 2), "it was counted first, and still is")
	b.remove("ann", "2")
	require.True(k, a.add("ann", "4", 2))
}

func connectionsReplaceTheOldest(k *kit) {
	a, b := k.counters()
	require.Zero(k, a.replace("ann", "1", 2))
	require.Zero(k, b.replace("ann", "2", 2))
	require.Equal(k, a.connection("ann", "1"), a.replace("ann", "3", 2))
	require.Equal(k, b.connection("ann", "2"), a.replace("ann", "4", 2))
	require.Equal(k, a.connection("ann", "3"), b.replace("ann", "5", 2))
	a.remove("ann", "1") // replaced already: its place is another's
	require.False(k, a.add("ann", "6", 2))
	a.remove("ann", "4")
	require.Zero(k, a.replace("ann", "6", 2))
}

func connectionsGoWithTheirNode(k *kit) {
	a, b := k.brokers()
	one, ok := a.(fanfare.ConnectionCounter)
	if !ok {
		k.Skip("the broker is no ConnectionCounter")
	}
	l, _ := k.node(a, "one")
	k.node(b, "two")
	left := counter{k, one, k.prefix + "one"}
	stays := counter{k, b.(fanfare.ConnectionCounter), k.prefix + "two"}
	for i := range 10 {
		require.True(k, left.add("ann", fmt.Sprint(i), 11))
	}
	require.True(k, stays.add("ann", "stays", 11))
	require.False(k, stays.add("ann", "more", 11))
	require.NoError(k, l.Close())

	for i := range 10 {
		require.True(k, stays.add("ann", fmt.Sprint("other ", i), 11))
	}
	require.False(k, stays.add("ann", "more", 11), "the other node's is still counted")
	_, err := left.AddConnection(k.Context(), left.connection("ben", "late"), 11, false)
	require.ErrorIs(k, err, fanfare.ErrClosed)
	require.ErrorIs(k, left.RemoveConnection(k.Context(), left.connection("ben", "late")), fanfare.ErrClosed)

	k.node(a, "one") // comes back, with nothing
	require.False(k, left.add("ann", "more", 11))
	require.True(k, left.add("ann", "more", 12))
}

func connectionsThatComeAtOnce(k *kit) {
	const limit, at, rounds = 3, 12, 40
	a, b := k.counters()
	var present atomic.Int32
	concurrently(at, func(i int) {
		c := []counter{a, b}[i%2]
		for n := range rounds {
			conn := c.connection("ann", fmt.Sprint(i, " ", n))
			admission, err := c.AddConnection(k.Context(), conn, limit, false)
			if assert.NoError(k, err) && admission.Admitted {
				assert.LessOrEqual(k, present.Add(1), int32(limit))
				runtime.Gosched()
				present.Add(-1)
			}
			assert.NoError(k, c.RemoveConnection(k.Context(), conn))
		}
	})
	for i := range limit {
		require.True(k, a.add("ann", fmt.Sprint("last ", i), limit), "a count stayed behind")
	}
	require.False(k, a.add("ann", "one too many", limit))
}
