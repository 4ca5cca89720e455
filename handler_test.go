package fanfare_test

import (
	"context"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"testing"
	"time"

	ws "github.com/coder/websocket"
	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare"
	"github.com/fanfare-go/fanfare/fanfaretest"
	"github.com/fanfare-go/fanfare/transport/websocket"
)

// mount serves an app that has a node under /realtime/.
func mount(t *testing.T, node *fanfare.Node, middleware func(http.Handler) http.Handler) (url string) {
	t.Helper()
	mux := http.NewServeMux()
	mux.Handle("/realtime/", node)
	mux.HandleFunc("/page", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "a page") })
	var handler http.Handler = mux
	if middleware != nil {
		handler = middleware(mux)
	}
	s := httptest.NewServer(handler)
	t.Cleanup(s.Close)
	return s.URL
}

// dialed is the outcome of an upgrade.
type dialed struct {
	*ws.Conn
	response *http.Response
	refused  string // the body of the answer that was no upgrade
}

func dialWebSocket(t *testing.T, url string, o *ws.DialOptions) dialed {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	conn, response, err := ws.Dial(ctx, url, o)
	if err != nil {
		require.NotNil(t, response, err)
		body, err := io.ReadAll(response.Body)
		require.NoError(t, err)
		return dialed{response: response, refused: string(body)}
	}
	t.Cleanup(func() { _ = conn.CloseNow() })
	return dialed{Conn: conn, response: response}
}

// exchange sends a frame, unless it is empty, and returns the next one.
func (d dialed) exchange(t *testing.T, frame string) string {
	t.Helper()
	require.NotNil(t, d.Conn, d.refused)
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	if frame != "" {
		require.NoError(t, d.Write(ctx, ws.MessageText, []byte(frame)))
	}
	kind, data, err := d.Read(ctx)
	require.NoError(t, err)
	require.Equal(t, ws.MessageText, kind)
	return string(data)
}

func TestServeHTTP_Routes(t *testing.T) {
	url := mount(t, startNode(t), nil)
	for path, reply := range map[string]string{
		"/realtime/websocket":                       `{"id":1,"connect":{`,
		"/realtime/":                                `{"id":1,"connect":{`, // as SDKs are often pointed at a mount point
		"/realtime/connection/websocket":            `{"id":1,"connect":{`,
		"/realtime/elsewhere":                       `{"id":1,"connect":{`,
		"/realtime/websocket?cf_protocol_version=2": `{"id":1,"connect":{`,
		"/realtime/uni_websocket":                   `{"connect":{`,
	} {
		t.Run(path, func(t *testing.T) {
			frame := `{"id":1,"connect":{}}`
			if strings.Contains(path, "uni_") {
				frame = `{}`
			}
			require.Contains(t, dialWebSocket(t, url+path, nil).exchange(t, frame), reply)
		})
	}
	t.Run("the connect request in the query of uni_websocket", func(t *testing.T) {
		require.Contains(t, dialWebSocket(t, url+"/realtime/uni_websocket?cf_connect=%7B%7D", nil).exchange(t, ""), `{"connect":{`)
	})
	for path, status := range map[string]int{
		"/realtime/":          http.StatusNotFound,
		"/realtime/nothing":   http.StatusNotFound,
		"/realtime/websocket": http.StatusUpgradeRequired,
		"/page":               http.StatusOK,
	} {
		t.Run("ordinary request to "+path, func(t *testing.T) {
			r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url+path, nil)
			require.NoError(t, err)
			response, err := http.DefaultClient.Do(r)
			require.NoError(t, err)
			require.NoError(t, response.Body.Close())
			require.Equal(t, status, response.StatusCode)
		})
	}
}

