package outbox

import (
	"bytes"
	"fmt"
	"runtime"
	"strings"
	"testing"
	"weak"

	"github.com/stretchr/testify/require"
)

// fill makes a queue of items "key:frame", separated by blanks; an item without a key is of no subscription.
func fill(items string) *Queue[string] {
	var q Queue[string]
	for it := range strings.FieldsSeq(items) {
		key, frame, ok := strings.Cut(it, ":")
		if !ok {
			key, frame = "", it
		}
		q.Push([]byte(frame), key)
	}
	return &q
}

// drain takes item by item and joins the frames by blanks.
func drain(q *Queue[string]) string {
	var frames []string
	for q.Len() > 0 {
		out, _ := q.Take(nil, 0)
		frames = append(frames, string(out))
	}
	return strings.Join(frames, " ")
}

func TestQueue_Take(t *testing.T) {
	tests := []struct {
		name  string
		items string
		max   int
		out   string
		n     int
		left  string
	}{
		{"empty", "", 10, "", 0, ""},
		{"one", "a:123", 10, "123", 1, ""},
		{"one over max", "a:123", 1, "123", 1, ""},
		{"one with max 0", "a:123 b:4", 0, "123", 1, "4"},
		{"one with negative max", "a:123 b:4", -1, "123", 1, "4"},
		{"all", "a:123 b:4 56", 10, "123456", 3, ""},
		{"exactly max", "a:123 b:4 56", 6, "123456", 3, ""},
		{"up to max", "a:123 b:4 56", 5, "1234", 2, "56"},
		{"no overtaking", "a:1 b:23456 c:7", 3, "1", 1, "23456 7"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			q := fill(tt.items)
			out, n := q.Take(make([]byte, 0, 2), tt.max)
			require.Equal(t, tt.out, string(out))
			require.Equal(t, tt.n, n)
			require.Equal(t, len(strings.ReplaceAll(tt.left, " ", "")), q.Bytes())
			require.Equal(t, tt.left, drain(q))
			require.Zero(t, q.Bytes())
		})
	}
}

func TestQueue_Take_copiesOnlyToJoin(t *testing.T) {
	var q Queue[int]
	one, two := []byte("one"), []byte("two")
	buf := make([]byte, 0, 64)

	q.Push(one, 1)
	out, _ := q.Take(buf, 100)
	require.Same(t, &one[0], &out[0])

	q.Push(one, 1)
	q.Push(two, 1)
	out, _ = q.Take(buf, 100)
	require.Equal(t, "onetwo", string(out))
	require.Same(t, &buf[:1][0], &out[0])
	require.Equal(t, "one", string(one))
}

func TestQueue_Drop(t *testing.T) {
	const all = -1
	tests := []struct {
		name    string
		items   string
		key     string
		want    int
		dropped int
		bytes   int
		left    string
	}{
		{"oldest first", "a:11 a:22 a:33", "a", 1, 1, 2, "22 33"},
		{"as many as needed", "a:11 a:22 a:33", "a", 3, 2, 4, "33"},
		{"exactly", "a:11 a:22 a:33", "a", 4, 2, 4, "33"},
		{"none is left", "a:11 a:22", "a", 9, 2, 4, ""},
		{"others stay in order", "x b:1 a:22 b:3 a:44 y a:55", "a", 3, 2, 4, "x 1 3 y 55"},
		{"unknown key", "a:1 b:2", "c", 1, 0, 0, "1 2"},
		{"nothing wanted", "a:1", "a", 0, 0, 0, "1"},
		{"no subscription", "1 2 a:3", "", 1, 0, 0, "1 2 3"},
		{"empty queue", "", "a", 1, 0, 0, ""},
		{"all", "a:1 x b:2 a:3 y a:4", "a", all, 3, 3, "x 2 y"},
		{"all of no subscription", "1 2 a:3", "", all, 0, 0, "1 2 3"},
		{"all that are empty", "a: b:1 a:", "a", all, 2, 0, "1"},
		{"all of an empty queue", "", "a", all, 0, 0, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			q := fill(tt.items)
			before := q.Bytes()
			var dropped, n int
			if tt.want == all {
				dropped, n = q.DropAll(tt.key)
			} else {
				dropped, n = q.DropOldest(tt.key, tt.want)
			}
			require.Equal(t, tt.dropped, dropped)
			require.Equal(t, tt.bytes, n)
			require.Equal(t, before-n, q.Bytes())
			require.Equal(t, tt.left, drain(q))
		})
	}
}

func TestQueue_Reset(t *testing.T) {
	q := fill("a:1 b:2")
	q.Reset()
	require.Zero(t, q.Len())
	require.Zero(t, q.Bytes())
	require.Nil(t, q.ring)
	q.Push([]byte("x"), "a")
	require.Equal(t, "x", drain(q))
}

