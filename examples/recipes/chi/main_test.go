package main

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare/examples/recipes/internal/recipetest"
)

func TestLogin(t *testing.T) {
	const interval = 100 * time.Millisecond
	a, err := newApp(interval)
	require.NoError(t, err)
	recipetest.Run(t, recipetest.App{Handler: a.handler(), Node: a.node, Interval: interval, EndSession: func(user string) {
		require.NoError(t, a.sessions.Iterate(context.Background(), func(ctx context.Context) error {
			if a.sessions.GetString(ctx, "user") != user {
				return nil
			}
			return a.sessions.Destroy(ctx)
		}))
	}})
}
