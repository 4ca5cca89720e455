package fanfare

import (
	"sync"
	"time"

	"github.com/fanfare-go/fanfare/internal/outbox"
	"github.com/fanfare-go/fanfare/internal/protocol"
	"github.com/fanfare-go/fanfare/transport"
)

const (
	// maxJoin bounds how much is joined into one non-blocking write.
	maxJoin = 64 << 10
	// maxScratch is the largest buffer that is kept for the next message.
	maxScratch = 64 << 10
	// maxBlockingWrite bounds how much is joined into one blocking write.
	maxBlockingWrite = 16 << 10
	// maxTurn is how many writes a worker does for one client before the next one has its turn.
	maxTurn = 4
)

// outgoing is the writing side of a client: a bounded queue of frames, and whoever empties it.
//
// One flusher at a time empties the queue: the worker that owns the connection, with writes that never block; or, where those
// are not to be had or the socket is full, a goroutine that lives until the queue is empty. Whoever has a frame when nothing
// is queued and nobody writes is the flusher for as long as it takes to write that one. The flusher is whoever set flushing.
type outgoing struct {
	conn transport.Conn
	try  transport.TryWriter // nil if the connection cannot
	max  int                 // bytes

	mu       sync.Mutex // guards below
	queue    outbox.Queue[*subscription]
	flushing bool
	blocked  bool            // a goroutine waits for the socket to take data
	held     bool            // nobody writes yet: the worker will, a little later, or whoever queues a reply
	wrote    time.Duration   // when publications were last written at once, on the worker's clock
	closed   bool            // nothing is queued any more
	empty    chan struct{}   // not nil once closed: closed when everything is written
	drained  []*subscription // whose messages were dropped: to be told when the queue has drained
}

// verdict is what became of a frame.
type verdict uint8

const (
	queued     verdict = iota
	toFlush            // queued, and the caller is the flusher
	claimed            // not queued: the caller is the flusher, and writes it
	refused            // the connection is closing
	overflow           // the queue is full, and takes nothing any more: the connection must be closed
	dropped            // dropped by the channel's policy
	gapPending         // the subscription was cut off, and is ended once the queue has drained
)

// push sends a reply, a ping or any other frame that must not be dropped, behind what is queued. It may go an eighth beyond
// the limit, so that a queue kept at its limit by dropping has room for a reply.
func (c *Client) push(frame []byte) {
	c.pushed(frame, c.out.push(frame))
}

// push queues a frame, or makes the caller the flusher who is to write it; client.mu may be held. The caller passes frame and
// result to [Client.pushed] when it is not.
func (o *outgoing) push(frame []byte) verdict {
	o.mu.Lock()
	defer o.mu.Unlock()
	switch {
	case o.closed:
		return refused
	case o.queue.Bytes()+len(frame) > o.max+o.max/8 && o.queue.Len() > 0:
		o.closed = true
		return overflow
	case !o.flushing && o.queue.Len() == 0 && o.try != nil:
		o.flushing = true
		return claimed
	}
	o.queue.Push(frame, nil)
	if o.held || !o.flushing {
		o.held, o.flushing = false, true
		return toFlush
	}
	return queued
}

// pushed does what a push has left to do.
func (c *Client) pushed(frame []byte, v verdict) {
	switch v {
	case claimed:
		c.writeNow(frame)
	case toFlush:
		c.startFlush()
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

func (o *outgoing) pushPublication(s *subscription, frame []byte) (start bool, v verdict, drops int) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.closed {
		return false, refused, 0
	}
	policy := s.declared.options.SlowReader
	lossy := policy == SlowReaderDropOldest && !s.positioned
	size := o.queue.Bytes() + len(frame)
	freed := 0
	switch {
	case policy == SlowReaderKeepLatest && o.blocked:
		drops, freed = o.queue.DropAll(s)
	case policy == SlowReaderKeepLatest:
		drops, freed = o.queue.DropOldest(s, size-o.max)
	case lossy:
		// What may be dropped keeps to one half, or a message of another channel would find the queue full and close the
		// connection.
		drops, freed = o.queue.DropOldest(s, size-o.max/2)
	}
	if size-freed > o.max && o.queue.Len() > 0 {
		switch {
		case lossy: // the queue is full of other channels' messages
			return false, dropped, drops + 1
		case policy == SlowReaderDropOldest:
			drops, _ = o.queue.DropAll(s)
			o.drained = append(o.drained, s)
			return false, gapPending, drops + 1
		}
		// At once: if the client reads on before the connection is closed, what came behind this frame must not reach it.
		o.closed = true
		return false, overflow, drops // also of the policy that promised the newest
	}
	o.queue.Push(frame, s)
	return o.due(), queued, drops
}

// due makes the caller the flusher of what it has queued, unless there is one, or the connection is held and little waits. The
// lock is held.
func (o *outgoing) due() bool {
	start := !o.flushing || o.held && o.queue.Bytes() >= enough
	if start {
		o.flushing, o.held = true, false
	}
	return start
}

// pushMembership queues a join or leave of a channel if there is room: it may be lost (spec 13), but nothing else for it.
func (c *Client) pushMembership(frame []byte) bool {
	o := &c.out
	o.mu.Lock()
	if o.closed || o.queue.Bytes()+len(frame) > o.max/2 { // the other half is for what must not be lost
		o.mu.Unlock()
		return false
	}
	o.queue.Push(frame, nil)
	start := o.due()
	o.mu.Unlock()
	if start {
		c.startFlush()
	}
	return true
}

// room returns how much a reply may hold now so that it does not fill the queue: half of what is free.
func (o *outgoing) room() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return max(0, o.max-o.queue.Bytes()) / 2
}

