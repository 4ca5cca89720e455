package fanfare

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/fanfare-go/fanfare/internal/protocol"
	"github.com/fanfare-go/fanfare/transport"
)

// Codes of ended subscriptions (spec 9.2).
const (
	unsubscribedByClient     = 0
	unsubscribedByDisconnect = 1
	unsubscribedByServer     = 2000
	unsubscribedInsufficient = 2500
	unsubscribedExpired      = 2501
)

const (
	// cutOffWindow is the time in which a third loss of position closes the connection instead of asking for another
	// resubscribe: clients come back from that at once, and from a disconnect with back-off (spec 18).
	cutOffWindow = 10 * time.Second
)

// cutOff is when the position in a channel was lost, the last time and the time before that.
type cutOff struct{ last, before time.Time }

// stage is how far a subscription is.
type stage uint8

const (
	seaming stage = iota // live messages are buffered: the subscribe reply is not out
	flowing              // live messages are queued
	over                 // nothing is queued any more
)

// subscription is one client's view of one channel.
//
// Lock order: room.mu, subscription.mu, client.mu, outgoing.mu.
type subscription struct {
	// What a delivery looks at is in these 64 bytes, one cache line: a channel may have 100,000 subscriptions.
	client     *Client
	declared   *declaration
	since      uint64     // of the room's messages, those after it are for the subscription; constant once it is in an audience
	mu         sync.Mutex // guards position, stage and backlog
	position   Position
	stage      stage
	positioned bool  // with the flags below
	special    bool  // has a tailoring
	mark       uint8 // of the client, by markOf

	// Written by the subscribe path before it is settled, constant afterwards.
	recoverable bool
	joinLeave   bool
	server      bool // made by the server
	accepted    bool // Unsubscribed is owed
	room        *room
	channelInfo []byte

	params           // with the channel's name
	backlog *backlog // not nil if something came while seaming

	claimed   atomic.Bool // somebody is ending it
	joined    bool        // the channel knows that the client has come
	clients   uint8       // of the user in the channel when the client was put into its presence, up to 255; 0 if it was not; as the above
	announces bool        // others are told that the client comes and goes; written and constant as the above
	hasToken  bool        // the client subscribed with one, and can get others
	settled   latch       // opened when the subscribe path is through, well or not
	finished  latch       // opened when it has been ended

	audience *audience // that it is in; room.mu guards it
	index    int       // in audience.subs; audience.mu guards it
	expireAt wall      // client.mu guards it, and the next
	askAt    wall      // when the server asks whether it is prolonged

	tailoring *tailoring // nil for most
}

// backlog is what came for a subscription before its reply was out.
type backlog struct {
	publications []*Publication
	bytes        int
	overflowed   bool // they were forgotten: read history again
	lost         int  // of them, what is in no history
	members      []Membership

	atLeast, atMost Position // where the flow has to begin, or else it has a gap; not known if the epoch is empty
}

// gaped reports whether a flow that begins at a position misses something. What is known of another life of the stream says
// nothing: its end may have been read before.
func (h *backlog) gaped(at Position) bool {
	return at.Epoch == h.atLeast.Epoch && at.Offset < h.atLeast.Offset || at.Epoch == h.atMost.Epoch && at.Offset > h.atMost.Offset && h.atMost.Epoch != ""
}

// endsAt is when the subscription is ended for its expiry. client.mu is held.
func (s *subscription) endsAt() wall {
	at := s.expireAt
	if at > 0 && s.refreshedBy() != nobody {
		at += wall(s.client.node.config.ExpiryGrace)
	}
	return at
}

// live reports whether messages flow.
func (s *subscription) live() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.stage == flowing
}

// buffered returns how much was buffered so far, after forgetting a buffer that overflowed: what is read from now on
// covers what was in it.
func (s *subscription) buffered() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	h := s.backlog
	switch {
	case h == nil:
		return 0
	case h.overflowed:
		h.overflowed, h.publications, h.bytes = false, nil, 0
	}
	return len(h.publications)
}

// begin lets messages flow behind the reply that was just queued. The lock is held.
func (s *subscription) begin(j joined) {
	h := s.backlog
	s.stage, s.position, s.backlog = flowing, j.position, nil
	if s.special {
		s.beginTailored(&j)
	}
	for _, p := range j.live {
		if s.passes(p) {
			s.enqueue(p, s.client.publicationFrame(s, p))
		}
	}
	if h == nil {
		return
	}
	for _, m := range h.members {
		s.client.pushMembership(s.client.encodePush(membershipPush(s.channel, m)))
	}
	if s.positioned && h.gaped(s.position) {
		s.cut()
	}
}

// end stops the flow.
func (s *subscription) end() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stage, s.backlog = over, nil
}

