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
	c.clock.connectBy = 0 // it has said something; what takes time now is not its fault, and bounded
	c.mu.Unlock()
	defer c.ready.open()
	logouts := c.node.logoutCount()
	identity, err := c.authenticate(req)
	if err == nil {
		err = c.checkConnectRate()
	}
	if err == nil {
		err = c.welcome(id, req, identity, logouts)
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
func (c *Client) authenticate(req *protocol.ConnectRequest) (*Identity, error) {
	c.mu.Lock()
	httpRequest := c.request
	c.request = nil
	c.mu.Unlock()
	identity := &Identity{}
	if fn := c.node.config.Authenticate; fn != nil {
		if httpRequest == nil {
			return nil, errGone
		}
		// The handler may have returned: then its context is cancelled, but what middleware put there is still wanted.
		base := context.WithoutCancel(httpRequest.Context())
		r := &ConnectRequest{ClientID: c.id, Token: req.Token, Data: req.Data, Name: req.Name, Version: req.Version,
			Headers: req.Headers, Transport: c.info.Name}
		// Until the hook returns or its time is over, and no longer: what a connect does then may take much longer.
		if lockSlot(&c.ctx, c.node.connecting) != nil {
			return nil, errGone
		}
		var err error
		identity, err = callHook(base, c, "Authenticate", "", func(ctx context.Context) (*Identity, error) {
			r.HTTP = httpRequest.WithContext(ctx)
			i, err := fn(ctx, r)
			return &i, err
		}, c.acceptedLate)
		<-c.node.connecting
		if err != nil {
			return nil, err
		}
	}
	c.mu.Lock()
	gone := c.closing != nil
	if !gone {
		c.setIdentity(identity)
		c.authenticated = true
		c.hasToken = req.Token != ""
		c.vigil = c.node.vigilOf(c, httpRequest)
	}
	c.mu.Unlock()
	if gone {
		c.acceptedLate(identity)
		return nil, errGone
	}
	return identity, nil
}

// setIdentity keeps what later calls need to know. Anonymous connections share it.
func (c *Client) setIdentity(i *Identity) {
	p := &c.node.anonymous
	if i.User != "" || i.Info != nil || i.State != nil {
		p = &person{i.User, i.Info, i.State}
	}
	c.identity.Store(p)
}

// acceptedLate pairs an Authenticate that succeeded when the client was given up already with its Disconnected.
func (c *Client) acceptedLate(identity *Identity) {
	if fn := c.node.config.Disconnected; fn != nil {
		c.setIdentity(identity)
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
func (c *Client) welcome(id uint32, req *protocol.ConnectRequest, identity *Identity, logouts uint64) error {
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
	group, err := c.reserveServerSide(req, wanted)
	// Whatever happens: those that wait for these subscriptions must not wait for ever.
	defer func() {
		for _, o := range group {
			o.s.settled.open()
		}
	}()
	if err == nil {
		// From here on operations on the user find the client, and what Authenticate gave it.
		err = c.node.addClient(c, logouts)
	}
	if err == nil {
		err = c.countIn()
	}
	if err == nil {
		err = c.openAll(group)
	}
	if err == nil && c.info.Unidirectional {
		err = c.openRequested(req, wanted, &group)
	}
	if err == nil {
		err = c.goLive(group, func() error { return c.welcomed(id, identity, group) })
	}
	if err != nil {
		for _, o := range group {
			c.abandon(o.s, nil)
		}
		return err
	}
	for _, o := range group {
		c.announce(o.s)
	}
	return nil
}

// reserveServerSide reserves every subscription that Authenticate gave the client. The group returned holds those that were
// reserved, even after an error.
func (c *Client) reserveServerSide(req *protocol.ConnectRequest, wanted map[string]SubscribeReply) (group []*opening, err error) {
	if len(wanted) == 0 {
		return nil, nil
	}
	for _, channel := range slices.Sorted(maps.Keys(wanted)) {
		o, err := c.enter(req, channel)
		if err != nil {
			return group, c.serverSideFailed(channel, err)
		}
		o.reply = wanted[channel]
		group = append(group, o)
	}
	return group, nil
}

// enter reserves a subscription that begins with the connect.
func (c *Client) enter(req *protocol.ConnectRequest, channel string) (*opening, error) {
	s, err := c.reserve(channel, true)
	if err != nil {
		return nil, err
	}
	o := &opening{s: s}
	if r := req.Subs[channel]; r != nil {
		// Nothing else of the request counts (spec 3.3).
		o.wish = recoverWish{recover: r.Recover, since: Position{r.Offset, r.Epoch}}
	}
	return o, nil
}

func (c *Client) serverSideFailed(channel string, err error) error {
	if c.ctx.Err() == nil {
		c.node.log.Log(c.node.ctx, troubled(err, slog.LevelError), "server-side subscription failed", slog.String("channel", channel), slog.String("client", c.id),
			slog.String("user", c.User()), slog.Any("err", err))
	}
	return err
}

// openAll opens subscriptions, several at a time.
func (c *Client) openAll(group []*opening) error {
	if len(group) == 0 {
		return nil
	}
	var opens errgroup.Group // waited for below
	opens.SetLimit(c.node.config.Concurrency)
	for _, o := range group {
		opens.Go(func() error {
			if err := c.open(o); err != nil {
				return c.serverSideFailed(o.s.channel, err)
			}
			return nil
		})
	}
	return opens.Wait()
}

// openRequested opens what a unidirectional client asks for. It cannot subscribe later: it names what it wants, and gets
// what it may have; the rest is ignored (spec 8.6).
func (c *Client) openRequested(req *protocol.ConnectRequest, wanted map[string]SubscribeReply, group *[]*opening) error {
	for _, channel := range slices.Sorted(maps.Keys(req.Subs)) {
		if _, have := wanted[channel]; have || req.Subs[channel] == nil {
			continue
		}
		if len(*group) >= c.node.config.MaxChannels {
			return DisconnectChannelLimit
		}
		// First the reservation, then the hook: an Unsubscribe of the user meanwhile finds something to end.
		o, err := c.enter(req, channel)
		if err == nil {
			if err = c.openAuthorized(o); err == nil {
				*group = append(*group, o)
				continue
			}
			c.abandon(o.s, nil)
			o.s.settled.open()
		}
		if asDisconnect(err) != nil || errors.Is(err, errAnswered) || c.ctx.Err() != nil {
			return err
		}
		c.node.log.Debug("unidirectional client may not subscribe", slog.String("channel", channel), slog.String("client", c.id), slog.Any("err", err))
	}
	return nil
}

func (c *Client) openAuthorized(o *opening) error {
	s := o.s
	var err error
	if o.reply, err = c.authorize(s.declared, s.params, s.channel, &protocol.SubscribeRequest{}); err != nil {
		return err
	}
	s.accepted = true
	return c.open(o)
}

// welcomed queues the connect reply. It is called with the locks of the group's subscriptions held.
func (c *Client) welcomed(id uint32, identity *Identity, group []*opening) error {
	n := c.node
	result := &protocol.ConnectResult{Client: c.id, Version: Version, Data: identity.Data}
	if n.config.PingInterval > 0 && (!c.info.NativePing || c.info.Unidirectional) {
		result.Ping = uint32(max(1, (n.config.PingInterval+time.Second-1)/time.Second))
		result.Pong = c.speaks()
	}
	if !identity.ExpireAt.IsZero() && c.refreshedBy() == theClient {
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
			c.commands = nil
			c.spaceFreed()
			c.isRefused = true
			now := time.Now()
			c.clock.connectBy = c.agenda().moment(now.Add(refusedLinger))
			c.setClock(now)
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
