package fanfare

import (
	"sync"
	"time"
)

// agenda calls clients when their time has come: one timer for all of them, where one per client would be a hundred bytes
// each. It is a heap by time; every client is in it at most once, at the time of its next duty or earlier. Earlier is
// harmless and saves work: a client that comes up too early finds nothing due, and enters the time that is right by then.
// So a pong that moves the next duty back, as most do, changes nothing here.
//
// Nodes have one for each worker, so that clients of different workers do not wait for the same lock.
type agenda struct {
	began time.Time // moments count from here
	tick  func(*Client)

	mu      sync.Mutex // a leaf; guards below
	entries []entry    // a heap; client.entered is the place in it, counted from 1
	timer   *time.Timer
	wakes   moment // when the timer fires; 0 if it does not
	stopped bool
}

// entry is a client's time.
type entry struct {
	at     moment
	client *Client
}

// moment is a time in nanoseconds since the node began, by the monotonic clock; 0 is never.
type moment int64

// newAgenda returns an agenda that calls tick, which must not block: others wait for their turn.
func newAgenda(tick func(*Client)) *agenda { return &agenda{began: time.Now(), tick: tick} }

func (a *agenda) moment(t time.Time) moment { return max(1, moment(t.Sub(a.began))) }

// enter makes sure that the client is called at a moment, or earlier. client.mu is held, here and by leave.
func (a *agenda) enter(c *Client, at moment) {
	a.mu.Lock()
	defer a.mu.Unlock()
	switch i := int(c.entered) - 1; {
	case a.stopped || i >= 0 && a.entries[i].at <= at:
		return
	case i >= 0:
		a.entries[i].at = at
		a.up(i)
	default:
		a.entries = append(a.entries, entry{at, c})
		a.up(len(a.entries) - 1)
	}
	a.setTimer()
}

// leave takes a client out.
func (a *agenda) leave(c *Client) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if c.entered > 0 && !a.stopped {
		a.remove(int(c.entered) - 1)
	}
}

// call calls everybody whose time has come. It is the timer's function.
func (a *agenda) call() {
	a.mu.Lock()
	a.wakes = 0
	for !a.stopped && len(a.entries) > 0 && a.entries[0].at <= a.moment(time.Now()) {
		c := a.entries[0].client
		a.remove(0)
		a.mu.Unlock()
		a.tick(c)
		a.mu.Lock()
	}
	a.setTimer()
	a.mu.Unlock()
}

// stop ends the agenda: it calls nobody any more.
func (a *agenda) stop() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.stopped = true
	if a.timer != nil {
		a.timer.Stop()
	}
	a.entries = nil
}

// setTimer sees to it that the timer fires in time for the first entry. The lock is held, here and below.
func (a *agenda) setTimer() {
	if a.stopped || len(a.entries) == 0 || a.wakes > 0 && a.wakes <= a.entries[0].at {
		return
	}
	a.wakes = a.entries[0].at
	wait := time.Duration(a.wakes) - time.Since(a.began)
	if a.timer == nil {
		a.timer = time.AfterFunc(wait, a.call)
		return
	}
	a.timer.Reset(wait)
}

func (a *agenda) remove(i int) {
	last := len(a.entries) - 1
	a.entries[i].client.entered = 0
	moved := a.entries[last]
	a.entries[last] = entry{}
	a.entries = a.entries[:last]
	if i < last {
		a.entries[i] = moved
		a.down(i)
		a.up(int(moved.client.entered) - 1)
	}
	if spare := cap(a.entries); spare > minAgenda && last < spare/4 {
		a.entries = append(make([]entry, 0, spare/2), a.entries...) // many have gone: so does their room
	}
}

const minAgenda = 1024

// up and down move an entry to where it belongs, and note where the entries on the way are now. Four children a node make
// the heap half as deep as two.
func (a *agenda) up(i int) {
	e := a.entries[i]
	for i > 0 {
		parent := (i - 1) / 4
		if a.entries[parent].at <= e.at {
			break
		}
		a.put(i, a.entries[parent])
		i = parent
	}
	a.put(i, e)
}

func (a *agenda) down(i int) {
	e := a.entries[i]
	for {
		first := 4*i + 1
		if first >= len(a.entries) {
			break
		}
		least := first
		for j := first + 1; j < min(first+4, len(a.entries)); j++ {
			if a.entries[j].at < a.entries[least].at {
				least = j
			}
		}
		if a.entries[least].at >= e.at {
			break
		}
		a.put(i, a.entries[least])
		i = least
	}
	a.put(i, e)
}

func (a *agenda) put(i int, e entry) {
	a.entries[i] = e
	e.client.entered = int32(i + 1)
}
