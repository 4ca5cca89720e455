package redisbroker

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/fanfare-go/fanfare"
)

// table holds what the nodes of a broker want to receive from a shard, and what Redis has been told. Feeds carry it out: whoever
// changes what is wanted puts the subscription into the queue of the feed of its master, and waits for the state to change.
type table struct {
	shard    *shard
	stranded atomic.Bool // some subscription is wanted, not there, and in no queue
	garbage  garbage

	mu     sync.RWMutex // guards below, and the subscriptions
	byName map[string]*subscription
	byLink map[*link]map[*subscription]struct{}
}

// topic is what a channel in Redis carries: messages of one of our channels, or control messages to one node or to all.
type topic struct {
	carries carries
	channel string
}

type carries uint8

const (
	messages carries = iota
	controlToOne
	controlToAll
)

// subscription is a channel of Redis that some node wants, or that is being left.
type subscription struct {
	name string
	topic
	slot    uint16
	links   []*link            // replaced, never changed
	pending map[*link]struct{} // those of links whose first Subscribe has not returned yet
	state   state
	feed    *feed // whose queue it is in, or over which it comes
	queued  bool
	owed    bool  // messages may have been lost since it was there the last time
	err     error // why Redis refused it the last time
	refused uint64
	changed chan struct{} // closed with the next change of the state; nil if nobody waits
}

type state uint8

const (
	absent state = iota
	joining
	present
	leaving
)

func newTable(s *shard) *table {
	return &table{shard: s, byName: make(map[string]*subscription), byLink: make(map[*link]map[*subscription]struct{})}
}

// subscribe returns when every later message will reach the link.
func (t *table) subscribe(ctx context.Context, l *link, name string, topic topic) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	for refused, first := uint64(0), true; ; first = false {
		if l.isClosed() {
			return fanfare.ErrClosed
		}
		sub := t.byName[name]
		if sub == nil {
			sub = &subscription{name: name, topic: topic}
			if t.shard.cluster {
				sub.slot = slotOf(name)
			}
			t.byName[name] = sub
		}
		t.join(sub, l)
		if sub.state == present {
			delete(sub.pending, l)
			return nil
		}
		if first {
			refused = sub.refused
		}
		var err error
		if sub.refused != refused {
			err = sub.err
		} else {
			t.queue(sub)
			err = t.await(ctx, sub)
		}
		if err != nil {
			if sub = t.byName[name]; sub != nil {
				if _, undone := sub.pending[l]; undone {
					t.part(sub, l)
				}
			}
			return err
		}
	}
}

// await waits for the state to change, without the lock.
func (t *table) await(ctx context.Context, sub *subscription) error {
	if sub.changed == nil {
		sub.changed = make(chan struct{})
	}
	changed := sub.changed
	t.mu.Unlock()
	defer t.mu.Lock()
	select {
	case <-changed:
		return nil
	case <-ctx.Done():
	case <-t.shard.broker.ctx.Done():
		return fanfare.ErrClosed
	}
	return fmt.Errorf("%w: no answer within %v", ErrUnavailable, t.shard.broker.config.Timeout)
}

// unsubscribe ends the delivery to a link at once, and waits until Redis knows if it was the last one: a later Subscribe begins
// anew.
func (t *table) unsubscribe(ctx context.Context, l *link, name string) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if sub := t.byName[name]; sub != nil {
		t.part(sub, l)
	}
	for {
		sub := t.byName[name]
		if sub == nil || sub.state == absent || len(sub.links) > 0 {
			return nil
		}
		if err := t.await(ctx, sub); err != nil {
			return err
		}
	}
}

// leave parts with everything of a link, which is closed, so that nothing is added any more.
func (t *table) leave(l *link) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for sub := range t.byLink[l] {
		t.part(sub, l)
	}
}

// The functions below are called with the lock held.

func (t *table) join(sub *subscription, l *link) {
	if slices.Contains(sub.links, l) {
		return
	}
	sub.links = append(slices.Clip(sub.links), l)
	if sub.pending == nil {
		sub.pending = make(map[*link]struct{})
	}
	sub.pending[l] = struct{}{}
	if t.byLink[l] == nil {
		t.byLink[l] = make(map[*subscription]struct{})
	}
	t.byLink[l][sub] = struct{}{}
}

func (t *table) part(sub *subscription, l *link) {
	i := slices.Index(sub.links, l)
	if i < 0 {
		return
	}
	sub.links = slices.Delete(slices.Clone(sub.links), i, i+1)
	delete(sub.pending, l)
	if delete(t.byLink[l], sub); len(t.byLink[l]) == 0 {
		delete(t.byLink, l)
	}
	t.settle(sub)
}

// settle compares what is wanted with what is there, and has the rest done.
func (t *table) settle(sub *subscription) {
	wanted := len(sub.links) > 0
	switch {
	case sub.state == absent && !wanted:
		if t.byName[sub.name] == sub && !sub.queued {
			delete(t.byName, sub.name)
			t.turn(sub, absent) // who still waits for it begins anew
		}
	case sub.state == absent || sub.state == present && !wanted:
		t.queue(sub)
	}
}

// queue has the feed of the subscription's master look at it.
func (t *table) queue(sub *subscription) {
	if sub.queued || sub.state == joining || sub.state == leaving {
		return // it is looked at when that is done
	}
	if sub.state == absent {
		m := t.shard.masters.of(sub.name)
		if m == nil {
			t.stranded.Store(true)
			return
		}
		sub.feed = m.feed
	}
	sub.queued = true
	sub.feed.queue = append(sub.feed.queue, sub)
	sub.feed.wake()
}

// turn changes the state, and tells those who wait for it.
func (t *table) turn(sub *subscription, s state) {
	sub.state = s
	if sub.changed != nil {
		close(sub.changed)
		sub.changed = nil
	}
}

// refuse notes that Redis did not take a subscription. It stays wanted by those who had it.
func (t *table) refuse(sub *subscription, err error) {
	sub.err = err
	sub.refused++
	t.turn(sub, absent)
	t.stranded.Store(true)
}

// assign puts what is stranded into the queue of its master.
func (t *table) assign() {
	if !t.stranded.Swap(false) {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, sub := range t.byName {
		if sub.state == absent {
			t.settle(sub)
		}
	}
}
