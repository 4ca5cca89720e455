package fanfare_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare"
	"github.com/fanfare-go/fanfare/fanfaretest"
)

// script is an observer that writes everything down.
type script struct {
	mu    sync.Mutex // guards below
	lines []string
}

var _ fanfare.Observer = (*script)(nil)

func (s *script) note(format string, args ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lines = append(s.lines, fmt.Sprintf(format, args...))
}

func (s *script) Connected(transport string, took time.Duration, err error) {
	s.note("connected %s %v %v", transport, took, err)
}
func (s *script) Disconnected(transport string, code uint32) {
	s.note("disconnected %s %d", transport, code)
}
func (s *script) Command(method string, took time.Duration, code uint32) {
	s.note("command %s %v %d", method, took, code)
}
func (s *script) Published(channel string, size, subscribers int) {
	s.note("published %s %d %d", channel, size, subscribers)
}
func (s *script) Delivered(string, time.Duration) {} // TestObserver_Delivered is about it
func (s *script) Dropped(channel string, publications int) {
	s.note("dropped %s %d", channel, publications)
}
func (s *script) Recovered(channel string, ok bool, publications int) {
	s.note("recovered %s %t %d", channel, ok, publications)
}
func (s *script) Repaired(channel string, ok bool, publications int) {
	s.note("repaired %s %t %d", channel, ok, publications)
}
func (s *script) HookSlow(hook string, took time.Duration) { s.note("slow %s %v", hook, took) }
func (s *script) HookPanicked(hook string)                 { s.note("panicked %s", hook) }

func (s *script) config(c *fanfare.Config) { c.Observer = s }

// read returns, once nothing moves any more, what was written since the last call.
func (s *script) read() []string {
	synctest.Wait()
	s.mu.Lock()
	defer s.mu.Unlock()
	lines := s.lines
	s.lines = nil
	return lines
}

// takes is a hook that needs some time.
func takes(d time.Duration) fanfare.RPCFunc {
	return func(context.Context, *fanfare.RPCRequest) ([]byte, error) {
		time.Sleep(d)
		return nil, nil
	}
}

func TestObserver_Connections(t *testing.T) {
	inBubble(t, "a connect with its duration, and the end with its code", func(t *testing.T) {
		var seen script
		node := startNode(t, seen.config, func(c *fanfare.Config) {
			c.Authenticate = func(ctx context.Context, r *fanfare.ConnectRequest) (fanfare.Identity, error) {
				time.Sleep(200 * time.Millisecond)
				return fanfaretest.Authenticate(ctx, r)
			}
		})
		c := fanfaretest.Connect(t, node, "ann")
		require.Equal(t, []string{"connected memory 200ms <nil>", "command connect 200ms 0"}, seen.read())
		require.NoError(t, node.Disconnect(t.Context(), "ann", nil))
		require.Equal(t, []string{"disconnected memory 3503"}, seen.read())
		requireClosed(t, c, fanfare.DisconnectForce)

		uni := fanfaretest.Connect(t, node, "ann", fanfaretest.Unidirectional())
		uni.Close()
		require.Equal(t, []string{"connected uni_memory 200ms <nil>", "command connect 200ms 0", "disconnected uni_memory 3000"}, seen.read())
	})
	inBubble(t, "who was not let in does not leave", func(t *testing.T) {
		var seen script
		node := startNode(t, seen.config, deny(fanfare.ErrUnauthorized))
		_, err := fanfaretest.Dial(t, node, "ann").Connect()
		require.ErrorIs(t, err, fanfare.ErrUnauthorized)
		time.Sleep(time.Minute)
		require.Equal(t, []string{"connected memory 0s 101: unauthorized", "command connect 0s 101"}, seen.read())
		fanfaretest.Dial(t, node, "ann").Close() // says nothing
		require.Empty(t, seen.read())
	})
}

