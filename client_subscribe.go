package fanfare

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/fanfare-go/fanfare/internal/protocol"
	"github.com/fanfare-go/fanfare/transport"
)

// maxSeamReads is how often history is read for one subscribe when messages got lost between it and the live flow.
const maxSeamReads = 3

// recoverWish is what a client asks of the beginning of a subscription.
type recoverWish struct {
	recover     bool
	since       Position
	positioned  bool
	recoverable bool
	joinLeave   bool
	reject      bool // refuse rather than begin unrecovered
}

func wishOf(r *protocol.SubscribeRequest) recoverWish {
	return recoverWish{
		recover: r.Recover, since: Position{r.Offset, r.Epoch}, positioned: r.Positioned, recoverable: r.Recoverable,
		joinLeave: r.JoinLeave, reject: r.Flag&protocol.FlagRejectUnrecovered != 0,
	}
}

// opening is a subscription on its way to live: its seam, and what the client will be told.
type opening struct {
	s      *subscription
	wish   recoverWish
	reply  SubscribeReply
	seam   seam
	joined joined
	edits  *editCache // of what was read of the stream

	present bool // the client is to be put into the channel's presence
}

// startSubscribe checks a subscribe command and starts it: subscribes to different channels overlap, because clients send
// all of them at once after a reconnect.
func (c *Client) startSubscribe(id uint32, req *protocol.SubscribeRequest, began time.Time) {
	s, err := c.checkSubscribe(req)
	if err != nil {
		c.fail("subscribe", began, id, err)
		return
	}
	if c.node.opensAtOnce(s.declared) {
		c.finishSubscribe(s, id, req, began)
		return
	}
	if c.enterSubscribe() {
		// Owned by the node; bounded in time by the deadlines of hook and broker.
		run := func() {
			defer c.leaveSubscribe()
			c.finishSubscribe(s, id, req, began)
		}
		if c.node.goroutines.start(run) {
			return
		}
		c.leaveSubscribe()
	}
	c.abandon(s, nil)
	s.settled.open()
}

// opensAtOnce reports whether nothing on the subscribe path waits for the app or for anything outside the process. Then
// there is nothing to overlap with, and a goroutine would be a waste.
func (n *Node) opensAtOnce(d *declaration) bool {
	o := &d.options
	return o.Subscribe == nil && n.ownsBroker && (n.ownsPresence || !o.Presence)
}

func (c *Client) finishSubscribe(s *subscription, id uint32, req *protocol.SubscribeRequest, began time.Time) {
	if err := c.subscribe(s, id, req); err != nil {
		// In this order: the answer to an unsubscribe must not come before the refusal (spec 4, rule 11).
		c.abandon(s, func() { c.fail("subscribe", began, id, err) })
	} else {
		c.observe("subscribe", began, 0)
	}
	s.settled.open()
}

// enterSubscribe waits until another subscribe may run. It returns false if the client is closing.
func (c *Client) enterSubscribe() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	for c.closing == nil && int(c.subscribing) >= c.node.config.Concurrency {
		c.awaitSpace()
	}
	if c.closing != nil {
		return false
	}
	c.subscribing++
	return true
}

func (c *Client) leaveSubscribe() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.subscribing--
	c.spaceFreed()
}

// checkSubscribe does the checks of spec 5.2 in their order, and reserves the channel.
func (c *Client) checkSubscribe(req *protocol.SubscribeRequest) (*subscription, error) {
	switch {
	case req.Channel == "":
		return nil, DisconnectBadRequest
	case len(req.Channel) > c.node.config.MaxChannelLength:
		return nil, ErrBadRequest
	}
	if c.subscribed(req.Channel) {
		return nil, ErrAlreadySubscribed
	}
	switch {
	case req.Delta != "" && req.Delta != "fossil":
		return nil, DisconnectBadRequest
	case req.Type != 0:
		return nil, ErrNotAvailable
	}
	return c.reserve(req.Channel, false)
}

