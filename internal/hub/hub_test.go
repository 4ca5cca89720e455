package hub_test

import (
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare/internal/hub"
)

// room counts those who hold it.
type room struct {
	channel string
	holders atomic.Int32
}

func newHub() *hub.Hub[*room] {
	return hub.New(func(channel string) *room { return &room{channel: channel} })
}

func TestHub_Acquire(t *testing.T) {
	h := newHub()
	_, ok := h.Get("a")
	require.False(t, ok)

	a := h.Acquire("a")
	require.Equal(t, "a", a.channel)
	require.Same(t, a, h.Acquire("a"))
	require.NotSame(t, a, h.Acquire("b"))
	got, ok := h.Get("a")
	require.True(t, ok)
	require.Same(t, a, got)
	require.Equal(t, 2, h.Len())
}

func TestHub_Release(t *testing.T) {
	h := newHub()
	a := h.Acquire("a")
	h.Acquire("a")
	require.False(t, h.Release("a"), "somebody still holds it")
	require.False(t, h.Idle("a", a))
	require.True(t, h.Release("a"))
	require.True(t, h.Idle("a", a))

	got, ok := h.Get("a")
	require.True(t, ok, "an idle room stays")
	require.Same(t, a, got)
	require.Same(t, a, h.Acquire("a"), "and can be held again")
	require.False(t, h.Idle("a", a))
}

func TestHub_Release_PanicsIfNobodyHoldsIt(t *testing.T) {
	h := newHub()
	require.PanicsWithValue(t, "hub: release of a room that nobody holds: a", func() { h.Release("a") })
	h.Acquire("a")
	h.Release("a")
	require.PanicsWithValue(t, "hub: release of a room that nobody holds: a", func() { h.Release("a") })
}

func TestHub_Remove(t *testing.T) {
	h := newHub()
	first := h.Acquire("a")
	h.Remove("a", first)
	require.Equal(t, 1, h.Len(), "somebody holds it")

	h.Release("a")
	h.Remove("a", first)
	require.Zero(t, h.Len())
	require.False(t, h.Idle("a", first))
	h.Remove("a", first)

	second := h.Acquire("a")
	require.NotSame(t, first, second)
	h.Release("a")
	require.False(t, h.Idle("a", first), "the channel has another room now")
	h.Remove("a", first)
	got, ok := h.Get("a")
	require.True(t, ok)
	require.Same(t, second, got)
}

func TestHub_All(t *testing.T) {
	h := newHub()
	var want []string
	for i := range 500 {
		want = append(want, h.Acquire(fmt.Sprintf("%03d", i)).channel)
	}
	var got []string
	for r := range h.All() {
		got = append(got, r.channel)
		h.Release(r.channel)   // no lock is held
		h.Remove(r.channel, r) // not even the shard's own
	}
	slices.Sort(got)
	require.Equal(t, want, got)
	require.Zero(t, h.Len())

	h.Acquire("a")
	h.Acquire("b")
	for range h.All() {
		break
	}
}

// TestHub_Concurrent holds a room from many goroutines, and takes it out whenever it is idle: nobody may hold a room that
// is not in the hub.
func TestHub_Concurrent(t *testing.T) {
	h := newHub()
	var wg sync.WaitGroup
	var lost atomic.Int32
	for range 8 {
		wg.Go(func() {
			for i := range 2000 {
				channel := fmt.Sprint(i % 3)
				r := h.Acquire(channel)
				r.holders.Add(1)
				if got, ok := h.Get(channel); !ok || got != r {
					lost.Add(1)
				}
				r.holders.Add(-1)
				if h.Release(channel) && h.Idle(channel, r) {
					h.Remove(channel, r)
				}
			}
		})
	}
	wg.Wait()
	require.Zero(t, lost.Load())
}
