package fanfare

import (
	"sync"
	"time"
)

// audience is the part of a channel's subscribers whose connections one worker owns, with what waits for them.
type audience struct {
	room   *room
	worker *worker

	size int // of subs, as the room knows it; room.mu guards it

	// worker.mu guards these.
	inbox      []*broadcast // in the channel's order
	inboxBytes int
	listed     bool // something is under way: waiting its turn, or being delivered
	waited     bool // it was in worker.paced
	place      int  // in worker.paced, or -1
	due        time.Duration
	pace       pace

	batch *batch // half delivered; worker.busy guards it

	mu     sync.Mutex // guards below
	subs   []*subscription
	cursor int // those before it have been served in the pass under way
}

// minSubs is the length of a list of subscribers that is kept when they have gone.
const minSubs = 64

// add lets a subscription take part. Whoever joins during a pass is served at its end, and finds that the batch is older.
func (a *audience) add(s *subscription) {
	a.mu.Lock()
	defer a.mu.Unlock()
	s.index = len(a.subs)
	a.subs = append(a.subs, s)
}

// remove takes a subscription out in constant time, so that those served stay before the cursor and the others behind it.
func (a *audience) remove(s *subscription) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if s.index < a.cursor {
		a.cursor--
		a.swap(s.index, a.cursor)
	}
	last := len(a.subs) - 1
	a.swap(s.index, last)
	a.subs[last] = nil
	a.subs = a.subs[:last]
	if cap(a.subs) > minSubs && last < cap(a.subs)/4 { // far from where it grows again
		a.subs = append(make([]*subscription, 0, cap(a.subs)/2), a.subs...)
	}
}

func (a *audience) swap(i, j int) {
	a.subs[i], a.subs[j] = a.subs[j], a.subs[i]
	a.subs[i].index, a.subs[j].index = i, j
}

// next copies the subscriptions that are to be served next. When there are none, the pass is over.
func (a *audience) next(into []*subscription) int {
	a.mu.Lock()
	defer a.mu.Unlock()
	n := copy(into, a.subs[a.cursor:])
	a.cursor += n
	if n == 0 {
		a.cursor = 0
	}
	return n
}
