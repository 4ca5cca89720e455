package brokertest

import (
	"fmt"
	"runtime"
	"slices"
	"sync"
	"time"

	"github.com/fanfare-go/fanfare"
	"github.com/stretchr/testify/require"
)

// recorder is a sink that writes down what it gets, and fails the test when calls overlap.
type recorder struct {
	k *kit

	mu           sync.Mutex // guards below
	busy         map[string]bool
	overlapped   string
	calls        int
	publications map[string][]*fanfare.Publication
	memberships  map[string][]fanfare.Membership
	controls     []string
	interrupted  [][]string    // channels, by call
	changed      chan struct{} // closed with every call
}

func newRecorder(k *kit) *recorder {
	r := &recorder{
		k:            k,
		busy:         make(map[string]bool),
		publications: make(map[string][]*fanfare.Publication),
		memberships:  make(map[string][]fanfare.Membership),
		changed:      make(chan struct{}),
	}
	k.Cleanup(func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		if r.overlapped != "" {
			k.Errorf("calls of a sink for channel %q overlapped", r.overlapped)
		}
	})
	return r
}

// Publication implements [fanfare.Sink].
func (r *recorder) Publication(channel string, p *fanfare.Publication) {
	r.enter(channel)
	defer r.leave(channel)
	r.publications[channel] = append(r.publications[channel], p)
}

// Membership implements [fanfare.Sink].
func (r *recorder) Membership(channel string, m fanfare.Membership) {
	r.enter(channel)
	defer r.leave(channel)
	r.memberships[channel] = append(r.memberships[channel], m)
}

// Control implements [fanfare.Sink].
func (r *recorder) Control(data []byte) {
	r.mu.Lock()
	r.controls = append(r.controls, string(data))
	r.note()
	r.mu.Unlock()
}

// Interrupted implements [fanfare.Sink].
func (r *recorder) Interrupted(channels []string) {
	r.mu.Lock()
	r.interrupted = append(r.interrupted, slices.Clone(channels))
	r.note()
	r.mu.Unlock()
}

func (r *recorder) enter(channel string) {
	r.mu.Lock()
	if r.busy[channel] {
		r.overlapped = channel
	}
	r.busy[channel] = true
	r.mu.Unlock()
	runtime.Gosched() // room for an overlap
	r.mu.Lock()
}

func (r *recorder) leave(channel string) {
	r.busy[channel] = false
	r.note()
	r.mu.Unlock()
}

func (r *recorder) note() {
	r.calls++
	close(r.changed)
	r.changed = make(chan struct{})
}

// until waits until the condition, which is called with the lock held, is true.
func (r *recorder) until(what string, cond func() bool) {
	r.k.Helper()
	timeout := time.After(r.k.Timeout)
	for {
		r.mu.Lock()
		ok, changed, calls := cond(), r.changed, r.calls
		r.mu.Unlock()
		if ok {
			return
		}
		select {
		case <-changed:
		case <-timeout:
			require.FailNow(r.k, fmt.Sprintf("after %v still waiting for %s; the sink was called %d times", r.k.Timeout, what, calls))
		}
	}
}

// got waits for n publications of a channel and returns all there are.
func (r *recorder) got(channel string, n int) []*fanfare.Publication {
	r.k.Helper()
	r.until(fmt.Sprintf("%d publications in %q", n, channel), func() bool { return len(r.publications[channel]) >= n })
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.publications[channel])
}

// data is got for the payloads.
func (r *recorder) data(channel string, n int) []string {
	r.k.Helper()
	var out []string
	for _, p := range r.got(channel, n) {
		out = append(out, string(p.Data))
	}
	return out
}

// members waits for n joins and leaves of a channel and returns all there are.
func (r *recorder) members(channel string, n int) []fanfare.Membership {
	r.k.Helper()
	r.until(fmt.Sprintf("%d memberships in %q", n, channel), func() bool { return len(r.memberships[channel]) >= n })
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.memberships[channel])
}

// control waits for n control messages and returns all there are.
func (r *recorder) control(n int) []string {
	r.k.Helper()
	r.until(fmt.Sprintf("%d control messages", n), func() bool { return len(r.controls) >= n })
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.controls)
}

func (r *recorder) count() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.calls
}

// untilInterrupted waits until the sink was told that a channel may have lost something.
func (r *recorder) untilInterrupted(channel string) {
	r.k.Helper()
	r.until("a call of Interrupted", func() bool {
		return slices.ContainsFunc(r.interrupted, func(channels []string) bool {
			return channels == nil || slices.Contains(channels, channel)
		})
	})
}
