package stream

import (
	"math"
	"math/rand/v2"
	"runtime"
	"slices"
	"testing"
	"time"
	"weak"

	"github.com/stretchr/testify/require"
)

var start = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// filled returns a stream of the items 1 to n, of which the newest kept ones are held.
func filled(n, kept int) *Stream[int] {
	s := New[int]("epoch", start)
	for i := 1; i <= n; i++ {
		s.Append(start, i, kept, time.Hour)
	}
	return s
}

func TestStream_Read(t *testing.T) {
	after := func(offset uint64, limit int, reverse bool) Query {
		return Query{After: offset, HasAfter: true, Limit: limit, Reverse: reverse}
	}
	for _, tt := range []struct {
		name string
		q    Query
		want []int
	}{
		{"top alone", Query{}, nil},
		{"top alone with position", after(7, 0, false), nil},
		{"all", Query{Limit: -1}, []int{6, 7, 8, 9, 10}},
		{"all reversed", Query{Limit: -1, Reverse: true}, []int{10, 9, 8, 7, 6}},
		{"first", Query{Limit: 2}, []int{6, 7}},
		{"last", Query{Limit: 2, Reverse: true}, []int{10, 9}},
		{"more than there are", Query{Limit: 100}, []int{6, 7, 8, 9, 10}},
		{"after", after(8, -1, false), []int{9, 10}},
		{"after limited", after(7, 2, false), []int{8, 9}},
		{"before", after(8, -1, true), []int{7, 6}},
		{"before limited", after(9, 2, true), []int{8, 7}},
		{"after the oldest kept but one", after(5, -1, false), []int{6, 7, 8, 9, 10}},
		{"after trimmed ones", after(2, -1, false), []int{6, 7, 8, 9, 10}},
		{"after zero", after(0, 2, false), []int{6, 7}},
		{"before trimmed ones", after(3, -1, true), nil},
		{"before the oldest kept", after(6, -1, true), nil},
		{"before zero", after(0, -1, true), nil},
		{"after the top", after(10, -1, false), nil},
		{"beyond the top", after(11, -1, false), nil},
		{"far beyond the top", after(math.MaxUint64, -1, false), nil},
		{"before the top", after(10, 1, true), []int{9}},
		{"before beyond the top", after(11, 2, true), []int{10, 9}},
		{"before far beyond the top", after(math.MaxUint64, 2, true), []int{10, 9}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			require.Equal(t, tt.want, filled(10, 5).Read(start, tt.q))
		})
	}
}

func TestStream_Read_Empty(t *testing.T) {
	s := New[int]("e", start)
	require.Equal(t, "e", s.Epoch())
	for _, q := range []Query{{Limit: -1}, {Limit: -1, Reverse: true}, {HasAfter: true, Limit: -1}, {HasAfter: true, After: 3, Limit: -1, Reverse: true}} {
		require.Empty(t, s.Read(start, q))
	}
	require.Zero(t, s.Top())
	_, _, ok := s.Expiry()
	require.False(t, ok)
}

func TestStream_Read_NothingOlderThanItsTTL(t *testing.T) {
	s := New[int]("", start)
	s.Append(start, 1, 10, time.Minute)
	s.Append(start.Add(30*time.Second), 2, 10, time.Minute)
	all := Query{Limit: -1}
	require.Equal(t, []int{1, 2}, s.Read(start.Add(time.Minute-1), all))
	require.Equal(t, []int{2}, s.Read(start.Add(time.Minute), all))
	require.Empty(t, s.Read(start.Add(90*time.Second), all))
	require.EqualValues(t, 2, s.Top())
	require.EqualValues(t, 3, s.Append(start.Add(2*time.Minute), 3, 10, time.Minute))
}

func TestStream_Append_LimitsOfTheNewestHoldForAll(t *testing.T) {
	all := Query{Limit: -1}
	at := func(seconds int) time.Time { return start.Add(time.Duration(seconds) * time.Second) }
	t.Run("smaller size", func(t *testing.T) {
		s := filled(100, 100)
		s.Append(start, 101, 3, time.Hour)
		require.Equal(t, []int{99, 100, 101}, s.Read(start, all))
		require.LessOrEqual(t, len(s.ring), 4)
	})
	t.Run("larger size", func(t *testing.T) {
		s := filled(100, 3)
		s.Append(start, 101, 5, time.Hour)
		require.Equal(t, []int{98, 99, 100, 101}, s.Read(start, all))
	})
	t.Run("shorter age", func(t *testing.T) {
		s := New[int]("", start)
		s.Append(at(0), 1, 10, time.Hour)
		s.Append(at(5), 2, 10, time.Hour)
		s.Append(at(9), 3, 10, 5*time.Second)
		require.Equal(t, []int{2, 3}, s.Read(at(9), all))
		require.Equal(t, []int{3}, s.Read(at(10), all))
		require.Empty(t, s.Read(at(14), all))
	})
	t.Run("longer age", func(t *testing.T) {
		s := New[int]("", start)
		s.Append(at(0), 1, 10, 5*time.Second)
		s.Append(at(1), 2, 10, time.Hour)
		require.Equal(t, []int{1, 2}, s.Read(at(4), all))
		require.Equal(t, []int{2}, s.Read(at(5), all))
		oldest, newest, ok := s.Expiry()
		require.True(t, ok)
		require.Equal(t, at(3601), oldest)
		require.Equal(t, at(3601), newest)
	})
	t.Run("short age between long ones leaves no hole", func(t *testing.T) {
		s := New[int]("", start)
		s.Append(at(0), 1, 10, time.Hour)
		s.Append(at(0), 2, 10, time.Second)
		s.Append(at(0), 3, 10, time.Hour)
		require.Equal(t, []int{3}, s.Read(at(1), all))
	})
}

