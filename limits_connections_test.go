package fanfare_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare"
	"github.com/fanfare-go/fanfare/fanfaretest"
)

// limitedCluster starts nodes on one broker, with one log, that allow so many connections of a user.
func limitedCluster(t *testing.T, broker fanfare.Broker, log *logged, nodes, limit int, replace bool) []*fanfare.Node {
	t.Helper()
	var out []*fanfare.Node
	for range nodes {
		c := fanfare.Config{Broker: broker, MaxUserConnections: limit, ReplaceOldest: replace}
		log.config(&c)
		out = append(out, startMember(t, c))
	}
	return out
}

// newCounting returns a broker that counts nothing in the end.
func newCounting(t *testing.T) *fanfare.MemoryBroker {
	b := fanfare.NewMemoryBroker(fanfare.MemoryBrokerConfig{})
	t.Cleanup(func() {
		require.Zero(t, b.Connections())
		require.NoError(t, b.Close())
	})
	return b
}

// withoutCounting hides that a broker counts.
type withoutCounting struct{ fanfare.Broker }

func requireRefused(t *testing.T, node *fanfare.Node, user string, opts ...fanfaretest.Option) {
	t.Helper()
	c := fanfaretest.Dial(t, node, user, opts...)
	_, err := c.Connect()
	require.Error(t, err)
	requireClosed(t, c, fanfare.DisconnectConnectionLimit)
}

func TestMaxUserConnections(t *testing.T) {
	limited := func(c *fanfare.Config) { c.MaxUserConnections = 2 }
	inBubble(t, "on a single node", func(t *testing.T) {
		node, log := startEcho(t, limited)
		a := fanfaretest.Connect(t, node, "ann")
		fanfaretest.Connect(t, node, "ann")
		for range 3 {
			requireRefused(t, node, "ann")
		}
		requireRefused(t, node, "ann", fanfaretest.Unidirectional())
		fanfaretest.Connect(t, node, "ben")
		for range 10 {
			fanfaretest.Connect(t, node, "") // anonymous clients are nobody's
		}
		requireOpen(t, a)
		a.Close()
		synctest.Wait()
		fanfaretest.Connect(t, node, "ann")
		requireRefused(t, node, "ann")
		require.Equal(t, 1, lines(log, "limit=MaxUserConnections", "user=ann"))
		require.Equal(t, 1, lines(log, "over a limit"))
	})
	for name, of := range map[string]func(*fanfare.MemoryBroker) fanfare.Broker{
		"on all nodes of a broker that counts":             func(b *fanfare.MemoryBroker) fanfare.Broker { return b },
		"on each node, if the broker does not":             func(b *fanfare.MemoryBroker) fanfare.Broker { return withoutCounting{b} },
		"on each node, if the broker counts, but not well": func(b *fanfare.MemoryBroker) fanfare.Broker { return &uncounting{MemoryBroker: b} },
	} {
		inBubble(t, name, func(t *testing.T) {
			memory, log := newCounting(t), &logged{}
			broker := of(memory)
			nodes := limitedCluster(t, broker, log, 2, 4, false)
			if broker != fanfare.Broker(memory) {
				for range 4 {
					fanfaretest.Connect(t, nodes[0], "ann")
				}
				requireRefused(t, nodes[0], "ann")
				fanfaretest.Connect(t, nodes[1], "ann")
				return
			}
			var clients []*fanfaretest.Client
			for i := range 4 {
				clients = append(clients, fanfaretest.Connect(t, nodes[i%2], "ann"))
			}
			requireRefused(t, nodes[0], "ann")
			requireRefused(t, nodes[1], "ann")
			require.NoError(t, nodes[0].Disconnect(t.Context(), "ann", nil)) // a logout ends all, and frees their places
			for _, c := range clients {
				requireClosed(t, c, fanfare.DisconnectForce)
			}
			synctest.Wait()
			require.Zero(t, memory.Connections())
			for i := range 4 {
				fanfaretest.Connect(t, nodes[i%2], "ann")
			}
			shutDown(t, nodes[0])
			fanfaretest.Connect(t, nodes[1], "ann")
			fanfaretest.Connect(t, nodes[1], "ann")
			requireRefused(t, nodes[1], "ann")
			require.Equal(t, 2, lines(log, "over a limit"), "each node names an offender")
		})
	}
	inBubble(t, "what a node held that has crashed is free", func(t *testing.T) {
		broker := newCounting(t)
		node := limitedCluster(t, broker, &logged{}, 1, 3, false)[0]
		link, err := broker.Attach("crashes", nobody{})
		require.NoError(t, err)
		for i := range 3 {
			a, err := broker.AddConnection(t.Context(), fanfare.UserConnection{Node: "crashes", User: "ann", Client: fmt.Sprint(i)}, 3, false)
			require.NoError(t, err)
			require.True(t, a.Admitted)
		}
		requireRefused(t, node, "ann")
		require.NoError(t, link.Close())
		fanfaretest.Connect(t, node, "ann")
	})
	t.Run("doors without a protocol answer with a status", func(t *testing.T) {
		node := startNode(t, identify(fanfare.Identity{User: "ann"}), func(c *fanfare.Config) {
			c.MaxUserConnections, c.ConnectRate = 1, fanfare.Rate{Every: time.Hour, Burst: 3}
		})
		node.Channel("x{n}", fanfare.ChannelOptions{Public: true})
		server := httptest.NewServer(node)
		defer server.Close()
		c := fanfaretest.Connect(t, node, "ann")
		status := func(door string) int {
			r, err := http.Get(server.URL + "/" + door + "?channel=x1")
			require.NoError(t, err)
			require.NoError(t, r.Body.Close())
			return r.StatusCode
		}
		require.Equal(t, http.StatusTooManyRequests, status("events"))
		require.Equal(t, http.StatusTooManyRequests, status("poll"))
		require.Equal(t, http.StatusOK, status("events"), "over ConnectRate: an EventSource is told to come back later")
		require.Equal(t, http.StatusServiceUnavailable, status("poll"))
		_, err := c.RPC("nothing", nil)
		require.ErrorIs(t, err, fanfare.ErrNotAvailable, "it goes on")
	})
	inBubble(t, "a connect that fails later frees its place", func(t *testing.T) {
		broker := newCounting(t)
		node := startNode(t, func(c *fanfare.Config) { c.Broker, c.MaxUserConnections = broker, 1 },
			identify(fanfare.Identity{User: "ann", Subscriptions: map[string]fanfare.SubscribeReply{"undeclared": {}}}))
		c := fanfaretest.Dial(t, node, "ann")
		_, err := c.Connect()
		require.ErrorIs(t, err, fanfare.ErrUnknownChannel)
		c.Close()
		synctest.Wait()
		require.Zero(t, broker.Connections())
	})
}