// subscribed reports whether the channel is taken. It waits for the end of a subscription that is being ended, since the
// client may have been told already.
func (c *Client) subscribed(channel string) bool {
	c.mu.Lock()
	s := c.subs.get(channel)
	c.mu.Unlock()
	if s == nil {
		return false
	}
	if s.claimed.Load() {
		return !s.finished.wait(&c.ctx)
	}
	return true
}

// reserve enters a subscription to a channel, so that there is one at most. Its settled must be opened in the end.
func (c *Client) reserve(channel string, server bool) (*subscription, error) {
	d, p, targetErr := c.target(channel)
	taken := c.subscribed(channel)
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.closing != nil:
		return nil, errGone
	case taken || c.subs.get(channel) != nil:
		return nil, ErrAlreadySubscribed
	case c.subs.len() >= c.node.config.MaxChannels:
		return nil, ErrLimitExceeded
	case targetErr != nil:
		return nil, targetErr
	}
	s := &subscription{client: c, declared: d, params: p, server: server, mark: markOf(c.id)}
	c.subs.add(s)
	return s, nil
}

// subscribe is the path of a subscribe command, top to bottom (spec 5.2, 10.5). It queues the reply itself, in its place
// between history and live messages.
func (c *Client) subscribe(s *subscription, id uint32, req *protocol.SubscribeRequest) error {
	if err := s.tailor(req); err != nil {
		return err
	}
	s.hasToken = req.Token != ""
	reply, err := c.authorize(s.declared, s.params, s.channel, req)
	if err == nil {
		s.accepted = true
		o := &opening{s: s, wish: wishOf(req), reply: reply}
		err = c.open(o)
		if err == nil {
			err = c.goLive([]*opening{o}, func() error {
				c.reply(&protocol.Reply{ID: id, Subscribe: c.subscribeResult(o)})
				return nil
			})
		}
	}
	if err != nil {
		return err
	}
	c.announce(s)
	return nil
}

// authorize asks the declaration, and the app, whether the client may subscribe.
func (c *Client) authorize(d *declaration, p params, channel string, req *protocol.SubscribeRequest) (SubscribeReply, error) {
	o := &d.options
	if err := c.carries(o.Payload); err != nil {
		return SubscribeReply{}, err
	}
	if o.Subscribe == nil {
		if !o.Public {
			return SubscribeReply{}, ErrPermissionDenied
		}
		return SubscribeReply{}, nil
	}
	r := &SubscribeRequest{params: p, Client: c, Channel: channel, Token: req.Token, Data: req.Data}
	return callHook(context.Background(), c, "Subscribe", channel, func(ctx context.Context) (SubscribeReply, error) { return o.Subscribe(ctx, r) },
		func(SubscribeReply) {
			c.unsubscribed(d, p, channel, unsubscribedByDisconnect, "gave up waiting for the hook")
		})
}

// carries refuses a channel whose payload cannot travel on the connection.
func (c *Client) carries(kind Payload) error {
	if kind == PayloadBinary && (c.info.Encoding == transport.JSON || c.info.Plain) {
		return ErrNotAvailable
	}
	return nil
}

// open registers the subscription with its channel and reads what it needs of the stream: steps 1 to 3 of spec 10.5. From
// here on live messages go to the subscription's buffer.
func (c *Client) open(o *opening) error {
	s, n := o.s, c.node
	if err := c.carries(s.declared.options.Payload); err != nil { // the server's own subscriptions were not authorized
		return err
	}
	if err := c.checkReply(s, &o.reply); err != nil {
		return err
	}
	s.accepted = true
	opts := &s.declared.options
	s.channelInfo = o.reply.Info
	if err := o.settle(); err != nil {
		return err
	}

	s.room = n.hub.Acquire(s.channel)
	c.mu.Lock()
	s.channel = s.room.channel // the same name in the same place of memory for all subscribers
	c.mu.Unlock()
	if !s.room.add(s, opts.MaxSubscribers) {
		return ErrLimitExceeded
	}
	ctx := c.call()
	defer ctx.end()
	if err := s.room.link(ctx, n); err != nil {
		return err
	}
	if o.present {
		if err := n.addPresence(ctx, s, c.clientInfo(s.channelInfo)); err != nil {
			return err
		}
	}
	return c.readSeam(ctx, o)
}

