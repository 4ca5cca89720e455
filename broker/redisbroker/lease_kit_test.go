package redisbroker

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare"
	"github.com/fanfare-go/fanfare/broker/internal/redistest"
)

// testLease is the shortest lease that the configuration allows.
const testLease = time.Second

// slack is what a busy machine may take longer than a test expects.
const slack = 10 * time.Second

// peer is a process with a node that is attached.
type peer struct {
	*Broker
	*Presence
	t    *testing.T
	node string
}

func newPeer(t *testing.T, node string, addresses ...string) *peer {
	t.Helper()
	b, err := New(t.Context(), Config{Servers: []Server{{Addresses: addresses}}, Lease: testLease})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, b.Close()) })
	_, err = b.Attach(node, deafSink{})
	require.NoError(t, err)
	return &peer{Broker: b, Presence: b.Presence(), t: t, node: node}
}

// startPair returns a server of its own, and two peers that use it.
func startPair(t *testing.T, first, second string) (server *redistest.Server, a, b *peer) {
	t.Helper()
	server = redistest.Start(t)
	return server, newPeer(t, first, server.Addr()), newPeer(t, second, server.Addr())
}

type deafSink struct{ fanfare.Sink }

func (deafSink) Interrupted([]string) {}
func (deafSink) Control([]byte)       {}

func (p *peer) Close() error { return p.Broker.Close() }

func (p *peer) add(channel string, count int) {
	p.t.Helper()
	for i := range count {
		m := fanfare.ClientInfo{Client: fmt.Sprintf("%s-%d", p.node, i), User: fmt.Sprintf("%s-%d", p.node, i%7)}
		require.NoError(p.t, p.Add(p.t.Context(), p.node, channel, m))
	}
}

func (p *peer) connection(user, client string) fanfare.UserConnection {
	return fanfare.UserConnection{Node: p.node, User: user, Client: client}
}

func (p *peer) connect(user, client string, limit int) bool {
	p.t.Helper()
	a, err := p.AddConnection(p.t.Context(), p.connection(user, client), limit, false)
	require.NoError(p.t, err)
	return a.Admitted
}

// incarnation returns that of its node, which may change at any time.
func (p *peer) incarnation() string {
	k := p.shards[0].keeper
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.holdings[p.node].inc
}

// lenient is until when, by the server's clock, leases that ended still count, because this broker was interrupted.
func (p *peer) lenient() int64 {
	k := p.shards[0].keeper
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.view.lenient
}

// counts reports whether the server counts a connection of this node as it is now.
func (p *peer) counts(user, client string) bool {
	s := p.shards[0]
	member := connectionMember(p.incarnation(), client)
	return s.client.Do(background, s.client.B().Zscore().Key(p.key(kindUser, user)).Member(member).Build()).Error() == nil
}

// die ends a process without a word.
func (p *peer) die() {
	for _, s := range p.shards {
		s.keeper.mu.Lock()
		s.keeper.closed = true
		clear(s.keeper.holdings)
		s.keeper.mu.Unlock()
	}
	p.leases.cancel()
	p.leases.goroutines.Wait()
}

// stats are zero while there is an error.
func (p *peer) stats(channel string) fanfare.PresenceStats {
	stats, _ := p.Stats(p.t.Context(), channel)
	return stats
}

func (p *peer) clients(channel string) []string {
	p.t.Helper()
	members, err := p.Members(p.t.Context(), channel)
	require.NoError(p.t, err)
	var clients []string
	for _, m := range members {
		clients = append(clients, m.Client)
	}
	slices.Sort(clients)
	return clients
}

// steady returns when the peers may take another for dead.
func steady(t *testing.T, peers ...*peer) {
	t.Helper()
	for _, p := range peers {
		k := p.shards[0].keeper
		eventually(t, 5*testLease, "the peer is steady", func() bool {
			k.mu.Lock()
			defer k.mu.Unlock()
			return k.view != nil && k.view.now-k.view.steady >= testLease.Milliseconds()
		})
	}
}

// told collects what watchers are told.
type told struct {
	mu    sync.Mutex // guards below
	times map[string]int
	back  map[string]int
}

func watch(t *testing.T, peers ...*peer) *told {
	w := &told{times: make(map[string]int), back: make(map[string]int)}
	count := func(times map[string]int) func(string, []fanfare.ClientInfo) {
		return func(channel string, members []fanfare.ClientInfo) {
			w.mu.Lock()
			defer w.mu.Unlock()
			for _, m := range members {
				times[channel+"/"+m.Client]++
			}
		}
	}
	for _, p := range peers {
		stop, err := p.WatchDead(p.node, count(w.times), count(w.back))
		require.NoError(t, err)
		t.Cleanup(stop)
	}
	return w
}

func (w *told) all() map[string]int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return maps.Clone(w.times)
}

// returned is whom a node was told are in again.
func (w *told) returned() map[string]int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return maps.Clone(w.back)
}

func eventually(t *testing.T, within time.Duration, what string, condition func() bool) {
	t.Helper()
	for end := time.Now().Add(within + slack); !condition(); time.Sleep(5 * time.Millisecond) {
		require.False(t, time.Now().After(end), "not within %v: %s", within, what)
	}
}

// clock is that of a server, in ms.
func clock(s *redistest.Server) int64 {
	seconds, micros, _ := strings.Cut(s.CLI("TIME"), "\n")
	return number(seconds)*1000 + number(micros)/1000
}

// calls returns how often a server was asked what.
func calls(s *redistest.Server) map[string]int64 {
	calls := make(map[string]int64)
	for line := range strings.Lines(s.CLI("INFO", "commandstats")) {
		name, stats, ok := strings.Cut(strings.TrimPrefix(line, "cmdstat_"), ":calls=")
		if !ok {
			continue
		}
		count, _, _ := strings.Cut(stats, ",")
		calls[name] = number(count)
	}
	return calls
}

// leftovers are what a server keeps of presence, connections and nodes, but for what it remembers of the swept for a day.
func leftovers(s *redistest.Server) []string {
	keys := strings.Fields(s.CLI("--scan", "--pattern", "fanfare:[pul]:*"))
	return slices.DeleteFunc(keys, func(key string) bool { return key == "fanfare:l:{.}s" && number(s.CLI("PTTL", key)) > 0 })
}

var background = context.Background()
