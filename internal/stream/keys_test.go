package stream

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestKeys(t *testing.T) {
	var k Keys[int]
	_, ok := k.Get(start, "a")
	require.False(t, ok)
	_, _, ok = k.Expiry()
	require.False(t, ok)

	k.Put(start, "a", 1, time.Minute)
	k.Put(start, "b", 2, time.Second)
	v, ok := k.Get(start.Add(time.Minute-1), "a")
	require.True(t, ok)
	require.Equal(t, 1, v)
	_, ok = k.Get(start.Add(time.Second), "b")
	require.False(t, ok, "b has expired, although it is held behind a")
	first, last, ok := k.Expiry()
	require.True(t, ok)
	require.Equal(t, start.Add(time.Minute), first)
	require.Equal(t, start.Add(time.Second), last)

	// A key that comes again outlives the place of its first life in the queue.
	k.Put(start.Add(2*time.Second), "b", 3, time.Hour)
	k.Expire(start.Add(2 * time.Minute))
	v, ok = k.Get(start.Add(2*time.Minute), "b")
	require.True(t, ok)
	require.Equal(t, 3, v)
	require.Equal(t, 1, k.Len())

	k.Expire(start.Add(3 * time.Hour))
	require.Zero(t, k.Len())
	require.Nil(t, k.values)
	require.Nil(t, k.queue)
}

func TestKeys_Put_MemoryStaysBounded(t *testing.T) {
	var k Keys[int]
	for i := range 10_000 {
		k.Put(start.Add(time.Duration(i)*time.Second), fmt.Sprint(i), i, 10*time.Second)
		require.LessOrEqual(t, len(k.values), 11)
		require.LessOrEqual(t, cap(k.queue), 64)
	}
}
