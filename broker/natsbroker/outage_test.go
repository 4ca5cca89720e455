package natsbroker

import (
	"context"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare"
)

// healed waits until a broker serves again.
func healed(t testing.TB, b *Broker) {
	t.Helper()
	eventually(t, "the broker is back", func() bool {
		_, err := b.History(context.Background(), "any", fanfare.HistoryQuery{})
		return err == nil
	})
}

func TestRestart_WithDataTheStreamGoesOn(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	a, b := s.broker(t, nil), s.broker(t, nil)
	node := attach(t, b, "one", "x")
	before := mustPublish(t, a, "x", "1")
	s.restart(t, true)
	healed(t, a)
	require.Equal(t, fanfare.Position{Offset: 2, Epoch: before.Epoch}, mustPublish(t, a, "x", "2"))
	eventually(t, "the node is told", func() bool { n, channels := node.interruptions(); return n > 0 && channels == nil })
	after := mustPublish(t, a, "x", "3")
	eventually(t, "the node is served again", func() bool { return node.last() == after })
	require.Len(t, all(t, b, "x").Publications, 3)
}

func TestRestart_WithoutDataEveryChannelBeginsAnew(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	a, b := s.broker(t, nil), s.broker(t, nil)
	node := attach(t, b, "one", "x")
	var before fanfare.Position
	for range 10 {
		before = mustPublish(t, a, "x", "old")
	}
	mustPublish(t, b, "y", "old")
	s.restart(t, false)
	healed(t, a)
	healed(t, b)
	eventually(t, "the node is told", func() bool { n, channels := node.interruptions(); return n > 0 && channels == nil })
	for _, broker := range []*Broker{a, b} {
		h := all(t, broker, "x")
		require.NotEqual(t, before.Epoch, h.Epoch)
		require.Zero(t, h.Offset)
	}
	after := mustPublish(t, a, "x", "new")
	require.EqualValues(t, 1, after.Offset)
	require.NotEqual(t, before.Epoch, after.Epoch)
	eventually(t, "the node is served again", func() bool { return node.last() == after })
	require.EqualValues(t, 1, mustPublish(t, b, "y", "new").Offset)
}

func TestRestart_WithoutItsNewestDataEveryChannelBeginsAnew(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	b := s.broker(t, nil)
	old := mustPublish(t, b, "x", "1")
	mustPublish(t, b, "quiet", "1")
	s.stop()
	kept := t.TempDir()
	require.NoError(t, os.CopyFS(kept, os.DirFS(s.dir)))
	s.start(t)
	healed(t, b)
	lost := mustPublish(t, b, "x", "2")
	require.Equal(t, old.Epoch, lost.Epoch)

	s.stop() // as a machine that lost its power
	require.NoError(t, os.RemoveAll(s.dir))
	require.NoError(t, os.CopyFS(s.dir, os.DirFS(kept)))
	s.start(t)
	healed(t, b)
	for _, channel := range []string{"x", "quiet"} {
		at := mustPublish(t, b, channel, "3")
		require.EqualValues(t, 1, at.Offset)
		require.NotEqual(t, old.Epoch, at.Epoch)
	}
}

func TestOutage_OperationsFailSoonAndHeal(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	b := s.broker(t, func(c *Config) { c.Timeout = 500 * time.Millisecond })
	node := &sink{}
	l, err := b.Attach("one", node)
	require.NoError(t, err)
	require.NoError(t, l.Subscribe(t.Context(), "x"))
	mustPublish(t, b, "x", "1")
	s.stop()

	for range 20 { // at first the connection is not known to be broken
		began := time.Now()
		_, err = publish(b, "x", "lost")
		require.ErrorIs(t, err, ErrUnavailable)
		require.Less(t, time.Since(began), 5*time.Second)
	}
	_, err = b.History(t.Context(), "x", fanfare.HistoryQuery{})
	require.ErrorIs(t, err, ErrUnavailable)
	require.ErrorIs(t, b.RemoveHistory(t.Context(), "x"), ErrUnavailable)
	require.ErrorIs(t, b.PublishMembership(t.Context(), "x", fanfare.Membership{}), ErrUnavailable)
	require.ErrorIs(t, b.SendControl(t.Context(), "one", "", nil), ErrUnavailable)
	require.ErrorIs(t, l.Subscribe(t.Context(), "y"), ErrUnavailable)
	require.NoError(t, l.Unsubscribe(t.Context(), "x"))
	_, err = b.Nodes(t.Context())
	require.ErrorIs(t, err, ErrUnavailable)
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = b.History(ended, "x", fanfare.HistoryQuery{})
	require.ErrorIs(t, err, context.Canceled)

	s.start(t)
	healed(t, b)
	require.NoError(t, l.Subscribe(t.Context(), "x"))
	after := mustPublish(t, b, "x", "2")
	eventually(t, "the node is served again", func() bool { return node.last() == after })
}

func TestOutage_ClosedWhileAway(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	b := s.broker(t, nil)
	attach(t, b, "one", "x")
	s.stop()
	began := time.Now()
	require.NoError(t, b.Close())
	require.Less(t, time.Since(began), 10*time.Second)
	_, err := publish(b, "x", "1")
	require.ErrorIs(t, err, fanfare.ErrClosed)
}

func TestStream_DeletedByAnOperatorIsMadeAgain(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	b := s.broker(t, nil)
	node := attach(t, b, "one", "x")
	before := mustPublish(t, b, "x", "1")
	require.NoError(t, b.js.DeleteStream(t.Context(), "fanfare"))
	_, err := publish(b, "x", "2")
	require.ErrorIs(t, err, ErrUnavailable)
	healed(t, b)
	after := mustPublish(t, b, "x", "3")
	require.EqualValues(t, 1, after.Offset)
	require.NotEqual(t, before.Epoch, after.Epoch)
	eventually(t, "the node is told and served", func() bool {
		n, _ := node.interruptions()
		return n > 0 && node.last() == after
	})
}

// Nobody may have needed the stream between its end and the moment in which the clock is read.
func TestStream_FoundGoneByTheClockIsTold(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	b := s.broker(t, nil)
	node := attach(t, b, "one", "x")
	mustPublish(t, b, "x", "1")
	require.NoError(t, b.js.DeleteStream(t.Context(), "fanfare"))
	b.sync(t.Context())
	eventually(t, "the node is told", func() bool {
		n, _ := node.interruptions()
		return n > 0
	})
}
