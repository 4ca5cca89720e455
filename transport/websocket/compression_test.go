package websocket_test

import (
	"bytes"
	"net/http"
	"strings"
	"testing"

	"github.com/coder/websocket"
	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare/transport"
	"github.com/fanfare-go/fanfare/transport/transporttest"
	door "github.com/fanfare-go/fanfare/transport/websocket"
)

// compressing opens a connection whose peer asks for compression.
func compressing(t *testing.T, o door.Options, query string) (*websocket.Conn, *transporttest.Session) {
	t.Helper()
	a, target := setup(t, door.New(o), nil)
	client, response, err := websocket.Dial(t.Context(), target+"/?"+query, &websocket.DialOptions{
		CompressionMode: websocket.CompressionNoContextTakeover,
		HTTPClient:      &http.Client{Transport: &http.Transport{DisableKeepAlives: true}},
	})
	require.NoError(t, err)
	t.Cleanup(func() { _ = client.CloseNow() })
	client.SetReadLimit(-1)
	require.Equal(t, o.Compression, response.Header.Get("Sec-WebSocket-Extensions") != "")
	return client, a.Next(t)
}

func TestCompression_RoundTrip(t *testing.T) {
	t.Parallel()
	client, s := compressing(t, door.Options{Compression: true}, "cf_ws_frame_ping_pong=true")
	require.NotImplements(t, (*transport.TryWriter)(nil), s.Conn)
	random := bytes.Repeat([]byte(`{"a":"0123456789"}`), 10_000)
	messages := [][]byte{[]byte("{}"), bytes.Repeat([]byte("x"), 5000), random}
	framing := s.Conn.Info().Framing

	written := make(chan error, 1)
	go func() { // ends with the write
		frames := s.Conn.(transport.Pinger).AppendPing(framing.AppendFrame(nil, messages...))
		written <- s.Conn.Write(framing.AppendFrame(frames, []byte("last")))
	}()
	var got [][]byte
	for len(got) < 4 {
		kind, frame, err := client.Read(t.Context())
		require.NoError(t, err)
		require.Equal(t, websocket.MessageText, kind)
		got = append(got, bytes.Split(frame, []byte("\n"))...)
	}
	require.Equal(t, append(messages, []byte("last")), got)
	require.NoError(t, <-written)
	s.Ponged(t)

	for _, size := range []int{1, 5000, 600_000} {
		require.NoError(t, client.Write(t.Context(), websocket.MessageText, bytes.Repeat([]byte("y"), size)))
		require.Len(t, s.Frame(t), size)
	}
	require.NoError(t, client.Close(websocket.StatusNormalClosure, ""))
	require.NoError(t, s.Ended(t))
}

func TestCompression_BoundsInflatedMessages(t *testing.T) {
	t.Parallel()
	client, s := compressing(t, door.Options{Compression: true, MaxFrameSize: 1000}, "")
	require.NoError(t, client.Write(t.Context(), websocket.MessageText, bytes.Repeat([]byte("y"), 10_000)))
	require.Len(t, s.Frame(t), 10_000)
	require.NoError(t, client.Write(t.Context(), websocket.MessageText, bytes.Repeat([]byte("y"), 10_001)))
	_, _, err := client.Read(t.Context())
	require.Equal(t, websocket.StatusMessageTooBig, websocket.CloseStatus(err))
	require.Error(t, s.Ended(t))
}

func TestCompression_IsOffByDefault(t *testing.T) {
	t.Parallel()
	_, s := compressing(t, door.Options{}, "")
	require.Implements(t, (*transport.TryWriter)(nil), s.Conn)
}

func TestCompression_CloseCarriesCodeAndReason(t *testing.T) {
	t.Parallel()
	client, s := compressing(t, door.Options{Compression: true}, "")
	go func() { _ = s.Conn.Close(3503, "") }() // ends with the closing handshake
	_, _, err := client.Read(t.Context())
	require.ErrorAs(t, err, &websocket.CloseError{})
	require.True(t, strings.Contains(err.Error(), "disconnect"))
	require.Equal(t, websocket.StatusCode(3503), websocket.CloseStatus(err))
	require.NoError(t, s.Ended(t))
	require.Error(t, s.Conn.Write(s.Conn.Info().Framing.AppendFrame(nil, []byte("late"))))
}

func TestCompression_WriteToAPeerThatDoesNotReadFails(t *testing.T) {
	t.Parallel()
	_, s := compressing(t, door.Options{Compression: true}, "")
	noise := make([]byte, 60_000)
	for i, seed := 0, uint32(1); i < len(noise); i++ {
		seed = seed*1664525 + 1013904223
		noise[i] = byte(seed >> 24)
	}
	frame := s.Conn.Info().Framing.AppendFrame(nil, noise)
	var err error
	for err == nil {
		err = s.Conn.Write(frame)
	}
	_ = s.Conn.Close(3009, "write error")
	_ = s.Ended(t)
}
