package fanfare

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestPace_Due(t *testing.T) {
	const ms = time.Millisecond
	for name, test := range map[string]struct {
		budget    time.Duration
		gap, cost time.Duration
		messages  int
		wait      time.Duration // of the last message, which comes 1 ms after a pass
	}{
		"the first message":                  {budget: 25 * ms, gap: time.Second, cost: 7 * ms, messages: 1},
		"quiet, however costly":              {budget: 25 * ms, gap: 20 * ms, cost: 15 * ms, messages: 100},
		"quick, and costly":                  {budget: 25 * ms, gap: 5 * ms, cost: 8 * ms, messages: 100, wait: 24*ms - 2*ms},
		"dearer than the budget":             {budget: 24 * ms, gap: 5 * ms, cost: time.Second, messages: 100, wait: 23*ms - 6*ms},
		"quick, but cheap":                   {budget: 25 * ms, gap: 5 * ms, cost: 50 * time.Microsecond, messages: 100},
		"a few after a pause":                {budget: 25 * ms, gap: 1 * ms, cost: 7 * ms, messages: 3},
		"a burst after a pause":              {budget: 25 * ms, gap: 1 * ms, cost: 8 * ms, messages: 50, wait: 24*ms - 2*ms},
		"a larger budget joins at once more": {budget: 100 * ms, gap: 20 * ms, cost: 16 * ms, messages: 100, wait: 99*ms - 4*ms},
		"switched off":                       {budget: -1, gap: 1 * ms, cost: 7 * ms, messages: 100},
	} {
		t.Run(name, func(t *testing.T) {
			to, p := pacing{test.budget}, pace{}
			now := time.Hour
			for range test.messages {
				now += test.gap
				p.arrived(now, to)
				p.passed(test.cost)
			}
			p.began(now - ms)
			require.InDelta(t, test.wait, p.due(to, now)-now, float64(ms)/10)
		})
	}
}

func TestPacing_Spacing(t *testing.T) {
	require.Zero(t, pacing{25 * time.Millisecond}.spacing(0.4), "a worker that has time")
	require.Equal(t, 12500*time.Microsecond, pacing{25 * time.Millisecond}.spacing(0.6))
	require.Zero(t, pacing{-1}.spacing(1))
}

func TestLoad(t *testing.T) {
	var l load
	share, now := 0.0, time.Duration(0)
	for range 100 { // 3 ms of every 4
		share = l.add(now, now+3*time.Millisecond)
		now += 4 * time.Millisecond
	}
	require.InDelta(t, 0.75, share, 0.05)
	require.Less(t, l.add(now+time.Second, now+time.Second+time.Millisecond), 0.1, "after a rest")
}
