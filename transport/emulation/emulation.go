// Package emulation is the endpoint at which clients of HTTP streaming and server-sent events send their commands (spec 8.4).
// A request says for which session they are, and which node has it; the replies travel on the session's own stream.
package emulation

import (
	"errors"
	"net/http"

	"github.com/fanfare-go/fanfare/internal/protocol"
	"github.com/fanfare-go/fanfare/transport"
	"github.com/fanfare-go/fanfare/transport/internal/held"
)

// Options configures a [Transport]. The zero value is ready for use.
type Options struct {
	// MaxBodySize bounds the body of a request, in bytes. A larger one is answered with status 413. Zero or less means 65536.
	MaxBodySize int
}

// Transport is the endpoint. It makes no connections. It is safe for concurrent use.
type Transport struct{ options Options }

var _ transport.Transport = (*Transport)(nil)

// New returns the endpoint, named "emulation".
func New(o Options) *Transport {
	return &Transport{Options{MaxBodySize: held.BodySize(o.MaxBodySize)}}
}

// Name returns "emulation".
func (t *Transport) Name() string { return "emulation" }

// Serve forwards the commands of one request, also while the node shuts down: they may be for another one.
func (t *Transport) Serve(w http.ResponseWriter, r *http.Request, a transport.Acceptor) {
	if !held.Admit(w, r, a, http.MethodPost) {
		return
	}
	body, ok := held.ReadBody(w, r, t.options.MaxBodySize)
	if !ok {
		return
	}
	decode := protocol.DecodeJSONEmulation
	if held.IsProtobuf(r) {
		decode = protocol.DecodeProtobufEmulation
	}
	request, err := decode(body)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	if len(request.Data) == 0 {
		w.WriteHeader(http.StatusNoContent) // nothing to do
		return
	}
	switch err := a.Forward(r.Context(), request.Node, request.Session, request.Data); {
	case err == nil:
		w.WriteHeader(http.StatusNoContent)
	case errors.Is(err, transport.ErrUnknownNode):
		http.Error(w, "unknown node", http.StatusNotFound)
	case errors.Is(err, transport.ErrBusy):
		http.Error(w, "too many commands are waiting", http.StatusServiceUnavailable)
	case r.Context().Err() != nil: // the client has left
	default:
		a.Report(r, t.Name(), err)
		http.Error(w, "the node cannot be reached", http.StatusInternalServerError)
	}
}
