package transporttest

import (
	"context"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare/transport"
)

// Acceptor plays the core. Set its fields before the first request. At the end of the test it fails unless every session
// saw its calls one at a time, and Closed once and last.
type Acceptor struct {
	Unready   error // what Ready returns
	Foreign   bool  // CheckOrigin refuses
	AcceptErr error // what Accept returns

	// Receive and Pong, if not nil, are called for each frame and each answer, in the session's own goroutine.
	Receive func(s *Session, frame []byte) error
	Pong    func(s *Session)

	sessions chan *Session

	mu      sync.Mutex // guards below
	all     []*Session
	reports []error
}

// NewAcceptor returns an acceptor that accepts everything.
func NewAcceptor(t testing.TB) *Acceptor {
	a := &Acceptor{sessions: make(chan *Session, 64)}
	t.Cleanup(func() { a.verify(t) })
	return a
}

var _ transport.Acceptor = (*Acceptor)(nil)

// Ready implements [transport.Acceptor].
func (a *Acceptor) Ready() error { return a.Unready }

// CheckOrigin implements [transport.Acceptor].
func (a *Acceptor) CheckOrigin(*http.Request) bool { return !a.Foreign }

// Forward implements [transport.Acceptor]. It knows no other node, and no session.
func (a *Acceptor) Forward(context.Context, string, string, []byte) error {
	return transport.ErrUnknownNode
}

// Report implements [transport.Acceptor].
func (a *Acceptor) Report(_ *http.Request, _ string, err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.reports = append(a.reports, err)
}

// Reports returns what was reported so far.
func (a *Acceptor) Reports() []error {
	a.mu.Lock()
	defer a.mu.Unlock()
	return append([]error(nil), a.reports...)
}

// Accept implements [transport.Acceptor].
func (a *Acceptor) Accept(r *http.Request, conn transport.Conn) (transport.Session, error) {
	if a.AcceptErr != nil {
		return nil, a.AcceptErr
	}
	s := &Session{
		Conn: conn, Request: r, acceptor: a,
		frames: make(chan []byte, 4096), pongs: make(chan struct{}, 64), ended: make(chan struct{}),
	}
	a.mu.Lock()
	a.all = append(a.all, s)
	a.mu.Unlock()
	a.sessions <- s
	return s, nil
}

// Next waits for the next session.
func (a *Acceptor) Next(t testing.TB) *Session {
	t.Helper()
	select {
	case s := <-a.sessions:
		return s
	case <-time.After(patience):
		t.Fatal("no session was accepted")
		return nil
	}
}

func (a *Acceptor) verify(t testing.TB) {
	a.mu.Lock()
	all := a.all
	a.mu.Unlock()
	for _, s := range all {
		select {
		case <-s.ended:
		case <-time.After(patience):
			t.Error("a session never got its Closed")
		}
		if s.overlaps.Load() > 0 {
			t.Error("calls of one session overlapped")
		}
		if s.late.Load() > 0 {
			t.Error("a session got calls after Closed")
		}
	}
}

// Session plays the core's side of one connection, and keeps what it is told.
type Session struct {
	Conn    transport.Conn
	Request *http.Request

	acceptor *Acceptor
	frames   chan []byte
	pongs    chan struct{}
	ended    chan struct{} // closed by Closed
	cause    error         // what Closed was told; set before ended

	busy, closed   atomic.Bool
	overlaps, late atomic.Int32
}

var _ transport.Session = (*Session)(nil)

func (s *Session) enter() {
	if !s.busy.CompareAndSwap(false, true) {
		s.overlaps.Add(1)
	}
	if s.closed.Load() {
		s.late.Add(1)
	}
}

// Receive implements [transport.Session].
func (s *Session) Receive(frame []byte) error {
	s.enter()
	defer s.busy.Store(false)
	s.frames <- append([]byte(nil), frame...)
	if s.acceptor.Receive != nil {
		return s.acceptor.Receive(s, frame)
	}
	return nil
}

// Pong implements [transport.Session].
func (s *Session) Pong() {
	s.enter()
	defer s.busy.Store(false)
	if s.acceptor.Pong != nil {
		s.acceptor.Pong(s)
	}
	s.pongs <- struct{}{}
}

// Closed implements [transport.Session].
func (s *Session) Closed(err error) {
	s.enter()
	defer s.busy.Store(false)
	if s.closed.CompareAndSwap(false, true) { // enter has counted a second call
		s.cause = err
		close(s.ended)
	}
}

// Frame waits for the next frame of the peer.
func (s *Session) Frame(t testing.TB) []byte {
	t.Helper()
	select {
	case f := <-s.frames:
		return f
	case <-time.After(patience):
		t.Fatal("no frame was received")
		return nil
	}
}

// Frames reports how many frames wait to be taken by Frame.
func (s *Session) Frames() int { return len(s.frames) }

// Ponged waits for the peer's next answer to a native ping.
func (s *Session) Ponged(t testing.TB) {
	t.Helper()
	select {
	case <-s.pongs:
	case <-time.After(patience):
		t.Fatal("no answer to the ping")
	}
}

// Ended waits for Closed and returns its argument.
func (s *Session) Ended(t testing.TB) error {
	t.Helper()
	select {
	case <-s.ended:
		return s.cause
	case <-time.After(patience):
		t.Fatal("the session was not closed")
		return nil
	}
}

// Send writes messages as one frame, or as few as the framing makes of them.
func (s *Session) Send(t testing.TB, messages ...[]byte) {
	t.Helper()
	require.NoError(t, s.Conn.Write(s.Conn.Info().Framing.AppendFrame(nil, messages...)))
}
