package fanfare

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"
)

// An SDK that is told of an expiry asks its page for a token, and gives up if the page has none to give. So only those hear of it that
// came with a token. Who is logged in by a cookie is prolonged without knowing it.

// refresher is who sees to it that a connection or subscription with an expiry is prolonged.
type refresher uint8

const (
	nobody refresher = iota // it just ends
	theClient
	theServer
)

// refreshedBy tells who prolongs the connection. It is constant once the client is authenticated.
func (c *Client) refreshedBy() refresher {
	switch {
	case c.node.config.Refresh == nil:
		return nobody
	case !c.hasToken:
		return theServer
	case c.speaks():
		return theClient
	}
	return nobody // it comes back with a new token (spec 8.6)
}

// refreshedBy tells who prolongs the subscription. It is constant once the subscribe path has begun.
func (s *subscription) refreshedBy() refresher {
	switch {
	case s.declared.options.SubRefresh == nil:
		return nobody
	case !s.hasToken:
		return theServer
	case s.client.speaks():
		return theClient
	}
	return nobody
}

// expireAt sets when the connection expires, and not earlier than notBefore asks for more. client.mu is held.
func (c *Client) expireAt(at, notBefore wall) {
	c.clock.expireAt, c.clock.askAt = at, 0
	if at > 0 && c.refreshedBy() == theServer {
		c.clock.askAt = max(at, notBefore)
	}
}

// expire is expireAt for a subscription. client.mu is held.
func (s *subscription) expire(at, notBefore wall) {
	s.expireAt, s.askAt = at, 0
	if at > 0 && s.refreshedBy() == theServer {
		s.askAt = max(at, notBefore)
	}
	c := s.client
	c.clock.subsAt = sooner(c.clock.subsAt, sooner(s.endsAt(), s.askAt))
}

// prolong asks the app whether a connection that has expired may go on, on behalf of a client that has no token to show.
func (c *Client) prolong(p *place, expired wall) {
	fn := c.node.config.Refresh
	r := &RefreshRequest{Client: c}
	answer, err := ask(p, c, "Refresh", "", func(ctx context.Context) (RefreshReply, error) { return fn(ctx, r) })
	next, end := c.prolonged("Refresh", answer.value.ExpireAt, answer.err, err)
	c.mu.Lock()
	if errors.Is(err, errGone) || errors.Is(err, errAnswered) || c.closing != nil || c.clock.expireAt != expired {
		c.mu.Unlock()
		return // it is over, or was prolonged otherwise
	}
	if end != nil {
		c.mu.Unlock()
		c.close(end)
		return
	}
	defer c.mu.Unlock()
	if next.again > 0 {
		c.clock.askAt = next.again
	} else {
		c.expireAt(next.expireAt, next.notBefore)
	}
	c.setClock(time.Now())
}

// prolongSubscription is prolong for a subscription.
func (c *Client) prolongSubscription(p *place, s *subscription, expired wall) {
	if !s.settled.wait(&c.ctx) {
		return
	}
	fn := s.declared.options.SubRefresh
	r := &SubRefreshRequest{params: s.params, Client: c, Channel: s.channel}
	answer, err := ask(p, c, "SubRefresh", s.channel, func(ctx context.Context) (SubRefreshReply, error) { return fn(ctx, r) })
	next, end := c.prolonged("SubRefresh", answer.value.ExpireAt, answer.err, err)
	c.mu.Lock()
	if errors.Is(err, errGone) || errors.Is(err, errAnswered) || c.closing != nil || s.expireAt != expired {
		c.mu.Unlock()
		return
	}
	if end != nil {
		c.mu.Unlock()
		if asDisconnect(answer.err) != nil {
			c.close(end)
			return
		}
		c.expireSubscription(s) // the client subscribes again, and the Subscribe hook decides
		return
	}
	defer c.mu.Unlock()
	if next.again > 0 {
		s.askAt = next.again
		c.clock.subsAt = sooner(c.clock.subsAt, next.again)
	} else {
		s.expire(next.expireAt, next.notBefore)
	}
	c.setClock(time.Now())
}

// prolonged is what an answer means: a new time to expire, or a time to ask again.
type prolonged struct {
	expireAt  wall
	notBefore wall // of the next question: a hook that prolongs by nothing is not asked in a loop
	again     wall
}

// prolonged judges the answer of a hook that was asked by the server. It returns how the connection ends, if it does.
func (c *Client) prolonged(name string, at time.Time, said, err error) (prolonged, *Disconnect) {
	now := time.Now()
	pause := min(5*time.Second, c.node.config.ExpiryGrace/4+1)
	switch {
	case said != nil && isExpiry(said):
		return prolonged{}, DisconnectExpired
	case said != nil && ending(said) != nil:
		return prolonged{}, ending(said)
	case said != nil || err != nil:
		if said != nil {
			c.node.prolongings.trouble(c, name, 0, said)
		}
		return prolonged{again: wallOf(now.Add(pause + rand.N(pause)))}, nil
	case !at.IsZero() && !at.After(now):
		return prolonged{}, DisconnectExpired
	}
	return prolonged{expireAt: wallOf(at), notBefore: wallOf(now.Add(min(pause, time.Second)))}, nil
}
