package fanfare_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare"
	"github.com/fanfare-go/fanfare/fanfaretest"
)

const clusterGrace = 5 * time.Second

// graceCluster is nodes whose channel "room" holds back leaves, and a watcher at the last one.
type graceCluster struct {
	*cluster
	nodes   []*fanfare.Node
	watcher *fanfaretest.Client
}

func startGraceCluster(t *testing.T, nodes int, perUser bool, change ...func(*fanfare.Config)) *graceCluster {
	t.Helper()
	c := &graceCluster{cluster: startCluster(t)}
	for range nodes {
		config := fanfare.Config{Broker: c.broker, Presence: c.presence}
		for _, change := range change {
			change(&config)
		}
		node := startMember(t, config)
		node.Channel("room", fanfare.ChannelOptions{Public: true, Presence: true, AllowPresence: fanfare.Anyone,
			ForceJoinLeave: true, JoinLeavePerUser: perUser, PresenceGrace: clusterGrace})
		c.nodes = append(c.nodes, node)
	}
	c.watcher = enter(t, c.nodes[nodes-1], "watcher")
	events(c.watcher)
	return c
}

// seen returns the joins and leaves since the last call.
func (c *graceCluster) seen() []string { return events(c.watcher) }

// requirePresent fails the test unless these clients, and the watcher, are in the room.
func (c *graceCluster) requirePresent(clients ...*fanfaretest.Client) {
	c.t.Helper()
	synctest.Wait()
	members, err := c.nodes[0].Presence(c.t.Context(), "room")
	require.NoError(c.t, err)
	want := []string{c.watcher.ID()}
	for _, client := range clients {
		want = append(want, client.ID())
	}
	var got []string
	for _, m := range members {
		got = append(got, m.Client)
	}
	require.ElementsMatch(c.t, want, got)
}

