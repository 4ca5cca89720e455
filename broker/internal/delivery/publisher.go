package delivery

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/fanfare-go/fanfare"
)

// publisher publishes one after the other, to channels at random, until the run is over or its node is shut down.
type publisher struct {
	name  string
	node  *fanfare.Node
	run   *Run
	keyed bool
}

func (p *publisher) work() {
	for n := 1; ; n++ {
		channel := p.run.channels[rand.N(len(p.run.channels))]
		payload := fmt.Sprintf(`"%s/%s/%d"`, channel, p.name, n)
		for !p.publish(channel, payload) {
			if !p.wait(50 * time.Millisecond) {
				return
			}
			if !p.keyed {
				break
			}
		}
		if !p.wait(rand.N(2 * p.run.options.Every)) {
			return
		}
	}
}

func (p *publisher) publish(channel, payload string) (accepted bool) {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	var options []fanfare.PublishOption
	if p.keyed {
		options = append(options, fanfare.WithIdempotencyKey(payload))
	}
	at, err := p.node.Publish(ctx, channel, []byte(payload), options...)
	if err != nil {
		p.run.ledger.attempted(channel, payload, p.keyed)
		return false
	}
	p.run.ledger.accepted(channel, Accepted{p.name, payload, at}, p.keyed)
	return true
}

// wait reports whether there is more to do after a while.
func (p *publisher) wait(d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return !errors.Is(p.node.Ready(), fanfare.ErrClosed)
	case <-p.run.over:
		return false
	}
}

// ledger is what publishers know.
type ledger struct {
	mu      sync.Mutex // guards below
	records map[string]*Record
	total   int
}

func newLedger(channels []string) *ledger {
	l := &ledger{records: make(map[string]*Record)}
	for _, channel := range channels {
		l.records[channel] = &Record{Attempts: make(map[string]bool), Keyed: make(map[string]bool)}
	}
	return l
}

func (l *ledger) accepted(channel string, a Accepted, keyed bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	r := l.records[channel]
	r.Accepted = append(r.Accepted, a)
	if keyed {
		r.Keyed[a.Payload] = true
	}
	l.total++
}

func (l *ledger) attempted(channel, payload string, keyed bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	r := l.records[channel]
	r.Attempts[payload] = true
	if keyed {
		r.Keyed[payload] = true
	}
}

// size is how many publications were accepted.
func (l *ledger) size() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.total
}

func (l *ledger) attempts() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := 0
	for _, r := range l.records {
		n += len(r.Attempts)
	}
	return n
}

// record returns what is known of a channel. Nobody publishes any more.
func (l *ledger) record(channel string) *Record {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.records[channel]
}
