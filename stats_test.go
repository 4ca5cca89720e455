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

func TestNode_Stats(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		node := startNode(t)
		node.Channel("room:{id}", fanfare.ChannelOptions{Public: true})
		node.Channel("news", fanfare.ChannelOptions{Public: true})
		require.Equal(t, fanfare.Stats{Connections: map[string]int{}, Subscriptions: map[string]int{"room:{id}": 0, "news": 0}}, node.Stats())

		ann := fanfaretest.Connect(t, node, "ann")
		again := fanfaretest.Connect(t, node, "ann")
		bob := fanfaretest.Connect(t, node, "bob", fanfaretest.Unidirectional())
		silent := fanfaretest.Dial(t, node, "")
		requireSubscribe(t, ann, "room:1")
		requireSubscribe(t, ann, "room:2")
		requireSubscribe(t, again, "room:1")
		requireSubscribe(t, again, "news")
		require.ErrorIs(t, subscribeError(again, "room"), fanfare.ErrUnknownChannel)
		synctest.Wait()
		want := fanfare.Stats{
			Connections: map[string]int{"memory": 2, "uni_memory": 1}, Connecting: 1, Users: 2, Channels: 3,
			Subscriptions: map[string]int{"room:{id}": 3, "news": 1},
		}
		require.Equal(t, want, node.Stats())

		require.NoError(t, ann.Unsubscribe("room:2"))
		silent.Close()
		bob.Close()
		synctest.Wait()
		want.Connections["uni_memory"], want.Connecting, want.Users, want.Channels, want.Subscriptions["room:{id}"] = 0, 0, 1, 2, 2
		require.Equal(t, want, node.Stats())

		require.NoError(t, node.Disconnect(t.Context(), "ann", nil))
		synctest.Wait()
		require.Zero(t, node.Stats().Sum())
	})
}

func subscribeError(c *fanfaretest.Client, channel string) error {
	_, err := c.Subscribe(channel)
	return err
}

func TestNode_Stats_Hooks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		node := startNode(t, func(c *fanfare.Config) {
			c.Authenticate = func(context.Context, *fanfare.ConnectRequest) (fanfare.Identity, error) {
				time.Sleep(time.Second)
				return fanfare.Identity{}, fanfare.ErrUnauthorized
			}
		})
		require.NoError(t, fanfaretest.Dial(t, node, "").Raw(`{"id":1,"connect":{}}`))
		synctest.Wait()
		s := node.Stats()
		require.Equal(t, []int{1, 1, 0}, []int{s.Hooks, s.Connecting, s.Users})
		time.Sleep(1500 * time.Millisecond)
		s = node.Stats()
		require.Equal(t, []int{0, 1}, []int{s.Hooks, s.Connecting}, "who was refused has a moment to leave")
		time.Sleep(time.Minute)
		require.Zero(t, node.Stats().Sum())
	})
}

// TestNode_Stats_Queues: what is counted is what is queued, whatever becomes of it.
func TestNode_Stats_Queues(t *testing.T) {
	for _, channel := range []string{"close", "told", "asked", "lossy", "latest", "cached"} {
		inBubble(t, channel, func(t *testing.T) {
			node := slowNode(t)
			c := slowClient(t, node, channel)
			fast := fanfaretest.Connect(t, node.Node, "fast")
			requireSubscribe(t, fast, channel)
			queued := 0
			for i := range 120 { // beyond the queue's limit
				pour(t, node, channel, i+1, i+1)
				synctest.Wait()
				messages, bytes := node.Queues()
				s := node.Stats()
				require.Equal(t, []int{messages, bytes}, []int{s.Queued, s.QueuedBytes})
				queued = max(queued, messages)
			}
			require.Positive(t, queued)
			c.Resume()
			time.Sleep(time.Second)
			require.Equal(t, []int{0, 0}, []int{node.Stats().Queued, node.Stats().QueuedBytes})
		})
	}
	inBubble(t, "thrown away", func(t *testing.T) {
		node := slowNode(t)
		c := slowClient(t, node, "close")
		pour(t, node, "close", 1, 10)
		synctest.Wait()
		require.Positive(t, node.Stats().Queued)
		c.Close()
		time.Sleep(time.Minute)
		require.Zero(t, node.Stats().Sum())
	})
}

func TestNode_Pattern(t *testing.T) {
	node := startNode(t)
	_, ok := node.Pattern("room:1")
	require.False(t, ok)
	node.Channel("room:{id}", fanfare.ChannelOptions{})
	node.Channel("room:{id}:{rest...}", fanfare.ChannelOptions{})
	node.Channel("room:7", fanfare.ChannelOptions{})
	for channel, want := range map[string]string{"room:1": "room:{id}", "room:7": "room:7", "room:7:a:b": "room:{id}:{rest...}", "other": ""} {
		pattern, ok := node.Pattern(channel)
		require.Equal(t, want, pattern)
		require.Equal(t, want != "", ok)
	}
	require.Zero(t, testing.AllocsPerRun(100, func() { node.Pattern("room:7:a:b") }))
}

// attached is an observer that writes down when it has which nodes.
type attached struct {
	fanfare.NopObserver

	mu    sync.Mutex // guards below
	lines []string
}

