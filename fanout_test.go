package fanfare_test

import (
	"context"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare"
	"github.com/fanfare-go/fanfare/fanfaretest"
	"github.com/fanfare-go/fanfare/transport"
)

// stickyConn is a connection in whose writes the worker hangs while it is stuck, which no real one does.
type stickyConn struct {
	countingConn
	stuck *atomic.Pointer[chan struct{}]
}

func (c *stickyConn) TryWrite(frames []byte) (int, error) {
	if gate := c.stuck.Load(); gate != nil {
		<-*gate
	}
	return c.countingConn.TryWrite(frames)
}

func (c *stickyConn) Name() string { return "sticky" }

func (c *stickyConn) Serve(_ http.ResponseWriter, r *http.Request, a transport.Acceptor) {
	var err error
	if c.session, err = a.Accept(r, c); err != nil {
		panic(err)
	}
}

// stickyChannel is a channel with subscribers enough to be served by the workers.
type stickyChannel struct {
	*fanfare.Node
	stuck    atomic.Pointer[chan struct{}]
	messages *counter
}

func newStickyChannel(t *testing.T, o fanfare.ChannelOptions, change ...func(*fanfare.Config)) *stickyChannel {
	t.Helper()
	s := &stickyChannel{Node: startNode(t, append(change, func(c *fanfare.Config) {
		c.Authenticate = nil
		c.MaxQueueSize, c.MaxPublicationSize, c.PingInterval = 256<<20, 1<<20, -1
	})...)}
	s.Channel("x", o)
	s.messages = newCounter()
	s.messages.expect(1 << 40)
	for range 100 {
		c := &stickyConn{countingConn: countingConn{counter: s.messages, closed: make(chan struct{})}, stuck: &s.stuck}
		s.Handler(c).ServeHTTP(nil, &http.Request{})
		for _, frame := range []string{`{"id":1,"connect":{}}`, `{"id":2,"subscribe":{"channel":"x"}}`} {
			require.NoError(t, c.session.Receive([]byte(frame)))
		}
		t.Cleanup(func() { c.session.Closed(nil) })
	}
	synctest.Wait()
	require.EqualValues(t, 200, s.messages.came.Swap(0))
	return s
}

func (s *stickyChannel) stick() (release func()) {
	gate := make(chan struct{})
	s.stuck.Store(&gate)
	return func() {
		s.stuck.Store(nil)
		close(gate)
	}
}

var megabyte = []byte(`"` + strings.Repeat("x", 1<<20-2) + `"`)

// Publishers wait for workers that are behind, within their context, before anything is stored.
func TestPublish_WaitsForTheWorkers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		node := newStickyChannel(t, room)
		release := node.stick()
		var err error
		stored := 0
		for stored < 100 && err == nil {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			if _, err = node.Publish(ctx, "x", megabyte); err == nil {
				stored++
			}
			cancel()
		}
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.Greater(t, stored, 4)
		require.Less(t, stored, 40)
		history, err := node.History(t.Context(), "x", fanfare.HistoryQuery{})
		require.NoError(t, err)
		require.EqualValues(t, stored, history.Offset, "what was refused was not stored")

		late := make(chan error, 1)
		go func() {
			_, err := node.Publish(t.Context(), "x", []byte(`1`))
			late <- err
		}()
		synctest.Wait()
		require.Empty(t, late)
		release()
		require.NoError(t, <-late)
		time.Sleep(time.Second) // the channel is paced now
		require.EqualValues(t, 100*(stored+1), node.messages.came.Load(), "everybody has everything")
	})
}

// heldUpBroker holds every Publish, before anything is stored, until the gate is open.
type heldUpBroker struct {
	*fanfare.MemoryBroker
	gate chan struct{}
}

func (b heldUpBroker) Publish(ctx context.Context, channel string, p *fanfare.Publication, o fanfare.StoreOptions) (fanfare.Position, error) {
	<-b.gate
	return b.MemoryBroker.Publish(ctx, channel, p, o)
}

