package natsbroker

import (
	"context"
	"hash/maphash"
	"log/slog"
	"maps"
	"slices"
	"strconv"
	"sync"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/fanfare-go/fanfare"
	"github.com/fanfare-go/fanfare/broker/internal/wire"
)

// subscription is a channel that nodes of this process subscribe to. The server knows of one subscription for all of them.
type subscription struct {
	channel string
	token   string
	users   int           // calls under way and links; guarded by Broker.mu
	slot    chan struct{} // a lock of one slot around what asks the server: waiting obeys contexts

	mu      sync.Mutex         // held while sinks are called: that makes the order; guards below
	sub     *nats.Subscription // nil while the server is not asked
	links   []*link
	dropped int // messages that found no room, as far as the nodes were told
}

// hold returns the subscription of a channel, to be given back with letGo.
func (b *Broker) hold(channel string) *subscription {
	t := token(channel)
	b.mu.Lock()
	defer b.mu.Unlock()
	s := b.subscriptions[t]
	if s == nil {
		s = &subscription{channel: channel, token: t, slot: make(chan struct{}, 1)}
		b.subscriptions[t] = s
	}
	s.users++
	return s
}

func (b *Broker) letGo(s *subscription) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if s.users--; s.users == 0 {
		delete(b.subscriptions, s.token)
	}
}

// lock waits for the slot.
func (s *subscription) lock(ctx context.Context) error {
	select {
	case s.slot <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (s *subscription) unlock() { <-s.slot }

// ask makes the server send the channel. The slot is held.
func (b *Broker) ask(ctx context.Context, s *subscription) error {
	s.mu.Lock()
	asked := s.sub != nil
	s.mu.Unlock()
	if asked {
		return nil
	}
	sub, err := b.nc.ChanSubscribe(b.liveSubject(s.token), b.inbound[maphash.String(inboundSeed, s.token)%uint64(len(b.inbound))])
	if err != nil {
		return err
	}
	s.mu.Lock()
	s.sub, s.dropped = sub, 0
	s.mu.Unlock()
	// The answer of the server that has the stream says that it knows of the subscription, on whichever server of a cluster that is.
	h, err := b.newest(ctx, s.channel)
	if err != nil {
		b.unask(s)
		return err
	}
	b.lanes.learn(s.token, h)
	return nil
}

// unask ends what ask began. The slot is held.
func (b *Broker) unask(s *subscription) {
	s.mu.Lock()
	sub := s.sub
	s.sub = nil
	s.mu.Unlock()
	if sub != nil {
		_ = sub.Unsubscribe() // fails only if the connection is closed
	}
}

// add lets a link take part.
func (s *subscription) add(l *link) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.links = append(s.links, l)
}

// remove ends that, and reports whether it was the last one.
func (s *subscription) remove(l *link) (last bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if i := slices.Index(s.links, l); i >= 0 {
		s.links = slices.Delete(s.links, i, i+1)
	}
	return len(s.links) == 0
}

// inboundSeed chooses the goroutine that delivers a channel.
var inboundSeed = maphash.MakeSeed()

// deliver hands what the server sends to the sinks, until the broker is closed.
func (b *Broker) deliver(inbound <-chan *nats.Msg) {
	full, since := false, 0 // whether there may have been no room, and how many messages ago that was looked into
	for {
		select {
		case <-b.closed:
			return
		case m := <-inbound:
			t := b.liveToken(m.Subject)
			b.mu.Lock()
			s := b.subscriptions[t]
			b.mu.Unlock()
			full = full || len(inbound) >= cap(inbound)-1 // it was full before this one was taken
			since++
			if s != nil {
				b.handle(s, m)
			}
			if full && (len(inbound) == 0 || since >= cap(inbound)) {
				full, since = false, 0
				b.tellDropped()
			}
		}
	}
}

// tellDropped tells the nodes of every channel that has lost something for want of room: of one that has lost its last message no
// later one may come.
func (b *Broker) tellDropped() {
	b.mu.Lock()
	all := slices.Collect(maps.Values(b.subscriptions))
	b.mu.Unlock()
	for _, s := range all {
		s.mu.Lock()
		s.tellDropped()
		s.mu.Unlock()
	}
}

// handle delivers one message.
func (b *Broker) handle(s *subscription, raw *nats.Msg) {
	m, err := parseMessage(raw.Data)
	if err != nil {
		b.config.Logger.Warn("natsbroker: a message cannot be read", slog.String("channel", s.channel), slog.Any("err", err))
		return
	}
	b.lanes.hear(s.token, raw, m)
	b.saw(sequence(raw))
	call, err := s.call(m)
	if err != nil {
		b.config.Logger.Warn("natsbroker: a message cannot be read", slog.String("channel", s.channel), slog.Any("err", err))
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if raw.Sub != s.sub {
		return // it was for an earlier subscription
	}
	if call != nil {
		for _, l := range s.links {
			call(l.sink)
		}
	}
	s.tellDropped()
}

// tellDropped tells the nodes if messages have found no room since the last time. The lock is held.
func (s *subscription) tellDropped() {
	if s.sub == nil {
		return
	}
	if dropped, err := s.sub.Dropped(); err == nil && dropped > s.dropped {
		s.dropped = dropped
		for _, l := range s.links {
			l.interrupted([]string{s.channel})
		}
	}
}

// call returns what is to be done with each sink; nil for nothing.
func (s *subscription) call(m message) (func(fanfare.Sink), error) {
	switch m.kind {
	case kindKey:
		if len(m.payload) == 0 {
			return nil, nil
		}
		fallthrough
	case kindPublication, kindPassing:
		p, err := m.publication()
		return func(sink fanfare.Sink) { sink.Publication(s.channel, p) }, err
	case kindMembership:
		member, err := wire.Membership(m.payload)
		return func(sink fanfare.Sink) { sink.Membership(s.channel, member) }, err
	default:
		return nil, nil
	}
}

// sequence returns the place of a republished message in the stream; 0 if it was not stored.
func sequence(m *nats.Msg) uint64 {
	seq, err := strconv.ParseUint(m.Header.Get(jetstream.SequenceHeader), 10, 64)
	if err != nil {
		return 0
	}
	return seq
}
