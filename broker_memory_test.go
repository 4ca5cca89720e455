package fanfare_test

import (
	"context"
	"fmt"
	"runtime"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
	"weak"

	"github.com/fanfare-go/fanfare"
	"github.com/fanfare-go/fanfare/brokertest"
	"github.com/stretchr/testify/require"
)

func TestMemoryBroker(t *testing.T) {
	brokertest.Run(t, brokertest.Options{
		New: func(testing.TB) fanfare.Broker { return fanfare.NewMemoryBroker(fanfare.MemoryBrokerConfig{}) },
		NewBounded: func(_ testing.TB, n int) fanfare.Broker {
			return fanfare.NewMemoryBroker(fanfare.MemoryBrokerConfig{MaxIdleStreams: n})
		},
		Bubble: true,
	})
}

// sink hands what it gets to functions.
type sink struct {
	publication func(channel string, p *fanfare.Publication)
	control     func(data []byte)
}

func (s sink) Publication(channel string, p *fanfare.Publication) {
	if s.publication != nil {
		s.publication(channel, p)
	}
}

func (s sink) Membership(string, fanfare.Membership) {}

func (s sink) Control(data []byte) {
	if s.control != nil {
		s.control(data)
	}
}

func (s sink) Interrupted([]string) {}

// publishWeak publishes something and returns the only trace of it that does not keep it alive.
func publishWeak(t *testing.T, b *fanfare.MemoryBroker, channel string, o fanfare.StoreOptions) weak.Pointer[fanfare.Publication] {
	t.Helper()
	p := &fanfare.Publication{Data: make([]byte, 1000)}
	_, err := b.Publish(t.Context(), channel, p, o)
	require.NoError(t, err)
	return weak.Make(p)
}

func held(ps []weak.Pointer[fanfare.Publication]) int {
	runtime.GC()
	n := 0
	for _, p := range ps {
		if p.Value() != nil {
			n++
		}
	}
	return n
}

func TestMemoryBroker_SilentChannelsReleaseTheirHistory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := fanfare.NewMemoryBroker(fanfare.MemoryBrokerConfig{})
		var ps []weak.Pointer[fanfare.Publication]
		for i := range 300 {
			o := fanfare.StoreOptions{History: fanfare.History{Size: 10, TTL: time.Minute}}
			if i%2 == 0 {
				o.IdempotencyKey, o.IdempotencyTTL = "key", time.Second
			}
			ps = append(ps, publishWeak(t, b, fmt.Sprint(i%100), o))
			time.Sleep(100 * time.Millisecond)
		}
		require.Equal(t, 300, held(ps))
		time.Sleep(31 * time.Second)
		require.Less(t, held(ps), 300, "what is old is let go while other things are not")
		time.Sleep(31 * time.Second)
		require.Zero(t, held(ps), "nobody used the channels again")
		require.NoError(t, b.Close())
	})
}

func TestMemoryBroker_ShorterTTLIsReleasedInTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := fanfare.NewMemoryBroker(fanfare.MemoryBrokerConfig{})
		long := publishWeak(t, b, "x", fanfare.StoreOptions{History: fanfare.History{Size: 10, TTL: time.Hour}})
		short := publishWeak(t, b, "x", fanfare.StoreOptions{History: fanfare.History{Size: 10, TTL: time.Second}})
		time.Sleep(3 * time.Second)
		require.Zero(t, held([]weak.Pointer[fanfare.Publication]{long, short}))
		require.NoError(t, b.Close())
	})
}

func TestMemoryBroker_RemovedHistoryIsReleased(t *testing.T) {
	b := fanfare.NewMemoryBroker(fanfare.MemoryBrokerConfig{})
	defer b.Close()
	p := publishWeak(t, b, "x", fanfare.StoreOptions{History: fanfare.History{Size: 10, TTL: time.Hour}})
	require.Equal(t, 1, held([]weak.Pointer[fanfare.Publication]{p}))
	require.NoError(t, b.RemoveHistory(t.Context(), "x"))
	require.Zero(t, held([]weak.Pointer[fanfare.Publication]{p}))
}

func TestMemoryBroker_NegativeMaxIdleStreamsIsNoBound(t *testing.T) {
	b := fanfare.NewMemoryBroker(fanfare.MemoryBrokerConfig{MaxIdleStreams: -1})
	defer b.Close()
	epochs := make(map[string]string)
	for range 2 {
		for i := range 1000 {
			ch := fmt.Sprint(i)
			h, err := b.History(t.Context(), ch, fanfare.HistoryQuery{})
			require.NoError(t, err)
			if epochs[ch] == "" {
				epochs[ch] = h.Epoch
			}
			require.Equal(t, epochs[ch], h.Epoch)
		}
	}
}

