package redisbroker

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare/broker/internal/redistest"
)

// forgotten makes a peer believe that its server may have lost everything.
func (p *peer) forgotten() {
	k := p.shards[0].keeper
	k.mu.Lock()
	k.holdings[p.node].soil()
	k.mu.Unlock()
	notify(k.mending)
}

func TestMend_OnePlaceThatFailsDelaysNoOther(t *testing.T) {
	t.Parallel()
	const users = 50
	server := redistest.Start(t)
	a := newPeer(t, "a", server.Addr())
	for i := range 2 * users {
		require.True(t, a.connect(fmt.Sprint("user", i), "1", 1))
	}
	for i := range 2 * users {
		key := a.key(kindUser, fmt.Sprint("user", i))
		server.CLI("DEL", key)
		if i < users {
			server.CLI("SET", key, "of the wrong type")
		}
	}
	k := a.shards[0].keeper
	k.mu.Lock()
	h := k.holdings["a"]
	h.soil()
	k.mu.Unlock()
	require.ErrorContains(t, k.mend(t.Context(), h), "WRONGTYPE")
	for i := users; i < 2*users; i++ {
		require.True(t, a.counts(fmt.Sprint("user", i), "1"), "all that can be told is told at once")
	}
}

func TestMend_TheIndexIsWrittenAgain(t *testing.T) {
	t.Parallel()
	server, a, victim := startPair(t, "a", "victim")
	w := watch(t, a)
	steady(t, a)
	victim.add("x", 3)
	index := victim.shards[0].keeper.index(victim.incarnation())
	require.Equal(t, "1", server.CLI("DEL", index), "a server of a Cluster has lost it, and another has the lease")
	victim.forgotten()
	eventually(t, testLease, "the index is there", func() bool { return server.CLI("EXISTS", index) == "1" })
	victim.die()
	eventually(t, 3*testLease, "its members are swept", func() bool { return len(w.all()) == 3 })
}

func TestMend_LivesOfServers(t *testing.T) {
	t.Parallel()
	h := newHolding("a")
	h.place(placeKey{kindMembers, "x"}).entries["client"] = &entry{}
	k := &keeper{holdings: map[string]*holding{"a": h}}
	tellsAgain := func(lives ...string) bool {
		clear(h.dirty)
		seen := make(map[string]bool)
		for _, life := range lives {
			seen[life] = true
		}
		k.noteLives(seen)
		return len(h.dirty) > 0
	}
	require.False(t, tellsAgain(), "nobody has answered yet")
	require.False(t, tellsAgain("a1", "b1"), "the first ones")
	require.False(t, tellsAgain("b1"))
	require.False(t, tellsAgain("a1", "b1"), "one had not answered, and is as it was")
	require.True(t, tellsAgain("a2", "b1"), "one was started again")
	require.False(t, tellsAgain("a2", "b1"))
	require.True(t, tellsAgain("a2", "b1", "c1"), "another one has come")
	require.False(t, tellsAgain(), "nobody answers")
	require.True(t, tellsAgain("a3", "b2", "c2"), "all were started again")
	require.True(t, tellsAgain("a4"), "the others do not answer")
	require.True(t, tellsAgain("a4", "b2", "c3"), "one of them was started again")
	for i := range 100 {
		require.True(t, tellsAgain(fmt.Sprint("a", 5+i), "b2", "c3"))
		require.Len(t, k.servers, 3, "those that are over are forgotten")
	}
}
