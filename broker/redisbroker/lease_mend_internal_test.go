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
