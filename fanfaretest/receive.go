package fanfaretest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"

	"github.com/fanfare-go/fanfare"
)

// call is a command whose reply has not come.
type call struct {
	method  string
	channel string
	reply   *wireReply
}

// subscription is what the client knows of one, also after its end: the position is needed to come back.
type subscription struct {
	live       bool
	positioned bool
	position   fanfare.Position
}

// receive takes what the server wrote, cut at any place.
func (c *Client) receive(frames []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for {
		line, after, complete := bytes.Cut(frames, []byte{'\n'})
		c.partial = append(c.partial, line...)
		if !complete {
			break
		}
		c.message(string(c.partial))
		c.partial = c.partial[:0]
		frames = after
	}
	c.broadcast()
}

func (c *Client) serverClosed(code uint32, reason string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	// spec 8.1: with other reasons clients see another end than was meant
	if code != 0 && (reason == "" || len(reason) > 123 || json.Valid([]byte(reason))) {
		c.violate("closed with %d and a reason that clients misread: %q", code, reason)
	}
	c.broadcast()
}

func (c *Client) message(line string) {
	c.raws = append(c.raws, line)
	if c.last {
		c.violate("message after the disconnect push: %s", line)
	}
	var r wireReply
	if c.opts.unidirectional {
		var p wirePush
		if err := decode(line, &p); err != nil {
			c.violate("cannot read push %s: %v", line, err)
			return
		}
		if line != "{}" {
			r.Push = &p
		}
	} else if err := decode(line, &r); err != nil {
		c.violate("cannot read message %s: %v", line, err)
		return
	}
	if err := r.missing(); err != nil {
		c.violate("%v: %s", err, line)
		return
	}
	switch {
	case line == "{}":
		c.ping()
	case r.Push != nil && r.ID == 0:
		c.push(r.Push, line)
	default:
		c.reply(&r, line)
	}
}

func (c *Client) ping() {
	switch {
	case c.connected == nil:
		c.violate("ping before the connect reply")
	case c.connected.Ping == 0:
		c.violate("ping, though none was announced")
	case c.connected.Pong && !c.opts.noPong:
		c.conn.send([]byte("{}"))
	}
}

func (c *Client) reply(r *wireReply, line string) {
	call := c.calls[r.ID]
	if call == nil {
		c.violate("reply to no command: %s", line)
		return
	}
	delete(c.calls, r.ID)
	results := r.results()
	if len(results) != 1 || results[0] != call.method && results[0] != "error" {
		c.violate("reply to %s is not its result: %s", call.method, line)
		return
	}
	switch {
	case r.Connect != nil:
		c.welcome(r.Connect)
	case c.connected == nil && r.Error == nil:
		c.violate("reply before the connect reply: %s", line)
	case r.Subscribe != nil:
		c.begin(call.channel, r.Subscribe)
	case r.Unsubscribe != nil:
		c.finish(call.channel)
	}
	call.reply = r
}

func (c *Client) welcome(w *wireConnect) {
	if c.connected != nil {
		c.violate("connected twice")
	}
	if c.opts.unidirectional && (w.Node != "" || w.Pong) {
		c.violate("connect push with node or pong")
	}
	c.connected = w.result()
	for channel, s := range w.Subs {
		c.begin(channel, s)
	}
}

// begin starts a subscription: with publications only if they carry on from where it begins.
func (c *Client) begin(channel string, w *wireSubscribe) {
	if s := c.subs[channel]; s != nil && s.live {
		c.violate("subscribed to %q twice", channel)
	}
	s := &subscription{
		live:       true,
		positioned: w.Positioned,
		position:   fanfare.Position{Offset: w.Offset, Epoch: w.Epoch},
	}
	c.subs[channel] = s
	for _, p := range w.Publications {
		c.advance(channel, s, p)
	}
}

func (c *Client) finish(channel string) {
	if s := c.subs[channel]; s != nil {
		s.live = false
	}
}

func (c *Client) push(p *wirePush, line string) {
	if err := p.missing(); err != nil {
		c.violate("%v: %s", err, line)
		return
	}
	kinds := p.kinds()
	if len(kinds) != 1 {
		c.violate("push with %d bodies: %s", len(kinds), line)
		return
	}
	kind := kinds[0]
	if kind == kindConnect && c.opts.unidirectional {
		c.welcome(p.Connect)
		return
	}
	if kind == kindConnect || c.connected == nil && kind != KindDisconnect {
		c.violate("push at the wrong time: %s", line)
		return
	}
	s := c.subs[p.Channel]
	if slices.Contains([]Kind{KindPublication, KindJoin, KindLeave, KindUnsubscribe}, kind) && (s == nil || !s.live) {
		c.violate("push without a subscription: %s", line)
		return
	}
	var epoch string
	switch kind {
	case KindPublication:
		epoch = s.position.Epoch
		c.advance(p.Channel, s, p.Pub)
	case KindUnsubscribe:
		s.live = false
	case KindSubscribe:
		c.begin(p.Channel, p.Subscribe)
	case KindDisconnect:
		c.last = true
	}
	c.events = append(c.events, p.event(kind, epoch, line))
}

// advance moves a subscription's position over a publication.
func (c *Client) advance(channel string, s *subscription, p *wirePub) {
	if p.Data == nil {
		c.violate("publication without data in %q", channel)
	}
	if p.Epoch != "" && s.position.Epoch != "" && p.Epoch != s.position.Epoch {
		c.violate("publication %d in %q has epoch %q, the subscription %q", p.Offset, channel, p.Epoch, s.position.Epoch)
	}
	if p.Offset == 0 {
		return // published without history
	}
	last := s.position.Offset
	switch {
	case p.Offset <= last && s.positioned:
		c.violate("publication %d in %q comes after %d", p.Offset, channel, last)
		return
	case p.Offset <= last:
		c.suspect("publication %d in %q comes after %d", p.Offset, channel, last)
	case p.Offset != last+1 && s.positioned:
		c.suspect("publication %d in %q comes after %d: a gap", p.Offset, channel, last)
	}
	s.position.Offset = p.Offset
}

// violate fails the test: what happened is wrong in every channel. It wants c.mu.
func (c *Client) violate(format string, args ...any) {
	c.suspect(format, args...)
	c.t.Errorf("fanfaretest: client %s: %v", c.name(), c.violations[len(c.violations)-1])
}

// suspect keeps what happened for Check. It wants c.mu.
func (c *Client) suspect(format string, args ...any) {
	c.violations = append(c.violations, fmt.Errorf(format, args...))
}

func (c *Client) name() string {
	if c.connected == nil {
		return "(not connected)"
	}
	return c.connected.Client
}
