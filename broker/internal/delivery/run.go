package delivery

import (
	"context"
	"fmt"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare"
)

// Options are the size of a run. Zero values are defaults.
type Options struct {
	// Channels is how many channels everybody uses. Default 3.
	Channels int
	// Publishers is how many publishers each node has. Half of them, rounded down, publish with idempotency keys, again and again
	// until it is accepted; the others once. Default 2.
	Publishers int
	// Every is how long a publisher waits between two publications, on average. Default 30 ms.
	Every time.Duration
	// Stay is how long a connection of a client that moves lasts, on average. Default 700 ms.
	Stay time.Duration
	// Doors are the doors of clients, of [Doors]: through each there is a client that stays and one that moves. Default all.
	Doors []string
	// Servers are addresses of further nodes, in processes of their own, where nobody publishes.
	Servers []string
}

func (o Options) withDefaults() Options {
	if o.Channels == 0 {
		o.Channels = 3
	}
	if o.Publishers == 0 {
		o.Publishers = 2
	}
	if o.Every == 0 {
		o.Every = 30 * time.Millisecond
	}
	if o.Stay == 0 {
		o.Stay = 700 * time.Millisecond
	}
	if o.Doors == nil {
		o.Doors = Doors()
	}
	return o
}

// patience bounds every wait for something that must come.
const patience = 30 * time.Second

// Run is publishers and clients at work. Its methods are called by the test alone.
type Run struct {
	// Balancer is between the clients and the nodes.
	Balancer *Balancer

	t        testing.TB
	options  Options
	channels []string
	ledger   *ledger
	nodes    []*fanfare.Node
	clients  []*client
	guests   []Guests

	publishing sync.WaitGroup
	visiting   sync.WaitGroup
	leave      context.CancelFunc // of the clients
	over       chan struct{}      // closed when publishers shall end
	ending     sync.Once
}

// Config is a node's configuration for a run, on top of c: limits under which whoever was away for seconds recovers, a check of
// positions every second, and the test's log.
func Config(t testing.TB, c fanfare.Config) fanfare.Config {
	if c.MaxRecovered == 0 {
		c.MaxRecovered = 10_000
	}
	if c.MaxQueueSize == 0 {
		c.MaxQueueSize = 8 << 20
	}
	if c.PositionCheck == 0 {
		c.PositionCheck = time.Second
	}
	if c.DrainWindow == 0 {
		c.DrainWindow = -1
	}
	if c.Logger == nil && t != nil {
		c.Logger = Logger(t)
	}
	return c
}

// Declare declares the channels of runs.
func Declare(n *fanfare.Node) {
	n.Channel("delivery:{id}", fanfare.ChannelOptions{Public: true, Presence: true, AllowPresence: fanfare.Anyone,
		History: fanfare.History{Size: 20_000, TTL: time.Hour}})
}

// NewNode returns a node for runs, with the configuration of [Config]. It is shut down with the test.
func NewNode(t testing.TB, c fanfare.Config) *fanfare.Node {
	t.Helper()
	n, err := fanfare.New(Config(t, c))
	require.NoError(t, err)
	Declare(n)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		require.NoError(t, n.Shutdown(ctx))
	})
	return n
}

// Start starts a run over some nodes of one broker, and returns when every client has begun in every channel. It ends with the test.
func Start(t testing.TB, o Options, nodes ...*fanfare.Node) *Run {
	t.Helper()
	r := &Run{Balancer: NewBalancer(t), t: t, options: o.withDefaults(), nodes: nodes, over: make(chan struct{})}
	// The test's own, so that runs may share a server.
	for i := range r.options.Channels {
		r.channels = append(r.channels, fmt.Sprintf("delivery:%d-%x", i, time.Now().UnixNano()))
	}
	r.ledger = newLedger(r.channels)
	for _, n := range nodes {
		r.serve(n)
	}
	for _, address := range o.Servers {
		r.Balancer.Add(address)
	}
	ctx, leave := context.WithCancel(context.Background())
	r.leave = leave
	t.Cleanup(r.end)
	r.send(ctx)
	for i, n := range nodes {
		for j := range r.options.Publishers {
			p := &publisher{name: fmt.Sprintf("p%d-%d", i, j), node: n, run: r, keyed: j%2 == 1}
			r.publishing.Go(p.work)
		}
	}
	r.await("clients to begin", func() bool { return r.everybody(func(c *client) bool { return c.begun() }) })
	return r
}

