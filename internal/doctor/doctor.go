// Package doctor finds out why nothing arrives: it looks at a request, and at the chain of writers through which its answer
// would go, and says in words what middleware or a proxy broke. It changes nothing.
package doctor

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"
)

// Kind says what a door needs of its requests.
type Kind uint8

// The kinds of doors.
const (
	Brief   Kind = iota // an answer at once
	Stream              // a response that is held open, and written bit by bit
	Upgrade             // the connection itself
)

// Finding is one thing that is wrong.
type Finding struct {
	// Key names the finding, whatever its text says.
	Key string
	// Subject tells findings of one key apart: a type, or a host. It may come from the client, and is short.
	Subject string
	// Text says what is wrong, what is seen because of it, and what helps.
	Text string
	// Note marks what is no fault.
	Note bool
}

// The keys of findings.
const (
	NoHijack        = "no-hijack"
	HijackFails     = "hijack-fails"
	LostSwitch      = "lost-101"
	NoFlush         = "no-flush"
	TimeoutHandler  = "timeout-handler"
	HeldBack        = "held-back"
	NoWriteDeadline = "no-write-deadline"
	ContextDeadline = "context-deadline"
	ContextOver     = "context-over"
	BodyGone        = "body-gone"
	HTTP10          = "http-1.0"
	HTTP2           = "http-2-websocket"
	NoUpgrade       = "no-upgrade"
	ForeignOrigin   = "foreign-origin"
	MissingOrigin   = "missing-origin"
	CrossSite       = "cross-site"
	Unanswered      = "unanswered"
	SixConnections  = "six-connections"
)

// Examine looks at a request before its door does.
func Examine(w http.ResponseWriter, r *http.Request, kind Kind) []Finding {
	if kind == Upgrade {
		return examineUpgrade(w, r)
	}
	var found []Finding
	if site := r.Header.Get("Sec-Fetch-Site"); r.Header.Get("Origin") == "" && (site == "cross-site" || site == "same-site") {
		found = append(found, Finding{Key: CrossSite, Text: fmt.Sprintf("the browser says %q and names no origin: a link, an image or a "+
			"proxy that removes Origin. The request is refused with 403; open streams with fetch or EventSource from a page, and let "+
			"Origin through", "Sec-Fetch-Site: "+site)})
	}
	if kind == Stream && (r.Method == http.MethodGet || r.Method == http.MethodPost) {
		found = append(found, examineStream(w, r)...)
	}
	return found
}

func examineUpgrade(w http.ResponseWriter, r *http.Request) []Finding {
	switch asks := hasToken(r, "Upgrade", "websocket") && hasToken(r, "Connection", "upgrade"); {
	case !handshake(r): // somebody types the address into a browser
		return nil
	case r.ProtoMajor > 1:
		return []Finding{{Key: HTTP2, Text: "a WebSocket was asked for over " + version(r) + ", where a connection cannot be taken over: " +
			"it is refused. Browsers open WebSockets over HTTP/1.1 unless the server invites them to do otherwise, so this is a " +
			"proxy that speaks HTTP/2 to the app, or GODEBUG=http2xconnect=1: let it speak HTTP/1.1 here"}}
	case !r.ProtoAtLeast(1, 1):
		return []Finding{{Key: HTTP10, Text: "a WebSocket was asked for over HTTP/1.0, which has none: it is refused with 426. A proxy in " +
			"front speaks HTTP/1.0 to the app, as nginx did by default: proxy_http_version 1.1"}}
	case !asks:
		return []Finding{{Key: NoUpgrade, Text: "the request has the keys of a WebSocket handshake but no \"Upgrade: websocket\" with " +
			"\"Connection: upgrade\": a proxy in front drops these headers, and the request is refused. In nginx: " +
			"proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection \"upgrade\""}}
	}
	var found []Finding
	if last, ok := capable(w, hijacks); !ok {
		found = append(found, without(w, last, "Hijack", "WebSocket upgrades", NoHijack))
	}
	if isBrowser(r) && r.Header.Get("Origin") == "" {
		found = append(found, Finding{Key: MissingOrigin, Text: "a browser's WebSocket handshake has no Origin header, and browsers always " +
			"send it: something in front removes it. The connection is let in, but so is one that a foreign page opens with your " +
			"user's cookies: let Origin through"})
	}
	return found
}

func examineStream(w http.ResponseWriter, r *http.Request) (found []Finding) {
	if !r.ProtoAtLeast(1, 1) {
		found = append(found, Finding{Key: HTTP10, Text: "a stream was asked for over HTTP/1.0: the answer has no chunks and ends only with " +
			"the connection, so a proxy may collect it until then, and the browser sees nothing. A proxy in front speaks HTTP/1.0 to " +
			"the app, as nginx did by default: proxy_http_version 1.1, proxy_buffering off"})
	}
	if last, ok := capable(w, flushes); !ok {
		return append(found, without(w, last, "Flush", "streams", NoFlush))
	}
	found = append(found, examineDeadlines(w, r)...)
	if isBrowser(r) && r.ProtoMajor == 1 && !proxied(r) {
		found = append(found, Finding{Key: SixConnections, Note: true, Text: "a browser opened a stream over HTTP/1.1. Browsers open six " +
			"connections to a host over HTTP/1.1, for all tabs together: with six streams open the app's own pages and requests wait " +
			"for ever. WebSockets do not count, and over HTTP/2 (TLS in Go's server, or a proxy) it is a hundred streams"})
	}
	return found
}

