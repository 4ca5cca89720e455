package fanfare

import (
	"maps"
	"sync/atomic"
)

// Stats is what a node holds at one moment. Its numbers are not all of exactly the same moment.
type Stats struct {
	// Connections is the number of connections whose user is known, by the name of their transport. A transport that
	// connections once came by stays, with 0.
	Connections map[string]int
	// Connecting is the number of connections whose user is not known: they have not sent their connect command yet, or it is
	// being answered, or it was refused a moment ago.
	Connecting int
	// Users is the number of users with connections here. All that are anonymous count as one.
	Users int
	// Channels is the number of channels with subscribers here.
	Channels int
	// Subscriptions is the number of subscriptions, by the pattern that was given to [Node.Channel]. Every pattern is there.
	Subscriptions map[string]int
	// Queued and QueuedBytes are what is queued for connections that do not take it at once: messages, all pushes and replies,
	// and their length. What a connection is being written is not counted.
	Queued, QueuedBytes int
	// UndeliveredBytes is the size of publications, and of joins and leaves, that wait for the fan-out or are in the midst of it.
	// The same publication counts once for each core.
	UndeliveredBytes int
	// Hooks is the number of hooks that are running.
	Hooks int
}

// Stats counts. It looks at no single connection, channel or subscription, so that it is cheap on a node with many: it may be
// called every second. After [Node.Shutdown] everything is 0, but for hooks that hang.
func (n *Node) Stats() Stats {
	s := Stats{Channels: n.hub.Len(), Subscriptions: make(map[string]int)}
	n.mu.RLock()
	s.Connections = maps.Clone(n.connected)
	s.Connecting, s.Users = n.strangers, len(n.clients.users)
	declared := n.declarations // it only grows
	n.mu.RUnlock()
	for _, d := range declared {
		s.Subscriptions[d.pattern] = int(d.subscriptions.Load())
	}
	for _, w := range n.workers {
		s.Queued += int(w.queued.messages.Load())
		s.QueuedBytes += int(w.queued.bytes.Load())
		s.UndeliveredBytes += int(w.bytes.Load())
	}
	n.hooks.mu.Lock()
	s.Hooks = len(n.hooks.running)
	n.hooks.mu.Unlock()
	return s
}

// Pattern returns the pattern, as given to [Node.Channel], that a channel falls under; ok is false if none does. It waits for
// nobody and allocates nothing, and so is the one method that an [Observer] may call.
func (n *Node) Pattern(channel string) (pattern string, ok bool) {
	d, _, ok := n.channels.Lookup(channel)
	if !ok {
		return "", false
	}
	return d.pattern, true
}

// queueTotal sums up the queues of the connections of one worker. Adding to it costs little because it is mostly that worker
// who does. A nil queueTotal counts nothing.
type queueTotal struct {
	_               [64]byte // on a line of the cache that belongs to nothing else, together with the one behind
	messages, bytes atomic.Int64
	_               [64]byte
}

func (t *queueTotal) add(messages, bytes int) {
	if t != nil && messages != 0 {
		t.messages.Add(int64(messages))
		t.bytes.Add(int64(bytes))
	}
}

// The outgoing queue is changed by these only, so that the sum of all is right. outgoing.mu is held.

func (o *outgoing) enqueue(frame []byte, s *subscription) {
	o.queue.Push(frame, s)
	o.total.add(1, len(frame))
}

func (o *outgoing) dequeue(buf []byte, max int) (frames []byte, n int) {
	frames, n = o.queue.Take(buf, max)
	o.total.add(-n, -len(frames))
	return frames, n
}

func (o *outgoing) dropOldest(s *subscription, want int) (dropped, bytes int) {
	dropped, bytes = o.queue.DropOldest(s, want)
	o.total.add(-dropped, -bytes)
	return dropped, bytes
}

func (o *outgoing) dropAll(s *subscription) (dropped, bytes int) {
	dropped, bytes = o.queue.DropAll(s)
	o.total.add(-dropped, -bytes)
	return dropped, bytes
}

func (o *outgoing) discard() {
	o.total.add(-o.queue.Len(), -o.queue.Bytes())
	o.queue.Reset()
}
