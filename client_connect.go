package fanfare

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/fanfare-go/fanfare/internal/protocol"
)

// refusedLinger is how long a refused client may take to close the connection by itself, as clients do, before it is dropped
// (spec 4, rule 9).
const refusedLinger = time.Second

// connect executes the connect command. Nothing else of the client runs meanwhile.
func (c *Client) connect(id uint32, req *protocol.ConnectRequest, began time.Time) {
	c.mu.Lock()
	c.clock.connectBy = time.Time{} // it has said something; what takes time now is not its fault, and bounded
	c.mu.Unlock()
	defer close(c.ready)
	identity, err := c.authenticate(req)
	if err == nil {
		err = c.welcome(id, req, identity)
	}
	if o := c.node.config.Observer; o != nil {
		o.Connected(c.info.Name, time.Since(began), err)
	}
	if err != nil {
		c.refuse(id, began, err)
		return
	}
	c.observe("connect", began, 0)
}

// authenticate asks the app who the client is.
func (c *Client) authenticate(req *protocol.ConnectRequest) (Identity, error) {
	c.mu.Lock()
	httpRequest := c.request
	c.request = nil
	c.mu.Unlock()
	var identity Identity
	if fn := c.node.config.Authenticate; fn != nil {
		if httpRequest == nil {
			return identity, errGone
		}
		// The handler may have returned: then its context is cancelled, but what middleware put there is still wanted.
		base, cancel := context.WithCancel(context.WithoutCancel(httpRequest.Context()))
		defer cancel()
		defer context.AfterFunc(c.ctx, cancel)()
		r := &ConnectRequest{ClientID: c.id, Token: req.Token, Data: req.Data, Name: req.Name, Version: req.Version,
			Headers: req.Headers, Transport: c.info.Name}
		var err error
		identity, err = callHook(base, c, "Authenticate", "", func(ctx context.Context) (Identity, error) {
			r.HTTP = httpRequest.WithContext(ctx)
			return fn(ctx, r)
		}, c.acceptedLate)
		if err != nil {
			return identity, err
		}
	}
	c.mu.Lock()
	gone := c.closing != nil
	if !gone {
		c.identity.Store(&identity)
		c.authenticated = true
	}
	c.mu.Unlock()
	if gone {
		c.acceptedLate(identity)
		return identity, errGone
	}
	// From here on the user can be logged out, though not yet subscribed or refreshed.
	return identity, c.node.addClient(c)
}

// acceptedLate pairs an Authenticate that succeeded when the client was given up already with its Disconnected.
func (c *Client) acceptedLate(identity Identity) {
	if fn := c.node.config.Disconnected; fn != nil {
		c.identity.Store(&identity)
		c.mu.Lock()
		d := c.closing
		c.mu.Unlock()
		if d == nil {
			d = DisconnectInternal // the hook overran its time: the client was refused, and will be closed
		}
		c.node.notify(c, "Disconnected", "", func(ctx context.Context) { fn(ctx, &DisconnectNotice{Client: c, Disconnect: d}) })
	}
}

// welcome makes the server's subscriptions and answers. From here on the client is connected.
func (c *Client) welcome(id uint32, req *protocol.ConnectRequest, identity Identity) error {
	now := time.Now()
	if !identity.ExpireAt.IsZero() && !identity.ExpireAt.After(now) {
		return ErrExpired
	}
	if err := c.payload("Identity.Data", identity.Data); err != nil {
		return err
	}
	if len(identity.Info) > 0 && !protocol.ValidPayload(identity.Info) {
		c.node.log.Error("not valid JSON", slog.String("what", "Identity.Info"), slog.String("client", c.id), slog.String("user", identity.User))
		return DisconnectInappropriate
	}
	wanted := maps.Clone(identity.Subscriptions)
	if len(wanted) > c.node.config.MaxChannels {
		return DisconnectChannelLimit
	}
	group, err := c.openServerSide(req, wanted)
	// Whatever happens: those that wait for these subscriptions must not wait for ever.
	defer func() {
		for _, o := range group {
			close(o.s.settled)
		}
	}()
	if err == nil {
		err = c.goLive(group, func() error { return c.welcomed(id, identity, group) })
	}
	if err != nil {
		for _, o := range group {
			c.abandon(o.s)
		}
		return err
	}
	for _, o := range group {
		c.announce(o.s)
	}
	return nil
}