// deliverBatch takes messages from the worker, in the channel's order. Where nothing stands in the way they are written at
// once, in one piece that all subscriptions share; atOnce says so.
func (s *subscription) deliverBatch(w *worker, b *batch) (atOnce bool) {
	c := s.client
	s.mu.Lock()
	if s.special {
		return s.deliverTailored(w, b)
	}
	claimed := s.stage == flowing && b.continues(s) && !b.leavesOut(s) && w.claim(c, b)
	if !claimed {
		s.mu.Unlock()
		s.takeAll(b)
		return false
	}
	s.advance(b)
	s.mu.Unlock()
	c.writeNow(b.frames(s))
	return true
}

// advance moves the position to the end of a batch that begins right behind it. The lock is held.
func (s *subscription) advance(b *batch) {
	if p := b.items[len(b.items)-1].publication; s.positioned && p.Offset > 0 {
		s.position = p.Position
	}
}

// takeAll takes the messages of a batch one by one.
func (s *subscription) takeAll(b *batch) {
	for _, item := range b.items {
		s.take(item)
	}
}

// take takes one message from the worker.
func (s *subscription) take(b *broadcast) {
	switch {
	case b.seq <= s.since:
	case b.membership != nil:
		s.deliverMembership(b)
	case b.publication == nil:
		s.cutBehind(b.top, b.rewound)
	case s.deliver(b):
		b.delivered.Add(1)
	}
}

// deliver takes a publication, in the channel's order, and reports whether it was queued (spec 10.5).
func (s *subscription) deliver(b *broadcast) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	p := b.publication
	switch s.stage {
	case seaming:
		s.holdPublication(p)
		return false
	case over:
		return false
	}
	l := s.lookOf(b)
	if s.positioned && p.Offset > 0 {
		if s.position.Epoch == "" {
			s.position.Epoch = p.Epoch
		}
		switch {
		case p.Epoch == s.position.Epoch && p.Offset == s.position.Offset+1:
		case p.Epoch == s.position.Epoch && p.Offset <= s.position.Offset:
			return false
		default:
			s.cut()
			return false
		}
		s.position = p.Position
	}
	if !s.passes(p) {
		s.got(b, false)
		return false
	}
	queued := s.enqueue(p, b.frame(s, l))
	s.got(b, queued)
	return queued
}

// holdPublication buffers a publication until the reply is out.
func (s *subscription) holdPublication(p *Publication) {
	h := s.early()
	if h.overflowed {
		if p.Offset == 0 {
			h.lost++
		}
		return
	}
	h.bytes += p.size(false)
	h.publications = append(h.publications, p)
	limit := s.client.node.config.MaxQueueSize
	if h.bytes <= limit {
		return
	}
	if s.positioned {
		for _, p := range h.publications {
			if p.Offset == 0 {
				h.lost++
			}
		}
		h.overflowed, h.publications = true, nil // the rest is in history
		return
	}
	for h.bytes > limit && len(h.publications) > 1 {
		h.bytes -= h.publications[0].size(false)
		h.publications[0] = nil
		h.publications = h.publications[1:]
		h.lost++
	}
}

func (s *subscription) early() *backlog {
	if s.backlog == nil {
		s.backlog = &backlog{}
	}
	return s.backlog
}

// enqueue queues a publication's frame under the channel's policy. The lock is held.
func (s *subscription) enqueue(p *Publication, frame []byte) bool {
	c := s.client
	v, drops := c.pushPublication(s, frame, s.positioned && p.Offset == 0)
	if drops > 0 {
		if o := c.node.config.Observer; o != nil {
			o.Dropped(s.channel, drops)
		}
	}
	switch v {
	case overflow:
		c.close(DisconnectSlow)
	case gapPending:
		s.stage = over // and ended when the queue has drained
	case queued:
		return true
	}
	return false
}

// deliverMembership takes a join or leave.
func (s *subscription) deliverMembership(b *broadcast) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.joinLeave {
		return
	}
	switch s.stage {
	case seaming:
		if h := s.early(); len(h.members) < maxHeldMembers {
			h.members = append(h.members, *b.membership)
		}
	case flowing:
		s.client.pushMembership(b.frame(s, plain))
	}
}

// maxHeldMembers bounds the joins and leaves buffered for one subscribe; they may be lost (spec 13).
const maxHeldMembers = 1000

// cut stops the flow because the subscription missed something that history no longer holds. The lock is held; the rest
// happens on a goroutine of the node.
func (s *subscription) cut() {
	s.stage = over
	s.client.node.goroutines.start(func() { s.client.insufficient(s) })
}

// insufficient tells the client that it has a gap, in the way that makes it come back and recover.
func (c *Client) insufficient(s *subscription) {
	if s.server {
		c.close(DisconnectInsufficient) // spec 14
		return
	}
	if c.cutOffAgain(s.channel) {
		c.close(DisconnectInsufficient)
		return
	}
	c.endSubscription(s, unsubscribedInsufficient, "insufficient state")
}

