package fanfare_test

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare"
	"github.com/fanfare-go/fanfare/transport"
)

// counter knows how many messages have come to all connections of a benchmark, and tells when all that are due have.
type counter struct {
	came, due atomic.Int64
	bytes     atomic.Int64
	all       chan struct{}
}

func newCounter() *counter { return &counter{all: make(chan struct{}, 1)} }

// expect makes n more messages due. It must be called before anything can send them.
func (c *counter) expect(n int) { c.due.Add(int64(n)) }

// wait returns when all that are due have come.
func (c *counter) wait() { <-c.all }

// countingConn is a connection that takes everything at once, and keeps nothing of it.
type countingConn struct {
	counter *counter
	session transport.Session
	closed  chan struct{}
	once    sync.Once
}

var (
	_ transport.Conn      = (*countingConn)(nil)
	_ transport.TryWriter = (*countingConn)(nil)
)

func (c *countingConn) Info() transport.Info {
	return transport.Info{Name: "bench", Encoding: transport.JSON, Framing: linePerMessage{}}
}

func (c *countingConn) TryWrite(frames []byte) (int, error) {
	c.counter.bytes.Add(int64(len(frames)))
	messages := int64(bytes.Count(frames, []byte{'\n'}))
	if c.counter.came.Add(messages) == c.counter.due.Load() {
		c.counter.all <- struct{}{}
	}
	return len(frames), nil
}

func (c *countingConn) Write(frames []byte) error {
	_, err := c.TryWrite(frames)
	return err
}

func (c *countingConn) Close(uint32, string) error {
	c.once.Do(func() { close(c.closed) })
	return nil
}

// leave is what a transport does when its peer has gone.
func (c *countingConn) leave() {
	c.session.Closed(nil)
	<-c.closed
}

type linePerMessage struct{}

func (linePerMessage) AppendFrame(dst []byte, messages ...[]byte) []byte {
	for _, m := range messages {
		dst = append(append(dst, m...), '\n')
	}
	return dst
}

// oneConn is a transport with a single connection.
type oneConn struct{ conn *countingConn }

func (t oneConn) Name() string { return "bench" }

func (t oneConn) Serve(_ http.ResponseWriter, r *http.Request, a transport.Acceptor) {
	var err error
	if t.conn.session, err = a.Accept(r, t.conn); err != nil {
		panic(err)
	}
}

func attach(node *fanfare.Node, c *counter) *countingConn {
	conn := &countingConn{counter: c, closed: make(chan struct{})}
	node.Handler(oneConn{conn}).ServeHTTP(nil, &http.Request{})
	return conn
}

// subscribeConn connects and subscribes, without waiting for the two replies.
func subscribeConn(b *testing.B, conn *countingConn, channel string) {
	b.Helper()
	for _, frame := range []string{`{"id":1,"connect":{}}`, `{"id":2,"subscribe":{"channel":"` + channel + `"}}`} {
		require.NoError(b, conn.session.Receive([]byte(frame)))
	}
}

// benchNode has the channels "plain" and "history".
func benchNode(b *testing.B, change ...func(*fanfare.Config)) *fanfare.Node {
	b.Helper()
	// No pings: they are messages, too.
	config := fanfare.Config{LatencyBudget: -1, PingInterval: -1, DrainWindow: -1, IdempotencyTTL: time.Second}
	for _, f := range change {
		f(&config)
	}
	node, err := fanfare.New(config)
	require.NoError(b, err)
	b.Cleanup(func() { require.NoError(b, node.Shutdown(context.Background())) })
	node.Channel("plain", fanfare.ChannelOptions{Public: true})
	node.Channel("history", fanfare.ChannelOptions{Public: true, History: fanfare.History{Size: 100, TTL: time.Hour}})
	return node
}

// benchPayload is a message of a chat, say.
var benchPayload = fmt.Appendf(nil, `{"text":"%0100d"}`, 0)

// BenchmarkPublish measures publications that nobody receives.
func BenchmarkPublish(b *testing.B) {
	for _, channel := range []string{"plain", "history"} {
		b.Run(channel, func(b *testing.B) {
			node := benchNode(b)
			b.ReportAllocs()
			for b.Loop() {
				if _, err := node.Publish(b.Context(), channel, benchPayload); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run(channel+"/idempotent", func(b *testing.B) {
			node := benchNode(b)
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				key := fanfare.WithIdempotencyKey(strconv.Itoa(i))
				if _, err := node.Publish(b.Context(), channel, benchPayload, key); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkSubscribe measures the life of a client that connects, subscribes and leaves.
func BenchmarkSubscribe(b *testing.B) {
	for _, channel := range []string{"plain", "history"} {
		b.Run(channel, func(b *testing.B) {
			node, counter := benchNode(b), newCounter()
			b.ReportAllocs()
			for b.Loop() {
				conn := attach(node, counter)
				counter.expect(2)
				subscribeConn(b, conn, channel)
				counter.wait()
				conn.leave()
			}
		})
	}
}