func TestMemoryBroker_EpochsAreNew(t *testing.T) {
	seen := make(map[string]bool)
	for range 10 {
		b := fanfare.NewMemoryBroker(fanfare.MemoryBrokerConfig{})
		for i := range 10 {
			h, err := b.History(t.Context(), fmt.Sprint(i), fanfare.HistoryQuery{})
			require.NoError(t, err)
			require.False(t, seen[h.Epoch], "of another stream or process")
			require.NotEqual(t, "_", h.Epoch)
			seen[h.Epoch] = true
		}
		require.NoError(t, b.Close())
	}
}

func TestMemoryBroker_Attach_RefusesTheSameNode(t *testing.T) {
	b := fanfare.NewMemoryBroker(fanfare.MemoryBrokerConfig{})
	defer b.Close()
	_, err := b.Attach("one", sink{})
	require.NoError(t, err)
	_, err = b.Attach("one", sink{})
	require.ErrorContains(t, err, `"one"`)
}

// While a sink of one channel is at work, other channels go on, whatever shard they are in.
func TestMemoryBroker_ChannelsDoNotWaitForEachOther(t *testing.T) {
	b := fanfare.NewMemoryBroker(fanfare.MemoryBrokerConfig{MaxIdleStreams: 1})
	defer b.Close()
	entered, leave := make(chan struct{}), make(chan struct{})
	l, err := b.Attach("one", sink{publication: func(channel string, _ *fanfare.Publication) {
		if channel == "slow" {
			close(entered)
			<-leave
		}
	}})
	require.NoError(t, err)
	require.NoError(t, l.Subscribe(t.Context(), "slow"))
	done := make(chan struct{})
	go func() {
		defer close(done)
		_, _ = b.Publish(context.Background(), "slow", &fanfare.Publication{}, fanfare.StoreOptions{})
	}()
	<-entered
	for i := range 500 {
		ch := fmt.Sprint(i)
		require.NoError(t, l.Subscribe(t.Context(), ch))
		_, err := b.Publish(t.Context(), ch, &fanfare.Publication{}, fanfare.StoreOptions{History: fanfare.History{Size: 1, TTL: time.Minute}})
		require.NoError(t, err)
		require.NoError(t, b.RemoveHistory(t.Context(), ch))
		require.NoError(t, l.Unsubscribe(t.Context(), ch))
	}
	close(leave)
	<-done
}

// A panic in a sink is its node's affair: the broker's locks are not lost.
func TestMemoryBroker_SinkPanics(t *testing.T) {
	b := fanfare.NewMemoryBroker(fanfare.MemoryBrokerConfig{})
	defer b.Close()
	l, err := b.Attach("one", sink{
		publication: func(string, *fanfare.Publication) { panic("publication") },
		control:     func([]byte) { panic("control") },
	})
	require.NoError(t, err)
	require.NoError(t, l.Subscribe(t.Context(), "x"))
	require.Panics(t, func() {
		_, _ = b.Publish(t.Context(), "x", &fanfare.Publication{}, fanfare.StoreOptions{})
	})
	require.Panics(t, func() { _ = b.SendControl(t.Context(), "", "one", nil) })
	require.NoError(t, l.Unsubscribe(t.Context(), "x"))
	require.NoError(t, l.Close())
}

func BenchmarkMemoryBroker_Publish(b *testing.B) {
	for _, bench := range []struct {
		name string
		o    fanfare.StoreOptions
	}{
		{"delivered", fanfare.StoreOptions{}},
		{"stored", fanfare.StoreOptions{History: fanfare.History{Size: 100, TTL: time.Minute}}},
	} {
		b.Run(bench.name, func(b *testing.B) {
			m := fanfare.NewMemoryBroker(fanfare.MemoryBrokerConfig{})
			defer m.Close()
			l, err := m.Attach("one", sink{})
			require.NoError(b, err)
			var channels atomic.Int64
			b.ReportAllocs()
			b.RunParallel(func(pb *testing.PB) {
				ch := fmt.Sprint(channels.Add(1))
				require.NoError(b, l.Subscribe(b.Context(), ch))
				for pb.Next() {
					_, _ = m.Publish(b.Context(), ch, &fanfare.Publication{}, bench.o)
				}
			})
		})
	}
}
