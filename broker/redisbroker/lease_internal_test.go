package redisbroker

import (
	"fmt"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare"
	"github.com/fanfare-go/fanfare/broker/internal/redistest"
)

func TestLease_DeadNode(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	a, b, victim := newPeer(t, "a", server.Addr()), newPeer(t, "b", server.Addr()), newPeer(t, "victim", server.Addr())
	w := watch(t, a, b)
	steady(t, a, b)
	victim.add("big", 1200)
	victim.add("small", 3)
	a.add("small", 2)
	require.True(t, victim.connect("ann", "1", 1))
	require.False(t, a.connect("ann", "2", 1))
	nodes, err := a.Nodes(t.Context())
	require.NoError(t, err)
	require.ElementsMatch(t, []string{"a", "b", "victim"}, nodes)
	inc, leases := victim.incarnation(), a.key(kindLease, "")
	for _, p := range []*peer{a, b} {
		p.shards[0].keeper.sweeping.Store(true) // they claim nobody until the end of the lease is known
	}
	victim.die()
	now := clock(server)
	require.NotEmpty(t, server.CLI("ZSCORE", leases, inc))
	require.LessOrEqual(t, number(server.CLI("ZSCORE", leases, inc)), now+testLease.Milliseconds())
	ends := now + 5*testLease.Milliseconds() // late enough for a busy machine to look before
	server.CLI("ZADD", leases, fmt.Sprint(ends), inc)
	for _, p := range []*peer{a, b} {
		p.shards[0].keeper.sweeping.Store(false)
	}

	require.Equal(t, 1200, b.stats("big").Clients, "its lease is not over")
	eventually(t, 7*testLease, "its members are gone", func() bool {
		before := clock(server)
		gone := a.stats("big").Clients == 0 && b.stats("small").Clients == 2
		if due := max(ends, a.lenient(), b.lenient()) + testLease.Milliseconds(); before > due {
			require.True(t, gone, "its lease is over by the server's clock, and nobody knows of an interruption")
		}
		return gone
	})
	require.Equal(t, []string{"a-0", "a-1"}, b.clients("small"))
	require.True(t, b.connect("ann", "2", 1))
	eventually(t, 2*testLease, "its members are swept", func() bool { return len(w.all()) == 1203 })
	for member, times := range w.all() {
		require.Equal(t, 1, times, member)
	}
	eventually(t, testLease, "users are counted exactly", func() bool { return a.stats("small") == fanfare.PresenceStats{Clients: 2, Users: 2} })
	eventually(t, testLease, "nothing is left of it", func() bool {
		return server.CLI("--scan", "--pattern", "*victim*") == "" && server.CLI("EXISTS", a.key(kindLease, "")+"d", a.key(kindMembers, "big")) == "0"
	})
	nodes, err = b.Nodes(t.Context())
	require.NoError(t, err)
	require.ElementsMatch(t, []string{"a", "b"}, nodes)
	for _, p := range []*peer{a, b} {
		require.NoError(t, p.RemoveNode(t.Context(), p.node))
		require.NoError(t, p.Broker.RemoveConnection(t.Context(), p.connection("ann", "2")))
		require.NoError(t, p.Close())
	}
	require.Empty(t, leftovers(server))
}

func TestLease_PausedNodeComesBack(t *testing.T) {
	t.Parallel()
	_, a, paused := startPair(t, "a", "paused")
	w, own := watch(t, a), watch(t, paused)
	paused.add("x", 250)
	require.True(t, paused.connect("ann", "first", 2))
	require.True(t, a.connect("ann", "second", 2))
	steady(t, a)

	k := paused.shards[0].keeper
	k.renewing <- struct{}{} // nobody renews
	eventually(t, 3*testLease, "it is dead", func() bool { return len(w.all()) == 250 && a.stats("x").Clients == 0 })
	<-k.renewing
	eventually(t, testLease, "all are back", func() bool { return a.stats("x") == fanfare.PresenceStats{Clients: 250, Users: 7} })
	require.Len(t, a.clients("x"), 250)
	eventually(t, testLease, "its node knows", func() bool { return len(own.returned()) == 250 })
	eventually(t, testLease, "connections are, too", func() bool { return paused.counts("ann", "first") })
	require.False(t, a.connect("ann", "third", 2))
	for range 3 { // and they stay
		_, err := a.shards[0].keeper.refresh(t.Context())
		require.NoError(t, err)
		require.Equal(t, 250, a.stats("x").Clients)
	}
	require.NoError(t, paused.Remove(t.Context(), "paused", "x", "paused-7"))
	require.Equal(t, 249, a.stats("x").Clients)
	require.NoError(t, paused.RemoveNode(t.Context(), "paused"))
	require.Equal(t, fanfare.PresenceStats{}, a.stats("x"))
	require.Empty(t, own.all())
	require.Empty(t, w.returned(), "of others")
	for member, times := range own.returned() {
		require.Equal(t, 1, times, member)
	}
}

