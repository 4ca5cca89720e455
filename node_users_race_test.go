package fanfare_test

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare"
	"github.com/fanfare-go/fanfare/fanfaretest"
)

// What takes a user's rights away while a connect or subscribe is under way finds it, wherever it is.
func TestNode_Unsubscribe_WhileSubscribing(t *testing.T) {
	for name, uni := range map[string]bool{"bidirectional": false, "unidirectional": true} {
		inBubble(t, name, func(t *testing.T) {
			node := startNode(t)
			inHook, hook := make(chan struct{}), newGate(t)
			node.Channel("x", fanfare.ChannelOptions{Subscribe: func(context.Context, *fanfare.SubscribeRequest) (fanfare.SubscribeReply, error) {
				close(inHook) // allowed at this moment
				<-hook.opened
				return fanfare.SubscribeReply{}, nil
			}})
			if uni {
				c := fanfaretest.Dial(t, node, "ann", fanfaretest.Unidirectional(), fanfaretest.WithSubs(map[string]fanfare.Position{"x": {}}))
				go func() { _, _ = c.Connect() }()
			} else {
				c := fanfaretest.Connect(t, node, "ann")
				go func() { _, _ = c.Subscribe("x") }()
			}
			<-inHook
			done := make(chan error, 1)
			go func() { done <- node.Unsubscribe(t.Context(), "ann", "x") }()
			synctest.Wait()
			hook.open()
			require.NoError(t, <-done)
			synctest.Wait()
			require.Zero(t, node.Subscribers("x"))
		})
	}
	inBubble(t, "subscriptions of the identity, behind a slow broker", func(t *testing.T) {
		broker := &gatedBroker{fanfare.NewMemoryBroker(fanfare.MemoryBrokerConfig{}), make(chan struct{})}
		subs := make(map[string]fanfare.SubscribeReply)
		for i := range 20 {
			subs[fmt.Sprint("r", i)] = fanfare.SubscribeReply{}
		}
		node := startNode(t, withSubs(subs), func(c *fanfare.Config) { c.Broker = broker })
		node.Channel("r{n}", room)
		c := fanfaretest.Dial(t, node, "ann")
		go func() { _, _ = c.Connect() }()
		synctest.Wait()
		done := make(chan error, 1)
		go func() { done <- node.Unsubscribe(t.Context(), "ann", "r9") }()
		synctest.Wait()
		close(broker.gate)
		require.NoError(t, <-done)
		synctest.Wait()
		require.Zero(t, node.Subscribers("r9"))
		require.Equal(t, 1, node.Subscribers("r8"))
	})
}

func TestNode_Disconnect_DuringAuthenticate(t *testing.T) {
	inBubble(t, "the hook may have seen the user logged in", func(t *testing.T) {
		inHook, hook := make(chan struct{}), newGate(t)
		node := startNode(t, func(c *fanfare.Config) {
			c.Authenticate = func(context.Context, *fanfare.ConnectRequest) (fanfare.Identity, error) {
				close(inHook)
				<-hook.opened
				return fanfare.Identity{User: "ann"}, nil
			}
		})
		c := fanfaretest.Dial(t, node, "ann")
		go func() { _, _ = c.Connect() }()
		<-inHook
		require.NoError(t, node.Disconnect(t.Context(), "ben", nil))
		require.NoError(t, node.Disconnect(t.Context(), "ann", nil))
		hook.open()
		requireClosed(t, c, fanfare.DisconnectForce)
		require.Zero(t, node.Residue().Users)
	})
	inBubble(t, "called by the hook it ends the user's other connections", func(t *testing.T) {
		var node *fanfare.Node
		node = startNode(t, func(c *fanfare.Config) {
			c.Authenticate = func(ctx context.Context, _ *fanfare.ConnectRequest) (fanfare.Identity, error) {
				return fanfare.Identity{User: "ann"}, node.Disconnect(ctx, "ann", nil)
			}
		})
		first := fanfaretest.Connect(t, node, "ann")
		second := fanfaretest.Connect(t, node, "ann")
		requireClosed(t, first, fanfare.DisconnectForce)
		requireOpen(t, second)
	})
	inBubble(t, "a later login is welcome", func(t *testing.T) {
		node := startNode(t)
		require.NoError(t, node.Disconnect(t.Context(), "ann", nil))
		requireOpen(t, fanfaretest.Connect(t, node, "ann"))
	})
}

func TestNode_OperationsOfOtherNodes(t *testing.T) {
	inBubble(t, "one user's slow connect does not hold up another's", func(t *testing.T) {
		c := startCluster(t)
		a, b := c.start(), c.start()
		b.Channel("slow:{n}", fanfare.ChannelOptions{Subscribe: func(context.Context, *fanfare.SubscribeRequest) (fanfare.SubscribeReply, error) {
			time.Sleep(3 * time.Second)
			return fanfare.SubscribeReply{}, nil
		}})
		subs := make(map[string]fanfare.Position)
		for i := range 30 {
			subs[fmt.Sprint("slow:", i)] = fanfare.Position{}
		}
		mallory := fanfaretest.Dial(t, b, "mallory", fanfaretest.Unidirectional(), fanfaretest.WithSubs(subs), fanfaretest.WithTimeout(time.Hour))
		go func() { _, _ = mallory.Connect() }()
		synctest.Wait()
		ann := fanfaretest.Connect(t, b, "ann")
		requireSubscribe(t, ann, "x")
		began := time.Now()
		for range 5 {
			require.NoError(t, a.Subscribe(t.Context(), "mallory", "x", fanfare.SubscribeReply{}))
		}
		require.NoError(t, a.Unsubscribe(t.Context(), "ann", "x"))
		synctest.Wait()
		require.Zero(t, b.Subscribers("x"))
		require.NoError(t, a.Disconnect(t.Context(), "mallory", nil), "nor its own disconnect")
		requireClosed(t, mallory, fanfare.DisconnectForce)
		require.Zero(t, time.Since(began))
	})
	inBubble(t, "ids that are not UTF-8", func(t *testing.T) {
		c := startCluster(t)
		a, b := c.start(), c.start()
		client := fanfaretest.Connect(t, b, "\xff\x01 raw")
		require.NoError(t, a.Disconnect(t.Context(), "\xff\x01 raw", nil))
		requireClosed(t, client, fanfare.DisconnectForce)
	})
}

func TestNode_Subscribe_FullChannelIsAnError(t *testing.T) {
	inBubble(t, "", func(t *testing.T) {
		node := startNode(t)
		node.Channel("x", fanfare.ChannelOptions{Public: true, MaxSubscribers: 1})
		requireSubscribe(t, fanfaretest.Connect(t, node, "ann"), "x")
		requireOpen(t, fanfaretest.Connect(t, node, "ben"))
		require.ErrorIs(t, node.Subscribe(t.Context(), "ben", "x", fanfare.SubscribeReply{}), fanfare.ErrLimitExceeded)
	})
}
