package redistest

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestSentinel(t *testing.T) {
	t.Parallel()
	s := StartSentinel(t)
	old := s.Master()
	require.Equal(t, s.Servers[0], old)
	require.Equal(t, "OK", old.CLI("SET", "key", "value"))
	await(t, "the replica has the key", func() bool { return s.Servers[1].CLI("GET", "key") == "value" })
	before := life(t, old, "life")

	s.Failover()
	promoted := s.Master()
	require.Equal(t, s.Servers[1], promoted)
	require.Equal(t, "value", promoted.CLI("GET", "key"))
	require.Equal(t, "OK", promoted.CLI("SET", "key", "another"))
	require.NotEqual(t, before, life(t, promoted, "life"))
}
