package faults

import (
	"context"
	"fmt"
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
	const users = 150 // with two clients each: more than one script puts in again
	for name, perUser := range map[string]bool{"each client is told of": false, "each user is": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := redistest.Start(t)
			p := newProxy(t, s.Addr())
			var nodes []*fanfare.Node
			for _, address := range []string{p.address(), s.Addr()} {
				redis := at(address)
				redis.Lease, redis.Timeout = lease, lease/2
				n := newNode(t, redis, fanfare.Config{Authenticate: fanfaretest.Authenticate})
				n.Channel("room", fanfare.ChannelOptions{Public: true, Presence: true, ForceJoinLeave: true, JoinLeavePerUser: perUser})
				nodes = append(nodes, n)
			}
			observer := fanfaretest.Connect(t, nodes[1], "observer")
			_, err := observer.Subscribe("room")
			require.NoError(t, err)
			here := make(map[string]bool) // as the observer is told
			takes := func(event fanfaretest.Event) {
				who := event.Info.Client
				if perUser {
					who = event.Info.User
				}
				if event.Kind == fanfaretest.KindJoin {
					here[who] = true
				} else {
					delete(here, who)
				}
			}
			sees := func(what string, others int) {
				t.Helper()
				ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
				defer cancel()
				for len(here) != others+1 {
					event, err := observer.Next(ctx)
					require.NoError(t, err, "%s: %d of %d", what, len(here)-1, others)
					takes(event)
				}
			}
			all := 2 * users
			if perUser {
				all = users
			}
			for i := range 2 * users {
				_, err = fanfaretest.Connect(t, nodes[0], fmt.Sprint("user", i%users)).Subscribe("room")
				require.NoError(t, err)
			}
			sees("they come", all)
			p.hold(true)
			sees("they leave", 0)
			p.hold(false)
			sees("they are there again", all)
			time.Sleep(lease / 2) // in which nothing else is told
			for _, event := range observer.Events() {
				takes(event)
			}
			require.Len(t, here, all+1)
			stats, err := nodes[1].PresenceStats(t.Context(), "room")
			require.NoError(t, err)
			require.Equal(t, fanfare.PresenceStats{Clients: 2*users + 1, Users: users + 1}, stats)
		})
	}
}
