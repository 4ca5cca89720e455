package fanfare_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare"
	"github.com/fanfare-go/fanfare/fanfaretest"
)

// newNode makes a node that the test itself shuts down.
func newNode(t *testing.T, c fanfare.Config) *fanfare.Node {
	t.Helper()
	if c.Authenticate == nil {
		c.Authenticate = fanfaretest.Authenticate
	}
	node, err := fanfare.New(c)
	require.NoError(t, err)
	return node
}

func TestShutdown_Clients(t *testing.T) {
	inBubble(t, "everybody gets what is queued, and 3001", func(t *testing.T) {
		var mu sync.Mutex
		var notices []string
		note := func(format string, args ...any) {
			mu.Lock()
			defer mu.Unlock()
			notices = append(notices, fmt.Sprintf(format, args...))
		}
		node := newNode(t, fanfare.Config{Disconnected: func(ctx context.Context, n *fanfare.DisconnectNotice) {
			note("disconnected %s %d %v", n.Client.User(), n.Disconnect.Code, ctx.Err())
		}})
		o := room
		o.Unsubscribed = func(ctx context.Context, n *fanfare.UnsubscribeNotice) {
			note("unsubscribed %s %d %v", n.Client.User(), n.Code, ctx.Err())
		}
		node.Channel("x", o)
		ann := fanfaretest.Connect(t, node, "ann")
		ben := fanfaretest.Connect(t, node, "ben", fanfaretest.Unidirectional())
		silent := fanfaretest.Dial(t, node, "late")
		requireSubscribe(t, ann, "x")
		requirePublish(t, node, "x", `1`, `2`)
		require.NoError(t, node.Shutdown(t.Context()))
		for _, c := range []*fanfaretest.Client{ann, ben, silent} {
			requireClosed(t, c, fanfare.DisconnectShutdown)
		}
		require.Equal(t, []string{"x 1", "x 2"}, events(ann))
		require.Equal(t, []string{`{"disconnect":{"code":3001,"reason":"shutdown"}}`}, received(t, ben)[1:])
		require.ElementsMatch(t, []string{"disconnected ann 3001 <nil>", "disconnected ben 3001 <nil>", "unsubscribed ann 1 <nil>"}, notices)
		require.Zero(t, node.Residue())
	})
	inBubble(t, "a client that does not read delays it by little", func(t *testing.T) {
		node := newNode(t, fanfare.Config{})
		node.Channel("x", room)
		c := fanfaretest.Connect(t, node, "ann", fanfaretest.WithWriteTimeout(time.Hour))
		requireSubscribe(t, c, "x")
		c.Stall()
		requirePublish(t, node, "x", `1`)
		began := time.Now()
		require.NoError(t, node.Shutdown(t.Context()))
		require.LessOrEqual(t, time.Since(began), 5*time.Second)
		require.Zero(t, node.Residue())
	})
	inBubble(t, "others hear the leaves, and presence is empty", func(t *testing.T) {
		broker, presence := fanfare.NewMemoryBroker(fanfare.MemoryBrokerConfig{}), fanfare.NewMemoryPresence()
		t.Cleanup(func() {
			require.NoError(t, broker.Close())
			require.NoError(t, presence.Close())
		})
		shared := func(c *fanfare.Config) { c.Broker, c.Presence = broker, presence }
		o := fanfare.ChannelOptions{Public: true, Presence: true, ForceJoinLeave: true}
		stays := startNode(t, shared)
		stays.Channel("x", o)
		ben := fanfaretest.Connect(t, stays, "ben")
		requireSubscribe(t, ben, "x")
		require.Equal(t, []string{"x join ben"}, events(ben))
		goes := newNode(t, fanfare.Config{Broker: broker, Presence: presence})
		goes.Channel("x", o)
		requireSubscribe(t, fanfaretest.Connect(t, goes, "ann"), "x")
		require.NoError(t, goes.Shutdown(t.Context()))
		require.Equal(t, []string{"x join ann", "x leave ann"}, events(ben))
		members, err := stays.Presence(t.Context(), "x")
		require.NoError(t, err)
		require.Len(t, members, 1)
		requirePublish(t, stays, "x", `1`) // a broker that was given is only detached from
		require.Equal(t, []string{"x 1"}, events(ben))
	})
}

