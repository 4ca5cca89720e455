package fanfare

import (
	"maps"
	"slices"
	"sync"
	"time"
)

// attendances count the clients that each user has in a channel on this node, and hold back the leaves of users that may be back
// in a moment: for channels with [ChannelOptions.PresenceGrace] or [ChannelOptions.JoinLeavePerUser]. What the other nodes have is
// told by a [UserPresence]; without one, each node goes by its own count.
//
// Anonymous clients are nobody in particular: they come and go at once.
type attendances struct {
	mu     sync.Mutex // guards below
	byUser map[presenceKey]*attendance
}

type presenceKey struct{ channel, user string }

// attendance is what is known of one user in one channel. Whoever changes it holds it until the others were told, or they
// could hear of a leave and a join in the wrong order.
type attendance struct {
	key   presenceKey
	users int // that hold it or wait to; attendances.mu guards it

	lock   chan struct{} // of one slot: held across calls of presence and broker, each of which is bounded; guards below
	inVain time.Time     // when a join has waited for other nodes that did not answer; zero if none has
	again  bool          // the next who comes is told of even if others may know
	told   bool          // where joins and leaves are per user: others know that the user is there, or another node tells them

	// These are changed by who holds the above, and attendances.mu.
	clients int        // whose coming was told, or would have been
	away    *departure // held back

	entering int // clients that may be in the presence already; attendances.mu guards it
}

// departure is a leave that is held back: the presence entry stays until the timer fires.
type departure struct {
	info      ClientInfo
	announced bool // others were told of the join
	perUser   bool
	shared    bool // the presence counts the user's clients on all nodes
	timer     *time.Timer
}

// hold returns a user's attendance, locked; release gives it back.
func (a *attendances) hold(k presenceKey) *attendance {
	a.mu.Lock()
	u := a.of(k)
	u.users++
	a.mu.Unlock()
	u.lock <- struct{}{}
	return u
}

// of returns a user's attendance, made if need be. The lock is held.
func (a *attendances) of(k presenceKey) *attendance {
	u := a.byUser[k]
	if u == nil {
		u = &attendance{key: k, lock: make(chan struct{}, 1)}
		if a.byUser == nil {
			a.byUser = make(map[presenceKey]*attendance)
		}
		a.byUser[k] = u
	}
	return u
}

func (a *attendances) release(u *attendance) {
	<-u.lock
	a.mu.Lock()
	defer a.mu.Unlock()
	u.users--
	a.forget(u)
}

// forget lets go of an attendance of which there is nothing to know. The lock is held.
func (a *attendances) forget(u *attendance) {
	if u.users == 0 && u.clients == 0 && u.entering == 0 && u.away == nil {
		delete(a.byUser, u.key)
	}
}

// enter notes that a client is put into the presence, until enter(k, -1).
func (a *attendances) enter(k presenceKey, by int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	u := a.of(k)
	u.entering += by
	a.forget(u)
}

// change changes what is known of a user whose attendance is held. It returns who was away, and how many of the user's clients this
// node has in the presence.
func (a *attendances) change(u *attendance, by int, away *departure) (back *departure, here int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	back = u.away
	u.clients, u.away = u.clients+by, away
	return back, u.here()
}

// here is how many clients of the user this node has in the presence.
func (a *attendances) here(u *attendance) int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return u.here()
}

// here is how many clients of the user this node has in the presence. attendances.mu is held.
func (u *attendance) here() int {
	n := u.clients + u.entering
	if u.away != nil {
		n++
	}
	return n
}

// look returns how many clients of a user this node has in the presence, and whether one is away.
func (a *attendances) look(k presenceKey) (clients int, away bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if u := a.byUser[k]; u != nil {
		return u.here(), u.away != nil
	}
	return 0, false
}

// keys returns whom it knows.
func (a *attendances) keys() []presenceKey {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.Collect(maps.Keys(a.byUser))
}