func TestHandler_HasItsOwnOptions(t *testing.T) {
	node := startNode(t)
	s := httptest.NewServer(node.Handler(websocket.New(websocket.Options{MaxFrameSize: 100})))
	t.Cleanup(s.Close)
	c := dialWebSocket(t, s.URL+"/any/path", nil)
	require.Contains(t, c.exchange(t, `{"id":1,"connect":{}}`), `"connect"`)
	require.NoError(t, c.Write(t.Context(), ws.MessageText, []byte(strings.Repeat("x", 101))))
	_, _, err := c.Read(t.Context())
	require.Equal(t, ws.StatusMessageTooBig, ws.CloseStatus(err))
}

// TestServeHTTP_BehindMiddleware: the app's login is the login.
func TestServeHTTP_BehindMiddleware(t *testing.T) {
	type userKey struct{}
	left := make(chan string, 1)
	node := startNode(t, func(c *fanfare.Config) {
		c.Authenticate = func(ctx context.Context, r *fanfare.ConnectRequest) (fanfare.Identity, error) {
			user, _ := r.HTTP.Context().Value(userKey{}).(string)
			if user == "" {
				return fanfare.Identity{}, fanfare.ErrUnauthorized
			}
			return fanfare.Identity{User: user}, ctx.Err()
		}
		c.Disconnected = func(_ context.Context, n *fanfare.DisconnectNotice) { left <- n.Client.User() }
	})
	url := mount(t, node, func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if cookie, err := r.Cookie("session"); err == nil {
				r = r.WithContext(context.WithValue(r.Context(), userKey{}, cookie.Value))
			}
			next.ServeHTTP(w, r)
		})
	})
	stranger := dialWebSocket(t, url+"/realtime/websocket", nil)
	require.Equal(t, `{"id":1,"error":{"code":101,"message":"unauthorized"}}`, stranger.exchange(t, `{"id":1,"connect":{}}`))

	ann := dialWebSocket(t, url+"/realtime/websocket", &ws.DialOptions{HTTPHeader: http.Header{"Cookie": {"session=ann"}}})
	require.Contains(t, ann.exchange(t, `{"id":1,"connect":{}}`), `"connect"`)
	require.NoError(t, node.Disconnect(t.Context(), "ann", &fanfare.Disconnect{Code: 4501, Reason: "logged out"}))
	_, _, err := ann.Read(t.Context())
	var end ws.CloseError
	require.ErrorAs(t, err, &end)
	require.Equal(t, ws.CloseError{Code: 4501, Reason: "logged out"}, end, "spec 8.1: code and reason of the disconnect")
	require.Equal(t, "ann", <-left)
}

// opaque is what middleware makes that forgets http.Hijacker.
type opaque struct{ http.ResponseWriter }

func TestServeHTTP_MiddlewareHidesHijacker(t *testing.T) {
	log := &logBook{}
	node := startNode(t, func(c *fanfare.Config) { c.Logger = slog.New(log) })
	url := mount(t, node, func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { next.ServeHTTP(opaque{w}, r) })
	})
	c := dialWebSocket(t, url+"/realtime/websocket", nil)
	require.Nil(t, c.Conn)
	require.Equal(t, http.StatusNotImplemented, c.response.StatusCode)
	require.Contains(t, c.refused, "fanfare_test.opaque", "the type at fault is named to whoever tries")
	entries := log.from(slog.LevelWarn)
	require.Len(t, entries, 1, "and once in the log")
	require.Equal(t, "websocket", entries[0].text("transport"))
	require.Contains(t, entries[0].text("err"), "fanfare_test.opaque")
	require.Zero(t, node.Residue())
}

