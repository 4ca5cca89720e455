package fanfare

import (
	"container/heap"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// workerSlice is how long a worker works before it lets others have the core. To step aside costs it some 5 µs.
	workerSlice = 200 * time.Microsecond
	// chunk is how many connections are served between two looks at the clock and at who has come or gone.
	chunk = 16
	// maxIdleClients is the largest list of clients that is kept for the next time: half a megabyte, so that a fan-out to
	// as many that are slow allocates nothing.
	maxIdleClients = 64 << 10
	// idleWait is how long a worker sleeps that has nothing to wait for.
	idleWait = time.Hour
)

// worker delivers to the connections it owns, with writes that never block: publications to the audiences of channels, and
// what is queued for single clients. A client belongs to one worker for life, so that what a channel has for many clients
// is joined once, and one busy channel uses every core.
//
// Lock order: worker.busy → audience.mu; worker.busy → subscription.mu → …; room.mu → worker.mu, which is a
// leaf but for the node's goroutine group.
type worker struct {
	index  int
	pacing pacing
	began  time.Time     // the zero of its clock
	wake   chan struct{} // holds a token when there is something to do

	busy    sync.Mutex           // held by whoever delivers: the worker's goroutine, or a publisher that found it idle; guards below
	buf     []byte               // for joining queued frames
	scratch [chunk]*subscription // the subscribers being served
	serving []*Client            // taken from clients; those from served on are still to be flushed
	served  int
	held    []heldClient  // in the order of their time
	now     time.Duration // as of the last look at the clock
	spacing time.Duration // between two writes of publications to a connection
	load    load

	bytes  atomic.Int64 // in the inboxes and being delivered; changed under mu
	queued queueTotal   // for the connections that it owns

	mu       sync.Mutex // guards below
	ready    []*audience
	paced    pacedAudiences // waiting for their time
	clients  []*Client      // that have something to write; each at most once
	reserved int            // bytes that publishers are about to post
	space    chan struct{}  // not nil while somebody waits for room in the inboxes; closed when there is some
	empty    chan struct{}  // not nil while somebody waits until everything is delivered; closed then
	lagging  []*room        // that dropped messages because the inboxes were full
}

// heldClient is a client whose connection was written a moment ago: what comes now is joined with what comes until due.
type heldClient struct {
	client *Client
	due    time.Duration
}

func newWorker(index int, budget time.Duration) *worker {
	return &worker{index: index, pacing: pacing{budget}, began: time.Now(), wake: make(chan struct{}, 1), buf: make([]byte, 0, maxJoin)}
}

func (w *worker) clock() time.Duration { return time.Since(w.began) }

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

