package fanfare

import (
	"context"
	"log/slog"
	"slices"
	"sync"
	"time"
)

const (
	// repairPage is how many publications are read at once to fill a gap.
	repairPage = 500
	// repairAttempts is how often a read of the broker is tried, with repairPause between, before the gap is told.
	repairAttempts = 3
	repairPause    = 100 * time.Millisecond
	// maxPending and maxPendingBytes bound what waits for a repair. More is forgotten, and read from history as well.
	maxPending      = 4096
	maxPendingBytes = 8 << 20
)

// room is one channel on this node: who watches it, and where its stream stands here.
type room struct {
	node    *Node
	channel string

	linking chan struct{} // a lock of one slot around the next two and the broker calls that change them: waiting obeys contexts
	asked   bool          // the broker may be sending
	linked  bool          // it is

	mu           sync.Mutex  // orders the messages, and guards below
	audiences    []*audience // by worker; nil entries have no subscribers, as has a nil slice
	subscribers  int
	seq          uint64   // of the newest message
	top          Position // of the stream, as far as this node knows; not known if its epoch is empty
	delivered    Position // of the newest publication that came here
	print        uint64   // of that publication, or 0 if not known
	deliveredAt  time.Time
	suspected    bool      // something came that may have taken another's place, and that is about to be looked into
	verifiedAt   time.Time // when a comparison was begun last
	repairing    bool
	missedAt     time.Time      // when the repair under way, or the last one, began
	pending      []*Publication // came while repairing
	pendingBytes int
	forgotten    bool // some of them were not kept
	lagging      bool // messages were dropped because the workers' inboxes were full
	kept         *keptRead
	keptFor      *time.Timer // until kept is forgotten

	editing int      // subscribers that take deltas
	last    *content // the newest publication that came here, while there are some
}

func (n *Node) newRoom(channel string) *room {
	return &room{node: n, channel: channel, linking: make(chan struct{}, 1), deliveredAt: time.Now()}
}

// link makes sure that the broker sends this channel. The caller holds the room in the hub.
func (r *room) link(ctx context.Context, n *Node) error {
	if err := lockSlot(ctx, r.linking); err != nil {
		return err
	}
	defer func() { <-r.linking }()
	if r.linked {
		return nil
	}
	r.asked = true
	if err := n.link.Subscribe(ctx, r.channel); err != nil {
		return err
	}
	r.linked = true
	return nil
}

// release gives a room back. The last one to leave ends the broker's subscription, on a goroutine: nobody waits for it.
func (n *Node) release(r *room) {
	if n.hub.Release(r.channel) {
		if !n.goroutines.start(r.unlink) {
			r.unlink()
		}
	}
}

// unlink ends the broker's subscription if still nobody is there. The room leaves the hub only afterwards, so that a new
// subscriber meets this room and waits for its lock, rather than overtake the unsubscribe with a subscribe.
func (r *room) unlink() {
	n := r.node
	r.linking <- struct{}{}
	defer func() { <-r.linking }()
	if !n.hub.Idle(r.channel, r) {
		return
	}
	if r.asked {
		ctx, cancel := context.WithTimeout(context.Background(), n.config.HookTimeout)
		defer cancel()
		if err := n.link.Unsubscribe(ctx, r.channel); err != nil {
			n.log.Log(ctx, troubled(err, slog.LevelWarn), "broker unsubscribe failed", slog.String("channel", r.channel), slog.Any("err", err))
		}
		r.asked, r.linked = false, false
		// What comes while nobody listens is not missed here: the next subscriber begins with a read.
		r.mu.Lock()
		r.top, r.delivered, r.print, r.kept = Position{}, Position{}, 0, nil
		r.mu.Unlock()
	}
	n.hub.Remove(r.channel, r)
}

// add lets a subscription take part in the fan-out, unless there are max already; 0 is no limit.
func (r *room) add(s *subscription, max int) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if max > 0 && r.subscribers >= max {
		return false
	}
	r.subscribers++
	s.declared.subscriptions.Add(1)
	if s.takesDeltas() {
		r.editing++
	}
	w := s.client.worker
	if r.audiences == nil {
		r.audiences = make([]*audience, len(r.node.workers))
	}
	if r.audiences[w.index] == nil {
		r.audiences[w.index] = &audience{room: r, worker: w, place: -1}
	}
	s.audience, s.since = r.audiences[w.index], r.seq
	s.audience.size++
	s.audience.add(s)
	return true
}

func (r *room) remove(s *subscription) {
	r.mu.Lock()
	defer r.mu.Unlock()
	a := s.audience
	if a == nil {
		return
	}
	s.audience = nil
	r.subscribers--
	s.declared.subscriptions.Add(-1)
	if s.takesDeltas() {
		if r.editing--; r.editing == 0 {
			r.last = nil
		}
	}
	a.size--
	a.remove(s)
}

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

