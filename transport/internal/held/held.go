// Package held keeps an HTTP response open and writes frames into it: what HTTP streaming and server-sent events have in
// common (spec 8.2, 8.3, 8.5, 8.6).
package held

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/fanfare-go/fanfare/transport"
)

// Stream is how the responses of one door look.
type Stream struct {
	Info         transport.Info
	ContentType  string        // of the response; empty for none
	Prelude      string        // what comes before everything else
	WriteTimeout time.Duration // of each write
	Interpreter  Interpreter   // nil if the peer speaks the protocol
}

// Interpreter stands between the core and a peer that does not speak the protocol. Its methods are not called at once.
type Interpreter interface {
	// Take takes frames from the core and returns what the peer gets for them, in memory that is valid until the next call.
	// While the peer may still be refused that is nothing, and the response does not begin. ask says that Commands has news.
	Take(frames []byte) (out []byte, ask bool, err error)
	// Commands returns what is to be said to the core since the last call, or that the connection is over.
	Commands() (frame []byte, over bool)
	// Refuse answers the request of a peer that got nothing, because of what was taken or because the node has shut down.
	Refuse(w http.ResponseWriter)
}

// maxPiece is how much must be taken within the write timeout. A long recovery may take a slow peer longer.
const maxPiece = 16 << 10

// Serve answers a request with a connection, and returns when that has ended. first is the peer's first frame.
func (s Stream) Serve(w http.ResponseWriter, r *http.Request, a transport.Acceptor, first []byte) {
	if err := a.Ready(); err != nil {
		s.unavailable(w)
		return
	}
	if err := flushes(w); err != nil {
		a.Report(r, s.Info.Name, err)
		http.Error(w, err.Error(), http.StatusNotImplemented)
		return
	}
	c := &conn{stream: s, w: w, rc: http.NewResponseController(w), http1: r.ProtoMajor == 1, done: make(chan struct{}), more: make(chan struct{}, 1)}
	// The server's timeouts are meant for requests that end; with the one for reading over, the request's context ends.
	_ = c.rc.SetReadDeadline(time.Time{})
	var session transport.Session
	var cause error
	defer func() { // also when the session or the writer panics, which is net/http's to report
		if session != nil {
			c.finish()
			session.Closed(cause)
		}
	}()
	switch err := c.open(r, a, &session); {
	case session != nil && err == nil:
		cause = c.run(r, session, first)
	case session != nil:
		cause = err
	case errors.Is(err, transport.ErrUnavailable):
		s.unavailable(w)
	default:
		a.Report(r, s.Info.Name, err)
		http.Error(w, "internal server error", http.StatusInternalServerError)
	}
}

func (s Stream) unavailable(w http.ResponseWriter) {
	if s.Interpreter != nil {
		s.Interpreter.Refuse(w)
		return
	}
	http.Error(w, "shutting down", http.StatusServiceUnavailable)
}

// conn is a response that is held open. Its handler's goroutine waits until it is over; whoever writes holds mu, at most for
// the write timeout.
type conn struct {
	stream Stream
	http1  bool
	rc     *http.ResponseController
	done   chan struct{} // closed by Close
	more   chan struct{} // holds a token if the interpreter has something to say

	closing sync.Once

	returning sync.Mutex // held for single calls; guards returned
	returned  bool       // the handler is about to return

	mu      sync.Mutex // guards below
	w       http.ResponseWriter
	begun   bool  // the header is written
	over    bool  // nothing may be written any more
	dropped bool  // without the end of the body
	broken  error // why nothing can be written any more
}

var _ transport.Conn = (*conn)(nil)

// Info implements [transport.Conn].
func (c *conn) Info() transport.Info { return c.stream.Info }

