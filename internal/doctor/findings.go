package doctor

import (
	"fmt"
	"net/http"
	"strings"
	"time"
)

// Finding is one thing that is wrong.
type Finding struct {
	// Key names the finding, whatever its text says.
	Key string
	// Subject tells findings of one key apart: a type, or a host. It may come from the client, and is short then.
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

// What does not depend on the request.
const (
	textHTTP10Socket = "a WebSocket was asked for over HTTP/1.0, which has none: it is refused with 426. A proxy in front speaks " +
		"HTTP/1.0 to the app, as older nginx does by default: proxy_http_version 1.1; proxy_set_header Upgrade $http_upgrade; " +
		"proxy_set_header Connection \"upgrade\""

	textHTTP10Stream = "a stream was asked for over HTTP/1.0: the answer has no chunks and ends only with the connection, so a " +
		"proxy may collect it until then, and the browser sees nothing. A proxy in front speaks HTTP/1.0 to the app, as older " +
		"nginx does by default: proxy_http_version 1.1; proxy_buffering off"

	textNoUpgrade = "the request has the keys of a WebSocket handshake but no \"Upgrade: websocket\" with " +
		"\"Connection: upgrade\": a proxy in front drops these headers, and the request is refused. In nginx: " +
		"proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection \"upgrade\""

	textMissingOrigin = "a browser's WebSocket handshake has no Origin header, and browsers always send it: something in front " +
		"removes it. The connection is let in, but so is one that a foreign page opens with your user's cookies: let Origin through"

	textSixConnections = "a browser opened a stream over HTTP/1.1. Browsers open six connections to a host over HTTP/1.1, for " +
		"all tabs together: with six streams open the app's own pages and requests wait for ever. WebSockets do not count, " +
		"and over HTTP/2 (TLS in Go's server, or a proxy) it is a hundred streams"

	textTimeoutHandler = "http.TimeoutHandler stands around the node. It keeps the whole answer until the handler returns, so " +
		"%s fail with 501; mount the node outside of it"

	textUnanswered = "a client opened a stream and never sent anything after that, not even the answer to a ping. Either " +
		"nothing of the stream arrives, because a proxy or middleware collects it (nginx: proxy_buffering off), or the " +
		"client's requests to …/emulation do not get through (is the node mounted there, does the client know where?)"
)

func overHTTP2(r *http.Request) Finding {
	return Finding{Key: HTTP2, Text: fmt.Sprintf("a WebSocket was asked for over HTTP/%d, where a connection cannot be taken over: "+
		"it is refused. Browsers open WebSockets over HTTP/1.1 unless the server invites them to do otherwise, so this is a "+
		"proxy that speaks HTTP/2 to the app, or GODEBUG=http2xconnect=1: let it speak HTTP/1.1 here", r.ProtoMajor)}
}

func crossSite(site string) Finding {
	return Finding{Key: CrossSite, Text: fmt.Sprintf("the browser says %q and names no origin: a link, an image or a proxy that "+
		"removes Origin. The request is refused with 403; open streams with fetch or EventSource from a page, and let Origin "+
		"through", "Sec-Fetch-Site: "+site)}
}

// without is the finding that a chain of writers lacks a method.
func without(w, last http.ResponseWriter, method, what, key string) Finding {
	name := typeName(last)
	if name == timeoutWriter {
		return Finding{Key: TimeoutHandler, Text: fmt.Sprintf(textTimeoutHandler, what)}
	}
	within := ""
	if outer := typeName(w); outer != name {
		within = ", within " + outer + ","
	}
	return Finding{Key: key, Subject: name, Text: fmt.Sprintf("%s%s has neither %s nor Unwrap: %s fail with 501; mount the node "+
		"outside of that middleware, or give the wrapper an Unwrap method", name, within, method, what)}
}

func noWriteDeadline(last http.ResponseWriter, server *http.Server) Finding {
	seen := "a client that does not read holds up its stream for as long as it likes, as Config.WriteTimeout cannot be applied"
	if server != nil && server.WriteTimeout > 0 {
		seen = fmt.Sprintf("http.Server.WriteTimeout cuts every stream after %v, in the middle", server.WriteTimeout)
	}
	name := typeName(last)
	return Finding{Key: NoWriteDeadline, Subject: name, Text: fmt.Sprintf("%s has neither SetWriteDeadline nor Unwrap: %s; give "+
		"the wrapper an Unwrap method, or mount the node outside of that middleware", name, seen)}
}

func contextOver(err error) Finding {
	return Finding{Key: ContextOver, Text: fmt.Sprintf("the request's context is over already: %v. The stream ends as it begins; "+
		"middleware cancels the context before the handler is done", err)}
}

func contextDeadline(in time.Duration) Finding {
	return Finding{Key: ContextDeadline, Text: fmt.Sprintf("the request's context ends in %v: middleware gave it a deadline "+
		"(context.WithTimeout, chi's middleware.Timeout). Streams are cut then, and clients come back every time; mount the "+
		"node outside of that middleware", in.Round(time.Millisecond))}
}

// FailedHijack is the finding that a connection could not be taken over although the outermost writer promised it.
func FailedHijack(w http.ResponseWriter, err error) Finding {
	return Finding{Key: HijackFails, Subject: typeName(w), Text: fmt.Sprintf("%s has a Hijack method, but the WebSocket upgrade "+
		"failed: %q. One of these writers does not pass it on: %s%s. Clients wait for ever, or get an error; mount the node "+
		"outside of that middleware", typeName(w), short(err.Error()), Chain(w), culprit(w, "Hijack", hijackers...))}
}

// Unswitched is the finding that the answer to a handshake got lost.
func Unswitched(w http.ResponseWriter) Finding {
	return Finding{Key: LostSwitch, Subject: Chain(w), Text: fmt.Sprintf("the answer \"101 Switching Protocols\" was lost: one of "+
		"these writers keeps the status back until something is written, and the connection was taken over before: %s. Clients "+
		"wait for a handshake that never comes, or find garbage; mount the node outside of that middleware", Chain(w))}
}

// Kept is the finding that flushed bytes did not arrive.
func Kept(w http.ResponseWriter) Finding {
	return Finding{Key: HeldBack, Subject: Chain(w), Text: fmt.Sprintf("what was flushed did not reach the connection: one of these "+
		"writers has a Flush that does not pass it on, as some middleware that compresses: %s%s. Clients see nothing, or "+
		"nothing until much has been sent; mount the node outside of that middleware", Chain(w), culprit(w, "Flush", flushers...))}
}

// NoBody is the finding that a request's body was read by somebody else.
func NoBody(r *http.Request) Finding {
	return Finding{Key: BodyGone, Text: fmt.Sprintf("the request announced a body of %d bytes, and there was nothing left of it: "+
		"middleware has read it. The client's commands are lost, so it is refused or sent away at once; let that middleware put "+
		"back what it read, or mount the node outside of it", r.ContentLength)}
}

// Silent is the finding that a client never answered anything that was sent on its stream.
func Silent() Finding { return Finding{Key: Unanswered, Text: textUnanswered} }

// short bounds what may come from a client.
func short(s string) string {
	const most = 128
	if len(s) <= most {
		return s
	}
	return strings.ToValidUTF8(s[:most], "") + "…"
}
