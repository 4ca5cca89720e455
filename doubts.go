package fanfare

import (
	"context"
	"hash/maphash"
	"log/slog"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// maxVerifying is how many rooms are compared with the broker at once, and repaired if need be.
	maxVerifying = 16
	// verifyDelay is how long the first comparison waits at most: many nodes are interrupted together.
	verifyDelay = 200 * time.Millisecond
	// verifyPause is the time before a comparison is tried again that did not succeed. It doubles, up to maxVerifyPause, while the
	// broker fails.
	verifyPause, maxVerifyPause = 250 * time.Millisecond, 5 * time.Second
	// suspicionEvery is the time between two comparisons of a room that gives cause for doubt by itself.
	suspicionEvery = time.Second
)

// doubts are the rooms that are to be compared with their streams, because the broker may have lost messages. A few at a time
// are, and each until that succeeds: a broker that has just come back has others to serve, too.
type doubts struct {
	node  *Node
	seed  maphash.Seed  // of prints
	wake  chan struct{} // of the daemon; one slot
	count atomic.Uint64 // of the interruptions

	mu      sync.Mutex // a leaf; guards below
	all     bool       // every room that there is
	waiting map[*room]struct{}
}

func newDoubts(n *Node) *doubts {
	return &doubts{node: n, seed: maphash.MakeSeed(), wake: make(chan struct{}, 1), waiting: make(map[*room]struct{})}
}

// interrupted takes what the broker said: nil is all channels. It does not block.
func (d *doubts) interrupted(channels []string) {
	d.count.Add(1) // first: a read that began before says nothing about what came later
	if channels == nil {
		d.mu.Lock()
		d.all = true
		d.mu.Unlock()
		d.call()
		return
	}
	for _, channel := range channels {
		if r, ok := d.node.hub.Get(channel); ok {
			d.add(r)
		}
	}
}

// add has a room compared; once more, if that is being done just now.
func (d *doubts) add(r *room) {
	d.mu.Lock()
	d.waiting[r] = struct{}{}
	d.mu.Unlock()
	d.call()
}

func (d *doubts) call() {
	select {
	case d.wake <- struct{}{}:
	default:
	}
}

// take returns the rooms that wait.
func (d *doubts) take() map[*room]struct{} {
	d.mu.Lock()
	rooms, all := d.waiting, d.all
	d.waiting, d.all = make(map[*room]struct{}), false
	d.mu.Unlock()
	if all {
		for r := range d.node.hub.All() {
			rooms[r] = struct{}{}
		}
	}
	return rooms
}

// work is a daemon of the node.
func (d *doubts) work() {
	for {
		select {
		case <-d.wake:
		case <-d.node.stop:
			return
		}
		if !d.sleep(rand.N(verifyDelay)) || !d.settle() {
			return
		}
	}
}

// settle compares rooms until none waits; it returns false when the node stops.
func (d *doubts) settle() bool {
	pause, failing := verifyPause, false
	for {
		rooms := d.take()
		if len(rooms) == 0 {
			return true
		}
		err := d.round(rooms)
		if len(rooms) == 0 {
			continue
		}
		d.mu.Lock()
		for r := range rooms {
			d.waiting[r] = struct{}{}
		}
		d.mu.Unlock()
		if err != nil && !failing {
			d.node.log.Warn("channels cannot be compared with the broker, which may have lost messages; it is tried until it succeeds",
				slog.Int("channels", len(rooms)), slog.Any("err", err))
		}
		failing = err != nil
		if !d.sleep(pause/2 + rand.N(pause)) {
			return false
		}
		if failing {
			pause = min(2*pause, maxVerifyPause)
		} else {
			pause = verifyPause
		}
	}
}

// round compares rooms, and takes out of them those that are done with. When the broker fails it gives up early, with the last error.
func (d *doubts) round(rooms map[*room]struct{}) (failed error) {
	var group sync.WaitGroup
	var mu sync.Mutex // guards rooms and failed
	slots := make(chan struct{}, maxVerifying)
	list := make([]*room, 0, len(rooms))
	for r := range rooms {
		list = append(list, r)
	}
	for _, r := range list {
		slots <- struct{}{}
		mu.Lock()
		over := failed != nil || d.node.ctx.Err() != nil
		mu.Unlock()
		if over {
			break
		}
		group.Go(func() {
			defer func() { <-slots }()
			done, err := r.verify()
			mu.Lock()
			defer mu.Unlock()
			if done {
				delete(rooms, r)
			}
			if err != nil {
				failed = err
			}
		})
	}
	group.Wait()
	return failed
}

