package fanfare

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"
)

// errGone says that the client left while its hook ran: nobody waits for the answer.
var errGone = errors.New("fanfare: client is gone")

// errAnswered says that the connection was closed instead of an answer.
var errAnswered = errors.New("fanfare: connection closed instead of an answer")

// hookKey is the context key under which a hook's context holds the client that it was called for.
type hookKey struct{}

// hookClient returns the client for whose hook the context was made, if it is one of a hook of this node.
func (n *Node) hookClient(ctx context.Context) *Client {
	if c, ok := ctx.Value(hookKey{}).(*Client); ok && c.node == n {
		return c
	}
	return nil
}

// hookRun is one call of an app's function.
type hookRun struct {
	name    string
	channel string
	client  string
	user    string
	started time.Time
	warned  atomic.Bool // it was named in a warning: once is enough
	routine bool        // the node asks by itself, for every client: no fault of this one, if it hangs
}

func (h *hookRun) attrs() []any {
	a := []any{slog.String("hook", h.name), slog.String("client", h.client), slog.String("user", h.user)}
	if h.channel != "" {
		a = append(a, slog.String("channel", h.channel))
	}
	return a
}

// hookTracker knows the hooks that are running, so that their number is bounded and Shutdown can wait for them and name
// those that do not return.
type hookTracker struct {
	max int

	mu      sync.Mutex // guards below
	running map[*hookRun]struct{}
	full    bool          // the limit was hit, and logged, since there was last plenty of room
	idle    chan struct{} // not nil while Shutdown waits; closed when no hook runs
}

// start registers a hook. With force it does so beyond the limit: for notices, which must not get lost.
func (t *hookTracker) start(h *hookRun, force bool) (ok, firstRefused bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !force && len(t.running) >= t.max {
		firstRefused = !t.full
		t.full = true
		return false, firstRefused
	}
	if t.running == nil {
		t.running = make(map[*hookRun]struct{})
	}
	t.running[h] = struct{}{}
	return true, false
}

func (t *hookTracker) end(h *hookRun) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.running, h)
	if len(t.running) <= t.max/2 {
		t.full = false
	}
	if len(t.running) == 0 && t.idle != nil {
		close(t.idle)
		t.idle = nil
	}
}

func (t *hookTracker) runs(h *hookRun) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	_, ok := t.running[h]
	return ok
}

// wait returns when no hook runs, or the names of those that do when the context ends.
func (t *hookTracker) wait(ctx context.Context) error {
	t.mu.Lock()
	if len(t.running) == 0 {
		t.mu.Unlock()
		return nil
	}
	if t.idle == nil {
		t.idle = make(chan struct{})
	}
	idle := t.idle
	t.mu.Unlock()

	select {
	case <-idle:
		return nil
	case <-ctx.Done():
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.running) == 0 {
		return nil
	}
	names := make(map[string]int)
	for h := range t.running {
		names[h.name]++
	}
	var err error
	for name, n := range names {
		err = errors.Join(err, fmt.Errorf("fanfare: hook %s is still running (%d calls)", name, n))
	}
	return err
}

// hookResult is what a hook's goroutine hands over.
type hookResult[T any] struct {
	value    T
	err      error
	panicked bool
}

// callHook runs one of the app's functions for a command of the client, with a deadline, and waits for it no longer than
// that, or than the connection lives. The hook's context has the values of base. If the hook succeeds after nobody waited
// any more, late is called with its result on the hook's goroutine.
//
// errGone and errAnswered say that there is nobody to answer; *Error and *Disconnect are the hook's refusal.
func callHook[T any](base context.Context, c *Client, name, channel string, fn func(context.Context) (T, error), late func(T)) (T, error) {
	return callRun(base, c, c.hookRun(name, channel), fn, late)
}

func (c *Client) hookRun(name, channel string) *hookRun {
	return &hookRun{name: name, channel: channel, client: c.id, user: c.User(), started: time.Now()}
}

// callRun is callHook for a call that was prepared.
func callRun[T any](base context.Context, c *Client, run *hookRun, fn func(context.Context) (T, error), late func(T)) (T, error) {
	var none T
	n := c.node
	if ok, first := n.hooks.start(run, false); !ok {
		if first {
			n.log.Warn("too many hooks are running; commands are refused until some return", slog.Int("max", n.config.MaxRunningHooks))
		}
		return none, ErrTooManyRequests
	}
	ctx, cancel := c.ctx.bounded(context.WithValue(base, hookKey{}, c), n.config.HookTimeout)
	defer cancel()

	results := make(chan hookResult[T])
	abandoned := make(chan struct{})
	// Owned by the hook tracker: it ends when the app's function returns.
	go func() {
		r := hookResult[T]{panicked: true} // unless it returns: it may call runtime.Goexit, as t.FailNow does
		defer func() {
			select {
			case <-abandoned:
			default:
				// Its place is free before the answer is out, or the client's next command might not find one.
				n.hooks.end(run)
				select {
				case results <- r:
					return
				case <-abandoned:
					n.hooks.start(run, true)
				}
			}
			defer n.hooks.end(run)
			switch {
			case r.panicked:
				c.close(DisconnectInternal)
			case r.err == nil && late != nil:
				late(r.value)
			}
		}()
		r = guard(n, run, func() (T, error) {
			v, err := fn(ctx)
			probe(err)
			return v, err
		})
	}()

	select {
	case r := <-results:
		if r.panicked {
			c.close(DisconnectInternal)
			return none, errAnswered
		}
		return r.value, c.hookError(ctx, run, r.err)
	case <-ctx.Done():
		close(abandoned)
		if c.ctx.Err() != nil {
			n.warnIfHanging(run)
			return none, errGone
		}
		return none, c.overrun(run)
	}
}

