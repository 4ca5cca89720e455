package fanfare_test

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare"
	"github.com/fanfare-go/fanfare/transport"
)

// The bounds over real WebSockets: what the kernel and the closing handshake have to do with them.

// served is a node behind a real HTTP server.
type served struct {
	*watched
	url string
}

// smallBuffers accepts connections of which the kernel buffers little.
type smallBuffers struct{ net.Listener }

func (l smallBuffers) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if tcp, ok := conn.(*net.TCPConn); ok {
		_ = tcp.SetWriteBuffer(8 << 10)
	}
	return conn, err // itself, not wrapped: the transport knows what it can do
}

// serve makes a node that believes the token of the connect command to be the user.
func serve(t *testing.T, c fanfare.Config) *served {
	t.Helper()
	c.Authenticate = func(_ context.Context, r *fanfare.ConnectRequest) (fanfare.Identity, error) {
		return fanfare.Identity{User: cmp.Or(r.Token, r.HTTP.URL.Query().Get("user"))}, nil
	}
	s := httptest.NewUnstartedServer(nil)
	s.Listener = smallBuffers{s.Listener}
	node := watch(t, c)
	node.Channel("live", fanfare.ChannelOptions{Public: true, Presence: true, ForceJoinLeave: true})
	node.RPC("echo", func(_ context.Context, r *fanfare.RPCRequest) ([]byte, error) { return r.Data, nil })
	s.Config.Handler = node.Node
	s.Start()
	t.Cleanup(s.Close)
	return &served{watched: node, url: s.URL}
}

// requireEmpty waits until the node holds nothing.
func (s *served) requireEmpty(t *testing.T) {
	t.Helper()
	eventually(t, func() bool { return s.Residue() == fanfare.Residue{} }, "left behind: %+v", func() any { return s.Residue() })
}

// requireEnd waits for the one line that is logged about a client that does not end in an ordinary way.
func (s *served) requireEnd(t *testing.T, user string, code uint32) entry {
	t.Helper()
	ends := func() (found []entry) {
		for _, e := range s.log.from(slog.LevelDebug) {
			if e.message == "connection ended" && e.text("user") == user {
				found = append(found, e)
			}
		}
		return found
	}
	eventually(t, func() bool { return len(ends()) > 0 }, "not logged: %v", func() any { return s.log.from(slog.LevelDebug) })
	require.Len(t, ends(), 1)
	require.Equal(t, uint64(code), ends()[0].attrs["code"].Uint64())
	return ends()[0]
}

// eventually waits for what another goroutine is about to do. State is what to tell if it does not.
func eventually(t *testing.T, done func() bool, format string, state func() any) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !done(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			require.FailNow(t, fmt.Sprintf(format, state()))
		}
	}
}

// peer is a WebSocket client, with the connection under it.
type peer struct {
	*websocket.Conn
	tcp    *net.TCPConn
	passed []string // what came while something else was awaited
}

// dial opens a WebSocket and sends nothing.
func (s *served) dial(t testing.TB, door string, compressed bool) *peer {
	t.Helper()
	p := &peer{}
	dialer := &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
		conn, err := new(net.Dialer).DialContext(ctx, network, addr)
		if err == nil {
			p.tcp = conn.(*net.TCPConn)
			_ = p.tcp.SetReadBuffer(8 << 10)
		}
		return conn, err
	}}
	o := &websocket.DialOptions{HTTPClient: &http.Client{Transport: dialer}}
	if compressed {
		o.CompressionMode = websocket.CompressionNoContextTakeover
	}
	var err error
	p.Conn, _, err = websocket.Dial(t.Context(), s.url+"/"+door, o)
	require.NoError(t, err)
	p.SetReadLimit(-1)
	t.Cleanup(func() { _ = p.CloseNow() })
	return p
}

// connect opens a WebSocket, connects, and subscribes to what is live.
func (s *served) connect(t *testing.T, user string) *peer {
	t.Helper()
	p := s.dial(t, "websocket", false)
	p.send(t, `{"id":1,"connect":{"token":"`+user+`"}}`+"\n"+`{"id":2,"subscribe":{"channel":"live"}}`)
	p.await(t, `{"id":2,"subscribe":{}}`)
	return p
}

func (p *peer) send(t *testing.T, frame string) {
	t.Helper()
	require.NoError(t, p.Write(t.Context(), websocket.MessageText, []byte(frame)))
}