// openServerSide opens every subscription of a connect; the group returned holds those that were reserved, even after an
// error.
func (c *Client) openServerSide(req *protocol.ConnectRequest, wanted map[string]SubscribeReply) ([]*opening, error) {
	var group []*opening
	enter := func(channel string, reply SubscribeReply) (*opening, error) {
		s, err := c.reserve(channel, true)
		if err != nil {
			return nil, err
		}
		o := &opening{s: s, reply: reply}
		if r := req.Subs[channel]; r != nil {
			// Nothing else of the request counts (spec 3.3).
			o.wish = recoverWish{recover: r.Recover, since: Position{r.Offset, r.Epoch}}
		}
		group = append(group, o)
		return o, nil
	}
	var opens errgroup.Group // waited for below, before anything else happens to the group
	opens.SetLimit(c.node.config.Concurrency)
	failed := func(channel string, err error) error {
		if c.ctx.Err() == nil {
			c.node.log.Error("server-side subscription failed", slog.String("channel", channel), slog.String("client", c.id),
				slog.String("user", c.User()), slog.Any("err", err))
		}
		return err
	}
	for _, channel := range slices.Sorted(maps.Keys(wanted)) {
		o, err := enter(channel, wanted[channel])
		if err != nil {
			return group, errors.Join(failed(channel, err), opens.Wait())
		}
		opens.Go(func() error {
			if err := c.open(o); err != nil {
				return failed(channel, err)
			}
			return nil
		})
	}
	if err := opens.Wait(); err != nil || !c.info.Unidirectional {
		return group, err
	}
	err := c.openRequested(req, wanted, &group, enter)
	return group, err
}

// openRequested opens what a unidirectional client asks for. It cannot subscribe later: it names what it wants, and gets
// what it may have; the rest is ignored (spec 8.6).
func (c *Client) openRequested(req *protocol.ConnectRequest, wanted map[string]SubscribeReply, group *[]*opening,
	enter func(string, SubscribeReply) (*opening, error)) error {
	for _, channel := range slices.Sorted(maps.Keys(req.Subs)) {
		if _, have := wanted[channel]; have || req.Subs[channel] == nil {
			continue
		}
		if len(*group) >= c.node.config.MaxChannels {
			return DisconnectChannelLimit
		}
		d, p, err := c.target(channel)
		var reply SubscribeReply
		if err == nil {
			reply, err = c.authorize(d, p, channel, &protocol.SubscribeRequest{})
		}
		var o *opening
		if err == nil {
			if o, err = enter(channel, reply); err == nil {
				o.s.accepted = true
				err = c.open(o)
			} else {
				c.unsubscribed(d, p, channel, unsubscribedByDisconnect, "subscribe failed")
			}
		}
		if err != nil && (asDisconnect(err) != nil || errors.Is(err, errAnswered) || c.ctx.Err() != nil) {
			return err
		}
		if err != nil {
			c.node.log.Debug("unidirectional client may not subscribe", slog.String("channel", channel), slog.String("client", c.id), slog.Any("err", err))
			if o != nil {
				c.abandon(o.s)
				close(o.s.settled)
				*group = (*group)[:len(*group)-1]
			}
		}
	}
	return nil
}

// welcomed queues the connect reply and makes the client known to the node. It is called with the locks of the group's
// subscriptions held.
func (c *Client) welcomed(id uint32, identity Identity, group []*opening) error {
	n := c.node
	result := &protocol.ConnectResult{Client: c.id, Version: Version, Data: identity.Data}
	if n.config.PingInterval > 0 && (!c.info.NativePing || c.info.Unidirectional) {
		result.Ping = uint32(max(1, (n.config.PingInterval+time.Second-1)/time.Second))
		result.Pong = !c.info.Unidirectional
	}
	if !identity.ExpireAt.IsZero() && n.config.Refresh != nil && !c.info.Unidirectional {
		result.Expires, result.TTL = true, ttl(identity.ExpireAt)
	}
	for _, o := range group {
		if result.Subs == nil {
			result.Subs = make(map[string]*protocol.SubscribeResult, len(group))
		}
		result.Subs[o.s.channel] = c.subscribeResult(o)
	}
	if c.info.Unidirectional || c.info.Emulated {
		result.Session, result.Node = c.session, n.id
	}
	if c.info.Unidirectional {
		c.pushMessage(&protocol.Push{Connect: result})
	} else {
		c.reply(&protocol.Reply{ID: id, Connect: result})
	}
	c.startClock(identity.ExpireAt)
	return nil
}

// refuse answers a connect that failed and ends the connection.
func (c *Client) refuse(id uint32, began time.Time, err error) {
	if d := asDisconnect(err); d == nil && c.ctx.Err() == nil {
		if c.info.Unidirectional {
			err = unidirectionalRefusal(c.clientError("connect", err))
		} else {
			c.mu.Lock()
			c.commands, c.commandBytes = nil, 0
			c.space.Broadcast()
			c.isRefused = true
			c.clock.connectBy = time.Now().Add(refusedLinger)
			c.clock.set()
			c.mu.Unlock()
		}
	}
	c.fail("connect", began, id, err)
}

// unidirectionalRefusal maps a reply error to a disconnect (spec 8.6). A client that is not logged in shall not come back.
func unidirectionalRefusal(e *Error) *Disconnect {
	switch e.Code {
	case ErrTokenExpired.Code, ErrExpired.Code:
		return DisconnectExpired
	case ErrTooManyRequests.Code:
		return DisconnectTooManyRequests
	case ErrPermissionDenied.Code, ErrUnauthorized.Code:
		return DisconnectPermissionDenied
	}
	return DisconnectInternal
}
