package redistest

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestCluster(t *testing.T) {
	t.Parallel()
	c := StartCluster(t, "--appendonly yes")
	require.Len(t, c.Addrs(), 3)

	t.Run("every key has an owner, which serves it", func(t *testing.T) {
		owners := make(map[*Server]bool)
		for i := range 10 {
			key := fmt.Sprint("key", i)
			owner := c.Owner(key)
			require.Equal(t, "OK", owner.CLI("SET", key, "value"))
			owners[owner] = true
		}
		require.Len(t, owners, 3)
	})

	t.Run("a slot moves with its keys", func(t *testing.T) {
		const tag = "{some}"
		from := c.Owner(tag)
		require.Equal(t, "OK", from.CLI("DEBUG", "POPULATE", "250", tag))
		from.CLI("XADD", tag+"stream", "1-1", "name", "value")
		c.MoveSlot(tag)
		to := c.Owner(tag)
		require.NotEqual(t, from, to)
		require.Equal(t, "value:249", to.CLI("GET", tag+":249"))
		require.Equal(t, "1", to.CLI("XLEN", tag+"stream"))
		require.Contains(t, from.CLI("GET", tag+":249"), "MOVED")
		c.MoveSlot(tag)
		c.MoveSlot(tag)
		require.Equal(t, from, c.Owner(tag))
		require.Equal(t, "251", from.CLI("CLUSTER", "COUNTKEYSINSLOT", fmt.Sprint(c.Slot(tag))))
	})

	t.Run("every member has a life of its own, which a moved slot finds another of", func(t *testing.T) {
		from := c.Owner("moved")
		before := life(t, from, "moved")
		c.MoveSlot("moved")
		to := c.Owner("moved")
		require.Equal(t, before, to.CLI("HGET", "moved", "life"))
		require.NotEqual(t, before, life(t, to, "moved"))
		require.Equal(t, before, field(from.CLI("INFO", "replication"), "master_replid"))
	})

	t.Run("a member comes back without its data", func(t *testing.T) {
		owner := c.Owner("key1")
		before := life(t, owner, "{key1}life")
		owner.Kill()
		owner.Wipe()
		owner.Start()
		c.AwaitOK()
		require.Equal(t, owner, c.Owner("key1"))
		require.Empty(t, owner.CLI("GET", "key1"))
		require.NotEqual(t, before, life(t, owner, "{key1}life"))
	})
}
