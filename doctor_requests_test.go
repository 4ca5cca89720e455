package fanfare_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare"
	"github.com/fanfare-go/fanfare/internal/doctor"
)

// raw sends a request as it stands, and returns the status of the answer.
func (e *examined) raw(t *testing.T, request string) int {
	t.Helper()
	conn, err := net.Dial("tcp", strings.TrimPrefix(e.url, "http://"))
	require.NoError(t, err)
	defer conn.Close()
	require.NoError(t, conn.SetDeadline(time.Now().Add(30*time.Second)))
	_, err = io.WriteString(conn, strings.ReplaceAll(request, "\n", "\r\n"))
	require.NoError(t, err)
	r, err := http.ReadResponse(bufio.NewReader(conn), nil)
	require.NoError(t, err)
	return r.StatusCode
}

const keys = "Sec-WebSocket-Version: 13\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\n"

// TestDevelopment_Requests: what proxies and pages do to a request is said.
func TestDevelopment_Requests(t *testing.T) {
	const (
		asks    = "Connection: Upgrade\nUpgrade: websocket\n" + keys
		browser = "User-Agent: Mozilla/5.0 (X11)\n"
		stream  = "/realtime/sse?cf_connect=%7B%22id%22:1,%22connect%22:%7B%7D%7D HTTP/1.1\nHost: app.example\n"
		socket  = "GET /realtime/websocket HTTP/1.1\nHost: app.example\n"
	)
	foreign := []string{doctor.ForeignOrigin}
	some := []string{"https://other.example", "https://*.wild.example", "https://port.example:443"}
	for name, test := range map[string]struct {
		request  string
		status   int
		door     string
		findings []string // none means that all is well, or a note
		says     string
	}{
		"a WebSocket": {socket + asks, 101, "websocket", nil, "nothing stands in the way"},
		"of the page's own": {socket + asks + browser + "Origin: https://app.example\n", 101, "websocket", nil,
			"nothing stands in the way"},
		"somebody types the address": {socket + browser, 426, "websocket", nil, ""},
		"a proxy drops the upgrade": {socket + keys, 426, "websocket", []string{doctor.NoUpgrade},
			"proxy_set_header Upgrade $http_upgrade"},
		"the same, at the mount point": {"GET /realtime/ HTTP/1.1\nHost: x\n" + keys, 404, "websocket", []string{doctor.NoUpgrade},
			"proxy_set_header Upgrade"},
		"a proxy closes": {socket + "Connection: close\n" + keys, 426, "websocket", []string{doctor.NoUpgrade},
			"Connection \"upgrade\""},
		"a proxy speaks HTTP/1.0": {strings.Replace(socket, "HTTP/1.1", "HTTP/1.0", 1) + asks, 426, "websocket", []string{doctor.HTTP10},
			"proxy_http_version 1.1"},
		"a stream over HTTP/1.0": {"GET " + strings.Replace(stream, "HTTP/1.1", "HTTP/1.0", 1), 200, "sse", []string{doctor.HTTP10},
			"proxy_buffering off"},
		"a browser without an origin": {socket + asks + browser, 101, "websocket", []string{doctor.MissingOrigin},
			"something in front removes it"},
		"a foreign page": {socket + asks + "Origin: https://evil.example\n", 403, "websocket", foreign,
			`origin "https://evil.example" may not connect to host "app.example"`},
		"a foreign page, streaming": {"GET " + stream + "Origin: https://evil.example\n", 403, "sse", foreign,
			"Config.AllowedOrigins"},
		"a file": {socket + asks + "Origin: null\n", 403, "websocket", foreign, "a page without an origin"},
		"a proxy changes Host": {socket + asks + "Origin: https://www.example\nX-Forwarded-Host: www.example\n", 403, "websocket", foreign,
			`X-Forwarded-Host is "www.example"`},
		"a proxy, perhaps changing Host": {socket + asks + "Origin: https://www.example\nVia: 1.1 proxy\n", 403, "websocket", foreign,
			"may have changed the Host header"},
		"a proxy drops the port": {socket + asks + "Origin: https://app.example:8443\n", 403, "websocket", foreign,
			"Only the port differs"},
		"another scheme": {socket + asks + "Origin: http://other.example\n", 403, "websocket", foreign,
			`has "https://other.example", which differs in its scheme: the page's is http`},
		"another scheme below a wildcard": {socket + asks + "Origin: http://a.wild.example\n", 403, "websocket", foreign,
			"differs in its scheme"},
		"a wildcard's own domain": {socket + asks + "Origin: https://wild.example\n", 403, "websocket", foreign,
			"list the domain itself too"},
		"a default port was listed": {socket + asks + "Origin: https://port.example\n", 403, "websocket", foreign,
			"browsers leave out a default one"},
		"what forges lines": {socket + asks + "Origin: https://evil\" level=ERROR\tmsg=\u2028\n", 403, "websocket", foreign,
			`"https://evil\" level=ERROR\tmsg=\u2028"`},
		"a link":      {"GET " + stream + "Sec-Fetch-Site: cross-site\n", 403, "sse", []string{doctor.CrossSite}, "names no origin"},
		"a preflight": {"OPTIONS " + stream + "Origin: https://other.example\n", 204, "sse", nil, ""},
		"a browser's stream": {"GET " + stream + browser + "Connection: keep-alive\n", 200, "sse", nil,
			"six connections to a host"},
		"CONNECT": {"CONNECT /realtime/websocket HTTP/1.1\nHost: app.example\n", 405, "websocket", []string{doctor.NoUpgrade},
			""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e := examine(t, nil, nil, func(c *fanfare.Config) { c.AllowedOrigins = some })
			for range 2 { // each is said once
				require.Equal(t, test.status, e.raw(t, test.request+"\n"))
			}
			require.Equal(t, test.findings, e.findings(slog.LevelWarn, test.door))
			var said strings.Builder
			for _, entry := range e.log.from(slog.LevelInfo) {
				said.WriteString(entry.message + "\n")
			}
			require.Contains(t, said.String(), test.says)
			require.NotContains(t, said.String(), "\t", "what a client sends is quoted")
		})
	}
}

