package faults

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare"
	"github.com/fanfare-go/fanfare/broker/internal/delivery"
	"github.com/fanfare-go/fanfare/broker/internal/redistest"
	"github.com/fanfare-go/fanfare/fanfaretest"
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

// TestLink_CutOffForALease: a node that reaches nothing for longer than its lease is dead to the others, though its clients are still
// there. They leave, and come again when it is back.
func TestLink_CutOffForALease(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	p := newProxy(t, s.Addr())
	var nodes []*fanfare.Node
	for _, address := range []string{p.address(), s.Addr()} {
		redis := at(address)
		redis.Lease, redis.Timeout = lease, lease/2
		n := newNode(t, redis, fanfare.Config{Authenticate: fanfaretest.Authenticate})
		n.Channel("room", fanfare.ChannelOptions{Public: true, Presence: true, ForceJoinLeave: true})
		nodes = append(nodes, n)
	}
	observer := fanfaretest.Connect(t, nodes[1], "observer")
	_, err := observer.Subscribe("room")
	require.NoError(t, err)
	seen := func(kind, user string) {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		defer cancel()
		event, err := observer.Next(ctx)
		require.NoError(t, err)
		require.Equal(t, kind+" "+user, string(event.Kind)+" "+event.Info.User)
	}
	seen("join", "observer")
	_, err = fanfaretest.Connect(t, nodes[0], "ann").Subscribe("room")
	require.NoError(t, err)
	seen("join", "ann")

	p.hold(true)
	seen("leave", "ann")
	p.hold(false)
	seen("join", "ann")
	members, err := nodes[1].Presence(t.Context(), "room")
	require.NoError(t, err)
	require.Len(t, members, 2)
}
