// Package brokertest checks that a [fanfare.Broker] or a [fanfare.Presence] keeps its contract. Every sentence of the
// contract is one subtest, whose failure prints the sentence.
//
//	func TestBroker(t *testing.T) {
//		brokertest.Run(t, brokertest.Options{
//			New: func(t testing.TB) fanfare.Broker { return newBroker(t) },
//		})
//	}
package brokertest

import (
	"context"
	"crypto/rand"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fanfare-go/fanfare"
	"github.com/stretchr/testify/require"
)

// Options describe the broker under test.
type Options struct {
	// New returns a broker that sees nobody from outside the subtest. It is called at least once per subtest; the kit
	// closes what it gets.
	New func(t testing.TB) fanfare.Broker

	// Shared says that all brokers that New returned in a subtest carry each other's publications: they use one server.
	// If false, only nodes of one broker see each other.
	Shared bool

	// Restart stops the server behind the brokers and starts it again, with or without its data. If nil, what happens
	// then is not tested.
	Restart func(t testing.TB)

	// Cut interrupts the connections between the brokers and the server, which goes on with all its data, and returns when they
	// are gone; the brokers make new ones by themselves. If nil, what happens then is not tested.
	Cut func(t testing.TB)

	// NewBounded returns a broker that remembers at most so many idle streams. If nil, forgetting is not tested.
	NewBounded func(t testing.TB, maxIdleStreams int) fanfare.Broker

	// Bubble runs the subtests about age, with New, in a [synctest] bubble, where no time is lost. For brokers without
	// a network or other processes.
	Bubble bool

	// TTL is the age that the subtests about age wait for. It is to be long compared with the time that a few
	// operations take, and a multiple of what the broker can tell apart. Default 1 s.
	TTL time.Duration

	// Timeout is how long a delivery may take. Default 10 s.
	Timeout time.Duration
}

func (o Options) withDefaults() Options {
	if o.TTL == 0 {
		o.TTL = time.Second
	}
	if o.Timeout == 0 {
		o.Timeout = 10 * time.Second
	}
	return o
}

// Run runs the subtests.
func Run(t *testing.T, o Options) {
	o = o.withDefaults()
	for _, s := range sentences() {
		t.Run(s.name, func(t *testing.T) { s.check(t, o) })
	}
}

// sentences is the whole contract.
func sentences() []sentence {
	return slices.Concat(deliverySentences, idempotencySentences, versionSentences, historySentences, retentionSentences,
		lifecycleSentences, interruptionSentences, connectionSentences)
}

// sentence is one sentence of the contract with the test that holds it.
type sentence struct {
	name string
	text string
	aged bool // waits for something to get old
	run  func(k *kit)
}

func (s sentence) check(t *testing.T, o Options) {
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("broken sentence of the contract: %s", s.text)
		}
	})
	run := func(t *testing.T) { s.run(&kit{T: t, Options: o, prefix: rand.Text()[:10]}) }
	if o.Bubble && s.aged {
		synctest.Test(t, run)
		return
	}
	run(t)
}

// kit is what one subtest works with.
type kit struct {
	*testing.T
	Options
	prefix string // of all names, since servers keep data from test to test
}

// history is the retention that tests use where it does not matter.
var history = fanfare.History{Size: 1000, TTL: time.Minute}

func (k *kit) broker() fanfare.Broker {
	k.Helper()
	return k.closing(k.New(k.T))
}

func (k *kit) closing(b fanfare.Broker) fanfare.Broker {
	k.Cleanup(func() { _ = b.Close() })
	return b
}

// brokers returns two brokers that see each other; they may be the same one.
func (k *kit) brokers() (a, b fanfare.Broker) {
	k.Helper()
	a = k.broker()
	if k.Shared {
		return a, k.broker()
	}
	return a, a
}

// channel returns a name that no other test uses.
func (k *kit) channel(name string) string { return k.prefix + ":" + name }

