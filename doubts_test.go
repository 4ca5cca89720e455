package fanfare_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare"
	"github.com/fanfare-go/fanfare/fanfaretest"
)

// noCheck turns the periodic comparison off, so that only interruptions are left.
func noCheck(c *fanfare.Config) { c.PositionCheck = -1 }

func TestInterrupted(t *testing.T) {
	inBubble(t, "what was lost is repaired soon, once for all", func(t *testing.T) {
		g := startGap(t, kept, 20, noCheck)
		g.broker.lose(2, 3)
		g.publish(1, 3)
		g.requireAll(1, 1)
		g.broker.interrupt()
		time.Sleep(time.Second)
		g.requireAll(2, 3)
		g.requireReads(2) // the comparison, and the repair
	})
	inBubble(t, "of the channels that are named, and known", func(t *testing.T) {
		g := startGap(t, kept, 1, noCheck)
		g.Channel("y", kept)
		y := fanfaretest.Connect(t, g.Node, "y")
		requireSubscribe(t, y, "y")
		g.broker.lose(1)
		g.publish(1, 1)
		g.requireReads(1) // of the subscribe to "y"
		g.broker.interrupt("y", "nobody watches that")
		time.Sleep(time.Second)
		g.requireReads(1)
		require.Empty(t, events(g.clients[0]))
		g.broker.interrupt("x")
		time.Sleep(time.Second)
		g.requireAll(1, 1)
	})
	inBubble(t, "nothing was lost: one read, and nobody notices", func(t *testing.T) {
		g := startGap(t, kept, 3, noCheck)
		g.publish(1, 3)
		g.requireAll(1, 3)
		g.broker.interrupt()
		g.broker.interrupt("x")
		time.Sleep(time.Minute)
		g.requireReads(1)
		g.requireAll(1, 0)
	})
	inBubble(t, "a read that fails is repeated, for as long as it takes", func(t *testing.T) {
		g := startGap(t, kept, 2, noCheck)
		g.broker.lose(1)
		g.publish(1, 1)
		g.broker.onHistory = func(context.Context, func()) error { return errors.New("broker is down") }
		g.broker.interrupt()
		time.Sleep(10 * time.Minute)
		g.requireAll(1, 0)
		require.Less(t, g.broker.readCount()-g.reads, 250, "not too often")
		g.broker.set(func() { g.broker.onHistory = nil })
		time.Sleep(15 * time.Second)
		g.requireAll(1, 1)
	})
	inBubble(t, "the repair fails: it is repeated", func(t *testing.T) {
		g := startGap(t, kept, 2, noCheck)
		g.broker.lose(1)
		g.publish(1, 1)
		reads := 0
		g.broker.onHistory = func(context.Context, func()) error {
			if reads++; reads > 1 && reads < 10 {
				return errors.New("broker is down")
			}
			return nil
		}
		g.broker.interrupt()
		time.Sleep(time.Minute)
		g.requireAll(1, 1)
	})
	inBubble(t, "what was lost is no longer kept: told", func(t *testing.T) {
		o := kept
		o.History.TTL = 5 * time.Second
		g := startGap(t, o, 2, noCheck)
		g.broker.lose(2)
		g.publish(1, 2)
		time.Sleep(10 * time.Second)
		g.broker.interrupt()
		time.Sleep(time.Second)
		for _, c := range g.clients {
			require.Equal(t, []string{"x 1", "x unsubscribe 2500 insufficient state"}, events(c))
		}
	})
	inBubble(t, "the broker has lost everything: told", func(t *testing.T) {
		g := startGap(t, kept, 2, noCheck)
		g.publish(1, 3)
		g.requireAll(1, 3)
		g.broker.restart(t)
		g.broker.interrupt()
		time.Sleep(time.Second)
		for _, c := range g.clients {
			require.Equal(t, []string{"x unsubscribe 2500 insufficient state"}, events(c))
		}
	})
	inBubble(t, "a subscriber that was reading meanwhile", func(t *testing.T) {
		g := startGap(t, kept, 0, noCheck)
		c, finish := g.beginSubscribe("ann")
		g.broker.lose(1)
		g.publish(1, 1)
		g.broker.interrupt()
		time.Sleep(time.Second) // the node does not know yet where the stream stood
		finish()
		time.Sleep(time.Second)
		require.Equal(t, []string{"x 1"}, events(c))
	})
	inBubble(t, "again while one is worked off", func(t *testing.T) {
		g := startGap(t, kept, 1, noCheck)
		release := g.broker.holdNextRead()
		g.broker.interrupt()
		time.Sleep(time.Second)
		g.broker.lose(1)
		g.publish(1, 1)
		g.broker.interrupt()
		release()
		time.Sleep(time.Second)
		g.requireAll(1, 1)
	})
	inBubble(t, "Shutdown does not wait for a broker that hangs", func(t *testing.T) {
		g := startGap(t, kept, 1, noCheck)
		release := g.broker.hangHistory()
		defer release()
		g.broker.interrupt()
		time.Sleep(time.Second)
		began := time.Now()
		require.NoError(t, g.Shutdown(t.Context()))
		require.LessOrEqual(t, time.Since(began), 4*time.Second)
	})
}