// nobody is a sink that drops everything.
type nobody struct{}

func (nobody) Publication(string, *fanfare.Publication) {}
func (nobody) Membership(string, fanfare.Membership)    {}
func (nobody) Control([]byte)                           {}
func (nobody) Interrupted([]string)                     {}

// uncounting is a broker that counts and fails nevertheless, while it is not well.
type uncounting struct {
	*fanfare.MemoryBroker
	well atomic.Bool
	deaf bool // while it is not well it does not count
}

func (b *uncounting) AddConnection(ctx context.Context, c fanfare.UserConnection, limit int, replace bool) (fanfare.Admission, error) {
	if b.deaf && !b.well.Load() {
		return fanfare.Admission{}, errors.New("no connection")
	}
	a, err := b.MemoryBroker.AddConnection(ctx, c, limit, replace)
	if !b.well.Load() {
		return fanfare.Admission{}, errors.Join(err, errors.New("no answer"))
	}
	return a, err
}

func (b *uncounting) RemoveConnection(ctx context.Context, c fanfare.UserConnection) error {
	if !b.well.Load() {
		return errors.New("no connection")
	}
	return b.MemoryBroker.RemoveConnection(ctx, c)
}

func TestMaxUserConnections_BrokerFails(t *testing.T) {
	inBubble(t, "what it could not be told it is told later", func(t *testing.T) {
		broker, log := &uncounting{MemoryBroker: newCounting(t)}, &logged{}
		nodes := limitedCluster(t, broker, log, 2, 2, false)
		for range 5 {
			for range 2 {
				fanfaretest.Connect(t, nodes[0], "ann").Close()
			}
			synctest.Wait()
		}
		require.Equal(t, 2, broker.Connections(), "left behind for now")
		broker.well.Store(true)
		time.Sleep(2 * time.Second)
		require.Zero(t, broker.Connections())
		for range 2 {
			fanfaretest.Connect(t, nodes[1], "ann")
		}
		requireRefused(t, nodes[0], "ann")
		require.Equal(t, 1, lines(log, "does not count connections"), "once")
		require.Equal(t, 1, lines(log, "counts connections again"))
	})
	inBubble(t, "those that came meanwhile are counted later, if they are still there", func(t *testing.T) {
		broker := &uncounting{MemoryBroker: newCounting(t), deaf: true}
		nodes := limitedCluster(t, broker, &logged{}, 2, 2, false)
		var clients []*fanfaretest.Client
		for _, node := range nodes {
			clients = append(clients, fanfaretest.Connect(t, node, "ann"), fanfaretest.Connect(t, node, "ann"))
			requireRefused(t, node, "ann")
		}
		clients[0].Close()
		synctest.Wait()
		require.Zero(t, broker.Connections())
		broker.well.Store(true)
		time.Sleep(2 * time.Second)
		require.Equal(t, 3, broker.Connections())
		requireRefused(t, nodes[0], "ann")
		for _, c := range clients {
			c.Close()
		}
		synctest.Wait()
		require.Zero(t, broker.Connections())
	})
	inBubble(t, "it fails for one user, and others need not wait", func(t *testing.T) {
		broker := &partlyCounting{MemoryBroker: newCounting(t), bad: "ann"}
		broker.down.Store(true)
		nodes := limitedCluster(t, broker, &logged{}, 2, 1, false)
		for _, user := range []string{"ann", "ben", "cleo"} {
			fanfaretest.Connect(t, nodes[0], user).Close()
			synctest.Wait()
		}
		require.Equal(t, 3, broker.Connections(), "left behind for now")
		broker.down.Store(false)
		time.Sleep(2 * time.Second)
		require.Equal(t, 1, broker.Connections())
		for _, user := range []string{"ben", "cleo"} {
			fanfaretest.Connect(t, nodes[1], user).Close()
		}
		broker.better.Store(true)
		time.Sleep(2 * time.Second)
		require.Zero(t, broker.Connections())
	})
	inBubble(t, "it hangs, and the client leaves meanwhile", func(t *testing.T) {
		broker := &slowCounting{MemoryBroker: newCounting(t), gate: make(chan struct{})}
		node := limitedCluster(t, broker, &logged{}, 1, 2, false)[0]
		c := fanfaretest.Dial(t, node, "ann")
		go func() { _, _ = c.Connect() }()
		synctest.Wait()
		require.Equal(t, 1, broker.Connections())
		c.Close()
		synctest.Wait()
		close(broker.gate)
		synctest.Wait()
		require.Zero(t, broker.Connections())
	})
}

