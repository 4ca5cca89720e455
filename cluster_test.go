package fanfare_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/fanfare-go/fanfare"
	"github.com/fanfare-go/fanfare/fanfaretest"
)

// cluster is nodes of one process that share a broker and a presence.
type cluster struct {
	t        *testing.T
	broker   *fanfare.MemoryBroker
	presence *fanfare.MemoryPresence
}

// startCluster makes a cluster without nodes, at the end of which nobody is present. It must be called in a bubble.
func startCluster(t *testing.T) *cluster {
	c := &cluster{t, fanfare.NewMemoryBroker(fanfare.MemoryBrokerConfig{}), fanfare.NewMemoryPresence()}
	t.Cleanup(func() {
		stats, err := c.presence.Stats(context.Background(), "lobby")
		require.NoError(t, err)
		require.Zero(t, stats)
		require.NoError(t, c.presence.Close())
		require.NoError(t, c.broker.Close())
	})
	return c
}

func (c *cluster) start() *fanfare.Node {
	c.t.Helper()
	return startMember(c.t, fanfare.Config{Broker: c.broker, Presence: c.presence})
}

// startMember makes a node with the channels "x", which has history, and "lobby", which tells who is there.
func startMember(t *testing.T, config fanfare.Config) *fanfare.Node {
	t.Helper()
	config.Authenticate, config.DrainWindow = fanfaretest.Authenticate, -1
	node, err := fanfare.New(config)
	require.NoError(t, err)
	node.Channel("x", fanfare.ChannelOptions{Public: true, AllowPublish: fanfare.Anyone, History: fanfare.History{Size: 100, TTL: time.Hour}})
	node.Channel("lobby", fanfare.ChannelOptions{Public: true, Presence: true, AllowPresence: fanfare.Anyone, ForceJoinLeave: true})
	t.Cleanup(func() {
		shutDown(t, node)
		left := node.Residue()
		left.Members = 0 // a shared presence may hold those of other nodes
		require.Zero(t, left)
	})
	return node
}

func shutDown(t *testing.T, node *fanfare.Node) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	require.NoError(t, node.Shutdown(ctx))
}

// joinAs connects a user to a node and subscribes it to the channel. It must be called in a bubble.
func joinAs(t *testing.T, node *fanfare.Node, user, channel string) *fanfaretest.Client {
	t.Helper()
	c := fanfaretest.Connect(t, node, user)
	requireSubscribe(t, c, channel)
	synctest.Wait() // joins of different nodes have no order
	return c
}

// present returns the users that a node knows to be in the lobby, sorted.
func present(t *testing.T, node *fanfare.Node) []string {
	t.Helper()
	members, err := node.Presence(t.Context(), "lobby")
	require.NoError(t, err)
	var users []string
	for _, m := range members {
		users = append(users, m.User)
	}
	slices.Sort(users)
	return users
}

func TestCluster_Publish(t *testing.T) {
	inBubble(t, "what one node publishes reaches the subscribers of all", func(t *testing.T) {
		cluster := startCluster(t)
		a, b := cluster.start(), cluster.start()
		ann, ben := joinAs(t, a, "ann", "x"), joinAs(t, b, "ben", "x")
		first := requirePublish(t, a, "x", `1`)
		second := requirePublish(t, b, "x", `2`)
		require.Equal(t, fanfare.Position{Offset: first.Offset + 1, Epoch: first.Epoch}, second)
		require.NoError(t, ben.Publish("x", []byte(`3`)))
		for _, c := range []*fanfaretest.Client{ann, ben} {
			require.Equal(t, []string{"x 1", "x 2", "x 3"}, events(c))
			require.NoError(t, c.Check())
		}
	})
	inBubble(t, "all see one order, whoever publishes where", func(t *testing.T) {
		cluster := startCluster(t)
		nodes := []*fanfare.Node{cluster.start(), cluster.start()}
		var subs []*fanfaretest.Client
		var publishers errgroup.Group
		for i, node := range slices.Repeat(nodes, 5) {
			subs = append(subs, joinAs(t, node, fmt.Sprint(i), "x"))
		}
		for i, node := range slices.Repeat(nodes, 5) {
			publishers.Go(func() error {
				var err error
				for k := range 10 {
					_, e := node.Publish(t.Context(), "x", fmt.Appendf(nil, "%d", i*100+k))
					err = errors.Join(err, e)
				}
				return err
			})
		}
		require.NoError(t, publishers.Wait())
		want := events(subs[0])
		require.Len(t, want, 100)
		for _, c := range subs[1:] {
			require.Equal(t, want, events(c))
			require.NoError(t, c.Check())
		}
		history, err := nodes[1].History(t.Context(), "x", fanfare.HistoryQuery{Limit: -1})
		require.NoError(t, err)
		require.Equal(t, want, strings.Split("x "+strings.Join(payloads(history.Publications), "\nx "), "\n"))
	})
	inBubble(t, "an idempotency key holds on every node", func(t *testing.T) {
		cluster := startCluster(t)
		a, b := cluster.start(), cluster.start()
		ann := joinAs(t, a, "ann", "x")
		first, err := a.Publish(t.Context(), "x", []byte(`1`), fanfare.WithIdempotencyKey("k"))
		require.NoError(t, err)
		again, err := b.Publish(t.Context(), "x", []byte(`1`), fanfare.WithIdempotencyKey("k"))
		require.NoError(t, err)
		require.Equal(t, first, again)
		require.Equal(t, []string{"x 1"}, events(ann))
	})
}

