package redisbroker

import (
	"context"
	"errors"
	"sync"

	"github.com/fanfare-go/fanfare"
)

// Presence is the [fanfare.Presence] of a [Broker]. A member belongs to a node, and counts as long as that has a lease: the members of
// a node that died vanish together. All methods are safe for concurrent use.
type Presence struct {
	broker *Broker

	mu     sync.Mutex // guards below
	closed bool
	nodes  map[string]bool // that have put somebody in
	stops  []func()        // end watches
}

var (
	_ fanfare.Presence        = (*Presence)(nil)
	_ fanfare.PresenceScanner = (*Presence)(nil)
	_ fanfare.PresenceWatcher = (*Presence)(nil)
	_ fanfare.UserPresence    = (*Presence)(nil)
)

// Presence returns the presence that is kept where the broker keeps its channels. Closing it leaves the broker open; it ends with the
// broker.
func (b *Broker) Presence() *Presence { return &Presence{broker: b, nodes: make(map[string]bool)} }

// keeper returns the keeper of the server that a channel lives on.
func (p *Presence) keeper(ctx context.Context, channel string) (*keeper, error) {
	if err := p.open(ctx); err != nil {
		return nil, err
	}
	return p.broker.shard(channel).keeper, nil
}

func (p *Presence) open(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return fanfare.ErrClosed
	}
	return nil
}

// Add implements [fanfare.Presence].
func (p *Presence) Add(ctx context.Context, node, channel string, m fanfare.ClientInfo) error {
	_, err := p.AddCounted(ctx, node, channel, m)
	return err
}

// AddCounted implements [fanfare.UserPresence]. Clients of a node that died count until they are taken out.
func (p *Presence) AddCounted(ctx context.Context, node, channel string, m fanfare.ClientInfo) (clients int, err error) {
	k, err := p.keeper(ctx, channel)
	if err != nil {
		return 0, err
	}
	if err := p.hold(ctx, k, node); err != nil {
		return 0, err
	}
	d := debt{placeKey{kindMembers, channel}, m.Client}
	err = k.put(ctx, node, forMembers, d, m, func(inc string) (bool, error) {
		clients, err = k.addMember(ctx, inc, channel, m)
		return true, err
	})
	return clients, err
}

// hold begins the leases of a node with its first member.
func (p *Presence) hold(ctx context.Context, k *keeper, node string) error {
	if !k.holdsFor(node, forMembers) {
		if err := p.broker.leases.acquire(ctx, node, forMembers); err != nil {
			return err
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return fanfare.ErrClosed
	}
	p.nodes[node] = true
	return nil
}

// Remove implements [fanfare.Presence].
func (p *Presence) Remove(ctx context.Context, node, channel, client string) error {
	_, err := p.RemoveCounted(ctx, node, channel, client)
	return err
}

// RemoveCounted implements [fanfare.UserPresence], as AddCounted does.
func (p *Presence) RemoveCounted(ctx context.Context, node, channel, client string) (clients int, err error) {
	k, err := p.keeper(ctx, channel)
	if err != nil {
		return 0, err
	}
	d := debt{placeKey{kindMembers, channel}, client}
	err = k.take(node, d, func(string) error {
		clients, err = k.removeMember(ctx, node, channel, client)
		return err
	})
	return clients, err
}

// Stats implements [fanfare.Presence]. Clients of a node that died count no more as soon as its lease is over; a user who had only such
// clients, until they are taken out, moments later.
func (p *Presence) Stats(ctx context.Context, channel string) (fanfare.PresenceStats, error) {
	k, err := p.keeper(ctx, channel)
	if err != nil {
		return fanfare.PresenceStats{}, err
	}
	c, err := k.memberCounts(ctx, channel)
	if err != nil {
		return fanfare.PresenceStats{}, err
	}
	v, err := k.judgeChannel(ctx, channel, c.incs)
	if err != nil {
		return fanfare.PresenceStats{}, err
	}
	var stats fanfare.PresenceStats
	for i, inc := range c.incs {
		if v.alive(inc) {
			stats.Clients += c.counts[i]
		}
	}
	stats.Users = min(c.users, stats.Clients)
	return stats, nil
}

// RemoveNode implements [fanfare.Presence]. Nobody is told of the members, as those who watch for dead nodes would be.
func (p *Presence) RemoveNode(ctx context.Context, node string) error {
	if err := p.open(ctx); err != nil {
		return err
	}
	err := p.broker.leases.removeMembers(ctx, node)
	for _, s := range p.broker.shards {
		err = errors.Join(err, s.keeper.removeForeign(ctx, node))
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.nodes, node)
	return err
}

// WatchDead implements [fanfare.PresenceWatcher]. A call has at most 500 members, and a slow one delays the sweeping. If a watcher's
// process dies while it sweeps, nobody is told of the members that it has just taken out. A node that was out of reach for up to a day is
// told when its members are back: all of them, also if the sweeping had not come to all.
func (p *Presence) WatchDead(node string, gone, back func(channel string, members []fanfare.ClientInfo)) (stop func(), err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return nil, fanfare.ErrClosed
	}
	if stop, err = p.broker.leases.watch(&watcher{node: node, gone: gone, back: back}); err == nil {
		p.stops = append(p.stops, stop)
	}
	return stop, err
}

// Close implements [fanfare.Presence]. It takes out the members that it has put in.
func (p *Presence) Close() error {
	p.mu.Lock()
	nodes, stops, closed := p.nodes, p.stops, p.closed
	p.closed, p.nodes, p.stops = true, nil, nil
	p.mu.Unlock()
	if closed {
		return nil
	}
	for _, stop := range stops {
		stop()
	}
	ctx, cancel := context.WithTimeout(context.Background(), p.broker.config.Timeout)
	defer cancel()
	var err error
	for node := range nodes {
		err = errors.Join(err, p.broker.leases.removeMembers(ctx, node))
	}
	if errors.Is(err, fanfare.ErrClosed) { // so is the broker
		return nil
	}
	return err
}

// removeMembers takes out the members that a node of this broker has, and ends its leases if it is not attached.
func (l *leases) removeMembers(ctx context.Context, node string) error {
	if err := l.lock(ctx); err != nil {
		return err
	}
	defer l.unlock()
	var err error
	for _, s := range l.broker.shards {
		err = errors.Join(err, s.keeper.end(ctx, node, forMembers))
	}
	return err
}

// removeForeign takes out what a node has put in through other brokers, which find out that this was on purpose.
func (k *keeper) removeForeign(ctx context.Context, node string) error {
	v, err := k.refresh(ctx)
	if err != nil {
		return err
	}
	k.mu.Lock()
	var own string
	if h := k.holdings[node]; h != nil {
		own = h.inc
	}
	k.mu.Unlock()
	for inc := range v.ends {
		if nodeOf(inc) != node || inc == own {
			continue
		}
		if _, err := k.shard.run(ctx, leaseEnd, k.keys, []string{milliseconds(k.lease), milliseconds(10 * k.lease), inc}); err != nil {
			return err
		}
		if err := (&sweep{keeper: k, inc: inc}).run(ctx); err != nil {
			return err
		}
	}
	return nil
}