// escapes reports whether payloads of a kind are longer on the connection than they are.
func (c *Client) escapes(kind Payload) bool {
	return kind == PayloadText && c.info.Encoding == transport.JSON
}

// checkReply refuses what the app cannot have meant.
func (c *Client) checkReply(s *subscription, r *SubscribeReply) error {
	if !r.ExpireAt.IsZero() && !r.ExpireAt.After(time.Now()) {
		return ErrExpired
	}
	if err := c.payload("SubscribeReply.Data", r.Data); err != nil {
		return err
	}
	if len(r.Info) > 0 && !protocol.ValidPayload(r.Info) {
		c.node.log.Error("not valid JSON", slog.String("what", "SubscribeReply.Info"), slog.String("channel", s.channel))
		return DisconnectInappropriate
	}
	return nil
}

// readSeam reads the stream for a subscription with positions.
func (c *Client) readSeam(ctx context.Context, o *opening) error {
	s, n := o.s, c.node
	if !s.positioned {
		return nil
	}
	o.seam = seam{
		cache: s.declared.options.caches(), recover: o.wish.recover && s.recoverable, since: o.wish.since,
		stale: s.buffered(), escaped: s.escapes(), except: o.seam.except,
	}
	if s.special {
		o.seam.filter = s.tailoring.filter
	}
	var q HistoryQuery
	switch {
	case o.seam.recover && o.seam.cache && o.seam.filter != nil:
		q = HistoryQuery{Limit: n.config.MaxRecovered, Reverse: true} // the newest one that passes may be an old one
	case o.seam.recover && o.seam.cache:
		q = HistoryQuery{Limit: 1, Reverse: true}
	case o.seam.recover:
		q = HistoryQuery{Limit: n.config.MaxRecovered, Since: &o.seam.since}
	}
	var err error
	o.seam.history, err = s.room.history(ctx, q)
	o.seam.more = q.Reverse && len(o.seam.history.Publications) == q.Limit
	if s.takesDeltas() {
		o.edits = s.room.editsOf(o.seam.history)
	}
	return err
}

// goLive merges history and live messages of every subscription of the group, calls announce to queue the reply, and lets
// the live flow go on behind it: steps 4 to 8 of spec 10.5. When a message is missing at the seam, history is read again.
func (c *Client) goLive(group []*opening, announce func() error) error {
	patient := true // once
	for reads := 1; ; reads++ {
		gaps, err := c.tryGoLive(group, patient, announce)
		if errors.Is(err, errCrowded) {
			c.awaitWritten()
			patient = false
			reads--
			continue
		}
		if err != nil || len(gaps) == 0 {
			return err
		}
		if reads == maxSeamReads {
			return DisconnectInsufficient
		}
		ctx := c.call()
		for _, o := range gaps {
			if err = c.readSeam(ctx, o); err != nil {
				break
			}
		}
		ctx.end()
		if err != nil {
			return err
		}
	}
}

// errCrowded says that a recovery does not fit into the queue only because of what is to be written before it.
var errCrowded = errors.New("fanfare: the queue has no room at the moment")