func TestStream_Append_TimeRunsBackwards(t *testing.T) {
	s := New[int]("", start)
	s.Append(start.Add(10*time.Second), 1, 10, time.Minute)
	s.Append(start, 2, 10, time.Minute)
	require.Equal(t, []int{1, 2}, s.Read(start.Add(69*time.Second), Query{Limit: -1}))
	require.Empty(t, s.Read(start.Add(70*time.Second), Query{Limit: -1}))
}

func TestStream_Append_LargeLimits(t *testing.T) {
	s := New[int]("", start)
	for i := range 10 {
		s.Append(start.Add(time.Hour), i, math.MaxInt, math.MaxInt64)
	}
	require.Len(t, s.Read(start.Add(1000*time.Hour), Query{Limit: -1}), 10)
	oldest, _, _ := s.Expiry()
	require.True(t, oldest.After(start.Add(math.MaxInt64)))
}

func TestStream_Clear_KeepsTheTop(t *testing.T) {
	s := filled(10, 5)
	s.Clear()
	require.Empty(t, s.Read(start, Query{Limit: -1}))
	require.EqualValues(t, 10, s.Top())
	require.EqualValues(t, 11, s.Append(start, 11, 5, time.Hour))
	require.Equal(t, []int{11}, s.Read(start, Query{After: 3, HasAfter: true, Limit: -1}))
}

func TestStream_Expire_GivesMemoryBack(t *testing.T) {
	s := New[*[64]int]("", start)
	for i := range 1000 {
		s.Append(start.Add(time.Duration(i)*time.Second), new([64]int), 10_000, 1000*time.Second)
	}
	first := weak.Make(s.ring[s.head].value)
	s.Expire(start.Add(1990 * time.Second))
	require.Equal(t, 9, s.Len())
	require.LessOrEqual(t, len(s.ring), 4*9)
	runtime.GC()
	require.Nil(t, first.Value(), "an expired item is still reachable")
	s.Expire(start.Add(time.Hour))
	require.Nil(t, s.ring)
	require.Nil(t, s.limits)
	runtime.KeepAlive(s)
}

// model is the stream in its most naive form.
type model struct {
	top   uint64
	items []modelItem
}

type modelItem struct {
	offset uint64
	at     time.Time
	ttl    time.Duration
}

func (m *model) append(now time.Time, size int, ttl time.Duration) {
	m.top++
	for i := range m.items {
		m.items[i].ttl = min(m.items[i].ttl, ttl)
	}
	m.items = append(m.items, modelItem{m.top, now, ttl})
	m.expire(now)
	m.items = m.items[max(0, len(m.items)-size):]
}

func (m *model) expire(now time.Time) {
	m.items = slices.DeleteFunc(m.items, func(i modelItem) bool { return now.Sub(i.at) >= i.ttl })
}

func (m *model) read(q Query) (out []uint64) {
	for _, i := range m.items {
		if !q.HasAfter || (!q.Reverse && i.offset > q.After) || (q.Reverse && i.offset < q.After) {
			out = append(out, i.offset)
		}
	}
	if q.Reverse {
		slices.Reverse(out)
	}
	if q.Limit >= 0 && len(out) > q.Limit {
		out = out[:q.Limit]
	}
	return out
}

func FuzzStream(f *testing.F) {
	for seed := range uint64(50) {
		f.Add(seed, uint16(400))
	}
	f.Fuzz(func(t *testing.T, seed uint64, steps uint16) {
		r := rand.New(rand.NewPCG(seed, 0))
		s, m, now := New[uint64]("", start), &model{}, start
		size, ttl := 1+r.IntN(40), time.Duration(1+r.IntN(40))*time.Second
		for range steps % 2000 {
			switch op := r.IntN(100); {
			case op < 60:
				require.Equal(t, m.top+1, s.Append(now, m.top+1, size, ttl))
				m.append(now, size, ttl)
			case op < 75:
				now = now.Add(time.Duration(r.IntN(5)) * time.Second)
			case op < 77:
				now = now.Add(time.Duration(r.IntN(60)) * time.Second)
			case op < 80:
				size, ttl = 1+r.IntN(40), time.Duration(1+r.IntN(40))*time.Second
			case op < 81:
				s.Clear()
				m.items = nil
			default:
				m.expire(now)
				q := Query{HasAfter: r.IntN(3) > 0, Limit: r.IntN(20) - 3, Reverse: r.IntN(2) == 0}
				q.After = uint64(max(0, int(m.top)+r.IntN(60)-50))
				want, got := m.read(q), s.Read(now, q)
				require.True(t, slices.Equal(want, got), "seed %d, %+v: want %v, got %v", seed, q, want, got)
				require.Equal(t, len(m.items), s.Len())
				checkExpiry(t, m, s)
			}
			require.Equal(t, m.top, s.Top())
			require.LessOrEqual(t, len(s.ring), max(minRing, 4*s.Len()))
		}
	})
}

func checkExpiry(t *testing.T, m *model, s *Stream[uint64]) {
	oldest, newest, ok := s.Expiry()
	require.Equal(t, len(m.items) > 0, ok)
	if ok {
		first, last := m.items[0], m.items[len(m.items)-1]
		require.Equal(t, first.at.Add(first.ttl), oldest)
		require.Equal(t, last.at.Add(last.ttl), newest)
	}
}

func BenchmarkStream_Append(b *testing.B) {
	s, v := New[int]("", start), 0
	b.ReportAllocs()
	for b.Loop() {
		v++
		s.Append(start.Add(time.Duration(v)*time.Millisecond), v, 1000, 10*time.Second)
	}
}