func TestObserver_Commands(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var seen script
		node := startNode(t, seen.config, func(c *fanfare.Config) {
			c.Message = func(context.Context, *fanfare.MessageRequest) error { return nil }
		})
		node.Channel("x", fanfare.ChannelOptions{Presence: true, History: room.History, AllowHistory: fanfare.Anyone,
			AllowPresence: fanfare.Anyone, AllowPublish: fanfare.Anyone, Public: true})
		node.Channel("slow", fanfare.ChannelOptions{Subscribe: func(context.Context, *fanfare.SubscribeRequest) (fanfare.SubscribeReply, error) {
			time.Sleep(300 * time.Millisecond)
			return fanfare.SubscribeReply{}, nil
		}})
		node.RPC("do", takes(400*time.Millisecond))
		c := fanfaretest.Connect(t, node, "ann")
		seen.read()
		for _, test := range []struct{ command, want string }{
			{`"subscribe":{"channel":"slow"}`, "subscribe 300ms 0"},
			{`"subscribe":{"channel":"slow"}`, "subscribe 0s 105"},
			{`"unsubscribe":{"channel":"slow"}`, "unsubscribe 0s 0"},
			{`"publish":{"channel":"x","data":1}`, "publish 0s 0"},
			{`"publish":{"channel":"slow","data":1}`, "publish 0s 103"},
			{`"presence":{"channel":"x"}`, "presence 0s 0"},
			{`"presence_stats":{"channel":"x"}`, "presence_stats 0s 0"},
			{`"history":{"channel":"y"}`, "history 0s 102"},
			{`"rpc":{"method":"do"}`, "rpc 400ms 0"},
			{`"refresh":{"token":"T"}`, "refresh 0s 108"},
			{`"sub_refresh":{"channel":"x","token":"T"}`, "sub_refresh 0s 103"},
		} {
			require.NoError(t, c.Raw(`{"id":900,`+test.command+`}`))
			time.Sleep(time.Second)
			require.Equal(t, []string{"command " + test.want}, seen.read())
		}
		require.NoError(t, c.Send([]byte(`1`)))
		require.Equal(t, []string{"command send 0s 0"}, seen.read())
		require.NoError(t, c.Raw(`{"id":900,"rpc":null}`))
		require.Equal(t, []string{"command unknown 0s 3501", "disconnected memory 3501"}, seen.read())
	})
}

// TestObserver_Published: once for a publication, with the number of deliveries.
func TestObserver_Published(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var seen script
		node := startNode(t, seen.config)
		node.Channel("{name}", fanfare.ChannelOptions{Public: true})
		requirePublish(t, node, "x", `1`)
		require.Empty(t, seen.read(), "the broker has no reason to send it here")
		var clients []*fanfaretest.Client
		for range 3 {
			c := fanfaretest.Connect(t, node, "ann")
			requireSubscribe(t, c, "x")
			clients = append(clients, c)
		}
		requireSubscribe(t, clients[0], "y")
		seen.read()
		requirePublish(t, node, "x", `"12345"`)
		requirePublish(t, node, "y", `1`)
		require.NoError(t, clients[1].Unsubscribe("x"))
		seen.read()
		requirePublish(t, node, "x", `123`)
		require.Equal(t, []string{"published x 3 2"}, seen.read())
	})
}

func TestObserver_Dropped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var seen script
		node := startNode(t, seen.config, func(c *fanfare.Config) { c.MaxQueueSize = 1000 })
		node.Channel("x", fanfare.ChannelOptions{Public: true, SlowReader: fanfare.SlowReaderDropOldest})
		c := fanfaretest.Connect(t, node, "ann", fanfaretest.WithWriteTimeout(time.Hour))
		requireSubscribe(t, c, "x")
		c.Stall()
		requirePublish(t, node, "x", `0`)
		seen.read() // the first one is in the hands of the writer
		const published = 50
		for range published {
			requirePublish(t, node, "x", `1`)
		}
		dropped := 0
		for _, line := range seen.read() {
			var channel string
			var n int
			if _, err := fmt.Sscanf(line, "dropped %s %d", &channel, &n); err == nil {
				require.Equal(t, "x", channel)
				dropped += n
			}
		}
		c.Resume()
		require.Len(t, events(c), 1+published-dropped, "what did not come was dropped")
		require.Positive(t, dropped)
	})
}