// tryGoLive is one attempt. If it is patient, it returns errCrowded rather than recover less for want of room.
func (c *Client) tryGoLive(group []*opening, patient bool, announce func() error) (gaps []*opening, err error) {
	// Replies that recover share what room there is in the queue, so they are made one by one.
	c.recovering.Lock()
	defer c.recovering.Unlock()
	for _, o := range group {
		o.s.mu.Lock()
		defer o.s.mu.Unlock()
	}
	room, most := c.out.room()
	patient = patient && room < most
	for _, o := range group {
		o.seam.maxBytes = max(room, 1)
		if !o.merge() {
			gaps = append(gaps, o)
		}
		if patient && o.joined.tooMuch > 0 && o.joined.tooMuch <= most {
			return nil, errCrowded
		}
		room -= sizeOf(o.joined.publications, o.seam.escaped)
		if o.wish.reject && o.seam.recover && !o.joined.recovered && len(gaps) == 0 {
			o.observeRecovery()
			return nil, ErrUnrecoverablePosition
		}
	}
	if len(gaps) > 0 {
		return gaps, nil
	}
	if err := announce(); err != nil {
		return nil, err
	}
	for _, o := range group {
		o.s.begin(o.joined)
		o.observeRecovery()
	}
	return nil, nil
}

func (o *opening) observeRecovery() {
	if obs := o.s.client.node.config.Observer; obs != nil && o.seam.recover {
		obs.Recovered(o.s.channel, o.joined.recovered, len(o.joined.publications))
	}
}

// merge joins the seam with what was buffered. It returns false if there is a gap. The subscription's lock is held.
func (o *opening) merge() bool {
	s, h := o.s, o.s.backlog
	if h == nil {
		h = &backlog{}
	}
	if obs := s.client.node.config.Observer; obs != nil && h.lost > 0 {
		obs.Dropped(s.channel, h.lost)
		h.lost = 0
	}
	if !s.positioned {
		o.joined = joined{live: h.publications}
		return true
	}
	if h.overflowed {
		return false
	}
	o.seam.buffered = h.publications
	var err error
	o.joined, err = o.seam.merge()
	return err == nil
}

// subscribeResult is what the client is told about a subscription.
func (c *Client) subscribeResult(o *opening) *protocol.SubscribeResult {
	s, j := o.s, o.joined
	r := &protocol.SubscribeResult{
		Positioned: s.positioned, Recoverable: s.recoverable, Data: o.reply.Data,
		WasRecovering: o.wish.recover, Recovered: j.recovered,
		Epoch: j.told.Epoch, Offset: j.told.Offset,
		Delta: s.takesDeltas(),
	}
	if r.Delta {
		r.Publications = c.wireEdits(s.declared.options.Payload, j.publications, o.edits)
	} else {
		r.Publications = c.wirePublications(s.declared.options.Payload, j.publications)
	}
	if !o.reply.ExpireAt.IsZero() {
		c.setSubscriptionExpiry(s, o.reply.ExpireAt)
		if s.refreshedBy() == theClient {
			r.Expires, r.TTL = true, ttl(o.reply.ExpireAt)
		}
	}
	return r
}

// announce tells the channel that the client has come. It is called before the subscription is settled, so that its leave
// cannot overtake it.
func (c *Client) announce(s *subscription) {
	if c.info.Brief {
		return
	}
	c.node.arrived(s)
}

// abandon undoes a subscription that did not come about, and calls tell, if it is not nil, before the channel is free
// again. It is called by whoever reserved it, before it is settled.
func (c *Client) abandon(s *subscription, tell func()) {
	s.end()
	c.withdraw(s, unsubscribedByDisconnect, "subscribe failed", tell)
}

func (c *Client) unsubscribe(cmd *protocol.Command) outcome {
	channel := cmd.Unsubscribe.Channel
	if channel == "" {
		return refusal(DisconnectBadRequest)
	}
	c.mu.Lock()
	s := c.subs.get(channel)
	c.mu.Unlock()
	if s != nil {
		c.endSubscription(s, unsubscribedByClient, "client unsubscribed")
	}
	return outcome{reply: &protocol.Reply{Unsubscribe: &protocol.UnsubscribeResult{}}}
}