// probe calls what is asked of a hook's error later, while a panic is still the hook's own: the error's methods are the
// app's, and a nil pointer in an error interface is a common mistake.
func probe(err error) {
	if err == nil {
		return
	}
	_ = err.Error()
	if e, ok := errors.AsType[*Error](err); ok {
		_ = e.Error()
	}
	if d, ok := errors.AsType[*Disconnect](err); ok {
		_ = d.Error()
	}
	_ = errors.Is(err, context.DeadlineExceeded)
}

// hookError is what the client is to be told of a hook's error. What is no refusal is logged, and the client tries again.
func (c *Client) hookError(ctx context.Context, run *hookRun, err error) error {
	if err == nil {
		return nil
	}
	if _, refused := errors.AsType[*Error](err); refused || asDisconnect(err) != nil {
		return err
	}
	switch {
	case c.ctx.Err() != nil:
		return errGone // and the error tells that, most likely
	case errors.Is(err, context.DeadlineExceeded) && ctx.Err() != nil:
		return c.overrun(run)
	}
	c.node.log.Error("hook failed", append(run.attrs(), slog.Any("err", err))...)
	return ErrInternal
}

// overrun is called when a hook of the client did not return in time. The second time costs the connection: the app hangs
// for this client, and a new connection may fare better.
func (c *Client) overrun(run *hookRun) error {
	c.node.warnSlow(run)
	if !run.routine && c.overruns.Add(1) >= 2 {
		c.close(DisconnectInternal)
		return errAnswered
	}
	return ErrInternal
}

// guard runs an app's function, turns a panic into a result, and names a function that was slow.
func guard[T any](n *Node, run *hookRun, fn func() (T, error)) (r hookResult[T]) {
	returned := false
	defer func() {
		if returned {
			return
		}
		v := recover()
		if v == nil {
			v = "runtime.Goexit was called"
		}
		r.panicked = true
		n.log.Error("hook panicked", append(run.attrs(), slog.String("panic", fmt.Sprint(v)), slog.String("stack", string(debug.Stack())))...)
		if o := n.config.Observer; o != nil {
			o.HookPanicked(run.name)
		}
	}()
	r.value, r.err = fn()
	returned = true
	if slow := n.config.SlowHook; slow > 0 && time.Since(run.started) >= slow {
		n.warnSlow(run)
	}
	return r
}

// notify runs one of the app's notices on a goroutine of its own, with a fresh context. Nobody waits for it, but a panic
// costs the connection like that of any other hook.
func (n *Node) notify(c *Client, name, channel string, fn func(context.Context)) {
	run := c.hookRun(name, channel)
	n.hooks.start(run, true)
	hanging := n.warnIfHanging(run)
	// Owned by the hook tracker: it ends when the app's function returns.
	go func() {
		defer n.hooks.end(run)
		defer hanging.Stop()
		ctx, cancel := context.WithTimeout(context.WithValue(context.Background(), hookKey{}, c), n.config.HookTimeout)
		defer cancel()
		r := hookResult[struct{}]{panicked: true}
		defer func() {
			if r.panicked {
				c.close(DisconnectInternal)
			}
		}()
		r = guard(n, run, func() (struct{}, error) {
			fn(ctx)
			return struct{}{}, nil
		})
	}()
}

// warnIfHanging names a hook that nobody waits for if it does not return in time.
func (n *Node) warnIfHanging(run *hookRun) *time.Timer {
	return time.AfterFunc(n.config.HookTimeout-time.Since(run.started), func() {
		if n.hooks.runs(run) {
			n.warnSlow(run)
		}
	})
}

// warnSlow names a slow hook, once.
func (n *Node) warnSlow(run *hookRun) {
	if !run.warned.CompareAndSwap(false, true) {
		return
	}
	took := time.Since(run.started)
	message := "slow hook"
	if took >= n.config.HookTimeout {
		message = "hook timed out"
	}
	if !run.routine || n.checks.isNews("slow "+run.name, n.config.Revalidate.Interval) {
		n.log.Warn(message, append(run.attrs(), slog.Duration("took", took))...)
	}
	if o := n.config.Observer; o != nil {
		o.HookSlow(run.name, took)
	}
}
