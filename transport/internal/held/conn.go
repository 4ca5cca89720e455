package held

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/fanfare-go/fanfare/transport"
)

const (
	// maxPiece is how much must be taken within the write timeout. A long recovery may take a slow peer longer.
	maxPiece = 16 << 10
	// maxPending is how much is taken over from those who do not wait.
	maxPending = 16 << 10
	// closeTimeout is how long the core may take to close a connection after it was told that nothing can be written.
	closeTimeout = 5 * time.Second
	// maxKept is the largest buffer that an idle connection keeps.
	maxKept = 2 << 10
)

// conn is a response that is held open. Its handler's goroutine writes, as middleware expects it, and sleeps when there is
// nothing to write: to hand it a message costs a copy, and neither a goroutine nor an allocation.
type conn struct {
	stream Stream
	http1  bool
	w      http.ResponseWriter // the handler's
	rc     *http.ResponseController
	done   chan struct{} // closed by Close, or at the end
	news   chan struct{} // holds a token if there is something to write

	closing sync.Once

	returning sync.Mutex // held for single calls; guards returned
	returned  bool       // the handler is about to return

	// The handler's goroutine alone:
	begun bool   // the header is written
	buf   []byte // being written

	mu      sync.Mutex // guards below; held for moments
	pending []byte     // to be written
	large   *write     // to be written behind it; whoever wants that waits for it
	over    bool       // nothing is taken over any more
	gone    bool       // the session is about to be told of the end: what is still said is for nobody
	until   time.Time  // the end of all writing, once it is over
	dropped bool       // without the end of the body
	broken  error      // why nothing can be written any more
}

// write is what a caller of Write waits for.
type write struct {
	frames []byte
	done   chan error // of capacity 1
}

var (
	_ transport.Conn      = (*conn)(nil)
	_ transport.TryWriter = (*conn)(nil)
)

func newConn(s Stream, w http.ResponseWriter, r *http.Request) *conn {
	return &conn{stream: s, w: w, rc: http.NewResponseController(w), http1: r.ProtoMajor == 1,
		done: make(chan struct{}), news: make(chan struct{}, 1)}
}

// Info implements [transport.Conn].
func (c *conn) Info() transport.Info { return c.stream.Info }

// run sends what comes first, gives the session the peer's first frame, and writes until there is an end.
func (c *conn) run(r *http.Request, session transport.Session, first []byte) error {
	if c.stream.Interpreter == nil { // else the peer may still be refused
		if err := c.write(c.begin()); err != nil {
			return err
		}
	}
	open := session.Receive(first) == nil // or else the core closes it
	for open {
		select {
		case <-c.done:
			open = false
		case <-c.news:
			if told, err := c.writeNews(); err != nil {
				return c.failed(told, err)
			}
			open = c.interpret(session)
		case <-r.Context().Done():
			if err := context.Cause(r.Context()); !errors.Is(err, context.Canceled) {
				return fmt.Errorf("%s: %w", c.stream.Info.Name, err)
			}
			return nil // the peer has left: there is no other way to do that
		}
	}
	return c.drain()
}

// drain writes what comes until the core has closed the connection.
func (c *conn) drain() error {
	for {
		if told, err := c.writeNews(); err != nil {
			return c.failed(told, err)
		}
		if i := c.stream.Interpreter; i != nil {
			if _, over := i.Commands(); over {
				return nil
			}
		}
		select {
		case <-c.done:
			_, err := c.writeNews() // all that there is: nothing is taken over now
			return err
		case <-c.news:
		}
	}
}

// failed returns how the connection ended after a write that failed. If the core was told, it closes the connection, which is
// waited for, but not for ever.
func (c *conn) failed(told bool, err error) error {
	if !told {
		return err
	}
	timer := time.NewTimer(closeTimeout)
	defer timer.Stop()
	select {
	case <-c.done:
		return nil
	case <-timer.C:
		return err
	}
}

// interpret gives the session what the interpreter has to say, and reports whether the connection goes on.
func (c *conn) interpret(session transport.Session) bool {
	if c.stream.Interpreter == nil {
		return true
	}
	commands, over := c.stream.Interpreter.Commands()
	return !over && (len(commands) == 0 || session.Receive(commands) == nil)
}

// begin writes the header, and returns what comes first.
func (c *conn) begin() []byte {
	c.begun = true
	h := c.w.Header()
	if c.stream.ContentType != "" {
		h.Set("Content-Type", c.stream.ContentType)
	}
	NoStore(h)
	h.Set("X-Accel-Buffering", "no") // nginx
	if c.http1 {
		h.Set("Connection", "close") // it has lasted long enough
	}
	c.w.WriteHeader(http.StatusOK)
	return []byte(c.stream.Prelude)
}

// TryWrite implements [transport.TryWriter]. It takes all or nothing.
func (c *conn) TryWrite(frames []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.gone:
		return len(frames), nil
	case c.broken != nil:
		return 0, c.broken
	case c.over:
		return 0, net.ErrClosed
	case c.large != nil || len(c.pending)+len(frames) > maxPending:
		return 0, nil
	}
	c.pending = append(c.pending, frames...)
	c.tell()
	return len(frames), nil
}

