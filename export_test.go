package fanfare

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"time"
)

// Residue is what a node holds on behalf of its clients. An idle node holds nothing.
type Residue struct {
	Clients, Users, Emulated, Rooms, Members, Attendances, Hooks, Goroutines, Returning int

	Counted int // what Stats counts of all this
}

// Residue counts. Members are those of the node's own presence; attendances are users whose clients are counted.
func (n *Node) Residue() Residue {
	var r Residue
	n.mu.RLock()
	r.Clients, r.Users, r.Emulated = len(slices.Collect(n.clients.all())), len(n.clients.users), len(n.emulated)
	n.mu.RUnlock()
	n.hooks.mu.Lock()
	r.Hooks = len(n.hooks.running)
	n.hooks.mu.Unlock()
	n.goroutines.mu.Lock()
	r.Goroutines = n.goroutines.running
	n.goroutines.mu.Unlock()
	r.Rooms = n.hub.Len()
	n.returns.mu.Lock()
	r.Returning = len(n.returns.waiting)
	n.returns.mu.Unlock()
	n.attendances.mu.Lock()
	r.Attendances = len(n.attendances.byUser)
	n.attendances.mu.Unlock()
	if p, ok := n.presence.(*MemoryPresence); ok {
		for i := range p.shards {
			s := &p.shards[i]
			s.mu.RLock()
			for _, c := range s.channels {
				r.Members += len(c.members)
			}
			s.mu.RUnlock()
		}
	}
	counted := n.Stats()
	counted.Hooks = 0 // they are in r already
	r.Counted = counted.Sum()
	return r
}

// Sum adds up everything, regardless of signs: it is 0 only if all is.
func (s Stats) Sum() (sum int) {
	for _, count := range s.Connections {
		sum += max(count, -count)
	}
	for _, count := range s.Subscriptions {
		sum += max(count, -count)
	}
	for _, count := range []int{s.Connecting, s.Users, s.Channels, s.Queued, s.QueuedBytes, s.UndeliveredBytes, s.Hooks} {
		sum += max(count, -count)
	}
	return sum
}

// Queues looks at every connection for what Stats has counted: messages and bytes that are queued.
func (n *Node) Queues() (messages, bytes int) {
	n.mu.RLock()
	defer n.mu.RUnlock()
	for c := range n.clients.all() {
		c.out.mu.Lock()
		messages += c.out.queue.Len()
		bytes += c.out.queue.Bytes()
		c.out.mu.Unlock()
	}
	return messages, bytes
}

// Connection returns the client with an id, or nil.
func (n *Node) Connection(id string) *Client {
	n.mu.RLock()
	defer n.mu.RUnlock()
	for c := range n.clients.all() {
		if c.id == id {
			return c
		}
	}
	return nil
}

// Ending is how the client's connection ends, or nil.
func (c *Client) Ending() *Disconnect {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.closing
}

// CommandsWaiting is how many commands wait in the client's queue.
func (c *Client) CommandsWaiting() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.commands == nil {
		return 0
	}
	return len(c.commands.waiting)
}

// QueuedBytes is how much is queued for the client.
func (c *Client) QueuedBytes() int {
	c.out.mu.Lock()
	defer c.out.mu.Unlock()
	return c.out.queue.Bytes()
}

// Pause makes the client's clock believe that the process stood still for d and has just gone on.
func (c *Client) Pause(d time.Duration) {
	c.mu.Lock()
	if c.clock.pongBy > 0 {
		c.clock.pongBy = max(1, c.clock.pongBy-moment(d))
	}
	c.mu.Unlock()
	c.tick()
}

// PublishUnbounded publishes as a broker does that another process publishes to: without waiting for this node's workers.
func (n *Node) PublishUnbounded(ctx context.Context, channel string, data []byte) {
	d, err := n.declared(channel)
	if err == nil {
		_, err = n.broker.Publish(ctx, channel, &Publication{Data: data}, StoreOptions{History: d.options.History})
	}
	if err != nil {
		panic(err)
	}
}

// HoldWrites makes the worker hold the client's connection, as it does under load, and reports whether it does.
func (c *Client) HoldWrites() bool {
	w := c.worker
	w.busy.Lock()
	defer w.busy.Unlock()
	w.now = w.clock()
	w.spacing = time.Hour
	w.claim(c, &batch{})
	w.spacing = 0
	c.out.mu.Lock()
	defer c.out.mu.Unlock()
	return c.out.held
}

// RecodeControl decodes a control message and, if it is one, checks that it is the same one encoded again.
func RecodeControl(data []byte) error {
	m, err := decodeControl(data)
	if err != nil {
		return nil
	}
	if m.Select != nil {
		m.Op = selectedPrefix + m.Op
	}
	once, err := json.Marshal(m)
	if err != nil {
		return nil // a time beyond the year 9999: no node sends it
	}
	if m, err = decodeControl(once); err != nil {
		return err
	}
	if m.Select != nil {
		m.Op = selectedPrefix + m.Op
	}
	twice, err := json.Marshal(m)
	if err == nil && !bytes.Equal(once, twice) {
		err = fmt.Errorf("%s became %s", once, twice)
	}
	return err
}

// UserRates is of how many users the node knows how many commands they sent.
func (n *Node) UserRates() int {
	known := 0
	for i := range n.rates.userCommands.shards {
		s := &n.rates.userCommands.shards[i]
		s.mu.Lock()
		known += len(s.young) + len(s.old)
		s.mu.Unlock()
	}
	return known
}

// Connections is how many connections the broker counts, of all users.
func (b *MemoryBroker) Connections() int {
	b.connections.mu.Lock()
	defer b.connections.mu.Unlock()
	counted := 0
	for _, c := range b.connections.users {
		counted += len(c)
	}
	return counted
}