// await waits for a message that begins like this, and answers pings meanwhile.
func (p *peer) await(t *testing.T, prefix string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	for {
		if i := slices.IndexFunc(p.passed, func(line string) bool { return strings.HasPrefix(line, prefix) }); i >= 0 {
			p.passed = slices.Delete(p.passed, i, i+1)
			return
		}
		_, frame, err := p.Read(ctx)
		require.NoError(t, err, "waiting for %s", prefix)
		for line := range strings.SplitSeq(string(frame), "\n") {
			if line == `{}` {
				p.send(t, `{}`)
				continue
			}
			p.passed = append(p.passed, line)
		}
	}
}

// ended reads until the connection ends, and returns how, and what came before.
func (p *peer) ended(t *testing.T) (end websocket.CloseError, lines []string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	for {
		_, frame, err := p.Read(ctx)
		if err != nil {
			require.NoError(t, ctx.Err(), "the connection does not end")
			_ = errors.As(err, &end)
			return end, lines
		}
		lines = append(lines, strings.Split(string(frame), "\n")...)
	}
}

// requireLive checks that a client is served.
func (s *served) requireLive(t *testing.T, p *peer) {
	t.Helper()
	requirePublish(t, s.Node, "live", `"go"`)
	p.await(t, `{"push":{"channel":"live","pub":{"data":"go"}}}`)
	p.send(t, `{"id":9,"rpc":{"method":"echo","data":"yes"}}`)
	p.await(t, `{"id":9,"rpc":{"data":"yes"}}`)
}

// TestBoundsWebSocket_HugeFrame: spec 2.4.
func TestBoundsWebSocket_HugeFrame(t *testing.T) {
	for name, test := range map[string]struct {
		compressed bool
		limit      int
	}{
		"plain":                    {false, 1000},
		"compressed, ten times it": {true, 10_000},
	} {
		t.Run(name, func(t *testing.T) {
			node := serve(t, fanfare.Config{MaxFrameSize: 1000, Compression: test.compressed})
			bystander := node.connect(t, "bystander")
			p := node.dial(t, "websocket", test.compressed)
			p.send(t, `{"id":1,"connect":{"token":"ann"}}`)
			p.await(t, `{"id":1,"connect":`)

			command := `{"id":2,"rpc":{"method":"echo","data":"`
			fits := command + strings.Repeat("x", test.limit-len(command)-3) + `"}}`
			p.send(t, fits)
			p.await(t, `{"id":2,"rpc":`)
			p.send(t, fits+" ")
			end, lines := p.ended(t)
			require.Equal(t, websocket.CloseError{Code: websocket.StatusMessageTooBig}, end)
			require.Empty(t, lines, "it is not executed")
			e := node.requireEnd(t, "ann", fanfare.DisconnectClosed.Code)
			require.Equal(t, slog.LevelInfo, e.level)
			require.ErrorIs(t, e.attrs["err"].Any().(error), transport.ErrTooLarge)

			node.requireLive(t, bystander)
			require.NoError(t, bystander.Close(websocket.StatusNormalClosure, ""))
			node.requireEmpty(t)
		})
	}
}

func TestBoundsWebSocket_NeverConnects(t *testing.T) {
	for _, door := range []string{"websocket", "uni_websocket"} {
		t.Run(door, func(t *testing.T) {
			node := serve(t, fanfare.Config{ConnectTimeout: 50 * time.Millisecond})
			end, _ := node.dial(t, door, false).ended(t)
			require.Equal(t, websocket.CloseError{Code: 3502, Reason: "stale"}, end)
			node.requireEmpty(t)
			require.Equal(t, slog.LevelInfo, node.requireEnd(t, "", 3502).level)
		})
	}
}

// Ids are the client's business (spec 4, rule 4), also within a frame.
func TestBoundsWebSocket_DuplicateIDs(t *testing.T) {
	node := serve(t, fanfare.Config{})
	p := node.connect(t, "ann")
	p.send(t, `{"id":2,"rpc":{"method":"echo","data":1}}`+"\n"+`{"id":2,"rpc":{"method":"echo","data":2}}`)
	p.await(t, `{"id":2,"rpc":{"data":2}}`)
	require.NoError(t, p.Close(websocket.StatusNormalClosure, ""))
	node.requireEmpty(t)
}

