package redisbroker

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestSweep_OnePlaceThatFailsDelaysNoOther(t *testing.T) {
	t.Parallel()
	server, a, victim := startPair(t, "a", "victim")
	for i := range 130 { // more than are read at once
		victim.add(fmt.Sprintf("%03d", i), 1)
	}
	index := a.key(kindLease, victim.incarnation())
	victim.die()
	broken := a.key(kindMembers, "001")
	require.Equal(t, "1", server.CLI("DEL", broken))
	server.CLI("SET", broken, "of the wrong type")

	w := watch(t, a)
	eventually(t, 5*testLease, "all others are swept", func() bool { return len(w.all()) == 129 })
	server.CLI("DEL", broken)
	eventually(t, 5*testLease, "nothing is left to sweep", func() bool {
		return server.CLI("EXISTS", index, a.key(kindLease, "")+"d") == "0"
	})
}