// partlyCounting is a broker that cannot end the counting of anybody while it is down, and of one user until it is better.
type partlyCounting struct {
	*fanfare.MemoryBroker
	down, better atomic.Bool
	bad          string
}

func (b *partlyCounting) RemoveConnection(ctx context.Context, c fanfare.UserConnection) error {
	if b.down.Load() || c.User == b.bad && !b.better.Load() {
		return errors.New("no connection")
	}
	return b.MemoryBroker.RemoveConnection(ctx, c)
}

// slowCounting counts at once, and says so later.
type slowCounting struct {
	*fanfare.MemoryBroker
	gate chan struct{}
}

func (b *slowCounting) AddConnection(ctx context.Context, c fanfare.UserConnection, limit int, replace bool) (fanfare.Admission, error) {
	a, err := b.MemoryBroker.AddConnection(ctx, c, limit, replace)
	<-b.gate
	return a, err
}

func TestReplaceOldest(t *testing.T) {
	inBubble(t, "on a single node", func(t *testing.T) {
		node, log := startEcho(t, func(c *fanfare.Config) { c.MaxUserConnections, c.ReplaceOldest = 2, true })
		a, b := fanfaretest.Connect(t, node, "ann"), fanfaretest.Connect(t, node, "ann")
		c := fanfaretest.Connect(t, node, "ann")
		requireClosed(t, a, fanfare.DisconnectConnectionLimit)
		requireOpen(t, b)
		fanfaretest.Connect(t, node, "ann")
		requireClosed(t, b, fanfare.DisconnectConnectionLimit)
		requireOpen(t, c)
		require.Equal(t, 1, lines(log, "over a limit"))
	})
	inBubble(t, "a reload on a phone: the old connection is dead and not yet found", func(t *testing.T) {
		node, _ := startEcho(t, func(c *fanfare.Config) { c.MaxUserConnections, c.ReplaceOldest = 1, true })
		dead := fanfaretest.Connect(t, node, "ann", fanfaretest.NoPong())
		dead.Stall()
		back := fanfaretest.Connect(t, node, "ann")
		time.Sleep(time.Minute)
		requireOpen(t, back)
	})
	inBubble(t, "on another node, in the order of their coming", func(t *testing.T) {
		broker := newCounting(t)
		nodes := limitedCluster(t, broker, &logged{}, 2, 2, true)
		var clients []*fanfaretest.Client
		for i := range 10 {
			clients = append(clients, fanfaretest.Connect(t, nodes[i/2%2], "ann"))
			synctest.Wait()
			require.LessOrEqual(t, broker.Connections(), 2)
		}
		for _, c := range clients[:8] {
			requireClosed(t, c, fanfare.DisconnectConnectionLimit)
		}
		for _, c := range clients[8:] {
			requireOpen(t, c)
		}
	})
	inBubble(t, "at once, on nodes that count alone", func(t *testing.T) {
		nodes := limitedCluster(t, withoutCounting{newCounting(t)}, &logged{}, 1, 3, true)
		require.Len(t, connectAtOnce(t, nodes, 60), 3)
	})
	inBubble(t, "at once, on two nodes", func(t *testing.T) {
		require.Len(t, connectAtOnce(t, limitedCluster(t, newCounting(t), &logged{}, 2, 3, true), 60), 3)
	})
}

