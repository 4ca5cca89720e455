package main

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare/examples/recipes/internal/recipetest"
)

func TestLogin(t *testing.T) {
	const interval = 100 * time.Millisecond
	dir := t.TempDir()
	a, err := newApp(dir, interval)
	require.NoError(t, err)
	recipetest.Run(t, recipetest.App{Handler: a.handler(), Node: a.node, Interval: interval, EndSession: func(string) {
		files, err := filepath.Glob(filepath.Join(dir, "session_*")) // of everybody
		require.NoError(t, err)
		require.NotEmpty(t, files)
		for _, f := range files {
			require.NoError(t, os.Remove(f))
		}
	}})
}
