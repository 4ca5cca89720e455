package main

import (
	"bytes"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httputil"
	"sync/atomic"
)

var errNobody = errors.New("no node serves")

// backend is where requests go.
type backend interface {
	Addr() string // empty while it does not serve
}

// balancer sends each request to the next backend that takes it. It knows nothing of sessions.
type balancer struct {
	backends []backend
	next     atomic.Uint64
	dial     http.RoundTripper
	proxy    *httputil.ReverseProxy
}

func newBalancer(backends []backend, logger *slog.Logger) *balancer {
	b := &balancer{
		backends: backends,
		// A connection carries one request: one that rests may be to a node that was killed, and what was sent on it is lost.
		dial: &http.Transport{DisableKeepAlives: true},
	}
	b.proxy = &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.Out.URL.Scheme = "http"
			r.Out.Host = r.In.Host // which nodes compare with the origin
			r.SetXForwarded()
		},
		Transport:     b,
		FlushInterval: -1, // streams
		ErrorHandler: func(w http.ResponseWriter, _ *http.Request, err error) {
			http.Error(w, "No node has answered: "+err.Error(), http.StatusBadGateway)
		},
		ErrorLog: slog.NewLogLogger(logger.Handler(), slog.LevelDebug), // streams that end with their node
	}
	return b
}

// ServeHTTP reads the body first. A ReverseProxy that is still reading it when the answer begins, if only for its end, finds it
// closed by its own server, and cuts the answer; and a body that was read can be sent to another node.
func (b *balancer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.ContentLength != 0 {
		body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, 1<<20))
		if err != nil {
			http.Error(w, "The body is too large, or has not come.", http.StatusRequestEntityTooLarge)
			return
		}
		r.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(body)), nil }
		r.Body, _ = r.GetBody()
		r.ContentLength = int64(len(body))
	}
	b.proxy.ServeHTTP(w, r)
}

// RoundTrip asks the next backend, and if that cannot be reached the one after it. A request that a backend has got is not
// repeated: nobody knows what it did with it.
func (b *balancer) RoundTrip(r *http.Request) (*http.Response, error) {
	result := errNobody
	first := b.next.Add(1)
	for i := range uint64(len(b.backends)) {
		addr := b.backends[(first+i)%uint64(len(b.backends))].Addr()
		if addr == "" {
			continue
		}
		attempt := r.Clone(r.Context())
		attempt.URL.Host = addr
		if r.GetBody != nil && r.Body != nil {
			attempt.Body, _ = r.GetBody()
		}
		response, err := b.dial.RoundTrip(attempt)
		if op, ok := errors.AsType[*net.OpError](err); !ok || op.Op != "dial" {
			return response, err
		}
		result = err
	}
	return nil, result
}
