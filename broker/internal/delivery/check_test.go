package delivery

import (
	"fmt"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare"
)

func at(offset uint64, epoch string) fanfare.Position {
	return fanfare.Position{Offset: offset, Epoch: epoch}
}

func began(offset uint64, epoch string) Scene { return Scene{Kind: Began, At: at(offset, epoch)} }
func told(offset uint64, epoch string) Scene  { return Scene{Kind: Told, At: at(offset, epoch)} }

// seen are the publications at some offsets, with the payloads that a faultless run has there.
func seen(epoch string, offsets ...uint64) Tale {
	var t Tale
	for _, o := range offsets {
		t = append(t, Scene{Kind: Seen, At: at(o, epoch), Payload: fmt.Sprintf("%s%d", epoch, o)})
	}
	return t
}

func tale(parts ...any) Tale {
	var t Tale
	for _, p := range parts {
		switch p := p.(type) {
		case Scene:
			t = append(t, p)
		case Tale:
			t = append(t, p...)
		}
	}
	return t
}

// faultless is the record of a channel with two lives of four and two publications, by two publishers, and one attempt.
func faultless() *Record {
	r := &Record{Attempts: map[string]bool{"a3": true, "nowhere": true}, Keyed: make(map[string]bool), Tales: make(map[string]Tale), End: at(2, "b")}
	for i, payload := range []string{"a1", "a2", "a3", "a4"} {
		if payload != "a3" {
			r.Accepted = append(r.Accepted, Accepted{fmt.Sprintf("p%d", i%2), payload, at(uint64(i+1), "a")})
		}
	}
	r.Accepted = append(r.Accepted, Accepted{"p0", "b1", at(1, "b")}, Accepted{"p1", "b2", at(2, "b")})
	r.Tales["whole"] = tale(began(0, "a"), seen("a", 1, 2, 3, 4), told(0, "b"), seen("b", 1, 2))
	return r
}

func TestRecord_Check_Tales(t *testing.T) {
	const fine = ""
	lateB := seen("b", 1, 2)
	tests := []struct {
		name, want string
		tale       Tale
	}{
		{"from the middle", fine, tale(began(2, "a"), seen("a", 3, 4), told(1, "b"), seen("b", 2))},
		{"a late comer", fine, tale(began(2, "b"))},
		{"told of a gap in one life", fine, tale(began(0, "a"), told(3, "a"), seen("a", 4), told(2, "b"))},
		{"told twice", fine, tale(began(0, "a"), told(2, "a"), told(2, "a"), told(0, "b"), lateB)},
		{"lost", "lost in silence", tale(began(0, "a"), seen("a", 1, 3, 4), told(2, "b"))},
		{"lost at the seam of a beginning", "lost in silence", tale(began(0, "a"), seen("a", 2, 3, 4), told(2, "b"))},
		{"lost after a told gap", "lost in silence", tale(began(0, "a"), told(2, "a"), seen("a", 4), told(2, "b"))},
		{"lost at the end", "lost in silence", tale(began(0, "b"), seen("b", 1))},
		{"lost with the whole life", "lost in silence", tale(began(0, "a"), seen("a", 1, 2, 3, 4))},
		{"lost everything", "lost in silence", nil},
		{"doubled", "twice or late", tale(began(0, "b"), seen("b", 1, 1, 2))},
		{"doubled later", "twice or late", tale(began(0, "b"), seen("b", 1, 2, 1), told(2, "b"))},
		{"doubled with another offset", "at two places", tale(began(0, "a"), seen("a", 1, 2, 3, 4), Scene{Seen, at(5, "a"), "a4"}, told(2, "b"))},
		{"doubled with another life", "where there is", tale(began(0, "a"), seen("a", 1), told(0, "b"), Scene{Seen, at(1, "b"), "a1"}, seen("b", 2))},
		{"swapped", "lost in silence", tale(began(0, "b"), seen("b", 2, 1))},
		{"swapped in content", "where there is", tale(began(0, "b"), Scene{Seen, at(1, "b"), "b2"}, Scene{Seen, at(2, "b"), "b1"})},
		{"untold gap", "lost in silence", tale(began(0, "a"), seen("a", 1, 4), told(2, "b"))},
		{"told of a gap too late", "lost in silence", tale(began(0, "a"), seen("a", 1, 3), told(3, "a"), seen("a", 4), told(2, "b"))},
		{"another life, untold", "another life in silence", tale(began(4, "a"), lateB)},
		{"told to go back", "told to go back", tale(began(2, "a"), seen("a", 3), told(1, "a"), told(2, "b"))},
		{"back in an old life", "no common order", tale(began(4, "a"), told(1, "b"), told(4, "a"), told(2, "b"))},
		{"before the beginning", "a beginning elsewhere", seen("b", 1, 2)},
		{"two beginnings", "a beginning elsewhere", tale(began(0, "b"), began(0, "b"), lateB)},
		{"invented", "nobody published it", tale(began(2, "b"), Scene{Seen, at(3, "b"), "b3"})},
		{"of a mixed up channel", "where there is", tale(began(0, "b"), seen("b", 1), Scene{Seen, at(2, "b"), "nowhere"})},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := faultless()
			r.Tales["other"] = tt.tale
			expect(t, r, tt.want)
		})
	}
}

