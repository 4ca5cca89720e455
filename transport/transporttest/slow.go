package transporttest

import (
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare/transport"
)

// sizeOfSlow is the size of the messages to peers that do not read: large enough that the last one is cut.
const sizeOfSlow = 48_000

// fill writes without waiting until the peer's end takes no more. It returns how many messages it began, and the rest of
// the last one.
func fill(t *testing.T, s *Session) (begun int, rest []byte) {
	t.Helper()
	w, ok := s.Conn.(transport.TryWriter)
	if !ok {
		t.Skip("these connections have no TryWrite")
	}
	for {
		frame := s.Conn.Info().Framing.AppendFrame(nil, message(begun, sizeOfSlow))
		before := time.Now()
		n, err := w.TryWrite(frame)
		require.NoError(t, err)
		require.Less(t, time.Since(before), patience, "TryWrite does not wait")
		begun++
		if n < len(frame) {
			return begun, frame[n:]
		}
	}
}

func slowMessage(i int) []byte { return message(i, sizeOfSlow) }

func testTryWrite(t *testing.T, f *fixture) {
	client, s := f.open(t)
	begun, rest := fill(t, s)
	pinger, pings := client.(Pinger)
	if pings {
		for range 50 {
			require.NoError(t, pinger.Ping())
		}
	}
	if f.o.TwoWay {
		require.NoError(t, client.Send(message(1, 10)))
		s.Frame(t) // so the pings before it have been read, while the frame was cut
	}
	written := make(chan error, 1)
	go func() { // ends with the writes, which the client reads or the timeout ends
		err := s.Conn.Write(rest)
		if err == nil {
			err = s.Conn.Write(s.Conn.Info().Framing.AppendFrame(nil, slowMessage(begun)))
		}
		written <- err
	}()
	expect(t, client, begun+1, slowMessage)
	require.NoError(t, <-written)
	if pings && f.o.TwoWay {
		require.Positive(t, pinger.Pongs(), "pings are answered around the cut frame")
	}
}

func testCutThenClose(t *testing.T, f *fixture) {
	client, s := f.open(t)
	begun, _ := fill(t, s)
	closed := make(chan error, 1)
	go func() { closed <- s.Conn.Close(3008, "slow") }() // ends with the closing handshake
	messages, err := readAll(client)
	require.GreaterOrEqual(t, len(messages), begun-1, "nothing that was begun is lost")
	for i, m := range messages {
		require.Equal(t, string(slowMessage(i)), string(m))
	}
	if f.o.CloseFrames {
		require.Equal(t, &Closed{3008, "slow"}, err)
	}
	require.NoError(t, <-closed)
	require.NoError(t, s.Ended(t))
}

func testCutThenDrop(t *testing.T, f *fixture) {
	client, s := f.open(t)
	begun, _ := fill(t, s)
	// Nobody reads until Close is done.
	within(t, "Close", patience, func() { _ = s.Conn.Close(3008, "slow") })
	require.NoError(t, s.Ended(t))
	messages, err := readAll(client)
	require.LessOrEqual(t, len(messages), begun)
	for i, m := range messages {
		require.Equal(t, string(slowMessage(i)), string(m), "a close must not cut into a message")
	}
	if c := new(Closed); errors.As(err, &c) { // the socket found room after all
		require.Len(t, messages, begun)
		require.Equal(t, &Closed{3008, "slow"}, c)
	}
}

// stall writes until the peer's end takes no more and Write fails.
func stall(s *Session) error {
	for i := 0; ; i++ {
		if err := s.Conn.Write(s.Conn.Info().Framing.AppendFrame(nil, slowMessage(i))); err != nil {
			return err
		}
	}
}

func testWriteTimeout(t *testing.T, f *fixture) {
	_, s := f.open(t)
	within(t, "Write", patience, func() { require.Error(t, stall(s)) })
	require.Error(t, s.Conn.Write(s.Conn.Info().Framing.AppendFrame(nil, message(1, 10))),
		"after an error the connection is unusable")
	within(t, "Close", patience, func() { _ = s.Conn.Close(3009, "write error") })
	require.NoError(t, s.Ended(t))
}

func testCloseUnblocks(t *testing.T, f *fixture) {
	for _, code := range []uint32{0, 3001} {
		client, s := f.open(t)
		stalled, closed := make(chan error, 1), make(chan struct{})
		go func() { stalled <- stall(s) }() // ends with Close, or the write timeout
		go func() {                         // ends with the closing handshake, or without when the peer is gone
			defer close(closed)
			_ = s.Conn.Close(code, "shutdown")
		}()
		within(t, "Write", patience, func() { require.Error(t, <-stalled) })
		require.NoError(t, client.Drop())
		within(t, "Close", patience, func() { <-closed })
		_ = s.Ended(t)
	}
}
