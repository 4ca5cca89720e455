package fanfare

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// hookRevalidate is the name of [Revalidate.Check] among the hooks.
const hookRevalidate = "Revalidate"

// errNoAnswer says that a hook did not return within HookTimeout.
var errNoAnswer = errors.New("fanfare: no answer within HookTimeout")

// checks runs what a node asks the app by itself, when no client waits for it: a few calls at once, in their order, because the
// times of many clients come together when a server has started or sessions end at midnight.
type checks struct {
	start func(func()) bool // runs a function on a goroutine of the node
	log   *slog.Logger
	max   int

	mu      sync.Mutex // a leaf; guards below
	waiting []check
	sweepAt int                  // how many may wait before those are left out whose clients have gone
	running int                  // places that are taken
	told    map[string]time.Time // when there was last reason to tell of something
}

// check is a call that waits for a place.
type check struct {
	client *Client
	do     func(*place)
}

// fewChecks is how many may always wait.
const fewChecks = 256

// place is one of the few. Whoever asks holds it, and so does the hook until it returns: hooks that hang keep their place, so
// that there are never more of them.
type place struct {
	checks *checks
	holds  atomic.Int32
}

// add queues a call for a client. It does not block. While hooks hang nothing is taken out of the queue: what waits is then bounded
// by the clients that there are.
func (k *checks) add(c *Client, do func(*place)) {
	k.mu.Lock()
	if len(k.waiting) >= max(k.sweepAt, fewChecks) {
		k.waiting = slices.DeleteFunc(k.waiting, func(w check) bool { return w.client.ctx.Err() != nil })
		k.sweepAt = 2 * len(k.waiting)
	}
	k.waiting = append(k.waiting, check{c, do})
	k.mu.Unlock()
	k.fill()
}

// fill starts somebody to work, if there is a place and something to do.
func (k *checks) fill() {
	k.mu.Lock()
	if k.running == k.max || len(k.waiting) == 0 {
		k.mu.Unlock()
		return
	}
	k.running++
	k.mu.Unlock()
	// Owned by the node: it ends when nothing waits, each call being bounded in time.
	if !k.start(k.work) {
		k.mu.Lock()
		defer k.mu.Unlock()
		k.running-- // the node is shutting down, and the clients leave
		k.waiting = nil
	}
}

func (k *checks) work() {
	for {
		k.mu.Lock()
		if len(k.waiting) == 0 {
			k.running--
			k.waiting = nil
			k.mu.Unlock()
			return
		}
		next := k.waiting[0]
		k.waiting[0] = check{}
		k.waiting = k.waiting[1:]
		k.mu.Unlock()
		p := &place{checks: k}
		p.holds.Store(1)
		next.do(p)
		if p.holds.Add(-1) > 0 {
			return // the hook has been given up, but has not returned
		}
	}
}

// returned is called when a hook that holds the place has returned.
func (p *place) returned() {
	if p.holds.Add(-1) > 0 {
		return
	}
	k := p.checks
	k.mu.Lock()
	k.running--
	k.mu.Unlock()
	k.fill()
}

// answered is what an app's function returned.
type answered[T any] struct {
	value T
	err   error
}

// ask calls one of the app's functions for a client that waits for nothing. The error is about the call: there is no answer then.
// When it hangs that is no fault of the client, and no news after the first time.
func ask[T any](p *place, c *Client, name, channel string, fn func(context.Context) (T, error)) (answered[T], error) {
	if c.ctx.Err() != nil {
		return answered[T]{}, errGone
	}
	p.holds.Add(1)
	run := c.hookRun(name, channel)
	run.routine = true
	a, err := callRun(context.Background(), c, run, func(ctx context.Context) (answered[T], error) {
		defer p.returned()
		v, err := fn(ctx)
		probe(err)
		if errors.Is(err, context.DeadlineExceeded) && ctx.Err() != nil {
			err = errNoAnswer
		}
		return answered[T]{v, err}, nil
	}, nil)
	switch {
	case errors.Is(err, ErrTooManyRequests):
		p.holds.Add(-1) // it was not called
	case err == nil && c.ctx.Err() != nil:
		err = errGone // and the answer tells that, most likely
	}
	return a, err
}

// trouble logs that a hook could not answer, once for all clients that meet the same trouble.
func (k *checks) trouble(c *Client, name string, interval time.Duration, err error) {
	if k.isNews(name, interval) {
		k.log.Error("hook failed; connections are kept, and it is asked again", slog.String("hook", name),
			slog.String("client", c.id), slog.String("user", c.User()), slog.Any("err", err))
	}
}

// isNews reports whether something has not happened for two intervals, or two minutes, and notes that it has.
func (k *checks) isNews(what string, interval time.Duration) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	now := time.Now()
	last, known := k.told[what]
	if k.told == nil {
		k.told = make(map[string]time.Time)
	}
	k.told[what] = now
	return !known || now.Sub(last) > 2*max(interval, time.Minute)
}