// examineDeadlines finds what will end a stream while it is well. [http.Server.ReadTimeout] does not: net/http takes it back
// once it has read the request.
func examineDeadlines(w http.ResponseWriter, r *http.Request) (found []Finding) {
	server, _ := r.Context().Value(http.ServerContextKey).(*http.Server)
	if last, ok := capable(w, setsWriteDeadline); !ok {
		seen := "a client that does not read holds up its stream for as long as it likes, as Config.WriteTimeout cannot be applied"
		if server != nil && server.WriteTimeout > 0 {
			seen = fmt.Sprintf("http.Server.WriteTimeout cuts every stream after %v, in the middle", server.WriteTimeout)
		}
		found = append(found, Finding{Key: NoWriteDeadline, Subject: typeName(last), Text: fmt.Sprintf("%s has neither SetWriteDeadline nor "+
			"Unwrap: %s; give the wrapper an Unwrap method, or mount the node outside of that middleware", typeName(last), seen)})
	}
	ctx := r.Context()
	if deadline, ok := ctx.Deadline(); ctx.Err() != nil {
		found = append(found, Finding{Key: ContextOver, Text: "the request's context is over already: " + ctx.Err().Error() + ". The stream " +
			"ends as it begins; middleware cancels the context before the handler is done"})
	} else if ok {
		found = append(found, Finding{Key: ContextDeadline, Text: fmt.Sprintf("the request's context ends in %v: middleware gave it a "+
			"deadline (context.WithTimeout, chi's middleware.Timeout). Streams are cut then, and clients come back every time; mount "+
			"the node outside of that middleware", time.Until(deadline).Round(time.Millisecond))})
	}
	return found
}

// without is the finding that a chain of writers lacks a method.
func without(w, last http.ResponseWriter, method, what, key string) Finding {
	name := typeName(last)
	if name == "*http.timeoutWriter" {
		return Finding{Key: TimeoutHandler, Text: fmt.Sprintf("http.TimeoutHandler stands around the node. It keeps the whole answer until "+
			"the handler returns, so %s fail with 501; mount the node outside of it", what)}
	}
	within := ""
	if outer := typeName(w); outer != name {
		within = ", within " + outer + ","
	}
	return Finding{Key: key, Subject: name, Text: fmt.Sprintf("%s%s has neither %s nor Unwrap: %s fail with 501; mount the node outside of "+
		"that middleware, or give the wrapper an Unwrap method", name, within, method, what)}
}

// FailedHijack is the finding that a connection could not be taken over although the outermost writer promised it.
func FailedHijack(w http.ResponseWriter, err error) Finding {
	return Finding{Key: HijackFails, Subject: typeName(w), Text: fmt.Sprintf("%s has a Hijack method, but the WebSocket upgrade failed: %s. "+
		"One of these writers does not pass it on: %s%s. Clients wait for ever, or get an error; mount the node outside of that "+
		"middleware", typeName(w), short(err.Error()), Chain(w), culprit(w, "Hijack", hijackers...))}
}

// Unswitched is the finding that the answer to a handshake got lost.
func Unswitched(w http.ResponseWriter) Finding {
	return Finding{Key: LostSwitch, Subject: Chain(w), Text: fmt.Sprintf("the answer \"101 Switching Protocols\" was lost: one of these writers "+
		"keeps the status back until something is written, and the connection was taken over before: %s. Clients wait for a "+
		"handshake that never comes, or find garbage; mount the node outside of that middleware", Chain(w))}
}

// NoBody is the finding that a request's body was read by somebody else.
func NoBody(r *http.Request) Finding {
	return Finding{Key: BodyGone, Text: fmt.Sprintf("the request announced a body of %d bytes, and there was nothing left of it: middleware "+
		"has read it. The client's commands are lost, so it is refused or sent away at once; let that middleware put back what it read, or "+
		"mount the node outside of it", r.ContentLength)}
}

// Silent is the finding that a client never answered anything that was sent on its stream.
func Silent() Finding {
	return Finding{Key: Unanswered, Text: "a client opened a stream and never sent anything after that, not even the answer to a ping. Either " +
		"nothing of the stream arrives, because a proxy or middleware collects it (nginx: proxy_buffering off), or the client's " +
		"requests to …/emulation do not get through (is the node mounted there, does the client know where?)"}
}

// handshake reports whether somebody wants a WebSocket, as far as that survived the way.
func handshake(r *http.Request) bool {
	return r.Header.Get("Sec-WebSocket-Key") != "" || r.Header.Get("Sec-WebSocket-Version") != "" ||
		hasToken(r, "Upgrade", "websocket") || r.Method == http.MethodConnect
}

func hasToken(r *http.Request, key, token string) bool {
	for _, line := range r.Header.Values(key) {
		for t := range strings.SplitSeq(line, ",") {
			if strings.EqualFold(strings.TrimSpace(t), token) {
				return true
			}
		}
	}
	return false
}

// isBrowser reports whether a request says that it comes from a browser: they all call themselves Mozilla.
func isBrowser(r *http.Request) bool { return strings.HasPrefix(r.UserAgent(), "Mozilla/") }

// proxied reports whether a request says that it came through a proxy. Then its version is the proxy's.
func proxied(r *http.Request) bool {
	return slices.ContainsFunc([]string{"Via", "Forwarded", "X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto", "X-Real-Ip"},
		func(key string) bool { return r.Header.Get(key) != "" })
}

// FromBrowserOverHTTP1 reports whether a request comes over HTTP/1, and from a browser itself as far as one can see.
func FromBrowserOverHTTP1(r *http.Request) bool {
	return r.ProtoMajor == 1 && isBrowser(r) && !proxied(r)
}

func version(r *http.Request) string { return fmt.Sprintf("HTTP/%d", r.ProtoMajor) }

// short bounds what may come from a client.
func short(s string) string {
	const most = 128
	if len(s) <= most {
		return s
	}
	return strings.ToValidUTF8(s[:most], "") + "…"
}
