//go:build linux

package main

import (
	"bufio"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/fanfare-go/fanfare"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const limit = 10 * time.Second

// subscribeRaw opens a WebSocket as loadgen does, and reads until it is subscribed.
func subscribeRaw(t *testing.T, server *httptest.Server, channel string) (net.Conn, *bufio.Reader) {
	t.Helper()
	c, err := net.DialTimeout("tcp", server.Listener.Addr().String(), limit)
	require.NoError(t, err)
	t.Cleanup(func() { _ = c.Close() })
	require.NoError(t, c.SetDeadline(time.Now().Add(limit)))
	const upgrade = "GET /connection/websocket HTTP/1.1\r\nHost: %s\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n" +
		"Sec-WebSocket-Key: bG9hZGdlbi1sb2FkZ2VuIQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
	_, err = fmt.Fprintf(c, upgrade, server.Listener.Addr())
	require.NoError(t, err)
	r := bufio.NewReader(c)
	resp, err := http.ReadResponse(r, nil)
	require.NoError(t, err)
	require.Equal(t, http.StatusSwitchingProtocols, resp.StatusCode)

	hello := `{"id":1,"connect":{}}` + "\n" + fmt.Sprintf(`{"id":2,"subscribe":{"channel":%q}}`, channel)
	frame := append([]byte{0x81, 0x80 | byte(len(hello)), 0, 0, 0, 0}, hello...)
	_, err = c.Write(frame)
	require.NoError(t, err)
	for text := ""; !strings.Contains(text, `{"id":2,"subscribe":{`); {
		text = string(serverFrame(t, r))
	}
	return c, r
}

// serverFrame reads one frame, header and all.
func serverFrame(t *testing.T, r *bufio.Reader) []byte {
	t.Helper()
	head, err := r.Peek(4)
	require.NoError(t, err)
	size := 2 + int(head[1])
	if head[1] == 126 {
		size = 4 + int(binary.BigEndian.Uint16(head[2:]))
	}
	b := make([]byte, size)
	_, err = io.ReadFull(r, b)
	require.NoError(t, err)
	return b
}

func startFloor(t *testing.T) (*floor, *httptest.Server) {
	f := newFloor()
	server := httptest.NewServer(f.handler())
	t.Cleanup(func() {
		require.NoError(t, f.close(context.Background()))
		server.Close()
	})
	return f, server
}

func TestFloor_WritesTheBytesThatANodeWrites(t *testing.T) {
	node, err := fanfare.New(fanfare.Config{DrainWindow: -1})
	require.NoError(t, err)
	node.Channel("{any...}", fanfare.ChannelOptions{Public: true})
	nodeServer := httptest.NewServer(node)
	t.Cleanup(nodeServer.Close)
	t.Cleanup(func() { require.NoError(t, node.Shutdown(context.Background())) })
	f, floorServer := startFloor(t)

	for _, size := range []int{64, 128, 4096} {
		channel := fmt.Sprintf("bench%d", size)
		data := []byte(`{"t":1700000000000000000,"n":7,"p":"` + strings.Repeat("x", size) + `"}`)
		_, fromNode := subscribeRaw(t, nodeServer, channel)
		_, fromFloor := subscribeRaw(t, floorServer, channel)
		_, err := node.Publish(t.Context(), channel, data)
		require.NoError(t, err)
		require.NoError(t, f.publish(t.Context(), channel, data))
		require.Equal(t, string(serverFrame(t, fromNode)), string(serverFrame(t, fromFloor)))
	}
}

func TestFloor_WritesToTheSubscribersThatRemain(t *testing.T) {
	f, server := startFloor(t)
	leaver, first := subscribeRaw(t, server, "a")
	_, second := subscribeRaw(t, server, "a")
	_, third := subscribeRaw(t, server, "a")
	_, other := subscribeRaw(t, server, "b")
	require.NoError(t, f.publish(t.Context(), "a", []byte(`1`)))
	require.NoError(t, f.publish(t.Context(), "b", []byte(`2`)))
	for _, r := range []*bufio.Reader{first, second, third} {
		require.Contains(t, string(serverFrame(t, r)), `"data":1`)
	}
	require.Contains(t, string(serverFrame(t, other)), `"data":2`)

	require.NoError(t, leaver.Close())
	require.Eventually(t, func() bool {
		f.mu.Lock()
		defer f.mu.Unlock()
		return len(f.channels["a"]) == 2
	}, limit, time.Millisecond)
	require.NoError(t, f.publish(t.Context(), "a", []byte(`3`)))
	for _, r := range []*bufio.Reader{second, third} {
		require.Contains(t, string(serverFrame(t, r)), `"data":3`)
	}
}

func TestFloor_FinishesAFrameWhenAFullSocketIsRead(t *testing.T) {
	f, server := startFloor(t)
	_, r := subscribeRaw(t, server, "a")
	data := []byte(`"` + strings.Repeat("x", 60<<10) + `"`)
	published := make(chan error, 1)
	const count = 200 // far more than the sockets hold
	go func() {
		for range count {
			if err := f.publish(context.Background(), "a", data); err != nil {
				published <- err
				return
			}
		}
		published <- nil
	}()
	for range count {
		require.Len(t, serverFrame(t, r), 4+len(`{"push":{"channel":"a","pub":{"data":}}}`)+len(data))
	}
	require.NoError(t, <-published)
}
