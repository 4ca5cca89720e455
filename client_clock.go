package fanfare

import (
	"math"
	"math/rand/v2"
	"time"

	"github.com/fanfare-go/fanfare/transport"
)

// clientClock is everything about a client that depends on time. client.mu guards it. The agenda knows the earliest of it.
type clientClock struct {
	connectBy moment // stale, or refused, if not connected by then
	pingAt    moment
	pongBy    moment // a pong is awaited
	expireAt  wall   // the connection's expiry
	askAt     wall   // when the server asks whether it is prolonged
	subsAt    wall   // the earliest of that of subscriptions
	spared    bool   // the pong was awaited longer, see clientClock.paused
}

// wall is a time by the wall clock, in nanoseconds of Unix: the app's times of expiry are meant by it. 0 is never.
type wall int64

func wallOf(t time.Time) wall {
	const latest = math.MaxInt64 / 2 // in the 22nd century; so that there is room for sums
	switch {
	case t.IsZero():
		return 0
	case t.Unix() < 1:
		return 1
	case t.Unix() >= latest/int64(time.Second):
		return latest
	}
	return wall(t.UnixNano())
}

// due reports whether a time has come; 0 never does.
func due[T moment | wall](at, now T) bool { return at > 0 && at <= now }

// sooner is the earlier one of two times, of which 0 is never.
func sooner[T moment | wall](a, b T) T {
	if a == 0 || b > 0 && b < a {
		return b
	}
	return a
}

// setClock tells the agenda when the client has something to do next. client.mu is held.
func (c *Client) setClock(now time.Time) {
	if c.closing != nil {
		return
	}
	k, a := &c.clock, c.agenda()
	next := sooner(sooner(k.connectBy, c.dueCheck()), sooner(k.pingAt, k.pongBy))
	if ends := sooner(sooner(c.endsAt(), k.askAt), k.subsAt); ends > 0 {
		next = sooner(next, a.moment(now)+moment(max(0, ends-wallOf(now))))
	}
	if next > 0 {
		a.enter(c, next)
	}
}

func (c *Client) agenda() *agenda { return c.node.agendas[c.worker.index] }

// paused prolongs the wait for a pong, once, if the call comes so late that the process itself must have been paused: the
// pong may have come meanwhile and wait to be read, on this connection as on every other.
func (k *clientClock) paused(now moment, pongTimeout time.Duration) {
	if !k.spared && now-k.pongBy > moment(pongTimeout/2) {
		k.pongBy, k.spared = now+moment(pongTimeout), true
	}
}

// startWaiting arms the clock of a new connection: it must say something soon.
func (c *Client) startWaiting() {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := time.Now()
	c.clock.connectBy = c.agenda().moment(now.Add(c.node.config.ConnectTimeout))
	c.setClock(now)
}

// startClock is called when the client is connected.
func (c *Client) startClock(expireAt time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	k := &c.clock
	c.isConnected = true
	k.connectBy = 0
	now := time.Now()
	if c.node.config.PingInterval > 0 {
		// Spread over half an interval, so that clients that came together are not pinged together (spec 7).
		half := c.node.config.PingInterval / 2
		k.pingAt = c.agenda().moment(now.Add(half + rand.N(half+1)))
	}
	c.expireAt(wallOf(expireAt), 0)
	c.startVigil(now)
	c.setClock(now)
}

// endsAt is when the connection is ended for its expiry: a refresh takes time. client.mu is held.
func (c *Client) endsAt() wall {
	at := c.clock.expireAt
	if at > 0 && c.refreshedBy() != nobody {
		at += wall(c.node.config.ExpiryGrace)
	}
	return at
}

// setExpiry changes when the connection expires.
func (c *Client) setExpiry(at time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.expireAt(wallOf(at), 0)
	c.setClock(time.Now())
}

// pong takes a pong. It returns false if no ping was outstanding (spec 7).
func (c *Client) pong() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closing != nil {
		return true
	}
	if c.clock.pongBy == 0 {
		return false
	}
	c.clock.pongBy, c.clock.spared = 0, false // what is due next is later: the agenda need not know
	return true
}

// tick does what is due. It is called by the agenda, perhaps too early, and does not block.
func (c *Client) tick() {
	began := time.Now()
	now, today := c.agenda().moment(began), wallOf(began)
	c.mu.Lock()
	if c.closing != nil {
		c.mu.Unlock()
		return
	}
	k := &c.clock
	if due(k.pongBy, now) {
		k.paused(now, c.node.config.PongTimeout)
	}
	var end *Disconnect
	switch {
	case due(k.connectBy, now) && c.isRefused:
		end = disconnectRefused
	case due(k.connectBy, now):
		end = DisconnectStale
	case due(k.pongBy, now):
		end = DisconnectNoPong
	case due(c.endsAt(), today):
		end = DisconnectExpired
	}
	if end != nil {
		c.mu.Unlock()
		c.close(end)
		return
	}
	var later []func() // without the lock
	ping := due(k.pingAt, now)
	if ping {
		k.pingAt = now + moment(c.node.config.PingInterval)
		if c.speaks() || c.info.NativePing {
			k.pongBy = now + moment(c.node.config.PongTimeout)
		}
	}
	if v := c.vigil; v != nil && due(v.dueAt, now) {
		dueAt := v.dueAt
		v.dueAt = 0
		later = append(later, func() { c.node.checks.add(c, func(p *place) { c.revalidate(p, dueAt) }) })
	}
	if due(k.askAt, today) {
		expireAt := k.expireAt
		k.askAt = 0
		later = append(later, func() { c.node.prolongings.add(c, func(p *place) { c.prolong(p, expireAt) }) })
	}
	if due(k.subsAt, today) {
		later = append(later, c.dueSubscriptions(today)...)
	}
	c.setClock(began)
	c.mu.Unlock()

	if ping {
		c.push(c.pingFrame())
	}
	for _, do := range later {
		do()
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

// dueSubscriptions returns what is to be done about the subscriptions whose time has come, and sets when to look again. client.mu
// is held.
func (c *Client) dueSubscriptions(now wall) (later []func()) {
	n := c.node
	c.clock.subsAt = 0
	for s := range c.subs.all() {
		if due(s.endsAt(), now) {
			later = append(later, func() { n.goroutines.start(func() { c.expireIfDue(s) }) })
			continue
		}
		if due(s.askAt, now) {
			expireAt := s.expireAt
			s.askAt = 0
			later = append(later, func() { n.prolongings.add(c, func(p *place) { c.prolongSubscription(p, s, expireAt) }) })
		}
		c.clock.subsAt = sooner(c.clock.subsAt, sooner(s.endsAt(), s.askAt))
	}
	return later
}

// setSubscriptionExpiry changes when a subscription expires; zero is never.
func (c *Client) setSubscriptionExpiry(s *subscription, at time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	s.expire(wallOf(at), 0)
	c.setClock(time.Now())
}
