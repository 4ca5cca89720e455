package fanfare

import (
	"context"
	"sync"
	"time"
)

// callContext is the context of a call of broker or presence for a client: it ends with the connection or at a deadline.
// Most such calls are over at once, and look at nothing but Err. So the timer, and the place on the lifetime, are made when
// somebody asks for Done.
type callContext struct {
	life     *lifetime
	deadline time.Time

	mu     sync.Mutex      // guards below
	real   context.Context // made by Done
	cancel context.CancelFunc
	over   bool // the call has returned
}

var _ context.Context = (*callContext)(nil)

// call returns a context for a call that may wait for the broker. Its end must be called.
func (c *Client) call() *callContext {
	return &callContext{life: &c.ctx, deadline: time.Now().Add(c.node.config.HookTimeout)}
}

// end is the cancel function.
func (c *callContext) end() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.over = true
	if c.cancel != nil {
		c.cancel()
	}
}

func (c *callContext) Deadline() (time.Time, bool) { return c.deadline, true }

func (c *callContext) Done() <-chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.made().Done()
}

func (c *callContext) Err() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.real == nil && !c.over && c.life.Err() == nil && time.Now().Before(c.deadline) {
		return nil
	}
	return c.made().Err() // the error that it has is the one that it keeps
}

// Value finds what package context keeps in the contexts that it makes: contexts derived from this one hang on the real one
// then, and need no goroutine.
func (c *callContext) Value(key any) any {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.real == nil {
		return nil
	}
	return c.real.Value(key)
}

// made returns the real context. The lock is held.
func (c *callContext) made() context.Context {
	if c.real == nil {
		c.real, c.cancel = c.life.bounded(context.Background(), time.Until(c.deadline))
		if c.over {
			c.cancel()
		}
	}
	return c.real
}
