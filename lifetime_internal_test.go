package fanfare

import (
	"context"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

func TestLifetime_IsAContext(t *testing.T) {
	t.Run("not ended, it has no error and nothing to wait for", func(t *testing.T) {
		var l lifetime
		require.NoError(t, l.Err())
		require.Nil(t, l.done, "made by nobody")
		select {
		case <-l.Done():
			t.Fatal("done")
		default:
		}
		_, has := l.Deadline()
		require.False(t, has)
	})
	t.Run("ended, it is done, whenever Done was asked", func(t *testing.T) {
		var early, late lifetime
		done := early.Done()
		early.end()
		late.end()
		late.end()
		<-done
		<-late.Done()
		require.Equal(t, late.Done(), late.Done())
		require.ErrorIs(t, early.Err(), context.Canceled)
		require.ErrorIs(t, context.Cause(&late), context.Canceled)
	})
}

func TestLifetime_Derived(t *testing.T) {
	derive := map[string]func(context.Context) (context.Context, context.CancelFunc){
		"WithCancel": context.WithCancel,
		"WithTimeout": func(ctx context.Context) (context.Context, context.CancelFunc) {
			return context.WithTimeout(ctx, time.Hour)
		},
	}
	for name, with := range derive {
		t.Run(name+" ends with the lifetime", func(t *testing.T) {
			var l lifetime
			ctx, cancel := with(&l)
			defer cancel()
			require.NoError(t, ctx.Err())
			l.end()
			require.ErrorIs(t, ctx.Err(), context.Canceled, "at once")
		})
		t.Run(name+" of an ended lifetime is done", func(t *testing.T) {
			var l lifetime
			l.end()
			ctx, cancel := with(&l)
			defer cancel()
			<-ctx.Done()
			require.ErrorIs(t, ctx.Err(), context.Canceled)
		})
		t.Run(name+" that is cancelled leaves nothing behind", func(t *testing.T) {
			var l lifetime
			_, first := with(&l)
			_, second := with(&l)
			_, third := with(&l)
			second()
			third()
			first()
			require.Nil(t, l.after)
		})
	}
	t.Run("AfterFunc is called once, or stopped in time", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			var l lifetime
			calls := 0
			context.AfterFunc(&l, func() { calls++ })
			stop := context.AfterFunc(&l, func() { calls += 10 })
			require.True(t, stop())
			require.False(t, stop())
			l.end()
			l.end()
			synctest.Wait()
			require.Equal(t, 1, calls)
			require.False(t, context.AfterFunc(&l, func() { calls += 100 })(), "too late to stop")
			synctest.Wait()
			require.Equal(t, 101, calls)
		})
	})
	t.Run("bounded ends with the lifetime, or in time, and makes no channel", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			var l lifetime
			type key struct{}
			base := context.WithValue(t.Context(), key{}, "value")
			timed, cancel := l.bounded(base, time.Second)
			defer cancel()
			require.Equal(t, "value", timed.Value(key{}))
			<-timed.Done()
			require.ErrorIs(t, timed.Err(), context.DeadlineExceeded)
			ended, cancel := l.bounded(base, time.Second)
			defer cancel()
			l.end()
			require.ErrorIs(t, ended.Err(), context.Canceled)
			require.Nil(t, l.done)
			over, cancel := l.bounded(base, time.Second)
			defer cancel()
			<-over.Done()
			require.ErrorIs(t, over.Err(), context.Canceled)
		})
	})
}

func TestLifetime_Concurrent(t *testing.T) {
	for range 100 {
		var l lifetime
		var all sync.WaitGroup
		for range 4 {
			all.Go(func() {
				ctx, cancel := context.WithTimeout(&l, time.Hour)
				defer cancel()
				<-ctx.Done()
			})
			all.Go(func() {
				_, cancel := l.bounded(context.Background(), time.Hour)
				cancel()
			})
			all.Go(func() {
				<-l.Done()
				if l.Err() == nil {
					panic("done without an error")
				}
			})
			all.Go(l.end)
		}
		all.Wait()
		require.Nil(t, l.after)
	}
}
