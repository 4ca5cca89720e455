package fanfare

import (
	"sync"
	"time"

	"github.com/fanfare-go/fanfare/internal/outbox"
	"github.com/fanfare-go/fanfare/transport"
)

// outgoing is the writing side of a client: a bounded queue of frames, and whoever empties it.
//
// One flusher at a time empties the queue: the worker that owns the connection, with writes that never block; or, where those
// are not to be had or the socket is full, a goroutine that lives until the queue is empty. Whoever has a frame when nothing
// is queued and nobody writes is the flusher for as long as it takes to write that one; the client's runner is, while it
// collects replies. The flusher is whoever set flushing.
type outgoing struct {
	try transport.TryWriter // nil if the connection cannot

	mu       sync.Mutex // guards below
	queue    outbox.Queue[*subscription]
	wrote    time.Duration // when publications were last written at once, on the worker's clock
	flushing bool
	blocked  bool            // a goroutine waits for the socket to take data
	held     bool            // nobody writes yet: the worker will, a little later, or whoever queues a reply
	corked   bool            // nobody writes yet: the runner will, when it has collected some replies
	closed   bool            // nothing is queued any more
	owing    bool            // drained is not empty
	empty    chan struct{}   // not nil once closed: closed when everything is written
	drained  []*subscription // whose messages were dropped: to be told when the queue has drained

	conn  transport.Conn
	max   int // bytes
	total *queueTotal
}

// verdict is what became of a frame.
type verdict uint8

const (
	queued     verdict = iota
	toFlush            // queued, and the caller is the flusher
	collected          // queued, and the caller is the flusher, and writes what was collected
	claimed            // not queued: the caller is the flusher, and writes it
	refused            // the connection is closing
	overflow           // the queue is full, and takes nothing any more: the connection must be closed
	dropped            // dropped by the channel's policy
	gapPending         // the subscription was cut off, and is ended once the queue has drained
)

// push queues a frame, or makes the caller the flusher who is to write it; client.mu may be held. The caller passes frame and
// result to [Client.pushed] when it is not.
func (o *outgoing) push(frame []byte) verdict {
	o.mu.Lock()
	defer o.mu.Unlock()
	switch {
	case o.closed:
		return refused
	case o.queue.Bytes()+len(frame) > o.max+o.max/8 && o.queue.Len() > 0:
		o.closed = true
		return overflow
	case !o.flushing && o.queue.Len() == 0 && o.try != nil:
		o.flushing = true
		return claimed
	}
	o.enqueue(frame, nil)
	switch {
	case o.held, !o.flushing:
		o.held, o.flushing = false, true
		return toFlush
	case o.corked && o.heavy():
		o.corked = false
		return collected
	}
	return queued
}

// pushPublication queues a frame of a channel under its policy. If it is passing, it is no part of the stream that the subscription
// follows, and nothing that is may be dropped for it, nor the connection be closed.
func (o *outgoing) pushPublication(s *subscription, frame []byte, passing bool) (start bool, v verdict, drops int) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.closed {
		return false, refused, 0
	}
	policy := s.declared.options.SlowReader
	lossy := policy == SlowReaderDropOldest && !s.positioned
	size := o.queue.Bytes() + len(frame)
	freed := 0
	switch {
	case passing && (size > o.max/2 && o.queue.Len() > 0 || policy == SlowReaderKeepLatest && o.blocked):
		return false, dropped, 1
	case policy == SlowReaderKeepLatest && o.blocked:
		drops, freed = o.dropAll(s)
	case policy == SlowReaderKeepLatest:
		drops, freed = o.dropOldest(s, size-o.max)
	case lossy:
		// What may be dropped keeps to one half, or a message of another channel would find the queue full and close the
		// connection.
		drops, freed = o.dropOldest(s, size-o.max/2)
	}
	if size-freed > o.max && o.queue.Len() > 0 {
		switch {
		case lossy: // the queue is full of other channels' messages
			return false, dropped, drops + 1
		case policy == SlowReaderDropOldest:
			drops, _ = o.dropAll(s)
			o.drained, o.owing = append(o.drained, s), true
			return false, gapPending, drops + 1
		}
		// At once: if the client reads on before the connection is closed, what came behind this frame must not reach it.
		o.closed = true
		return false, overflow, drops // also of the policy that promised the newest
	}
	o.enqueue(frame, s)
	return o.due(), queued, drops
}

// due makes the caller the flusher of what it has queued, unless there is one, or the connection is held or corked and little
// waits. The lock is held.
func (o *outgoing) due() bool {
	start := !o.flushing || (o.held || o.corked) && o.heavy()
	if start {
		o.flushing, o.held, o.corked = true, false, false
	}
	return start
}

// heavy reports whether what waits is worth a write, or too much for a small queue to wait longer. The lock is held.
func (o *outgoing) heavy() bool { return o.queue.Bytes() >= min(enough, o.max/8) }

// room returns how much a reply may hold now so that it does not fill the queue, which is half of what is free, and how much it may
// when the queue is empty.
func (o *outgoing) room() (now, most int) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return max(0, o.max-o.queue.Bytes()) / 2, o.max / 2
}

// written reports whether everything that was queued has been handed to the connection.
func (o *outgoing) written() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return !o.flushing
}

// claim makes the caller, which is the client's worker, the flusher, if nothing is queued and nobody else is: it may then
// write what it has at once. If the last such write is no longer ago than spacing, claim holds the connection instead: what is
// queued from now on waits until the worker calls unhold.
func (o *outgoing) claim(now, spacing time.Duration) (claimed, held bool) {
	if o.try == nil {
		return false, false
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.closed || o.flushing || o.queue.Len() > 0 {
		return false, false
	}
	o.flushing = true
	if now-o.wrote < spacing {
		o.held = true
		return false, true
	}
	o.wrote = now
	return true, false
}

// cork makes the client's runner the flusher, if nobody is. What comes is then queued, until it is much, or the runner calls
// [Client.uncork].
func (o *outgoing) cork() {
	if o.try == nil {
		return // who writes for this connection may have to wait
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if !o.closed && !o.flushing {
		o.flushing, o.corked = true, true
	}
}

// uncork makes the runner the flusher of a connection that was corked, if it still is.
func (o *outgoing) uncork() (corked bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	corked, o.corked = o.corked, false
	return corked
}

// waiting is the length of what is queued.
func (o *outgoing) waiting() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.queue.Bytes()
}

// unhold makes the caller the flusher of a connection that was held, if it still is.
func (o *outgoing) unhold(now time.Duration) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	held := o.held
	o.held = false
	if held {
		o.wrote = now
	}
	return held
}
