package natsbroker

import (
	"context"
	"crypto/rand"
	"errors"
	mathrand "math/rand/v2"
	"strings"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/fanfare-go/fanfare"
	"github.com/fanfare-go/fanfare/broker/internal/wire"
)

// Publish implements [fanfare.Broker]. What is stored must fit into one message of the server (max_payload, 1 MiB unless set).
func (b *Broker) Publish(ctx context.Context, channel string, p *fanfare.Publication, o fanfare.StoreOptions) (fanfare.Position, error) {
	timed, cancel, err := b.begin(ctx)
	if err != nil {
		return fanfare.Position{}, err
	}
	defer cancel()
	at, err := b.publish(timed, channel, p, o)
	return at, b.failed(ctx, err)
}

func (b *Broker) publish(ctx context.Context, channel string, p *fanfare.Publication, o fanfare.StoreOptions) (fanfare.Position, error) {
	p.Position = fanfare.Position{}
	stored := o.History.Size > 0 && o.History.TTL > 0
	if !stored && o.IdempotencyKey == "" {
		m := message{kind: kindPassing, payload: wire.AppendPublication(nil, p)}
		return fanfare.Position{}, b.nc.Publish(b.passingSubject(channel), m.append(nil))
	}
	a := attempt{broker: b, channel: channel, options: o, stored: stored, payload: wire.AppendPublication(nil, p)}
	lane, err := b.enter(ctx, token(channel))
	if err != nil {
		return fanfare.Position{}, err
	}
	defer b.leave(lane)
	a.lane = lane
	defer a.done()
	at, first, err := a.run(ctx)
	if err == nil && first {
		p.Position = at
	}
	return at, err
}

// PublishMembership implements [fanfare.Broker].
func (b *Broker) PublishMembership(ctx context.Context, channel string, m fanfare.Membership) error {
	_, cancel, err := b.begin(ctx)
	if err != nil {
		return err
	}
	defer cancel()
	data := message{kind: kindMembership, payload: wire.AppendMembership(nil, m)}.append(nil)
	return b.failed(ctx, b.nc.Publish(b.passingSubject(channel), data))
}

// attempt is one publication on its way into the stream. The publisher is in the channel's lane.
type attempt struct {
	broker  *Broker
	channel string
	options fanfare.StoreOptions
	stored  bool
	payload []byte

	lane      *lane
	conflicts int
	listening *nats.Subscription // to others who publish to the channel; or nil
}

// run tries until nobody else was faster. It reports whether the publication was the first with its key, and not stale.
func (a *attempt) run(ctx context.Context) (at fanfare.Position, first bool, err error) {
	var replaced uint64 // an expired key
	for tried := a.lane.known(); ; tried = a.lane.known() {
		if a.stored && tried.seq == 0 {
			if tried, err = a.refresh(ctx); err != nil {
				return at, false, err
			}
		}
		stale := false
		if a.stored && a.stale(tried) {
			// What is known may be old, and only the newest record can say so.
			if tried, err = a.refresh(ctx); err != nil {
				return at, false, err
			}
			stale = a.stale(tried)
		}
		if stale && a.options.IdempotencyKey == "" {
			return tried.position(), false, nil
		}
		at, err = a.once(ctx, tried, stale, replaced)
		switch {
		case err == nil:
			return at, !stale, nil
		case errors.Is(err, errCrowded):
			err = pause(ctx)
		case errors.Is(err, errConflict):
			var known bool
			err = nil
			if a.options.IdempotencyKey != "" {
				if at, replaced, known, err = a.repeated(ctx); known {
					return at, false, nil
				}
			}
			if err == nil && a.stored {
				err = a.overtaken(ctx, tried)
			}
		default:
			a.lane.set(head{}) // nobody knows what was stored
		}
		if err != nil {
			return at, false, err
		}
	}
}

// refresh reads the newest record.
func (a *attempt) refresh(ctx context.Context) (head, error) {
	h, err := a.broker.newest(ctx, a.channel)
	if err == nil {
		a.lane.set(h)
	}
	return h, err
}

func (a *attempt) stale(h head) bool {
	o := a.options
	return o.Version > 0 && o.Version <= h.version && (o.VersionEpoch == "" || o.VersionEpoch == h.versionEpoch)
}

