package faults

import (
	"testing"

	"github.com/fanfare-go/fanfare"
	"github.com/fanfare-go/fanfare/broker/internal/delivery"
	"github.com/fanfare-go/fanfare/broker/internal/redistest"
	"github.com/fanfare-go/fanfare/broker/redisbroker"
)

// TestSentinel_FailsOver: the replica may lack what the master had acknowledged, so everybody is told.
func TestSentinel_FailsOver(t *testing.T) {
	t.Parallel()
	s := redistest.StartSentinel(t)
	redis := redisbroker.Config{Servers: []redisbroker.Server{{Addresses: s.Addrs(), SentinelMaster: s.MasterName}}}
	r := start(t, redis, fanfare.Config{})
	r.AwaitAccepted(some)
	s.Failover()
	r.AwaitAccepted(more)
	requireTold(t, len(r.Channels()), r, r.Finish())
}

// spread is a run with channels enough to be on every master.
func spread(t *testing.T, c *redistest.Cluster, durable bool) *delivery.Run {
	t.Helper()
	redis := redisbroker.Config{Servers: []redisbroker.Server{{Addresses: c.Addrs()}}, Durable: durable}
	return delivery.Start(t, delivery.Options{Channels: 6}, newNode(t, redis, fanfare.Config{}), newNode(t, redis, fanfare.Config{}))
}

// TestCluster_SlotMoved: the stream goes on at another master. Redis tells nobody whether all of it came along, so those in the channel
// are told, and nobody else; with Durable there is nothing to tell.
func TestCluster_SlotMoved(t *testing.T) {
	t.Parallel()
	for name, durable := range map[string]bool{"not durable": false, "durable": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := redistest.StartCluster(t)
			r := spread(t, c, durable)
			r.AwaitAccepted(some)
			c.MoveSlot("{." + r.Channels()[0] + "}")
			r.AwaitAccepted(more)
			told := 1
			if durable {
				told = 0
			}
			requireTold(t, told, r, r.Finish())
		})
	}
}

// TestCluster_MasterKilled: one of three masters goes and comes back empty. The channels of the others go on meanwhile.
func TestCluster_MasterKilled(t *testing.T) {
	t.Parallel()
	c := redistest.StartCluster(t)
	r := spread(t, c, false)
	r.AwaitAccepted(some)
	killed, lost := c.Owner("{."+r.Channels()[0]+"}"), 0
	for _, channel := range r.Channels() {
		if c.Owner("{."+channel+"}") == killed {
			lost++
		}
	}
	killed.Kill()
	r.AwaitAttempts(10)
	killed.Start()
	c.AwaitOK()
	r.AwaitAccepted(more)
	requireTold(t, lost, r, r.Finish())
}
