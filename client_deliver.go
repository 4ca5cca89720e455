package fanfare

import (
	"context"
	"log/slog"
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
	// maxCutOffs losses of position within cutOffWindow close the connection instead of another resubscribe, because
	// clients come back from that at once, and from a disconnect with back-off (spec 18).
	maxCutOffs   = 3
	cutOffWindow = 10 * time.Second
)

// cutOff counts the recent losses of position in a channel.
type cutOff struct {
	count int
	since time.Time
}

// stage is how far a subscription is.
type stage uint8

const (
	seaming stage = iota // live messages are buffered: the subscribe reply is not out
	flowing              // live messages are queued
	over                 // nothing is queued any more
)

// subscription is one client's view of one channel.
//
// Lock order: room.mu, subscription.mu, then outgoing.mu or client.mu, of which neither is held while another lock of
// this list is taken.
type subscription struct {
	client   *Client
	channel  string
	declared *declaration
	params   params
	server   bool // made by the server

	// Written by the subscribe path before it is settled, constant afterwards.
	room        *room
	positioned  bool
	recoverable bool
	joinLeave   bool
	channelInfo []byte
	accepted    bool // Unsubscribed is owed
	present     bool // the client was put into the channel's presence
	joined      bool // a join was published

	settled  chan struct{} // closed when the subscribe path is through, well or not
	claimed  atomic.Bool   // somebody is ending it
	finished chan struct{} // closed when it has been ended

	index    int       // in room.subs; room.mu guards it
	expireAt time.Time // client.mu guards it

	mu         sync.Mutex // guards below
	stage      stage
	position   Position
	buffer     []*Publication
	bufferSize int // bytes
	overflowed bool
	members    []Membership // buffered joins and leaves
}

// endsAt is when the subscription is ended for its expiry. client.mu is held.
func (s *subscription) endsAt() time.Time {
	if s.expireAt.IsZero() || s.server || s.declared.options.SubRefresh == nil {
		return s.expireAt
	}
	return s.expireAt.Add(s.client.node.config.ExpiryGrace)
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
	if s.overflowed {
		s.overflowed, s.buffer, s.bufferSize = false, nil, 0
	}
	return len(s.buffer)
}

// begin lets messages flow behind the reply that was just queued. The lock is held.
func (s *subscription) begin(j joined) {
	members := s.members
	s.stage, s.position = flowing, j.position
	s.buffer, s.members, s.bufferSize = nil, nil, 0
	for _, p := range j.live {
		s.enqueue(s.client.publicationFrame(s, p))
	}
	for _, m := range members {
		s.enqueueMembership(s.client.encodePush(membershipPush(s.channel, m)))
	}
}

// end stops the flow.
func (s *subscription) end() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stage, s.buffer, s.members = over, nil, nil
}

// deliver takes a publication from the room, in the channel's order, and reports whether it was queued (spec 10.5).
func (s *subscription) deliver(b *broadcast) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	p := b.publication
	switch s.stage {
	case seaming:
		s.hold(p)
		return false
	case over:
		return false
	}
	if s.positioned && p.Offset > 0 {
		switch {
		case s.position.Epoch == "":
			s.position.Epoch = p.Epoch
			fallthrough
		case p.Epoch == s.position.Epoch && p.Offset == s.position.Offset+1:
		case p.Epoch == s.position.Epoch && p.Offset <= s.position.Offset:
			return false
		default:
			s.cut()
			return false
		}
		s.position = p.Position
	}
	return s.enqueue(b.frame(s.client))
}

// hold buffers a publication until the reply is out.
func (s *subscription) hold(p *Publication) {
	if s.overflowed {
		return
	}
	s.bufferSize += len(p.Data)
	if s.bufferSize > s.client.node.config.MaxQueueSize {
		s.overflowed, s.buffer = true, nil
		return
	}
	s.buffer = append(s.buffer, p)
}

// enqueue queues a publication's frame under the channel's policy. The lock is held.
func (s *subscription) enqueue(frame []byte) bool {
	c := s.client
	v, drops := c.pushPublication(s, frame)
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
	case queued, dropped:
		return true
	}
	return false
}

func (s *subscription) enqueueMembership(frame []byte) {
	if v, _ := s.client.pushPublication(s, frame); v == overflow {
		s.client.close(DisconnectSlow)
	} else if v == gapPending {
		s.stage = over
	}
}

