package fanfare

import (
	"context"
	"sync"
)

// goroutineGroup owns the short-lived goroutines of a node: every one is bounded in time, and Shutdown waits for all. It
// is also held by every session until its transport reports the end.
//
// A few that have ended wait for the next function, for as long as the node lives: their stacks have grown, which is a good
// part of what a short one costs. In profiles they keep the labels of whoever started them first.
type goroutineGroup struct {
	mu        sync.Mutex // guards below
	running   int
	closed    bool
	idle      chan struct{} // not nil while somebody waits
	spare     []chan func()
	dismissed bool // none is kept any more
}

// maxSpare is how many goroutines are kept.
const maxSpare = 64

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
	g.mu.Lock()
	last := len(g.spare) - 1
	if last < 0 {
		g.mu.Unlock()
		go g.work(fn)
		return
	}
	next := g.spare[last]
	g.spare = g.spare[:last]
	g.mu.Unlock()
	next <- fn
}

// work runs fn, and then what it is kept for.
func (g *goroutineGroup) work(fn func()) {
	ended := false
	defer func() {
		if !ended { // by a panic, or runtime.Goexit
			g.done()
		}
	}()
	next := make(chan func(), 1)
	for ok := true; ok; fn, ok = await(next) {
		ended = false
		fn()
		ended = true
		g.rest(next)
	}
}

// await is what a goroutine is in that is kept.
func await(next <-chan func()) (fn func(), ok bool) {
	fn, ok = <-next
	return fn, ok
}

// rest gives back a hold, and keeps the goroutine that has ended, or lets it go by closing next.
func (g *goroutineGroup) rest(next chan func()) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.dismissed || len(g.spare) == maxSpare {
		close(next)
	} else {
		g.spare = append(g.spare, next)
	}
	g.release()
}

// dismiss lets the goroutines go that are kept.
func (g *goroutineGroup) dismiss() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.dismissed = true
	for _, next := range g.spare {
		close(next)
	}
	g.spare = nil
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
	g.release()
}

// release is done with the lock held.
func (g *goroutineGroup) release() {
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