// node attaches a node that is subscribed to the channels.
func (k *kit) node(b fanfare.Broker, name string, channels ...string) (fanfare.Link, *recorder) {
	k.Helper()
	r := newRecorder(k)
	l, err := b.Attach(k.prefix+name, r)
	require.NoError(k, err)
	k.Cleanup(func() { _ = l.Close() })
	for _, c := range channels {
		require.NoError(k, l.Subscribe(k.Context(), c))
	}
	return l, r
}

func (k *kit) publish(b fanfare.Broker, channel, data string, h fanfare.History) fanfare.Position {
	k.Helper()
	pos, err := b.Publish(k.Context(), channel, &fanfare.Publication{Data: []byte(data)}, fanfare.StoreOptions{History: h})
	require.NoError(k, err)
	return pos
}

func (k *kit) read(b fanfare.Broker, channel string, q fanfare.HistoryQuery) fanfare.HistoryResult {
	k.Helper()
	r, err := b.History(k.Context(), channel, q)
	require.NoError(k, err)
	return r
}

// all returns the offsets of everything kept, oldest first.
func (k *kit) all(b fanfare.Broker, channel string) []uint64 {
	k.Helper()
	return offsets(k.read(b, channel, fanfare.HistoryQuery{Limit: -1}).Publications)
}

// intime runs a subtest about age in a channel of its own, and again if a busy machine was too slow for it.
func (k *kit) intime(run func(ch string) (intime bool)) {
	k.Helper()
	for n := range 10 {
		if run(k.channel(fmt.Sprint("age", n))) {
			return
		}
	}
	require.FailNow(k, "a few operations take longer than Options.TTL")
}

// young requires that something is kept whose oldest publication came after since and has an age of TTL. It reports false if that
// may have been over when the broker was asked.
func (k *kit) young(b fanfare.Broker, ch string, since time.Time, want []uint64) (intime bool) {
	k.Helper()
	got := k.all(b, ch)
	if time.Since(since) >= k.TTL {
		return false
	}
	require.Equal(k, want, got)
	return true
}

// wait lets time pass.
func (k *kit) wait(d time.Duration) { time.Sleep(d) }

// concurrently runs n functions at once and waits for them. They report with the assert functions or k.Errorf.
func concurrently(n int, fn func(i int)) {
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() { fn(i) })
	}
	wg.Wait()
}

func offsets(ps []*fanfare.Publication) []uint64 {
	out := make([]uint64, 0, len(ps))
	for _, p := range ps {
		out = append(out, p.Offset)
	}
	return out
}

// upTo returns from, from+1, …, to.
func upTo(from, to uint64) []uint64 {
	out := make([]uint64, 0, to-from+1)
	for i := from; i <= to; i++ {
		out = append(out, i)
	}
	return out
}

// methods calls every method of a broker and its link, and hands their errors to check.
func (k *kit) methods(ctx context.Context, b fanfare.Broker, l fanfare.Link, channel string, check func(method string, err error)) {
	_, err := b.Publish(ctx, channel, &fanfare.Publication{Data: []byte(`1`)}, fanfare.StoreOptions{History: history})
	check("Publish", err)
	check("PublishMembership", b.PublishMembership(ctx, channel, fanfare.Membership{Joined: true}))
	_, err = b.History(ctx, channel, fanfare.HistoryQuery{})
	check("History", err)
	check("RemoveHistory", b.RemoveHistory(ctx, channel))
	check("Subscribe", l.Subscribe(ctx, channel))
	check("Unsubscribe", l.Unsubscribe(ctx, channel))
	if bus, ok := b.(fanfare.ControlBus); ok {
		check("SendControl", bus.SendControl(ctx, "", "", []byte(`1`)))
	}
	if lister, ok := b.(fanfare.NodeLister); ok {
		_, err := lister.Nodes(ctx)
		check("Nodes", err)
	}
	if counter, ok := b.(fanfare.ConnectionCounter); ok {
		c := fanfare.UserConnection{Node: k.prefix + "one", User: channel, Client: "c"}
		_, err := counter.AddConnection(ctx, c, 1, false)
		check("AddConnection", err)
		check("RemoveConnection", counter.RemoveConnection(ctx, c))
	}
}

func data(i int) string { return fmt.Sprintf(`{"n":%d}`, i) }
