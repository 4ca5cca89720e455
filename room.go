package fanfare

import (
	"context"
	"log/slog"
	"sync"
	"time"
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
