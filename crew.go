package fanfare

import "sync"

// crew does things in their order, a few at once.
type crew struct {
	start   func(func()) bool // runs a function on a goroutine of the node
	workers int               // at most
	places  int               // for what waits

	mu      sync.Mutex // a leaf but for goroutineGroup.mu; guards below
	waiting []func()
	running int
}

// add has something done, which is bounded in time, unless the node is shutting down. It does not block. It returns false if too much
// waits.
func (c *crew) add(do func()) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.waiting) >= c.places {
		return false
	}
	if c.running < c.workers {
		// Owned by the node: it ends when nothing waits.
		if !c.start(c.work) {
			return true
		}
		c.running++
	}
	c.waiting = append(c.waiting, do)
	return true
}

// drop lets go of all that waits.
func (c *crew) drop() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.waiting = nil
}

func (c *crew) work() {
	for {
		c.mu.Lock()
		if len(c.waiting) == 0 {
			c.running--
			c.waiting = nil
			c.mu.Unlock()
			return
		}
		do := c.waiting[0]
		c.waiting[0] = nil
		c.waiting = c.waiting[1:]
		c.mu.Unlock()
		do()
	}
}
