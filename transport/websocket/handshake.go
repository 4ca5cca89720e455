package websocket

import (
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/fanfare-go/fanfare/transport"
)

// offer is what a request asks for and gets.
type offer struct {
	encoding    transport.Encoding
	subprotocol string // to be echoed; empty for none
	nativePing  bool
	connect     []byte // the connect request that came with the URL, unidirectional only
}

// refusal is an answer in place of the upgrade.
type refusal struct {
	status int
	text   string
}

// checkUpgrade answers requests that are not a WebSocket handshake, and reports whether this one is.
func checkUpgrade(w http.ResponseWriter, r *http.Request) bool {
	if r.Method != http.MethodGet {
		w.Header().Set("Allow", http.MethodGet)
		http.Error(w, "this is a WebSocket endpoint: use GET with an upgrade", http.StatusMethodNotAllowed)
		return false
	}
	if !hasToken(r.Header, "Connection", "upgrade") || !hasToken(r.Header, "Upgrade", "websocket") {
		w.Header().Set("Connection", "Upgrade")
		w.Header().Set("Upgrade", "websocket")
		http.Error(w, "this is a WebSocket endpoint: the request asks for no upgrade to WebSocket, "+
			"or a proxy in front removed the Upgrade and Connection headers", http.StatusUpgradeRequired)
		return false
	}
	return true
}

// negotiate applies the rules of spec 8.1: the first subprotocol in the client's order that is offered here is echoed,
// and the query overrules it.
func (t *Transport) negotiate(r *http.Request) (offer, *refusal) {
	o := offer{encoding: transport.JSON}
	for _, token := range tokens(r.Header, "Sec-WebSocket-Protocol") {
		encoding, known := subprotocolEncoding(token)
		if !known {
			continue
		}
		if slices.Contains(t.options.Encodings, encoding) {
			o.encoding, o.subprotocol = encoding, token
			break
		}
		o.encoding = encoding // refused below, unless a later one is offered
	}
	query := r.URL.Query()
	if query.Get("format") == "protobuf" || query.Get("cf_protocol") == "protobuf" {
		o.encoding = transport.Protobuf
	}
	if !slices.Contains(t.options.Encodings, o.encoding) {
		return offer{}, &refusal{http.StatusBadRequest, fmt.Sprintf("encoding %q is not offered at this endpoint, only %q",
			o.encoding, t.options.Encodings)}
	}
	o.nativePing = query.Get("cf_ws_frame_ping_pong") == "true"
	if t.uni {
		if connect := query.Get("cf_connect"); connect != "" {
			o.connect = []byte(connect)
		}
		if len(o.connect) > t.options.MaxFrameSize {
			return offer{}, &refusal{http.StatusRequestURITooLong, fmt.Sprintf("cf_connect is larger than %d bytes",
				t.options.MaxFrameSize)}
		}
	}
	return o, nil
}

func subprotocolEncoding(token string) (e transport.Encoding, known bool) {
	switch {
	case strings.EqualFold(token, "centrifuge-json"):
		return transport.JSON, true
	case strings.EqualFold(token, "centrifuge-protobuf"):
		return transport.Protobuf, true
	}
	return 0, false
}

// tokens splits a header that is a comma-separated list, possibly over several lines.
func tokens(h http.Header, key string) []string {
	var all []string
	for _, line := range h.Values(key) {
		for token := range strings.SplitSeq(line, ",") {
			all = append(all, strings.TrimSpace(token))
		}
	}
	return all
}

func hasToken(h http.Header, key, token string) bool {
	return slices.ContainsFunc(tokens(h, key), func(t string) bool { return strings.EqualFold(t, token) })
}

// findHijacker looks through wrappers as [http.ResponseController] does. Middleware that wraps the writer and hides
// this ability is the commonest reason why a WebSocket endpoint does not work, so the error names the wrapper's type.
func findHijacker(w http.ResponseWriter) (http.Hijacker, error) {
	for {
		if h, ok := w.(http.Hijacker); ok {
			return h, nil
		}
		u, ok := w.(interface{ Unwrap() http.ResponseWriter })
		if !ok {
			return nil, fmt.Errorf("websocket: %T has neither a Hijack nor an Unwrap method, so the connection cannot be "+
				"taken over: middleware hides it, or the request is not HTTP/1.1", w)
		}
		w = u.Unwrap()
	}
}
