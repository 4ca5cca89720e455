package redisbroker

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/rueidis"

	"github.com/fanfare-go/fanfare"
)

var (
	//go:embed lease_renew.lua
	leaseRenewSource string
	//go:embed lease_end.lua
	leaseEndSource string
	//go:embed lease_sweeping.lua
	leaseSweepingSource string
	//go:embed lease_swept.lua
	leaseSweptSource string

	leaseRenew    = rueidis.NewLuaScript(leaseRenewSource)
	leaseEnd      = rueidis.NewLuaScript(leaseEndSource)
	leaseSweeping = rueidis.NewLuaScript(leaseSweepingSource)
	leaseSwept    = rueidis.NewLuaScript(leaseSweptSource)
)

// keeper keeps the leases of this broker's nodes at one server.
type keeper struct {
	leases *leases
	shard  *shard
	lease  time.Duration
	keys   []string // of leases, of what is dying, of what was removed, and of what was swept

	wake     chan struct{} // of keep; one slot
	mending  chan struct{} // wakes mendAll; one slot
	claims   chan string   // of sweepAll; one slot
	sweeping atomic.Bool   // it has something to do
	renewing chan struct{} // of one slot: taken by whoever renews

	mu       sync.Mutex // guards below; a leaf
	closed   bool
	holdings map[string]*holding // by node
	view     *view               // nil before the first
	dead     map[string]bool     // incarnations that had no lease when somebody asked
	orphans  map[debt]bool       // those of them that others were told of, by channel
	servers  map[string]bool     // lives of masters, by noteLives; nil before the first
	failing  bool
}

func newKeeper(l *leases, s *shard) *keeper {
	leases := l.broker.key(kindLease, "")
	return &keeper{
		leases: l, shard: s, lease: l.broker.config.Lease, keys: []string{leases, leases + "d", leases + "r", leases + "s"},
		wake: make(chan struct{}, 1), mending: make(chan struct{}, 1), claims: make(chan string, 1), renewing: make(chan struct{}, 1),
		holdings: make(map[string]*holding), dead: make(map[string]bool), orphans: make(map[debt]bool),
	}
}

func notify(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// keep renews the leases every third of their time, and looks when another's may have ended.
func (k *keeper) keep() {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-k.leases.ctx.Done():
			return
		case <-k.wake:
		case <-timer.C:
		}
		if !k.holds() {
			continue // until it is woken
		}
		v, err := k.renew(k.leases.ctx, time.Now(), true)
		k.note(err)
		if err != nil {
			timer.Reset(min(k.lease/10, time.Second))
			continue
		}
		notify(k.mending)
		timer.Reset(v.nextEnd(k.lease / 3))
	}
}

func (k *keeper) holds() bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return len(k.holdings) > 0
}

// note logs that leases cannot be renewed, and that they can again, once each. That a server is away is logged already.
func (k *keeper) note(err error) {
	if errors.Is(err, fanfare.ErrClosed) || errors.Is(err, context.Canceled) || errors.Is(err, ErrUnavailable) {
		return
	}
	k.mu.Lock()
	changed := k.failing != (err != nil)
	k.failing = err != nil
	k.mu.Unlock()
	log := k.leases.broker.config.Logger.With(slog.String("server", k.shard.name))
	switch {
	case changed && err != nil:
		log.Error("leases are not renewed: others will take this node for dead", slog.Any("err", err))
	case changed:
		log.Info("leases are renewed again")
	}
}

// fresh returns a view that is not older than half a lease.
func (k *keeper) fresh(ctx context.Context) (*view, error) {
	k.mu.Lock()
	v := k.view
	k.mu.Unlock()
	if v != nil && time.Since(v.seen) < k.lease/2 {
		return v, nil
	}
	return k.refresh(ctx)
}

// refresh returns a view that began after the call.
func (k *keeper) refresh(ctx context.Context) (*view, error) { return k.renew(ctx, time.Now(), false) }