// open introduces the connection to the core, and sends the header and what comes first, unless the peer may still be refused.
// From Accept on others may write, so they wait for that. There is a session if the error is one of writing.
func (c *conn) open(r *http.Request, a transport.Acceptor, session *transport.Session) (err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if *session, err = a.Accept(r, c); err != nil {
		*session = nil
		return err
	}
	if c.stream.Interpreter != nil {
		return nil
	}
	return c.write(c.begin())
}

// begin writes the header, and returns what comes first. The lock is held.
func (c *conn) begin() []byte {
	c.begun = true
	h := c.w.Header()
	if c.stream.ContentType != "" {
		h.Set("Content-Type", c.stream.ContentType)
	}
	NoStore(h)
	h.Set("X-Accel-Buffering", "no") // nginx
	if c.http1 {
		h.Set("Connection", "close") // its deadlines would be the next request's
	}
	c.w.WriteHeader(http.StatusOK)
	return []byte(c.stream.Prelude)
}

// run gives the session its first frame, and waits for an end.
func (c *conn) run(r *http.Request, session transport.Session, first []byte) error {
	if err := session.Receive(first); err != nil {
		<-c.done // the core closes it
		return nil
	}
	for {
		select {
		case <-c.done:
			return nil
		case <-c.more:
			if c.interpret(session) {
				return nil
			}
			continue
		case <-r.Context().Done():
		}
		if err := context.Cause(r.Context()); !errors.Is(err, context.Canceled) {
			return fmt.Errorf("%s: %w", c.stream.Info.Name, err)
		}
		return nil // the peer has left: there is no other way to do that
	}
}

// interpret gives the session what the interpreter has to say, and reports whether the connection is over.
func (c *conn) interpret(session transport.Session) (over bool) {
	c.mu.Lock()
	commands, over := c.stream.Interpreter.Commands()
	c.mu.Unlock()
	if over || len(commands) == 0 {
		return over
	}
	if err := session.Receive(commands); err != nil {
		<-c.done // the core closes it
		return true
	}
	return false
}

// Write implements [transport.Conn].
func (c *conn) Write(frames []byte) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.stream.Interpreter == nil {
		return c.write(frames)
	}
	if c.over {
		return net.ErrClosed
	}
	out, ask, err := c.stream.Interpreter.Take(frames)
	if err != nil {
		return c.fail(err)
	}
	if ask {
		select {
		case c.more <- struct{}{}:
		default:
		}
	}
	if len(out) == 0 {
		return nil
	}
	if !c.begun {
		out = append(c.begin(), out...)
	}
	return c.write(out)
}

// write writes and flushes. The lock is held.
func (c *conn) write(frames []byte) error {
	switch {
	case c.over:
		return net.ErrClosed
	case c.broken != nil:
		return c.broken
	}
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
	if err := c.deadline(time.Now().Add(c.stream.WriteTimeout)); err != nil && !errors.Is(err, http.ErrNotSupported) {
		return err
	}
	if len(piece) > 0 {
		if _, err := c.w.Write(piece); err != nil {
			return err
		}
	}
	return c.rc.Flush()
}

func (c *conn) fail(err error) error {
	c.broken = fmt.Errorf("%s: write: %w", c.stream.Info.Name, err)
	return c.broken
}

