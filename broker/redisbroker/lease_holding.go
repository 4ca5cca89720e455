package redisbroker

import (
	"context"
	"maps"
	"slices"

	"github.com/fanfare-go/fanfare"
)

// holding is what one node of this broker has at one server: its lease, and all that it has put there, so that a server that forgets
// is told again. The keeper's lock guards it.
type holding struct {
	node   string
	why    purpose
	inc    string // the incarnation
	held   bool   // the server knows the lease
	places map[placeKey]*place
	// What the server may know wrongly, or not at all; by its place and client.
	dirty   map[debt]struct{}
	mending chan struct{} // of one slot: taken by whoever tells what is dirty. Not guarded
	// Places where nobody is left, which are still in the index.
	empty map[placeKey]struct{}
}

// placeKey names a channel with members (kindMembers), or a user with connections (kindUser).
type placeKey struct{ kind, name string }

// indexed is how the index of an incarnation calls the place.
func (p placeKey) indexed() string { return p.kind + p.name }

func placeOf(indexed string) placeKey { return placeKey{kind: indexed[:1], name: indexed[1:]} }

type debt struct {
	place  placeKey
	client string
}

// place is what a node has in one channel, or of one user.
type place struct {
	entries  map[string]*entry // by client
	busy     int               // operations under way
	indexed  string            // the incarnation whose index knows the place, or empty
	indexing chan struct{}     // closed when the index was written; nil if nobody writes it
}

// entry is one client. Who changes what Redis says of it makes a new entry, or marks the one that is there as leaving, and calls
// settle afterwards.
type entry struct {
	info    fanfare.ClientInfo // of a member
	leaving bool               // it is to be taken out
	dirty   bool               // Redis may say something else
	mourned bool               // a member of which others may have been told that it is gone
}

func newHolding(node string) *holding {
	return &holding{
		node: node, inc: newIncarnation(node), places: make(map[placeKey]*place), dirty: make(map[debt]struct{}),
		mending: make(chan struct{}, 1), empty: make(map[placeKey]struct{}),
	}
}

func (h *holding) place(key placeKey) *place {
	p := h.places[key]
	if p == nil {
		p = &place{entries: make(map[string]*entry)}
		h.places[key] = p
	}
	return p
}

// settle notes that an operation has ended, which was to make Redis say what e says or, if leaving, that the client is not there. If
// another one for the same client ran meanwhile, nobody knows which came last.
func (h *holding) settle(key placeKey, p *place, client string, e *entry, leaving bool, err error) {
	now := p.entries[client]
	switch {
	case now == nil && leaving: // both have taken it out
	case now == nil:
		now = &entry{leaving: true, dirty: true}
		p.entries[client] = now
	case now != e || e.leaving != leaving || err != nil:
		now.dirty = true
	case leaving && !e.dirty:
		delete(p.entries, client)
	}
	if now != nil && now.dirty {
		h.dirty[debt{key, client}] = struct{}{}
	}
	h.done(key, p)
}

// done ends the caller's use of a place.
func (h *holding) done(key placeKey, p *place) {
	if p.busy--; p.busy == 0 && len(p.entries) == 0 {
		h.empty[key] = struct{}{}
	}
}

// soil makes everything known to be told again, with the index: that may be on another server than what it names.
func (h *holding) soil() {
	for key, p := range h.places {
		if len(p.entries) > 0 {
			p.indexed = ""
		}
		for client, e := range p.entries {
			e.dirty = true
			h.dirty[debt{key, client}] = struct{}{}
		}
	}
}

// mourn notes that others have taken the node for dead.
func (h *holding) mourn() {
	for key, p := range h.places {
		if key.kind != kindMembers {
			continue
		}
		for _, e := range p.entries {
			e.mourned = true
		}
	}
}

// clear takes out all that is of a kind.
func (h *holding) clear(kind string) {
	for key, p := range h.places {
		if key.kind != kind {
			continue
		}
		for client, e := range p.entries {
			e.leaving, e.dirty = true, true
			h.dirty[debt{key, client}] = struct{}{}
		}
	}
}

// has reports whether there is anything of a kind.
func (h *holding) has(kind string) bool {
	for key, p := range h.places {
		if key.kind == kind && len(p.entries) > 0 {
			return true
		}
	}
	return false
}

// begin holds the lease of a node, and returns when the server knows.
func (k *keeper) begin(ctx context.Context, node string, why purpose) error {
	k.mu.Lock()
	h := k.holdings[node]
	if h == nil {
		h = newHolding(node)
		k.holdings[node] = h
	}
	h.why |= why
	held := h.held
	k.mu.Unlock()
	if held {
		return nil
	}
	_, err := k.refresh(ctx)
	notify(k.wake)
	return err
}

// holdsFor reports whether a node has a lease for a purpose.
func (k *keeper) holdsFor(node string, why purpose) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	h := k.holdings[node]
	return h != nil && h.why&why != 0
}

// forget lets a lease that could not be begun run out.
func (k *keeper) forget(node string, why purpose) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if h := k.holdings[node]; h != nil {
		if h.why &^= why; h.why == 0 {
			delete(k.holdings, node)
		}
	}
}

// end takes out what a node has for one purpose, and ends its lease if there is no other.
func (k *keeper) end(ctx context.Context, node string, why purpose) error {
	kind := kindUser
	if why == forMembers {
		kind = kindMembers
	}
	k.mu.Lock()
	h := k.holdings[node]
	if h == nil || h.why&why == 0 {
		k.mu.Unlock()
		return nil
	}
	h.why &^= why
	h.clear(kind)
	k.mu.Unlock()
	err := k.mend(ctx, h)
	k.mu.Lock()
	over := h.why == 0
	if over {
		delete(k.holdings, node)
	}
	k.mu.Unlock()
	if over {
		return k.finish(ctx, h)
	}
	return err
}

// finish ends the lease of a holding that nobody uses any more. What it could not take out others do, at once.
func (k *keeper) finish(ctx context.Context, h *holding) error {
	k.mu.Lock()
	inc, sweep := h.inc, "-1"
	if h.has(kindMembers) || h.has(kindUser) {
		sweep = "0"
	}
	k.mu.Unlock()
	if sweep == "-1" {
		if err := k.unindexAll(ctx, inc); err != nil {
			return err
		}
	}
	_, err := k.shard.run(ctx, leaseEnd, k.keys, []string{sweep, "0", inc})
	return err
}

// close ends all leases. What their nodes still count is taken out; members are left to others.
func (k *keeper) close(ctx context.Context) {
	k.mu.Lock()
	k.closed = true
	holdings := slices.Collect(maps.Values(k.holdings))
	for _, h := range holdings {
		h.clear(kindUser)
	}
	clear(k.holdings)
	k.mu.Unlock()
	for _, h := range holdings {
		_ = k.mend(ctx, h) // else the lease is over soon
		_ = k.finish(ctx, h)
	}
}