// Write implements [transport.Conn].
func (c *conn) Write(frames []byte) error {
	w := &write{frames, make(chan error, 1)}
	c.mu.Lock()
	switch {
	case c.gone:
		defer c.mu.Unlock()
		return nil
	case c.broken != nil:
		defer c.mu.Unlock()
		return c.broken
	case c.over:
		defer c.mu.Unlock()
		return net.ErrClosed
	}
	c.large = w
	c.tell()
	c.mu.Unlock()
	return <-w.done
}

func (c *conn) tell() {
	select {
	case c.news <- struct{}{}:
	default:
	}
}

// writeNews writes what there is. It reports whether somebody waited, and has been told of the error.
func (c *conn) writeNews() (told bool, err error) {
	c.mu.Lock()
	c.buf, c.pending = c.pending, c.buf[:0]
	w := c.large
	c.mu.Unlock()
	err = c.pass(c.buf)
	if c.buf = c.buf[:0]; cap(c.buf) > maxKept {
		c.buf = nil
	}
	if w == nil {
		return false, err
	}
	if err == nil {
		err = c.pass(w.frames)
	}
	c.mu.Lock()
	c.large = nil
	c.mu.Unlock()
	w.done <- err
	return true, err
}

// pass writes frames as the peer is to get them.
func (c *conn) pass(frames []byte) error {
	i := c.stream.Interpreter
	if i == nil || len(frames) == 0 {
		return c.writeIfAny(frames)
	}
	for {
		out, rest, err := i.Take(frames)
		if err != nil {
			return c.fail(err)
		}
		if err := c.writeIfAny(out); err != nil || len(frames) == 0 {
			return err
		}
		if len(out) == 0 && len(rest) == len(frames) {
			return c.fail(errors.New("the interpreter takes nothing")) // or this would go on for ever
		}
		frames = rest
	}
}

func (c *conn) writeIfAny(frames []byte) error {
	if len(frames) == 0 {
		return nil
	}
	if !c.begun {
		frames = append(c.begin(), frames...)
	}
	return c.write(frames)
}

// write writes and flushes.
func (c *conn) write(frames []byte) error {
	for {
		piece := frames[:min(len(frames), maxPiece)]
		frames = frames[len(piece):]
		if err := c.writePiece(piece); err != nil {
			return c.fail(err)
		}
		if len(frames) == 0 {
			break
		}
	}
	// With HTTP/2 a deadline ends the stream when it comes, whether somebody writes or not.
	_ = c.deadline(time.Time{})
	return nil
}

func (c *conn) writePiece(piece []byte) error {
	// A server whose connections know no deadlines, as in tests, is left to its own.
	if err := c.deadline(c.writeBy()); err != nil && !errors.Is(err, http.ErrNotSupported) {
		return err
	}
	c.mu.Lock()
	dropped := c.dropped
	c.mu.Unlock()
	if dropped { // and that deadline came after the one of Close
		return net.ErrClosed
	}
	if len(piece) > 0 {
		if _, err := c.w.Write(piece); err != nil {
			return err
		}
	}
	return c.rc.Flush()
}

// writeBy is when the write that begins must be through.
func (c *conn) writeBy() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	by := time.Now().Add(c.stream.WriteTimeout)
	if !c.until.IsZero() && c.until.Before(by) {
		return c.until
	}
	return by
}

func (c *conn) fail(err error) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.broken = fmt.Errorf("%s: %w: %w", c.stream.Info.Name, transport.ErrWrite, err)
	return c.broken
}

// Close implements [transport.Conn]. Code and reason have been written as a push (see [transport.Info.ClosePush]), unless the
// peer does not read.
func (c *conn) Close(code uint32, _ string) error {
	c.mu.Lock()
	if !c.over {
		c.over, c.until = true, time.Now().Add(c.stream.WriteTimeout)
	}
	c.dropped = c.dropped || code == 0
	c.mu.Unlock()
	if code == 0 {
		_ = c.deadline(time.Now()) // for a write that is under way
	}
	c.closing.Do(func() { close(c.done) })
	return nil
}

// deadline bounds the write that is under way, and the next ones, until another is set. It does nothing once the response is
// the server's again.
func (c *conn) deadline(t time.Time) error {
	c.returning.Lock()
	defer c.returning.Unlock()
	if c.returned {
		return nil
	}
	return c.rc.SetWriteDeadline(t)
}

// finish lets go of the response, which is the server's again when the handler returns.
func (c *conn) finish() {
	c.mu.Lock()
	w := c.large
	c.large = nil
	ordinary := c.broken == nil && !c.dropped
	c.gone = ordinary && !c.over
	c.over = true
	gone := c.gone
	c.mu.Unlock()
	switch {
	case w == nil:
	case gone:
		w.done <- nil
	default:
		w.done <- net.ErrClosed
	}
	c.closing.Do(func() { close(c.done) })
	if i := c.stream.Interpreter; i != nil && !c.begun {
		i.Refuse(c.w)
	}
	end := time.Now() // of the body
	if ordinary {
		end = end.Add(c.stream.WriteTimeout)
	}
	_ = c.deadline(end)
	c.returning.Lock()
	defer c.returning.Unlock()
	c.returned = true
}
