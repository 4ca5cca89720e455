package fanfare

import (
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

func TestCrew(t *testing.T) {
	second := func() { time.Sleep(time.Second) }
	settle := func() {
		time.Sleep(10 * time.Second)
		synctest.Wait()
	}
	begin := func(workers, places int) (c *crew, started *int) {
		started = new(int)
		return &crew{workers: workers, places: places, start: func(work func()) bool {
			*started++
			go work()
			return true
		}}, started
	}
	inBubble := func(name string, test func(t *testing.T)) {
		t.Run(name, func(t *testing.T) { synctest.Test(t, test) })
	}
	inBubble("everything in its order, a few at once", func(t *testing.T) {
		c, started := begin(2, 100)
		began := time.Now()
		var mu sync.Mutex
		var order []int
		var ended []time.Duration
		for i := range 6 {
			require.True(t, c.add(func() {
				mu.Lock()
				order = append(order, i/2)
				mu.Unlock()
				second()
				mu.Lock()
				defer mu.Unlock()
				ended = append(ended, time.Since(began))
			}))
		}
		settle()
		require.Equal(t, []int{0, 0, 1, 1, 2, 2}, order)
		require.Equal(t, []time.Duration{1e9, 1e9, 2e9, 2e9, 3e9, 3e9}, ended)
		require.Equal(t, 2, *started)
	})
	inBubble("when nothing waits nobody does", func(t *testing.T) {
		c, started := begin(2, 100)
		for i := range 3 {
			require.True(t, c.add(second))
			settle()
			require.Zero(t, c.running)
			require.Equal(t, 1+i, *started)
		}
	})
	inBubble("too much", func(t *testing.T) {
		c, _ := begin(1, 2)
		require.True(t, c.add(second))
		synctest.Wait() // it is being done
		require.True(t, c.add(second))
		require.True(t, c.add(second))
		require.False(t, c.add(func() { t.Error("there is no room for this") }))
		time.Sleep(time.Second)
		synctest.Wait()
		require.True(t, c.add(second))
		settle()
	})
	inBubble("what waits is dropped, what is being done is not", func(t *testing.T) {
		c, _ := begin(1, 100)
		done := false
		require.True(t, c.add(func() {
			c.drop()
			second()
			done = true
		}))
		require.True(t, c.add(func() { t.Error("this was dropped") }))
		settle()
		require.True(t, done)
		require.True(t, c.add(second), "it goes on")
		settle()
	})
	inBubble("of a node that is shutting down", func(t *testing.T) {
		c := &crew{workers: 1, places: 1, start: func(func()) bool { return false }}
		for range 3 {
			require.True(t, c.add(func() { t.Error("nobody is there") }))
		}
	})
}
