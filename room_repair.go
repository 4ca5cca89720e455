package fanfare

import (
	"context"
	"log/slog"
	"slices"
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

// hold keeps a publication until the repair under way has ended. The lock is held.
func (r *room) hold(p *Publication) {
	if len(r.pending) < maxPending && r.pendingBytes < maxPendingBytes {
		r.pending = append(r.pending, p)
		r.pendingBytes += p.size(false)
	} else {
		r.forgotten = true
	}
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
