package fanfare

import (
	"github.com/fanfare-go/fanfare/internal/protocol"
)

// The buffers that messages are built in, and that are kept for the next ones.
const (
	minScratch = 4 << 10
	maxScratch = 64 << 10
)

// reply queues the answer to a command.
func (c *Client) reply(r *protocol.Reply) {
	c.push(c.encode(func(dst []byte) []byte { return c.codec.AppendReply(dst, r) }))
}

// pushMessage queues a push that is made for this client alone.
func (c *Client) pushMessage(p *protocol.Push) {
	c.push(c.encodePush(p))
}

func (c *Client) encodePush(p *protocol.Push) []byte {
	return c.encode(func(dst []byte) []byte { return c.appendPush(dst, p) })
}

// encode makes a frame of a message. The message is built in a buffer that is used again: it would grow several times.
func (c *Client) encode(build func(dst []byte) []byte) []byte {
	buf := c.node.takeScratch()
	message := build((*buf)[:0])
	frame := c.frame(message)
	*buf = message
	c.node.keepScratch(buf)
	return frame
}

// takeScratch returns a buffer for whatever is short-lived, of some length.
func (n *Node) takeScratch() *[]byte {
	if buf, _ := n.scratch.Get().(*[]byte); buf != nil {
		return buf
	}
	buf := make([]byte, 0, minScratch)
	return &buf
}

// keepScratch keeps a buffer for the next one.
func (n *Node) keepScratch(buf *[]byte) {
	if cap(*buf) <= maxScratch {
		n.scratch.Put(buf)
	}
}

func (c *Client) appendPush(dst []byte, p *protocol.Push) []byte {
	if c.info.Unidirectional {
		return c.codec.AppendBarePush(dst, p)
	}
	return c.codec.AppendPush(dst, p)
}

func (c *Client) frame(message []byte) []byte {
	return c.info.Framing.AppendFrame(make([]byte, 0, len(message)+16), message)
}

// push sends a reply, a ping or any other frame that must not be dropped, behind what is queued. It may go an eighth beyond
// the limit, so that a queue kept at its limit by dropping has room for a reply.
func (c *Client) push(frame []byte) {
	c.pushed(frame, c.out.push(frame))
}

// pushed does what a push has left to do.
func (c *Client) pushed(frame []byte, v verdict) {
	switch v {
	case claimed:
		c.writeNow(frame)
	case toFlush:
		c.startFlush()
	case collected:
		c.flushCollected()
	case overflow:
		c.close(DisconnectSlow)
	}
}

// pushPublication queues a frame of a channel, under the channel's policy for slow readers. It returns how many
// publications were dropped. It is called with the subscription's lock held, and calls nothing that takes one.
func (c *Client) pushPublication(s *subscription, frame []byte) (v verdict, drops int) {
	start, v, drops := c.out.pushPublication(s, frame)
	if start {
		c.startFlush()
	}
	return v, drops
}

// pushMembership queues a join or leave of a channel if there is room: it may be lost (spec 13), but nothing else for it.
func (c *Client) pushMembership(frame []byte) bool {
	o := &c.out
	o.mu.Lock()
	if o.closed || o.queue.Bytes()+len(frame) > o.max/2 { // the other half is for what must not be lost
		o.mu.Unlock()
		return false
	}
	o.enqueue(frame, nil)
	start := o.due()
	o.mu.Unlock()
	if start {
		c.startFlush()
	}
	return true
}

// closeQueue ends the queueing, with a last frame if it is not nil. The channel that it returns is closed when everything
// queued was written.
func (c *Client) closeQueue(last []byte) <-chan struct{} {
	o := &c.out
	o.mu.Lock()
	start := false
	if last != nil && !o.closed {
		o.enqueue(last, nil)
		start = !o.flushing
		o.flushing = true
	}
	o.closed = true
	start = start || o.held || o.corked
	o.held, o.corked = false, false
	if o.empty == nil {
		o.empty = make(chan struct{})
		if !o.flushing {
			close(o.empty)
		}
	}
	empty := o.empty
	o.mu.Unlock()
	if start {
		c.startFlush()
	}
	return empty
}

// discardQueue ends the queueing and throws away what was queued.
func (c *Client) discardQueue() {
	c.closeQueue(nil)
	c.out.mu.Lock()
	defer c.out.mu.Unlock()
	c.out.discard()
}
