package fanfare

import (
	"container/heap"
	"sync"
	"time"
)

// memoryIdle lists the channels that have a stream but neither publications nor subscribers, by the time of last use.
// Membership changes only while the channel is locked too.
type memoryIdle struct {
	max int // negative is no limit

	mu             sync.Mutex // guards below
	oldest, newest *memoryChannel
	n              int
}

// touch makes c, which is locked, the newest. It reports whether there are now too many.
func (i *memoryIdle) touch(c *memoryChannel) bool {
	i.mu.Lock()
	defer i.mu.Unlock()
	if c.idle {
		i.unlink(c)
	}
	c.idle = true
	c.older = i.newest
	if i.newest != nil {
		i.newest.newer = c
	} else {
		i.oldest = c
	}
	i.newest = c
	i.n++
	return i.full()
}

// remove takes c, which is locked, out of the list if it is there.
func (i *memoryIdle) remove(c *memoryChannel) {
	if !c.idle {
		return // the common case, without the lock that all channels share
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	i.unlink(c)
}

// surplus returns the oldest channel while there are too many.
func (i *memoryIdle) surplus() *memoryChannel {
	i.mu.Lock()
	defer i.mu.Unlock()
	if !i.full() {
		return nil
	}
	return i.oldest
}

// evict takes c, which is locked, out of the list if it is still the one to go.
func (i *memoryIdle) evict(c *memoryChannel) bool {
	i.mu.Lock()
	defer i.mu.Unlock()
	if !i.full() || i.oldest != c {
		return false
	}
	i.unlink(c)
	return true
}

func (i *memoryIdle) full() bool { return i.max >= 0 && i.n > i.max }

func (i *memoryIdle) unlink(c *memoryChannel) {
	if c.older != nil {
		c.older.newer = c.newer
	} else {
		i.oldest = c.newer
	}
	if c.newer != nil {
		c.newer.older = c.older
	} else {
		i.newest = c.older
	}
	c.older, c.newer, c.idle = nil, nil, false
	i.n--
}

// sweepPause is the least time between two sweeps, so that channels whose time comes one by one are done in batches.
const sweepPause = time.Second

// memorySweeper calls expire for channels at the time they asked for, or up to a sweepPause later. Its timer runs only
// while a channel is scheduled.
type memorySweeper struct {
	expire func(*memoryChannel)

	running sync.Mutex // held during a sweep

	mu     sync.Mutex // guards below
	closed bool
	queue  sweepQueue
	timer  *time.Timer
	wake   time.Time // when the timer fires; zero if it does not
	last   time.Time // the last sweep
}

// schedule makes the sweeper come to c at the given time, instead of when it would have come before.
func (s *memorySweeper) schedule(c *memoryChannel, at time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return
	}
	c.sweepAt = at
	if c.index >= 0 {
		heap.Fix(&s.queue, c.index)
	} else {
		heap.Push(&s.queue, c)
	}
	s.arm()
}

// cancel makes the sweeper not come to c.
func (s *memorySweeper) cancel(c *memoryChannel) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if c.index >= 0 {
		heap.Remove(&s.queue, c.index)
	}
	s.arm()
}

// stop ends the sweeper, after the sweep under way.
func (s *memorySweeper) stop() {
	s.running.Lock()
	defer s.running.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed, s.queue = true, nil
	if s.timer != nil {
		s.timer.Stop()
	}
}

// run is the timer's function. A run that comes too early finds nothing and sets the timer again.
func (s *memorySweeper) run() {
	s.running.Lock()
	defer s.running.Unlock()

	s.mu.Lock()
	now := time.Now()
	s.wake, s.last = time.Time{}, now
	var due []*memoryChannel
	for len(s.queue) > 0 && !s.queue[0].sweepAt.After(now) {
		due = append(due, heap.Pop(&s.queue).(*memoryChannel))
	}
	s.mu.Unlock()

	for _, c := range due {
		s.expire(c)
	}

	s.mu.Lock()
	s.arm()
	s.mu.Unlock()
}

// arm sets the timer to the first time in the queue.
func (s *memorySweeper) arm() {
	switch {
	case s.closed:
	case len(s.queue) == 0:
		if !s.wake.IsZero() {
			s.timer.Stop()
			s.wake = time.Time{}
		}
	default:
		wake := s.queue[0].sweepAt
		if earliest := s.last.Add(sweepPause); wake.Before(earliest) {
			wake = earliest
		}
		if !s.wake.IsZero() && !wake.Before(s.wake) {
			return
		}
		s.wake = wake
		if s.timer == nil {
			s.timer = time.AfterFunc(time.Until(wake), s.run)
		} else {
			s.timer.Reset(time.Until(wake))
		}
	}
}

// sweepQueue is a heap of channels by sweepAt.
type sweepQueue []*memoryChannel

func (q sweepQueue) Len() int           { return len(q) }
func (q sweepQueue) Less(i, j int) bool { return q[i].sweepAt.Before(q[j].sweepAt) }

func (q sweepQueue) Swap(i, j int) {
	q[i], q[j] = q[j], q[i]
	q[i].index, q[j].index = i, j
}

func (q *sweepQueue) Push(x any) {
	c := x.(*memoryChannel)
	c.index = len(*q)
	*q = append(*q, c)
}

func (q *sweepQueue) Pop() any {
	last := len(*q) - 1
	c := (*q)[last]
	(*q)[last] = nil
	*q, c.index = (*q)[:last], -1
	return c
}