func TestLease_LostConnectionsKeepTheirPlace(t *testing.T) {
	t.Parallel()
	server, a, b := startPair(t, "a", "b")
	require.True(t, a.connect("ann", "first", 2))
	require.True(t, b.connect("ann", "second", 2))
	old := a.incarnation()
	server.CLI("ZREM", a.key(kindLease, ""), old)
	eventually(t, 3*testLease, "it is counted under another incarnation", func() bool {
		return a.incarnation() != old && a.counts("ann", "first")
	})
	admission, err := b.AddConnection(t.Context(), b.connection("ann", "third"), 2, true)
	require.NoError(t, err)
	require.Equal(t, fanfare.Admission{Admitted: true, Replaced: a.connection("ann", "first")}, admission)
}

func TestLease_LateConnectionIsCountedAgain(t *testing.T) {
	t.Parallel()
	server, a, b := startPair(t, "a", "b")
	b.shards[0].keeper.sweeping.Store(true) // it claims nobody, however long this takes
	require.True(t, a.connect("ann", "1", 1))
	inc, k := a.incarnation(), a.shards[0].keeper
	k.renewing <- struct{}{} // nobody renews
	server.CLI("ZADD", a.key(kindLease, ""), "1", inc)
	eventually(t, testLease, "its place is free", func() bool { return b.connect("ann", "2", 1) })
	require.False(t, a.counts("ann", "1"))
	<-k.renewing
	eventually(t, 2*testLease, "it is counted again", func() bool { return a.counts("ann", "1") })
	require.Equal(t, inc, a.incarnation(), "nobody had swept")
}

func TestLease_FailedOver(t *testing.T) {
	t.Parallel()
	sentinel := redistest.StartSentinel(t)
	b, err := New(t.Context(), Config{Servers: []Server{{Addresses: sentinel.Addrs(), SentinelMaster: sentinel.MasterName}}, Lease: testLease})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, b.Close()) })
	p := &peer{Broker: b, Presence: b.Presence(), t: t, node: "a"}
	_, err = b.Attach("a", deafSink{})
	require.NoError(t, err)
	p.add("x", 300)
	sentinel.Failover()
	eventually(t, 10*testLease, "all are there", func() bool { return p.stats("x").Clients == 300 })
	require.Len(t, p.clients("x"), 300)
}

func TestLease_AnotherClockKeepsNobodyAlive(t *testing.T) {
	t.Parallel()
	server, a, victim := startPair(t, "a", "victim")
	w := watch(t, a)
	victim.add("x", 3)
	require.True(t, victim.connect("ann", "1", 1))
	inc := victim.incarnation()
	victim.die()
	tomorrow := strconv.FormatInt(time.Now().Add(24*time.Hour).UnixMilli(), 10)
	server.CLI("ZADD", a.key(kindLease, ""), tomorrow, inc)
	eventually(t, 5*testLease, "there is room for others", func() bool { return a.connect("ann", "2", 1) })
	eventually(t, 5*testLease, "its members are swept", func() bool { return len(w.all()) == 3 })

	server.CLI("ZADD", a.key(kindLease, "")+"d", tomorrow, newIncarnation("ghost"))
	eventually(t, 5*testLease, "who claimed it a day ago has no hold on it", func() bool {
		return server.CLI("EXISTS", a.key(kindLease, "")+"d") == "0"
	})
}

