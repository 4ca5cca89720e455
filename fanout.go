package fanfare

import (
	"container/heap"
	"context"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// workerSlice is how long a worker works before it lets others have the core, and workerPause for how long it then
	// parks: Gosched would not do, because it lets the run queue starve the network poller, and the app's own requests
	// with it.
	workerSlice = 500 * time.Microsecond
	workerPause = 20 * time.Microsecond
	// chunk is how many subscribers are served between two looks at the clock and at who has come or gone.
	chunk = 16
	// maxInbox bounds the bytes that wait for one worker: publishers wait for room beyond it. What brokers deliver all
	// the same is dropped beyond twice as much, and read from history later.
	maxInbox = 8 << 20
	// broadcastOverhead is what a waiting message counts beside its payload.
	broadcastOverhead = 128
	// maxIdleClients is the largest list of clients that is kept for the next time: half a megabyte, so that a fan-out to
	// as many that are slow allocates nothing.
	maxIdleClients = 64 << 10
	// inlineMax is the most subscribers that a publisher serves itself, if their worker is idle: the message then waits
	// for no other goroutine.
	inlineMax = 32
)

// worker delivers to the connections it owns, with writes that never block: publications to the audiences of channels, and
// what is queued for single clients. A client belongs to one worker for life, so that what a channel has for many clients
// is joined once, and one busy channel uses every core.
type worker struct {
	index  int
	budget time.Duration // see pace

	wake chan struct{} // holds a token when there is something to do

	busy    sync.Mutex           // held by whoever delivers: the worker's goroutine, or a publisher that found it idle; guards below
	buf     []byte               // for joining queued frames
	scratch [chunk]*subscription // the subscribers being served
	serving []*Client            // taken from clients; those from served on are still to be flushed
	served  int

	mu      sync.Mutex // guards below
	ready   []*audience
	paced   pacedAudiences // waiting for their time
	clients []*Client      // that have something to write; each at most once
	bytes   atomic.Int64   // in the inboxes; written under mu
	space   chan struct{}  // not nil while somebody waits for room; closed when there is some
	lagging []*room        // that dropped messages because the inboxes were full
}

func newWorker(index int, budget time.Duration) *worker {
	return &worker{index: index, budget: budget, wake: make(chan struct{}, 1), buf: make([]byte, 0, maxJoin)}
}

func (w *worker) rouse() {
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

// add makes sure that a client's queue is written. The caller has made the worker its flusher.
func (w *worker) add(c *Client) {
	w.mu.Lock()
	w.clients = append(w.clients, c)
	w.mu.Unlock()
	w.rouse()
}

// post puts a message into an audience's inbox. If the caller is willing it may be told to deliver it itself, by serve: the
// worker is idle, and the audience is small. The room's lock is held.
func (w *worker) post(a *audience, b *broadcast, willing bool) (inline bool) {
	inline = willing && a.size <= inlineMax && w.busy.TryLock()
	now := time.Now()
	w.mu.Lock()
	defer w.mu.Unlock()
	a.inbox = append(a.inbox, b)
	a.inboxBytes += b.size
	w.bytes.Add(int64(b.size))
	a.pace.arrived(now, w.budget)
	switch {
	case inline && !a.listed:
		a.listed = true
		return true
	case inline:
		w.busy.Unlock()
	case a.listed:
		if a.place >= 0 && a.inboxBytes >= enough {
			a.due = now
			heap.Fix(&w.paced, a.place)
			w.rouse()
		}
		return false
	}
	if !a.listed {
		a.listed = true
		w.list(a, now)
	}
	w.rouse()
	return false
}

// list enters an audience that has something to deliver. The lock is held.
func (w *worker) list(a *audience, now time.Time) {
	a.due = a.pace.due(now, w.budget)
	if a.due.After(now) && a.inboxBytes < enough {
		heap.Push(&w.paced, a)
		return
	}
	w.ready = append(w.ready, a)
}

// serve delivers what an audience has waiting, for a publisher to whom post gave the worker.
func (w *worker) serve(a *audience) {
	defer w.busy.Unlock()
	for w.deliver(a, time.Time{}) {
	}
	w.rouse() // for what has come meanwhile
}

// run is the worker's goroutine. It is owned by the node and ends when stop is closed.
func (w *worker) run(stop <-chan struct{}) {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		w.busy.Lock()
		more, wait := w.work()
		w.busy.Unlock()
		if more {
			select {
			case <-stop:
				return
			default:
			}
			time.Sleep(workerPause)
			continue
		}
		timer.Reset(wait)
		select {
		case <-w.wake:
		case <-timer.C:
		case <-stop:
			return
		}
	}
}