// closeQueue ends the queueing, with a last frame if it is not nil. The channel that it returns is closed when everything
// queued was written.
func (c *Client) closeQueue(last []byte) <-chan struct{} {
	o := &c.out
	o.mu.Lock()
	start := false
	if last != nil && !o.closed {
		o.queue.Push(last, nil)
		start = !o.flushing
		o.flushing = true
	}
	o.closed = true
	start = start || o.held
	o.held = false
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
	c.out.queue.Reset()
}

func (c *Client) startFlush() {
	if c.out.try != nil {
		c.worker.add(c)
		return
	}
	c.node.goroutines.start(c.flushBlocking)
}

// claim makes the caller, which is the client's worker, the flusher, if nothing is queued and nobody else is: it may then
// write what it has at once. If the last such write is no longer ago than spacing, claim holds the connection instead: what is
// queued from now on waits until the worker calls unhold.
func (o *outgoing) claim(now, spacing time.Duration) (claimed, held bool) {
	if o.try == nil {
		return false, false
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.closed || o.flushing || o.queue.Len() > 0 {
		return false, false
	}
	o.flushing = true
	if now-o.wrote < spacing {
		o.held = true
		return false, true
	}
	o.wrote = now
	return true, false
}

// unhold makes the caller the flusher of a connection that was held, if it still is.
func (o *outgoing) unhold(now time.Duration) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	held := o.held
	o.held = false
	if held {
		o.wrote = now
	}
	return held
}

// writeNow writes frames that many connections may share, as the flusher by claim.
func (c *Client) writeNow(frames []byte) {
	o := &c.out
	written, err := o.try.TryWrite(frames)
	if err != nil {
		c.writeFailed(err)
		return
	}
	o.mu.Lock()
	switch {
	case written < len(frames):
		o.blocked = true
		o.mu.Unlock()
		c.node.goroutines.start(func() { c.finish(frames[written:]) })
	case o.queue.Len() > 0:
		o.mu.Unlock()
		c.worker.add(c)
	default:
		c.idle()
		o.mu.Unlock()
	}
}

// idle ends the caller's being the flusher: there is nothing to write. outgoing.mu is held.
func (c *Client) idle() {
	o := &c.out
	o.flushing, o.blocked = false, false
	if o.empty != nil {
		close(o.empty)
	}
	c.tellDrained()
}

// flush writes what is queued without blocking. It is called by the client's worker, whose buffer it borrows.
func (c *Client) flush(buf []byte) {
	o := &c.out
	for range maxTurn {
		frames, n := c.next(buf, maxJoin, false)
		if n == 0 {
			return
		}
		written, err := o.try.TryWrite(frames)
		if err != nil {
			c.writeFailed(err)
			return
		}
		if written < len(frames) {
			rest := frames[written:]
			if n > 1 { // the joined frames are in the worker's buffer
				rest = append([]byte(nil), rest...)
			}
			o.mu.Lock()
			o.blocked = true
			o.mu.Unlock()
			c.node.goroutines.start(func() { c.finish(rest) })
			return
		}
	}
	c.worker.add(c) // still the flusher, but others wait
}

// finish writes the rest of a short write and then whatever is queued, as a goroutine that waits for the socket.
func (c *Client) finish(rest []byte) {
	if err := c.out.conn.Write(rest); err != nil {
		c.writeFailed(err)
		return
	}
	c.flushBlocking()
}

// flushBlocking writes what is queued until nothing is.
func (c *Client) flushBlocking() {
	var buf []byte
	for {
		frames, n := c.next(buf, maxBlockingWrite, true)
		if n == 0 {
			return
		}
		if err := c.out.conn.Write(frames); err != nil {
			c.writeFailed(err)
			return
		}
		if n > 1 {
			buf = frames
		}
	}
}

// next takes what is to be written next, by a write that may block or not. When there is nothing, the caller is no longer
// the flusher.
func (c *Client) next(buf []byte, max int, blocking bool) (frames []byte, n int) {
	o := &c.out
	o.mu.Lock()
	defer o.mu.Unlock()
	if frames, n = o.queue.Take(buf, max); n > 0 {
		o.blocked = blocking
		if o.queue.Bytes() < o.max/2 {
			c.tellDrained()
		}
		return frames, n
	}
	c.idle()
	return nil, 0
}

// tellDrained ends the subscriptions that were cut off for want of room, now that there is some. outgoing.mu is held.
func (c *Client) tellDrained() {
	for _, s := range c.out.drained {
		c.node.goroutines.start(func() { c.insufficient(s) })
	}
	c.out.drained = nil
}

// writeFailed ends a client whose connection takes nothing more. The caller stays the flusher: nobody writes after it.
func (c *Client) writeFailed(err error) {
	o := &c.out
	o.mu.Lock()
	o.closed = true
	o.queue.Reset()
	if o.empty == nil {
		o.empty = make(chan struct{})
	}
	close(o.empty)
	o.mu.Unlock()
	c.closeFor(DisconnectWriteError, err)
}

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
	buf, _ := c.node.scratch.Get().(*[]byte)
	if buf == nil {
		buf = new([]byte)
	}
	message := build((*buf)[:0])
	frame := c.frame(message)
	if cap(message) <= maxScratch {
		*buf = message
		c.node.scratch.Put(buf)
	}
	return frame
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
