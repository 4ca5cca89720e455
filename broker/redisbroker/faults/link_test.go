package faults

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare"
	"github.com/fanfare-go/fanfare/broker/internal/delivery"
	"github.com/fanfare-go/fanfare/broker/internal/redistest"
)

// TestLink_Cut: what is between one of the nodes and Redis cuts the connections over which it hears. It finds by itself what it has
// missed: nothing else would find it here.
func TestLink_Cut(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	p := newProxy(t, s.Addr())
	c := fanfare.Config{PositionCheck: -1}
	r := delivery.Start(t, delivery.Options{}, newNode(t, at(p.address()), c), newNode(t, at(s.Addr()), c))
	for range 4 {
		r.AwaitAccepted(some)
		lines := p.subscriptions()
		require.NotEmpty(t, lines)
		for _, l := range lines {
			l.end()
		}
	}
	r.AwaitAccepted(5) // hardly anything comes afterwards, by which a gap would be seen
	require.Empty(t, r.Finish().Gaps)
}

// TestLink_BlackHole: nothing comes through any more, without a word. The ping of the connection finds it, without the check of
// positions.
func TestLink_BlackHole(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	p := newProxy(t, s.Addr())
	c := fanfare.Config{PositionCheck: -1}
	r := delivery.Start(t, delivery.Options{}, newNode(t, at(p.address()), c), newNode(t, at(s.Addr()), c))
	r.AwaitAccepted(some)
	lines := p.subscriptions()
	require.NotEmpty(t, lines)
	for _, l := range lines {
		l.hold(true)
	}
	time.Sleep(away(t))
	r.AwaitAccepted(some)
	r.AwaitDelivered() // through the hole, as it were
	for _, l := range lines {
		l.hold(false)
	}
	r.AwaitAccepted(some)
	require.Empty(t, r.Finish().Gaps)
}
