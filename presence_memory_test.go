package fanfare_test

import (
	"fmt"
	"testing"

	"github.com/fanfare-go/fanfare"
	"github.com/fanfare-go/fanfare/brokertest"
	"github.com/stretchr/testify/require"
)

func TestMemoryPresence(t *testing.T) {
	brokertest.RunPresence(t, brokertest.PresenceOptions{
		New: func(testing.TB) fanfare.Presence { return fanfare.NewMemoryPresence() },
	})
}

func TestMemoryPresence_Stats_DoesNotAllocate(t *testing.T) {
	p := fanfare.NewMemoryPresence()
	for i := range 1000 {
		require.NoError(t, p.Add(t.Context(), "one", "x", fanfare.ClientInfo{Client: fmt.Sprint(i), User: fmt.Sprint(i % 10)}))
	}
	ctx := t.Context()
	require.Zero(t, testing.AllocsPerRun(100, func() { _, _ = p.Stats(ctx, "x") }))
}