func TestDevelopment_WebSocketOverHTTP2(t *testing.T) {
	log := &logBook{}
	node := startNode(t, func(c *fanfare.Config) { c.Development, c.Logger = true, slog.New(log) })
	s := httptest.NewUnstartedServer(node)
	s.EnableHTTP2 = true
	s.StartTLS()
	t.Cleanup(s.Close)
	get := func(path string, header http.Header) *http.Response {
		ctx, cancel := context.WithCancel(t.Context())
		t.Cleanup(cancel)
		r, err := http.NewRequestWithContext(ctx, http.MethodGet, s.URL+path, nil)
		require.NoError(t, err)
		r.Header = header
		response, err := s.Client().Do(r)
		require.NoError(t, err)
		t.Cleanup(func() { _ = response.Body.Close() })
		require.Equal(t, 2, response.ProtoMajor)
		return response
	}
	e := &examined{log: log}
	response := get("/realtime/websocket", http.Header{"Sec-Websocket-Key": {"dGhlIHNhbXBsZSBub25jZQ=="}})
	require.Equal(t, http.StatusUpgradeRequired, response.StatusCode)
	require.Equal(t, []string{doctor.HTTP2}, e.findings(slog.LevelWarn, "websocket"))
	require.Contains(t, e.sentence(t, doctor.HTTP2), "over HTTP/2")

	response = get("/realtime/uni_sse", http.Header{"User-Agent": {"Mozilla/5.0"}})
	line, err := bufio.NewReader(response.Body).ReadString('{')
	require.NoError(t, err, line)
	require.Equal(t, []string{"well"}, e.findings(slog.LevelInfo, "uni_sse"), "over HTTP/2 browsers open many")
	require.Empty(t, e.findings(slog.LevelWarn, "uni_sse"))
}

// TestDevelopment_ServersTimeouts: they cut streams where the chain hides the deadlines, and the streams are really cut.
func TestDevelopment_ServersTimeouts(t *testing.T) {
	const short, rest = time.Second, 4 * time.Second
	flushOnly := wrapped(func(w http.ResponseWriter) http.ResponseWriter { return flushing{w} })
	for name, test := range map[string]struct {
		wrap      chain
		configure func(*http.Server)
		cut       bool
		findings  []string
		says      string
	}{
		"WriteTimeout":                {nil, func(s *http.Server) { s.WriteTimeout = short }, false, nil, ""},
		"ReadTimeout":                 {nil, func(s *http.Server) { s.ReadTimeout = short }, false, nil, ""},
		"WriteTimeout behind careful": {chiLogger, func(s *http.Server) { s.WriteTimeout = short }, false, nil, ""},

		"WriteTimeout, hidden": {flushOnly, func(s *http.Server) { s.WriteTimeout = short }, true, []string{doctor.NoWriteDeadline},
			"http.Server.WriteTimeout cuts every stream after 1s"},

		"ReadTimeout, hidden": {flushOnly, func(s *http.Server) { s.ReadTimeout = short }, false, []string{doctor.NoWriteDeadline},
			"holds up its stream"},
		"a context's deadline": {func(next http.Handler) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				ctx, cancel := context.WithTimeout(r.Context(), short)
				defer cancel()
				next.ServeHTTP(w, r.WithContext(ctx))
			})
		}, nil, true, []string{doctor.ContextDeadline}, "the request's context ends in"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ticks := make(chan struct{})
			e := examine(t, test.wrap, test.configure, func(c *fanfare.Config) { c.PingInterval = rest })
			r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, e.url+"/realtime/uni_sse", nil)
			require.NoError(t, err)
			response, err := (&http.Transport{DisableKeepAlives: true}).RoundTrip(r)
			require.NoError(t, err)
			defer response.Body.Close()
			go func() {
				defer close(ticks)
				body := bufio.NewScanner(response.Body)
				for pings := 0; pings < 2 && body.Scan(); {
					if body.Text() == "data: {}" {
						pings++
						ticks <- struct{}{}
					}
				}
			}()
			_, alive := <-ticks
			if alive {
				_, alive = <-ticks
			}
			require.Equal(t, !test.cut, alive, "a stream that rests for longer than that")
			require.Equal(t, test.findings, e.findings(slog.LevelWarn, "uni_sse"))
			if test.says != "" {
				var said strings.Builder
				for _, entry := range e.log.from(slog.LevelWarn) {
					said.WriteString(entry.message + "\n")
				}
				require.Contains(t, said.String(), test.says)
			}
		})
	}
}

