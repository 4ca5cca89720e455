package fanfare

import (
	"context"
	"slices"
)

// full reports whether the workers can take nothing more. The lock is held.
func (r *room) full() bool {
	for _, a := range r.audiences {
		if a != nil && a.size > 0 && a.worker.full(r) {
			r.lagging = true
			return true
		}
	}
	return false
}

// reserve keeps room for a publication with the workers of the channel's subscribers, until [unreserve] is called with those
// that it returns, which are appended to none. The publisher waits for that before anything is stored: for the workers, never
// for a reader. Without room kept for each, many at once would find enough for one.
func (n *Node) reserve(ctx context.Context, channel string, size int, none []*worker) ([]*worker, error) {
	r, ok := n.hub.Get(channel)
	if !ok {
		return none, nil
	}
	for {
		wanted := r.servedBy(none)
		full := slices.IndexFunc(wanted, func(w *worker) bool { return !w.reserve(size) })
		if full < 0 {
			return wanted, nil
		}
		// What is kept with one worker must not keep others from it, for as long as another one takes.
		unreserve(wanted[:full], size)
		if err := wanted[full].awaitRoom(ctx, n.ctx.Done()); err != nil {
			return none, err
		}
	}
}

// unreserve gives back what reserve kept.
func unreserve(kept []*worker, size int) {
	for _, w := range kept {
		w.unreserve(size)
	}
}

// servedBy appends the workers that own connections of the channel's subscribers.
func (r *room) servedBy(workers []*worker) []*worker {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, a := range r.audiences {
		if a != nil && a.size > 0 {
			workers = append(workers, a.worker)
		}
	}
	return workers
}

// awaitWorkers returns when the workers have not too much left of what was posted.
func (r *room) awaitWorkers(ctx context.Context) error {
	for _, w := range r.servedBy(nil) {
		if err := w.awaitCaughtUp(ctx, r.node.ctx.Done()); err != nil {
			return err
		}
	}
	return nil
}

// behind reports whether the workers have more to deliver than publishers may add to. The lock is held.
func (r *room) behind() bool {
	for _, a := range r.audiences {
		if a != nil && a.size > 0 && a.worker.bytes.Load() > maxInbox {
			return true
		}
	}
	return false
}

// miss lets go of a publication for want of room: what is stored is read again when there is some. The lock is held.
func (r *room) miss(p *Publication) {
	if p.Offset > 0 {
		return
	}
	if o := r.node.config.Observer; o != nil {
		o.Dropped(r.channel, r.subscribers)
	}
}

// catchUp is called when the workers have room again.
func (r *room) catchUp() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.lagging {
		return
	}
	r.lagging = false
	if !r.repairing && r.top.Epoch != "" {
		r.startRepair()
	}
}
