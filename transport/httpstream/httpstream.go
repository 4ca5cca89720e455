// Package httpstream is the door of HTTP streaming: the client posts its first commands, and gets its messages as the body of
// the answer, which does not end (spec 8.2). Later commands come through the emulation endpoint (spec 8.4), so it gets through
// proxies that know nothing of WebSockets. The unidirectional form needs none of that (spec 8.6).
package httpstream

import (
	"encoding/json"
	"net/http"
	"time"

	"github.com/fanfare-go/fanfare/transport"
	"github.com/fanfare-go/fanfare/transport/internal/held"
)

// Options configures a [Transport]. The zero value is ready for use.
type Options struct {
	// MaxBodySize bounds the body of a request, in bytes. A larger one is answered with status 413. Zero or less means 65536.
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

// New returns the bidirectional door, named "http_stream". It speaks Protobuf to requests of content type
// application/octet-stream, and JSON to all others.
func New(o Options) *Transport { return &Transport{options: withDefaults(o)} }

// NewUni returns the unidirectional door, named "uni_http_stream". It speaks JSON.
func NewUni(o Options) *Transport { return &Transport{uni: true, options: withDefaults(o)} }

func withDefaults(o Options) Options {
	return Options{MaxBodySize: held.BodySize(o.MaxBodySize), WriteTimeout: held.WriteTimeout(o.WriteTimeout)}
}

// Name returns "http_stream" or "uni_http_stream".
func (t *Transport) Name() string {
	if t.uni {
		return "uni_http_stream"
	}
	return "http_stream"
}

// Serve answers a request, and returns when the connection has ended.
func (t *Transport) Serve(w http.ResponseWriter, r *http.Request, a transport.Acceptor) {
	if !held.Admit(w, r, a, http.MethodPost) {
		return
	}
	body, ok := held.ReadBody(w, r, t.options.MaxBodySize)
	if !ok {
		return
	}
	// There is no other answer to what is no connect request at all.
	if t.uni && !json.Valid(body) {
		http.Error(w, "the body must be a connect request in JSON, {} at least", http.StatusBadRequest)
		return
	}
	info := transport.Info{Name: t.Name(), Encoding: transport.JSON, Framing: held.Lines{}, Unidirectional: t.uni, Emulated: !t.uni, ClosePush: true}
	if !t.uni && held.IsProtobuf(r) {
		info.Encoding, info.Framing = transport.Protobuf, held.Prefixed{}
	}
	held.Stream{Info: info, WriteTimeout: t.options.WriteTimeout}.Serve(w, r, a, body)
}