func TestShutdown_DrainWindow(t *testing.T) {
	const clients = 50
	for name, test := range map[string]struct{ window, takes time.Duration }{
		"closes are spread over it":      {20 * time.Millisecond, 20 * time.Millisecond},
		"but not thinner than necessary": {time.Hour, clients * time.Millisecond},
		"off":                            {-1, 0},
	} {
		inBubble(t, name, func(t *testing.T) {
			var mu sync.Mutex
			ends := make(map[time.Duration]int)
			var began time.Time
			node := newNode(t, fanfare.Config{DrainWindow: test.window, Disconnected: func(context.Context, *fanfare.DisconnectNotice) {
				mu.Lock()
				defer mu.Unlock()
				ends[time.Since(began)]++
			}})
			for range clients {
				fanfaretest.Connect(t, node, "ann")
			}
			began = time.Now()
			require.NoError(t, node.Shutdown(t.Context()))
			took := time.Since(began)
			require.LessOrEqual(t, took, test.takes)
			require.GreaterOrEqual(t, took, test.takes*8/10)
			most := 0
			for _, n := range ends {
				most = max(most, n)
			}
			if test.takes > 0 {
				require.LessOrEqual(t, most, clients/5, "not all at once")
			}
		})
	}
}

func TestShutdown_NothingNew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		node := newNode(t, fanfare.Config{DrainWindow: time.Hour})
		node.Channel("x", room)
		for range 1000 {
			fanfaretest.Connect(t, node, "ann")
		}
		require.NoError(t, node.Ready())
		done := make(chan error, 1)
		go func() { done <- node.Shutdown(context.Background()) }()
		synctest.Wait()
		require.Error(t, node.Ready(), "it fails before the last client is gone")
		_, err := fanfaretest.Dial(t, node, "late").Connect()
		require.ErrorContains(t, err, "503")
		requirePublish(t, node, "x", `1`) // those that are left are still served
		require.NoError(t, <-done)
		_, err = node.Publish(t.Context(), "x", []byte(`2`))
		require.ErrorIs(t, err, fanfare.ErrClosed)
	})
}

func TestShutdown_Hooks(t *testing.T) {
	inBubble(t, "a hook that hangs is waited for, and named", func(t *testing.T) {
		node := newNode(t, fanfare.Config{})
		node.Channel("x", room)
		release := newGate(t)
		running := func(context.Context, *fanfare.RPCRequest) ([]byte, error) { <-release.opened; return nil, nil }
		node.RPC("hang", running)
		c := fanfaretest.Connect(t, node, "ann")
		require.NoError(t, c.Raw(`{"id":900,"rpc":{"method":"hang"}}`))
		synctest.Wait()
		began := time.Now()
		err := node.Shutdown(t.Context())
		require.ErrorContains(t, err, "hook RPC hang")
		require.Equal(t, 4*time.Second, time.Since(began))
		requireClosed(t, c, fanfare.DisconnectShutdown)
		require.Equal(t, fanfare.Residue{Hooks: 1}, node.Residue())
		release.open()
		synctest.Wait()
		require.NoError(t, node.Shutdown(t.Context()), "the second time there is nothing left to wait for")
	})
	inBubble(t, "one that obeys its context is no trouble", func(t *testing.T) {
		node := newNode(t, fanfare.Config{})
		node.RPC("wait", func(ctx context.Context, _ *fanfare.RPCRequest) ([]byte, error) { <-ctx.Done(); return nil, ctx.Err() })
		c := fanfaretest.Connect(t, node, "ann")
		require.NoError(t, c.Raw(`{"id":900,"rpc":{"method":"wait"}}`))
		synctest.Wait()
		began := time.Now()
		require.NoError(t, node.Shutdown(t.Context()))
		require.Zero(t, time.Since(began))
	})
	inBubble(t, "from a hook it would wait for itself", func(t *testing.T) {
		var node *fanfare.Node
		var inAuthenticate, inNotice error
		node = newNode(t, fanfare.Config{
			Authenticate: func(_ context.Context, r *fanfare.ConnectRequest) (fanfare.Identity, error) {
				inAuthenticate = node.Shutdown(r.HTTP.Context())
				return fanfare.Identity{}, nil
			},
			Disconnected: func(ctx context.Context, _ *fanfare.DisconnectNotice) { inNotice = node.Shutdown(ctx) },
		})
		other := startNode(t)
		var inRPC error
		node.RPC("end", func(ctx context.Context, _ *fanfare.RPCRequest) ([]byte, error) {
			inRPC = node.Shutdown(context.WithoutCancel(ctx))
			return nil, other.Shutdown(ctx)
		})
		c := fanfaretest.Connect(t, node, "")
		_, err := c.RPC("end", nil)
		require.NoError(t, err, "another node is another matter")
		c.Close()
		synctest.Wait()
		for _, err := range []error{inAuthenticate, inRPC, inNotice} {
			require.ErrorIs(t, err, fanfare.ErrInHook)
		}
		require.NoError(t, node.Ready())
		require.NoError(t, node.Shutdown(t.Context()))
	})
}

