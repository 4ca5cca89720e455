package delivery

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/fanfare-go/fanfare"
)

// Check returns everything that is wrong with the record, joined; nil if the promise was kept.
func (r *Record) Check() error {
	t := truth{
		record: r, log: make(map[fanfare.Position]string), places: make(map[string]map[string]uint64),
		accepted: make(map[string]bool), lives: make(lives),
	}
	t.publishers()
	for _, client := range slices.Sorted(maps.Keys(r.Tales)) {
		if err := t.tale(r.Tales[client]); err != nil {
			t.wrong("%s: %w", client, err)
		}
	}
	t.dense()
	if cycle := t.lives.cycle(); cycle != nil {
		t.wrong("lives of the stream come in no common order: %s", strings.Join(cycle, " before "))
	}
	return errors.Join(t.errs...)
}

// truth is the one order that all must agree on, as far as it is known: what publishers were told of it and, for publications whose
// publishers were told nothing, what clients saw first.
type truth struct {
	record   *Record
	log      map[fanfare.Position]string
	places   map[string]map[string]uint64 // offsets, by payload and epoch
	accepted map[string]bool              // payloads
	lives    lives
	errs     []error
}

func (t *truth) wrong(format string, args ...any) {
	t.errs = append(t.errs, fmt.Errorf(format, args...))
}

// publishers takes over what was accepted. One publisher waits for each answer, so its publications are in order.
func (t *truth) publishers() {
	last := make(map[string]Accepted)
	for _, a := range t.record.Accepted {
		t.accepted[a.Payload] = true
		if err := t.place(a.At, a.Payload); err != nil {
			t.wrong("%s was told: %w", a.Publisher, err)
		}
		before, any := last[a.Publisher]
		last[a.Publisher] = a
		switch {
		case !any:
		case before.At.Epoch != a.At.Epoch:
			t.lives.follow(before.At.Epoch, a.At.Epoch)
		case before.At.Offset >= a.At.Offset:
			t.wrong("%s: %q got %d@%s, and %q after that only %d", a.Publisher, before.Payload, before.At.Offset, a.At.Epoch, a.Payload, a.At.Offset)
		}
	}
}

// place notes that a payload is at a position, or returns why that cannot be.
func (t *truth) place(at fanfare.Position, payload string) error {
	if at.Offset == 0 || at.Epoch == "" {
		return fmt.Errorf("%q is at no place: %d@%s", payload, at.Offset, at.Epoch)
	}
	if other, ok := t.log[at]; ok && other != payload {
		return fmt.Errorf("%q at %d@%s, where there is %q", payload, at.Offset, at.Epoch, other)
	}
	for epoch, offset := range t.places[payload] {
		if epoch == at.Epoch && offset != at.Offset || epoch != at.Epoch && !t.record.Keyed[payload] {
			return fmt.Errorf("%q at two places, %d@%s and %d@%s", payload, offset, epoch, at.Offset, at.Epoch)
		}
	}
	t.log[at] = payload
	if t.places[payload] == nil {
		t.places[payload] = make(map[string]uint64)
	}
	t.places[payload][at.Epoch] = at.Offset
	return nil
}

// tale returns the first thing that a client should not have seen: anything but the next publication of the one order, unless it was
// told first.
func (t *truth) tale(tale Tale) error {
	var at fanfare.Position
	for i, s := range tale {
		if err := t.scene(at, s, i == 0); err != nil {
			return fmt.Errorf("%w\n%s", err, tale.around(i))
		}
		at = s.At
	}
	if at != t.record.End {
		return fmt.Errorf("lost in silence: ends at %d@%s, and the stream at %d@%s\n%s", at.Offset, at.Epoch, t.record.End.Offset,
			t.record.End.Epoch, tale.around(len(tale)-1))
	}
	return nil
}

func (t *truth) scene(at fanfare.Position, s Scene, first bool) error {
	if first != (s.Kind == Began) {
		return fmt.Errorf("a beginning elsewhere than at the beginning, or none: %v", s)
	}
	if !first && s.At.Epoch != at.Epoch && s.Kind == Told {
		t.lives.follow(at.Epoch, s.At.Epoch)
	}
	if s.Kind == Told && s.At.Epoch == at.Epoch && s.At.Offset < at.Offset {
		return fmt.Errorf("told to go back from %d: %v", at.Offset, s)
	}
	if s.Kind != Seen {
		return nil
	}
	switch {
	case s.At.Epoch != at.Epoch:
		return fmt.Errorf("another life in silence: %v after %d@%s", s, at.Offset, at.Epoch)
	case s.At.Offset <= at.Offset:
		return fmt.Errorf("twice or late: %v after %d", s, at.Offset)
	case s.At.Offset > at.Offset+1:
		return fmt.Errorf("lost in silence: %v after %d", s, at.Offset)
	case !t.accepted[s.Payload] && !t.record.Attempts[s.Payload]:
		return fmt.Errorf("nobody published it: %v", s)
	}
	return t.place(s.At, s.Payload)
}

// dense finds offsets that nothing is at, and that no publication of unknown outcome could be at, in the parts of the stream that
// publishers and clients know.
func (t *truth) dense() {
	low, high, count := make(map[string]uint64), make(map[string]uint64), make(map[string]uint64)
	for at := range t.log {
		if count[at.Epoch] == 0 {
			low[at.Epoch] = at.Offset
		}
		low[at.Epoch], high[at.Epoch] = min(low[at.Epoch], at.Offset), max(high[at.Epoch], at.Offset)
		count[at.Epoch]++
	}
	var holes, unplaced uint64
	for epoch := range count {
		holes += high[epoch] - low[epoch] + 1 - count[epoch]
	}
	for payload := range t.record.Attempts {
		if len(t.places[payload]) < len(count) && (t.record.Keyed[payload] || len(t.places[payload]) == 0) {
			unplaced++
		}
	}
	if holes > unplaced {
		t.wrong("%d offsets that nothing is at, and only %d publications of unknown outcome", holes, unplaced)
	}
}

// around is what happened before and after scene i.
func (t Tale) around(i int) string {
	var b strings.Builder
	for j := max(0, i-5); j < min(len(t), i+4); j++ {
		mark := "   "
		if j == i {
			mark = " > "
		}
		fmt.Fprintf(&b, "\t%s%v\n", mark, t[j])
	}
	return b.String()
}

// lives are the epochs of which one was seen to follow another.
type lives map[string]map[string]bool

func (l lives) follow(before, after string) {
	if l[before] == nil {
		l[before] = make(map[string]bool)
	}
	l[before][after] = true
}

// cycle returns epochs that follow each other in a circle, nil if there are none.
func (l lives) cycle() []string {
	done := make(map[string]bool)
	var path []string
	var visit func(epoch string) bool
	visit = func(epoch string) bool {
		if i := slices.Index(path, epoch); i >= 0 {
			path = append(path[i:], epoch)
			return true
		}
		if done[epoch] {
			return false
		}
		path = append(path, epoch)
		for next := range l[epoch] {
			if visit(next) {
				return true
			}
		}
		path = path[:len(path)-1]
		done[epoch] = true
		return false
	}
	for epoch := range l {
		if visit(epoch) {
			return path
		}
	}
	return nil
}
