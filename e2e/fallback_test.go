//go:build unix

package e2e

import (
	"bytes"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestSDK_Chromium_FallsBack puts something between browser and server that spoils the ways of the SDK's list, in the order
// [websocket, http_stream, sse]. The page is of another origin, which the node allows.
func TestSDK_Chromium_FallsBack(t *testing.T) {
	node, chromium := lookNode(t), lookChromium(t)
	for name, tt := range map[string]struct {
		box    *middlebox
		expect string
	}{
		"upgrade refused":            {&middlebox{upgrade: refuse}, "http_stream"},
		"upgrade swallowed":          {&middlebox{upgrade: swallow}, "http_stream"},
		"upgrade stripped":           {&middlebox{upgrade: strip}, "http_stream"},
		"answers held, events not":   {&middlebox{upgrade: refuse, holds: noEvents}, "sse"},
		"answers held, events too":   {&middlebox{upgrade: refuse, holds: anything}, "held"},
		"origin that is not allowed": {&middlebox{upgrade: strip}, "refused"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newServer(t, false)
			page := strings.Replace(s.URL, "127.0.0.1", "localhost", 1) // another site, too
			c := s.mainConfig()
			c.Broker = nil // one of its own
			if tt.expect != "refused" {
				c.AllowedOrigins = []string{page}
			}
			require.NoError(t, s.start("open", c))
			via := tt.box.start(t, s.URL)
			runScenarios(t, node, "js/chromium.mjs", page, "json", "fallback", chromium, tt.expect, "open", via)
		})
	}
}

// TestSDK_BehindNginx runs the SDK through a real proxy.
func TestSDK_BehindNginx(t *testing.T) {
	node := lookNode(t)
	lookNginx(t)
	t.Run("recommended, websocket", func(t *testing.T) {
		t.Parallel()
		runScenarios(t, node, "js/node.mjs", startNginx(t, newServer(t, false).URL, nginxRecommended), "json", "websocket")
	})
	t.Run("default, http_stream", func(t *testing.T) {
		t.Parallel()
		runScenarios(t, node, "js/node.mjs", startNginx(t, newServer(t, false).URL, nginxDefault), "protobuf", "http_stream")
	})
	for name, tt := range map[string]struct{ config, expect string }{
		"recommended": {strings.Replace(nginxRecommended, "}", "proxy_read_timeout 5s; }", 1), "websocket"},
		"default":     {nginxImpatient(5), "http_stream"},
	} {
		t.Run(name+", fallback", func(t *testing.T) {
			t.Parallel()
			s := newServer(t, false)
			runScenarios(t, node, "js/node.mjs", s.URL, "json", "fallback", tt.expect, "fast", startNginx(t, s.URL, tt.config))
		})
	}
}

// middlebox is a proxy as companies and virus scanners have it. It passes on the Host, as what is in between does.
type middlebox struct {
	upgrade func(*http.Request) (status int)
	holds   func(*http.Response) bool // until the end of the answer

	healed atomic.Bool // it holds nothing any more
}

// start returns the middlebox's URL. It ends with the test.
func (m *middlebox) start(t *testing.T, backend string) string {
	t.Helper()
	to, err := url.Parse(backend)
	require.NoError(t, err)
	proxy := &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(to)
			r.Out.Host = r.In.Host
		},
		FlushInterval:  -1,
		Transport:      &http.Transport{DisableKeepAlives: true},
		ModifyResponse: m.hold,
		ErrorHandler:   func(w http.ResponseWriter, _ *http.Request, _ error) { w.WriteHeader(http.StatusBadGateway) },
	}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/heal" {
			m.healed.Store(true)
			return
		}
		if r.Header.Get("Upgrade") != "" {
			if status := m.upgrade(r); status != 0 {
				w.WriteHeader(status)
				return
			}
		}
		// A ReverseProxy that is still reading the request's body when the answer begins, if only for its end, finds it closed by
		// its own server, and cuts the answer. On a busy machine that happens to answers that come as soon as the body.
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return // the browser has left
		}
		r.Body = io.NopCloser(bytes.NewReader(body))
		proxy.ServeHTTP(w, r)
	}))
	t.Cleanup(server.Close)
	return server.URL
}

func (m *middlebox) hold(r *http.Response) error {
	if m.holds == nil || m.healed.Load() || !m.holds(r) {
		return nil
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return err
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	return nil
}

func refuse(*http.Request) int { return http.StatusForbidden }

func swallow(r *http.Request) int {
	<-r.Context().Done()
	return http.StatusGatewayTimeout
}

func strip(r *http.Request) int {
	for name := range r.Header {
		if name == "Upgrade" || name == "Connection" || strings.HasPrefix(name, "Sec-Websocket-") {
			r.Header.Del(name)
		}
	}
	return 0
}

func anything(*http.Response) bool { return true }

func noEvents(r *http.Response) bool {
	return !strings.HasPrefix(r.Header.Get("Content-Type"), "text/event-stream")
}
