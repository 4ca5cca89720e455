package fanfare_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare"
	"github.com/fanfare-go/fanfare/fanfaretest"
)

func TestNode_Disconnect(t *testing.T) {
	inBubble(t, "every connection of the user, and nobody else's", func(t *testing.T) {
		node := startNode(t)
		one, two := fanfaretest.Connect(t, node, "ann"), fanfaretest.Connect(t, node, "ann", fanfaretest.Unidirectional())
		ben, anonymous := fanfaretest.Connect(t, node, "ben"), fanfaretest.Connect(t, node, "")
		require.NoError(t, node.Disconnect(t.Context(), "ann", nil))
		requireClosed(t, one, fanfare.DisconnectForce)
		requireClosed(t, two, fanfare.DisconnectForce)
		requireOpen(t, ben)
		requireOpen(t, anonymous)
		require.NoError(t, node.Disconnect(t.Context(), "", &fanfare.Disconnect{Code: 4000, Reason: "members only"}))
		requireClosed(t, anonymous, &fanfare.Disconnect{Code: 4000, Reason: "members only"})
		requireOpen(t, ben)
		require.NoError(t, node.Disconnect(t.Context(), "nobody", nil))
	})
	inBubble(t, "codes that no close frame carries", func(t *testing.T) {
		node := startNode(t)
		c := fanfaretest.Connect(t, node, "ann")
		for _, code := range []uint32{0, 1000, 2999, 3000, 5000} {
			require.ErrorContains(t, node.Disconnect(t.Context(), "ann", &fanfare.Disconnect{Code: code, Reason: "x"}), "code")
		}
		requireOpen(t, c)
	})
	inBubble(t, "the hook of the very client may call it", func(t *testing.T) {
		node := startNode(t)
		node.RPC("logout", func(ctx context.Context, r *fanfare.RPCRequest) ([]byte, error) {
			return nil, node.Disconnect(ctx, r.Client.User(), nil)
		})
		c := fanfaretest.Connect(t, node, "ann")
		require.NoError(t, c.Raw(`{"id":900,"rpc":{"method":"logout"}}`))
		requireClosed(t, c, fanfare.DisconnectForce)
	})
}

func TestNode_Refresh(t *testing.T) {
	// start makes a node whose connections last a minute, without a refresh of theirs.
	start := func(t *testing.T, opts ...fanfaretest.Option) (*fanfare.Node, *fanfaretest.Client) {
		node := startNode(t, identify(fanfare.Identity{User: "ann", ExpireAt: time.Now().Add(time.Minute)}))
		c := fanfaretest.Connect(t, node, "", opts...)
		received(t, c)
		return node, c
	}
	inBubble(t, "the connection lasts longer, and its client is told", func(t *testing.T) {
		began := time.Now()
		node, c := start(t, fanfaretest.WithToken("t"))
		require.NoError(t, node.Refresh(t.Context(), "ann", time.Now().Add(10*time.Minute)))
		require.Equal(t, []string{`{"push":{"refresh":{"expires":true,"ttl":600}}}`}, received(t, c))
		requireClosed(t, c, fanfare.DisconnectExpired)
		require.Equal(t, 10*time.Minute, time.Since(began))
	})
	inBubble(t, "a unidirectional client, which cannot refresh by itself", func(t *testing.T) {
		node, c := start(t, fanfaretest.Unidirectional(), fanfaretest.WithToken("t"))
		require.NoError(t, node.Refresh(t.Context(), "ann", time.Now().Add(time.Hour)))
		require.Equal(t, []string{`{"refresh":{"expires":true,"ttl":3600}}`}, received(t, c))
		time.Sleep(59 * time.Minute)
		requireOpen(t, c)
	})
	inBubble(t, "a client without a token is told nothing", func(t *testing.T) {
		began := time.Now()
		node, c := start(t)
		require.NoError(t, node.Refresh(t.Context(), "ann", time.Now().Add(10*time.Minute)))
		require.Empty(t, received(t, c))
		requireClosed(t, c, fanfare.DisconnectExpired)
		require.Equal(t, 10*time.Minute, time.Since(began))
	})
	inBubble(t, "for ever", func(t *testing.T) {
		node, c := start(t, fanfaretest.WithToken("t"))
		require.NoError(t, node.Refresh(t.Context(), "ann", time.Time{}))
		require.Equal(t, []string{`{"push":{"refresh":{}}}`}, received(t, c))
		time.Sleep(24 * time.Hour)
		requireOpen(t, c)
	})
	inBubble(t, "a time in the past ends it", func(t *testing.T) {
		node, c := start(t)
		require.NoError(t, node.Refresh(t.Context(), "ann", time.Now()))
		requireClosed(t, c, fanfare.DisconnectExpired)
	})
	inBubble(t, "others keep their time", func(t *testing.T) {
		began := time.Now()
		node, c := start(t)
		require.NoError(t, node.Refresh(t.Context(), "ben", time.Now().Add(time.Hour)))
		require.NoError(t, node.Refresh(t.Context(), "", time.Time{}))
		requireClosed(t, c, fanfare.DisconnectExpired)
		require.Equal(t, time.Minute, time.Since(began))
	})
}

// TestNode_Subscribe_WhileConnecting: an operation on a user does not miss the connection that is just being made.
func TestNode_Subscribe_WhileConnecting(t *testing.T) {
	start := func(t *testing.T) (*fanfare.Node, *gatedBroker, *fanfaretest.Client) {
		broker := &gatedBroker{MemoryBroker: fanfare.NewMemoryBroker(fanfare.MemoryBrokerConfig{}), gate: make(chan struct{})}
		t.Cleanup(func() { require.NoError(t, broker.Close()) })
		node := startNode(t, withSubs(map[string]fanfare.SubscribeReply{"x": {}}), func(c *fanfare.Config) { c.Broker = broker })
		node.Channel("x", room)
		node.Channel("y", fanfare.ChannelOptions{})
		c := fanfaretest.Dial(t, node, "ann")
		require.NoError(t, c.Raw(`{"id":1,"connect":{}}`))
		synctest.Wait()
		return node, broker, c
	}
	inBubble(t, "it waits for the connect reply", func(t *testing.T) {
		node, broker, c := start(t)
		done := make(chan error, 1)
		go func() { done <- node.Subscribe(context.Background(), "ann", "y", fanfare.SubscribeReply{}) }()
		require.Empty(t, received(t, c))
		close(broker.gate)
		require.NoError(t, <-done)
		lines := received(t, c)
		require.Len(t, lines, 2)
		require.Contains(t, lines[0], `"connect"`)
		require.Equal(t, `{"push":{"channel":"y","subscribe":{}}}`, lines[1])
	})
	inBubble(t, "but not longer than its context", func(t *testing.T) {
		node, broker, c := start(t)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		require.ErrorIs(t, node.Subscribe(ctx, "ann", "y", fanfare.SubscribeReply{}), context.DeadlineExceeded)
		close(broker.gate)
		require.Len(t, received(t, c), 1)
	})
}