// Publishers that come all at once, and find the inboxes empty, do not fill them beyond what they hold: that would be lost.
func TestPublish_ManyAtOnceLoseNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		broker := heldUpBroker{fanfare.NewMemoryBroker(fanfare.MemoryBrokerConfig{}), make(chan struct{})}
		t.Cleanup(func() { require.NoError(t, broker.Close()) }) // after the node's
		node := newStickyChannel(t, fanfare.ChannelOptions{Public: true}, func(c *fanfare.Config) { c.Broker = broker })
		release := node.stick()
		const n = 60
		published := make(chan error, n)
		for range n {
			go func() {
				_, err := node.Publish(t.Context(), "x", megabyte)
				published <- err
			}()
		}
		synctest.Wait()
		close(broker.gate)
		synctest.Wait()
		require.Positive(t, len(published))
		require.Less(t, len(published), 30, "the others wait")
		release()
		for range n {
			require.NoError(t, <-published)
		}
		time.Sleep(time.Second)
		require.EqualValues(t, 100*n, node.messages.came.Load())
	})
}

// What a broker delivers all the same is dropped, and read from history when there is room; without history it is lost, and
// counted.
func TestBroker_DeliversMoreThanTheWorkersTake(t *testing.T) {
	for name, history := range map[string]bool{"with history": true, "without": false} {
		inBubble(t, name, func(t *testing.T) {
			o := fanfare.ChannelOptions{Public: true}
			if history {
				o.History = fanfare.History{Size: 1000, TTL: time.Hour}
			}
			node := newStickyChannel(t, o)
			release := node.stick()
			const n = 60
			for range n {
				node.PublishUnbounded(t.Context(), "x", megabyte)
			}
			synctest.Wait()
			release()
			time.Sleep(time.Second)
			came := node.messages.came.Load()
			if history {
				require.EqualValues(t, 100*n, came)
			} else {
				require.Less(t, came, int64(100*n))
				require.Positive(t, came)
			}
			requirePublish(t, node.Node, "x", `1`)
			time.Sleep(time.Second)
			require.Equal(t, came+100, node.messages.came.Load(), "and it goes on")
		})
	}
}

// What the app does to a user after it has published comes after what it has published.
func TestPublish_ThenEnd(t *testing.T) {
	for name, end := range map[string]func(t *testing.T, node *fanfare.Node) error{
		"disconnect":  func(t *testing.T, node *fanfare.Node) error { return node.Disconnect(t.Context(), "u", nil) },
		"unsubscribe": func(t *testing.T, node *fanfare.Node) error { return node.Unsubscribe(t.Context(), "u", "x") },
		"shutdown":    func(t *testing.T, node *fanfare.Node) error { return node.Shutdown(t.Context()) },
	} {
		inBubble(t, name, func(t *testing.T) {
			node := startNode(t)
			node.Channel("x", fanfare.ChannelOptions{Public: true})
			clients := make([]*fanfaretest.Client, 100) // more than a publisher serves itself
			for i := range clients {
				clients[i] = fanfaretest.Connect(t, node, "u")
				requireSubscribe(t, clients[i], "x")
				received(t, clients[i])
			}
			requirePublish(t, node, "x", `"you are out"`)
			require.NoError(t, end(t, node))
			for _, c := range clients {
				lines := received(t, c)
				require.NotEmpty(t, lines)
				require.Contains(t, lines[0], "you are out")
			}
		})
	}
}

// A connection that is held is written as soon as enough waits for it, or it would overflow though its peer reads.
func TestHeld_DoesNotOverflow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		node := startNode(t)
		node.Channel("x", fanfare.ChannelOptions{Public: true})
		c := fanfaretest.Connect(t, node, "ann")
		requireSubscribe(t, c, "x")
		received(t, c)
		time.Sleep(time.Second)
		requirePublish(t, node, "x", `1`)
		synctest.Wait()
		require.True(t, node.Connection(c.ID()).HoldWrites())
		for range 20 {
			requirePublish(t, node, "x", `"`+strings.Repeat("x", 60<<10)+`"`)
			synctest.Wait()
		}
		require.Nil(t, node.Connection(c.ID()).Ending())
		require.Len(t, received(t, c), 21)
	})
}
