package fanfare_test

import (
	"context"
	"slices"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare"
)

// faultBroker is a broker that a test makes lose, delay, repeat and refuse things.
type faultBroker struct {
	mu         sync.Mutex // guards below
	broker     *fanfare.MemoryBroker
	links      []*faultLink
	onDelivery func(p *fanfare.Publication, deliver func(*fanfare.Publication)) // decides what arrives
	onHistory  func(ctx context.Context, read func()) error                     // read does the read; a second time nothing
	onLink     func(ctx context.Context, link func()) error                     // the same for Link.Subscribe
	onPublish  func(ctx context.Context) error                                  // runs after it was stored and delivered

	onMembership  func() // runs before a join or leave is delivered
	membershipErr error  // returned by PublishMembership, which delivers nothing then

	epochs   map[string]string // what an epoch is told to be
	reads    int               // calls of History
	linkings int               // calls of Link.Subscribe and Unsubscribe
}

var _ fanfare.Broker = (*faultBroker)(nil)

// newFaultBroker returns a broker without faults. It is closed at the test's end, after the nodes made from now on.
func newFaultBroker(t testing.TB) *faultBroker {
	b := &faultBroker{broker: fanfare.NewMemoryBroker(fanfare.MemoryBrokerConfig{})}
	t.Cleanup(func() { require.NoError(t, b.Close()) })
	return b
}

func (b *faultBroker) config(c *fanfare.Config) { c.Broker = b }

// set changes what goes wrong, while nothing else looks.
func (b *faultBroker) set(change func()) {
	b.mu.Lock()
	defer b.mu.Unlock()
	change()
}

// lose makes deliveries of these offsets disappear, once each.
func (b *faultBroker) lose(offsets ...uint64) {
	lost := make(map[uint64]bool)
	for _, o := range offsets {
		lost[o] = true
	}
	b.set(func() {
		b.onDelivery = func(p *fanfare.Publication, deliver func(*fanfare.Publication)) {
			if lost[p.Offset] {
				delete(lost, p.Offset)
				return
			}
			deliver(p)
		}
	})
}

// hangHistory makes reads wait until release is called, which returns when no more wait.
func (b *faultBroker) hangHistory() (release func()) {
	gate := make(chan struct{})
	b.set(func() {
		b.onHistory = func(ctx context.Context, read func()) error {
			select {
			case <-gate:
				return nil
			case <-ctx.Done():
				return ctx.Err()
			}
		}
	})
	return func() {
		b.set(func() { b.onHistory = nil })
		close(gate)
	}
}

// holdNextRead makes the next read wait, with what it has read, until release is called. The following ones are as always.
func (b *faultBroker) holdNextRead() (release func()) {
	gate := make(chan struct{})
	b.set(func() {
		b.onHistory = func(_ context.Context, read func()) error {
			b.set(func() { b.onHistory = nil })
			read()
			<-gate
			return nil
		}
	})
	return func() { close(gate) }
}

// readCount is how often History was called.
func (b *faultBroker) readCount() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.reads
}

// linked tells whether a node receives a channel.
func (b *faultBroker) linked(channel string) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, l := range b.links {
		if l.channels[channel] {
			return true
		}
	}
	return false
}

// restart loses everything that was stored. The nodes stay attached and do not notice.
func (b *faultBroker) restart(t testing.TB) {
	b.mu.Lock()
	defer b.mu.Unlock()
	require.NoError(t, b.broker.Close())
	b.broker = fanfare.NewMemoryBroker(fanfare.MemoryBrokerConfig{})
	b.reattach(t)
}

// rewind loses the newest publications of every channel that is watched, as a failover to a replica that was behind does: the
// epochs stay, and the offsets are used again. The nodes do not notice.
func (b *faultBroker) rewind(t testing.TB, newest int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	old := b.broker
	b.broker = fanfare.NewMemoryBroker(fanfare.MemoryBrokerConfig{})
	if b.epochs == nil {
		b.epochs = make(map[string]string)
	}
	for _, l := range b.links {
		for channel := range l.channels {
			had, err := old.History(t.Context(), channel, fanfare.HistoryQuery{Limit: -1})
			require.NoError(t, err)
			for _, p := range had.Publications[:len(had.Publications)-newest] {
				_, err := b.broker.Publish(t.Context(), channel, &fanfare.Publication{Data: p.Data}, fanfare.StoreOptions{History: kept.History})
				require.NoError(t, err)
			}
			has, err := b.broker.History(t.Context(), channel, fanfare.HistoryQuery{})
			require.NoError(t, err)
			b.epochs[has.Epoch] = had.Epoch
		}
	}
	require.NoError(t, old.Close())
	b.reattach(t)
}

// reattach brings the nodes to the new broker. The lock is held.
func (b *faultBroker) reattach(t testing.TB) {
	for _, l := range b.links {
		var err error
		l.Link, err = b.broker.Attach(l.node, l.sink)
		require.NoError(t, err)
		for channel := range l.channels {
			require.NoError(t, l.Link.Subscribe(t.Context(), channel))
		}
	}
}

