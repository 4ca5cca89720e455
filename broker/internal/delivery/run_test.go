package delivery

import (
	"context"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare"
)

// twoNodes are two nodes of one broker in memory.
func twoNodes(t *testing.T, lie func(n uint64, p *fanfare.Publication) *fanfare.Publication) []*fanfare.Node {
	broker := &liar{MemoryBroker: fanfare.NewMemoryBroker(fanfare.MemoryBrokerConfig{}), lie: lie}
	presence := fanfare.NewMemoryPresence()
	t.Cleanup(func() { require.NoError(t, broker.Close()) })
	var nodes []*fanfare.Node
	for range 2 {
		nodes = append(nodes, NewNode(t, fanfare.Config{Broker: broker, Presence: presence}))
	}
	return nodes
}

// liar is a broker whose deliveries are not what it stores.
type liar struct {
	*fanfare.MemoryBroker
	lie func(n uint64, p *fanfare.Publication) *fanfare.Publication // nil for the truth
}

func (l *liar) Attach(node string, sink fanfare.Sink) (fanfare.Link, error) {
	if l.lie != nil {
		sink = &liarSink{Sink: sink, lie: l.lie}
	}
	return l.MemoryBroker.Attach(node, sink)
}

type liarSink struct {
	fanfare.Sink
	lie   func(n uint64, p *fanfare.Publication) *fanfare.Publication
	count atomic.Uint64
}

func (l *liarSink) Publication(channel string, p *fanfare.Publication) {
	if p = l.lie(l.count.Add(1), p); p != nil {
		l.Sink.Publication(channel, p)
	}
}

// TestRun: two nodes of one broker, between which clients move at random. Nothing is missing anywhere.
func TestRun(t *testing.T) {
	t.Parallel()
	r := Start(t, Options{}, twoNodes(t, nil)...)
	r.AwaitAccepted(200)
	result := r.Finish()
	require.Empty(t, result.Gaps)
	require.Zero(t, result.Attempts)
	for server, connections := range r.Balancer.Carried() {
		require.Greater(t, connections, 10, "of %s", server)
	}
}

// TestRun_Loses: what the broker loses on the way is repaired by the nodes, and no client hears of it.
func TestRun_Loses(t *testing.T) {
	t.Parallel()
	r := Start(t, Options{}, twoNodes(t, func(n uint64, p *fanfare.Publication) *fanfare.Publication {
		if n%10 == 0 {
			return nil
		}
		return p
	})...)
	r.AwaitAccepted(200)
	require.Empty(t, r.Finish().Gaps)
}

// TestRun_Forgets: clients that come back when their history is gone are told of a gap.
func TestRun_Forgets(t *testing.T) {
	t.Parallel()
	nodes := twoNodes(t, nil)
	r := Start(t, Options{}, nodes...)
	for r.Gaps() < 10 {
		r.AwaitAccepted(10)
		for _, channel := range r.Channels() {
			require.NoError(t, nodes[0].RemoveHistory(context.Background(), channel))
		}
	}
	for client := range r.Finish().Gaps {
		require.Regexp(t, "moves|poll", client, "who stays misses nothing")
	}
}

// TestRun_NoticesLies: the run fails if nodes deliver something else than was published.
func TestRun_NoticesLies(t *testing.T) {
	t.Parallel()
	r := Start(t, Options{}, twoNodes(t, func(n uint64, p *fanfare.Publication) *fanfare.Publication {
		if n%50 == 0 {
			other := *p
			other.Data = []byte(`"nonsense"`)
			return &other
		}
		return p
	})...)
	r.AwaitAccepted(200)
	_, err := r.verdict()
	require.ErrorContains(t, err, "nonsense")
}
