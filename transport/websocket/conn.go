package websocket

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"runtime/debug"
	"slices"
	"sync"
	"sync/atomic"
	"time"
	"unicode/utf8"

	"github.com/coder/websocket"

	"github.com/fanfare-go/fanfare/transport"
)

const (
	// closeWait is how long the library waits for the peer's close frame.
	closeWait = 5 * time.Second

	// minRead is what a buffer for a message starts with, maxKept the largest that waits for the next message.
	minRead = 512
	maxKept = 64 << 10
)

var (
	errNotText = errors.New("websocket: text message is not UTF-8")
	errEnded   = errors.New("websocket: session has ended")
	errLeft    = errors.New("websocket: connection has ended") // in an ordinary way
	errQuiet   = errors.New("websocket: nothing to read")
)

// conn is a connection of any kind: compressed, TLS, or behind somebody's wrapper. [tryConn] adds TryWrite.
type conn struct {
	wire      wire
	lib       *websocket.Conn
	session   transport.Session // nil when refused; set before anything reads
	transport *Transport
	info      transport.Info
	first     []byte      // the connect request that came with the URL
	limit     int         // bytes of one message
	closing   atomic.Bool // Close or the size limit has begun to end the connection
	connected bool        // a message has reached the session; the reader's

	mu      sync.Mutex    // guards below
	waiting bool          // the reader waits without the library; it does not begin to while closing
	stop    chan struct{} // if the closing side wants it to stop: it tells that it has, and is told to go on
}

var (
	_ door             = (*conn)(nil)
	_ transport.Pinger = (*conn)(nil)
)

// Info implements [transport.Conn].
func (c *conn) Info() transport.Info { return c.info }

// Write implements [transport.Conn].
func (c *conn) Write(frames []byte) error {
	var err error
	if c.wire.compressed {
		err = c.compress(frames)
	} else {
		err = c.wire.send(frames)
	}
	if err != nil {
		return fmt.Errorf("websocket: write: %w", err)
	}
	return nil
}

// compress writes prepared frames through the library, which makes its own from their payloads.
func (c *conn) compress(frames []byte) error {
	ctx, cancel := context.WithTimeout(context.Background(), c.wire.timeout)
	defer cancel()
	for len(frames) > 0 {
		if c.closing.Load() {
			return net.ErrClosed
		}
		op, payload, rest, err := nextFrame(frames)
		if err != nil {
			return err
		}
		switch op {
		case finPing:
			// Data frames of the library are written by this goroutine alone, so a ping cannot cut into one.
			err = c.wire.send(frames[:len(frames)-len(rest)])
		case finBinary:
			err = c.lib.Write(ctx, websocket.MessageBinary, payload)
		default:
			err = c.lib.Write(ctx, websocket.MessageText, payload)
		}
		if err != nil {
			return err
		}
		frames = rest
	}
	return nil
}

// AppendPing implements [transport.Pinger].
func (c *conn) AppendPing(dst []byte) []byte { return appendPing(dst) }

// pong is called by the library when it has read a pong: on the reading goroutine, or, when that is blocked in Receive
// while the connection closes, on the one in Close.
func (c *conn) pong(_ context.Context, payload []byte) {
	if string(payload) == pingPayload && !c.closing.Load() {
		c.session.Pong()
	}
}

// Close implements [transport.Conn]. It waits for a blocked Write until that one's timeout, then for the peer's close
// frame. If the peer does not take what comes before the close frame in time, the connection is dropped. Codes that a
// close frame cannot carry are sent as 1011. Calls after the first return at once; with code 0 they hurry the first.
func (c *conn) Close(code uint32, reason string) error {
	first := c.closing.CompareAndSwap(false, true)
	if code == 0 {
		c.wire.drop()
		return nil
	}
	if !first {
		return nil
	}
	if err := c.shut(closeCode(code), transport.CloseReason(reason)); err != nil {
		return fmt.Errorf("websocket: close: %w", err)
	}
	return nil
}

// shut makes the closing handshake and closes the connection, whatever happens. It is called once, with closing set.
func (c *conn) shut(code websocket.StatusCode, reason string) error {
	// The library reads what is left of a message without any limit of time.
	c.limitReading(closeWait + 2*c.wire.timeout)
	err := c.lib.Close(code, reason)
	if websocket.CloseStatus(err) != -1 { // the peer answered with another code
		return nil
	}
	return err
}

// refuse ends a connection that got no session.
func (c *conn) refuse(code websocket.StatusCode, reason string) {
	c.closing.Store(true)
	_ = c.shut(code, reason)
}

// start lets a goroutine read. It ends with the connection, which each side, the session and every failed read or write can
// end.
func (c *conn) start(s transport.Session) {
	c.session = s
	go c.run()
}

