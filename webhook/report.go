package webhook

import (
	"context"
	"log/slog"
	"sync"
	"time"
)

// sayAgain is how long the log is spared the same problem of the same endpoint.
const sayAgain = time.Minute

// reporter logs problems with the app: each kind once for each endpoint, and again after a while with how often it came meanwhile.
// With thousands of clients an app that is down would otherwise fill the disk.
type reporter struct {
	log *slog.Logger

	mu   sync.Mutex // guards below
	seen map[problem]*sightings
}

// problem is a kind of trouble at an endpoint. There are few kinds, and they are constants of this package.
type problem struct{ hook, kind string }

type sightings struct {
	logged time.Time
	since  int // how often it came since then
}

func (r *reporter) warn(hook, kind string, attrs ...slog.Attr) {
	now := time.Now()
	p := problem{hook, kind}
	r.mu.Lock()
	if r.seen == nil {
		r.seen = make(map[problem]*sightings)
	}
	s := r.seen[p]
	if s != nil && now.Sub(s.logged) < sayAgain {
		s.since++
		r.mu.Unlock()
		return
	}
	if s != nil && s.since > 0 {
		attrs = append(attrs, slog.Int("times_since_last_logged", s.since))
	}
	r.seen[p] = &sightings{logged: now}
	r.mu.Unlock()
	// Without a request's context: the line stands for many of them.
	r.log.LogAttrs(context.Background(), slog.LevelWarn, kind, append([]slog.Attr{slog.String("hook", hook)}, attrs...)...)
}

// forget makes the next problem of an endpoint news again.
func (r *reporter) forget(hook string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for p := range r.seen {
		if p.hook == hook {
			delete(r.seen, p)
		}
	}
}