// cutOffAgain notes a loss of position and reports whether there were too many lately.
func (c *Client) cutOffAgain(channel string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := time.Now()
	for ch, k := range c.cutOffs {
		if now.Sub(k.last) > cutOffWindow {
			delete(c.cutOffs, ch)
		}
	}
	if c.cutOffs == nil {
		c.cutOffs = make(map[string]cutOff)
	}
	k := c.cutOffs[channel]
	c.cutOffs[channel] = cutOff{last: now, before: k.last}
	return !k.before.IsZero() && now.Sub(k.before) <= cutOffWindow
}

// expireIfDue ends a subscription whose time is over, unless it was refreshed in the meantime.
func (c *Client) expireIfDue(s *subscription) {
	c.mu.Lock()
	at := s.endsAt()
	c.mu.Unlock()
	if due(at, wallOf(time.Now())) {
		c.expireSubscription(s)
	}
}

// expireSubscription ends a subscription for its expiry.
func (c *Client) expireSubscription(s *subscription) {
	if s.server {
		c.close(DisconnectSubExpired) // spec 5.10
		return
	}
	c.endSubscription(s, unsubscribedExpired, "subscription expired")
}

// subscriptions returns what the client is subscribed to, or about to be.
func (c *Client) subscriptions() []*subscription {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Collect(c.subs.all())
}

// endSubscription ends a subscription once it is settled, tells the client if it does not know, and returns when that is
// done, by this call or by another.
func (c *Client) endSubscription(s *subscription, code uint32, reason string) {
	s.settled.wait(context.Background())
	s.end()
	c.withdraw(s, code, reason, nil)
}

// withdraw takes an ended subscription out of room, presence and client, once. Before the client, it calls tell, if that is
// not nil.
func (c *Client) withdraw(s *subscription, code uint32, reason string, tell func()) {
	if !s.claimed.CompareAndSwap(false, true) {
		s.finished.wait(context.Background())
		return
	}
	n := c.node
	if s.room != nil {
		s.room.remove(s)
		n.release(s.room)
	}
	n.left(s, code)
	if s.accepted {
		c.unsubscribed(s.declared, s.params, s.channel, code, reason)
	}
	if tell != nil {
		tell()
	}
	var frame []byte
	if code >= unsubscribedByServer {
		frame = c.encodePush(&protocol.Push{Channel: s.channel, Unsubscribe: &protocol.Unsubscribe{Code: code, Reason: reason}})
	}
	v := refused
	c.mu.Lock()
	c.subs.remove(s)
	if frame != nil {
		// In one step with freeing the channel: earlier, the client could subscribe again and be refused; later, the push
		// could end a subscription made in between.
		v = c.out.push(frame)
	}
	c.mu.Unlock()
	c.pushed(frame, v)
	s.finished.open()
}

// unsubscribed tells the app.
func (c *Client) unsubscribed(d *declaration, p params, channel string, code uint32, reason string) {
	if fn := d.options.Unsubscribed; fn != nil {
		notice := &UnsubscribeNotice{params: p, Client: c, Channel: channel, Code: code, Reason: reason}
		c.node.notify(c, "Unsubscribed", channel, func(ctx context.Context) { fn(ctx, notice) })
	}
}

// publicationFrame encodes a publication for this client alone.
func (c *Client) publicationFrame(s *subscription, p *Publication) []byte {
	return c.encodePush(publicationPush(s.channel, s.declared.options.Payload, c.info.Encoding, p))
}

func publicationPush(channel string, kind Payload, e transport.Encoding, p *Publication) *protocol.Push {
	return &protocol.Push{Channel: channel, Pub: wirePublication(kind, e, p)}
}

func membershipPush(channel string, m Membership) *protocol.Push {
	if m.Joined {
		return &protocol.Push{Channel: channel, Join: wireInfo(&m.Info)}
	}
	return &protocol.Push{Channel: channel, Leave: wireInfo(&m.Info)}
}

func (c *Client) wirePublications(kind Payload, pubs []*Publication) []*protocol.Publication {
	if len(pubs) == 0 {
		return nil
	}
	out := make([]*protocol.Publication, len(pubs))
	for i, p := range pubs {
		out[i] = wirePublication(kind, c.info.Encoding, p)
	}
	return out
}

func wirePublication(kind Payload, e transport.Encoding, p *Publication) *protocol.Publication {
	w := wireEnvelope(p)
	if kind == PayloadText && e == transport.JSON {
		w.Data = protocol.AppendString(make([]byte, 0, len(p.Data)+2), p.Data)
	}
	return w
}

// wireEnvelope is a publication with its bytes as they are.
func wireEnvelope(p *Publication) *protocol.Publication {
	w := &protocol.Publication{Data: p.Data, Offset: p.Offset, Tags: p.Tags}
	if p.Info != nil {
		w.Info = wireInfo(p.Info)
	}
	return w
}

func wireInfo(i *ClientInfo) *protocol.ClientInfo {
	return &protocol.ClientInfo{User: i.User, Client: i.Client, ConnInfo: i.ConnInfo, ChanInfo: i.ChanInfo}
}
