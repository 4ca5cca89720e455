package fanfaretest

import (
	"errors"
	"io"
	"net/http"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/fanfare-go/fanfare/transport"
)

var errGone = errors.New("fanfaretest: connection is closed")

// lines is a framing of one message per line.
type lines struct{}

func (lines) AppendFrame(dst []byte, messages ...[]byte) []byte {
	for _, m := range messages {
		dst = append(append(dst, m...), '\n')
	}
	return dst
}

// memory is a transport for one connection, made for one client.
type memory struct{ conn *conn }

func (m memory) Name() string { return m.conn.info.Name }

func (m memory) Serve(w http.ResponseWriter, r *http.Request, a transport.Acceptor) {
	if err := a.Ready(); err != nil {
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
		return
	}
	if !a.CheckOrigin(r) {
		http.Error(w, "origin not allowed", http.StatusForbidden)
		return
	}
	session, err := a.Accept(r, m.conn)
	if err != nil {
		status := http.StatusInternalServerError
		if errors.Is(err, transport.ErrUnavailable) {
			status = http.StatusServiceUnavailable
		}
		a.Report(r, m.Name(), err)
		http.Error(w, err.Error(), status)
		return
	}
	m.conn.started = true
	go m.conn.read(session) // ends when either side closes; the client's cleanup waits for it
}

// conn is both ends of a connection. What the server writes goes straight to the receiver, on the server's goroutine;
// what the client sends is queued without a bound, and taken by a goroutine of its own.
type conn struct {
	info         transport.Info
	writeTimeout time.Duration
	receive      func(frames []byte) // what the server wrote
	closed       func(code uint32, reason string)
	report       func(violation string) // the server has broken the contract of transport.Conn

	started bool          // a session runs; settled when the handler has returned
	gone    chan struct{} // closed when the session has ended
	done    chan struct{} // closed when either side has closed
	wake    chan struct{} // holds a token when the reader has something to look at
	writing atomic.Bool

	mu      sync.Mutex // guards below
	inbound [][]byte
	ended   bool     // done is closed
	server  *closing // what the server said, unless the client left first
	closes  int
	credit  int           // bytes that the client still takes; negative is no limit
	resumed chan struct{} // closed when credit changes
}

type closing struct {
	code   uint32
	reason string
}

func newConn(info transport.Info, writeTimeout time.Duration) *conn {
	return &conn{
		info:         info,
		writeTimeout: writeTimeout,
		gone:         make(chan struct{}),
		done:         make(chan struct{}),
		wake:         make(chan struct{}, 1),
		credit:       -1,
		resumed:      make(chan struct{}),
	}
}

var (
	_ transport.Conn      = (*conn)(nil)
	_ transport.TryWriter = (*conn)(nil)
)

func (c *conn) Info() transport.Info { return c.info }

func (c *conn) TryWrite(frames []byte) (int, error) {
	defer c.alone("TryWrite")()
	n, _, err := c.take(frames)
	return n, err
}

func (c *conn) Write(frames []byte) error {
	defer c.alone("Write")()
	var timeout <-chan time.Time
	for {
		n, resumed, err := c.take(frames)
		frames = frames[n:]
		if err != nil || len(frames) == 0 {
			return err
		}
		if timeout == nil {
			timer := time.NewTimer(c.writeTimeout)
			defer timer.Stop()
			timeout = timer.C
		}
		select {
		case <-resumed:
		case <-c.done:
			return errGone
		case <-timeout:
			return os.ErrDeadlineExceeded
		}
	}
}

// alone reports writes that overlap, which the contract rules out.
func (c *conn) alone(method string) (release func()) {
	if !c.writing.CompareAndSwap(false, true) {
		c.report(method + " overlaps with another write to the same connection")
		return func() {}
	}
	return func() { c.writing.Store(false) }
}

// take hands over as many of the bytes as the client takes now.
func (c *conn) take(frames []byte) (n int, resumed <-chan struct{}, err error) {
	c.mu.Lock()
	if c.ended {
		c.mu.Unlock()
		return 0, nil, errGone
	}
	n = len(frames)
	if c.credit >= 0 {
		n = min(n, c.credit)
		c.credit -= n
	}
	resumed = c.resumed
	c.mu.Unlock()
	if n > 0 {
		c.receive(frames[:n])
	}
	return n, resumed, nil
}

func (c *conn) Close(code uint32, reason string) error {
	c.mu.Lock()
	c.closes++
	again := c.closes > 1
	if !c.ended {
		c.server = &closing{code, reason}
		c.end()
	}
	c.mu.Unlock()
	if again {
		c.report("Close is called twice")
		return errGone
	}
	c.closed(code, reason)
	return nil
}

// vanish ends the connection from the client's side.
func (c *conn) vanish() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.end()
}

// end wants c.mu.
func (c *conn) end() {
	if !c.ended {
		c.ended = true
		close(c.done)
	}
}

// state tells whether the connection has ended, and how the server closed it, if it did.
func (c *conn) state() (ended bool, server *closing) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.ended, c.server
}

// limit sets how many more bytes the client takes.
func (c *conn) limit(credit int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.credit = credit
	close(c.resumed)
	c.resumed = make(chan struct{})
}

// send queues a frame for the server, and keeps it.
func (c *conn) send(frame []byte) {
	c.mu.Lock()
	if !c.ended {
		c.inbound = append(c.inbound, frame)
	}
	c.mu.Unlock()
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

func (c *conn) read(s transport.Session) {
	defer close(c.gone)
	for {
		frame, ok := c.next()
		if !ok {
			break
		}
		err := s.Receive(frame)
		for i := range frame {
			frame[i] = '!' // a session that keeps the frame shall notice
		}
		if err != nil {
			<-c.done // the session has closed the connection, or is about to
			break
		}
	}
	if _, server := c.state(); server != nil {
		s.Closed(nil)
		return
	}
	s.Closed(io.ErrUnexpectedEOF)
}

// next waits for a frame of the client. What was sent before the client vanished still arrives.
func (c *conn) next() (frame []byte, ok bool) {
	for {
		c.mu.Lock()
		if c.server == nil && len(c.inbound) > 0 {
			frame, c.inbound = c.inbound[0], c.inbound[1:]
			c.mu.Unlock()
			return frame, true
		}
		ended := c.ended
		c.mu.Unlock()
		if ended {
			return nil, false
		}
		select {
		case <-c.wake:
		case <-c.done:
		}
	}
}
