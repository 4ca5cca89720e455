package websocket_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare/transport"
	"github.com/fanfare-go/fanfare/transport/transporttest"
	"github.com/fanfare-go/fanfare/transport/websocket"
)

// answer is what a server says to a raw request.
func answer(t *testing.T, server *httptest.Server, request string) (head http.Header, status int, body string) {
	t.Helper()
	u, err := url.Parse(server.URL)
	require.NoError(t, err)
	conn, err := net.Dial("tcp", u.Host)
	require.NoError(t, err)
	defer conn.Close()
	require.NoError(t, conn.SetDeadline(time.Now().Add(time.Minute)))
	_, err = io.WriteString(conn, strings.ReplaceAll(request, "\n", "\r\n"))
	require.NoError(t, err)
	r, err := http.ReadResponse(bufio.NewReader(conn), nil)
	require.NoError(t, err)
	defer r.Body.Close()
	if r.StatusCode != http.StatusSwitchingProtocols {
		b, err := io.ReadAll(r.Body)
		require.NoError(t, err)
		body = string(b)
	}
	r.Header.Del("Date")
	return r.Header, r.StatusCode, body
}

// TestHandshake_IsTheLibrarys compares the handshake that is made without the library with the library's own, also if the
// connection is the library's in the end: first the cases of its tests, then more.
func TestHandshake_IsTheLibrarys(t *testing.T) {
	t.Parallel()
	const good = "Connection: Upgrade\nUpgrade: websocket\nSec-WebSocket-Version: 13\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\n"
	without := func(name string) string {
		var kept strings.Builder
		for line := range strings.Lines(good) {
			if !strings.HasPrefix(line, name+":") {
				kept.WriteString(line)
			}
		}
		return kept.String()
	}
	with := func(name, value string) string { return without(name) + name + ": " + value + "\n" }
	const key, version = "Sec-WebSocket-Key", "Sec-WebSocket-Version"
	requests := map[string]struct {
		header string
		first  string
		status int
	}{
		"good":                        {header: good, status: 101},
		"no Connection":               {header: without("Connection"), status: 426},
		"other Connection":            {header: with("Connection", "meow"), status: 426},
		"Connection among others":     {header: with("Connection", "keep-alive, upgrade"), status: 101},
		"Connection on another line":  {header: "Connection: keep-alive\n" + good, status: 101},
		"no Upgrade":                  {header: without("Upgrade"), status: 426},
		"other Upgrade":               {header: with("Upgrade", "meow"), status: 426},
		"Upgrade in capitals":         {header: with("Upgrade", "WebSocket"), status: 101},
		"POST":                        {header: good, first: "POST / HTTP/1.1", status: 405},
		"HTTP/1.0":                    {header: good, first: "GET / HTTP/1.0", status: 426},
		"no version":                  {header: without(version), status: 400},
		"version 14":                  {header: with(version, "14"), status: 400},
		"version 13 with blanks":      {header: with(version, "  13  "), status: 101},
		"two versions":                {header: good + version + ": 8\n", status: 101},
		"two versions, 13 last":       {header: version + ": 8\n" + good, status: 400},
		"no key":                      {header: without(key), status: 400},
		"empty key":                   {header: with(key, ""), status: 400},
		"short key":                   {header: with(key, "xx"), status: 400},
		"key of 15 bytes":             {header: with(key, "dGhlIHNhbXBsZSBub25j"), status: 400},
		"key of 17 bytes":             {header: with(key, "dGhlIHNhbXBsZSBub25jZTE="), status: 400},
		"key of 18 bytes":             {header: with(key, "dGhlIHNhbXBsZSBub25jZTEy"), status: 400},
		"key without padding":         {header: with(key, "dGhlIHNhbXBsZSBub25jZQ"), status: 400},
		"key that is not base64":      {header: with(key, "dGhlIHNhbXBsZSBub25jZ!=="), status: 400},
		"key with blanks around":      {header: with(key, " \t dGhlIHNhbXBsZSBub25jZQ== "), status: 101},
		"two keys":                    {header: good + key + ": dGhlIHNhbXBsZSBub25jZQ==\n", status: 400},
		"subprotocol":                 {header: good + "Sec-WebSocket-Protocol: chat, Centrifuge-JSON\n", status: 101},
		"subprotocol of nobody":       {header: good + "Sec-WebSocket-Protocol: chat\n", status: 101},
		"an extension":                {header: good + "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\n", status: 101},
		"two lines of extensions":     {header: good + "Sec-WebSocket-Extensions:\nSec-WebSocket-Extensions: permessage-deflate\n", status: 101},
		"an extension of nobody":      {header: good + "Sec-WebSocket-Extensions: meow\n", status: 101},
		"headers of every kind twice": {header: good + "X-A: 1\nX-A: 2\nCookie: a=b\nCookie: c=d\n", status: 101},
	}
	for _, compression := range []bool{false, true} {
		serve := func(portable bool, start func(http.Handler) *httptest.Server) *httptest.Server {
			door := websocket.New(websocket.Options{PortableIO: portable, Compression: compression})
			a := transporttest.NewAcceptor(t)
			server := start(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("Set-Cookie", "session=1") // as middleware does
				door.Serve(w, r, a)
			}))
			t.Cleanup(server.Close)
			return server
		}
		library := serve(true, httptest.NewServer)
		others := []*httptest.Server{serve(false, httptest.NewServer), serve(false, serveWrapped)}
		for name, request := range requests {
			t.Run(fmt.Sprintf("%s, compression %t", name, compression), func(t *testing.T) {
				first := request.first
				if first == "" {
					first = "GET / HTTP/1.1"
				}
				raw := first + "\nHost: example.com\n" + request.header + "\n"
				libraryHead, libraryStatus, libraryBody := answer(t, library, raw)
				require.Equal(t, request.status, libraryStatus)
				for _, server := range others {
					head, status, body := answer(t, server, raw)
					require.Equal(t, libraryHead, head)
					require.Equal(t, libraryStatus, status)
					require.Equal(t, libraryBody, body)
					require.Equal(t, "session=1", head.Get("Set-Cookie"))
				}
			})
		}
	}
}

// BenchmarkUpgrade compares what a connection takes until it is there: on the dense engine, and with all of the library. The
// client's part is in both.
func BenchmarkUpgrade(b *testing.B) {
	for engine, portable := range engines {
		b.Run(engine, func(b *testing.B) {
			door := websocket.New(websocket.Options{PortableIO: portable})
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { door.Serve(w, r, taker{}) }))
			defer server.Close()
			b.ReportAllocs()
			for b.Loop() {
				p, err := dialPeer(b.Context(), server.URL, nil)
				require.NoError(b, err)
				require.NoError(b, p.Drop())
			}
		})
	}
}

// taker takes every connection.
type taker struct{}

var _ transport.Acceptor = taker{}

func (taker) Ready() error                                                    { return nil }
func (taker) CheckOrigin(*http.Request) bool                                  { return true }
func (taker) Accept(*http.Request, transport.Conn) (transport.Session, error) { return taker{}, nil }
func (taker) Report(*http.Request, string, error)                             {}
func (taker) Forward(context.Context, string, string, []byte) error           { return nil }
func (taker) Receive([]byte) error                                            { return nil }
func (taker) Pong()                                                           {}
func (taker) Closed(error)                                                    {}
