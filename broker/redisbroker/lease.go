package redisbroker

import (
	"context"
	"crypto/rand"
	"slices"
	"sync"

	"github.com/fanfare-go/fanfare"
)

// tokenSize is the length of what makes an incarnation unique.
const tokenSize = 16

// newIncarnation names one uninterrupted life of a node at one server: a token, a colon, and the node's id. An incarnation that
// lost its lease never comes back: what its node still has belongs to the next one. Scripts know the form of the name.
func newIncarnation(node string) string { return rand.Text()[:tokenSize] + ":" + node }

func nodeOf(incarnation string) string { return incarnation[min(tokenSize+1, len(incarnation)):] }

// purpose is why a node has leases.
type purpose uint8

const (
	forLink    purpose = 1 << iota // it is attached
	forMembers                     // it has put somebody into the presence
)

// leases say which nodes live: each has a lease at every server, which is renewed as long as the process runs and reaches the server.
// Everything that a node puts into Redis belongs to one, and is void when it is over.
type leases struct {
	broker *Broker
	// ends when the broker closes, for the goroutines, which close waits for
	ctx        context.Context
	cancel     context.CancelFunc
	goroutines sync.WaitGroup

	changing chan struct{} // of one slot: taken by whoever begins or ends to hold a node's leases

	mu       sync.Mutex // guards below; a leaf
	started  bool
	closed   bool
	watchers []*watcher
}

func newLeases(b *Broker) *leases {
	l := &leases{broker: b, changing: make(chan struct{}, 1)}
	l.ctx, l.cancel = context.WithCancel(context.Background())
	for _, s := range b.shards {
		s.keeper = newKeeper(l, s)
	}
	return l
}

// hold begins the leases of a node that is attached. It returns when every server knows.
func (l *leases) hold(ctx context.Context, node string) error { return l.acquire(ctx, node, forLink) }

func (l *leases) acquire(ctx context.Context, node string, why purpose) error {
	if err := l.lock(ctx); err != nil {
		return err
	}
	defer l.unlock()
	for i, s := range l.broker.shards {
		if err := s.keeper.begin(ctx, node, why); err != nil {
			for _, s := range l.broker.shards[:i+1] {
				s.keeper.forget(node, why)
			}
			return err
		}
	}
	return nil
}

// release detaches a node: its connections are counted no more. Its leases end if nothing else needs them. What a server cannot
// be told in time it finds out when the lease is over.
func (l *leases) release(node string) {
	ctx, cancel := context.WithTimeout(l.ctx, l.broker.config.Timeout)
	defer cancel()
	if err := l.lock(ctx); err != nil {
		return
	}
	defer l.unlock()
	for _, s := range l.broker.shards {
		_ = s.keeper.end(ctx, node, forLink)
	}
}

// lock makes the caller the only one to change who is held. It starts the goroutines when there is the first.
func (l *leases) lock(ctx context.Context) error {
	select {
	case l.changing <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		l.unlock()
		return fanfare.ErrClosed
	}
	if l.started {
		return nil
	}
	l.started = true
	for _, s := range l.broker.shards {
		// Owned by the leases, which end and await them in close.
		l.goroutines.Go(s.keeper.keep)
		l.goroutines.Go(s.keeper.mendAll)
		l.goroutines.Go(s.keeper.sweepAll)
	}
	return nil
}

func (l *leases) unlock() { <-l.changing }

// close ends all leases and goroutines. Members that are still present are left to other brokers, which take them out and tell
// their watchers.
func (l *leases) close() {
	l.changing <- struct{}{} // whoever has it comes back within the timeout of an operation, or is a release
	l.mu.Lock()
	l.closed = true
	l.mu.Unlock()
	l.unlock()
	ctx, cancel := context.WithTimeout(l.ctx, l.broker.config.Timeout)
	defer cancel()
	var servers sync.WaitGroup
	for _, s := range l.broker.shards {
		servers.Go(func() { s.keeper.close(ctx) })
	}
	servers.Wait()
	l.cancel()
	l.goroutines.Wait()
}

// watcher is told of members of dead nodes, and of its own if others took it for dead.
type watcher struct {
	node string

	mu         sync.Mutex // held while it is told; guards below
	gone, back func(channel string, members []fanfare.ClientInfo)
}

func (l *leases) watch(w *watcher) (stop func(), err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return nil, fanfare.ErrClosed
	}
	l.watchers = append(l.watchers, w)
	return func() {
		w.mu.Lock()
		w.gone, w.back = nil, nil
		w.mu.Unlock()
		l.mu.Lock()
		l.watchers = slices.DeleteFunc(l.watchers, func(other *watcher) bool { return other == w })
		l.mu.Unlock()
	}, nil
}

func (l *leases) watched() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.watchers) > 0
}

// tell tells one watcher.
func (l *leases) tell(channel string, members []fanfare.ClientInfo) {
	l.mu.Lock()
	watchers := slices.Clone(l.watchers)
	l.mu.Unlock()
	for _, w := range watchers {
		if w.tell(channel, members) {
			return
		}
	}
}

// tellBack tells the watchers of a node that its members are in again.
func (l *leases) tellBack(node, channel string, members []fanfare.ClientInfo) {
	l.mu.Lock()
	watchers := slices.Clone(l.watchers)
	l.mu.Unlock()
	for _, w := range watchers {
		if w.node != node {
			continue
		}
		w.mu.Lock()
		if w.back != nil {
			w.back(channel, members)
		}
		w.mu.Unlock()
	}
}

func (w *watcher) tell(channel string, members []fanfare.ClientInfo) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.gone == nil {
		return false
	}
	w.gone(channel, members)
	return true
}
