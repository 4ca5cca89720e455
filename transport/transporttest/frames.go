package transporttest

import (
	"bytes"
	"fmt"
	"io"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare/transport"
)

func testUnready(t *testing.T, f *fixture) {
	f.acceptor.Unready = transport.ErrUnavailable
	require.Equal(t, 503, f.refused(t).Status)
}

func testOrigin(t *testing.T, f *fixture) {
	f.acceptor.Foreign = true
	require.Equal(t, 403, f.refused(t).Status)
}

func testAcceptFails(t *testing.T, f *fixture) {
	for _, err := range []error{transport.ErrUnavailable, io.ErrNoProgress} {
		f.acceptor.AcceptErr = err
		client, err := f.dial(t)
		if err == nil { // a door that asks before it answers refuses instead
			_, err = readAll(client)
		}
		require.Error(t, err)
	}
	require.Len(t, f.acceptor.Reports(), 1, "a shutdown is not worth a report, other errors are")
}

func testRequest(t *testing.T, f *fixture) {
	_, s := f.open(t)
	require.Equal(t, "marked", s.Request.Header.Get("X-Test"))
	require.Equal(t, f.door.Name(), s.Conn.Info().Name)
	require.NotZero(t, s.Conn.Info().Encoding)
	require.NotNil(t, s.Conn.Info().Framing)
}

func testServeReturns(t *testing.T, f *fixture) {
	_, s := f.open(t)
	within(t, "Serve", patience, func() { <-f.serving })
	require.False(t, s.closed.Load(), "the connection lives")
	s.Send(t, message(0, 10))
}

func testFirst(t *testing.T, f *fixture) {
	f.open(t) // which checks it
}

func testInOrder(t *testing.T, f *fixture) {
	client, s := f.open(t)
	go func() { // ends when all is sent, or the connection is dropped
		for i := range 300 {
			if client.Send(message(i, i*i%5000)) != nil {
				return
			}
		}
		_ = client.Send(message(300, maxFrameSize))
	}()
	for i := range 300 {
		require.Equal(t, string(message(i, i*i%5000)), string(s.Frame(t)))
	}
	require.Len(t, s.Frame(t), maxFrameSize, "the largest message that is allowed")
}

func testTooLarge(t *testing.T, f *fixture) {
	client, s := f.open(t)
	go func() { // ends when all is sent, or the connection is dropped
		_ = client.Send(message(1, maxFrameSize+1))
	}()
	_, err := readAll(client)
	require.Equal(t, &Closed{f.o.TooLarge, ""}, err)
	require.Error(t, s.Ended(t))
	require.Zero(t, s.Frames())
}

func testNotText(t *testing.T, f *fixture) {
	client, s := f.open(t)
	require.NoError(t, client.Send([]byte("\"\xc3\"")))
	_, err := readAll(client)
	require.Equal(t, &Closed{f.o.NotText, ""}, err)
	require.Error(t, s.Ended(t))
	require.Zero(t, s.Frames())
}

func testBlockedReceive(t *testing.T, f *fixture) {
	release := make(chan struct{})
	var calls atomic.Int32
	f.acceptor.Receive = func(_ *Session, frame []byte) error {
		if bytes.Equal(frame, f.o.First) {
			return nil
		}
		calls.Add(1)
		<-release
		return transport.ErrUnavailable
	}
	client, s := f.open(t)
	require.NoError(t, client.Send(message(1, 100)))
	require.NoError(t, client.Send(message(2, 100)))
	s.Frame(t)
	s.Send(t, message(3, 100))
	got, err := client.Next()
	require.NoError(t, err)
	require.Equal(t, message(3, 100), got[0], "writing goes on")

	closed := make(chan struct{})
	go func() { // ends with Close
		defer close(closed)
		_ = s.Conn.Close(3501, "bad request")
	}()
	_, err = readAll(client)
	require.Error(t, err)
	within(t, "Close", patience, func() { <-closed })
	close(release)
	require.NoError(t, s.Ended(t))
	require.EqualValues(t, 1, calls.Load(), "the second frame was not received meanwhile")
}

func testReceiveFails(t *testing.T, f *fixture) {
	f.acceptor.Receive = func(s *Session, frame []byte) error {
		if bytes.Equal(frame, f.o.First) {
			return nil
		}
		go func() { _ = s.Conn.Close(3501, "bad request") }() // ends with the connection
		return transport.ErrUnavailable
	}
	client, s := f.open(t)
	require.NoError(t, client.Send(message(1, 100)))
	require.NoError(t, client.Send(message(2, 100)))
	_, err := readAll(client)
	if f.o.CloseFrames {
		require.Equal(t, &Closed{3501, "bad request"}, err)
	}
	require.NoError(t, s.Ended(t))
	require.Equal(t, 1, s.Frames())
}