// serve lets a node serve clients. Its server ends with the test, after everybody has left.
func (r *Run) serve(n *fanfare.Node) {
	s := httptest.NewServer(n)
	r.Balancer.Add(s.Listener.Addr().String())
	r.t.Cleanup(func() {
		s.CloseClientConnections()
		s.Close()
	})
}

// send sends out the clients.
func (r *Run) send(ctx context.Context) {
	for _, door := range r.options.Doors {
		for _, stay := range []time.Duration{0, r.options.Stay} {
			c := &client{name: door + ", stays", address: r.Balancer.Address(), channels: r.channels, stay: stay, visit: doors[door](),
				tales: make(map[string]Tale), at: make(map[string]fanfare.Position)}
			if stay > 0 {
				c.name = door + ", moves"
			}
			r.clients = append(r.clients, c)
			r.visiting.Go(func() { c.run(ctx) })
		}
	}
}

func (r *Run) everybody(is func(*client) bool) bool {
	for _, c := range r.clients {
		if !is(c) {
			return false
		}
	}
	return true
}

// await waits until something is so, or fails the test with what everybody has to say.
func (r *Run) await(what string, done func() bool) {
	r.t.Helper()
	if !until(patience, done) {
		require.FailNow(r.t, "waited too long for "+what, r.stories())
	}
}

func until(patience time.Duration, done func() bool) bool {
	for end := time.Now().Add(patience); ; time.Sleep(10 * time.Millisecond) {
		if done() {
			return true
		}
		if time.Now().After(end) {
			return false
		}
	}
}

func (r *Run) stories() string {
	var s string
	for _, c := range r.clients {
		s += c.story() + "\n"
	}
	return s
}

// AwaitAccepted waits until n more publications were accepted.
func (r *Run) AwaitAccepted(n int) {
	r.t.Helper()
	want := r.ledger.size() + n
	r.await(fmt.Sprintf("%d publications", n), func() bool { return r.ledger.size() >= want })
}

// AwaitAttempts waits until n more publications were refused.
func (r *Run) AwaitAttempts(n int) {
	r.t.Helper()
	want := r.ledger.attempts() + n
	r.await(fmt.Sprintf("%d refused publications", n), func() bool { return r.ledger.attempts() >= want })
}

// AwaitDelivered waits until every client has got as far as the streams are now, or further.
func (r *Run) AwaitDelivered() {
	r.t.Helper()
	var want map[string]fanfare.Position
	r.await("positions", func() (ok bool) {
		positions, err := r.positions()
		want = positions
		return err == nil
	})
	r.await("deliveries", func() bool { return r.everybody(func(c *client) bool { return c.reached(want) }) })
}

// Clients are the names of all clients.
func (r *Run) Clients() []string {
	var names []string
	for _, c := range r.clients {
		names = append(names, c.name)
	}
	return names
}

// Attempts is how many publications were refused at least once until now.
func (r *Run) Attempts() int { return r.ledger.attempts() }

// Gaps is how often clients were told of a gap until now.
func (r *Run) Gaps() int {
	n := 0
	for _, c := range r.clients {
		n += c.gaps()
	}
	return n
}

// Channels are the channels that everybody uses.
func (r *Run) Channels() []string { return r.channels }

// end ends publishers and clients.
func (r *Run) end() {
	r.stopPublishing()
	r.leave()
	r.visiting.Wait()
}

func (r *Run) stopPublishing() {
	r.ending.Do(func() { close(r.over) })
	r.publishing.Wait()
}
