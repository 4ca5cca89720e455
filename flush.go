package fanfare

import (
	"slices"
	"time"
)

const (
	// maxJoin bounds how much is joined into one non-blocking write.
	maxJoin = 64 << 10
	// maxBlockingWrite bounds how much is joined into one blocking write.
	maxBlockingWrite = 16 << 10
	// maxTurn is how many writes a worker does for one client before the next one has its turn.
	maxTurn = 4
	// maxAwaitWritten bounds how long a recovery waits for the room that it needs in the queue, for which it looks now and then.
	maxAwaitWritten   = time.Second
	awaitWrittenEvery = time.Millisecond
)

func (c *Client) startFlush() {
	if c.out.try != nil {
		c.worker.add(c)
		return
	}
	c.node.goroutines.start(c.flushBlocking)
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

// flush writes what is queued without blocking. It is called by the flusher, whose buffer it borrows for joining frames.
func (c *Client) flush(buf []byte) {
	o := &c.out
	for range maxTurn {
		frames, n := c.next(buf, cap(buf), false)
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
			if n > 1 { // the joined frames are in the borrowed buffer
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

// uncork writes what was collected since the connection was corked, if it was.
func (c *Client) uncork() {
	if c.out.uncork() {
		c.flushCollected()
	}
}

// flushCollected is flush for whoever has no buffer.
func (c *Client) flushCollected() {
	buf := c.node.takeScratch()
	*buf = slices.Grow((*buf)[:0], min(c.out.waiting(), maxScratch))
	c.flush(*buf)
	c.node.keepScratch(buf)
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
	if frames, n = o.dequeue(buf, max); n > 0 {
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
	if !c.out.owing {
		return
	}
	for _, s := range c.out.drained {
		c.node.goroutines.start(func() { c.insufficient(s) })
	}
	c.out.drained, c.out.owing = nil, false
}

// awaitWritten waits a while until everything that is queued is written. Whoever reads is not kept waiting for want of room, and
// told of a gap, because a goroutine has not had its turn; whoever does not read holds up nobody but itself.
func (c *Client) awaitWritten() {
	c.uncork() // else nobody writes
	// It is rare, and a channel to wait for would make every client larger.
	look := time.NewTicker(awaitWrittenEvery)
	defer look.Stop()
	for began := time.Now(); !c.out.written() && time.Since(began) < maxAwaitWritten; {
		select {
		case <-look.C:
		case <-c.ctx.Done():
			return
		}
	}
}

// writeFailed ends a client whose connection takes nothing more. The caller stays the flusher: nobody writes after it.
func (c *Client) writeFailed(err error) {
	o := &c.out
	o.mu.Lock()
	o.closed = true
	o.discard()
	if o.empty == nil {
		o.empty = make(chan struct{})
	}
	close(o.empty)
	o.mu.Unlock()
	c.closeFor(DisconnectWriteError, err)
}
