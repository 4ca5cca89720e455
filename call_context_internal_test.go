package fanfare

import (
	"context"
	"runtime"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

func TestCallContext(t *testing.T) {
	// Each end is looked at by a context that was never asked for Done, by one that was asked before, and by a derived one.
	for name, test := range map[string]struct {
		end  func(c *Client, call *callContext)
		want error
	}{
		"the call returned":     {func(_ *Client, call *callContext) { call.end() }, context.Canceled},
		"the connection ended":  {func(c *Client, _ *callContext) { c.ctx.end() }, context.Canceled},
		"the deadline has come": {func(*Client, *callContext) { time.Sleep(time.Second) }, context.DeadlineExceeded},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := &Client{node: &Node{config: Config{HookTimeout: time.Second}}}
				fresh, asked, parent := c.call(), c.call(), c.call()
				done := asked.Done()
				goroutines := runtime.NumGoroutine()
				derived, cancel := context.WithCancel(parent)
				defer cancel()
				require.Equal(t, goroutines, runtime.NumGoroutine(), "a derived context needs none")
				for _, call := range []*callContext{fresh, asked, parent} {
					deadline, ok := call.Deadline()
					require.True(t, ok)
					require.Equal(t, time.Now().Add(time.Second), deadline)
					require.NoError(t, call.Err())
				}
				require.NoError(t, derived.Err())
				for _, call := range []*callContext{fresh, asked, parent} {
					test.end(c, call)
				}
				synctest.Wait()
				<-done
				for _, call := range []context.Context{fresh, asked, parent, derived} {
					require.ErrorIs(t, call.Err(), test.want)
					<-call.Done()
					require.ErrorIs(t, call.Err(), test.want)
				}
				for _, call := range []*callContext{fresh, asked, parent} {
					call.end()
				}
				require.Nil(t, c.ctx.after)
			})
		})
	}
	t.Run("that nobody waits for leaves the lifetime alone", func(t *testing.T) {
		c := &Client{node: &Node{config: Config{HookTimeout: time.Second}}}
		call := c.call()
		require.NoError(t, call.Err())
		require.Nil(t, call.Value("key"))
		require.Nil(t, c.ctx.after)
		call.end()
		require.ErrorIs(t, call.Err(), context.Canceled)
	})
}