func TestPresenceGrace_AtAnotherNode(t *testing.T) {
	inBubble(t, "leave and join go out together, in this order", func(t *testing.T) {
		c := startGraceCluster(t, 3, false)
		old := enter(t, c.nodes[0], "ann")
		require.Equal(t, []string{"room join ann"}, c.seen())
		old.Close()
		time.Sleep(time.Second)
		require.Empty(t, c.seen())
		c.requirePresent(old)
		began := time.Now()
		back := enter(t, c.nodes[1], "ann")
		require.Equal(t, []string{"room leave ann", "room join ann"}, c.seen())
		require.Zero(t, time.Since(began))
		c.requirePresent(back)
		time.Sleep(2 * clusterGrace)
		require.Empty(t, c.seen())
		back.Close()
		time.Sleep(clusterGrace + time.Second)
		require.Equal(t, []string{"room leave ann"}, c.seen())
	})
	inBubble(t, "per user: neither", func(t *testing.T) {
		c := startGraceCluster(t, 3, true)
		old := enter(t, c.nodes[0], "ann")
		require.Equal(t, []string{"room join ann"}, c.seen())
		for i := range 6 {
			old.Close()
			time.Sleep(time.Second)
			back := enter(t, c.nodes[(i+1)%3], "ann")
			c.requirePresent(back)
			old = back
		}
		time.Sleep(2 * clusterGrace)
		require.Empty(t, c.seen())
		old.Close()
		time.Sleep(clusterGrace + time.Second)
		require.Equal(t, []string{"room leave ann"}, c.seen())
		c.requirePresent()
	})
	inBubble(t, "the grace is over", func(t *testing.T) {
		for _, perUser := range []bool{false, true} {
			c := startGraceCluster(t, 2, perUser)
			enter(t, c.nodes[0], "ann").Close()
			time.Sleep(clusterGrace + time.Second)
			enter(t, c.nodes[1], "ann")
			require.Equal(t, []string{"room join ann", "room leave ann", "room join ann"}, c.seen())
		}
	})
	inBubble(t, "a second tab is told of at once", func(t *testing.T) {
		c := startGraceCluster(t, 3, false)
		one := enter(t, c.nodes[0], "ann")
		began := time.Now()
		two := enter(t, c.nodes[1], "ann")
		require.Equal(t, []string{"room join ann", "room join ann"}, c.seen())
		require.Zero(t, time.Since(began), "the other node accounts for the first one")
		c.requirePresent(one, two)
	})
	inBubble(t, "of an entry that nobody answers for, the join waits a moment", func(t *testing.T) {
		c := startGraceCluster(t, 2, false)
		require.NoError(t, c.presence.Add(t.Context(), "dead node", "room", fanfare.ClientInfo{User: "ann", Client: "dead"}))
		ann := enter(t, c.nodes[0], "ann")
		require.NoError(t, ann.Unsubscribe("room"), "and its leave waits for that")
		time.Sleep(time.Second)
		require.Equal(t, []string{"room join ann", "room leave ann"}, c.seen())
		require.NoError(t, c.presence.RemoveNode(t.Context(), "dead node"))
	})
	inBubble(t, "of entries that nobody answers for, only the first join waits", func(t *testing.T) {
		c := startGraceCluster(t, 2, false)
		for i := range 20 {
			m := fanfare.ClientInfo{User: "kiosk", Client: fmt.Sprint("dead", i)}
			require.NoError(t, c.presence.Add(t.Context(), "dead node", "room", m))
		}
		for range 20 {
			enter(t, c.nodes[0], "kiosk")
		}
		time.Sleep(time.Second)
		require.Len(t, c.seen(), 20)
		require.NoError(t, c.presence.RemoveNode(t.Context(), "dead node"))
	})
	inBubble(t, "at two nodes at once", func(t *testing.T) {
		c := startGraceCluster(t, 3, false)
		enter(t, c.nodes[0], "ann").Close()
		synctest.Wait()
		c.seen()
		var arrivals sync.WaitGroup
		for _, node := range c.nodes {
			arrivals.Go(func() { enter(t, node, "ann") })
		}
		arrivals.Wait()
		time.Sleep(time.Second)
		require.ElementsMatch(t, []string{"room leave ann", "room join ann", "room join ann", "room join ann"}, c.seen())
	})
	inBubble(t, "a broker that reaches no other nodes", func(t *testing.T) {
		broker := newFaultBroker(t)
		c := startGraceCluster(t, 2, false, broker.config)
		enter(t, c.nodes[0], "ann").Close()
		enter(t, c.nodes[1], "ann")
		require.Equal(t, []string{"room join ann", "room join ann"}, c.seen())
		time.Sleep(clusterGrace)
		require.Equal(t, []string{"room leave ann"}, c.seen())
	})
	inBubble(t, "a node is shut down: its users leave", func(t *testing.T) {
		c := startGraceCluster(t, 2, true)
		enter(t, c.nodes[0], "ann").Close()
		synctest.Wait()
		shutDown(t, c.nodes[0])
		require.Equal(t, []string{"room join ann", "room leave ann"}, c.seen())
	})
}

// plainPresence is no more than a Presence.
type plainPresence struct{ fanfare.Presence }

func TestPresenceGrace_WithoutCounts(t *testing.T) {
	inBubble(t, "each node goes by its own", func(t *testing.T) {
		c := startGraceCluster(t, 2, true, func(c *fanfare.Config) { c.Presence = plainPresence{c.Presence} })
		enter(t, c.nodes[0], "ann").Close()
		enter(t, c.nodes[1], "ann")
		time.Sleep(clusterGrace)
		require.Equal(t, []string{"room join ann", "room join ann", "room leave ann"}, c.seen())
	})
}

