package fanfare

import (
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/fanfare-go/fanfare/internal/protocol"
	"github.com/fanfare-go/fanfare/transport"
)

// broadcast is one message on its way to the subscribers of a channel: a publication, a join or leave, or, with neither,
// the order to end what is behind a position. It is encoded at most once for each wire form.
type broadcast struct {
	channel     string
	publication *Publication
	membership  *Membership
	top         Position  // where whoever is behind is cut off
	rewound     bool      // whoever is ahead of it, instead
	seq         uint64    // in the room's order
	size        int       // what it counts in an inbox
	came        time.Time // when the node got the publication, or began to look for it

	audiences atomic.Int32 // that have not delivered it yet
	delivered atomic.Int32 // subscriptions that it was queued for

	mu       sync.Mutex // guards below
	messages [][]byte   // by wire form and kind of payload
	frames   [][]byte

	edit *edit // what those get who take deltas; nil unless the room had some
}

// formKey numbers the ways in which one publication may look to subscriptions.
func formKey(s *subscription) int {
	return s.client.form*int(payloadKinds) + int(s.declared.options.Payload)
}

// message is the encoded push, as s gets it.
func (b *broadcast) message(s *subscription, l look) []byte {
	if l != plain {
		return b.edited().message(s, l)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.messageLocked(s)
}

func (b *broadcast) messageLocked(s *subscription) []byte {
	return cached(&b.messages, formKey(s), func() []byte {
		return s.client.appendPush(nil, b.push(s.declared.options.Payload, s.client.info.Encoding))
	})
}

// frame is the message in a frame of its own.
func (b *broadcast) frame(s *subscription, l look) []byte {
	if l != plain {
		return b.edited().frame(s, l)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	return cached(&b.frames, formKey(s), func() []byte { return s.client.frame(b.messageLocked(s)) })
}

// edited is how the publication looks to those who take deltas, also if there was nobody when it was posted.
func (b *broadcast) edited() *edit {
	if b.edit != nil {
		return b.edit
	}
	return &edit{target: &content{p: b.publication}}
}

func cached(frames *[][]byte, key int, build func() []byte) []byte {
	if len(*frames) <= key {
		*frames = append(*frames, make([][]byte, key+1-len(*frames))...)
	}
	if (*frames)[key] == nil {
		(*frames)[key] = build()
	}
	return (*frames)[key]
}

func (b *broadcast) push(kind Payload, e transport.Encoding) *protocol.Push {
	if b.membership != nil {
		return membershipPush(b.channel, *b.membership)
	}
	return publicationPush(b.channel, kind, e, b.publication)
}

// batch is what an audience gets in one pass: publications that follow each other without a gap, or one other message.
type batch struct {
	audience *audience
	items    []*broadcast
	except   uint64        // by markOf: who may be left out of some of them
	size     int           // what they count in the inbox
	paced    bool          // it has waited for its time
	count    int32         // of the subscriptions that got all of it at once
	joined   [][]byte      // by wire form and kind of payload: the publications in as few frames as possible
	edited   *[][]byte     // the same for those who take deltas, and by whether the first is one
	cost     time.Duration // of the pass
}

// joinable says how many of the first messages may go into one batch, and what they count in the inbox.
func joinable(inbox []*broadcast) (n, size int) {
	for n < len(inbox) && (n == 0 || size+inbox[n].size <= maxJoin && follows(inbox[n-1], inbox[n])) {
		size += inbox[n].size
		n++
	}
	return n, size
}

// exceptions says, by [markOf], who may be left out of some of the messages.
func exceptions(items []*broadcast) (marks uint64) {
	for _, b := range items {
		if p := b.publication; p != nil && p.Except != "" {
			marks |= 1 << markOf(p.Except)
		}
	}
	return marks
}

// markOf makes a number below 64 of a client's id: the subscriptions of a batch see by one bit, in memory that they look at anyway,
// that they are not left out of it. To one in 64 that says nothing, and the ids are compared.
func markOf(clientID string) uint8 {
	const offset, prime = 2166136261, 16777619 // FNV-1a, 32 bits
	h := uint32(offset)
	for i := range len(clientID) {
		h = (h ^ uint32(clientID[i])) * prime
	}
	return uint8(h % 64)
}

// leavesOut reports whether a subscription does not get some of the batch.
func (b *batch) leavesOut(s *subscription) bool {
	return b.except>>(s.mark%64)&1 != 0 && b.withholds(s.client)
}

func (b *batch) withholds(c *Client) bool {
	return slices.ContainsFunc(b.items, func(item *broadcast) bool { return item.publication.leavesOut(c) })
}

// leavesOut reports whether a client is not to get the publication, which may be nil.
func (p *Publication) leavesOut(c *Client) bool {
	return p != nil && p.Except != "" && p.Except == c.id
}

// follows reports whether b is the publication after a, or both have no position.
func follows(a, b *broadcast) bool {
	p, q := a.publication, b.publication
	switch {
	case p == nil || q == nil:
		return false
	case p.Offset == 0:
		return q.Offset == 0
	}
	return p.Epoch == q.Epoch && q.Offset == p.Offset+1
}

// frames is the whole batch, as s gets it.
func (b *batch) frames(s *subscription) []byte {
	return cached(&b.joined, formKey(s), func() []byte { return b.join(s, plain) })
}

// editedFrames is the whole batch, as those get it who take deltas.
func (b *batch) editedFrames(s *subscription, l look) []byte {
	if b.edited == nil {
		b.edited = new([][]byte)
	}
	return cached(b.edited, editKey(s, l), func() []byte { return b.join(s, l) })
}

func (b *batch) join(s *subscription, l look) []byte {
	if len(b.items) == 1 {
		return b.items[0].frame(s, l)
	}
	messages := make([][]byte, len(b.items))
	size := 0
	for i, item := range b.items {
		messages[i] = item.message(s, b.lookAt(i, l))
		size += len(messages[i]) + 1
	}
	return s.client.info.Framing.AppendFrame(make([]byte, 0, size+16), messages...)
}

// lookAt is how one of the publications looks if the first looks like first: the others may be deltas, for whoever gets them has
// got the one before.
func (b *batch) lookAt(i int, first look) look {
	if i == 0 || first == plain {
		return first
	}
	if e := b.items[i].edit; e != nil && e.base != nil && e.base.seq == b.items[i-1].seq {
		return asDelta
	}
	return inFull
}

// continues reports whether the batch begins right behind what the subscription has. Its lock is held.
func (b *batch) continues(s *subscription) bool {
	first := b.items[0]
	if first.publication == nil || first.seq <= s.since {
		return false
	}
	p := first.publication
	return !s.positioned || p.Offset == 0 || p.Epoch == s.position.Epoch && p.Offset == s.position.Offset+1
}

// finish tells the observer of publications that no other audience has still to deliver.
func (b *batch) finish() {
	for _, item := range b.items {
		item.delivered.Add(b.count)
		if item.audiences.Add(-1) == 0 {
			b.audience.room.observed(item)
		}
	}
}
