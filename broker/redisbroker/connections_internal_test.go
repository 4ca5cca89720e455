package redisbroker

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare/broker/internal/redistest"
)

func TestConnections_ManyOfAUserAreRestoredInOnePassOverThem(t *testing.T) {
	t.Parallel()
	const many, scripts = 5000, 5000 / mendAtOnce
	server := redistest.Start(t)
	a := newPeer(t, "a", server.Addr())
	k := a.shards[0].keeper
	k.renewing <- struct{}{} // nobody renews: what is counted below is this test's
	defer func() { <-k.renewing }()
	names := func(inc string) (members []string) {
		for i := range many {
			members = append(members, connectionMember(inc, fmt.Sprint(i)))
		}
		return members
	}
	// restore returns how often the scripts have read from the set.
	restore := func(inc string) (reads int64) {
		before := calls(server)["zrange"]
		for some := range slices.Chunk(names(inc), mendAtOnce) {
			_, err := k.shard.run(t.Context(), connectionsRestore, k.connectionKeys("ann"), some)
			require.NoError(t, err)
		}
		return calls(server)["zrange"] - before
	}
	old, now := newIncarnation("a"), newIncarnation("a")
	require.EqualValues(t, scripts+many, restore(old), "each script reads all once, and who is new looks at the last one")
	require.EqualValues(t, scripts, restore(now), "each script reads all once")
	order := strings.Fields(server.CLI("ZRANGE", a.key(kindUser, "ann"), "0", "-1"))
	require.Equal(t, names(now), order)
}