func TestJoinLeavePerUser_OnAllNodes(t *testing.T) {
	inBubble(t, "the first that comes and the last that goes", func(t *testing.T) {
		c := startGraceCluster(t, 3, true)
		one, two, three := enter(t, c.nodes[0], "ann"), enter(t, c.nodes[1], "ann"), enter(t, c.nodes[1], "ann")
		require.Equal(t, []string{"room join ann"}, c.seen())
		one.Close()
		require.NoError(t, two.Unsubscribe("room"))
		time.Sleep(2 * clusterGrace)
		require.Empty(t, c.seen())
		require.NoError(t, three.Unsubscribe("room"))
		require.Equal(t, []string{"room leave ann"}, c.seen())
	})
	inBubble(t, "joins and leaves alternate, whoever comes and goes where", func(t *testing.T) {
		c := startGraceCluster(t, 3, true)
		random := rand.New(rand.NewPCG(1, 2))
		open := make(map[string][]*fanfaretest.Client)
		var told []string
		for range 1000 {
			user := fmt.Sprint("user", random.IntN(3))
			clients := open[user]
			if n := len(clients); n > 0 && (n > 2 || random.IntN(2) == 0) {
				i := random.IntN(n)
				if random.IntN(2) == 0 {
					require.NoError(t, clients[i].Unsubscribe("room"))
				}
				clients[i].Close()
				open[user] = append(clients[:i:i], clients[i+1:]...)
			} else {
				open[user] = append(clients, enter(t, c.nodes[random.IntN(3)], user))
			}
			if random.IntN(3) > 0 {
				time.Sleep(time.Duration(random.Int64N(int64(2 * clusterGrace))))
			} else {
				synctest.Wait()
			}
			told = append(told, c.seen()...)
		}
		time.Sleep(2 * clusterGrace)
		last := make(map[string]string)
		for _, e := range append(told, c.seen()...) {
			what, user, _ := strings.Cut(strings.TrimPrefix(e, "room "), " ")
			require.NotEqual(t, last[user], what, user)
			last[user] = what
		}
		for user, what := range last {
			require.Equal(t, len(open[user]) > 0, what == "join", user)
		}
	})
	inBubble(t, "all at once: as many joins as leaves", func(t *testing.T) {
		c := startGraceCluster(t, 3, true)
		var users sync.WaitGroup
		for range 10 {
			for _, node := range c.nodes {
				users.Go(func() {
					for range 10 {
						client := fanfaretest.Connect(t, node, "ann")
						if _, err := client.Subscribe("room"); err == nil {
							_ = client.Unsubscribe("room")
						}
						client.Close()
					}
				})
			}
		}
		users.Wait()
		time.Sleep(2 * clusterGrace)
		joins, leaves := 0, 0
		for _, e := range c.seen() {
			if e == "room join ann" {
				joins++
			} else {
				leaves++
			}
		}
		require.Positive(t, joins)
		require.Equal(t, joins, leaves)
		c.requirePresent()
	})
	inBubble(t, "the first one's subscribe fails, and another came meanwhile", func(t *testing.T) {
		broker := newFaultBroker(t)
		c := startGraceCluster(t, 2, true, broker.config)
		for _, node := range c.nodes {
			node.Channel("kept", fanfare.ChannelOptions{Public: true, Presence: true, ForceJoinLeave: true, JoinLeavePerUser: true,
				History: fanfare.History{Size: 10, TTL: time.Hour}})
		}
		requireSubscribe(t, c.watcher, "kept")
		c.seen()
		gate := make(chan struct{})
		broker.set(func() {
			broker.onHistory = func(context.Context, func()) error {
				broker.set(func() { broker.onHistory = nil })
				<-gate
				return errors.New("broker is down")
			}
		})
		failed := make(chan error, 1)
		go func() { _, err := fanfaretest.Connect(t, c.nodes[0], "ann").Subscribe("kept"); failed <- err }()
		synctest.Wait()
		ann := fanfaretest.Connect(t, c.nodes[1], "ann")
		requireSubscribe(t, ann, "kept")
		require.Empty(t, c.seen())
		close(gate)
		require.Error(t, <-failed)
		require.Equal(t, []string{"kept join ann"}, c.seen())
		ann.Close()
		require.Equal(t, []string{"kept leave ann"}, c.seen())
	})
	inBubble(t, "the last one's subscribe fails, and all others went meanwhile", func(t *testing.T) {
		broker := newFaultBroker(t)
		c := startGraceCluster(t, 2, true, broker.config)
		for _, node := range c.nodes {
			node.Channel("kept", fanfare.ChannelOptions{Public: true, Presence: true, ForceJoinLeave: true, JoinLeavePerUser: true,
				History: fanfare.History{Size: 10, TTL: time.Hour}})
		}
		requireSubscribe(t, c.watcher, "kept")
		ann := fanfaretest.Connect(t, c.nodes[1], "ann")
		requireSubscribe(t, ann, "kept")
		c.seen()
		gate := make(chan struct{})
		broker.set(func() {
			broker.onHistory = func(context.Context, func()) error {
				<-gate
				return errors.New("broker is down")
			}
		})
		failed := make(chan error, 1)
		go func() { _, err := fanfaretest.Connect(t, c.nodes[0], "ann").Subscribe("kept"); failed <- err }()
		synctest.Wait()
		ann.Close()
		require.Empty(t, c.seen())
		close(gate)
		require.Error(t, <-failed)
		require.Equal(t, []string{"kept leave ann"}, c.seen())
	})
}