func TestLease_RestartedEmpty(t *testing.T) {
	t.Parallel()
	server, a, b := startPair(t, "a", "b")
	w := watch(t, a, b)
	a.add("x", 120)
	b.add("y", 3)
	require.True(t, a.connect("ann", "1", 1))
	server.Kill()
	require.Error(t, a.Remove(t.Context(), "a", "x", "a-0"), "it leaves while nobody can be told")
	require.Error(t, a.Add(t.Context(), "a", "x", fanfare.ClientInfo{Client: "failed"}))
	server.Start()
	eventually(t, 5*testLease, "all are back", func() bool { return b.stats("x").Clients == 119 && a.stats("y").Clients == 3 })
	eventually(t, testLease, "connections are, too", func() bool { return a.counts("ann", "1") })
	require.False(t, b.connect("ann", "2", 1))
	require.NotContains(t, b.clients("x"), "failed")
	require.Empty(t, w.all())
	require.Empty(t, w.returned(), "nobody was told that they had gone")
}

func TestLease_AwayWithData(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t, "--appendonly yes", "--appendfsync always")
	a := newPeer(t, "a", server.Addr())
	a.add("x", 5)
	server.Kill()
	require.ErrorIs(t, a.Remove(t.Context(), "a", "x", "a-0"), ErrUnavailable)
	require.ErrorIs(t, a.Add(t.Context(), "a", "x", fanfare.ClientInfo{Client: "a-1", User: "other"}), ErrUnavailable)
	server.Start()
	eventually(t, 5*testLease, "the one that left is out", func() bool { return a.stats("x").Clients == 4 })
	require.Equal(t, []string{"a-1", "a-2", "a-3", "a-4"}, a.clients("x"), "one that was there stays when it cannot be replaced")
}

func TestLease_PartOfAClusterRestartedEmpty(t *testing.T) {
	t.Parallel()
	cluster := redistest.StartCluster(t)
	a, b := newPeer(t, "a", cluster.Addrs()...), newPeer(t, "b", cluster.Addrs()...)
	channels := map[*redistest.Server]string{}
	for i := 0; len(channels) < 3; i++ {
		channel := fmt.Sprint("channel", i)
		channels[cluster.Owner(a.key(kindMembers, channel))] = channel
	}
	for _, channel := range channels {
		a.add(channel, 10)
	}
	leases := cluster.Owner(a.key(kindLease, ""))
	for master, channel := range channels {
		if master != leases { // the leases stay, which is the case that is easily overlooked
			restartEmpty(cluster, master)
			eventually(t, 10*testLease, "members are back", func() bool { return b.stats(channel).Clients == 10 })
			break
		}
	}
	restartEmpty(cluster, leases)
	for _, channel := range channels {
		eventually(t, 5*testLease, "members are everywhere", func() bool { return b.stats(channel).Clients == 10 })
	}
}

func restartEmpty(c *redistest.Cluster, master *redistest.Server) {
	master.Kill()
	master.Start()
	c.AwaitOK()
}

func TestLease_PausedServerKillsNobody(t *testing.T) {
	t.Parallel()
	server, a, b := startPair(t, "a", "b")
	w := watch(t, a, b)
	a.add("x", 50)
	b.add("x", 50)
	steady(t, a, b)
	server.Pause()
	ended := time.Now().Add(2 * testLease)
	eventually(t, 3*testLease, "it is noticed", func() bool { _, err := a.Stats(background, "x"); return err != nil })
	<-time.After(time.Until(ended)) // leases are over by far
	server.Resume()
	eventually(t, 5*testLease, "it answers", func() bool { _, err := a.Stats(background, "x"); return err == nil })
	for end := time.Now().Add(2 * testLease); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		for _, p := range []*peer{a, b} {
			if stats, err := p.Stats(background, "x"); err == nil {
				require.Equal(t, fanfare.PresenceStats{Clients: 100, Users: 14}, stats)
			}
		}
	}
	require.Empty(t, w.all())
	require.Empty(t, w.returned())
}