// work serves whoever is waiting, for the length of a slice. If there is nothing more to do it says how long that lasts.
func (w *worker) work() (more bool, wait time.Duration) {
	began := time.Now()
	until := began.Add(workerSlice)
	for now := began; now.Before(until); now = time.Now() {
		w.mu.Lock()
		for len(w.paced) > 0 && !w.paced[0].due.After(now) {
			w.ready = append(w.ready, heap.Pop(&w.paced).(*audience))
		}
		if len(w.serving) == 0 {
			w.clients, w.serving = w.serving, w.clients
		}
		var a *audience
		if len(w.ready) > 0 {
			a, w.ready[0] = w.ready[0], nil
			w.ready = w.ready[1:]
		}
		if len(w.serving) == 0 && a == nil {
			wait = time.Hour
			if len(w.paced) > 0 {
				wait = w.paced[0].due.Sub(now)
			}
			w.mu.Unlock()
			return false, wait
		}
		w.mu.Unlock()
		w.flush()
		if a != nil {
			w.deliver(a, until)
		}
	}
	return true, 0
}

// flush writes what is queued for some of the clients that are being served.
func (w *worker) flush() {
	n := min(len(w.serving)-w.served, chunk)
	for i, c := range w.serving[w.served:][:n] {
		w.serving[w.served+i] = nil
		c.flush(w.buf)
	}
	if w.served += n; w.served == len(w.serving) {
		w.serving, w.served = w.serving[:0], 0
		if cap(w.serving) > maxIdleClients {
			w.serving = nil
		}
	}
}

// deliver hands an audience what waits for it, or goes on with that, and stops at the end of the slice; the zero time is
// no end. It reports whether it stopped for want of subscribers to serve, with more in the inbox.
func (w *worker) deliver(a *audience, until time.Time) (more bool) {
	if a.batch == nil {
		a.batch = w.take(a)
	}
	b := a.batch
	began := time.Now()
	done := w.pass(a, b, until)
	b.cost += time.Since(began)
	if done {
		a.batch = nil
		b.finish()
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if done {
		a.pace.passed(b.cost)
	}
	switch {
	case !done:
		w.ready = append(w.ready, a)
	case len(a.inbox) == 0:
		a.listed = false
	case until.IsZero():
		return true
	default:
		w.list(a, time.Now())
	}
	return false
}

// pass serves the subscribers of an audience one after the other. It holds no lock that others want for long: who comes or
// goes meanwhile is seen to by the audience's cursor.
func (w *worker) pass(a *audience, b *batch, until time.Time) (done bool) {
	for {
		n := a.next(w.scratch[:])
		if n == 0 {
			return true
		}
		for i, s := range w.scratch[:n] {
			w.scratch[i] = nil
			s.deliverBatch(b)
		}
		if !until.IsZero() && time.Now().After(until) {
			return false
		}
	}
}

// take makes a batch of what waits for an audience.
func (w *worker) take(a *audience) *batch {
	w.mu.Lock()
	defer w.mu.Unlock()
	a.place = -1
	n, size := joinable(a.inbox)
	b := &batch{audience: a, items: a.inbox[:n:n]}
	if a.inbox = a.inbox[n:]; len(a.inbox) == 0 {
		a.inbox = nil
	}
	a.inboxBytes -= size
	w.bytes.Add(int64(-size))
	a.pace.began(time.Now())
	if w.bytes.Load() <= maxInbox/2 {
		if w.space != nil {
			close(w.space)
			w.space = nil
		}
		for _, r := range w.lagging {
			r.node.goroutines.start(r.catchUp)
		}
		w.lagging = nil
	}
	return b
}

// full reports whether brokers may add nothing more, and then sees to it that the room catches up.
func (w *worker) full(r *room) bool {
	if w.bytes.Load() <= 2*maxInbox {
		return false
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.bytes.Load() <= 2*maxInbox {
		return false // it would not be called any more
	}
	w.lagging = append(w.lagging, r)
	return true
}

// awaitSpace returns when the inboxes have room.
func (w *worker) awaitSpace(ctx context.Context) error {
	for w.bytes.Load() > maxInbox {
		w.mu.Lock()
		if w.bytes.Load() <= maxInbox {
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
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// pacedAudiences is a heap by due time; worker.mu guards it.
type pacedAudiences []*audience

func (p pacedAudiences) Len() int           { return len(p) }
func (p pacedAudiences) Less(i, j int) bool { return p[i].due.Before(p[j].due) }
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
