package websocket

import (
	"bytes"
	"errors"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// sink is a connection that keeps what is written, call by call.
type sink struct {
	net.Conn
	writes []string
	fail   error
}

func (s *sink) SetWriteDeadline(time.Time) error { return nil }

func (s *sink) Write(p []byte) (int, error) {
	if s.fail != nil {
		return 0, s.fail
	}
	s.writes = append(s.writes, string(p))
	return len(p), nil
}

const (
	aPong  = "\x8a\x02hi"
	aClose = "\x88\x02\x03\xe8"
)

func TestWire_HoldsControlFramesBackFromACutFrame(t *testing.T) {
	t.Parallel()
	s := &sink{}
	w := &wire{Conn: s, rest: []byte("REST")}
	_, err := w.Write([]byte(aPong))
	require.NoError(t, err)
	require.Empty(t, s.writes)
	require.NoError(t, w.send([]byte("REST+more")))
	_, err = w.Write([]byte(aPong))
	require.NoError(t, err)
	require.Equal(t, []string{"REST+more", aPong, aPong}, s.writes)
}

func TestWire_HeldControlFramesAreBounded(t *testing.T) {
	t.Parallel()
	w := &wire{Conn: &sink{}, rest: []byte("REST")}
	for range 10_000 {
		_, err := w.Write([]byte("\x8a\x7d" + strings.Repeat("x", 125)))
		require.NoError(t, err)
	}
	_, err := w.Write([]byte(aPong))
	require.NoError(t, err)
	require.LessOrEqual(t, len(w.held), maxHeld)
	require.True(t, bytes.HasSuffix(w.held, []byte(aPong)), "the latest is kept")
}

func TestWire_CloseFrameFinishesACutFrameAndIsTheLast(t *testing.T) {
	t.Parallel()
	s := &sink{}
	w := &wire{Conn: s, rest: []byte("REST"), held: []byte(aPong)}
	_, err := w.Write([]byte(aClose))
	require.NoError(t, err)
	require.Equal(t, []string{"REST" + aClose}, s.writes)
	require.ErrorIs(t, w.send([]byte("REST")), net.ErrClosed)
	_, err = w.Write([]byte(aPong))
	require.ErrorIs(t, err, net.ErrClosed)
	require.Len(t, s.writes, 1)
}

func TestWire_NothingFollowsAFailedWrite(t *testing.T) {
	t.Parallel()
	broken := errors.New("broken")
	s := &sink{fail: broken}
	w := &wire{Conn: s}
	require.ErrorIs(t, w.send([]byte("frame")), broken)
	s.fail = nil
	require.ErrorIs(t, w.send([]byte("frame")), broken)
	_, err := w.Write([]byte(aClose))
	require.ErrorIs(t, err, broken)
	require.Empty(t, s.writes)
}

// stuck is a connection whose peer takes nothing; it tells when a write has begun.
type stuck struct {
	net.Conn
	begun chan struct{}
}

func (s *stuck) Write(p []byte) (int, error) {
	close(s.begun)
	return s.Conn.Write(p)
}

func TestWire_CloseFrameWaitsForABlockedWriteAndGivesUpWithIt(t *testing.T) {
	t.Parallel()
	ours, theirs := net.Pipe()
	defer theirs.Close()
	s := &stuck{Conn: ours, begun: make(chan struct{})}
	w := &wire{Conn: s, timeout: 50 * time.Millisecond}
	sent := make(chan error, 1)
	go func() { sent <- w.send([]byte("frame")) }() // ends with the timeout
	<-s.begun
	_, err := w.Write([]byte(aClose))
	require.ErrorIs(t, err, os.ErrDeadlineExceeded)
	require.ErrorIs(t, <-sent, os.ErrDeadlineExceeded)
}

func TestCloseCode_MapsWhatACloseFrameCannotCarry(t *testing.T) {
	t.Parallel()
	for code, want := range map[uint32]int{
		1: 1011, 999: 1011, 1000: 1000, 1004: 1011, 1005: 1011, 1006: 1011, 1009: 1009, 1015: 1011,
		2500: 1011, 3000: 3000, 4999: 4999, 5000: 1011, 70_000: 1011,
	} {
		require.EqualValues(t, want, closeCode(code), "code %d", code)
	}
}
