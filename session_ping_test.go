package fanfare_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare"
	"github.com/fanfare-go/fanfare/fanfaretest"
)

func TestPing_Spec7(t *testing.T) {
	ping := func(interval, pong time.Duration) func(*fanfare.Config) {
		return func(c *fanfare.Config) { c.PingInterval, c.PongTimeout = interval, pong }
	}
	inBubble(t, "the first one comes between half an interval and a whole one, the others every interval", func(t *testing.T) {
		node := startNode(t)
		firsts := make(map[time.Duration]bool)
		for range 10 {
			began := time.Now()
			c := fanfaretest.Connect(t, node, "ann")
			received(t, c)
			line, err := c.NextRaw(t.Context())
			require.NoError(t, err)
			require.Equal(t, `{}`, line)
			first := time.Since(began)
			require.GreaterOrEqual(t, first, 12500*time.Millisecond)
			require.LessOrEqual(t, first, 25*time.Second)
			firsts[first] = true
			for range 3 {
				began = time.Now()
				line, err = c.NextRaw(t.Context())
				require.NoError(t, err)
				require.Equal(t, `{}`, line)
				require.Equal(t, 25*time.Second, time.Since(began))
			}
			c.Close()
		}
		require.Greater(t, len(firsts), 5, "clients that came together are not pinged together")
	})
	inBubble(t, "they go out under traffic", func(t *testing.T) {
		node := startNode(t, ping(2*time.Second, time.Second))
		node.Channel("x", fanfare.ChannelOptions{Public: true})
		c := fanfaretest.Connect(t, node, "ann")
		requireSubscribe(t, c, "x")
		for range 100 {
			requirePublish(t, node, "x", `1`)
			time.Sleep(100 * time.Millisecond)
		}
		pings := 0
		for _, line := range received(t, c) {
			if line == `{}` {
				pings++
			}
		}
		require.GreaterOrEqual(t, pings, 4)
		require.LessOrEqual(t, pings, 5)
	})
	inBubble(t, "no pong: 3012 after the pong timeout", func(t *testing.T) {
		c := fanfaretest.Connect(t, startNode(t, ping(20*time.Second, 8*time.Second)), "ann", fanfaretest.NoPong())
		received(t, c)
		_, err := c.NextRaw(t.Context())
		require.NoError(t, err)
		began := time.Now()
		requireClosed(t, c, fanfare.DisconnectNoPong)
		require.Equal(t, 8*time.Second, time.Since(began))
	})
	inBubble(t, "after a pause of the whole process the pong is awaited once more", func(t *testing.T) {
		var client *fanfare.Client
		node := startNode(t, ping(20*time.Second, 8*time.Second))
		node.RPC("me", func(_ context.Context, r *fanfare.RPCRequest) ([]byte, error) {
			client = r.Client
			return nil, nil
		})
		c := fanfaretest.Connect(t, node, "ann", fanfaretest.NoPong())
		_, err := c.RPC("me", nil)
		require.NoError(t, err)
		received(t, c)
		_, err = c.NextRaw(t.Context())
		require.NoError(t, err)
		client.Pause(time.Minute)
		began := time.Now()
		requireClosed(t, c, fanfare.DisconnectNoPong)
		require.Equal(t, 8*time.Second, time.Since(began), "and not for ever")
	})
	inBubble(t, "a late pong is in time", func(t *testing.T) {
		c := fanfaretest.Connect(t, startNode(t, ping(20*time.Second, 8*time.Second)), "ann", fanfaretest.NoPong())
		received(t, c)
		for range 5 {
			_, err := c.NextRaw(t.Context())
			require.NoError(t, err)
			time.Sleep(7 * time.Second)
			require.NoError(t, c.Raw(`{}`))
		}
		requireOpen(t, c)
	})
	inBubble(t, "other commands are no pong", func(t *testing.T) {
		c := fanfaretest.Connect(t, startNode(t, ping(20*time.Second, 8*time.Second)), "ann", fanfaretest.NoPong())
		received(t, c)
		_, err := c.NextRaw(t.Context())
		require.NoError(t, err)
		require.NoError(t, c.Raw(`{"id":901,"unsubscribe":{"channel":"x"}}`))
		requireClosed(t, c, fanfare.DisconnectNoPong)
	})
	inBubble(t, "a pong without a ping: 3501", func(t *testing.T) {
		c := fanfaretest.Connect(t, startNode(t), "ann")
		require.NoError(t, c.Raw(`{}`))
		requireClosed(t, c, fanfare.DisconnectBadRequest)
	})
	inBubble(t, "a second pong for one ping: 3501", func(t *testing.T) {
		c := fanfaretest.Connect(t, startNode(t), "ann")
		received(t, c)
		_, err := c.NextRaw(t.Context())
		require.NoError(t, err)
		requireOpen(t, c) // the client itself has answered
		require.NoError(t, c.Raw(`{}`))
		requireClosed(t, c, fanfare.DisconnectBadRequest)
	})
	inBubble(t, "a pong together with commands", func(t *testing.T) {
		c := fanfaretest.Connect(t, startNode(t), "ann", fanfaretest.NoPong())
		received(t, c)
		_, err := c.NextRaw(t.Context())
		require.NoError(t, err)
		require.Equal(t, []string{`{"id":901,"unsubscribe":{}}`}, ask(t, c, "{}\n"+`{"id":901,"unsubscribe":{"channel":"x"}}`))
		requireOpen(t, c)
	})
	inBubble(t, "switched off: none is announced, none comes", func(t *testing.T) {
		c := fanfaretest.Dial(t, startNode(t, func(c *fanfare.Config) { c.PingInterval = -1 }), "ann")
		r, err := c.Connect()
		require.NoError(t, err)
		require.Zero(t, r.Ping)
		require.False(t, r.Pong)
		received(t, c)
		time.Sleep(time.Hour)
		require.Empty(t, received(t, c))
	})
	inBubble(t, "the announced interval is in seconds, and never less than the real one", func(t *testing.T) {
		r, err := fanfaretest.Dial(t, startNode(t, ping(1500*time.Millisecond, 0)), "ann").Connect()
		require.NoError(t, err)
		require.Equal(t, 2*time.Second, r.Ping)
		require.True(t, r.Pong)
	})
}
