package websocket

import (
	"runtime"
	"sync"
	"time"
)

const (
	// workersAtOnce is how many connections may be read at once before others wait. It is large, because a reader
	// that waits for its session is one of them.
	workersAtOnce = 256

	// stallCheck is how long others wait behind readers that all wait for their sessions.
	stallCheck = 5 * time.Millisecond

	// workerBuffer is what a worker reads into, for whichever connection it has.
	workerBuffer = 8 << 10
)

// pool runs ready connections on as few goroutines as make progress: each one that takes a connection wakes another if
// there is more to do, so that a blocked one stops nobody.
type pool struct {
	mu         sync.Mutex // guards below
	more       sync.Cond  // for workers that have nothing to do
	head, tail *dense     // linked by next
	workers    int
	starting   int // of the workers: have not looked for anything to do yet
	idle       int
	limit      int    // of workers; grows while something waits for long
	submitted  uint64 // connections put in, ever
	taken      uint64 // and taken out
	watched    bool   // a check for a stall is due
	closed     bool
}

func (p *pool) init() {
	p.more.L = &p.mu
	p.limit = workersAtOnce
}

// close lets the workers end.
func (p *pool) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = true
	p.more.Broadcast()
}

// submit queues connections that no worker has.
func (p *pool) submit(ready ...*dense) {
	if len(ready) == 0 {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.submitted += uint64(len(ready))
	for _, c := range ready {
		if p.tail == nil {
			p.head = c
		} else {
			p.tail.next = c
		}
		p.tail = c
	}
	p.help()
}

// help gets the queue one more worker. The caller holds mu.
func (p *pool) help() {
	switch {
	case p.idle > 0:
		p.more.Signal()
	case p.starting > 0: // it takes one, and gets help for the rest
	case p.workers < p.limit:
		p.workers++
		p.starting++
		go p.work() // ends when there is nothing to do
	case !p.watched:
		p.watched = true
		submitted := p.submitted
		time.AfterFunc(stallCheck, func() { p.check(submitted) })
	}
}

// check makes room for as many workers again if something still waits that was submitted before the check was set up.
func (p *pool) check(submitted uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.watched = false
	if p.head == nil {
		return
	}
	if p.taken < submitted {
		p.limit *= 2
	}
	p.help()
}

// workers are used again: while connections come and go one by one, so do the goroutines.
var workers = sync.Pool{New: func() any { return &worker{buffer: make([]byte, workerBuffer)} }}

func (p *pool) work() {
	defer p.left() // also when a session ends the goroutine
	c := p.begin()
	if c == nil {
		return
	}
	w := workers.Get().(*worker)
	for ; c != nil; c = p.take() {
		c.run(w)
	}
	workers.Put(w)
}

// begin is the take of a worker that has just started.
func (p *pool) begin() *dense {
	p.mu.Lock()
	p.starting--
	p.mu.Unlock()
	return p.take()
}

// take waits for a connection. It returns nil if there are idle workers enough.
func (p *pool) take() *dense {
	p.mu.Lock()
	defer p.mu.Unlock()
	for p.head == nil {
		if p.closed || p.idle >= runtime.GOMAXPROCS(0) {
			return nil
		}
		p.idle++
		p.more.Wait()
		p.idle--
	}
	c := p.head
	p.head, c.next = c.next, nil
	if p.head == nil {
		p.tail = nil
	}
	p.taken++
	if p.head != nil {
		p.help()
	}
	return c
}

func (p *pool) left() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.workers--
	if p.workers <= workersAtOnce {
		p.limit = workersAtOnce
	}
	if p.head != nil {
		p.help()
	}
}
