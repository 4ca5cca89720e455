package websocket

import "time"

// quiet reports whether the next message has not begun and can be waited for without the library.
func (c *conn) quiet() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	// While closing, the library may be reading.
	w := &c.wire
	return !c.closing.Load() && w.raw != nil && !w.over && len(w.early) == 0 && w.buffered.Buffered() == 0
}

// wait is where a reader spends most of its life: on a stack that has never grown, without a buffer.
func (c *conn) wait() {
	c.mu.Lock()
	c.waiting = !c.closing.Load()
	waiting := c.waiting
	c.mu.Unlock()
	if waiting {
		c.wire.await()
		c.mu.Lock()
		c.waiting = false
		stop := c.stop
		c.mu.Unlock()
		if stop != nil {
			stop <- struct{}{}
			<-stop
		}
	}
	c.run()
}

// limitReading bounds all reading from now on. A reader that waits goes on in the library, which in closing may read
// itself, and sorts that out.
func (c *conn) limitReading(limit time.Duration) {
	c.mu.Lock()
	var stop chan struct{}
	if c.waiting {
		stop = make(chan struct{})
		c.stop = stop
	}
	c.mu.Unlock()
	if stop != nil {
		_ = c.wire.SetReadDeadline(time.Unix(1, 0)) // the reader must not see it elsewhere
		<-stop
	}
	_ = c.wire.SetReadDeadline(time.Now().Add(limit))
	if stop != nil {
		stop <- struct{}{}
	}
}
