package fanfare

import (
	"context"
	"runtime"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

func TestGoroutineGroup(t *testing.T) {
	t.Run("keeps a few goroutines, and lets them go when it is dismissed", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) { // whose end fails the test if one is left
			var g goroutineGroup
			var running sync.WaitGroup
			for range 3 * maxSpare {
				running.Add(1)
				require.True(t, g.start(func() {
					running.Done()
					time.Sleep(time.Second)
				}))
			}
			running.Wait()
			require.Empty(t, g.spare)
			require.NoError(t, g.wait(t.Context()))
			require.Len(t, g.spare, maxSpare)
			g.dismiss()
			require.Empty(t, g.spare)
		})
	})
	t.Run("uses them again", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			var g goroutineGroup
			defer g.dismiss()
			for range 100 {
				ran := false
				require.True(t, g.start(func() { ran = true }))
				synctest.Wait()
				require.True(t, ran)
			}
			require.Len(t, g.spare, 1)
			require.Zero(t, g.running)
		})
	})
	t.Run("waits for one that ends its goroutine, and does not keep it", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			var g goroutineGroup
			defer g.dismiss()
			require.True(t, g.start(runtime.Goexit))
			require.NoError(t, g.wait(t.Context()))
			require.Empty(t, g.spare)
		})
	})
	t.Run("lets none stay that ends after the dismissal", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			var g goroutineGroup
			require.True(t, g.start(func() { time.Sleep(time.Second) }))
			g.dismiss()
			require.NoError(t, g.wait(t.Context()))
			require.Empty(t, g.spare)
			require.False(t, g.start(func() {}), "it is closed")
		})
	})
	t.Run("gives up with the context", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			var g goroutineGroup
			defer g.dismiss()
			require.True(t, g.start(func() { time.Sleep(time.Second) }))
			ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
			defer cancel()
			require.ErrorIs(t, g.wait(ctx), context.DeadlineExceeded)
			require.NoError(t, g.wait(t.Context()))
		})
	})
}
