// Package held keeps an HTTP response open and writes frames into it: what HTTP streaming and server-sent events have in
// common (spec 8.2, 8.3, 8.5, 8.6).
package held

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"slices"
	"strings"
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

// Interpreter stands between the core and a peer that does not speak the protocol. It belongs to the handler's goroutine.
type Interpreter interface {
	// Take takes the first of some frames from the core, and returns what follows, and what the peer gets: in memory that is its
	// own again with the next call, which comes, without frames, when nothing is left. While the peer may still be refused it
	// gets nothing, and the response does not begin.
	Take(frames []byte) (out, rest []byte, err error)
	// Commands returns what is to be said to the core since the last call, or that the connection is over.
	Commands() (frame []byte, over bool)
	// Refuse answers the request of a peer that got nothing, because of what was taken or because the node has shut down.
	Refuse(w http.ResponseWriter)
}

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
	c := newConn(s, w, r)
	// The server's timeouts are meant for requests that end; with the one for reading over, the request's context ends.
	_ = c.rc.SetReadDeadline(time.Time{})
	session, err := a.Accept(r, c)
	switch {
	case errors.Is(err, transport.ErrUnavailable):
		s.unavailable(w)
		return
	case err != nil:
		a.Report(r, s.Info.Name, err)
		http.Error(w, "internal server error", http.StatusInternalServerError)
		return
	}
	var cause error
	defer func() { // also when the session or the writer panics, which is net/http's to report
		c.finish()
		session.Closed(cause)
	}()
	cause = c.run(r, session, first)
}

func (s Stream) unavailable(w http.ResponseWriter) {
	if s.Interpreter != nil {
		s.Interpreter.Refuse(w)
		return
	}
	http.Error(w, "shutting down", http.StatusServiceUnavailable)
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

// bodyTimeout is how long a client may take to send the body of a request, where the app's server has no timeout of its own: as
// long as the first command may take on a WebSocket. Servers of streams often have none.
const bodyTimeout = 15 * time.Second

// ReadBody reads a body of at most limit bytes. If it fails it has answered the request.
func ReadBody(w http.ResponseWriter, r *http.Request, limit int) (body []byte, ok bool) {
	rc := http.NewResponseController(w)
	if s, _ := r.Context().Value(http.ServerContextKey).(*http.Server); s == nil || s.ReadTimeout <= 0 {
		_ = rc.SetReadDeadline(time.Now().Add(bodyTimeout)) // of what knows no deadlines, as in tests, the client is trusted
		defer func() {
			if ok { // else the connection is to end with the answer, and nothing more is awaited of it
				_ = rc.SetReadDeadline(time.Time{})
			}
		}()
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, int64(limit)))
	switch tooLarge := (*http.MaxBytesError)(nil); {
	case err == nil:
		return body, true
	case errors.Is(err, os.ErrDeadlineExceeded):
		http.Error(w, "body is not sent", http.StatusRequestTimeout)
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
	if methods == http.MethodGet && r.ContentLength != 0 {
		// The server would wait for it in the end, with the answer.
		h.Set("Connection", "close")
		http.Error(w, "a GET has no body here", http.StatusBadRequest)
		return false
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