func TestObserver_Recovered(t *testing.T) {
	cache := room
	cache.Recovery = fanfare.RecoveryCache
	for name, test := range map[string]struct {
		options fanfare.ChannelOptions
		request string
		want    []string
	}{
		"not asked":                     {room, ``, nil},
		"with what was missed":          {room, `,"recover":true,"offset":1`, []string{"recovered x true 2"}},
		"nothing missed":                {room, `,"recover":true,"offset":3`, []string{"recovered x true 0"}},
		"not recovered":                 {room, `,"recover":true,"offset":3,"epoch":"other"`, []string{"recovered x false 0"}},
		"not recovered, and so refused": {room, `,"recover":true,"offset":3,"epoch":"other","flag":2`, []string{"recovered x false 0"}},
		"newest of a cache":             {cache, `,"recover":true,"offset":1`, []string{"recovered x true 1"}},
	} {
		inBubble(t, name, func(t *testing.T) {
			var seen script
			_, c, _ := streamOf(t, test.options, 3, seen.config)
			seen.read()
			ask(t, c, `{"id":900,"subscribe":{"channel":"x"`+test.request+`}}`)
			lines := slices.DeleteFunc(seen.read(), func(l string) bool { return l[:7] == "command" })
			require.Equal(t, test.want, append([]string(nil), lines...))
		})
	}
}

func TestObserver_Repaired(t *testing.T) {
	for name, test := range map[string]struct {
		forget bool
		want   []string
	}{
		"filled":      {false, []string{"published x 1 1", "published x 1 1", "repaired x true 2"}},
		"not in time": {true, []string{"published x 1 0", "repaired x false 0"}},
	} {
		inBubble(t, name, func(t *testing.T) {
			var seen script
			broker := newFaultBroker(t)
			node := startNode(t, seen.config, broker.config)
			node.Channel("x", kept)
			c := fanfaretest.Connect(t, node, "ann")
			requireSubscribe(t, c, "x")
			requirePublish(t, node, "x", `1`)
			seen.read()
			broker.lose(2)
			requirePublish(t, node, "x", `2`)
			require.Empty(t, seen.read())
			release := broker.hangHistory()
			if test.forget {
				require.NoError(t, node.RemoveHistory(t.Context(), "x"))
			}
			requirePublish(t, node, "x", `3`)
			if test.forget {
				require.NoError(t, node.RemoveHistory(t.Context(), "x"))
			}
			release()
			require.ElementsMatch(t, test.want, seen.read())
		})
	}
}

func TestObserver_Hooks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var seen script
		node := startNode(t, seen.config)
		node.RPC("slow", takes(1500*time.Millisecond))
		node.RPC("hang", takes(time.Minute))
		node.RPC("panic", func(context.Context, *fanfare.RPCRequest) ([]byte, error) { panic("boom") })
		c := fanfaretest.Connect(t, node, "ann")
		seen.read()
		_, err := c.RPC("slow", nil)
		require.NoError(t, err)
		require.Equal(t, []string{"slow RPC slow 1.5s", "command rpc 1.5s 0"}, seen.read())
		_, err = c.RPC("hang", nil)
		require.ErrorIs(t, err, fanfare.ErrInternal)
		require.Equal(t, []string{"slow RPC hang 4s", "command rpc 4s 100"}, seen.read())
		_, err = c.RPC("panic", nil)
		require.ErrorIs(t, err, fanfare.DisconnectInternal)
		require.Equal(t, []string{"panicked RPC panic", "disconnected memory 3004"}, seen.read())
		time.Sleep(time.Hour)
		require.Empty(t, seen.read(), "a hook that was slow once is not told of again")
	})
}

// NopObserver lets an app implement only what it wants, and go on compiling.
func TestNopObserver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		broker := newFaultBroker(t)
		node := startNode(t, broker.config, func(c *fanfare.Config) { c.Observer, c.SlowHook = fanfare.NopObserver{}, 1 })
		node.Channel("x", kept)
		node.RPC("panic", func(context.Context, *fanfare.RPCRequest) ([]byte, error) { panic(errors.New("boom")) })
		c := fanfaretest.Connect(t, node, "ann")
		requireSubscribe(t, c, "x", fanfaretest.Recover(fanfare.Position{}))
		broker.lose(1)
		requirePublish(t, node, "x", `1`, `2`)
		require.Equal(t, []string{"x 1", "x 2"}, events(c))
		_, err := c.RPC("panic", nil)
		require.ErrorIs(t, err, fanfare.DisconnectInternal)
	})
}
