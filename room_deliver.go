package fanfare

import "time"

// publication takes a publication from the broker. Calls come in the channel's order.
func (r *room) publication(p *Publication) {
	r.mu.Lock()
	var inline []*audience
	switch {
	case r.repairing && p.Offset > 0: // what has no place in the stream need not wait for it
		r.hold(p)
	case r.lagging || r.full():
		r.miss(p)
	case r.gapBefore(p):
		r.hold(p)
		r.startRepair()
	default:
		r.broadcast(p, &inline)
	}
	r.mu.Unlock()
	serve(inline)
}

// gapBefore reports whether publications before p are missing. The lock is held.
func (r *room) gapBefore(p *Publication) bool {
	return p.Offset > 0 && r.top.Epoch == p.Epoch && p.Offset > r.top.Offset+1
}

// has reports whether p, or what was in its place, was handed on already. The lock is held.
func (r *room) has(p *Publication) bool {
	return p.Offset > 0 && p.Epoch == r.delivered.Epoch && p.Offset <= r.delivered.Offset
}

// broadcast hands a publication to every audience; see post. The lock is held.
func (r *room) broadcast(p *Publication, inline *[]*audience) {
	came := time.Now()
	if p.Offset > 0 {
		if r.has(p) {
			if !r.reused(p) {
				return // a late delivery of what a repair has delivered
			}
			r.rewind(Position{Offset: p.Offset - 1, Epoch: p.Epoch})
		}
		r.delivered = p.Position
		if !r.node.ownsBroker {
			r.print = r.node.doubts.print(p)
		}
		if p.Epoch != r.top.Epoch || p.Offset > r.top.Offset {
			r.top = p.Position
		}
		r.deliveredAt = came // of the stream: what is not stored does not say that nothing of it was lost
		if r.repairing {
			came = r.missedAt // what is not stored does not wait for a repair
		}
	}
	b := &broadcast{channel: r.channel, publication: p, size: p.size(false) + broadcastOverhead, came: came}
	if r.editing > 0 {
		b.edit = &edit{base: r.last, target: &content{p: p, seq: r.seq + 1}} // the number that post gives
		r.last = b.edit.target
	}
	r.post(b, inline)
}

// post puts a message into the inbox of every audience. To inline, if it is not nil, it adds those that the caller is to serve
// when it has let go of the lock, which is held.
func (r *room) post(b *broadcast, inline *[]*audience) {
	r.seq++
	b.seq = r.seq
	b.audiences.Store(1) // this call
	for _, a := range r.audiences {
		if a == nil || a.size == 0 {
			continue
		}
		b.audiences.Add(1)
		if a.worker.post(a, b, inline != nil && r.subscribers <= inlineMax) {
			*inline = append(*inline, a)
		}
	}
	if b.audiences.Add(-1) == 0 {
		r.observed(b)
	}
}

// serve delivers what was posted to audiences whose workers were idle.
func serve(audiences []*audience) {
	for _, a := range audiences {
		a.worker.serve(a)
	}
}

// observed tells the observer of a publication that every audience has got.
func (r *room) observed(b *broadcast) {
	o := r.node.config.Observer
	if o == nil || b.publication == nil {
		return
	}
	subscribers := int(b.delivered.Load())
	o.Published(r.channel, len(b.publication.Data), subscribers)
	if subscribers > 0 {
		o.Delivered(r.channel, time.Since(b.came))
	}
}

// membership takes a join or leave from the broker.
func (r *room) membership(m Membership) {
	r.mu.Lock()
	var inline []*audience
	// It may be lost (spec 13), and a storm of them must not push out what may not.
	if !r.behind() {
		r.post(&broadcast{channel: r.channel, membership: &m, size: len(m.Info.ConnInfo) + len(m.Info.ChanInfo) + broadcastOverhead}, &inline)
	}
	r.mu.Unlock()
	serve(inline)
}