// deliverMembership takes a join or leave from the room.
func (s *subscription) deliverMembership(b *broadcast) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.joinLeave {
		return
	}
	switch s.stage {
	case seaming:
		if len(s.members) < maxHeldMembers {
			s.members = append(s.members, *b.membership)
		}
	case flowing:
		s.enqueueMembership(b.frame(s.client))
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
	if c.endSubscription(s, unsubscribedInsufficient, "insufficient state") {
		c.pushUnsubscribe(s.channel, unsubscribedInsufficient, "insufficient state")
	}
}

// cutOffAgain counts a loss of position and reports whether there were too many lately.
func (c *Client) cutOffAgain(channel string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := time.Now()
	for ch, k := range c.cutOffs {
		if now.Sub(k.since) > cutOffWindow {
			delete(c.cutOffs, ch)
		}
	}
	if c.cutOffs == nil {
		c.cutOffs = make(map[string]cutOff)
	}
	k := c.cutOffs[channel]
	if k.count == 0 {
		k.since = now
	}
	k.count++
	c.cutOffs[channel] = k
	return k.count >= maxCutOffs
}

// expireIfDue ends a subscription whose time is over, unless it was refreshed in the meantime.
func (c *Client) expireIfDue(s *subscription) {
	c.mu.Lock()
	at := s.endsAt()
	c.mu.Unlock()
	if !at.IsZero() && !at.After(time.Now()) {
		c.expireSubscription(s)
	}
}

// expireSubscription ends a subscription for its expiry.
func (c *Client) expireSubscription(s *subscription) {
	if s.server {
		c.close(DisconnectSubExpired) // spec 5.10
		return
	}
	if c.endSubscription(s, unsubscribedExpired, "subscription expired") {
		c.pushUnsubscribe(s.channel, unsubscribedExpired, "subscription expired")
	}
}

func (c *Client) pushUnsubscribe(channel string, code uint32, reason string) {
	c.pushMessage(&protocol.Push{Channel: channel, Unsubscribe: &protocol.Unsubscribe{Code: code, Reason: reason}})
}

// subscriptions returns what the client is subscribed to, or about to be.
func (c *Client) subscriptions() []*subscription {
	c.mu.Lock()
	defer c.mu.Unlock()
	subs := make([]*subscription, 0, len(c.subs))
	for _, s := range c.subs {
		subs = append(subs, s)
	}
	return subs
}

// endSubscription ends a subscription once it is settled, and returns when it has been ended: by this call if it reports
// true, or by another. Only then may the client be told, because it may subscribe again at once.
func (c *Client) endSubscription(s *subscription, code uint32, reason string) bool {
	<-s.settled
	s.end()
	return c.withdraw(s, code, reason)
}

// withdraw takes an ended subscription out of room, presence and client, once.
func (c *Client) withdraw(s *subscription, code uint32, reason string) bool {
	if !s.claimed.CompareAndSwap(false, true) {
		<-s.finished
		return false
	}
	n := c.node
	if s.room != nil {
		s.room.remove(s)
		n.release(s.room)
	}
	if s.present {
		// The client may be gone, its entry must go all the same.
		ctx, cancel := context.WithTimeout(context.Background(), n.config.HookTimeout)
		if err := n.presence.Remove(ctx, n.id, s.channel, c.id); err != nil {
			n.log.Error("presence not removed", slog.String("channel", s.channel), slog.String("client", c.id), slog.Any("err", err))
		}
		cancel()
	}
	if s.joined {
		n.publishMembership(s.channel, Membership{Info: c.clientInfo(s.channelInfo)})
	}
	if s.accepted {
		c.unsubscribed(s.declared, s.params, s.channel, code, reason)
	}
	c.mu.Lock()
	if c.subs[s.channel] == s {
		delete(c.subs, s.channel)
	}
	c.mu.Unlock()
	close(s.finished)
	return true
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
	w := &protocol.Publication{Data: p.Data, Offset: p.Offset, Tags: p.Tags}
	if kind == PayloadText && e == transport.JSON {
		w.Data = protocol.AppendString(make([]byte, 0, len(p.Data)+2), p.Data)
	}
	if p.Info != nil {
		w.Info = wireInfo(p.Info)
	}
	return w
}

func wireInfo(i *ClientInfo) *protocol.ClientInfo {
	return &protocol.ClientInfo{User: i.User, Client: i.Client, ConnInfo: i.ConnInfo, ChanInfo: i.ChanInfo}
}