func expect(t *testing.T, r *Record, want string) {
	t.Helper()
	err := r.Check()
	if want == "" {
		require.NoError(t, err)
		return
	}
	require.ErrorContains(t, err, want)
}

func TestRecord_Check_Publishers(t *testing.T) {
	tests := []struct {
		name, want string
		edit       func(r *Record)
	}{
		{"faultless", "", func(*Record) {}},
		{"two at one place", "where there is", func(r *Record) {
			r.Accepted = append(r.Accepted, Accepted{"p2", "c", at(2, "b")})
		}},
		{"one at two places", "at two places", func(r *Record) {
			r.Accepted = append(r.Accepted, Accepted{"p2", "b2", at(3, "b")})
		}},
		{"a retried one at two places of a life", "at two places", func(r *Record) {
			r.Keyed["b1"] = true
			r.Accepted = append(r.Accepted, Accepted{"p2", "b1", at(3, "b")})
		}},
		{"a retried one in two lives", "", func(r *Record) {
			r.Keyed["a3"] = true
			r.Accepted = append(r.Accepted, Accepted{"p2", "a3", at(3, "b")})
			r.Tales["whole"] = append(r.Tales["whole"], Scene{Seen, at(3, "b"), "a3"})
			r.End = at(3, "b")
		}},
		{"one overtakes its predecessor", "after that only", func(r *Record) {
			r.Accepted[0].Publisher, r.Accepted[1].Publisher = "p9", "p9"
			r.Accepted[0].At, r.Accepted[1].At = r.Accepted[1].At, r.Accepted[0].At
		}},
		{"an old life goes on", "no common order", func(r *Record) {
			r.Accepted = append(r.Accepted, Accepted{"p0", "a5", at(5, "a")})
		}},
		{"nowhere", "at no place", func(r *Record) {
			r.Accepted = append(r.Accepted, Accepted{"p2", "c", fanfare.Position{}})
		}},
		{"an attempt at two places", "at two places", func(r *Record) {
			r.Tales["x"] = tale(began(2, "a"), seen("a", 3, 4), told(2, "b"), Scene{Seen, at(3, "b"), "a3"})
			r.End = at(3, "b")
		}},
		{"clients disagree about an attempt", "where there is", func(r *Record) {
			r.Attempts["other"] = true
			r.Tales["x"] = tale(began(2, "a"), Scene{Seen, at(3, "a"), "other"}, seen("a", 4), told(2, "b"))
		}},
		{"more offsets than publications", "nothing is at", func(r *Record) {
			r.Accepted = append(r.Accepted, Accepted{"p2", "far", at(9, "a")})
		}},
		{"clients swap two attempts", "lost in silence", func(r *Record) {
			r.Attempts["x"], r.Attempts["y"] = true, true
			x, y := Scene{Seen, at(3, "b"), "x"}, Scene{Seen, at(4, "b"), "y"}
			r.Tales = map[string]Tale{"1": tale(began(2, "b"), x, y), "2": tale(began(2, "b"), y, x)}
			r.End = at(4, "b")
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := faultless()
			tt.edit(r)
			expect(t, r, tt.want)
		})
	}
}

// TestRecord_Check_EveryDamage damages a long faultless record at every place in every way.
func TestRecord_Check_EveryDamage(t *testing.T) {
	const n = 30
	make := func() *Record {
		r := &Record{Attempts: map[string]bool{}, Keyed: map[string]bool{}, Tales: map[string]Tale{}, End: at(n, "a")}
		whole := tale(began(0, "a"))
		for i := range n {
			s := seen("a", uint64(i+1))[0]
			r.Accepted = append(r.Accepted, Accepted{"p", s.Payload, s.At})
			whole = append(whole, s)
		}
		r.Tales["x"], r.Tales["y"] = whole, slices.Clone(whole)
		return r
	}
	require.NoError(t, make().Check())
	for i := 1; i <= n; i++ {
		for name, damage := range map[string]func(Tale) Tale{
			"lost":    func(t Tale) Tale { return slices.Delete(t, i, i+1) },
			"doubled": func(t Tale) Tale { return slices.Insert(t, i, t[i]) },
			"again":   func(t Tale) Tale { return append(t, t[i]) },
			"swapped": func(t Tale) Tale { t[i], t[i%n+1] = t[i%n+1], t[i]; return t },
			"mixed":   func(t Tale) Tale { t[i].Payload, t[i%n+1].Payload = t[i%n+1].Payload, t[i].Payload; return t },
			"renamed": func(t Tale) Tale { t[i].At.Epoch = "b"; return t },
		} {
			r := make()
			r.Tales["y"] = damage(r.Tales["y"])
			require.Error(t, r.Check(), "%s at %d", name, i)
		}
		r := make() // a gap that is told excuses what it covers
		r.Tales["y"] = slices.Replace(r.Tales["y"], i, i+1, told(uint64(i), "a"))
		require.NoError(t, r.Check(), "told at %d", i)
	}
}
