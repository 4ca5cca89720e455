package fanfare

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"slices"
	"sync"
	"time"
)

// connectionCount counts the connections of users at the broker, for [Config.MaxUserConnections].
type connectionCount struct {
	counter ConnectionCounter // nil if the node counts alone

	wake chan struct{} // of the debtor; one slot

	mu      sync.Mutex // guards below
	owed    []debt
	failing bool // the broker does not count, and that was logged
}

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
	// owedPause is the time between two attempts to tell it.
	owedPause = time.Second
)

// newConnectionCount returns nil if there is no limit.
func (n *Node) newConnectionCount() *connectionCount {
	if n.config.MaxUserConnections == 0 {
		return nil
	}
	k := &connectionCount{wake: make(chan struct{}, 1)}
	if !n.ownsBroker { // else there are no other nodes
		k.counter, _ = n.broker.(ConnectionCounter)
	}
	return k
}

// countIn makes the client one of its user's connections, or says that there are too many. Operations on the user find the
// client already: who takes its place at the broker will look for it.
func (c *Client) countIn() error {
	k, user := c.node.connectionCount, c.User()
	if k == nil || user == "" {
		return nil
	}
	if k.counter == nil {
		return c.countHere()
	}
	counted, err := c.countAtBroker(k)
	if counted || err != nil {
		return err
	}
	err = c.countHere()
	k.owe(debt{c.counted(), err == nil}) // the broker may have counted it, or not
	return err
}

// countHere counts the client among those of this node.
func (c *Client) countHere() error {
	n := c.node
	oldest, err := c.takePlace()
	switch {
	case errors.Is(err, DisconnectConnectionLimit):
		return c.tooMany()
	case err != nil:
		return err
	case oldest != nil:
		n.offenders.note(n.log, "MaxUserConnections", c.User(), c.id)
		oldest.close(DisconnectConnectionLimit)
	}
	return nil
}

// takePlace returns the client whose place it took, if there was no room.
func (c *Client) takePlace() (oldest *Client, err error) {
	n := c.node
	n.mu.Lock()
	defer n.mu.Unlock()
	count := 0
	for other := range n.clients.user(c.User()) { // the newest first
		if l := &other.listing; l.counted && !l.replaced && !other.ctx.ended.Load() {
			count, oldest = count+1, other
		}
	}
	switch {
	case c.ctx.ended.Load():
		return nil, errGone
	case count < n.config.MaxUserConnections:
		oldest = nil
	case !n.config.ReplaceOldest:
		return nil, DisconnectConnectionLimit
	default:
		oldest.listing.replaced = true
	}
	c.listing.counted = true
	return oldest, nil
}

func (c *Client) tooMany() error {
	c.node.offenders.note(c.node.log, "MaxUserConnections", c.User(), c.id)
	return DisconnectConnectionLimit
}

// countAtBroker counts the client among those of all nodes. If the broker fails it does not: then the node counts its own.
func (c *Client) countAtBroker(k *connectionCount) (bool, error) {
	n, me := c.node, c.counted()
	ctx := c.call()
	defer ctx.end()
	a, err := k.counter.AddConnection(ctx, me, n.config.MaxUserConnections, n.config.ReplaceOldest)
	switch {
	case err != nil && c.ctx.Err() != nil:
		k.owe(debt{UserConnection: me}) // it may be counted nevertheless
		return false, errGone
	case err != nil:
		k.note(n.log, err)
		return false, nil
	}
	k.note(n.log, nil)
	switch {
	case !a.Admitted:
		return false, c.tooMany()
	case a.Replaced != UserConnection{}:
		n.offenders.note(n.log, "MaxUserConnections", me.User, me.Client)
		n.closeReplaced(a.Replaced)
	}
	n.mu.Lock()
	gone := c.ctx.ended.Load() // then its teardown may have passed by
	c.listing.counted = !gone
	n.mu.Unlock()
	if gone {
		k.remove(n, me)
		return false, errGone
	}
	return true, nil
}

// counted is how the broker knows the client.
func (c *Client) counted() UserConnection {
	return UserConnection{Node: c.node.id, User: c.User(), Client: c.id}
}

// countOut ends the counting of a client that is closing: its context has ended. It returns what is to be called, without
// waiting for it, to tell the broker, or nil.
func (c *Client) countOut() func() {
	n := c.node
	if n.connectionCount == nil {
		return nil
	}
	n.mu.Lock()
	counted := c.listing.counted
	c.listing.counted = false
	n.mu.Unlock()
	if !counted || n.connectionCount.counter == nil {
		return nil
	}
	return func() { n.connectionCount.remove(n, c.counted()) }
}

// remove tells the broker that a connection has ended, now or later.
func (k *connectionCount) remove(n *Node, c UserConnection) {
	ctx, cancel := context.WithTimeout(n.ctx, n.config.HookTimeout)
	defer cancel()
	if err := k.counter.RemoveConnection(ctx, c); err != nil && !errors.Is(err, ErrClosed) { // which forgets all that the node held
		k.note(n.log, err)
		k.owe(debt{UserConnection: c})
	}
}

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

// paid tells the broker what it is owed, and reports whether that is all.
func (k *connectionCount) paid(n *Node) bool {
	for {
		k.mu.Lock()
		if len(k.owed) == 0 {
			k.owed = nil
			k.mu.Unlock()
			return true
		}
		d := k.owed[0]
		k.mu.Unlock()
		err := k.pay(n, d)
		switch {
		case err == nil:
			k.note(n.log, nil)
		case !errors.Is(err, ErrClosed):
			return false
		}
		k.mu.Lock()
		if len(k.owed) > 0 && k.owed[0] == d {
			k.owed = k.owed[1:]
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

// opReplaced closes one connection, whose place at the broker another has taken.
const opReplaced = "replaced"

// closeReplaced closes a connection whose place was taken, on whatever node.
func (n *Node) closeReplaced(c UserConnection) {
	if c.Node == n.id {
		n.replaced(c.User, c.Client)
		return
	}
	// Owned by the node; bounded in time. The connect of the new one need not wait for it.
	n.goroutines.start(func() {
		m := controlMessage{Op: opReplaced, User: []byte(c.User), Client: c.Client}
		if err := n.tell(n.ctx, c.Node, m); err != nil {
			n.log.Error("a connection that was replaced is still open", slog.String("client", c.Client), slog.String("user", c.User), slog.Any("err", err))
		}
	})
}

// replaced closes a connection of this node.
func (n *Node) replaced(user, client string) {
	for _, c := range n.userClients(user, &selection{Client: &client}) {
		c.close(DisconnectConnectionLimit)
	}
}

// tell sends an operation to one node.
func (n *Node) tell(ctx context.Context, node string, m controlMessage) error {
	if err := n.send(ctx, node, &m); err != nil {
		return fmt.Errorf("fanfare: %s of user %q on node %q: %w", m.Op, m.User, node, err)
	}
	return nil
}
