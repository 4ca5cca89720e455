package webhook

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"net/textproto"
	"strings"
	"sync/atomic"

	"github.com/fanfare-go/fanfare"
)

// maxKept bounds what is kept for the life of one connection, in bytes: the forwarded headers, and meta.
const maxKept = 16 << 10

// State is what later calls for a connection need of its beginning: the headers to forward, and what the app answered as
// meta. [Hooks.Authenticate] puts a *State into [fanfare.Identity.State]. An Authenticate of your own puts one there that
// [Hooks.NewState] made, or a struct that embeds it:
//
//	type session struct {
//		*webhook.State
//		cart int
//	}
//
// Where there is none, later calls go without the browser's headers. Printed or logged it does not show them. It is safe for
// concurrent use.
type State struct {
	header    http.Header // immutable
	transport string
	protocol  string
	meta      atomic.Pointer[json.RawMessage] // replaced by a refresh
}

// NewState keeps what later calls for the connection need. Call it during Authenticate. It fails with
// [fanfare.ErrBadRequest] if the headers to forward are too long, over 16 KiB.
func (h *Hooks) NewState(r *fanfare.ConnectRequest) (*State, error) {
	s := &State{header: h.forwarded(r.HTTP), transport: r.Transport, protocol: protocolOf(r.HTTP)}
	size := 0
	for name, values := range s.header {
		for _, v := range values {
			size += len(name) + len(v)
		}
	}
	if size > maxKept {
		return nil, fanfare.ErrBadRequest
	}
	return s, nil
}

// Meta returns what the app answered as meta last, JSON, or nil. Do not change it.
func (s *State) Meta() json.RawMessage {
	if p := s.meta.Load(); p != nil {
		return *p
	}
	return nil
}

// Format hides the headers: they hold cookies.
func (s *State) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte("webhook.State")) }

// LogValue hides the headers: they hold cookies.
func (s *State) LogValue() slog.Value { return slog.StringValue("webhook.State") }

// webhookState is also that of a struct which embeds the state.
func (s *State) webhookState() *State { return s }

// stateless is for connections that another Authenticate let in.
var stateless = &State{}

func stateOf(c *fanfare.Client) *State {
	if holder, ok := c.State().(interface{ webhookState() *State }); ok {
		if s := holder.webhookState(); s != nil {
			return s
		}
	}
	return stateless
}

// forwarded returns copies of the headers to forward: the originals share memory with the whole request.
func (h *Hooks) forwarded(r *http.Request) http.Header {
	out := make(http.Header, len(h.config.Headers)+1)
	if r == nil {
		return out
	}
	for _, name := range h.config.Headers {
		name = textproto.CanonicalMIMEHeaderKey(name)
		if hasToken(r.Header["Connection"], name) {
			continue // the browser's side says that it belongs to this hop (RFC 9110, 7.6.1)
		}
		for _, v := range r.Header[name] {
			out.Add(name, strings.Clone(v))
		}
	}
	if peer, err := netip.ParseAddrPort(r.RemoteAddr); err == nil {
		way := append(out["X-Forwarded-For"], peer.Addr().Unmap().WithZone("").String())
		out["X-Forwarded-For"] = []string{strings.Join(way, ", ")}
	}
	return out
}

func hasToken(values []string, token string) bool {
	for _, v := range values {
		for part := range strings.SplitSeq(v, ",") {
			if strings.EqualFold(strings.TrimSpace(part), token) {
				return true
			}
		}
	}
	return false
}

// protocolOf tells what the client asked to speak (spec 2, 8.1).
func protocolOf(r *http.Request) string {
	if r == nil {
		return "json"
	}
	q := r.URL.Query()
	if q.Get("format") == "protobuf" || q.Get("cf_protocol") == "protobuf" || hasToken(r.Header["Sec-Websocket-Protocol"], "centrifuge-protobuf") {
		return "protobuf"
	}
	return "json"
}