func TestShutdown_Context(t *testing.T) {
	inBubble(t, "its end closes everybody at once, and is the error", func(t *testing.T) {
		node := newNode(t, fanfare.Config{DrainWindow: time.Hour})
		var clients []*fanfaretest.Client
		for range 5000 {
			clients = append(clients, fanfaretest.Connect(t, node, "ann"))
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		began := time.Now()
		require.ErrorIs(t, node.Shutdown(ctx), context.DeadlineExceeded)
		require.Equal(t, time.Second, time.Since(began))
		for _, c := range clients {
			requireClosed(t, c, fanfare.DisconnectShutdown)
		}
		require.NoError(t, node.Shutdown(t.Context()), "what was left has ended meanwhile")
		require.Zero(t, node.Residue())
	})
	inBubble(t, "a second call waits for the first", func(t *testing.T) {
		node := newNode(t, fanfare.Config{})
		release := newGate(t)
		node.RPC("hang", func(context.Context, *fanfare.RPCRequest) ([]byte, error) { <-release.opened; return nil, nil })
		c := fanfaretest.Connect(t, node, "ann")
		require.NoError(t, c.Raw(`{"id":900,"rpc":{"method":"hang"}}`))
		synctest.Wait()
		first := make(chan error, 1)
		go func() { first <- node.Shutdown(context.Background()) }()
		synctest.Wait()
		soon, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		require.ErrorIs(t, node.Shutdown(soon), context.DeadlineExceeded)
		time.Sleep(time.Second)
		release.open()
		require.NoError(t, node.Shutdown(t.Context()))
		require.NoError(t, <-first)
	})
}

func TestShutdown_SecondCallWaitsForHooksNoLonger(t *testing.T) {
	inBubble(t, "", func(t *testing.T) {
		gate := newGate(t)
		node, err := fanfare.New(fanfare.Config{Authenticate: fanfaretest.Authenticate, DrainWindow: -1, HookTimeout: 4 * time.Second})
		require.NoError(t, err)
		node.RPC("hang", func(context.Context, *fanfare.RPCRequest) ([]byte, error) { <-gate.opened; return nil, nil })
		c := fanfaretest.Connect(t, node, "ann")
		go func() { _, _ = c.RPC("hang", nil) }()
		synctest.Wait()
		require.ErrorContains(t, node.Shutdown(t.Context()), "RPC hang")
		began := time.Now()
		require.ErrorContains(t, node.Shutdown(t.Context()), "RPC hang")
		require.Equal(t, 4*time.Second, time.Since(began))
		gate.open()
		require.NoError(t, node.Shutdown(t.Context()))
	})
}