// TestOrigin states from where browsers may connect. The node is called app.example.com:8080.
func TestOrigin(t *testing.T) {
	some := []string{"https://other.example.org", "https://*.wild.example", "http://localhost:3000"}
	for name, test := range map[string]struct {
		allowed []string
		origin  string
		want    bool
	}{
		"no browser":                           {nil, "", true},
		"the node's own host":                  {nil, "https://app.example.com:8080", true},
		"whatever the case":                    {nil, "HTTPS://App.Example.COM:8080", true},
		"own host, other port":                 {nil, "https://app.example.com", false},
		"another host, by default":             {nil, "https://evil.example", false},
		"own host as a prefix":                 {nil, "https://app.example.com:8080.evil.example", false},
		"own host in the user part":            {nil, "https://app.example.com:8080@evil.example", false},
		"own host in the path":                 {nil, "https://evil.example/app.example.com:8080", false},
		"sandboxed frame":                      {nil, "null", false},
		"no origin at all":                     {nil, "nonsense", false},
		"listed":                               {some, "https://other.example.org", true},
		"listed, other case":                   {some, "https://OTHER.example.org", true},
		"listed, other scheme":                 {some, "http://other.example.org", false},
		"listed, other port":                   {some, "https://other.example.org:8443", false},
		"listed with a port":                   {some, "http://localhost:3000", true},
		"listed with a port, other port":       {some, "http://localhost:3001", false},
		"below a wildcard":                     {some, "https://a.wild.example", true},
		"far below a wildcard":                 {some, "https://a.b.wild.example", true},
		"the wildcard's own domain":            {some, "https://wild.example", false},
		"a domain that ends like a wildcard's": {some, "https://bewild.example", false},
		"below a wildcard, other scheme":       {some, "http://a.wild.example", false},
		"a list does not exclude its own":      {some, "http://app.example.com:8080", true},
		"a list, and null":                     {some, "null", false},
		"all":                                  {[]string{"*"}, "https://evil.example", true},
		"all, and null":                        {[]string{"*"}, "null", true},
	} {
		inBubble(t, name, func(t *testing.T) {
			node := startNode(t, func(c *fanfare.Config) { c.AllowedOrigins = test.allowed })
			_, err := fanfaretest.Dial(t, node, "ann", fanfaretest.WithRequest(func(r *http.Request) {
				r.Host = "app.example.com:8080"
				if test.origin != "" {
					r.Header.Set("Origin", test.origin)
				}
			})).Connect()
			if test.want {
				require.NoError(t, err)
			} else {
				require.ErrorContains(t, err, "403")
			}
		})
	}
	t.Run("over a real connection", func(t *testing.T) {
		url := mount(t, startNode(t), nil)
		for _, transport := range []string{"websocket", "uni_websocket"} {
			c := dialWebSocket(t, url+"/realtime/"+transport, &ws.DialOptions{HTTPHeader: http.Header{"Origin": {"https://evil.example"}}})
			require.Equal(t, http.StatusForbidden, c.response.StatusCode)
			c = dialWebSocket(t, url+"/realtime/"+transport, &ws.DialOptions{HTTPHeader: http.Header{"Origin": {url}}})
			require.Equal(t, http.StatusSwitchingProtocols, c.response.StatusCode)
		}
	})
	t.Run("what is no origin", func(t *testing.T) {
		for _, bad := range []string{"", "example.com", "https://", "https://example.com/path", "https://example.com?q", "https://a.*.example.com",
			"https://*example.com", "https://*.*.example.com", "://", "**"} {
			_, err := fanfare.New(fanfare.Config{AllowedOrigins: []string{bad}})
			require.ErrorContains(t, err, "AllowedOrigins", "%q", bad)
		}
	})
}

func TestServeHTTP_Compression(t *testing.T) {
	for name, on := range map[string]bool{"off by default": false, "on when asked for": true} {
		t.Run(name, func(t *testing.T) {
			node := startNode(t, func(c *fanfare.Config) { c.Compression = on })
			node.Channel("x", room)
			url := mount(t, node, nil)
			c := dialWebSocket(t, url+"/realtime/websocket", &ws.DialOptions{CompressionMode: ws.CompressionNoContextTakeover})
			require.Equal(t, on, strings.Contains(c.response.Header.Get("Sec-WebSocket-Extensions"), "permessage-deflate"))
			require.Contains(t, c.exchange(t, `{"id":1,"connect":{}}`), `"connect"`)
			require.Contains(t, c.exchange(t, `{"id":2,"subscribe":{"channel":"x"}}`), `"subscribe"`)
			requirePublish(t, node, "x", `"`+strings.Repeat("again ", 1000)+`"`)
			require.Contains(t, c.exchange(t, ""), strings.Repeat("again ", 1000))
			without := dialWebSocket(t, url+"/realtime/websocket", &ws.DialOptions{CompressionMode: ws.CompressionDisabled})
			require.Empty(t, without.response.Header.Get("Sec-WebSocket-Extensions"))
			require.Contains(t, without.exchange(t, `{"id":1,"connect":{}}`), `"connect"`)
		})
	}
}

