package fanfare

import (
	"context"
	"strconv"
	"time"
)

// keepRead is how long a read of history may answer other subscribers. A storm of clients that come back after a break lasts
// about as long; and what is removed from history, or grows too old, may still be sent for that long.
const keepRead = time.Second

// keptRead is a read of everything behind a position. It answers whoever asks for what is behind a later one.
type keptRead struct {
	since  Position
	result HistoryResult
	edits  *editCache // of those who take deltas
}

// history reads the stream for a subscription that is in an audience already. After a break many clients come at once, with
// nearly the same position: one read answers all of them while it ends where the room stands, for what is newer comes to
// them live.
func (r *room) history(ctx context.Context, q HistoryQuery) (HistoryResult, error) {
	if q.Since == nil {
		return r.read(ctx, q) // of the top, or the newest: that is cheap, and nobody waits for another's
	}
	if result, ok := r.known(q); ok {
		return result, nil
	}
	since := *q.Since
	q.Since = &since // the read may outlast the caller
	// Reads behind different positions do not wait for each other: on a busy channel the last ones would come too late.
	key := strconv.Itoa(q.Limit) + ":" + strconv.FormatUint(q.Since.Offset, 10) + ":" + q.Since.Epoch + ":" + r.channel
	return r.node.histories.do(ctx, r.node, key, func(ctx context.Context) (HistoryResult, error) {
		if result, ok := r.known(q); ok { // by now
			return result, nil
		}
		return r.read(ctx, q)
	})
}

func (r *room) read(ctx context.Context, q HistoryQuery) (HistoryResult, error) {
	doubts := r.node.doubts
	interruptions := doubts.count.Load()
	result, err := r.node.broker.History(ctx, r.channel, q)
	if err == nil {
		r.observe(q, result)
		if doubts.count.Load() != interruptions {
			doubts.add(r) // what followed may have been lost, and the room may not have known where it stood
		}
	}
	return result, err
}

// known answers a query from what the room knows.
func (r *room) known(q HistoryQuery) (HistoryResult, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	k := r.kept
	if k == nil || k.result.Position != r.top || r.repairing || r.lagging {
		return HistoryResult{}, false
	}
	since := *q.Since
	if since.Epoch != "" && since.Epoch != r.top.Epoch || since.Offset < k.since.Offset || since.Offset > r.top.Offset {
		return HistoryResult{}, false
	}
	pubs := k.result.Publications
	for len(pubs) > 0 && pubs[0].Offset <= since.Offset {
		pubs = pubs[1:]
	}
	if q.Limit >= 0 && len(pubs) > q.Limit {
		pubs = pubs[:q.Limit]
	}
	return HistoryResult{Publications: pubs, Position: r.top}, true
}

// observe tells the room what was read from the broker for a new subscription. The top counts only if the room does not know
// one yet: later, what was not delivered is a gap.
func (r *room) observe(q HistoryQuery, result HistoryResult) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.top.Epoch == "" {
		r.top = result.Position
	}
	if q.Since == nil || q.Since.Epoch != "" && q.Since.Epoch != result.Epoch {
		return
	}
	if n := len(result.Publications); n > 0 && result.Publications[n-1].Offset != result.Offset {
		return // there is more
	}
	r.kept = &keptRead{*q.Since, result, &editCache{}}
	if r.keptFor == nil {
		r.keptFor = time.AfterFunc(keepRead, r.forgetRead)
	} else {
		r.keptFor.Reset(keepRead)
	}
}

// editsOf returns what was worked out for others who were answered by the read of a result, if that is still there.
func (r *room) editsOf(result HistoryResult) *editCache {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.kept != nil && r.kept.result.Position == result.Position {
		return r.kept.edits
	}
	return nil
}

func (r *room) forgetRead() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.kept = nil
}
