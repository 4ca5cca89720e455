package faults

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare"
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
	requireToldOnce(t, r, r.Finish())
}

// TestCluster_SlotMoved: the stream goes on at another master. Redis tells nobody whether all of it came along, so those in the channel
// are told, and nobody else; with Durable there is nothing to tell.
func TestCluster_SlotMoved(t *testing.T) {
	t.Parallel()
	for name, durable := range map[string]bool{"not durable": false, "durable": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := redistest.StartCluster(t)
			redis := redisbroker.Config{Servers: []redisbroker.Server{{Addresses: c.Addrs()}}, Durable: durable}
			r := start(t, redis, fanfare.Config{})
			r.AwaitAccepted(some)
			c.MoveSlot("{." + r.Channels()[0] + "}")
			r.AwaitAccepted(more)
			result := r.Finish()
			want := make(map[string]int)
			for _, client := range r.Clients() {
				if !durable {
					want[client] = 1
				}
			}
			require.Equal(t, want, result.Gaps)
		})
	}
}

// TestCluster_MasterKilled: one of three masters goes and comes back empty. The channels of the others go on meanwhile.
func TestCluster_MasterKilled(t *testing.T) {
	t.Parallel()
	c := redistest.StartCluster(t)
	redis := redisbroker.Config{Servers: []redisbroker.Server{{Addresses: c.Addrs()}}}
	r := start(t, redis, fanfare.Config{})
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
	result := r.Finish()
	want := make(map[string]int)
	for _, client := range r.Clients() {
		want[client] = lost
	}
	require.Equal(t, want, result.Gaps)
}