// A client that does not read is found by its full queue or by a write that does not end, whichever comes first.
func TestBoundsWebSocket_StopsReading(t *testing.T) {
	for name, test := range map[string]struct {
		queue int
		write time.Duration
		want  []uint32
	}{
		"full queue":           {32 << 10, 2 * time.Second, []uint32{3008, 3009}}, // a machine may be that slow
		"write that times out": {64 << 20, 500 * time.Millisecond, []uint32{3009}},
	} {
		t.Run(name, func(t *testing.T) {
			node := serve(t, fanfare.Config{MaxQueueSize: test.queue, WriteTimeout: test.write, PingInterval: -1})
			quick := node.connect(t, "quick")
			stalled := node.connect(t, "stalled")
			quick.await(t, `{"push":{"channel":"live","join":{"info":{"user":"stalled"`)
			var id string
			members, err := node.Presence(t.Context(), "live")
			require.NoError(t, err)
			for _, m := range members {
				if m.User == "stalled" {
					id = m.Client
				}
			}
			client := node.Connection(id)
			require.NotNil(t, client)

			most, sent := 0, 0
			pad := strings.Repeat("x", 2000)
			for node.Connection(id) != nil {
				requirePublish(t, node.Node, "live", fmt.Sprintf(`"%d %s"`, sent, pad))
				// The other one gets everything, at once.
				quick.await(t, fmt.Sprintf(`{"push":{"channel":"live","pub":{"data":"%d x`, sent))
				most = max(most, client.QueuedBytes())
				sent++
			}
			require.LessOrEqual(t, most, test.queue)
			eventually(t, func() bool { return client.QueuedBytes() == 0 }, "queued: %d", func() any { return client.QueuedBytes() })
			code := client.Ending().Code
			require.Contains(t, test.want, code)
			node.requireEnd(t, "stalled", code)
			quick.await(t, `{"push":{"channel":"live","leave":{"info":{"user":"stalled"`)
			node.requireLive(t, quick)

			_, lines := stalled.ended(t)
			got := slices.DeleteFunc(lines, func(line string) bool { return !strings.Contains(line, `"pub":`) })
			for i, line := range got {
				require.Contains(t, line, fmt.Sprintf(`"data":"%d x`, i), "what it got is in order")
			}
			require.LessOrEqual(t, len(got), sent)
			require.NoError(t, quick.Close(websocket.StatusNormalClosure, ""))
			node.requireEmpty(t)
			require.Equal(t, 1, counted(node.tally, &node.tally.disconnected, code))
		})
	}
}

// A connection that breaks is noticed at once: no ping is needed, and nothing more is said to it.
func TestBoundsWebSocket_Reset(t *testing.T) {
	node := serve(t, fanfare.Config{PingInterval: -1})
	bystander := node.connect(t, "bystander")
	p := node.connect(t, "ann")
	bystander.await(t, `{"push":{"channel":"live","join":{"info":{"user":"ann"`)
	require.NoError(t, p.tcp.SetLinger(0)) // closing sends a reset
	require.NoError(t, p.tcp.Close())
	bystander.await(t, `{"push":{"channel":"live","leave":{"info":{"user":"ann"`)
	node.requireEnd(t, "ann", fanfare.DisconnectClosed.Code)
	node.requireLive(t, bystander)
	require.NoError(t, bystander.CloseNow())
	node.requireEmpty(t)
}

// A peer that is gone without a word, as one behind a pulled cable, is found by the missing pong.
func TestBoundsWebSocket_HalfOpen(t *testing.T) {
	for door, connect := range map[string]string{
		"websocket":     `{"id":1,"connect":{"token":"ann"}}`,
		"uni_websocket": `{"token":"ann"}`,
	} {
		t.Run(door, func(t *testing.T) {
			t.Parallel()
			node := serve(t, fanfare.Config{PingInterval: time.Second})
			p := node.dial(t, door, false)
			began := time.Now()
			p.send(t, connect)
			node.requireEnd(t, "ann", 3012)
			require.GreaterOrEqual(t, time.Since(began), 500*time.Millisecond, "the first ping comes after half an interval")
			// It is there again: what it finds says why it has to come back.
			end, _ := p.ended(t)
			require.Equal(t, websocket.CloseError{Code: 3012, Reason: "no pong"}, end)
			node.requireEmpty(t)
			require.Equal(t, 1, counted(node.tally, &node.tally.disconnected, 3012))
		})
	}
}
