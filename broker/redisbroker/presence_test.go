package redisbroker_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare"
	"github.com/fanfare-go/fanfare/broker/internal/redistest"
	"github.com/fanfare-go/fanfare/broker/redisbroker"
	"github.com/fanfare-go/fanfare/brokertest"
)

var _ interface {
	fanfare.Broker
	fanfare.ControlBus
	fanfare.ConnectionCounter
} = (*redisbroker.Broker)(nil)

func runPresence(t *testing.T, servers ...redisbroker.Server) {
	brokertest.RunPresence(t, brokertest.PresenceOptions{
		New: func(t testing.TB) fanfare.Presence {
			b := connect(t, servers...)
			t.Cleanup(func() { require.NoError(t, b.Close()) })
			return b.Presence()
		},
		Shared: true,
	})
}

func TestPresence_Standalone(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	runPresence(t, at(server.Addr()))
	require.Equal(t, "", server.CLI("--scan", "--pattern", "fanfare:[pu]:*"), "nothing stays")
}

func TestPresence_Cluster(t *testing.T) {
	t.Parallel()
	cluster := redistest.StartCluster(t)
	runPresence(t, at(cluster.Addrs()...))
}

func TestPresence_TwoShards(t *testing.T) {
	t.Parallel()
	runPresence(t, at(redistest.Start(t).Addr()), at(redistest.Start(t).Addr()))
}
