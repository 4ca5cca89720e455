package fanfare

import (
	"context"
	"sync"
	"testing"
	"testing/synctest"
	"unsafe"

	"github.com/stretchr/testify/require"
)

func TestLatch(t *testing.T) {
	t.Run("is shut, and then open for ever", func(t *testing.T) {
		var l latch
		require.False(t, l.isOpen())
		l.open()
		l.open()
		require.True(t, l.isOpen())
		require.True(t, l.wait(t.Context()))
		<-l.opened()
	})
	t.Run("lets those through who wait", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			var l latch
			through := 0
			var all sync.WaitGroup
			var mu sync.Mutex
			for range 3 {
				all.Go(func() {
					if l.wait(t.Context()) {
						mu.Lock()
						through++
						mu.Unlock()
					}
				})
			}
			synctest.Wait()
			require.Zero(t, through)
			l.open()
			all.Wait()
			require.Equal(t, 3, through)
		})
	})
	t.Run("nobody waits longer than the context", func(t *testing.T) {
		var l latch
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		require.False(t, l.wait(ctx))
		l.open()
		require.True(t, l.wait(ctx))
	})
	t.Run("opened while many begin to wait loses none of them", func(t *testing.T) {
		for range 200 {
			var l latch
			var all sync.WaitGroup
			for range 4 {
				all.Go(func() { l.wait(context.Background()) })
			}
			all.Go(l.open)
			all.Wait()
		}
	})
	require.EqualValues(t, 8, unsafe.Sizeof(latch{}))
}
