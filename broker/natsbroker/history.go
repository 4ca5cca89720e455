package natsbroker

import (
	"context"
	"errors"
	"slices"

	"github.com/nats-io/nats.go"

	"github.com/fanfare-go/fanfare"
)

// readAttempts is how often publications are looked for that should be there. A server that keeps a replica may be behind.
const readAttempts = 20

// errBehind says that the newest publications are not there.
var errBehind = errors.New("natsbroker: stored publications are missing")

// History implements [fanfare.Broker]. It is one request for the top, and another one for publications.
func (b *Broker) History(ctx context.Context, channel string, q fanfare.HistoryQuery) (fanfare.HistoryResult, error) {
	timed, cancel, err := b.begin(ctx)
	if err != nil {
		return fanfare.HistoryResult{}, err
	}
	defer cancel()
	result, err := b.history(timed, channel, q)
	return result, b.failed(ctx, err)
}

func (b *Broker) history(ctx context.Context, channel string, q fanfare.HistoryQuery) (fanfare.HistoryResult, error) {
	last := head{}
	for attempt := 1; ; attempt++ {
		h, err := b.current(ctx, channel)
		if err != nil {
			return fanfare.HistoryResult{}, err
		}
		// What is stored does not change, so it belongs to the top that was read first, unless it was deleted meanwhile: then there is
		// a newer top.
		pubs, trimmed, err := b.read(ctx, channel, h, q)
		switch {
		case err == nil && (!trimmed || h.seq == last.seq):
			return fanfare.HistoryResult{Publications: pubs, Position: h.position()}, nil
		case errors.Is(err, errBehind) && h.seq == last.seq && attempt >= readAttempts:
			// Somebody else has deleted the newest ones, so nothing is kept.
			return fanfare.HistoryResult{Position: h.position()}, nil
		case err != nil && !errors.Is(err, errBehind):
			return fanfare.HistoryResult{}, err
		}
		if h.seq == last.seq {
			if err := pause(ctx); err != nil {
				return fanfare.HistoryResult{}, err
			}
		}
		last = h
	}
}

// current returns the newest record of a channel. It writes one if there is none, which gives the channel its epoch, and when the
// newest will soon be so old that the server deletes it.
func (b *Broker) current(ctx context.Context, channel string) (head, error) {
	for {
		h, err := b.newest(ctx, channel)
		if err != nil {
			return head{}, err
		}
		now := b.clock.now()
		if h.seq > 0 && now-h.time < b.config.StreamTTL.Microseconds()/2 {
			return h, nil
		}
		s := h.marker(now)
		if s.epoch == "" {
			s.epoch = newEpoch()
		}
		marked, err := b.mark(ctx, channel, h, s)
		if !errors.Is(err, errConflict) {
			return marked, err
		}
	}
}

// mark stores a marker behind a record.
func (b *Broker) mark(ctx context.Context, channel string, after head, s state) (head, error) {
	data := message{kind: kindMarker, state: s}.append(nil)
	seq, err := b.store(ctx, entry{b.recordSubject(channel), after.seq, s.lifetime(b.config.StreamTTL), data})
	if err != nil {
		return head{}, err
	}
	h := head{s, seq, false}
	b.lanes.learn(token(channel), h)
	return h, nil
}

// read returns the publications that a query wants of the stream with the given head, and whether there should be older ones that are
// not there.
func (b *Broker) read(ctx context.Context, channel string, h head, q fanfare.HistoryQuery) (pubs []*fanfare.Publication, trimmed bool, err error) {
	r, n := newReader(h, q, b.clock.now())
	if n == 0 {
		return nil, false, nil
	}
	if err := b.scan(ctx, b.recordSubject(channel), h.seqBefore(r.next), n+scanSpare, r.take); err != nil {
		return nil, false, err
	}
	if err := r.complete(); err != nil {
		return nil, false, err
	}
	if q.Reverse {
		slices.Reverse(r.pubs)
	}
	return r.pubs, r.trimmed, nil
}

// scanSpare is how many messages are asked for beyond what is wanted: some of those between are markers, or older.
const scanSpare = 16

// reader collects publications from a scan: those with offsets from next to to, without the expired ones, up to a limit if that is not
// negative.
type reader struct {
	head     head
	now      int64
	next, to uint64
	limit    int

	pubs    []*fanfare.Publication
	trimmed bool // some before the first one were not there
	err     error
}

// newReader returns a reader of what a query wants of the stream with the given head, and how many publications that are about; 0 if there
// are none.
func newReader(h head, q fanfare.HistoryQuery, now int64) (r reader, n int) {
	from, to := h.kept(now)+1, h.top // what is kept
	switch {
	case q.Since == nil:
	case q.Reverse:
		to = min(to, max(q.Since.Offset, 1)-1)
	case q.Since.Offset >= to:
		return r, 0
	default:
		from = max(from, q.Since.Offset+1)
	}
	if q.Limit == 0 || from > to {
		return r, 0
	}
	r = reader{head: h, now: now, next: from, to: to, limit: -1}
	if q.Limit > 0 && q.Reverse && to-from >= uint64(q.Limit) {
		r.next = to - uint64(q.Limit) + 1
	} else if !q.Reverse {
		r.limit = q.Limit
	}
	wanted := to - r.next + 1
	if r.limit > 0 {
		wanted = min(wanted, uint64(r.limit))
	}
	return r, int(min(wanted, scanBatch))
}

func (r *reader) take(raw *nats.Msg, seq uint64) bool {
	if seq > r.head.seq {
		return false
	}
	var m message
	if m, r.err = parseMessage(raw.Data); r.err != nil {
		return false
	}
	if m.kind != kindPublication || m.epoch != r.head.epoch || m.top < r.next {
		return true
	}
	if m.top > r.next {
		r.pubs, r.trimmed = nil, true // what is kept has no holes
	}
	if m.top > r.to {
		return false
	}
	r.next = m.top + 1
	if r.head.expired(m.top, m.time, r.now) {
		r.pubs = nil // nor is anything older
		return true
	}
	p, err := m.publication()
	if err != nil {
		r.err = err
		return false
	}
	r.pubs = append(r.pubs, p)
	return r.next <= r.to && len(r.pubs) != r.limit
}

// complete returns an error if the last ones are missing.
func (r *reader) complete() error {
	if r.err != nil {
		return r.err
	}
	if r.next <= r.to && len(r.pubs) != r.limit {
		return errBehind
	}
	return nil
}

// RemoveHistory implements [fanfare.Broker].
func (b *Broker) RemoveHistory(ctx context.Context, channel string) error {
	timed, cancel, err := b.begin(ctx)
	if err != nil {
		return err
	}
	defer cancel()
	for {
		h, err := b.newest(timed, channel)
		if err != nil {
			return b.failed(ctx, err)
		}
		if h.floor == h.top { // also without any record
			return nil
		}
		marked, err := b.mark(timed, channel, h, h.cleared(b.clock.now()))
		if errors.Is(err, errConflict) {
			continue
		}
		if err == nil {
			b.tidy(purge{b.recordSubject(channel), marked.seq})
		}
		return b.failed(ctx, err)
	}
}
