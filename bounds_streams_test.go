package fanfare_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare"
)

// The bounds over responses that are held open, with sockets whose buffers are small.

// rawStream is a client of such a response that reads only when it is told to.
type rawStream struct {
	door   string
	tcp    *net.TCPConn
	lines  *bufio.Reader
	passed []string // lines that were not awaited
}

// openStream connects a user who watches what is live.
func (s *served) openStream(t *testing.T, door, user string) *rawStream {
	t.Helper()
	conn, err := net.Dial("tcp", strings.TrimPrefix(s.url, "http://"))
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	p := &rawStream{door: door, tcp: conn.(*net.TCPConn), lines: bufio.NewReaderSize(conn, 4<<10)}
	require.NoError(t, p.tcp.SetReadBuffer(8<<10))
	body := fmt.Sprintf(`{"id":1,"connect":{"token":%q}}`+"\n"+`{"id":2,"subscribe":{"channel":"live"}}`, user)
	want := `{"id":2,"subscribe":{}}`
	if strings.HasPrefix(door, "uni_") {
		body, want = fmt.Sprintf(`{"token":%q,"subs":{"live":{}}}`, user), `"subs":{"live":{}}`
	}
	if door == "events" {
		_, err = fmt.Fprintf(conn, "GET /events?channel=live&user=%s HTTP/1.1\r\nHost: x\r\n\r\n", user)
		require.NoError(t, err)
		p.await(t, "event: ready")
		return p
	}
	_, err = fmt.Fprintf(conn, "POST /%s HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s", door, len(body), body)
	require.NoError(t, err)
	p.await(t, want)
	return p
}

// joined, left and data are what lines say of a user that comes, or goes, and of a publication.
func (p *rawStream) joined(user string) string { return p.membership("join", user) }
func (p *rawStream) left(user string) string   { return p.membership("leave", user) }

func (p *rawStream) membership(kind, user string) string {
	if p.door == "events" {
		return fmt.Sprintf(`data: {"channel":"live","user":%q,`, user) // of a join first, and then of a leave
	}
	return fmt.Sprintf(`%q:{"info":{"user":%q`, kind, user)
}

func (p *rawStream) data(begin string) string {
	if p.door == "events" {
		return "data: " + begin
	}
	return `"data":` + begin
}

// await waits for a line that contains a text.
func (p *rawStream) await(t *testing.T, text string) {
	t.Helper()
	require.NoError(t, p.tcp.SetReadDeadline(time.Now().Add(30*time.Second)))
	for {
		if i := slices.IndexFunc(p.passed, func(line string) bool { return strings.Contains(line, text) }); i >= 0 {
			p.passed = slices.Delete(p.passed, i, i+1)
			return
		}
		line, err := p.lines.ReadString('\n')
		require.NoError(t, err, "waiting for %s", text)
		p.passed = append(p.passed, line)
	}
}

// A client that does not read is found by its full queue or by a write that does not end, and holds up nobody.
func TestBoundsStreams_StopsReading(t *testing.T) {
	for name, test := range map[string]struct {
		queue int
		write time.Duration
		want  []uint32
	}{
		"full queue":           {32 << 10, 2 * time.Second, []uint32{3008, 3009}}, // a machine may be that slow
		"write that times out": {64 << 20, 500 * time.Millisecond, []uint32{3009}},
	} {
		for _, door := range []string{"http_stream", "sse", "uni_http_stream", "uni_sse", "events"} {
			t.Run(name+", "+door, func(t *testing.T) {
				node := serve(t, fanfare.Config{MaxQueueSize: test.queue, WriteTimeout: test.write, PingInterval: -1})
				quick := node.openStream(t, door, "quick")
				stalled := node.openStream(t, door, "stalled")
				quick.await(t, quick.joined("stalled"))
				client := node.clientOf(t, "stalled")

				most, sent := 0, 0
				pad := strings.Repeat("x", 2000)
				for node.Connection(client.ID()) != nil {
					requirePublish(t, node.Node, "live", fmt.Sprintf(`"%d %s"`, sent, pad))
					quick.await(t, quick.data(fmt.Sprintf(`"%d x`, sent))) // it gets everything, at once
					most = max(most, client.QueuedBytes())
					sent++
				}
				require.LessOrEqual(t, most, test.queue)
				eventually(t, func() bool { return client.QueuedBytes() == 0 }, "queued: %d", func() any { return client.QueuedBytes() })
				code := client.Ending().Code
				require.Contains(t, test.want, code)
				node.requireEnd(t, "stalled", code)
				quick.await(t, quick.left("stalled"))

				requireInOrder(t, stalled, sent)
				require.NoError(t, quick.tcp.Close())
				node.requireEmpty(t)
				require.Equal(t, 1, counted(node.tally, &node.tally.disconnected, code))
			})
		}
	}
}

// clientOf returns the connection of a user who watches what is live.
func (s *served) clientOf(t *testing.T, user string) *fanfare.Client {
	t.Helper()
	members, err := s.Presence(t.Context(), "live")
	require.NoError(t, err)
	for _, m := range members {
		if m.User == user {
			client := s.Connection(m.Client)
			require.NotNil(t, client)
			return client
		}
	}
	require.FailNow(t, "nobody", "%s is not there", user)
	return nil
}

// requireInOrder reads what the kernel had taken: the first of the publications, one after the other, and then the end.
func requireInOrder(t *testing.T, p *rawStream, sent int) {
	t.Helper()
	require.NoError(t, p.tcp.SetReadDeadline(time.Now().Add(30*time.Second)))
	all, err := io.ReadAll(p.lines)
	if err != nil {
		require.NotErrorIs(t, err, net.ErrClosed)
		require.NotContains(t, err.Error(), "timeout", "the connection does not end")
	}
	next := 0
	lines := strings.Split(string(all), "\n")
	for _, line := range lines[:len(lines)-1] { // the last one may be cut
		if strings.Contains(line, " xxx") {
			require.Contains(t, line, p.data(fmt.Sprintf(`"%d x`, next)))
			next++
		}
	}
	require.LessOrEqual(t, next, sent)
}

// A client that resets its connection is noticed at once: no ping is needed.
func TestBoundsStreams_Reset(t *testing.T) {
	for _, door := range []string{"http_stream", "sse", "uni_http_stream", "uni_sse", "events"} {
		t.Run(door, func(t *testing.T) {
			node := serve(t, fanfare.Config{PingInterval: -1})
			bystander := node.openStream(t, door, "bystander")
			p := node.openStream(t, door, "ann")
			bystander.await(t, bystander.joined("ann"))
			require.NoError(t, p.tcp.SetLinger(0)) // closing sends a reset
			require.NoError(t, p.tcp.Close())
			bystander.await(t, bystander.left("ann"))
			require.NoError(t, bystander.tcp.Close())
			node.requireEmpty(t)
		})
	}
}
