package fanfare_test

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare"
	"github.com/fanfare-go/fanfare/fanfaretest"
)

// The tests named session_*_test.go state the rules of the client protocol; "Spec5_2" in a name is a section of its
// specification. What they share is here.

// room is what most tests need of a channel with history.
var room = fanfare.ChannelOptions{Public: true, History: fanfare.History{Size: 5, TTL: time.Hour}}

// startNode makes a node for a test, which must shut down cleanly at its end.
func startNode(t *testing.T, change ...func(*fanfare.Config)) *fanfare.Node {
	t.Helper()
	config := fanfare.Config{Authenticate: fanfaretest.Authenticate, DrainWindow: -1}
	for _, f := range change {
		f(&config)
	}
	node, err := fanfare.New(config)
	require.NoError(t, err)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		require.NoError(t, node.Shutdown(ctx))
		require.Zero(t, node.Residue())
	})
	return node
}

// identify makes every client the one that is given.
func identify(id fanfare.Identity) func(*fanfare.Config) {
	return func(c *fanfare.Config) {
		c.Authenticate = func(context.Context, *fanfare.ConnectRequest) (fanfare.Identity, error) { return id, nil }
	}
}

// deny makes every connect fail.
func deny(err error) func(*fanfare.Config) {
	return func(c *fanfare.Config) {
		c.Authenticate = func(context.Context, *fanfare.ConnectRequest) (fanfare.Identity, error) {
			return fanfare.Identity{}, err
		}
	}
}

// inBubble runs a subtest in a bubble of its own.
func inBubble(t *testing.T, name string, f func(t *testing.T)) {
	t.Helper()
	t.Run(name, func(t *testing.T) { synctest.Test(t, f) })
}

// received returns, once nothing moves any more, the messages that have come to the client since the last call.
func received(t *testing.T, c *fanfaretest.Client) []string {
	t.Helper()
	synctest.Wait()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	var lines []string
	for {
		line, err := c.NextRaw(ctx)
		if err != nil {
			return lines
		}
		lines = append(lines, line)
	}
}

// ask sends a frame and returns what comes of it.
func ask(t *testing.T, c *fanfaretest.Client, frame string) []string {
	t.Helper()
	received(t, c)
	require.NoError(t, c.Raw(frame))
	return received(t, c)
}

// requireOpen fails the test if the connection has ended.
func requireOpen(t *testing.T, c *fanfaretest.Client) {
	t.Helper()
	synctest.Wait()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	d, err := c.Closed(ctx)
	require.ErrorIs(t, err, context.Canceled, "closed: %v", d)
}

// requireClosed waits for the end of the connection and compares how the server ended it.
func requireClosed(t *testing.T, c *fanfaretest.Client, want *fanfare.Disconnect) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
	defer cancel()
	d, err := c.Closed(ctx)
	require.NoError(t, err)
	if want == dropped {
		d = &fanfare.Disconnect{Code: d.Code} // nobody sees the reason
	}
	require.Equal(t, want, d)
}

// dropped is a connection that ends without a close frame.
var dropped = &fanfare.Disconnect{}

func requirePublish(t *testing.T, node *fanfare.Node, channel string, data ...string) fanfare.Position {
	t.Helper()
	var p fanfare.Position
	for _, d := range data {
		var err error
		p, err = node.Publish(t.Context(), channel, []byte(d))
		require.NoError(t, err)
	}
	return p
}

func requireSubscribe(t *testing.T, c *fanfaretest.Client, channel string, opts ...fanfaretest.SubscribeOption) *fanfaretest.SubscribeResult {
	t.Helper()
	r, err := c.Subscribe(channel, opts...)
	require.NoError(t, err)
	return r
}

// payloads are the data of publications.
func payloads(publications []*fanfare.Publication) []string {
	var out []string
	for _, p := range publications {
		out = append(out, string(p.Data))
	}
	return out
}

// events returns, once nothing moves any more, the pushes that have come, in short.
func events(c *fanfaretest.Client) []string {
	synctest.Wait()
	var out []string
	for _, e := range c.Events() {
		switch e.Kind {
		case fanfaretest.KindPublication:
			out = append(out, fmt.Sprintf("%s %s", e.Channel, e.Publication.Data))
		case fanfaretest.KindJoin, fanfaretest.KindLeave:
			out = append(out, fmt.Sprintf("%s %s %s", e.Channel, e.Kind, e.Info.User))
		case fanfaretest.KindUnsubscribe:
			out = append(out, fmt.Sprintf("%s unsubscribe %d %s", e.Channel, e.Code, e.Reason))
		case fanfaretest.KindMessage:
			out = append(out, fmt.Sprintf("message %s", e.Data))
		default:
			out = append(out, e.Raw)
		}
	}
	return out
}

// logged collects a node's log as text.
type logged struct {
	mu  sync.Mutex // guards below
	buf bytes.Buffer
}

func (l *logged) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

func (l *logged) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

func (l *logged) config(c *fanfare.Config) { c.Logger = slog.New(slog.NewTextHandler(l, nil)) }

// gatedBroker answers no history before its gate is open.
type gatedBroker struct {
	*fanfare.MemoryBroker
	gate chan struct{}
}

func (b *gatedBroker) History(ctx context.Context, channel string, q fanfare.HistoryQuery) (fanfare.HistoryResult, error) {
	select {
	case <-b.gate:
		return b.MemoryBroker.History(ctx, channel, q)
	case <-ctx.Done():
		return fanfare.HistoryResult{}, ctx.Err()
	}
}

// bentBroker changes what it delivers: bend returns the publications that arrive in place of each one.
type bentBroker struct {
	*fanfare.MemoryBroker
	bend func(p *fanfare.Publication) []*fanfare.Publication
}

func (b *bentBroker) Attach(node string, s fanfare.Sink) (fanfare.Link, error) {
	return b.MemoryBroker.Attach(node, bentSink{s, b})
}

type bentSink struct {
	fanfare.Sink
	broker *bentBroker
}

func (s bentSink) Publication(channel string, p *fanfare.Publication) {
	for _, p := range s.broker.bend(p) {
		s.Sink.Publication(channel, p)
	}
}