func TestQueue_releasesMemory(t *testing.T) {
	for name, empty := range map[string]func(*Queue[string]){
		"take":     func(q *Queue[string]) { q.Take(nil, 1<<20) },
		"drop all": func(q *Queue[string]) { q.DropAll("a") },
	} {
		t.Run(name, func(t *testing.T) {
			q := fill(strings.Repeat("a:1 ", 1000))
			empty(q)
			require.Nil(t, q.ring)
			q.Push([]byte("x"), "a")
			empty(q)
			require.Nil(t, q.ring)
		})
	}
}

func TestQueue_forgetsFrames(t *testing.T) {
	var q Queue[int]
	var frames []weak.Pointer[[1024]byte]
	for range 3 {
		frame := new([1024]byte)
		frames = append(frames, weak.Make(frame))
		q.Push(frame[:], len(frames))
	}
	q.Take(nil, 0)
	q.DropAll(3)
	runtime.GC()
	require.Nil(t, frames[0].Value(), "taken")
	require.NotNil(t, frames[1].Value(), "queued")
	require.Nil(t, frames[2].Value(), "dropped")
	runtime.KeepAlive(&q)
}

// model is the queue without any cleverness.
type model []item[byte]

func (m *model) drop(key byte, want int) (dropped, n int) {
	var kept model
	for _, it := range *m {
		if key != 0 && it.key == key && n < want {
			dropped++
			n += len(it.frame)
		} else {
			kept = append(kept, it)
		}
	}
	*m = kept
	return dropped, n
}

func (m *model) take(max int) (out []byte, n int) {
	for _, it := range *m {
		if n > 0 && len(out)+len(it.frame) > max {
			break
		}
		out = append(out, it.frame...)
		n++
	}
	*m = (*m)[n:]
	return out, n
}

func FuzzQueue(f *testing.F) {
	f.Add([]byte{0, 1, 5, 0, 2, 3, 0, 1, 9, 2, 1, 0, 1, 0, 200})
	f.Add(bytes.Repeat([]byte{0, 1, 1, 0, 2, 2, 0, 0, 3, 3, 1, 2, 1, 0, 4}, 8))
	f.Fuzz(func(t *testing.T, ops []byte) {
		var q Queue[byte]
		var m model
		var buf []byte
		for ; len(ops) >= 3; ops = ops[3:] {
			key, arg := ops[1]%4, int(ops[2])
			switch ops[0] % 5 {
			case 0, 1: // twice, so that the queue grows
				frame := bytes.Repeat([]byte{ops[1]}, arg)
				q.Push(frame, key)
				m = append(m, item[byte]{frame, key})
			case 2:
				want, wantN := m.take(arg)
				out, n := q.Take(buf, arg)
				if n > 1 {
					buf = out
				}
				require.Equal(t, wantN, n)
				require.Equal(t, string(want), string(out))
			case 3:
				want, wantN := m.drop(key, arg)
				dropped, n := q.DropOldest(key, arg)
				require.Equal(t, [2]int{want, wantN}, [2]int{dropped, n})
			case 4:
				want, wantN := m.drop(key, 1<<30)
				dropped, n := q.DropAll(key)
				require.Equal(t, [2]int{want, wantN}, [2]int{dropped, n})
			}
			size := 0
			for _, it := range m {
				size += len(it.frame)
			}
			require.Equal(t, len(m), q.Len())
			require.Equal(t, size, q.Bytes())
		}
	})
}

func BenchmarkQueue_PushTake(b *testing.B) {
	frame := make([]byte, 128)
	for _, burst := range []int{1, 8, 100} {
		b.Run(fmt.Sprintf("burst=%d", burst), func(b *testing.B) {
			b.ReportAllocs()
			var q Queue[string]
			buf := make([]byte, 0, 64<<10)
			for b.Loop() {
				for range burst {
					q.Push(frame, "room:42")
				}
				q.Take(buf, cap(buf))
			}
		})
	}
}

func BenchmarkQueue_DropOldest(b *testing.B) {
	frame := make([]byte, 128)
	for _, n := range []int{100, 10000} {
		b.Run(fmt.Sprintf("queued=%d", n), func(b *testing.B) {
			b.ReportAllocs()
			var q Queue[string]
			for i := range n {
				q.Push(frame, fmt.Sprintf("room:%d", i%2))
			}
			i := 0
			for b.Loop() {
				key := "room:0"
				if i++; i%2 == 0 {
					key = "room:1"
				}
				q.DropOldest(key, len(frame))
				q.Push(frame, key)
			}
		})
	}
}