func testReceivePanics(t *testing.T, f *fixture) {
	f.acceptor.Receive = func(_ *Session, frame []byte) error {
		if bytes.Equal(frame, f.o.First) {
			return nil
		}
		panic("scripted")
	}
	client, s := f.open(t)
	require.NoError(t, client.Send(message(1, 100)))
	_, err := readAll(client)
	require.Error(t, err)
	require.ErrorContains(t, s.Ended(t), "scripted")
}

func testOutOrder(t *testing.T, f *fixture) {
	client, s := f.open(t)
	go func() { // ends when all is written, or the connection is dropped
		for i := range 300 {
			if s.Conn.Write(s.Conn.Info().Framing.AppendFrame(nil, message(i, i*i%3000))) != nil {
				return
			}
		}
	}()
	expect(t, client, 300, func(i int) []byte { return message(i, i*i%3000) })
}

func testOutBatch(t *testing.T, f *fixture) {
	client, s := f.open(t)
	size := func(i int) int { return []int{2, 130, 9000, 40_000, 100_000}[i%5] }
	var all [][]byte
	for i := range 40 {
		all = append(all, message(i, size(i)))
	}
	go func() { // ends when all is written, or the connection is dropped
		_ = s.Conn.Write(s.Conn.Info().Framing.AppendFrame(nil, all...))
	}()
	expect(t, client, len(all), func(i int) []byte { return all[i] })
}

func testOutJoined(t *testing.T, f *fixture) {
	client, s := f.open(t)
	framing := s.Conn.Info().Framing
	frames := framing.AppendFrame([]byte("kept"), message(0, 10), message(1, 200))
	require.Equal(t, "kept", string(frames[:4]), "AppendFrame appends")
	frames = framing.AppendFrame(frames[4:], message(2, 70_000))
	frames = append(frames, framing.AppendFrame(nil, message(3, 1))...)
	go func() { // ends when all is written, or the connection is dropped
		_ = s.Conn.Write(frames)
	}()
	sizes := []int{10, 200, 70_000, 1}
	expect(t, client, len(sizes), func(i int) []byte { return message(i, sizes[i]) })
}

func testFramingEqual(t *testing.T, f *fixture) {
	_, one := f.open(t)
	_, other := f.open(t)
	byFraming := map[transport.Framing]int{one.Conn.Info().Framing: 1}
	require.Equal(t, 1, byFraming[other.Conn.Info().Framing])
}

func testNativePing(t *testing.T, f *fixture) {
	client, s := f.open(t)
	pinger, ok := s.Conn.(transport.Pinger)
	if !s.Conn.Info().NativePing {
		t.Skip("these connections make no native pings")
	}
	require.True(t, ok, "a Conn with Info.NativePing is a Pinger")
	go func() { _, _ = readAll(client) }() // ends when the connection is dropped
	for range 3 {
		frames := s.Conn.Info().Framing.AppendFrame(nil, message(1, 100))
		require.NoError(t, s.Conn.Write(pinger.AppendPing(frames)))
		s.Ponged(t)
	}
}

// message is a JSON string of this many bytes, and different for each i where there is room.
func message(i, size int) []byte {
	m := fmt.Appendf(nil, "%q", fmt.Sprintf("%d.", i))
	if size <= len(m) {
		return m
	}
	return append(append(m[:len(m)-1], bytes.Repeat([]byte{'a' + byte(i%26)}, size-len(m))...), '"')
}

// readAll reads until the connection ends.
func readAll(c Client) (messages [][]byte, err error) {
	for {
		m, err := c.Next()
		if err != nil {
			return messages, err
		}
		messages = append(messages, m...)
	}
}

// expect reads n messages and compares them.
func expect(t *testing.T, c Client, n int, want func(i int) []byte) {
	t.Helper()
	for i := 0; i < n; {
		messages, err := c.Next()
		require.NoError(t, err, "after %d messages", i)
		for _, m := range messages {
			if w := want(i); !bytes.Equal(w, m) { // which would print both in full
				t.Fatalf("message %d is %.40q (%d bytes), want %.40q (%d bytes)", i, m, len(m), w, len(w))
			}
			i++
		}
	}
}