func TestCluster_UserOperations(t *testing.T) {
	// setup connects ann to both nodes, and ben, who is nobody's business, to the second.
	setup := func(t *testing.T) (a *fanfare.Node, ann []*fanfaretest.Client, ben *fanfaretest.Client) {
		cluster := startCluster(t)
		a, b := cluster.start(), cluster.start()
		token := fanfaretest.WithToken("t") // so that they are told of expiries
		ann = []*fanfaretest.Client{fanfaretest.Connect(t, a, "ann", token), fanfaretest.Connect(t, b, "ann", token)}
		return a, ann, fanfaretest.Connect(t, b, "ben")
	}
	inBubble(t, "Subscribe and Unsubscribe, in this order", func(t *testing.T) {
		a, ann, ben := setup(t)
		require.NoError(t, a.Subscribe(t.Context(), "ann", "x", fanfare.SubscribeReply{Data: []byte(`"hi"`)}))
		synctest.Wait()
		requirePublish(t, a, "x", `1`)
		require.NoError(t, a.Unsubscribe(t.Context(), "ann", "x"))
		synctest.Wait()
		requirePublish(t, a, "x", `2`)
		for _, c := range ann {
			seen := events(c)
			require.Len(t, seen, 3)
			require.Contains(t, seen[0], `"subscribe":{"recoverable":true`)
			require.Contains(t, seen[0], `"data":"hi"`)
			require.Equal(t, []string{"x 1", "x unsubscribe 2000 server unsubscribe"}, seen[1:])
		}
		for range 20 {
			require.NoError(t, a.Subscribe(t.Context(), "ann", "x", fanfare.SubscribeReply{}))
			require.NoError(t, a.Unsubscribe(t.Context(), "ann", "x"))
		}
		for _, c := range ann {
			seen := events(c)
			require.Len(t, seen, 40)
			require.Equal(t, "x unsubscribe 2000 server unsubscribe", seen[39])
		}
		require.Empty(t, events(ben))
	})
	inBubble(t, "Disconnect", func(t *testing.T) {
		a, ann, ben := setup(t)
		require.NoError(t, a.Disconnect(t.Context(), "ann", &fanfare.Disconnect{Code: 4001, Reason: "logged out"}))
		for _, c := range ann {
			requireClosed(t, c, &fanfare.Disconnect{Code: 4001, Reason: "logged out"})
		}
		requireOpen(t, ben)
	})
	inBubble(t, "Refresh", func(t *testing.T) {
		a, ann, ben := setup(t)
		require.NoError(t, a.Refresh(t.Context(), "ann", time.Now().Add(time.Minute)))
		for _, c := range ann {
			require.Equal(t, []string{`{"push":{"refresh":{"expires":true,"ttl":60}}}`}, events(c))
		}
		require.NoError(t, a.Refresh(t.Context(), "ann", time.Now().Add(-time.Minute)))
		for _, c := range ann {
			requireClosed(t, c, fanfare.DisconnectExpired)
		}
		requireOpen(t, ben)
	})
}

