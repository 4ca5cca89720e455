package websocket

import (
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/coder/websocket"

	"github.com/fanfare-go/fanfare/transport"
)

// The states of a dense connection, for its reading.
const (
	stateRunning = 1 << iota // a worker has it, or is about to
	stateAgain               // something has happened since the worker looked last
	stateOver                // the peer or the network has ended it: read until that shows
	stateDropped             // we have ended it: do not read on
)

// dense is a connection of a plain socket that costs nothing but itself while it is quiet: no goroutine waits for it,
// and it holds no buffer. The poller reports when its socket has something to read, and a worker of the pool then reads,
// alone until it gives the connection back.
type dense struct {
	transport *Transport
	poller    *poller
	session   transport.Session // nil when refused; set before start
	next      *dense            // in the pool's queue, and the pool's to use
	waiter    chan struct{}     // closed when the socket becomes writable; guarded by poller.mu

	state atomic.Uint32
	slot  int32 // in the poller

	// The worker's, which has the connection while stateRunning is set.
	opening *opening // what comes before anything is read; nil afterwards
	parser  *parser  // nil between messages
	cause   error    // why we have ended the connection, if not by Close

	mu      sync.Mutex // held for single system calls, never while waiting; guards below
	pending *pending   // nil if nothing waits to be written
	broken  error      // why nothing can be written any more
	timer   *time.Timer
	fd      int32
	sealed  bool // a close frame was written, or is being written
	gone    bool // the socket is closed

	closing    atomic.Bool // Close, or a breach by the peer, has begun to end the connection
	encoding   transport.Encoding
	nativePing bool
	connected  bool // a message has reached the session; the worker's
	ended      bool // the session takes no more; the worker's
	parted     bool // the peer's close frame came while ours was on its way; the worker's
}

// opening is what came together with the request.
type opening struct {
	first []byte // the connect request of a unidirectional connection
	early []byte // what the server had read before the hijack
}

var (
	_ door                = (*dense)(nil)
	_ transport.TryWriter = (*dense)(nil)
	_ transport.Pinger    = (*dense)(nil)
)

// Info implements [transport.Conn].
func (c *dense) Info() transport.Info {
	return c.transport.info(offer{encoding: c.encoding, nativePing: c.nativePing})
}

// AppendPing implements [transport.Pinger].
func (c *dense) AppendPing(dst []byte) []byte { return appendPing(dst) }

func (c *dense) outside() transport.Conn { return c }

func (c *dense) start(s transport.Session) {
	c.session = s
	c.poller.pool.submit(c)
}

func (c *dense) refuse(code websocket.StatusCode, reason string) {
	c.closing.Store(true)
	c.poller.pool.submit(c)
	_ = c.shut(uint16(code), reason, closeWait)
}

func (c *dense) abandon() {
	c.closing.Store(true)
	c.drop()
	c.poller.pool.submit(c)
}

// Close implements [transport.Conn]. It waits until the peer has taken what comes before the close frame, at most for
// the write timeout, but not for its answer: that is read, and waited for, by the engine.
func (c *dense) Close(code uint32, reason string) error {
	first := c.closing.CompareAndSwap(false, true)
	if code == 0 {
		c.drop()
		return nil
	}
	if !first {
		return nil
	}
	if err := c.shut(uint16(closeCode(code)), transport.CloseReason(reason), closeWait); err != nil {
		return fmt.Errorf("websocket: close: %w", err)
	}
	return nil
}

// shut sends a close frame, and gives the peer some time to answer.
func (c *dense) shut(code uint16, reason string, wait time.Duration) error {
	err := c.seal(appendClose(nil, code, reason))
	switch {
	case errors.Is(err, errSealed):
		return nil // the peer was first
	case err != nil:
		c.drop()
		return err
	}
	c.dropAfter(wait)
	c.kick(stateAgain) // the peer's close frame may have come in between
	return nil
}

// dropAfter ends the connection some time from now.
func (c *dense) dropAfter(wait time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.gone {
		return
	}
	if c.timer != nil {
		c.timer.Stop()
	}
	c.timer = time.AfterFunc(wait, c.drop)
}

// drop ends the connection without a word and without waiting. The worker that has it then, or gets it, closes the socket.
func (c *dense) drop() {
	c.mu.Lock()
	if !c.gone {
		if c.broken == nil {
			c.broken = net.ErrClosed
		}
		_ = syscall.Shutdown(int(c.fd), syscall.SHUT_RDWR)
	}
	c.mu.Unlock()
	c.awaken()
	c.kick(stateDropped | stateAgain)
}

// mark notes what has happened, and reports whether a worker is wanted.
func (c *dense) mark(state uint32) bool { return c.state.Or(stateRunning|state)&stateRunning == 0 }

// kick marks the connection and finds it a worker.
func (c *dense) kick(state uint32) {
	if c.mark(state) {
		c.poller.pool.submit(c)
	}
}

// finish closes the socket and tells the session, as the last thing that happens to the connection: it keeps
// stateRunning, so that no worker gets it again.
func (c *dense) finish(err error) {
	c.mu.Lock()
	c.gone = true
	if c.broken == nil {
		c.broken = net.ErrClosed
	}
	if c.timer != nil {
		c.timer.Stop()
	}
	c.poller.remove(c)
	_ = syscall.Close(int(c.fd))
	c.mu.Unlock()
	c.parser, c.opening = nil, nil
	defer c.transport.engine.leave()
	if c.session != nil {
		c.session.Closed(err)
	}
}

// ending says why the connection has ended, in the session's terms: nil for an ordinary end.
func (c *dense) ending(err error) error {
	switch {
	case c.cause != nil:
		return c.cause
	case c.ended, c.closing.Load(), errors.Is(err, errLeft):
		return nil
	case err == io.EOF && c.parser == nil:
		return nil
	case err == io.EOF:
		err = io.ErrUnexpectedEOF
	}
	return fmt.Errorf("websocket: read: %w", err)
}