func TestInterrupted_ManyChannels(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const channels = 300
		broker := newFaultBroker(t)
		node := startNode(t, broker.config, noCheck, func(c *fanfare.Config) { c.MaxChannels = channels })
		node.Channel("{any}", kept)
		c := fanfaretest.Connect(t, node, "ann")
		for i := range channels {
			requireSubscribe(t, c, fmt.Sprint(i))
		}
		broker.set(func() { broker.onDelivery = func(*fanfare.Publication, func(*fanfare.Publication)) {} })
		for i := range channels {
			requirePublish(t, node, fmt.Sprint(i), "1")
		}
		var reading, most atomic.Int32
		broker.set(func() {
			broker.onDelivery = nil
			broker.onHistory = func(context.Context, func()) error {
				now := reading.Add(1)
				for m := most.Load(); now > m && !most.CompareAndSwap(m, now); m = most.Load() {
				}
				time.Sleep(time.Millisecond)
				reading.Add(-1)
				return nil
			}
		})
		broker.interrupt()
		time.Sleep(5 * time.Second)
		require.Len(t, events(c), channels)
		require.NoError(t, c.Check())
		require.LessOrEqual(t, most.Load(), int32(16))
		require.Greater(t, most.Load(), int32(1))
	})
}

func TestRewoundStream(t *testing.T) {
	told := "x unsubscribe 2500 insufficient state"
	inBubble(t, "found by the periodic check", func(t *testing.T) {
		g := startGap(t, kept, 3, func(c *fanfare.Config) { c.PositionCheck = 10 * time.Second })
		g.publish(1, 5)
		g.requireAll(1, 5)
		g.broker.rewind(t, 2)
		time.Sleep(15 * time.Second)
		for _, c := range g.clients {
			require.Equal(t, []string{told}, events(c))
		}
	})
	inBubble(t, "found after an interruption", func(t *testing.T) {
		g := startGap(t, kept, 3, noCheck)
		g.publish(1, 5)
		g.requireAll(1, 5)
		g.broker.rewind(t, 2)
		g.broker.interrupt()
		time.Sleep(time.Second)
		for _, c := range g.clients {
			require.Equal(t, []string{told}, events(c))
			requireSubscribe(t, c, "x")
		}
		g.publish(6, 7) // with the offsets 4 and 5
		for _, c := range g.clients {
			require.Equal(t, []string{"x 6", "x 7"}, events(c))
		}
	})
	inBubble(t, "it has grown beyond its old end: another publication has the place of the newest", func(t *testing.T) {
		g := startGap(t, kept, 3, noCheck)
		g.publish(1, 5)
		g.requireAll(1, 5)
		g.broker.rewind(t, 2)
		g.broker.set(func() { g.broker.onDelivery = func(*fanfare.Publication, func(*fanfare.Publication)) {} })
		g.publish(6, 9)
		g.broker.set(func() { g.broker.onDelivery = nil })
		g.broker.interrupt()
		time.Sleep(time.Second)
		for _, c := range g.clients {
			require.Equal(t, []string{told}, events(c))
		}
	})
	inBubble(t, "revealed by what comes in the newest one's place", func(t *testing.T) {
		g := startGap(t, kept, 3, noCheck)
		g.publish(1, 5)
		g.requireAll(1, 5)
		g.broker.rewind(t, 1)
		g.publish(6, 7) // with the offsets 5 and 6
		for _, c := range g.clients {
			require.Equal(t, []string{told}, events(c))
		}
	})
	inBubble(t, "new publications are not taken for late ones for ever", func(t *testing.T) {
		g := startGap(t, kept, 3, noCheck)
		g.publish(1, 9)
		g.requireAll(1, 9)
		g.broker.rewind(t, 6)
		g.publish(10, 11) // with the offsets 4 and 5
		time.Sleep(5 * time.Second)
		for _, c := range g.clients {
			require.Equal(t, []string{told}, events(c))
		}
	})
	inBubble(t, "nor if one that was late has been looked into a moment ago", func(t *testing.T) {
		g := startGap(t, kept, 3, noCheck)
		g.publish(1, 9)
		g.requireAll(1, 9)
		had, err := g.broker.current().History(t.Context(), "x", fanfare.HistoryQuery{Limit: 4})
		require.NoError(t, err)
		g.broker.links[0].sink.Publication("x", had.Publications[3])
		time.Sleep(500 * time.Millisecond)
		g.requireReads(1)
		g.broker.rewind(t, 6)
		g.publish(10, 11) // with the offsets 4 and 5, and then nothing
		time.Sleep(5 * time.Second)
		for _, c := range g.clients {
			require.Equal(t, []string{told}, events(c))
		}
	})
	inBubble(t, "without positions the flow goes on", func(t *testing.T) {
		o := kept
		o.Recovery = fanfare.RecoveryOff
		g := startGap(t, o, 2, noCheck)
		g.publish(1, 5)
		g.requireAll(1, 5)
		g.broker.rewind(t, 1)
		g.publish(6, 7)
		for _, c := range g.clients {
			require.Equal(t, []string{"x 6", "x 7"}, events(c))
		}
	})
	inBubble(t, "a subscriber that read the old end, and begins after the rest was told", func(t *testing.T) {
		g := startGap(t, kept, 1, noCheck)
		g.publish(1, 5)
		g.requireAll(1, 5)
		late, finish := g.beginSubscribe("late")
		g.broker.rewind(t, 2)
		g.broker.interrupt()
		time.Sleep(time.Second)
		require.Equal(t, []string{told}, events(g.clients[0]))
		finish()
		require.Equal(t, []string{told}, events(late))
	})
	inBubble(t, "the log says it once", func(t *testing.T) {
		var log logged
		g := startGap(t, kept, 1, noCheck, log.config)
		g.publish(1, 2)
		for _, channel := range []string{"a", "b", "c"} {
			g.Channel(channel, kept)
			requireSubscribe(t, g.clients[0], channel)
			requirePublish(t, g.Node, channel, "1", "2")
		}
		g.broker.rewind(t, 1)
		g.broker.interrupt()
		time.Sleep(time.Second)
		require.Equal(t, 1, strings.Count(log.String(), "level=ERROR"), log.String())
	})
}
