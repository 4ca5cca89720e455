package fanfare

import (
	"context"
	"sync"
	"sync/atomic"
	"time"
)

// lifetime is the context of a connection, as part of its client: it ends when the connection does. There is one for every
// idle connection, so what it may need it makes when it is needed: the channel of Done when somebody asks, and a list of
// functions instead of package context's map of children. The zero value is ready to use.
type lifetime struct {
	ended atomic.Bool

	mu    sync.Mutex // a leaf; guards below
	done  chan struct{}
	after *afterward // the first of a list
}

// afterward is a function to be called when a lifetime ends.
type afterward struct {
	life       *lifetime
	call       func()
	next, prev *afterward
	listed     bool
}

var _ context.Context = (*lifetime)(nil)

func (l *lifetime) Deadline() (time.Time, bool) { return time.Time{}, false }

func (l *lifetime) Value(any) any { return nil }

func (l *lifetime) Done() <-chan struct{} {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.done == nil {
		l.done = make(chan struct{})
		if l.ended.Load() {
			close(l.done)
		}
	}
	return l.done
}

func (l *lifetime) Err() error {
	if !l.ended.Load() {
		return nil
	}
	l.mu.Lock() // as long as end holds it, Done may still be open: a context must not have an error then
	defer l.mu.Unlock()
	return context.Canceled
}

// end ends the lifetime, and with it the contexts that hang on it, before it returns.
func (l *lifetime) end() {
	l.mu.Lock()
	if l.ended.Swap(true) {
		l.mu.Unlock()
		return
	}
	if l.done != nil {
		close(l.done)
	}
	first := l.after
	l.after = nil
	for a := first; a != nil; a = a.next {
		a.listed = false
	}
	l.mu.Unlock()
	for a := first; a != nil; a = a.next {
		a.call()
	}
}

// AfterFunc calls f, which must not block, when the lifetime ends, unless stop is called first; stop reports whether that
// was in time. Package context looks for this method: contexts derived from a lifetime hang on it by a function, and need
// neither a goroutine nor a place in a map.
func (l *lifetime) AfterFunc(f func()) (stop func() bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ended.Load() {
		go f() // the caller may hold a lock that f wants: package context does
		return func() bool { return false }
	}
	a := &afterward{life: l, call: f, next: l.after, listed: true}
	if a.next != nil {
		a.next.prev = a
	}
	l.after = a
	return a.stop
}

func (a *afterward) stop() bool {
	l := a.life
	l.mu.Lock()
	defer l.mu.Unlock()
	if !a.listed {
		return false
	}
	a.listed = false
	if a.prev != nil {
		a.prev.next = a.next
	} else {
		l.after = a.next
	}
	if a.next != nil {
		a.next.prev = a.prev
	}
	return true
}

// bounded derives the context of one call: it has the values of base, and ends with the
// lifetime or after the timeout. It leaves no Done channel behind on the lifetime, as a child context would.
func (l *lifetime) bounded(base context.Context, timeout time.Duration) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithTimeout(base, timeout)
	stop := l.AfterFunc(cancel)
	if l.ended.Load() {
		cancel() // AfterFunc may not have come to it yet
	}
	return ctx, func() {
		stop()
		cancel()
	}
}