// sleep returns false if the node stops meanwhile.
func (d *doubts) sleep(t time.Duration) bool {
	timer := time.NewTimer(t)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-d.node.stop:
		return false
	}
}

// verify compares the room with the broker's stream, and repairs it if messages are missing. It is not done if that has to be
// repeated, after an error or because something else goes on.
func (r *room) verify() (done bool, err error) {
	r.mu.Lock()
	r.suspected, r.verifiedAt = false, time.Now()
	top, busy := r.top, r.repairing || r.lagging
	nothing := top.Epoch == "" || r.subscribers == 0
	q := HistoryQuery{}
	if r.print != 0 && r.delivered == top {
		q = HistoryQuery{Since: &Position{Offset: top.Offset - 1, Epoch: top.Epoch}, Limit: 1} // the newest one that came here
	}
	r.mu.Unlock()
	if nothing || busy {
		return nothing, nil
	}
	ctx, cancel := context.WithTimeout(r.node.ctx, r.node.config.HookTimeout)
	result, err := r.node.broker.History(ctx, r.channel, q)
	cancel()
	if err != nil {
		return false, err
	}
	r.mu.Lock()
	busy = r.repairing || r.lagging || r.top != top && r.top.Epoch != result.Epoch // or something came meanwhile
	behind := !busy && r.compare(top, result)
	if behind {
		r.repairing, r.missedAt = true, time.Now()
	}
	r.mu.Unlock()
	if behind {
		err = r.repair()
	}
	return !busy && err == nil, err
}

// compare takes what was read of the stream when the room stood at top. It reports whether there is something to be repaired, and
// tells those for whom that is not possible. The lock is held; no repair is under way, and the room still stands there, or further on
// in the stream that was read.
func (r *room) compare(top Position, result HistoryResult) (behind bool) {
	r.deliveredAt = time.Now()
	switch {
	case result.Epoch != r.top.Epoch:
		r.top = result.Position
	case r.top.Epoch == top.Epoch && result.Offset < top.Offset:
		r.rewind(result.Position)
		return false
	case r.differs(result):
		r.rewind(Position{Offset: top.Offset - 1, Epoch: top.Epoch})
		return true
	case result.Offset > r.top.Offset:
		return true
	}
	r.cutStragglers()
	return false
}

// differs reports whether the stream has another publication in the place of the newest one that came here. The lock is held.
func (r *room) differs(result HistoryResult) bool {
	if r.print == 0 || len(result.Publications) == 0 {
		return false
	}
	p := result.Publications[0]
	return p.Position == r.delivered && r.node.doubts.print(p) != r.print
}

// print tells publications apart, without keeping them. It is never 0.
func (d *doubts) print(p *Publication) uint64 {
	return maphash.Bytes(d.seed, p.Data) | 1
}

// reused reports whether the place of a publication, which is none that would come next, was that of another one: the broker has
// lost the end of the stream without a word, and goes on from before. Most likely it is only late, or comes twice; what cannot be
// told apart is looked into. The lock is held.
func (r *room) reused(p *Publication) bool {
	d := r.node.doubts
	switch {
	case r.node.ownsBroker: // it loses nothing
	case p.Offset == r.delivered.Offset && r.print != 0:
		return d.print(p) != r.print
	case !r.suspected:
		// Not at once if it was looked into a moment ago, but once more: that may have been before the stream lost something.
		r.suspected = true
		time.AfterFunc(suspicionEvery-time.Since(r.verifiedAt), func() { d.add(r) })
	}
	return false
}

// rewind takes the room back to a position, because the broker has lost what was behind it. Whoever has got that is told: its
// offsets belong to other publications from now on. The lock is held.
func (r *room) rewind(to Position) {
	n, level := r.node, slog.LevelDebug
	if n.checks.isNews("rewound stream", time.Minute) {
		level = slog.LevelError
	}
	n.log.Log(n.ctx, level, "the broker has lost the end of a stream without a new epoch; subscribers are told that they have a gap",
		slog.String("channel", r.channel), slog.Uint64("had", r.top.Offset), slog.Uint64("has", to.Offset))
	r.top, r.delivered, r.print, r.kept = to, to, 0, nil
	r.post(&broadcast{channel: r.channel, top: to, rewound: true, size: broadcastOverhead}, nil)
}