func TestCluster_Presence(t *testing.T) {
	inBubble(t, "joins, leaves and presence are those of all nodes", func(t *testing.T) {
		cluster := startCluster(t)
		a, b := cluster.start(), cluster.start()
		ann := joinAs(t, a, "ann", "lobby")
		ben := joinAs(t, b, "ben", "lobby")
		second := joinAs(t, b, "ann", "lobby")
		require.Equal(t, []string{"lobby join ann", "lobby join ben", "lobby join ann"}, events(ann))
		for _, node := range []*fanfare.Node{a, b} {
			require.Equal(t, []string{"ann", "ann", "ben"}, present(t, node))
			stats, err := node.PresenceStats(t.Context(), "lobby")
			require.NoError(t, err)
			require.Equal(t, fanfare.PresenceStats{Clients: 3, Users: 2}, stats)
		}
		members, err := ann.Presence("lobby")
		require.NoError(t, err)
		require.Equal(t, "ben", members[ben.ID()].User)

		second.Close()
		require.NoError(t, ben.Unsubscribe("lobby"))
		require.ElementsMatch(t, []string{"lobby leave ann", "lobby leave ben"}, events(ann))
		require.Equal(t, []string{"ann"}, present(t, b))
	})
}

func TestCluster_Shutdown(t *testing.T) {
	inBubble(t, "the other node goes on, and forgets nobody but those who left", func(t *testing.T) {
		cluster := startCluster(t)
		a, b := cluster.start(), cluster.start()
		ann, ben := joinAs(t, a, "ann", "lobby"), joinAs(t, b, "ben", "lobby")
		for _, c := range []*fanfaretest.Client{ann, ben} {
			requireSubscribe(t, c, "x")
		}
		events(ben)

		shutDown(t, a)
		requireClosed(t, ann, fanfare.DisconnectShutdown)
		require.Equal(t, []string{"lobby leave ann"}, events(ben))
		require.Equal(t, []string{"ben"}, present(t, b))
		_, err := a.Publish(t.Context(), "x", []byte(`1`))
		require.ErrorIs(t, err, fanfare.ErrClosed)

		joinAs(t, b, "cat", "lobby")
		requirePublish(t, b, "x", `2`)
		require.NoError(t, b.Subscribe(t.Context(), "cat", "x", fanfare.SubscribeReply{}))
		require.Equal(t, []string{"lobby join cat", "x 2"}, events(ben))
		require.Equal(t, []string{"ben", "cat"}, present(t, b))
	})
}

func TestCluster_Recovery(t *testing.T) {
	inBubble(t, "a client that moves to another node gets what it missed", func(t *testing.T) {
		cluster := startCluster(t)
		a, b := cluster.start(), cluster.start()
		ann := joinAs(t, a, "ann", "x")
		requirePublish(t, b, "x", `1`)
		require.Equal(t, []string{"x 1"}, events(ann))
		ann.Close()
		requirePublish(t, a, "x", `2`)
		requirePublish(t, b, "x", `3`)

		moved := fanfaretest.Connect(t, b, "ann")
		r := requireSubscribe(t, moved, "x", fanfaretest.Recover(ann.Position("x")))
		require.True(t, r.Recovered)
		require.Equal(t, []string{"2", "3"}, payloads(r.Publications))
		require.Equal(t, ann.Position("x").Epoch, r.Epoch)
		requirePublish(t, a, "x", `4`)
		require.Equal(t, []string{"x 4"}, events(moved))
		require.NoError(t, moved.Check())
	})
	inBubble(t, "a node restarts, the broker does not", func(t *testing.T) {
		cluster := startCluster(t)
		node := cluster.start()
		ann := joinAs(t, node, "ann", "x")
		requirePublish(t, node, "x", `1`, `2`)
		synctest.Wait()
		last := ann.Position("x")
		shutDown(t, node)

		node = cluster.start()
		requirePublish(t, node, "x", `3`)
		r := requireSubscribe(t, fanfaretest.Connect(t, node, "ann"), "x", fanfaretest.Recover(last))
		require.True(t, r.Recovered)
		require.Equal(t, last, r.Position)
		require.Equal(t, []string{"3"}, payloads(r.Publications))
	})
	inBubble(t, "a node restarts with a broker of its own", func(t *testing.T) {
		node := startMember(t, fanfare.Config{})
		ann := joinAs(t, node, "ann", "x")
		requirePublish(t, node, "x", `1`, `2`)
		synctest.Wait()
		last := ann.Position("x")
		shutDown(t, node)

		node = startMember(t, fanfare.Config{})
		top := requirePublish(t, node, "x", `3`, `4`, `5`)
		again := fanfaretest.Connect(t, node, "ann")
		r := requireSubscribe(t, again, "x", fanfaretest.Recover(last))
		require.True(t, r.WasRecovering)
		require.False(t, r.Recovered, "the offset would fit, the epoch does not")
		require.Equal(t, top, r.Position)
		require.NotEqual(t, last.Epoch, r.Epoch)
		requirePublish(t, node, "x", `6`)
		require.Equal(t, []string{"x 6"}, events(again))
	})
}
