package fanfare

import (
	"bytes"
	"log/slog"
	"math"

	"github.com/fanfare-go/fanfare/internal/protocol"
	"github.com/fanfare-go/fanfare/internal/tagfilter"
	"github.com/fanfare-go/fanfare/transport"
)

// tailoring is what only some subscriptions have: they take deltas, or not every publication. It does not change but for base,
// which the subscription's lock guards.
type tailoring struct {
	filter *tagfilter.Filter // nil if everything passes
	delta  bool
	base   uint64 // the room's number of the publication that the client got last; 0 is none that it surely has

	recovered *Publication // that last one, if it came with the subscribe reply
}

// recoveredBase stands for the publication at the subscription's position, which came with the subscribe reply.
const recoveredBase = math.MaxUint64

// tailor gives a subscription what the client asks for and the channel offers (spec 11.1, 12). The two exclude each other in the
// clients; asked for both, the filter counts, for a delta only saves bytes.
func (s *subscription) tailor(req *protocol.SubscribeRequest) error {
	o := &s.declared.options
	if req.TagsFilter != nil {
		if !o.TagsFilter {
			return ErrBadRequest
		}
		filter, err := tagfilter.Compile(req.TagsFilter)
		if err != nil {
			s.client.node.log.Debug("malformed tags filter", slog.String("channel", s.channel), slog.String("client", s.client.id), slog.Any("err", err))
			return ErrBadRequest
		}
		s.special, s.tailoring = true, &tailoring{filter: filter}
		return nil
	}
	if req.Delta != "" && o.Delta {
		s.special, s.tailoring = true, &tailoring{delta: true}
	}
	return nil
}

// takesDeltas reports whether delta was negotiated.
func (s *subscription) takesDeltas() bool { return s.special && s.tailoring.delta }

// passes reports whether the client is to get a publication.
func (s *subscription) passes(p *Publication) bool {
	return !p.leavesOut(s.client) && (!s.special || s.tailoring.filter == nil || s.tailoring.filter.Match(p.Tags))
}

// lookOf says how the subscription gets a publication that comes next. Its lock is held, and its position is still the one
// before.
func (s *subscription) lookOf(b *broadcast) look {
	switch {
	case !s.takesDeltas():
		return plain
	case b.edit == nil || b.edit.base == nil:
		return inFull
	}
	base := b.edit.base
	if (base.p.Offset == 0) != (b.publication.Offset == 0) {
		return inFull // spec 11.2, rule 4: one of them is no part of the stream
	}
	got := s.tailoring.base == base.seq
	if s.tailoring.base == recoveredBase {
		// What was read of the stream is what was published, but a broker may have written it anew.
		got = base.p.Offset > 0 && base.p.Position == s.position && bytes.Equal(base.p.Data, s.tailoring.recovered.Data)
	}
	if got {
		return asDelta
	}
	return inFull
}

// lookOfBatch says how the subscription gets a batch, or that it gets only part of it, or nothing. Its lock is held.
func (s *subscription) lookOfBatch(b *batch) look {
	filter := s.tailoring.filter
	if filter == nil {
		return s.lookOf(b.items[0])
	}
	passed := 0
	for _, item := range b.items {
		if filter.Match(item.publication.Tags) {
			passed++
		}
	}
	switch passed {
	case 0:
		return none
	case len(b.items):
		return plain
	}
	return mixed
}

// deliverTailored is [subscription.deliverBatch] for a subscription with a tailoring. It unlocks the subscription.
func (s *subscription) deliverTailored(w *worker, b *batch) (atOnce bool) {
	l, c := mixed, s.client
	if s.stage == flowing && b.continues(s) && !b.leavesOut(s) {
		l = s.lookOfBatch(b)
	}
	if l == mixed || l != none && !w.claim(c, b) {
		s.mu.Unlock()
		s.takeAll(b)
		return false
	}
	s.advance(b)
	s.got(b.items[len(b.items)-1], true)
	s.mu.Unlock()
	switch l {
	case none:
		return false
	case plain:
		c.writeNow(b.frames(s))
	default:
		c.writeNow(b.editedFrames(s, l))
	}
	return true
}

// got notes what the client has now. The lock is held.
func (s *subscription) got(b *broadcast, queued bool) {
	if !s.takesDeltas() {
		return
	}
	s.tailoring.base, s.tailoring.recovered = 0, nil
	if queued {
		s.tailoring.base = b.seq
	}
}

// beginTailored is [subscription.begin] for what a subscription takes deltas of, or filters.
func (s *subscription) beginTailored(j *joined) {
	t := s.tailoring
	if t.delta && len(j.publications) > 0 {
		t.base, t.recovered = recoveredBase, j.publications[len(j.publications)-1]
	}
	live := j.live
	j.live = nil
	for _, p := range live {
		if !s.passes(p) {
			continue
		}
		w := wirePublication(s.declared.options.Payload, s.client.info.Encoding, p)
		if t.delta {
			w = (*editCache)(nil).step(nil, p).publication(s.declared.options.Payload, s.client.info.Encoding, inFull)
			t.base, t.recovered = 0, nil // which of the room's it is does not matter: the next one goes in full
		}
		s.enqueue(p, s.client.encodePush(&protocol.Push{Channel: s.channel, Pub: w}))
	}
}

// escapes reports whether payloads are longer on the connection than they are: in a JSON string.
func (s *subscription) escapes() bool {
	return s.takesDeltas() && s.client.info.Encoding == transport.JSON || s.client.escapes(s.declared.options.Payload)
}
