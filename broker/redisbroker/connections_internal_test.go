package redisbroker

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare/broker/internal/redistest"
)

func TestConnections_ManyOfAUserAreRestoredQuickly(t *testing.T) {
	t.Parallel()
	const many = 5000
	server := redistest.Start(t)
	a := newPeer(t, "a", server.Addr())
	k := a.shards[0].keeper
	names := func(inc string) (members []string) {
		for i := range many {
			members = append(members, connectionMember(inc, fmt.Sprint(i)))
		}
		return members
	}
	restore := func(inc string) (longest time.Duration) {
		for some := range slices.Chunk(names(inc), mendAtOnce) {
			began := time.Now()
			_, err := k.shard.run(t.Context(), connectionsRestore, k.connectionKeys("ann"), some)
			require.NoError(t, err)
			longest = max(longest, time.Since(began))
		}
		return longest
	}
	old, now := newIncarnation("a"), newIncarnation("a")
	began := time.Now()
	t.Logf("longest script: %v for new ones, %v for others' places", restore(old), restore(now))
	require.Less(t, time.Since(began), 10*time.Second, "a script that reads all for each that it restores takes far longer")
	order := strings.Fields(server.CLI("ZRANGE", a.key(kindUser, "ann"), "0", "-1"))
	require.Equal(t, names(now), order)
}
