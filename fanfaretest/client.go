package fanfaretest

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"github.com/fanfare-go/fanfare"
	"github.com/fanfare-go/fanfare/transport"
)

// Client is a client of a node, in memory. It is made by [Connect] or [Dial] and closed when the test ends.
type Client struct {
	t      testing.TB
	opts   options
	conn   *conn
	status int // of the HTTP answer, when the node refused the request

	mu         sync.Mutex // guards below; before conn.mu
	changed    chan struct{}
	lastID     uint32
	calls      map[uint32]*call
	subs       map[string]*subscription
	connected  *ConnectResult
	partial    []byte // the beginning of a message whose end has not come
	raws       []string
	events     []Event
	last       bool // a disconnect push has come
	violations []error
}

// Connect opens a connection to a node for a user, and connects. It fails the test when the connection is refused.
func Connect(t testing.TB, node *fanfare.Node, user string, opts ...Option) *Client {
	t.Helper()
	c := Dial(t, node, user, opts...)
	if _, err := c.Connect(); err != nil {
		t.Fatalf("fanfaretest: connect %q: %v", user, err)
	}
	return c
}

// Dial opens a connection to a node for a user and sends nothing: for [Client.Connect], or raw frames. If the node does
// not even open it, everything that the client does returns an error with the HTTP status.
func Dial(t testing.TB, node *fanfare.Node, user string, opts ...Option) *Client {
	t.Helper()
	c := newClient(t, newOptions(opts))
	// The server of net/http cancels the context when the handler has returned.
	ctx, cancel := context.WithCancel(context.WithValue(context.Background(), userKey{}, user))
	defer cancel()
	r := httptest.NewRequestWithContext(ctx, http.MethodGet, "/"+c.conn.info.Name, nil)
	for _, change := range c.opts.requests {
		change(r)
	}
	w := httptest.NewRecorder()
	node.Handler(memory{c.conn}).ServeHTTP(w, r)
	if !c.conn.started {
		c.status = w.Code
		c.conn.vanish()
		close(c.conn.gone)
	}
	t.Cleanup(c.cleanup)
	return c
}

func newClient(t testing.TB, o options) *Client {
	info := transport.Info{Name: "memory", Encoding: transport.JSON, Framing: lines{}}
	if o.unidirectional {
		info.Name, info.Unidirectional, info.ClosePush = "uni_memory", true, true
	}
	c := &Client{
		t:       t,
		opts:    o,
		conn:    newConn(info, o.writeTimeout),
		changed: make(chan struct{}),
		calls:   make(map[uint32]*call),
		subs:    make(map[string]*subscription),
	}
	c.conn.receive = c.receive
	c.conn.closed = c.serverClosed
	c.conn.report = func(violation string) {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.violate("%s", violation)
	}
	return c
}

// ID is the id of the connection; empty until it is connected.
func (c *Client) ID() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.connected == nil {
		return ""
	}
	return c.connected.Client
}

// Position is the place after the last publication that has come in a channel, whether or not [Client.Next] has returned
// it: what a published client would send to recover. Without a subscription to the channel, ended ones included, it is
// zero.
func (c *Client) Position(channel string) fanfare.Position {
	c.mu.Lock()
	defer c.mu.Unlock()
	if s := c.subs[channel]; s != nil {
		return s.position
	}
	return fanfare.Position{}
}

// Raw sends one frame as it is. The frame may hold several commands, one per line, whose ids must not be those of other
// commands; ids from 1,000,000 are not used otherwise. Their replies are found by [Client.NextRaw].
func (c *Client) Raw(frame string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.over(); err != nil {
		return err
	}
	for id, call := range parseCalls(frame) {
		c.calls[id] = call
	}
	c.conn.send([]byte(frame))
	return nil
}

// NextRaw waits for the next message of the server, as it came. It returns every message from the first on, replies,
// pushes and pings, and these are also given to whom they belong otherwise.
func (c *Client) NextRaw(ctx context.Context) (string, error) {
	var line string
	err := c.await(ctx, "message", func() (bool, error) {
		if len(c.raws) == 0 {
			return false, c.over()
		}
		line, c.raws = c.raws[0], c.raws[1:]
		return true, nil
	})
	return line, err
}

// Stall makes the client stop reading: nothing more is taken until [Client.Resume].
func (c *Client) Stall() { c.conn.limit(0) }

// StallAfter makes the client stop reading after so many more bytes, as a real one does whose buffers fill up.
func (c *Client) StallAfter(bytes int) { c.conn.limit(max(bytes, 0)) }

// Resume ends a stall.
func (c *Client) Resume() { c.conn.limit(-1) }

// Close makes the client vanish, without a word to the server. What it sent before still arrives.
func (c *Client) Close() {
	c.conn.vanish()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.broadcast()
}

// Closed waits until the connection has ended, and returns what the server said. Code 0 means that it dropped the
// connection without a word, and [fanfare.DisconnectClosed] that the client closed it.
func (c *Client) Closed(ctx context.Context) (*fanfare.Disconnect, error) {
	var d *fanfare.Disconnect
	err := c.await(ctx, "close", func() (bool, error) {
		err := c.over()
		if errors.As(err, &d) {
			return true, nil
		}
		return false, err
	})
	return d, err
}

// Check returns what the server did against the protocol, or nil. Most of it has failed the test already; only here are
// gaps between the offsets of a positioned subscription, which are faults except where the channel keeps only its
// latest publication or the client was left out by [fanfare.WithoutClient], and offsets that go back in subscriptions without a position.
func (c *Client) Check() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return errors.Join(c.violations...)
}

// over tells how the connection ended, or returns nil. It wants c.mu.
func (c *Client) over() error {
	if c.status != 0 {
		return fmt.Errorf("fanfaretest: the node refused the connection with HTTP status %d", c.status)
	}
	ended, server := c.conn.state()
	switch {
	case !ended:
		return nil
	case server != nil:
		return &fanfare.Disconnect{Code: server.code, Reason: server.reason}
	}
	return fanfare.DisconnectClosed
}

// await waits until done, which is called with c.mu held, returns true or an error.
func (c *Client) await(ctx context.Context, what string, done func() (bool, error)) error {
	for {
		c.mu.Lock()
		ok, err := done()
		changed := c.changed
		c.mu.Unlock()
		if ok || err != nil {
			return err
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return fmt.Errorf("fanfaretest: waiting for %s: %w", what, ctx.Err())
		}
	}
}

// broadcast lets everyone who waits look again. It wants c.mu.
func (c *Client) broadcast() {
	close(c.changed)
	c.changed = make(chan struct{})
}

func (c *Client) cleanup() {
	c.Close()
	// A session may still be busy with the last frame: with a hook that does not return, for instance.
	select {
	case <-c.conn.gone:
	case <-time.After(10 * time.Second):
		c.t.Errorf("fanfaretest: the session has not taken the end of the connection for 10 s")
	}
}