func (a *attached) note(format string, args ...any) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.lines = append(a.lines, fmt.Sprintf(format, args...))
}

func (a *attached) Attach(n *fanfare.Node)          { a.note("attach %s", n.ID()) }
func (a *attached) Detach(n *fanfare.Node)          { a.note("detach %s", n.ID()) }
func (a *attached) Disconnected(_ string, _ uint32) { a.note("disconnected") }

func TestNodeObserver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var o attached
		_, err := fanfare.New(fanfare.Config{Observer: &o, MaxQueueSize: -1})
		require.Error(t, err)
		node, err := fanfare.New(fanfare.Config{Observer: &o})
		require.NoError(t, err)
		fanfaretest.Connect(t, node, "")
		require.NoError(t, node.Shutdown(t.Context()))
		require.NoError(t, node.Shutdown(t.Context()))
		require.Equal(t, []string{"attach " + node.ID(), "disconnected", "detach " + node.ID()}, o.lines)
	})
}

// delays is an observer that keeps what Delivered is told.
type delays struct {
	fanfare.NopObserver

	mu   sync.Mutex // guards below
	took []time.Duration
}

func (d *delays) Delivered(_ string, took time.Duration) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.took = append(d.took, took)
}

// read returns what came since the last call.
func (d *delays) read() []time.Duration {
	synctest.Wait()
	d.mu.Lock()
	defer d.mu.Unlock()
	took := d.took
	d.took = nil
	return took
}

func TestObserver_Delivered(t *testing.T) {
	const budget = 200 * time.Millisecond
	inBubble(t, "a busy channel waits, and not longer than it may", func(t *testing.T) {
		var seen delays
		node := startNode(t, func(c *fanfare.Config) { c.Observer, c.LatencyBudget = &seen, budget })
		node.Channel("x", fanfare.ChannelOptions{Public: true})
		requirePublish(t, node, "x", `0`)
		require.Empty(t, seen.read(), "there is nobody")
		requireSubscribe(t, fanfaretest.Connect(t, node, "ann"), "x")
		requirePublish(t, node, "x", `1`)
		require.Equal(t, []time.Duration{0}, seen.read())
		for range 1000 {
			time.Sleep(time.Millisecond)
			requirePublish(t, node, "x", `1`)
		}
		time.Sleep(time.Second)
		took := seen.read()
		require.Len(t, took, 1000, "once for each publication, however they were joined")
		for _, d := range took {
			require.LessOrEqual(t, d, budget)
		}
	})
	inBubble(t, "what was missed counts from then", func(t *testing.T) {
		var seen delays
		broker := newFaultBroker(t)
		node := startNode(t, broker.config, func(c *fanfare.Config) { c.Observer = &seen })
		node.Channel("x", kept)
		for _, user := range []string{"ann", "bob"} {
			requireSubscribe(t, fanfaretest.Connect(t, node, user), "x")
		}
		requirePublish(t, node, "x", `1`)
		require.Equal(t, []time.Duration{0}, seen.read())
		broker.lose(2)
		release := broker.hangHistory()
		requirePublish(t, node, "x", `2`)
		time.Sleep(time.Second) // nobody knows yet
		requirePublish(t, node, "x", `3`)
		time.Sleep(2 * time.Second)
		release()
		require.Equal(t, []time.Duration{2 * time.Second, 2 * time.Second}, seen.read())
		requirePublish(t, node, "x", `4`)
		require.Equal(t, []time.Duration{0}, seen.read())
	})
	inBubble(t, "what is not stored counts from when it came, in a quiet channel and while others wait", func(t *testing.T) {
		var seen delays
		broker := newFaultBroker(t)
		node := startNode(t, broker.config, func(c *fanfare.Config) { c.Observer = &seen })
		node.Channel("x", kept)
		for _, user := range []string{"ann", "bob"} {
			requireSubscribe(t, fanfaretest.Connect(t, node, user), "x")
		}
		passing := func() {
			_, err := node.Publish(t.Context(), "x", []byte(`"typing"`), fanfare.WithoutHistory())
			require.NoError(t, err)
		}
		time.Sleep(time.Minute)
		passing()
		require.Equal(t, []time.Duration{0}, seen.read())
		requirePublish(t, node, "x", `1`)
		require.Equal(t, []time.Duration{0}, seen.read())
		broker.lose(2)
		release := broker.hangHistory()
		requirePublish(t, node, "x", `2`, `3`)
		time.Sleep(2 * time.Second)
		passing()
		require.Equal(t, []time.Duration{0}, seen.read())
		release()
		require.Equal(t, []time.Duration{2 * time.Second, 2 * time.Second}, seen.read())
	})
	inBubble(t, "who does not read has it queued", func(t *testing.T) {
		var seen delays
		node := startNode(t, func(c *fanfare.Config) { c.Observer = &seen })
		node.Channel("x", fanfare.ChannelOptions{Public: true})
		c := fanfaretest.Connect(t, node, "ann", fanfaretest.WithWriteTimeout(time.Hour))
		requireSubscribe(t, c, "x")
		c.Stall()
		requirePublish(t, node, "x", `1`, `2`, `3`)
		time.Sleep(time.Minute)
		require.Len(t, seen.read(), 3)
	})
}
