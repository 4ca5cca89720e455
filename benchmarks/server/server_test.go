package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const limit = 10 * time.Second

func startServer(t *testing.T, args ...string) *httptest.Server {
	t.Helper()
	o, err := parseOptions(args)
	require.NoError(t, err)
	h, stop, err := newHandler(o)
	require.NoError(t, err)
	server := httptest.NewServer(h)
	t.Cleanup(server.Close)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), limit)
		defer cancel()
		require.NoError(t, stop(ctx))
	})
	return server
}

// call returns the body of an answer that must be a 200.
func call(t *testing.T, server *httptest.Server, method, target string) string {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, server.URL+target, nil)
	require.NoError(t, err)
	resp, err := server.Client().Do(req)
	require.NoError(t, err)
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	require.Equal(t, http.StatusOK, resp.StatusCode, "%s", body)
	return string(body)
}

type wsClient struct {
	t    *testing.T
	ctx  context.Context
	conn *websocket.Conn
}

func dial(t *testing.T, server *httptest.Server, path string) wsClient {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	t.Cleanup(cancel)
	conn, _, err := websocket.Dial(ctx, "ws"+strings.TrimPrefix(server.URL, "http")+path, nil)
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.CloseNow() })
	return wsClient{t, ctx, conn}
}

func (c wsClient) send(text string) {
	c.t.Helper()
	require.NoError(c.t, c.conn.Write(c.ctx, websocket.MessageText, []byte(text)))
}

// until reads up to a message that holds part.
func (c wsClient) until(part string) string {
	c.t.Helper()
	for {
		_, b, err := c.conn.Read(c.ctx)
		require.NoError(c.t, err, "waiting for %s", part)
		for line := range strings.Lines(string(b)) {
			if strings.Contains(line, part) {
				return line
			}
		}
	}
}

func (c wsClient) subscribe(request string) string {
	c.t.Helper()
	c.send(`{"id":1,"connect":{}}` + "\n" + `{"id":2,"subscribe":` + request + `}`)
	return c.until(`{"id":2,`)
}

func TestServer_DeliversWhatTheControlEndpointPublishes(t *testing.T) {
	server := startServer(t)
	c := dial(t, server, "/connection/websocket")
	require.Equal(t, `{"id":2,"subscribe":{}}`, strings.TrimSpace(c.subscribe(`{"channel":"bench"}`)))
	call(t, server, http.MethodPost, "/publish?channel=bench&count=3&size=100")
	for i := range 3 {
		require.Contains(t, c.until(`"pub"`), fmt.Sprintf(`,"n":%d,"p":"x`, i+1))
	}
}

func TestServer_RecoversChannelsWhoseNamesBeginWithRec(t *testing.T) {
	server := startServer(t)
	for _, channel := range []string{"rec", "rec7", "rec:a:b"} {
		c := dial(t, server, "/connection/websocket")
		reply := c.subscribe(fmt.Sprintf(`{"channel":%q}`, channel))
		_, rest, ok := strings.Cut(reply, `"epoch":"`)
		require.True(t, ok, reply)
		epoch, _, _ := strings.Cut(rest, `"`)

		call(t, server, http.MethodPost, "/publish?count=10&channel="+channel)
		back := dial(t, server, "/connection/websocket")
		reply = back.subscribe(fmt.Sprintf(`{"channel":%q,"recover":true,"epoch":%q,"offset":0}`, channel, epoch))
		require.Contains(t, reply, `"recovered":true`)
		require.Equal(t, 10, strings.Count(reply, `"data":`))
	}
}

func TestServer_AnswersTheAppBesideTheNode(t *testing.T) {
	server := startServer(t, "-pprof")
	require.Contains(t, call(t, server, http.MethodGet, "/app"), `"title":"Orders"`)
	require.Contains(t, call(t, server, http.MethodGet, "/memstats"), `"goroutines":`)
	require.Contains(t, call(t, server, http.MethodGet, "/debug/pprof/"), "goroutine")
	call(t, server, http.MethodPost, "/gc")

	c := dial(t, server, "/echo")
	c.send("hello")
	require.Equal(t, "hello", c.until("hello"))
}