// once tries to store the publication as the one after the given record, and its key as the one after the given expired one.
func (a *attempt) once(ctx context.Context, tried head, stale bool, replaced uint64) (fanfare.Position, error) {
	b := a.broker
	record, next, below := a.record(tried)
	key := message{kind: kindKey}
	var keyed entry
	if a.options.IdempotencyKey != "" {
		switch {
		case stale:
			key.epoch, key.top = tried.epoch, tried.top
		case a.stored:
			key.epoch, key.top = next.epoch, next.top
		default:
			key.payload = a.payload // stored and delivered as one
		}
		key.expires = b.clock.now() + a.options.IdempotencyTTL.Microseconds()
		// The server may think of a second as over a little earlier.
		keyed = entry{b.keySubject(a.channel, a.options.IdempotencyKey), replaced, a.options.IdempotencyTTL + 2*time.Second, key.append(nil)}
	}
	if !a.stored || stale {
		_, err := b.store(ctx, keyed)
		return key.position(), err
	}
	var seq uint64
	var err error
	if a.options.IdempotencyKey == "" {
		seq, err = b.store(ctx, record)
	} else {
		seq, err = b.storeBoth(ctx, keyed, record)
	}
	if err != nil {
		return fanfare.Position{}, err
	}
	a.lane.learn(head{next, seq, true})
	if below > 0 {
		b.tidy(purge{record.subject, below})
	}
	return next.position(), nil
}

// record returns the record that follows another one, its state, and the sequence number below which the channel's may be deleted.
func (a *attempt) record(tried head) (entry, state, uint64) {
	if !a.stored {
		return entry{}, state{}, 0
	}
	b, o := a.broker, a.options
	next, below := tried.next(b.clock.now(), o.History.Size, o.History.TTL)
	if next.epoch == "" {
		next.epoch = newEpoch()
	}
	if o.Version > 0 {
		next.version, next.versionEpoch = o.Version, o.VersionEpoch
	}
	data := message{kind: kindPublication, state: next, payload: a.payload}.append(make([]byte, 0, len(a.payload)+512))
	return entry{b.recordSubject(a.channel), tried.seq, next.lifetime(b.config.StreamTTL), data}, next, below
}

// newEpoch returns 50 random bits, which tell the lives of one channel apart.
func newEpoch() string { return strings.Clone(rand.Text()[:10]) }

// repeated looks for the key. If there is none any more it returns the sequence number of an expired one, or 0.
func (a *attempt) repeated(ctx context.Context) (at fanfare.Position, replaced uint64, known bool, err error) {
	data, seq, err := a.broker.last(ctx, a.broker.keySubject(a.channel, a.options.IdempotencyKey))
	if err != nil || seq == 0 {
		return at, 0, false, err
	}
	m, err := parseMessage(data)
	if err != nil {
		return at, 0, false, err
	}
	if m.expires <= a.broker.clock.now() {
		return at, seq, false, nil
	}
	return m.position(), 0, true, nil
}

// overtaken makes sure that something newer than what was tried is known, or reads it.
func (a *attempt) overtaken(ctx context.Context, tried head) error {
	a.conflicts++
	if a.conflicts == 2 {
		a.listen()
	}
	// Whoever reads what another one has just stored comes too late for the next: that one needs half the time. To hear of it as soon as
	// the other makes the chances even.
	if a.conflicts > 2 && a.lane.await(ctx, tried, time.Millisecond+mathrand.N(10*time.Millisecond)) {
		return nil
	}
	h, err := a.broker.newest(ctx, a.channel)
	if err != nil {
		return err
	}
	if h.seq <= tried.seq {
		a.lane.set(h) // also if the stream is a new one
	}
	a.lane.learn(h)
	return nil
}

// listen makes the lane learn what others store, until the attempt is done.
func (a *attempt) listen() {
	if sub, err := a.broker.nc.Subscribe(a.broker.liveRecordSubject(a.channel), func(m *nats.Msg) {
		if parsed, err := parseMessage(m.Data); err == nil {
			a.lane.hear(m, parsed)
		}
	}); err == nil {
		a.listening = sub // without it reading has to do
	}
}

func (a *attempt) done() {
	if a.listening != nil {
		_ = a.listening.Unsubscribe()
	}
}

// pause waits a moment that is a different one for everybody.
func pause(ctx context.Context) error {
	timer := time.NewTimer(time.Millisecond + mathrand.N(20*time.Millisecond))
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
