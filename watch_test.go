package fanfare_test

import (
	"context"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare"
	"github.com/fanfare-go/fanfare/fanfaretest"
)

// watched is a node of which a test sees the log and the observer's calls.
type watched struct {
	*fanfare.Node
	log   *logBook
	tally *tally
}

// watch makes a node for a test. It is shut down at the test's end, and must then hold nothing.
func watch(t *testing.T, c fanfare.Config) *watched {
	t.Helper()
	w := &watched{log: &logBook{}, tally: &tally{}}
	c.Logger, c.Observer = slog.New(w.log), w.tally
	c.DrainWindow = -1
	if c.Authenticate == nil {
		c.Authenticate = fanfaretest.Authenticate
	}
	node, err := fanfare.New(c)
	require.NoError(t, err)
	w.Node = node
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		defer cancel()
		require.NoError(t, node.Shutdown(ctx))
		require.Zero(t, node.Residue())
	})
	return w
}

// entry is one line of a log.
type entry struct {
	level   slog.Level
	message string
	attrs   map[string]slog.Value
}

func (e entry) text(key string) string { return e.attrs[key].String() }

// logBook keeps what is logged.
type logBook struct {
	mu      sync.Mutex // guards below
	entries []entry
}

func (l *logBook) Enabled(context.Context, slog.Level) bool { return true }
func (l *logBook) WithAttrs([]slog.Attr) slog.Handler       { panic("not used") }
func (l *logBook) WithGroup(string) slog.Handler            { panic("not used") }

func (l *logBook) Handle(_ context.Context, r slog.Record) error {
	e := entry{level: r.Level, message: r.Message, attrs: make(map[string]slog.Value)}
	r.Attrs(func(a slog.Attr) bool {
		e.attrs[a.Key] = a.Value
		return true
	})
	l.mu.Lock()
	defer l.mu.Unlock()
	l.entries = append(l.entries, e)
	return nil
}

// from returns what was logged at a level and above.
func (l *logBook) from(level slog.Level) []entry {
	l.mu.Lock()
	defer l.mu.Unlock()
	var found []entry
	for _, e := range l.entries {
		if e.level >= level {
			found = append(found, e)
		}
	}
	return found
}

// about returns what was logged for one client.
func (l *logBook) about(client string) []entry {
	var found []entry
	for _, e := range l.from(slog.LevelDebug) {
		if e.text("client") == client {
			found = append(found, e)
		}
	}
	return found
}

// tally is an observer that counts.
type tally struct {
	fanfare.NopObserver

	mu           sync.Mutex // guards below
	dropped      map[string]int
	panicked     map[string]int
	slow         map[string]int
	disconnected map[uint32]int
	refused      map[uint32]int // commands by code
}

func count[K comparable](t *tally, m *map[K]int, key K, n int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if *m == nil {
		*m = make(map[K]int)
	}
	(*m)[key] += n
}

func counted[K comparable](t *tally, m *map[K]int, key K) int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return (*m)[key]
}

func (t *tally) Dropped(channel string, n int)         { count(t, &t.dropped, channel, n) }
func (t *tally) HookPanicked(hook string)              { count(t, &t.panicked, hook, 1) }
func (t *tally) HookSlow(hook string, _ time.Duration) { count(t, &t.slow, hook, 1) }
func (t *tally) Disconnected(_ string, code uint32)    { count(t, &t.disconnected, code, 1) }
func (t *tally) Command(_ string, _ time.Duration, code uint32) {
	count(t, &t.refused, code, 1)
}
