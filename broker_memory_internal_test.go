package fanfare

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// inUse returns how many channels a broker holds, idle ones included, and how many of them are scheduled for a sweep.
func inUse(b *MemoryBroker) (channels, scheduled int) {
	for i := range b.shards {
		b.shards[i].mu.Lock()
		channels += len(b.shards[i].channels)
		b.shards[i].mu.Unlock()
	}
	b.sweep.mu.Lock()
	defer b.sweep.mu.Unlock()
	return channels, len(b.sweep.queue)
}

func (b *MemoryBroker) requireInUse(t *testing.T, channels, scheduled int) {
	t.Helper()
	c, s := inUse(b)
	require.Equal(t, channels, c, "channels")
	require.Equal(t, scheduled, s, "scheduled")
	b.sweep.mu.Lock()
	defer b.sweep.mu.Unlock()
	require.Equal(t, scheduled > 0, !b.sweep.wake.IsZero(), "the timer runs only while something can expire")
}

type nopSink struct{}

func (nopSink) Publication(string, *Publication) {}
func (nopSink) Membership(string, Membership)    {}
func (nopSink) Control([]byte)                   {}
func (nopSink) Interrupted([]string)             {}

func TestMemoryBroker_HoldsOnlyWhatIsNeeded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx := t.Context()
		b := NewMemoryBroker(MemoryBrokerConfig{MaxIdleStreams: 5})
		defer b.Close()
		l, err := b.Attach("one", nopSink{})
		require.NoError(t, err)
		each := func(do func(channel string) error) {
			for i := range 100 {
				require.NoError(t, do(fmt.Sprint(i)))
			}
		}
		publish := func(o StoreOptions) func(string) error {
			return func(channel string) error {
				_, err := b.Publish(ctx, channel, &Publication{}, o)
				return err
			}
		}
		stored := publish(StoreOptions{History: History{Size: 1, TTL: time.Minute}})
		remove := func(channel string) error { return b.RemoveHistory(ctx, channel) }

		each(publish(StoreOptions{}))
		each(remove)
		b.requireInUse(t, 0, 0)

		each(func(channel string) error { return l.Subscribe(ctx, channel) })
		b.requireInUse(t, 100, 0)
		each(func(channel string) error { return l.Unsubscribe(ctx, channel) })
		b.requireInUse(t, 0, 0)

		each(publish(StoreOptions{IdempotencyKey: "key", IdempotencyTTL: time.Minute}))
		b.requireInUse(t, 100, 100)
		time.Sleep(62 * time.Second)
		b.requireInUse(t, 0, 0)

		each(stored)
		b.requireInUse(t, 100, 100)
		each(remove)
		b.requireInUse(t, 5, 0)

		each(stored)
		time.Sleep(62 * time.Second)
		b.requireInUse(t, 5, 0)

		each(func(channel string) error { return l.Subscribe(ctx, channel) })
		each(stored)
		time.Sleep(62 * time.Second)
		b.requireInUse(t, 100, 0)
		require.NoError(t, l.Close())
		b.requireInUse(t, 5, 0)
	})
}

// Publications that come all the time do not make a sweep each.
func TestMemoryBroker_SweepsSeldom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := NewMemoryBroker(MemoryBrokerConfig{})
		sweeps := 0
		b.sweep.expire = func(c *memoryChannel) {
			sweeps++
			b.expire(c)
		}
		for range 36_000 {
			_, err := b.Publish(t.Context(), "x", &Publication{}, StoreOptions{
				History:        History{Size: 10_000, TTL: time.Hour},
				IdempotencyKey: fmt.Sprint(time.Now()), IdempotencyTTL: time.Hour,
			})
			require.NoError(t, err)
			time.Sleep(time.Second)
		}
		require.NoError(t, b.Close()) // waits for the last sweep
		require.Positive(t, sweeps)
		require.Less(t, sweeps, 20*10, "in ten hours")
	})
}
