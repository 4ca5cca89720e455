package fanfare

import (
	"context"
	"sync"
)

// sharedReads lets callers share a read: those that come while one is under way get the next, which begins after they came.
type sharedReads[T any] struct {
	mu      sync.Mutex // guards below
	byKey   map[string]*flight[T]
	waiting map[string]*flight[T] // for the one under way to end
}

// flight is one read, for everybody who waits for it.
type flight[T any] struct {
	ctx     context.Context
	cancel  context.CancelFunc
	callers int           // sharedReads.mu guards it; when all have left, the read is cancelled
	done    chan struct{} // closed when the next two are set
	value   T
	err     error
}

// do returns the result of a read that begins after the call. The result is shared: it must not be changed.
func (s *sharedReads[T]) do(ctx context.Context, n *Node, key string, read func(context.Context) (T, error)) (T, error) {
	var none T
	s.mu.Lock()
	f := s.waiting[key]
	if f == nil {
		f = &flight[T]{done: make(chan struct{})}
		f.ctx, f.cancel = context.WithCancel(n.ctx)
		if s.byKey[key] != nil {
			if s.waiting == nil {
				s.waiting = make(map[string]*flight[T])
			}
			s.waiting[key] = f
		} else {
			if s.byKey == nil {
				s.byKey = make(map[string]*flight[T])
			}
			s.byKey[key] = f
			// Owned by the node; each read is bounded in time.
			if !n.goroutines.start(func() { s.run(n, key, f, read) }) {
				delete(s.byKey, key)
				s.mu.Unlock()
				f.cancel()
				return none, ErrClosed
			}
		}
	}
	f.callers++
	s.mu.Unlock()
	select {
	case <-f.done:
		return f.value, f.err
	case <-ctx.Done():
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if f.callers--; f.callers == 0 {
		f.cancel()
		if s.waiting[key] == f { // or the next caller would join a read that is over before it began
			delete(s.waiting, key)
		}
	}
	return none, ctx.Err()
}

// run makes a read, and then those that others have come to wait for meanwhile.
func (s *sharedReads[T]) run(n *Node, key string, f *flight[T], read func(context.Context) (T, error)) {
	for f != nil {
		ctx, cancel := context.WithTimeout(f.ctx, n.config.HookTimeout)
		f.value, f.err = read(ctx)
		cancel()
		f.cancel()
		close(f.done)
		s.mu.Lock()
		f = s.waiting[key]
		delete(s.waiting, key)
		if s.byKey[key] = f; f == nil {
			delete(s.byKey, key)
		}
		s.mu.Unlock()
	}
}
