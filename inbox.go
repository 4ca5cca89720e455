package fanfare

import (
	"container/heap"
	"context"
	"time"
)

const (
	// maxInbox bounds the bytes that wait for one worker: publishers keep room in it before they begin. What brokers deliver all
	// the same is dropped beyond twice as much, and read from history later.
	maxInbox = 8 << 20
	// broadcastOverhead is what a waiting message counts beside its payload.
	broadcastOverhead = 128
	// inlineMax is the most subscribers that a publisher serves itself, if their worker is idle: the message then waits
	// for no other goroutine.
	inlineMax = 32
)

// post puts a message into an audience's inbox. If the caller is willing it may be told to deliver it itself, by serve: the
// worker is idle, and the audience is small. The room's lock is held.
func (w *worker) post(a *audience, b *broadcast, willing bool) (inline bool) {
	inline = willing && w.busy.TryLock()
	now := w.clock()
	w.mu.Lock()
	defer w.mu.Unlock()
	a.inbox = append(a.inbox, b)
	a.inboxBytes += b.size
	w.bytes.Add(int64(b.size))
	a.pace.arrived(now, w.pacing)
	if a.listed {
		if a.place >= 0 && a.inboxBytes >= enough {
			a.due = now
			heap.Fix(&w.paced, a.place)
			w.rouse()
		}
		if inline {
			w.busy.Unlock()
		}
		return false
	}
	a.listed = true
	if inline {
		return true
	}
	w.list(a, now)
	w.rouse()
	return false
}

// list enters an audience that has something to deliver. The lock is held.
func (w *worker) list(a *audience, now time.Duration) {
	a.due = a.pace.due(w.pacing, now)
	if a.due > now && a.inboxBytes < enough {
		a.waited = true
		heap.Push(&w.paced, a)
		return
	}
	w.ready = append(w.ready, a)
}

// serve delivers what an audience has waiting, for a publisher to whom post gave the worker.
func (w *worker) serve(a *audience) {
	// Others may go on publishing: when the slice is over, the worker's goroutine takes over.
	idle := true
	for until := w.clock() + workerSlice; idle && w.deliver(a, 0); {
		if now := w.clock(); now > until {
			w.mu.Lock()
			w.list(a, now)
			w.mu.Unlock()
			idle = false
		}
	}
	idle = idle && len(w.held) == 0
	w.busy.Unlock()
	w.mu.Lock()
	idle = idle && len(w.ready) == 0 && len(w.clients) == 0
	w.mu.Unlock()
	if !idle { // the worker may have found itself busy
		w.rouse()
	}
}

// take makes a batch of what waits for an audience.
func (w *worker) take(a *audience) *batch {
	w.mu.Lock()
	defer w.mu.Unlock()
	n, size := joinable(a.inbox)
	b := &batch{audience: a, items: a.inbox[:n:n], size: size, except: exceptions(a.inbox[:n])}
	if a.inbox = a.inbox[n:]; len(a.inbox) == 0 {
		a.inbox = nil
	}
	a.inboxBytes -= size
	b.paced, a.waited = a.waited, false
	a.pace.began(w.now)
	return b
}

// delivered counts out a batch. The lock is held.
func (w *worker) delivered(size int) {
	left := w.bytes.Add(int64(-size))
	if left <= maxInbox/2 {
		w.spaceFreed()
		for _, r := range w.lagging {
			r.node.goroutines.start(r.catchUp)
		}
		w.lagging = nil
	}
	if left == 0 && w.empty != nil {
		close(w.empty)
		w.empty = nil
	}
}

// abandon lets go of what came too late to be delivered, leaves for instance: the worker's goroutine has ended, and nobody posts any more.
func (w *worker) abandon() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.ready, w.paced, w.lagging = nil, nil, nil
	w.delivered(int(w.bytes.Load()))
}

// awaitEmpty returns when everything was delivered, or when the context ends. What is published, and then the end of a
// connection or subscription, shall come in this order.
func (w *worker) awaitEmpty(ctx context.Context) {
	w.mu.Lock()
	if w.bytes.Load() == 0 {
		w.mu.Unlock()
		return
	}
	if w.empty == nil {
		w.empty = make(chan struct{})
	}
	empty := w.empty
	w.mu.Unlock()
	select {
	case <-empty:
	case <-ctx.Done():
	}
}

// full reports whether brokers may add nothing more, and then sees to it that the room catches up.
func (w *worker) full(r *room) bool {
	if w.bytes.Load() <= 2*maxInbox {
		return false
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.bytes.Load() <= 2*maxInbox {
		return false // nobody would call it any more
	}
	w.lagging = append(w.lagging, r)
	return true
}

// reserve keeps room in the inboxes for what a publisher is about to post, until unreserve, if there is room.
func (w *worker) reserve(size int) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.taken() > maxInbox {
		return false
	}
	w.reserved += size
	return true
}

func (w *worker) unreserve(size int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.reserved -= size
	if w.taken() <= maxInbox {
		w.spaceFreed()
	}
}

// taken is what is in the inboxes, being delivered, or kept for publishers. The lock is held.
func (w *worker) taken() int { return int(w.bytes.Load()) + w.reserved }

// awaitRoom returns when reserve may find room, or [ErrClosed] when stop is closed.
func (w *worker) awaitRoom(ctx context.Context, stop <-chan struct{}) error {
	return w.awaitSpace(ctx, stop, w.taken)
}

// awaitCaughtUp returns when what is in the inboxes or being delivered is not too much, or [ErrClosed] when stop is closed.
func (w *worker) awaitCaughtUp(ctx context.Context, stop <-chan struct{}) error {
	return w.awaitSpace(ctx, stop, func() int { return int(w.bytes.Load()) })
}

func (w *worker) awaitSpace(ctx context.Context, stop <-chan struct{}, used func() int) error {
	for {
		w.mu.Lock()
		if used() <= maxInbox {
			w.mu.Unlock()
			return nil
		}
		if w.space == nil {
			w.space = make(chan struct{})
		}
		space := w.space
		w.mu.Unlock()
		select {
		case <-space:
		case <-stop:
			return ErrClosed
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// spaceFreed wakes those who wait for room. The lock is held.
func (w *worker) spaceFreed() {
	if w.space != nil {
		close(w.space)
		w.space = nil
	}
}

// pacedAudiences is a heap by due time; worker.mu guards it.
type pacedAudiences []*audience

var _ heap.Interface = (*pacedAudiences)(nil)

func (p pacedAudiences) Len() int           { return len(p) }
func (p pacedAudiences) Less(i, j int) bool { return p[i].due < p[j].due }
func (p pacedAudiences) Swap(i, j int) {
	p[i], p[j] = p[j], p[i]
	p[i].place, p[j].place = i, j
}

func (p *pacedAudiences) Push(x any) {
	a := x.(*audience)
	a.place = len(*p)
	*p = append(*p, a)
}

func (p *pacedAudiences) Pop() any {
	old := *p
	last := len(old) - 1
	a := old[last]
	old[last] = nil
	a.place = -1
	*p = old[:last]
	return a
}