// run is the worker's goroutine. It is owned by the node and ends when stop is closed.
func (w *worker) run(stop <-chan struct{}) {
	timer := time.NewTimer(idleWait)
	defer timer.Stop()
	var parker parker
	defer parker.close()
	for {
		w.busy.Lock()
		began := w.clock()
		more, wait := w.work(began)
		w.spacing = w.pacing.spacing(w.load.add(began, w.clock()))
		w.busy.Unlock()
		if more {
			select {
			case <-stop:
				return
			default:
				parker.park()
				continue
			}
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
func (w *worker) work(began time.Duration) (more bool, wait time.Duration) {
	until := began + workerSlice
	for w.now = began; w.now < until; w.now = w.clock() {
		w.release()
		a, wait := w.next()
		if a == nil && len(w.serving) == 0 {
			return false, wait
		}
		w.flush(w.now + (until-w.now)/2)
		if a != nil {
			w.deliver(a, until)
		}
	}
	return true, 0
}

// next returns the audience whose turn it is, if there is one, or how long to wait. It also takes over the clients that have
// something to write.
func (w *worker) next() (a *audience, wait time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.serving) == 0 {
		w.clients, w.serving = w.serving, w.clients
	} else if len(w.clients) > 0 { // others must not keep them out
		w.serving = append(w.serving, w.clients...)
		clear(w.clients)
		w.clients = w.clients[:0]
	}
	for len(w.paced) > 0 && w.paced[0].due <= w.now {
		w.ready = append(w.ready, heap.Pop(&w.paced).(*audience))
	}
	if len(w.ready) > 0 {
		a, w.ready[0] = w.ready[0], nil
		w.ready = w.ready[1:]
		return a, 0
	}
	wait = idleWait
	if len(w.paced) > 0 {
		wait = w.paced[0].due - w.now
	}
	if len(w.held) > 0 {
		wait = min(wait, w.held[0].due-w.now)
	}
	return nil, wait
}

// claim makes the worker the flusher of a client, if it may write the batch now.
func (w *worker) claim(c *Client, b *batch) bool {
	spacing := w.spacing
	if b.size >= enough || b.paced { // it is worth a write, or has waited already
		spacing = 0
	}
	claimed, held := c.out.claim(w.now, spacing)
	if held {
		w.held = append(w.held, heldClient{c, w.now + spacing})
	}
	return claimed
}

// release takes over the clients that have been held for long enough.
func (w *worker) release() {
	n := 0
	for n < len(w.held) && w.held[n].due <= w.now {
		if c := w.held[n].client; c.out.unhold(w.now) {
			w.serving = append(w.serving, c)
		}
		w.held[n] = heldClient{}
		n++
	}
	if w.held = w.held[n:]; len(w.held) == 0 {
		w.held = nil
	}
}

// flush writes what is queued for the clients that are being served, until the clock reads until.
func (w *worker) flush(until time.Duration) {
	for w.served < len(w.serving) {
		n := min(len(w.serving)-w.served, chunk)
		for i, c := range w.serving[w.served:][:n] {
			w.serving[w.served+i] = nil
			c.flush(w.buf)
		}
		w.served += n
		if w.clock() > until {
			break
		}
	}
	switch {
	case w.served == len(w.serving):
		w.serving, w.served = w.serving[:0], 0
		if cap(w.serving) > maxIdleClients {
			w.serving = nil
		}
	case w.served > len(w.serving)/2: // the list grows at its end
		n := copy(w.serving, w.serving[w.served:])
		clear(w.serving[n:])
		w.serving, w.served = w.serving[:n], 0
	}
}

// deliver hands an audience what waits for it, or goes on with that, and stops when the clock reads until; 0 is no end. It
// reports whether there is more, which is left to a caller that gave no end.
func (w *worker) deliver(a *audience, until time.Duration) (more bool) {
	began := w.clock()
	w.now = began
	if a.batch == nil {
		a.batch = w.take(a)
	}
	b := a.batch
	done := w.pass(a, b, until)
	b.cost += w.clock() - began
	if done {
		a.batch = nil
		b.finish()
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if done {
		a.pace.passed(b.cost)
		w.delivered(b.size)
	}
	switch {
	case !done:
		w.ready = append(w.ready, a)
	case len(a.inbox) == 0:
		a.listed = false
	case until == 0:
		return true
	default:
		w.list(a, w.now)
	}
	return false
}

// pass serves the subscribers of an audience one after the other. It holds no lock that others want for long: who comes or
// goes meanwhile is seen to by the audience's cursor.
func (w *worker) pass(a *audience, b *batch, until time.Duration) (done bool) {
	for {
		n := a.next(w.scratch[:])
		if n == 0 {
			return true
		}
		fetch(w.scratch[:n])
		served := int32(0)
		for i, s := range w.scratch[:n] {
			w.scratch[i] = nil
			if s.deliverBatch(w, b) {
				served++
			}
		}
		b.count += served
		if until > 0 && n == chunk {
			if w.now = w.clock(); w.now > until {
				return false
			}
		}
	}
}

// fetch brings what a delivery looks at into the cache: all of a chunk at once, where the deliveries themselves would wait for
// memory one after the other.
func fetch(subs []*subscription) {
	for _, s := range subs {
		if s.client.wireForm == nil {
			panic("fanfare: client without a form")
		}
	}
}