// TestDevelopment_Unanswered: what a proxy holds back is seen by the client's silence.
func TestDevelopment_Unanswered(t *testing.T) {
	ping := func(c *fanfare.Config) { c.PingInterval, c.PongTimeout = time.Second, 100*time.Millisecond }
	t.Run("a client that never says more", func(t *testing.T) {
		t.Parallel()
		e := examine(t, nil, nil, ping)
		require.Equal(t, works, e.try(t, "sse"))
		eventually(t, func() bool { return len(e.findings(slog.LevelWarn, "sse")) > 0 }, "%v", func() any { return e.log.from(slog.LevelInfo) })
		require.Equal(t, []string{doctor.Unanswered}, e.findings(slog.LevelWarn, "sse"))
		require.Contains(t, e.sentence(t, doctor.Unanswered), "proxy_buffering off")
	})
	t.Run("a client that does", func(t *testing.T) {
		t.Parallel()
		over := make(chan *fanfare.Disconnect, 1)
		e := examine(t, nil, nil, ping, func(c *fanfare.Config) {
			c.PingInterval = 4 * time.Second // it says it before it misses one
			c.Disconnected = func(_ context.Context, n *fanfare.DisconnectNotice) { over <- n.Disconnect }
		})
		response, err := (&http.Transport{DisableKeepAlives: true}).RoundTrip(e.request(t, "http_stream"))
		require.NoError(t, err)
		defer response.Body.Close()
		line, err := bufio.NewReader(response.Body).ReadString('\n')
		require.NoError(t, err)
		_, rest, _ := strings.Cut(line, `"session":"`)
		session, _, _ := strings.Cut(rest, `"`)
		_, rest, _ = strings.Cut(line, `"node":"`)
		node, _, _ := strings.Cut(rest, `"`)
		body := fmt.Sprintf(`{"session":%q,"node":%q,"data":"{}"}`, session, node)
		answer, err := http.Post(e.url+"/realtime/emulation", "application/json", strings.NewReader(body))
		require.NoError(t, err)
		require.NoError(t, answer.Body.Close())
		require.Equal(t, http.StatusNoContent, answer.StatusCode)
		<-over
		_, _ = io.Copy(io.Discard, response.Body) // to its end
		require.Empty(t, e.findings(slog.LevelWarn, "http_stream"))
	})
}

// TestDevelopment_Off: nothing is said, and the door's own refusals are.
func TestDevelopment_Off(t *testing.T) {
	log := &logBook{}
	node := startNode(t, func(c *fanfare.Config) { c.Logger = slog.New(log) })
	off := &examined{url: mount(t, node, wrapped(hide)), log: log, patience: 30 * time.Second}
	require.Equal(t, "501 Not Implemented", off.try(t, "sse"))
	require.Equal(t, http.StatusUpgradeRequired, off.raw(t, "GET /realtime/websocket HTTP/1.1\nHost: x\n"+keys+"\n"))
	require.Empty(t, off.findings(slog.LevelWarn, "sse"))
	require.Empty(t, off.findings(slog.LevelWarn, "websocket"))
	require.Len(t, log.from(slog.LevelInfo), 1)
}

// TestDevelopment_IsBounded: clients cannot make it say or remember more than some.
func TestDevelopment_IsBounded(t *testing.T) {
	e := examine(t, nil, nil)
	var all sync.WaitGroup
	for i := range 100 {
		all.Go(func() {
			r := httptest.NewRequest(http.MethodGet, e.url+"/realtime/sse?cf_connect="+url.QueryEscape("{}"), nil)
			r.RequestURI = ""
			r.Header.Set("Origin", fmt.Sprintf("https://evil%d.%s.example", i, strings.Repeat("x", 1000)))
			response, err := http.DefaultClient.Do(r)
			if err == nil {
				_ = response.Body.Close()
			}
		})
	}
	all.Wait()
	http.DefaultClient.CloseIdleConnections()
	entries := e.log.from(slog.LevelWarn)
	require.Len(t, entries, 8)
	for _, entry := range entries {
		require.Less(t, len(entry.message), 700)
	}
}