func (r *room) hold(p *Publication) {
	if len(r.pending) < maxPending && r.pendingBytes < maxPendingBytes {
		r.pending = append(r.pending, p)
		r.pendingBytes += p.size(false)
	} else {
		r.forgotten = true
	}
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

// startRepair begins a repair. The lock is held.
func (r *room) startRepair() {
	r.repairing, r.missedAt = true, time.Now()
	r.node.goroutines.start(func() { _ = r.repair() }) // subscribers are told, if it fails, by what comes next
}

// repair fills a gap from history, once for all subscribers, and then lets the flow go on. What history no longer holds is
// left out: the subscriptions notice, each by its own position, and tell their clients. It returns an error if history could not be
// read. Whoever calls it has set repairing.
func (r *room) repair() (err error) {
	filled, complete := 0, true
	r.mu.Lock()
	for done := false; !done; {
		since, waiting := r.top, len(r.pending)
		r.mu.Unlock()
		var result HistoryResult
		result, err = r.readAfter(since)
		r.mu.Lock()
		if err != nil {
			complete = false
			r.resume(len(r.pending))
			break
		}
		n, whole := r.fill(since, result)
		filled += n
		complete = complete && whole
		if r.top.Offset < result.Offset || r.forgotten {
			// There is more to read; what has been read need not wait any longer.
			r.forgotten = false
			r.pending = slices.DeleteFunc(r.pending, func(p *Publication) bool {
				return p.Offset > 0 && p.Epoch == r.top.Epoch && p.Offset <= r.top.Offset
			})
			r.pendingBytes = sizeOf(r.pending, false)
			continue
		}
		if done = r.resume(waiting); done {
			r.cutStragglers()
		}
	}
	r.mu.Unlock()
	r.node.log.Debug("gap in a channel", slog.String("channel", r.channel), slog.Bool("repaired", complete), slog.Int("publications", filled))
	if o := r.node.config.Observer; o != nil {
		o.Repaired(r.channel, complete, filled)
	}
	return err
}

// fill hands on what was read after a position. It reports how much that was, and whether nothing was missing in front of
// it. The lock is held.
func (r *room) fill(since Position, result HistoryResult) (filled int, whole bool) {
	if result.Epoch != since.Epoch {
		// The stream has begun a new life. What is to be had of it is what came live.
		if r.top == since {
			r.top = result.Position
		}
		return 0, false
	}
	if result.Offset < since.Offset && r.top == since {
		r.rewind(result.Position)
		return 0, false
	}
	whole = true
	for _, p := range result.Publications {
		whole = whole && !r.gapBefore(p)
		r.broadcast(p, nil)
		filled++
	}
	if len(result.Publications) == 0 && r.top.Offset < result.Offset {
		whole = false // trimmed away, all of it
		r.top = result.Position
	}
	return filled, whole
}

// resume delivers what waited for the repair, of which the last read covered the first ones: a gap before those is there to
// stay. It reports false if there is another gap, behind them. The lock is held.
func (r *room) resume(covered int) bool {
	pending := r.pending
	for i, p := range pending {
		if i >= covered && r.gapBefore(p) {
			r.pending, r.pendingBytes = pending[i:], sizeOf(pending[i:], false)
			return false
		}
		if !r.has(p) { // or it was read, too
			r.broadcast(p, nil)
		}
	}
	r.pending, r.pendingBytes, r.forgotten, r.repairing = nil, 0, false, false
	return true
}

// cutStragglers ends the flow to those who are behind everything that is to be had: whatever they miss will not come any
// more, and no later message may reveal it. The lock is held, and no repair is under way.
func (r *room) cutStragglers() {
	if r.top.Epoch == "" {
		return
	}
	r.post(&broadcast{channel: r.channel, top: r.top, size: broadcastOverhead}, nil)
}

func (r *room) readAfter(top Position) (HistoryResult, error) {
	n := r.node
	for attempt := 1; ; attempt++ {
		ctx, cancel := context.WithTimeout(n.ctx, n.config.HookTimeout)
		var result HistoryResult
		err := r.awaitWorkers(ctx)
		if err == nil {
			result, err = n.broker.History(ctx, r.channel, HistoryQuery{Since: &top, Limit: repairPage})
		}
		cancel()
		if err == nil || attempt == repairAttempts || n.ctx.Err() != nil || n.draining.Load() {
			return result, err
		}
		n.log.Log(n.ctx, troubled(err, slog.LevelWarn), "history read failed", slog.String("channel", r.channel), slog.Any("err", err))
		pause := time.NewTimer(repairPause)
		select {
		case <-pause.C:
		case <-n.ctx.Done():
			pause.Stop()
		}
	}
}

// check compares the room with the broker's stream if it has been silent for long: the last messages of a channel may get
// lost, and then no later one reveals it.
func (r *room) check(ctx context.Context, silent time.Duration) {
	r.mu.Lock()
	top, repairing := r.top, r.repairing
	idle := time.Since(r.deliveredAt) >= silent && r.subscribers > 0
	r.mu.Unlock()
	if top.Epoch == "" || repairing || !idle {
		return
	}
	result, err := r.node.broker.History(ctx, r.channel, HistoryQuery{})
	if err != nil {
		return // the broker's trouble is the broker's to report; the next check comes
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.top != top || r.repairing {
		r.deliveredAt = time.Now()
		return
	}
	if r.compare(top, result) {
		r.startRepair()
	}
}

// cutBehind ends a flow that stands before the end of its stream, or in another life of it; or, if the stream was rewound, behind
// its end. Where the flow has not begun that is found when it does.
func (s *subscription) cutBehind(top Position, rewound bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case !s.positioned || s.stage == over:
	case s.stage == seaming && rewound:
		s.early().atMost = top
	case s.stage == seaming:
		s.early().atLeast = top
	case rewound && s.position.Epoch == top.Epoch && s.position.Offset > top.Offset,
		!rewound && (s.position.Epoch != top.Epoch || s.position.Offset < top.Offset):
		s.cut()
	}
}