// renew renews the leases of this broker, and begins new ones for nodes that lost theirs. Callers at the same time share a renewal
// that began after since. If it may claim, it may find something to sweep.
func (k *keeper) renew(ctx context.Context, since time.Time, claim bool) (*view, error) {
	select {
	case k.renewing <- struct{}{}:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	defer func() { <-k.renewing }()
	for asked := false; ; asked = true {
		k.mu.Lock()
		if k.closed {
			k.mu.Unlock()
			return nil, fanfare.ErrClosed
		}
		v, all := k.view, k.allHeld()
		k.mu.Unlock()
		if v != nil && v.asked.After(since) && all && (asked || !claim) {
			return v, nil
		}
		if err := k.renewOnce(ctx, claim); err != nil {
			return nil, err
		}
	}
}

func (k *keeper) allHeld() bool {
	for _, h := range k.holdings {
		if !h.held {
			return false
		}
	}
	return true
}

// renewOnce asks the server once.
func (k *keeper) renewOnce(ctx context.Context, claim bool) error {
	delay := time.Duration(-1)
	if claim && !k.sweeping.Load() {
		delay = 0
		if !k.leases.watched() {
			delay = k.lease / 2 // somebody who tells the others may come first
		}
	}
	k.mu.Lock()
	last := k.view
	var begun, held []string
	for _, h := range k.holdings {
		if h.held {
			held = append(held, h.inc)
		} else {
			begun = append(begun, h.inc)
		}
	}
	k.mu.Unlock()
	args := []string{milliseconds(k.lease), milliseconds(k.lease), "0", "0", "-1", strconv.Itoa(len(begun))}
	if last != nil {
		args[2], args[3] = strconv.FormatInt(last.now, 10), strconv.FormatInt(last.steady, 10)
	}
	if delay >= 0 {
		args[4] = milliseconds(delay)
	}
	args = append(append(args, begun...), held...)

	asked := time.Now()
	result, err := k.shard.run(ctx, leaseRenew, k.keys, args)
	if err != nil {
		return err
	}
	r, err := parseRenewal(result)
	if err != nil {
		return unexpected(err)
	}
	r.view.asked, r.view.seen = asked, time.Now()
	if last != nil {
		r.view.lenient = last.lenient
		if r.view.steady == r.view.now && len(held) > 0 {
			r.view.lenient = r.view.now + k.lease.Milliseconds()
		}
	}
	k.renewed(r, begun)
	return nil
}

// renewed takes in what the server said.
func (k *keeper) renewed(r renewal, begun []string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.view = r.view
	for _, inc := range begun {
		if h := k.holdings[nodeOf(inc)]; h != nil && h.inc == inc {
			h.held = true
			notify(k.mending)
		}
	}
	for _, inc := range r.lost {
		if h := k.holdings[nodeOf(inc)]; h != nil && h.inc == inc {
			if slices.Contains(r.mourned, inc) {
				h.mourn()
			}
			h.inc, h.held = newIncarnation(h.node), false
			h.soil()
		}
	}
	for _, inc := range r.late {
		if h := k.holdings[nodeOf(inc)]; h != nil && h.inc == inc {
			h.soil() // whoever needed the place of a connection has taken it
			notify(k.mending)
		}
	}
	for _, inc := range r.taken {
		if h := k.holdings[nodeOf(inc)]; h != nil {
			h.clear(kindMembers)
		}
	}
	if len(r.claimed) > 0 {
		k.sweeping.Store(true)
		k.claims <- r.claimed[0] // it has room: nobody sweeps, and only one renews
	}
}

// judge returns a view that tells the living incarnations of these from the dead.
func (k *keeper) judge(ctx context.Context, incs []string) (*view, error) {
	v, err := k.fresh(ctx)
	if err != nil || k.knows(v, incs) {
		return v, err
	}
	if v, err = k.refresh(ctx); err != nil {
		return nil, err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if len(k.dead) > 1000 {
		clear(k.dead)
		clear(k.orphans)
	}
	for _, inc := range incs {
		if _, ok := v.ends[inc]; !ok {
			k.dead[inc] = true
		}
	}
	return v, nil
}

// knows reports whether a view is enough to judge. That a lease was not renewed may be news of the moment.
func (k *keeper) knows(v *view, incs []string) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	recent := time.Since(v.seen) < k.lease/10
	for _, inc := range incs {
		if _, ok := v.ends[inc]; !k.dead[inc] && !(ok && (recent || v.alive(inc))) {
			return false
		}
	}
	return true
}

// unexpected wraps an error of reading an answer.
func unexpected(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("redisbroker: unexpected answer: %w", err)
}

// number reads what Redis prints for a whole number.
func number(s string) int64 {
	n, _ := strconv.ParseInt(s, 10, 64)
	return n
}
