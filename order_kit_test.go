package fanfare_test

import (
	"context"
	"fmt"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare"
)

// ledger is what was published, in the broker's own words: the truth that subscribers are compared with.
type ledger struct {
	mu       sync.Mutex // guards below
	log      map[fanfare.Position]string
	tops     map[string]uint64 // by epoch
	payloads map[string]int    // how often each was published
	top      fanfare.Position  // of the newest life of the stream
	more     chan struct{}     // closed by the next publication
}

func newLedger() *ledger {
	return &ledger{
		log: make(map[fanfare.Position]string), tops: make(map[string]uint64), payloads: make(map[string]int),
		more: make(chan struct{}),
	}
}

func (l *ledger) record(at fanfare.Position, payload string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if other, ok := l.log[at]; ok {
		payload = fmt.Sprintf("%s and %s at one place", other, payload) // which nobody will have seen
	}
	l.log[at] = payload
	l.payloads[payload]++
	l.tops[at.Epoch] = max(l.tops[at.Epoch], at.Offset)
	l.top = fanfare.Position{Offset: l.tops[at.Epoch], Epoch: at.Epoch}
	close(l.more)
	l.more = make(chan struct{})
}

// size is how many publications there were.
func (l *ledger) size() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.log)
}

// end is the place after the newest publication.
func (l *ledger) end() fanfare.Position {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.top
}

// awaitMore waits until there were n more publications, or over is closed.
func (l *ledger) awaitMore(n int, over <-chan struct{}) {
	for want := l.size() + n; ; {
		l.mu.Lock()
		reached, more := len(l.log) >= want, l.more
		l.mu.Unlock()
		if reached {
			return
		}
		select {
		case <-more:
		case <-over:
			return
		}
	}
}

// check returns what is wrong with the broker's own account: offsets that are missing or taken twice, or a payload
// published twice.
func (l *ledger) check() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	total := 0
	for _, top := range l.tops {
		total += int(top)
	}
	if total != len(l.log) {
		return fmt.Errorf("%d publications under offsets up to %v", len(l.log), l.tops)
	}
	if len(l.payloads) != len(l.log) {
		return fmt.Errorf("%d payloads in %d publications", len(l.payloads), len(l.log))
	}
	return nil
}

// ledgerBroker is a faulty broker of which a ledger is kept.
type ledgerBroker struct {
	*faultBroker
	ledger *ledger
}

func (b *ledgerBroker) Publish(ctx context.Context, channel string, p *fanfare.Publication, o fanfare.StoreOptions) (fanfare.Position, error) {
	at, err := b.faultBroker.Publish(ctx, channel, p, o)
	if err == nil {
		b.ledger.record(at, string(p.Data))
	}
	return at, err
}

// tale is what one subscriber lived to see, in order.
type tale []scene

// scene is a publication that came or, without a payload, the place from which the subscriber was told to go on: at its
// beginning, or because what it missed could not be recovered.
type scene struct {
	fanfare.Position
	payload string
}

// gaps is how often the subscriber was told that it missed something.
func (t tale) gaps() int {
	n := -1 // the beginning is none
	for _, s := range t {
		if s.payload == "" {
			n++
		}
	}
	return n
}

// check returns the first thing that the subscriber should not have seen: anything but the next publication of the log,
// unless it was told first.
func (t tale) check(l *ledger) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	var at fanfare.Position
	for i, s := range t {
		switch {
		case i == 0 && s.payload != "":
			return fmt.Errorf("%v before the subscription began", s)
		case s.payload == "" && s.Offset > l.tops[s.Epoch]:
			return fmt.Errorf("told to go on after %v, where the stream never was", s.Position)
		case s.payload == "" && s.Epoch == at.Epoch && s.Offset < at.Offset:
			return fmt.Errorf("told to go back from %v to %v", at, s.Position)
		case s.payload == "":
		case s.Epoch != at.Epoch:
			return fmt.Errorf("%v of another life after %v", s, at)
		case s.Offset <= at.Offset:
			return fmt.Errorf("%v twice or late, after %v", s, at)
		case s.Offset > at.Offset+1:
			return fmt.Errorf("%v after %v: lost in silence", s, at)
		case s.payload != l.log[s.Position]:
			return fmt.Errorf("%v, but the broker has %s there", s, l.log[s.Position])
		}
		at = s.Position
	}
	if at != l.top {
		return fmt.Errorf("ends at %v, the stream at %v: lost in silence", at, l.top)
	}
	return nil
}

func TestTale_Check(t *testing.T) {
	at := func(offset uint64, epoch, payload string) scene {
		return scene{fanfare.Position{Offset: offset, Epoch: epoch}, payload}
	}
	l := newLedger()
	for i := range 4 {
		l.record(fanfare.Position{Offset: uint64(i + 1), Epoch: "a"}, fmt.Sprintf("a%d", i+1))
	}
	l.record(fanfare.Position{Offset: 1, Epoch: "b"}, "b1")
	l.record(fanfare.Position{Offset: 2, Epoch: "b"}, "b2")
	require.NoError(t, l.check())

	const fine = ""
	tests := []struct {
		name, want string
		tale       tale
	}{
		{"all", fine, tale{at(0, "b", ""), at(1, "b", "b1"), at(2, "b", "b2")}},
		{"told of a gap", fine, tale{at(0, "b", ""), at(2, "b", "")}},
		{"told of a new life", fine, tale{at(0, "a", ""), at(1, "a", "a1"), at(1, "b", ""), at(2, "b", "b2")}},
		{"a gap", "lost in silence", tale{at(0, "a", ""), at(1, "a", "a1"), at(3, "a", "a3")}},
		{"a gap, told too late", "lost in silence", tale{at(0, "a", ""), at(2, "a", "a2"), at(2, "a", "")}},
		{"the end is missing", "lost in silence", tale{at(0, "b", ""), at(1, "b", "b1")}},
		{"nothing at all", "lost in silence", nil},
		{"twice", "twice or late", tale{at(0, "b", ""), at(1, "b", "b1"), at(1, "b", "b1")}},
		{"out of order", "twice or late", tale{at(1, "a", ""), at(2, "a", "a2"), at(1, "a", "a1")}},
		{"another payload", "but the broker has b1", tale{at(0, "b", ""), at(1, "b", "a1")}},
		{"a new life in silence", "of another life", tale{at(0, "a", ""), at(1, "b", "b1")}},
		{"told to go back", "told to go back", tale{at(0, "a", ""), at(1, "a", "a1"), at(0, "a", "")}},
		{"told to go where nothing is", "never was", tale{at(0, "b", ""), at(3, "b", "")}},
		{"before the beginning", "before the subscription began", tale{at(1, "b", "b1")}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			err := tt.tale.check(l)
			if tt.want == fine {
				require.NoError(t, err)
				return
			}
			require.ErrorContains(t, err, tt.want)
		})
	}
	l.record(fanfare.Position{Offset: 2, Epoch: "b"}, "b3")
	require.Error(t, l.check(), "two publications at one place")
}
