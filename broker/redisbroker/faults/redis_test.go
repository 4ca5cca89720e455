package faults

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare"
	"github.com/fanfare-go/fanfare/broker/internal/delivery"
	"github.com/fanfare-go/fanfare/broker/internal/redistest"
)

// restart kills a server while everybody is busy, and starts it again after a while in which it is missed.
func restart(t *testing.T, s *redistest.Server, r *delivery.Run) {
	t.Helper()
	s.Kill()
	r.AwaitAttempts(10)
	s.Start()
}

// TestRedis_KilledAndEmpty: everybody is told once that something is missing, and goes on in the new life of each stream.
func TestRedis_KilledAndEmpty(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	node := newNode(t, at(s.Addr()), fanfare.Config{})
	r := delivery.Start(t, delivery.Options{}, node, newNode(t, at(s.Addr()), fanfare.Config{}))
	r.AwaitAccepted(some)
	restart(t, s, r)
	r.AwaitAccepted(more)
	present := len(r.Clients()) - 2     // who polls is not
	require.Eventually(t, func() bool { // even of those that have noticed nothing
		stats, err := node.PresenceStats(t.Context(), r.Channels()[0])
		return err == nil && stats.Clients == present
	}, 20*time.Second, 5*time.Millisecond, "presence is as it was")
	requireTold(t, len(r.Channels()), r, r.Finish())
}

// TestRedis_KilledWithData: the server comes back with what it had on disk, and nobody can say what of the end is missing.
func TestRedis_KilledWithData(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		options []string
		save    bool
	}{
		"append-only, a second late": {[]string{"--appendonly yes", "--appendfsync everysec"}, false},
		"snapshot":                   {[]string{"--save 3600 1"}, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := redistest.Start(t, tt.options...)
			r := start(t, at(s.Addr()), fanfare.Config{})
			r.AwaitAccepted(some)
			if tt.save {
				require.Equal(t, "OK", s.CLI("SAVE"))
				r.AwaitAccepted(some) // of which the snapshot has nothing
			}
			restart(t, s, r)
			r.AwaitAccepted(more)
			requireTold(t, len(r.Channels()), r, r.Finish())
		})
	}
}

// TestRedis_KilledDurable: with every write on disk, and the broker told so, nobody hears of it.
func TestRedis_KilledDurable(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t, "--appendonly yes", "--appendfsync always")
	redis := at(s.Addr())
	redis.Durable = true
	r := start(t, redis, fanfare.Config{})
	r.AwaitAccepted(some)
	restart(t, s, r)
	r.AwaitAccepted(more)
	require.Empty(t, r.Finish().Gaps)
}

// TestRedis_Emptied: somebody, or an eviction policy, deletes keys while nobody's connection breaks.
func TestRedis_Emptied(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		fail func(s *redistest.Server, channel string)
		told int // channels, -1 if it depends on who was away
	}{
		"everything":             {func(s *redistest.Server, _ string) { s.CLI("FLUSHALL") }, 3},
		"what is known of one":   {func(s *redistest.Server, channel string) { s.CLI("DEL", "fanfare:m:{."+channel+"}") }, 1},
		"the publications of it": {func(s *redistest.Server, channel string) { s.CLI("DEL", "fanfare:s:{."+channel+"}") }, -1},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := redistest.Start(t)
			r := start(t, at(s.Addr()), fanfare.Config{})
			r.AwaitAccepted(some)
			tt.fail(s, r.Channels()[0])
			r.AwaitAccepted(some)
			result := r.Finish()
			if tt.told >= 0 {
				requireTold(t, tt.told, r, result)
			}
			for client, gaps := range result.Gaps {
				require.LessOrEqual(t, gaps, len(r.Channels()), client)
			}
		})
	}
}

// TestRedis_Paused: whoever publishes gets an error soon, and nobody misses anything.
func TestRedis_Paused(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	r := start(t, at(s.Addr()), fanfare.Config{})
	r.AwaitAccepted(some)
	s.Pause()
	time.Sleep(away(t))
	s.Resume()
	r.AwaitAccepted(more)
	result := r.Finish()
	require.Empty(t, result.Gaps)
	require.NotZero(t, result.Attempts)
}

// TestRedis_SubscribersKilled: the connections over which nodes hear are closed by the server again and again, and their
// nodes find by themselves what they have missed: nothing else would find it here.
func TestRedis_SubscribersKilled(t *testing.T) {
	t.Parallel()
	flood := "for i = 1, 300 do redis.call('PUBLISH', KEYS[1], string.rep('z', 100000)) end"
	for name, fail := range map[string]func(s *redistest.Server, r *delivery.Run){
		"killed": func(s *redistest.Server, _ *delivery.Run) { s.CLI("CLIENT", "KILL", "TYPE", "pubsub") },
		"output buffer over its limit": func(s *redistest.Server, r *delivery.Run) {
			s.CLI("EVAL", flood, "1", "fanfare:c:{."+r.Channels()[0]+"}")
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := redistest.Start(t, "--client-output-buffer-limit pubsub 1mb 0 0")
			r := start(t, at(s.Addr()), fanfare.Config{PositionCheck: -1})
			for range 4 {
				r.AwaitAccepted(some)
				before := subscribers(s)
				require.NotEmpty(t, before)
				fail(s, r)
				require.Eventually(t, func() bool { // which is what this test is about
					return !slices.ContainsFunc(subscribers(s), func(id string) bool { return slices.Contains(before, id) })
				}, 10*time.Second, 10*time.Millisecond)
			}
			r.AwaitAccepted(5) // hardly anything comes afterwards, by which a gap would be seen
			require.Empty(t, r.Finish().Gaps)
		})
	}
}

// subscribers are the ids of the connections that subscribe.
func subscribers(s *redistest.Server) (ids []string) {
	for line := range strings.Lines(s.CLI("CLIENT", "LIST", "TYPE", "pubsub")) {
		if id, _, _ := strings.Cut(line, " "); id != "\n" {
			ids = append(ids, id)
		}
	}
	return ids
}
