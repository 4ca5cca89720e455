package fanfare

import (
	"math/rand/v2"
	"time"

	"github.com/fanfare-go/fanfare/transport"
)

// clientClock is everything about a client that depends on time, behind one timer. client.mu guards it.
type clientClock struct {
	timer *time.Timer

	connectBy time.Time // stale, or refused, if not connected by then
	pingAt    time.Time
	pongBy    time.Time // a pong is awaited
	spared    bool      // and was awaited longer, see clientClock.paused
	expireAt  time.Time // the connection's expiry; zero is never
	subsAt    time.Time // the earliest expiry of a subscription
	grace     time.Duration
}

func (k *clientClock) next() time.Time {
	var next time.Time
	earlier := func(t time.Time) {
		if !t.IsZero() && (next.IsZero() || t.Before(next)) {
			next = t
		}
	}
	earlier(k.connectBy)
	earlier(k.pingAt)
	earlier(k.pongBy)
	if !k.expireAt.IsZero() {
		earlier(k.expireAt.Add(k.grace))
	}
	earlier(k.subsAt)
	return next
}

func (k *clientClock) set() {
	next := k.next()
	switch {
	case k.timer == nil:
	case next.IsZero():
		k.timer.Stop()
	default:
		k.timer.Reset(max(0, time.Until(next)))
	}
}

func (k *clientClock) stop() {
	if k.timer != nil {
		k.timer.Stop()
	}
}

// paused prolongs the wait for a pong, once, if the timer comes so late that the process itself must have been paused: the
// pong may have come meanwhile and wait to be read, on this connection as on every other.
func (k *clientClock) paused(now time.Time, pongTimeout time.Duration) {
	if !k.spared && now.Sub(k.pongBy) > pongTimeout/2 {
		k.pongBy, k.spared = now.Add(pongTimeout), true
	}
}

// startWaiting arms the clock of a new connection: it must say something soon.
func (c *Client) startWaiting() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closing != nil {
		return
	}
	c.clock.connectBy = time.Now().Add(c.node.config.ConnectTimeout)
	c.clock.timer = time.AfterFunc(c.node.config.ConnectTimeout, c.tick)
}

// startClock is called when the client is connected.
func (c *Client) startClock(expireAt time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	k := &c.clock
	c.isConnected = true
	k.connectBy = time.Time{}
	if c.node.config.PingInterval > 0 {
		// Spread over half an interval, so that clients that came together are not pinged together (spec 7).
		half := c.node.config.PingInterval / 2
		k.pingAt = time.Now().Add(half + rand.N(half+1))
	}
	k.expireAt, k.grace = expireAt, c.expiryGrace()
	if c.closing == nil {
		k.set()
	}
}

// expiryGrace is how long the connection is kept after its expiry: the client needs time to refresh, if it is to.
func (c *Client) expiryGrace() time.Duration {
	if c.node.config.Refresh != nil && !c.info.Unidirectional {
		return c.node.config.ExpiryGrace
	}
	return 0
}

// setExpiry changes when the connection expires.
func (c *Client) setExpiry(at time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.clock.expireAt = at
	if c.closing == nil {
		c.clock.set()
	}
}

// pong takes a pong. It returns false if no ping was outstanding (spec 7).
func (c *Client) pong() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closing != nil {
		return true
	}
	if c.clock.pongBy.IsZero() {
		return false
	}
	c.clock.pongBy, c.clock.spared = time.Time{}, false
	c.clock.set()
	return true
}

// tick is the timer's function. It does not block.
func (c *Client) tick() {
	now := time.Now()
	due := func(t time.Time) bool { return !t.IsZero() && !t.After(now) }
	c.mu.Lock()
	if c.closing != nil {
		c.mu.Unlock()
		return
	}
	k := &c.clock
	if due(k.pongBy) {
		k.paused(now, c.node.config.PongTimeout)
	}
	var end *Disconnect
	switch {
	case due(k.connectBy) && c.isRefused:
		end = disconnectRefused
	case due(k.connectBy):
		end = DisconnectStale
	case due(k.pongBy):
		end = DisconnectNoPong
	case !k.expireAt.IsZero() && due(k.expireAt.Add(k.grace)):
		end = DisconnectExpired
	}
	if end != nil {
		c.mu.Unlock()
		c.close(end)
		return
	}
	ping := due(k.pingAt)
	if ping {
		k.pingAt = now.Add(c.node.config.PingInterval)
		if !c.info.Unidirectional || c.info.NativePing {
			k.pongBy = now.Add(c.node.config.PongTimeout)
		}
	}
	var expired []*subscription
	if due(k.subsAt) {
		expired = c.expiredSubscriptions(now)
	}
	k.set()
	c.mu.Unlock()

	if ping {
		c.push(c.pingFrame())
	}
	for _, s := range expired {
		c.node.goroutines.start(func() { c.expireIfDue(s) })
	}
}

// pingFrame is the ping in the connection's form: the protocol's, the transport's, or both.
func (c *Client) pingFrame() []byte {
	var frame []byte
	if !c.info.NativePing || c.info.Unidirectional {
		frame = c.frame(c.codec.AppendPing(nil))
	}
	if p, ok := c.out.conn.(transport.Pinger); ok && c.info.NativePing {
		frame = p.AppendPing(frame)
	}
	return frame
}

// expiredSubscriptions returns the subscriptions whose time is over, and sets when to look again. client.mu is held.
func (c *Client) expiredSubscriptions(now time.Time) (expired []*subscription) {
	c.clock.subsAt = time.Time{}
	for _, s := range c.subs {
		switch at := s.endsAt(); {
		case at.IsZero():
		case !at.After(now):
			expired = append(expired, s)
		case c.clock.subsAt.IsZero() || at.Before(c.clock.subsAt):
			c.clock.subsAt = at
		}
	}
	return expired
}

// setSubscriptionExpiry changes when a subscription expires; zero is never.
func (c *Client) setSubscriptionExpiry(s *subscription, at time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	s.expireAt = at
	if ends := s.endsAt(); !ends.IsZero() && (c.clock.subsAt.IsZero() || ends.Before(c.clock.subsAt)) {
		c.clock.subsAt = ends
		if c.closing == nil {
			c.clock.set()
		}
	}
}