// told returns what is told of a position.
func (b *faultBroker) told(p fanfare.Position) fanfare.Position {
	b.mu.Lock()
	defer b.mu.Unlock()
	if epoch, ok := b.epochs[p.Epoch]; ok {
		p.Epoch = epoch
	}
	return p
}

// disguised is a publication with the position that is told.
func (b *faultBroker) disguised(p *fanfare.Publication) *fanfare.Publication {
	position := b.told(p.Position)
	if position == p.Position {
		return p
	}
	d := *p
	d.Position = position
	return &d
}

// interrupt tells the nodes of an interruption.
func (b *faultBroker) interrupt(channels ...string) {
	b.mu.Lock()
	links := slices.Clone(b.links)
	b.mu.Unlock()
	for _, l := range links {
		l.sink.Interrupted(channels) // nil if there are none
	}
}

func (b *faultBroker) current() *fanfare.MemoryBroker {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.broker
}

func (b *faultBroker) Attach(node string, sink fanfare.Sink) (fanfare.Link, error) {
	l := &faultLink{broker: b, node: node, sink: faultSink{sink, b}, channels: make(map[string]bool)}
	b.mu.Lock()
	defer b.mu.Unlock()
	var err error
	l.Link, err = b.broker.Attach(node, l.sink)
	b.links = append(b.links, l)
	return l, err
}

func (b *faultBroker) Publish(ctx context.Context, channel string, p *fanfare.Publication, o fanfare.StoreOptions) (fanfare.Position, error) {
	position, err := b.current().Publish(ctx, channel, p, o)
	b.mu.Lock()
	fault := b.onPublish
	b.mu.Unlock()
	if fault != nil && err == nil {
		err = fault(ctx)
	}
	return b.told(position), err
}

func (b *faultBroker) PublishMembership(ctx context.Context, channel string, m fanfare.Membership) error {
	b.mu.Lock()
	fault, err := b.onMembership, b.membershipErr
	b.mu.Unlock()
	if fault != nil {
		fault()
	}
	if err != nil {
		return err
	}
	return b.current().PublishMembership(ctx, channel, m)
}

func (b *faultBroker) History(ctx context.Context, channel string, q fanfare.HistoryQuery) (fanfare.HistoryResult, error) {
	b.mu.Lock()
	b.reads++
	fault := b.onHistory
	b.mu.Unlock()
	var result fanfare.HistoryResult
	var err error
	var once sync.Once
	read := func() {
		once.Do(func() {
			result, err = b.current().History(ctx, channel, q)
			result.Position = b.told(result.Position)
			for i, p := range result.Publications {
				result.Publications[i] = b.disguised(p)
			}
		})
	}
	if fault != nil {
		if err := fault(ctx, read); err != nil {
			return fanfare.HistoryResult{}, err
		}
	}
	read()
	return result, err
}

func (b *faultBroker) RemoveHistory(ctx context.Context, channel string) error {
	return b.current().RemoveHistory(ctx, channel)
}

func (b *faultBroker) Close() error { return b.current().Close() }

// faultLink remembers what the node has asked for.
type faultLink struct {
	fanfare.Link // replaced by a restart
	broker       *faultBroker
	node         string
	sink         faultSink
	channels     map[string]bool // broker.mu guards it
}

func (l *faultLink) Subscribe(ctx context.Context, channel string) error {
	b := l.broker
	b.mu.Lock()
	b.linkings++
	fault := b.onLink
	b.mu.Unlock()
	var err error
	var once sync.Once
	link := func() { once.Do(func() { err = l.change(ctx, channel, true) }) }
	if fault != nil {
		if err := fault(ctx, link); err != nil {
			return err
		}
	}
	link()
	return err
}

func (l *faultLink) Unsubscribe(ctx context.Context, channel string) error {
	l.broker.set(func() { l.broker.linkings++ })
	return l.change(ctx, channel, false)
}

func (l *faultLink) change(ctx context.Context, channel string, on bool) error {
	l.broker.mu.Lock()
	link := l.Link
	if on {
		l.channels[channel] = true
	} else {
		delete(l.channels, channel)
	}
	l.broker.mu.Unlock()
	if on {
		return link.Subscribe(ctx, channel)
	}
	return link.Unsubscribe(ctx, channel)
}

func (l *faultLink) Close() error {
	l.broker.mu.Lock()
	link := l.Link
	l.broker.mu.Unlock()
	return link.Close()
}

// faultSink passes on what the test lets through. Memberships and control messages always arrive.
type faultSink struct {
	fanfare.Sink
	broker *faultBroker
}

func (s faultSink) Publication(channel string, p *fanfare.Publication) {
	p = s.broker.disguised(p)
	s.broker.mu.Lock()
	fault := s.broker.onDelivery
	s.broker.mu.Unlock()
	if fault == nil {
		s.Sink.Publication(channel, p)
		return
	}
	fault(p, func(p *fanfare.Publication) { s.Sink.Publication(channel, p) })
}
