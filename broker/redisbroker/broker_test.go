package redisbroker_test

import (
	"testing"

	"github.com/fanfare-go/fanfare"
	"github.com/fanfare-go/fanfare/broker/internal/redistest"
	"github.com/fanfare-go/fanfare/broker/redisbroker"
	"github.com/fanfare-go/fanfare/brokertest"
)

// The contract holds whatever stands behind a broker. What a restart does differs from test to test.

func TestBroker_Standalone_RestartedWithData(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t, "--appendonly yes", "--appendfsync no")
	brokertest.Run(t, brokertest.Options{
		New:     func(t testing.TB) fanfare.Broker { return connect(t, at(server.Addr())) },
		Shared:  true,
		Restart: func(testing.TB) { server.Kill(); server.Start() },
	})
}

func TestBroker_TwoShards_RestartedWithoutData(t *testing.T) {
	t.Parallel()
	one, two := redistest.Start(t), redistest.Start(t)
	brokertest.Run(t, brokertest.Options{
		New:    func(t testing.TB) fanfare.Broker { return connect(t, at(one.Addr()), at(two.Addr())) },
		Shared: true,
		Restart: func(testing.TB) {
			for _, s := range []*redistest.Server{one, two} {
				s.Kill()
				s.Start()
			}
		},
	})
}

func TestBroker_Sentinel_FailedOver(t *testing.T) {
	t.Parallel()
	sentinel := redistest.StartSentinel(t)
	failedOver := false // there is one replica, so the second time only connections end
	brokertest.Run(t, brokertest.Options{
		New: func(t testing.TB) fanfare.Broker {
			return connect(t, redisbroker.Server{Addresses: sentinel.Addrs(), SentinelMaster: sentinel.MasterName})
		},
		Shared: true,
		Restart: func(testing.TB) {
			if failedOver {
				sentinel.Master().CLI("CLIENT", "KILL", "TYPE", "pubsub")
				return
			}
			sentinel.Failover()
			failedOver = true
		},
	})
}

func TestBroker_Cluster_RestartedWithData(t *testing.T) {
	t.Parallel()
	cluster := redistest.StartCluster(t, "--appendonly yes", "--appendfsync no")
	brokertest.Run(t, brokertest.Options{
		New:    func(t testing.TB) fanfare.Broker { return connect(t, at(cluster.Addrs()...)) },
		Shared: true,
		Restart: func(testing.TB) {
			for _, m := range cluster.Masters {
				m.Kill()
			}
			for _, m := range cluster.Masters {
				m.Start()
			}
			cluster.AwaitOK()
		},
	})
}