// TestServeHTTP_Subprotocol: spec 8.1, as far as this node speaks.
func TestServeHTTP_Subprotocol(t *testing.T) {
	url := mount(t, startNode(t), nil)
	for name, test := range map[string]struct {
		offered []string
		echoed  string
	}{
		"none":                  {nil, ""},
		"JSON":                  {[]string{"centrifuge-json"}, "centrifuge-json"},
		"unknown ones":          {[]string{"chat", "graphql-ws"}, ""},
		"unknown ones and JSON": {[]string{"chat", "centrifuge-json"}, "centrifuge-json"},
	} {
		t.Run(name, func(t *testing.T) {
			c := dialWebSocket(t, url+"/realtime/websocket", &ws.DialOptions{Subprotocols: test.offered})
			require.Equal(t, test.echoed, c.response.Header.Get("Sec-WebSocket-Protocol"))
			require.Contains(t, c.exchange(t, `{"id":1,"connect":{}}`), `"connect"`)
		})
	}
}

func TestServeHTTP_AfterShutdown(t *testing.T) {
	node := newNode(t, fanfare.Config{})
	url := mount(t, node, nil)
	c := dialWebSocket(t, url+"/realtime/websocket", nil)
	require.Contains(t, c.exchange(t, `{"id":1,"connect":{}}`), `"connect"`)
	uni := dialWebSocket(t, url+"/realtime/uni_websocket", nil)
	require.Contains(t, uni.exchange(t, `{}`), `"connect"`)
	down := make(chan error, 1)
	go func() { down <- node.Shutdown(context.Background()) }()
	require.Equal(t, `{"disconnect":{"code":3001,"reason":"shutdown"}}`, uni.exchange(t, ""), "spec 8.6: the push and the close frame")
	for _, d := range []dialed{c, uni} {
		_, _, err := d.Read(t.Context())
		var end ws.CloseError
		require.ErrorAs(t, err, &end)
		require.Equal(t, ws.CloseError{Code: 3001, Reason: "shutdown"}, end)
	}
	require.NoError(t, <-down)
	late := dialWebSocket(t, url+"/realtime/websocket", nil)
	require.Equal(t, http.StatusServiceUnavailable, late.response.StatusCode)
	response, err := http.Get(url + "/page")
	require.NoError(t, err)
	require.NoError(t, response.Body.Close())
	require.Equal(t, http.StatusOK, response.StatusCode, "the app goes on")
}

// TestServeHTTP_OneGoroutineForAConnection: the one that reads. Nobody is parked for writing.
func TestServeHTTP_OneGoroutineForAConnection(t *testing.T) {
	const connections = 200
	node := startNode(t)
	node.Channel("x", room)
	url := mount(t, node, nil)
	handshake := "GET /realtime/websocket HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n" +
		"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
	commands := `{"id":1,"connect":{}}` + "\n" + `{"id":2,"subscribe":{"channel":"x"}}`
	frame := append([]byte{0x81, 0x80 | byte(len(commands)), 0, 0, 0, 0}, commands...) // masked with nothing
	before := runtime.NumGoroutine()
	for range connections {
		conn, err := net.Dial("tcp", strings.TrimPrefix(url, "http://"))
		require.NoError(t, err)
		t.Cleanup(func() { _ = conn.Close() })
		_, err = conn.Write(append([]byte(handshake), frame...))
		require.NoError(t, err)
	}
	eventually(t, func() bool {
		return node.Subscribers("x") == connections && runtime.NumGoroutine()-before <= connections+5
	}, "%d goroutines more", func() any { return runtime.NumGoroutine() - before })
}
