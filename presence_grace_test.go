package fanfare_test

import (
	"context"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare"
	"github.com/fanfare-go/fanfare/fanfaretest"
)

// graceNode has a room with presence grace, and a watcher in it that sees who comes and goes.
func graceNode(t *testing.T, perUser bool) (node *fanfare.Node, watcher *fanfaretest.Client, seen func() []string) {
	node, err := fanfare.New(fanfare.Config{Authenticate: fanfaretest.Authenticate})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, node.Shutdown(context.Background())) })
	node.Channel("room", fanfare.ChannelOptions{Public: true, Presence: true, AllowPresence: fanfare.Anyone,
		ForceJoinLeave: true, JoinLeavePerUser: perUser, PresenceGrace: 5 * time.Second})
	watcher = fanfaretest.Connect(t, node, "watcher")
	_, err = watcher.Subscribe("room")
	require.NoError(t, err)
	synctest.Wait()
	watcher.Events()
	return node, watcher, func() []string {
		synctest.Wait()
		var out []string
		for _, e := range watcher.Events() {
			out = append(out, string(e.Kind)+" "+e.Info.User)
		}
		return out
	}
}

func enter(t *testing.T, node *fanfare.Node, user string) *fanfaretest.Client {
	c := fanfaretest.Connect(t, node, user)
	_, err := c.Subscribe("room")
	require.NoError(t, err)
	return c
}

func TestPresenceGrace_ReloadIsNoLeave(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		node, _, seen := graceNode(t, true)
		old := enter(t, node, "ann")
		require.Equal(t, []string{"join ann"}, seen())

		old.Close()
		time.Sleep(4 * time.Second)
		stats, err := node.PresenceStats(t.Context(), "room")
		require.NoError(t, err)
		require.Equal(t, fanfare.PresenceStats{Clients: 2, Users: 2}, stats, "held back")

		back := enter(t, node, "ann")
		time.Sleep(10 * time.Second)
		require.Empty(t, seen())
		members, err := node.Presence(t.Context(), "room")
		require.NoError(t, err)
		require.Len(t, members, 2, "the entry was swapped")
		for _, m := range members {
			require.NotEqual(t, old.ID(), m.Client)
		}

		back.Close()
		time.Sleep(6 * time.Second)
		require.Equal(t, []string{"leave ann"}, seen())
		stats, err = node.PresenceStats(t.Context(), "room")
		require.NoError(t, err)
		require.Equal(t, 1, stats.Clients)
	})
}

func TestPresenceGrace_LeaveAndJoinTogether(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		node, _, seen := graceNode(t, false)
		enter(t, node, "ann").Close()
		require.Equal(t, []string{"join ann"}, seen())
		time.Sleep(time.Second)
		enter(t, node, "ann")
		require.Equal(t, []string{"leave ann", "join ann"}, seen())
	})
}

func TestPresenceGrace_UnsubscribeLeavesAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		node, _, seen := graceNode(t, true)
		c := enter(t, node, "ann")
		require.NoError(t, c.Unsubscribe("room"))
		require.Equal(t, []string{"join ann", "leave ann"}, seen())
	})
}

func TestJoinLeavePerUser_FirstAndLastClient(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		node, _, seen := graceNode(t, true)
		one, two := enter(t, node, "ann"), enter(t, node, "ann")
		require.Equal(t, []string{"join ann"}, seen())
		one.Close()
		time.Sleep(time.Minute)
		require.Empty(t, seen())
		two.Close()
		time.Sleep(time.Minute)
		require.Equal(t, []string{"leave ann"}, seen())
	})
}

func TestPresenceGrace_ShutdownLeavesNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		presence := fanfare.NewMemoryPresence()
		node, err := fanfare.New(fanfare.Config{Authenticate: fanfaretest.Authenticate, Presence: presence})
		require.NoError(t, err)
		node.Channel("room", fanfare.ChannelOptions{Public: true, Presence: true, PresenceGrace: time.Hour})
		enter(t, node, "ann").Close()
		synctest.Wait()
		require.NoError(t, node.Shutdown(t.Context()))
		members, err := presence.Members(t.Context(), "room")
		require.NoError(t, err)
		require.Empty(t, members)
		require.NoError(t, presence.Close())
	})
}

// slowRemove is a presence that takes its time to forget somebody.
type slowRemove struct {
	*fanfare.MemoryPresence
	gate atomic.Pointer[chan struct{}]
}

func (p *slowRemove) Remove(ctx context.Context, node, channel, client string) error {
	if gate := p.gate.Load(); gate != nil {
		<-*gate
	}
	return p.MemoryPresence.Remove(ctx, node, channel, client)
}

func TestJoinLeavePerUser_TheLastWordIsTrue(t *testing.T) {
	for name, grace := range map[string]time.Duration{"at once": 0, "as the grace ends": 5 * time.Second} {
		inBubble(t, "back while the leave is under way, "+name, func(t *testing.T) {
			presence := &slowRemove{MemoryPresence: fanfare.NewMemoryPresence()}
			node := startNode(t, func(c *fanfare.Config) { c.Presence = presence })
			node.Channel("x", fanfare.ChannelOptions{Public: true, Presence: true, ForceJoinLeave: true, JoinLeavePerUser: true, PresenceGrace: grace})
			watcher := fanfaretest.Connect(t, node, "watcher")
			requireSubscribe(t, watcher, "x")
			ann := fanfaretest.Connect(t, node, "ann")
			requireSubscribe(t, ann, "x")
			events(watcher)
			gate := make(chan struct{})
			presence.gate.Store(&gate)
			ann.Close()
			time.Sleep(grace)
			synctest.Wait()
			requireSubscribe(t, fanfaretest.Connect(t, node, "ann"), "x")
			synctest.Wait()
			presence.gate.Store(nil)
			close(gate)
			require.Equal(t, []string{"x leave ann", "x join ann"}, events(watcher))
		})
	}
}
