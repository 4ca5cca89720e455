package redisbroker

import (
	"time"

	"github.com/redis/rueidis"
)

// view is what a server said about all leases, at one moment. It is immutable.
type view struct {
	asked  time.Time // before the server was asked
	seen   time.Time // when it had answered
	now    int64     // the server's clock, in ms
	steady int64     // since when this broker has reached it without an interruption
	// lenient is until when leases that ended still count: after an interruption nobody knows whether their nodes are to blame.
	lenient int64
	ends    map[string]int64 // by incarnation; the server's clock, in ms
	dying   map[string]bool  // those that lost their lease, and still have something
}

// renewal is what a renewal of leases brings.
type renewal struct {
	view    *view
	lost    []string // own incarnations that have no lease any more
	taken   []string // those of them whose members were taken out on purpose
	claimed []string // a dead one that this broker is to sweep
	late    []string // own ones that others may have taken for dead for a moment
	mourned []string // those of the lost whose members others may have been told are gone
}

func parseRenewal(result rueidis.RedisResult) (renewal, error) {
	r := renewal{view: &view{ends: make(map[string]int64), dying: make(map[string]bool)}}
	answer, err := result.ToArray()
	if err != nil {
		return r, err
	}
	var lists [7][]string
	for i := range lists {
		if lists[i], err = answer[i+2].AsStrSlice(); err != nil {
			return r, err
		}
	}
	if r.view.now, err = answer[0].AsInt64(); err != nil {
		return r, err
	}
	if r.view.steady, err = answer[1].AsInt64(); err != nil {
		return r, err
	}
	for i := 0; i+1 < len(lists[0]); i += 2 {
		r.view.ends[lists[0][i]] = number(lists[0][i+1])
	}
	for _, inc := range lists[1] {
		r.view.dying[inc] = true
	}
	r.lost, r.taken, r.claimed, r.late, r.mourned = lists[2], lists[3], lists[4], lists[5], lists[6]
	return r, nil
}

// clock is the server's clock now.
func (v *view) clock() int64 { return v.now + time.Since(v.seen).Milliseconds() }

// alive reports whether an incarnation has a lease.
func (v *view) alive(inc string) bool {
	end, ok := v.ends[inc]
	now := v.clock()
	return ok && (end > now || now < v.lenient)
}

// split tells the living incarnations from the dead.
func (v *view) split(incs []string) (alive, dead []string) {
	for _, inc := range incs {
		if v.alive(inc) {
			alive = append(alive, inc)
		} else {
			dead = append(dead, inc)
		}
	}
	return alive, dead
}

// nextEnd is the time until the first lease ends that has not ended yet, if no node renews its own; at most limit.
func (v *view) nextEnd(limit time.Duration) time.Duration {
	now := v.clock()
	for _, end := range v.ends {
		if end >= now {
			limit = min(limit, time.Duration(end-now+1)*time.Millisecond)
		}
	}
	return limit
}
