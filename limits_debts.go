package fanfare

import (
	"context"
	"errors"
	"log/slog"
	"math"
	"slices"
	"time"
)

// debt is what the broker is to be told of a connection.
type debt struct {
	UserConnection
	comes bool // that it is there, and not that it has ended
}

// uncountedLimit is the limit for connections that are there already: they are counted however many there are. It is a number that
// every broker can carry.
const uncountedLimit = math.MaxInt32

const (
	// maxOwed bounds what the broker is still to be told.
	maxOwed = 100_000
	// owedPause is the time between two attempts to tell it, which end when so many have failed.
	owedPause = time.Second
	maxUnpaid = 16
)

// note logs that the broker fails, and that it works again, once each.
func (k *connectionCount) note(log *slog.Logger, err error) {
	k.mu.Lock()
	changed := k.failing != (err != nil)
	k.failing = err != nil
	k.mu.Unlock()
	switch {
	case changed && err != nil:
		log.Error("the broker does not count connections: until it does, MaxUserConnections holds on each node alone", slog.Any("err", err))
	case changed:
		log.Info("the broker counts connections again")
	}
}

// owe remembers what the broker is to be told.
func (k *connectionCount) owe(d debt) {
	k.mu.Lock()
	if len(k.owed) == maxOwed {
		k.owed = slices.Delete(k.owed, 0, maxOwed/10)
	}
	k.owed = append(k.owed, d)
	k.mu.Unlock()
	select {
	case k.wake <- struct{}{}:
	default:
	}
}

// payDebts tells the broker what it could not be told in time, until the node stops.
func (n *Node) payDebts() {
	k := n.connectionCount
	for {
		select {
		case <-k.wake:
		case <-n.stop:
			return
		}
		for !k.paid(n) {
			select {
			case <-time.After(owedPause):
			case <-n.stop:
				return
			}
		}
	}
}

// paid tells the broker what it is owed, and reports whether that is all. What fails comes again behind all else: it may fail for long,
// because one of several servers is away for instance.
func (k *connectionCount) paid(n *Node) bool {
	for failed := 0; ; {
		k.mu.Lock()
		waiting := len(k.owed)
		if waiting == 0 {
			k.owed = nil
			k.mu.Unlock()
			return true
		}
		d := k.owed[0]
		k.mu.Unlock()
		if failed >= min(waiting, maxUnpaid) {
			return false
		}
		err := k.pay(n, d)
		again := err != nil && !errors.Is(err, ErrClosed)
		switch {
		case err == nil:
			k.note(n.log, nil)
		case again:
			failed++
		}
		k.mu.Lock()
		if len(k.owed) > 0 && k.owed[0] == d { // else it was dropped
			k.owed = k.owed[1:]
			if again {
				k.owed = append(k.owed, d)
			}
		}
		k.mu.Unlock()
	}
}

// pay tells the broker one thing. A connection that came while the broker was away, and has ended since, is no longer there.
func (k *connectionCount) pay(n *Node, d debt) error {
	ctx, cancel := context.WithTimeout(n.ctx, n.config.HookTimeout)
	defer cancel()
	if d.comes && n.counts(d.UserConnection) {
		if _, err := k.counter.AddConnection(ctx, d.UserConnection, uncountedLimit, false); err != nil {
			return err
		}
		if n.counts(d.UserConnection) { // else its end may have been told before
			return nil
		}
	}
	return k.counter.RemoveConnection(ctx, d.UserConnection)
}

// counts reports whether the node counts a connection.
func (n *Node) counts(c UserConnection) bool {
	n.mu.RLock()
	defer n.mu.RUnlock()
	for other := range n.clients.user(c.User) {
		if other.id == c.Client {
			return other.listing.counted
		}
	}
	return false
}
