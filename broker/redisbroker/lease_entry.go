package redisbroker

import (
	"context"
	_ "embed"

	"github.com/redis/rueidis"

	"github.com/fanfare-go/fanfare"
)

var (
	//go:embed lease_index.lua
	leaseIndexSource string

	leaseIndex = rueidis.NewLuaScript(leaseIndexSource)
)

// put runs an operation that makes Redis know a client of a node under the incarnation that it gets. It reports whether the client
// is there then. The node's lease is held, and the place is in the index of the incarnation, before it runs; if the lease is lost
// meanwhile, it runs again. After an error the client is taken out later, unless it was there before.
func (k *keeper) put(ctx context.Context, node string, why purpose, d debt, info fanfare.ClientInfo, operation func(inc string) (bool, error)) error {
	h, p, inc, err := k.enter(ctx, node, why, d.place)
	if err != nil {
		return err
	}
	e := &entry{info: info} // enter has locked
	before := p.entries[d.client]
	p.entries[d.client] = e
	k.mu.Unlock()

	kept, err := operation(inc)
	for err == nil && kept && k.movedOn(h, inc) {
		if inc, err = k.enterAgain(ctx, h, why, d.place); err == nil {
			kept, err = operation(inc)
		}
	}

	k.mu.Lock()
	defer k.mu.Unlock()
	if new := before == nil || before.leaving; p.entries[d.client] == e && (!kept && err == nil || new && err != nil) {
		e.leaving = true
	}
	h.settle(d.place, p, d.client, e, !kept && err == nil, err)
	if err != nil {
		notify(k.mending)
	}
	return err
}

// movedOn reports whether a holding has another incarnation by now.
func (k *keeper) movedOn(h *holding, inc string) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return h.inc != inc
}

// enterAgain is enter for an operation that has entered a place before, and will settle.
func (k *keeper) enterAgain(ctx context.Context, h *holding, why purpose, key placeKey) (string, error) {
	now, p, inc, err := k.enter(ctx, h.node, why, key)
	if err != nil {
		return "", err
	}
	defer k.mu.Unlock()
	now.done(key, p)
	if now != h { // the node was detached meanwhile, and has come back
		return "", fanfare.ErrClosed
	}
	return inc, nil
}

// take runs an operation that makes Redis forget a client of a node. If it fails, it is tried again later.
func (k *keeper) take(node string, d debt, operation func(inc string) error) error {
	k.mu.Lock()
	h := k.holdings[node]
	if h == nil {
		k.mu.Unlock()
		return operation("")
	}
	inc, p := h.inc, h.place(d.place)
	e := p.entries[d.client]
	if e == nil { // it may be there nevertheless, from another process
		if len(p.entries) == 0 && p.busy == 0 {
			h.empty[d.place] = struct{}{}
		}
		k.mu.Unlock()
		return operation(inc)
	}
	e.leaving = true
	p.busy++
	k.mu.Unlock()
	err := operation(inc)
	k.mu.Lock()
	h.settle(d.place, p, d.client, e, true, err)
	k.mu.Unlock()
	return err
}

// enter makes sure that the node has a lease and that its index knows the place. If there is no error, the lock is held, and
// settle or done is to be called for the place in the end.
func (k *keeper) enter(ctx context.Context, node string, why purpose, key placeKey) (*holding, *place, string, error) {
	for {
		k.mu.Lock()
		h := k.holdings[node]
		if h == nil || h.why&why == 0 {
			k.mu.Unlock()
			return nil, nil, "", fanfare.ErrClosed
		}
		if !h.held {
			k.mu.Unlock()
			if _, err := k.refresh(ctx); err != nil {
				return nil, nil, "", err
			}
			continue
		}
		p := h.place(key)
		switch {
		case p.indexing != nil:
			written := p.indexing
			k.mu.Unlock()
			select {
			case <-written:
			case <-ctx.Done():
				return nil, nil, "", ctx.Err()
			}
		case p.indexed == h.inc:
			p.busy++
			delete(h.empty, key)
			return h, p, h.inc, nil
		default:
			inc, written := h.inc, make(chan struct{})
			p.indexing = written
			p.busy++
			delete(h.empty, key)
			k.mu.Unlock()
			_, err := k.shard.run(ctx, leaseIndex, []string{k.index(inc)}, []string{"ZADD", "0", key.indexed()})
			k.mu.Lock()
			if p.indexing = nil; err == nil {
				p.indexed = inc
			}
			close(written)
			h.done(key, p)
			k.mu.Unlock()
			if err != nil {
				return nil, nil, "", err
			}
		}
	}
}

// index is a sorted set of the places of an incarnation.
func (k *keeper) index(inc string) string { return k.leases.broker.key(kindLease, inc) }

// tidy takes places where nobody is left out of the index.
func (k *keeper) tidy(ctx context.Context, h *holding) error {
	const atOnce = 500
	for {
		k.mu.Lock()
		inc, written := h.inc, make(chan struct{})
		args := []string{"ZREM"}
		var places []*place
		for key := range h.empty {
			delete(h.empty, key)
			p := h.places[key]
			if p == nil || p.busy > 0 || p.indexing != nil || len(p.entries) > 0 {
				continue
			}
			if p.indexed != inc {
				delete(h.places, key)
				continue
			}
			p.indexing = written
			places, args = append(places, p), append(args, key.indexed())
			if len(places) == atOnce {
				break
			}
		}
		k.mu.Unlock()
		if len(places) == 0 {
			return nil
		}
		_, err := k.shard.run(ctx, leaseIndex, []string{k.index(inc)}, args)
		k.mu.Lock()
		for i, p := range places {
			key := placeOf(args[i+1])
			p.indexing, p.indexed = nil, "" // after an error the index may or may not know it
			if err != nil {
				h.empty[key] = struct{}{}
				p.indexed = inc
			} else {
				delete(h.places, key)
			}
		}
		close(written)
		k.mu.Unlock()
		if err != nil {
			return err
		}
	}
}

// unindexAll forgets the index of an incarnation that has nothing.
func (k *keeper) unindexAll(ctx context.Context, inc string) error {
	_, err := k.shard.run(ctx, leaseIndex, []string{k.index(inc)}, []string{"DEL"})
	return err
}
