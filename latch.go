package fanfare

import (
	"context"
	"sync/atomic"
)

// latch is a door that opens once, for ever: what a channel that is closed would be, in 8 bytes, as long as nobody waits.
// The zero latch is shut.
type latch struct {
	state atomic.Pointer[chan struct{}] // nil, or what those who wait wait for, or &latchOpen
}

// latchOpen has an address, and no use besides: the channel in it is nil. A channel would not do, because it could not be
// shared between the bubbles of package synctest.
var latchOpen chan struct{}

// open lets everybody through.
func (l *latch) open() {
	if waiting := l.state.Swap(&latchOpen); waiting != nil && waiting != &latchOpen {
		close(*waiting)
	}
}

func (l *latch) isOpen() bool { return l.state.Load() == &latchOpen }

// opened returns a channel that is closed when the latch is open.
func (l *latch) opened() <-chan struct{} {
	if ch := l.state.Load(); ch != nil && ch != &latchOpen {
		return *ch
	}
	ch := make(chan struct{})
	if l.state.CompareAndSwap(nil, &ch) {
		return ch
	}
	if other := l.state.Load(); other != &latchOpen {
		return *other
	}
	close(ch)
	return ch
}

// wait returns true when the latch is open, or false when the context ends.
func (l *latch) wait(ctx context.Context) bool {
	if l.isOpen() {
		return true
	}
	select {
	case <-l.opened():
		return true
	case <-ctx.Done():
		return false
	}
}

// lockSlot takes a lock that is a channel of one slot, or returns the context's error.
func lockSlot(ctx context.Context, slot chan struct{}) error {
	select {
	case slot <- struct{}{}:
		return nil
	default: // not at once: then the context matters
	}
	select {
	case slot <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