func TestLease_TwoSweepersAtOnce(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	a, b, victim := newPeer(t, "a", server.Addr()), newPeer(t, "b", server.Addr()), newPeer(t, "victim", server.Addr())
	w := watch(t, a, b)
	victim.add("x", 2200)
	victim.add("y", 10)
	inc := victim.incarnation()
	victim.die()
	for _, p := range []*peer{a, b} {
		p.shards[0].keeper.sweeping.Store(true) // so that nobody else sweeps, however long this takes
	}
	var both sync.WaitGroup
	for _, p := range []*peer{a, b} {
		both.Go(func() {
			s := &sweep{keeper: p.shards[0].keeper, inc: inc, tell: true, extended: time.Now()}
			require.NoError(t, s.run(background))
		})
	}
	both.Wait()
	require.Len(t, w.all(), 2210)
	for member, times := range w.all() {
		require.Equal(t, 1, times, member)
	}
	require.Equal(t, "0", server.CLI("EXISTS", a.key(kindMembers, "x"), a.key(kindMembers, "x")+"u", a.key(kindMembers, "x")+"o", a.key(kindMembers, "x")+"n"))
}

func TestLease_SweeperThatDiedIsReplaced(t *testing.T) {
	t.Parallel()
	server, a, victim := startPair(t, "a", "victim")
	w := watch(t, a)
	victim.add("x", 10)
	inc := victim.incarnation()
	victim.die()
	server.CLI("ZREM", a.key(kindLease, ""), inc)
	end := time.Now().Add(testLease / 2).UnixMilli()
	server.CLI("ZADD", a.key(kindLease, "")+"d", strconv.FormatInt(end, 10), inc) // in the hands of nobody
	require.Zero(t, a.stats("x").Clients)
	eventually(t, 3*testLease, "its members are swept", func() bool { return len(w.all()) == 10 })
}

func TestLease_MembersThatNobodySweepsAreFound(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	a := newPeer(t, "a", server.Addr())
	w := watch(t, a)
	a.add("x", 1)
	_, err := a.shards[0].keeper.addMember(t.Context(), newIncarnation("lost"), "x", fanfare.ClientInfo{Client: "stray", User: "u"})
	require.NoError(t, err)
	require.Equal(t, 1, a.stats("x").Clients)
	require.Equal(t, []string{"a-0"}, a.clients("x"))
	eventually(t, 4*testLease, "it is swept", func() bool { return w.all()["x/stray"] == 1 })
	require.Equal(t, fanfare.PresenceStats{Clients: 1, Users: 1}, a.stats("x"))
}

func TestLease_RemoveNodeOfAnotherProcess(t *testing.T) {
	t.Parallel()
	_, a, b := startPair(t, "a", "b")
	w := watch(t, a, b)
	a.add("x", 600)
	require.True(t, a.connect("ann", "1", 1))
	old := a.incarnation()
	require.NoError(t, b.RemoveNode(t.Context(), "a"))
	require.Zero(t, a.stats("x").Clients)
	eventually(t, 2*testLease, "its node knows", func() bool {
		return a.incarnation() != old && a.counts("ann", "1")
	})
	require.False(t, b.connect("ann", "2", 1))
	require.Equal(t, fanfare.PresenceStats{}, b.stats("x"), "members are not")
	require.NoError(t, a.Add(t.Context(), "a", "x", fanfare.ClientInfo{Client: "new"}))
	require.Equal(t, 1, b.stats("x").Clients)
	require.Empty(t, w.all())
	require.Empty(t, w.returned())
}

func TestLease_LinkCloseKeepsMembersUntilRemoveNode(t *testing.T) {
	t.Parallel()
	_, a, b := startPair(t, "a", "b")
	a.add("x", 3)
	require.True(t, a.connect("ann", "1", 1))
	require.NoError(t, a.links["a"].Close())
	require.True(t, b.connect("ann", "2", 1))
	require.Equal(t, 3, b.stats("x").Clients)
	require.NoError(t, a.RemoveNode(t.Context(), "a"))
	require.Zero(t, b.stats("x").Clients)
	nodes, err := b.Nodes(t.Context())
	require.NoError(t, err)
	require.Equal(t, []string{"b"}, nodes)
}
