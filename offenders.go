package fanfare

import (
	"log/slog"
	"sync"
	"time"
)

const (
	// offenderQuiet is after how much quiet somebody who goes over a limit again is named again.
	offenderQuiet = 10 * time.Minute
	// maxOffenders bounds how many are remembered, and so how many lines there are in that time.
	maxOffenders = 1000
)

// offenders remembers who was named in the log for going over a limit, so that each is named once and not for every event.
type offenders struct {
	mu    sync.Mutex // guards below
	known map[offence]*offender
	full  bool      // and that was logged
	sweep time.Time // not to be repeated before
}

// offence is a limit together with who went over it: a user, or one connection of the nameless.
type offence struct {
	limit, who string
	nameless   bool
}

type offender struct {
	last    time.Time
	unnamed int // events since it was named
}

// note is called for every event.
func (o *offenders) note(log *slog.Logger, limit, user, client string) {
	key := offence{limit: limit, who: user}
	if user == "" {
		key.who, key.nameless = client, true
	}
	name, ignored, full := o.enter(key, time.Now())
	if full {
		log.Warn("too many clients are over a limit to name each", slog.Int("named", maxOffenders))
	}
	if name {
		log.Warn("client is over a limit; named once, until it was quiet for a while", slog.String("limit", limit), slog.String("user", user),
			slog.String("client", client), slog.Int("unnamed", ignored), slog.Duration("quiet", offenderQuiet))
	}
}

// enter remembers an event, and tells whether to name its offender, how many events were not worth a line before, and
// whether the memory is full, once.
func (o *offenders) enter(key offence, now time.Time) (name bool, before int, full bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if known := o.known[key]; known != nil {
		quiet := now.Sub(known.last) >= offenderQuiet
		known.last = now
		if !quiet {
			known.unnamed++
			return false, 0, false
		}
		before, known.unnamed = known.unnamed, 0
		return true, before, false
	}
	if len(o.known) >= maxOffenders && !o.forget(now) {
		first := !o.full
		o.full = true
		return false, 0, first
	}
	if o.known == nil {
		o.known = make(map[offence]*offender)
	}
	o.known[key] = &offender{last: now}
	return true, 0, false
}

// forget makes room, if there are some that were quiet. The lock is held.
func (o *offenders) forget(now time.Time) bool {
	if now.Before(o.sweep) {
		return false
	}
	o.sweep = now.Add(offenderQuiet / 10) // not for every event of a crowd
	for key, known := range o.known {
		if now.Sub(known.last) >= offenderQuiet {
			delete(o.known, key)
		}
	}
	if len(o.known) >= maxOffenders {
		return false
	}
	o.full = false
	return true
}
