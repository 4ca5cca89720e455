// Package sse is the door of server-sent events (spec 8.3): messages come as events of a stream that browsers read by
// themselves. Later commands come through the emulation endpoint (spec 8.4). The unidirectional form needs none (spec 8.6).
package sse

import (
	"bytes"
	"encoding/json"
	"net/http"
	"strings"
	"time"

	"github.com/fanfare-go/fanfare/transport"
	"github.com/fanfare-go/fanfare/transport/internal/held"
)

// Options configures a [Transport]. The zero value is ready for use.
type Options struct {
	// MaxBodySize bounds the first commands, in the query or in the body of a POST, in bytes. More is answered with status
	// 413 or 414. Zero or less means 65536.
	MaxBodySize int

	// WriteTimeout bounds each write to the peer. Zero or less means one second.
	WriteTimeout time.Duration
}

// Transport is the door. It is safe for concurrent use.
type Transport struct {
	uni     bool
	options Options
}

var _ transport.Transport = (*Transport)(nil)

// New returns the bidirectional door, named "sse".
func New(o Options) *Transport { return &Transport{options: withDefaults(o)} }

// NewUni returns the unidirectional door, named "uni_sse".
func NewUni(o Options) *Transport { return &Transport{uni: true, options: withDefaults(o)} }

func withDefaults(o Options) Options {
	return Options{MaxBodySize: held.BodySize(o.MaxBodySize), WriteTimeout: held.WriteTimeout(o.WriteTimeout)}
}

// Name returns "sse" or "uni_sse".
func (t *Transport) Name() string {
	if t.uni {
		return "uni_sse"
	}
	return "sse"
}

// Serve answers a request, and returns when the connection has ended.
func (t *Transport) Serve(w http.ResponseWriter, r *http.Request, a transport.Acceptor) {
	if !held.Admit(w, r, a, "GET, POST") {
		return
	}
	first, ok := t.first(w, r)
	if !ok {
		return
	}
	held.Stream{
		Info: transport.Info{Name: t.Name(), Encoding: transport.JSON, Framing: events{}, Unidirectional: t.uni, Emulated: !t.uni,
			ClosePush: true},
		ContentType:  "text/event-stream; charset=utf-8",
		Prelude:      "\r\n", // for the browser to know that it is connected
		WriteTimeout: t.options.WriteTimeout,
	}.Serve(w, r, a, first)
}

// first returns what the client has to say: a browser's own client can only send a query.
func (t *Transport) first(w http.ResponseWriter, r *http.Request) (frame []byte, ok bool) {
	if r.Method == http.MethodPost {
		if frame, ok = held.ReadBody(w, r, t.options.MaxBodySize); !ok {
			return nil, false
		}
	} else {
		frame = []byte(strings.TrimSuffix(r.URL.Query().Get("cf_connect"), "\n"))
	}
	switch {
	case r.Method == http.MethodGet && r.ContentLength != 0:
		http.Error(w, "a GET has no body here", http.StatusBadRequest)
	case r.Method == http.MethodGet && bytes.IndexByte(frame, '\n') >= 0:
		// Any page can make a browser follow a link, with the user's cookies: it must not do more than to connect.
		http.Error(w, "cf_connect takes the connect command alone", http.StatusBadRequest)
	case len(frame) > t.options.MaxBodySize:
		http.Error(w, "cf_connect is too large", http.StatusRequestURITooLong)
	case t.uni && len(frame) == 0 && r.Method == http.MethodGet:
		return []byte("{}"), true
	case len(frame) == 0:
		http.Error(w, "the connect command is missing: in the query, cf_connect, or the body", http.StatusBadRequest)
	case t.uni && !json.Valid(frame):
		http.Error(w, "the connect request is not JSON", http.StatusBadRequest)
	default:
		return frame, true
	}
	return nil, false
}

// events makes each message an event.
type events struct{}

var _ transport.Framing = events{}

// AppendFrame implements [transport.Framing]. Messages have no line ends.
func (events) AppendFrame(dst []byte, messages ...[]byte) []byte {
	for _, m := range messages {
		dst = append(dst, "data: "...)
		dst = append(append(dst, m...), "\n\n"...)
	}
	return dst
}
