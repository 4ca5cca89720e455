package fanfare

import (
	"context"
	"sync"
)

// goroutineGroup owns the short-lived goroutines of a node: every one is bounded in time, and Shutdown waits for all. It
// is also held by every session until its transport reports the end.
type goroutineGroup struct {
	mu      sync.Mutex // guards below
	running int
	closed  bool
	idle    chan struct{} // not nil while somebody waits
}

// start runs fn on a goroutine, unless the group is closed.
func (g *goroutineGroup) start(fn func()) bool {
	if !g.hold() {
		return false
	}
	g.run(fn)
	return true
}

// run runs fn on a goroutine, and gives back a hold at its end.
func (g *goroutineGroup) run(fn func()) {
	go func() {
		defer g.done()
		fn()
	}()
}

// hold makes wait wait for a call of done, unless the group is closed.
func (g *goroutineGroup) hold() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closed {
		return false
	}
	g.running++
	return true
}

func (g *goroutineGroup) done() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.running--
	if g.running == 0 && g.idle != nil {
		close(g.idle)
		g.idle = nil
	}
}

// wait returns when no goroutine runs, and then lets none start any more; or with the context's error.
func (g *goroutineGroup) wait(ctx context.Context) error {
	for {
		g.mu.Lock()
		if g.running == 0 {
			g.closed = true
			g.mu.Unlock()
			return nil
		}
		if g.idle == nil {
			g.idle = make(chan struct{})
		}
		idle := g.idle
		g.mu.Unlock()
		select {
		case <-idle:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