// connectAtOnce connects one user many times at once, through a balancer that picks nodes at random, and returns those connections
// that are open in the end. The others must have been told why they are not.
func connectAtOnce(t *testing.T, nodes []*fanfare.Node, times int) (open []*fanfaretest.Client) {
	t.Helper()
	clients := make([]*fanfaretest.Client, times)
	var wg sync.WaitGroup
	for i := range clients {
		clients[i] = fanfaretest.Dial(t, nodes[rand.IntN(len(nodes))], "ann")
		wg.Go(func() { _, _ = clients[i].Connect() })
	}
	wg.Wait()
	synctest.Wait()
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	for _, c := range clients {
		if d, err := c.Closed(ended); err != nil {
			open = append(open, c)
		} else {
			require.Equal(t, fanfare.DisconnectConnectionLimit, d)
		}
	}
	return open
}

// Many connects and disconnects of one user, on two nodes behind a balancer: never more than the limit, and no place is lost.
func TestMaxUserConnections_Storm(t *testing.T) {
	inBubble(t, "all at once", func(t *testing.T) {
		nodes := limitedCluster(t, newCounting(t), &logged{}, 2, 5, false)
		for range 10 {
			open := connectAtOnce(t, nodes, 40)
			require.Len(t, open, 5)
			for _, c := range open {
				c.Close()
			}
			synctest.Wait()
		}
	})
	t.Run("coming and going, in real time", func(t *testing.T) {
		const limit, people, rounds = 4, 12, 30
		broker := newCounting(t)
		var most atomic.Int32
		watched := &watchedCounting{MemoryBroker: broker, most: &most}
		nodes := limitedCluster(t, watched, &logged{}, 2, limit, false)
		var wg sync.WaitGroup
		var admitted atomic.Int32
		for range people {
			wg.Go(func() {
				for range rounds {
					c := fanfaretest.Dial(t, nodes[rand.IntN(2)], "ann")
					if _, err := c.Connect(); err == nil {
						admitted.Add(1)
						_, err = c.RPC("nothing", nil)
						assert.ErrorIs(t, err, fanfare.ErrNotAvailable)
					}
					c.Close()
				}
			})
		}
		wg.Wait()
		require.Positive(t, admitted.Load())
		require.LessOrEqual(t, most.Load(), int32(limit))
		require.Eventually(t, func() bool { return broker.Connections() == 0 }, 10*time.Second, time.Millisecond)
		var open []*fanfaretest.Client
		for i := range limit {
			open = append(open, fanfaretest.Connect(t, nodes[i%2], "ann"))
		}
		requireRefused(t, nodes[0], "ann")
		slices.Reverse(open)
		for _, c := range open {
			c.Close()
		}
	})
}

// watchedCounting knows the greatest number of connections that were counted.
type watchedCounting struct {
	*fanfare.MemoryBroker
	most *atomic.Int32
}

func (b *watchedCounting) AddConnection(ctx context.Context, c fanfare.UserConnection, limit int, replace bool) (fanfare.Admission, error) {
	a, err := b.MemoryBroker.AddConnection(ctx, c, limit, replace)
	for now := int32(b.Connections()); ; {
		if most := b.most.Load(); now <= most || b.most.CompareAndSwap(most, now) {
			return a, err
		}
	}
}
