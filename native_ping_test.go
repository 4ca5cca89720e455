package fanfare_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	ws "github.com/coder/websocket"
	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare"
	"github.com/fanfare-go/fanfare/transport"
)

// nativeDoor is a transport with pings of its own, for one connection.
type nativeDoor struct {
	info    transport.Info
	session transport.Session

	mu      sync.Mutex // guards below
	written string
	closed  []fanfare.Disconnect
}

// nativeLines is its framing.
type nativeLines struct{}

func (nativeLines) AppendFrame(dst []byte, messages ...[]byte) []byte {
	for _, m := range messages {
		dst = append(append(dst, m...), '\n')
	}
	return dst
}

func (d *nativeDoor) Name() string                 { return d.info.Name }
func (d *nativeDoor) Info() transport.Info         { return d.info }
func (d *nativeDoor) AppendPing(dst []byte) []byte { return append(dst, "PING\n"...) }
func (d *nativeDoor) Serve(_ http.ResponseWriter, r *http.Request, a transport.Acceptor) {
	d.session, _ = a.Accept(r, d)
}

func (d *nativeDoor) Write(frames []byte) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.written += string(frames)
	return nil
}

func (d *nativeDoor) Close(code uint32, reason string) error {
	d.mu.Lock()
	d.closed = append(d.closed, fanfare.Disconnect{Code: code, Reason: reason})
	first := len(d.closed) == 1
	d.mu.Unlock()
	if first {
		d.session.Closed(nil)
	}
	return nil
}

// read returns what was written since the last call, a line each.
func (d *nativeDoor) read() []string {
	synctest.Wait()
	d.mu.Lock()
	defer d.mu.Unlock()
	lines := strings.Split(strings.TrimSuffix(d.written, "\n"), "\n")
	d.written = ""
	return lines
}

// TestPing_Spec7_Native: the transport's own pings take the place of the protocol's, or go beside them (spec 7, 8.6).
func TestPing_Spec7_Native(t *testing.T) {
	open := func(t *testing.T, uni bool) *nativeDoor {
		node := startNode(t, func(c *fanfare.Config) {
			c.PingInterval, c.PongTimeout, c.Authenticate = 20*time.Second, 8*time.Second, nil
		})
		d := &nativeDoor{info: transport.Info{Name: "native", Encoding: transport.JSON, NativePing: true, Unidirectional: uni, Framing: nativeLines{}}}
		node.Handler(d).ServeHTTP(httptest.NewRecorder(), httptest.NewRequest(http.MethodGet, "/", nil))
		connect := `{"id":1,"connect":{}}`
		if uni {
			connect = `{}`
		}
		require.NoError(t, d.session.Receive([]byte(connect)))
		line := d.read()[0]
		require.Equal(t, uni, strings.Contains(line, `"ping":20`), line)
		require.NotContains(t, line, `"pong"`)
		return d
	}
	for name, test := range map[string]struct {
		uni  bool
		ping []string
	}{
		"in their place":          {false, []string{"PING"}},
		"unidirectional: besides": {true, []string{"{}", "PING"}},
	} {
		inBubble(t, name+", and answered", func(t *testing.T) {
			d := open(t, test.uni)
			pings := 0
			for range 100 { // the first one comes after 10 to 20 s
				time.Sleep(time.Second)
				if lines := d.read(); lines[0] != "" {
					require.ElementsMatch(t, test.ping, lines)
					d.session.Pong()
					pings++
				}
			}
			require.Equal(t, 5, pings)
			require.Empty(t, d.closed)
			_ = d.Close(0, "")
		})
		inBubble(t, name+", and not answered", func(t *testing.T) {
			d := open(t, test.uni)
			time.Sleep(28 * time.Second)
			synctest.Wait()
			require.Equal(t, []fanfare.Disconnect{*fanfare.DisconnectNoPong}, d.closed)
		})
	}
	inBubble(t, "a pong of the transport that nobody asked for is no offence", func(t *testing.T) {
		d := open(t, false)
		d.session.Pong()
		synctest.Wait()
		require.Empty(t, d.closed)
		_ = d.Close(0, "")
	})
}

// TestPing_Spec7_WebSocketFrames is the frame mode over a real connection.
func TestPing_Spec7_WebSocketFrames(t *testing.T) {
	t.Parallel()
	node := startNode(t, func(c *fanfare.Config) { c.PingInterval, c.PongTimeout = 3*time.Second, 2*time.Second })
	url := mount(t, node, nil)
	var pings sync.WaitGroup
	pings.Add(2)
	count := 0
	c := dialWebSocket(t, url+"/realtime/websocket?cf_ws_frame_ping_pong=true", &ws.DialOptions{
		OnPingReceived: func(ctx context.Context, _ []byte) bool {
			if count++; count <= 2 {
				pings.Done()
			}
			return count <= 2 // the third one stays without an answer
		},
	})
	reply := c.exchange(t, `{"id":1,"connect":{}}`)
	require.NotContains(t, reply, `"ping"`)
	require.NotContains(t, reply, `"pong"`)
	_, data, err := c.Read(t.Context())
	require.Equal(t, ws.StatusCode(3012), ws.CloseStatus(err), "%s %v", data, err)
	pings.Wait()
	require.Equal(t, 3, count)
}
