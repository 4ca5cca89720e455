// Package doctor finds out why nothing arrives: it looks at a request, and at the chain of writers through which its answer
// would go, and says in words what middleware or a proxy broke. It changes nothing.
package doctor

import (
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

// Examine looks at a request before its door does.
func Examine(w http.ResponseWriter, r *http.Request, kind Kind) []Finding {
	if kind == Upgrade {
		return examineUpgrade(w, r)
	}
	var found []Finding
	// As the doors decide it.
	if site := r.Header.Get("Sec-Fetch-Site"); r.Header.Get("Origin") == "" && (site == "cross-site" || site == "same-site") {
		found = append(found, crossSite(site))
	}
	if kind == Stream && (r.Method == http.MethodGet || r.Method == http.MethodPost) {
		found = append(found, examineStream(w, r)...)
	}
	return found
}

func examineUpgrade(w http.ResponseWriter, r *http.Request) []Finding {
	switch {
	case !handshake(r): // somebody types the address into a browser
		return nil
	case r.ProtoMajor > 1:
		return []Finding{overHTTP2(r)}
	case !r.ProtoAtLeast(1, 1):
		return []Finding{{Key: HTTP10, Text: textHTTP10Socket}}
	case !hasToken(r, "Upgrade", "websocket"), !hasToken(r, "Connection", "upgrade"):
		return []Finding{{Key: NoUpgrade, Text: textNoUpgrade}}
	}
	var found []Finding
	if last, ok := capable(w, hijacks); !ok {
		found = append(found, without(w, last, "Hijack", "WebSocket upgrades", NoHijack))
	}
	if isBrowser(r) && r.Header.Get("Origin") == "" {
		found = append(found, Finding{Key: MissingOrigin, Text: textMissingOrigin})
	}
	return found
}

func examineStream(w http.ResponseWriter, r *http.Request) (found []Finding) {
	if !r.ProtoAtLeast(1, 1) {
		found = append(found, Finding{Key: HTTP10, Text: textHTTP10Stream})
	}
	if last, ok := capable(w, flushes); !ok {
		return append(found, without(w, last, "Flush", "streams", NoFlush))
	}
	found = append(found, examineDeadlines(w, r)...)
	if FromBrowserOverHTTP1(r) {
		found = append(found, Finding{Key: SixConnections, Text: textSixConnections, Note: true})
	}
	return found
}

// examineDeadlines finds what will end a stream while it is well. [http.Server.ReadTimeout] does not: net/http takes it back
// once it has read the request.
func examineDeadlines(w http.ResponseWriter, r *http.Request) (found []Finding) {
	if last, ok := capable(w, setsWriteDeadline); !ok {
		server, _ := r.Context().Value(http.ServerContextKey).(*http.Server)
		found = append(found, noWriteDeadline(last, server))
	}
	if err := r.Context().Err(); err != nil {
		found = append(found, contextOver(err))
	} else if deadline, ok := r.Context().Deadline(); ok {
		found = append(found, contextDeadline(time.Until(deadline)))
	}
	return found
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

var proxyHeaders = []string{"Via", "Forwarded", "X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto", "X-Real-Ip"}

// proxied reports whether a request came through a proxy, as far as one can see. Then its version is the proxy's.
func proxied(r *http.Request) bool {
	return !r.ProtoAtLeast(1, 1) || slices.ContainsFunc(proxyHeaders, func(key string) bool { return r.Header.Get(key) != "" })
}

// FromBrowserOverHTTP1 reports whether a request comes over HTTP/1, and from a browser itself as far as one can see. Browsers
// say keep-alive although it needs no saying; of the proxies that name themselves nowhere, few do.
func FromBrowserOverHTTP1(r *http.Request) bool {
	return r.ProtoMajor == 1 && isBrowser(r) && hasToken(r, "Connection", "keep-alive") && !proxied(r)
}