// abandon drops a connection that nobody knows.
func (c *conn) abandon() {
	c.wire.drop()
	_ = c.lib.CloseNow()
}

// outside returns the connection in the form that fits its abilities.
func (c *conn) outside() transport.Conn {
	if c.wire.compressed {
		return c
	}
	if t := newTryConn(c); t != nil {
		return t
	}
	return c
}

// run reads until there is nothing to read, and then leaves the waiting to a fresh goroutine, because a stack that the
// library and the session have grown hardly ever shrinks. It turns a panic of the session into the end of this one
// connection, as [net/http] does for handlers.
func (c *conn) run() {
	var err error
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("websocket: panic in session: %v\n%s", p, debug.Stack())
		}
		if err == errQuiet {
			return
		}
		_ = c.lib.CloseNow() // waits for a Close that is under way
		c.session.Closed(err)
	}()
	switch err = c.read(); {
	case err == errQuiet:
		go c.wait() // in place of this one
	case errors.Is(err, errLeft):
		err = nil
	case errors.Is(err, errEnded):
		c.drain()
		err = nil
	case errors.Is(err, transport.ErrTooLarge):
		c.shutOnce(websocket.StatusMessageTooBig)
	case errors.Is(err, errNotText):
		c.shutOnce(websocket.StatusInvalidFramePayloadData)
	}
}

// shutOnce ends the connection for a fault of the peer. Clients expect no reason (spec 2.4).
func (c *conn) shutOnce(code websocket.StatusCode) {
	if c.closing.CompareAndSwap(false, true) {
		_ = c.shut(code, "")
	}
}

// read passes messages to the session until one of both ends.
func (c *conn) read() error {
	if first := c.first; first != nil {
		c.first, c.connected = nil, true
		if c.session.Receive(first) != nil {
			return errEnded
		}
	}
	for {
		if c.quiet() {
			return errQuiet
		}
		kind, r, err := c.lib.Reader(context.Background())
		if err != nil {
			return c.cause(err)
		}
		// Unidirectional clients have nothing to say after their connect request.
		if err := c.message(kind, r, c.info.Unidirectional && c.connected); err != nil {
			return err
		}
		c.connected = true
	}
}

// message takes one message. The buffer is fetched now, so that no idle connection holds one.
func (c *conn) message(kind websocket.MessageType, r io.Reader, ignore bool) error {
	buffer, _ := c.transport.buffers.Get().(*[]byte)
	if buffer == nil {
		buffer = new([]byte)
		*buffer = make([]byte, 0, minRead)
	}
	frame, err := c.readAll(r, (*buffer)[:0])
	switch {
	case err != nil:
		return err
	case kind == websocket.MessageText && !utf8.Valid(frame):
		return errNotText
	case ignore || c.closing.Load():
	case c.session.Receive(frame) != nil:
		return errEnded
	}
	if cap(frame) <= maxKept {
		*buffer = frame
		c.transport.buffers.Put(buffer)
	}
	return nil
}

func (c *conn) readAll(r io.Reader, p []byte) ([]byte, error) {
	for {
		if len(p) == cap(p) {
			p = slices.Grow(p, minRead)
		}
		n, err := r.Read(p[len(p):cap(p)])
		p = p[:len(p)+n]
		switch {
		case len(p) > c.limit:
			return nil, transport.ErrTooLarge
		case err == io.EOF && c.wire.ended.Load():
			// To the library, a connection that ends between two reads of a message is the end of that message.
			return nil, c.cause(io.ErrUnexpectedEOF)
		case err == io.EOF:
			return p, nil
		case err != nil:
			return nil, c.cause(err)
		}
	}
}

// drain reads on after the session has ended, because the core is about to call Close, and the peer's part of the
// closing handshake has to be read. It does not wait for that for ever.
func (c *conn) drain() {
	_ = c.wire.SetReadDeadline(time.Now().Add(2*closeWait + 2*c.wire.timeout))
	for {
		_, r, err := c.lib.Reader(context.Background())
		if err == nil {
			_, err = io.Copy(io.Discard, r)
		}
		if err != nil {
			return
		}
	}
}

// cause says why reading ended: errLeft if we closed, or the peer left in an ordinary way.
func (c *conn) cause(err error) error {
	switch code := websocket.CloseStatus(err); {
	case c.closing.Load(), errors.Is(err, io.EOF):
		return errLeft
	case code == websocket.StatusNormalClosure, code == websocket.StatusGoingAway, code == websocket.StatusNoStatusRcvd,
		code >= 3000:
		return errLeft
	}
	return fmt.Errorf("websocket: read: %w", err)
}