// Close implements [transport.Conn]. Code and reason have been written as a push (see [transport.Info.ClosePush]), unless the
// peer does not read.
func (c *conn) Close(code uint32, _ string) error {
	if code == 0 {
		_ = c.deadline(time.Now()) // for a write that is under way, and holds mu
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.over = true
	c.dropped = c.dropped || code == 0
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
	c.closing.Do(func() { close(c.done) })
	c.mu.Lock()
	defer c.mu.Unlock()
	c.over = true
	if i := c.stream.Interpreter; i != nil && !c.begun {
		i.Refuse(c.w)
	}
	end := time.Now() // of the body
	if c.broken == nil && !c.dropped {
		end = end.Add(c.stream.WriteTimeout)
	}
	_ = c.deadline(end)
	c.returning.Lock()
	defer c.returning.Unlock()
	c.returned = true
}

// flushes says whether a response can be sent bit by bit. Middleware that wraps the writer and hides this is the commonest
// reason why streams do not work, so the error names the wrapper's type.
func flushes(w http.ResponseWriter) error {
	for {
		switch v := w.(type) {
		case interface{ FlushError() error }, http.Flusher:
			return nil
		case interface{ Unwrap() http.ResponseWriter }:
			w = v.Unwrap()
		default:
			return fmt.Errorf("%T has neither a Flush nor an Unwrap method, so the response would be held back: "+
				"middleware hides it", w)
		}
	}
}

// ReadBody reads a body of at most limit bytes. If it fails it has answered the request.
func ReadBody(w http.ResponseWriter, r *http.Request, limit int) (body []byte, ok bool) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, int64(limit)))
	switch tooLarge := (*http.MaxBytesError)(nil); {
	case err == nil:
		return body, true
	case errors.As(err, &tooLarge):
		http.Error(w, fmt.Sprintf("body of more than %d bytes", limit), http.StatusRequestEntityTooLarge)
	default:
		http.Error(w, "body cannot be read", http.StatusBadRequest)
	}
	return nil, false
}

// Admit answers requests that are none of a door's: of a foreign origin, with another method, and preflights. It adds the
// headers that let pages of other origins read the answer (spec 8.5).
func Admit(w http.ResponseWriter, r *http.Request, a transport.Acceptor, methods string) bool {
	if !a.CheckOrigin(r) || smuggled(r) {
		http.Error(w, "origin not allowed", http.StatusForbidden)
		return false
	}
	h := w.Header()
	h.Add("Vary", "Origin")
	if origin := r.Header.Get("Origin"); origin != "" {
		h.Set("Access-Control-Allow-Origin", origin)
		h.Set("Access-Control-Allow-Credentials", "true")
	}
	if r.Method == http.MethodOptions {
		if asked := r.Header.Get("Access-Control-Request-Headers"); asked != "" {
			h.Set("Access-Control-Allow-Headers", asked)
		}
		h.Set("Access-Control-Allow-Methods", methods+", OPTIONS")
		h.Set("Access-Control-Max-Age", "300")
		w.WriteHeader(http.StatusNoContent)
		return false
	}
	if !slices.Contains(strings.Split(methods, ", "), r.Method) {
		h.Set("Allow", methods+", OPTIONS")
		http.Error(w, "method not allowed", http.StatusMethodNotAllowed)
		return false
	}
	return true
}

// smuggled reports whether a page of another origin made a request in a way in which browsers do not name the origin: by a
// link, say. It has the user's cookies all the same.
func smuggled(r *http.Request) bool {
	if r.Header.Get("Origin") != "" {
		return false
	}
	site := r.Header.Get("Sec-Fetch-Site")
	return site == "cross-site" || site == "same-site"
}

// NoStore keeps caches from keeping an answer (spec 8.2).
func NoStore(h http.Header) {
	h.Set("Cache-Control", "private, no-cache, no-store, must-revalidate, max-age=0")
	h.Set("Pragma", "no-cache")
}

// Defaults of the doors' options.
const (
	defaultBodySize     = 64 << 10
	defaultWriteTimeout = time.Second
)

// BodySize is an option, or its default of 64 KiB.
func BodySize(option int) int {
	if option <= 0 {
		return defaultBodySize
	}
	return option
}

// WriteTimeout is an option, or its default of one second.
func WriteTimeout(option time.Duration) time.Duration {
	if option <= 0 {
		return defaultWriteTimeout
	}
	return option
}

// IsProtobuf reports whether the body of a request is Protobuf: all others are JSON (spec 8.2, 8.4).
func IsProtobuf(r *http.Request) bool {
	mediaType, _, _ := strings.Cut(r.Header.Get("Content-Type"), ";")
	return strings.TrimSpace(mediaType) == "application/octet-stream"
}
