package fanfare_test

import (
	"context"
	"maps"
	"net/http/httptest"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare"
)

// sessionApp is an app of two nodes with one table of sessions.
type sessionApp struct {
	nodes [2]*fanfare.Node
	urls  [2]string

	mu     sync.Mutex // guards below
	out    map[string]bool
	checks map[string]int // by transport
}

func (a *sessionApp) refusal(user string) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.out[user] {
		return fanfare.ErrUnauthorized
	}
	return nil
}

func (a *sessionApp) end(user string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.out[user] = true
}

func startSessionApp(t *testing.T, interval time.Duration) *sessionApp {
	t.Helper()
	a := &sessionApp{out: make(map[string]bool), checks: make(map[string]int)}
	broker := fanfare.NewMemoryBroker(fanfare.MemoryBrokerConfig{})
	t.Cleanup(func() { require.NoError(t, broker.Close()) })
	for i := range a.nodes {
		config := fanfare.Config{
			Broker: broker, DrainWindow: -1,
			Authenticate: func(_ context.Context, r *fanfare.ConnectRequest) (fanfare.Identity, error) {
				user := r.HTTP.URL.Query().Get("user")
				return fanfare.Identity{User: user}, a.refusal(user)
			},
		}
		if interval > 0 {
			config.Revalidate = fanfare.Revalidate{Interval: interval, Check: func(_ context.Context, r *fanfare.RevalidateRequest) error {
				a.mu.Lock()
				a.checks[r.Client.Transport()]++
				a.mu.Unlock()
				return a.refusal(r.Client.User())
			}}
		}
		node, err := fanfare.New(config)
		require.NoError(t, err)
		node.Channel("x", fanfare.ChannelOptions{Public: true, History: fanfare.History{Size: 10, TTL: time.Hour}})
		server := httptest.NewServer(node)
		a.nodes[i], a.urls[i] = node, server.URL
		t.Cleanup(server.Close)
		t.Cleanup(func() { shutDown(t, node) })
	}
	return a
}

// enterAll opens every door of both nodes for a user, and returns where each one's first error after the publication 1 will come.
func (a *sessionApp) enterAll(ctx context.Context, t *testing.T, user string) map[string]chan error {
	t.Helper()
	ends := make(map[string]chan error)
	heard := make(chan string, 100)
	for i, url := range a.urls {
		for name, enter := range doorsByName {
			v, err := enter(ctx, url, user, "x", fanfare.Position{})
			require.NoError(t, err, name)
			t.Cleanup(v.cut)
			end := make(chan error, 1)
			key := name + " of node " + string(rune('A'+i))
			ends[key] = end
			// Ends when the connection does, or the test's context.
			go func() {
				for {
					data, err := v.next()
					if err != nil {
						end <- err
						return
					}
					heard <- data
				}
			}()
		}
	}
	requirePublish(t, a.nodes[0], "x", `1`)
	for range ends {
		require.Equal(t, `1`, <-heard)
	}
	return ends
}

func (a *sessionApp) clients() int {
	return a.nodes[0].Residue().Clients + a.nodes[1].Residue().Clients
}

func (a *sessionApp) requireAllOut(ctx context.Context, t *testing.T, user string, ends map[string]chan error) {
	t.Helper()
	for _, key := range slices.Sorted(maps.Keys(ends)) {
		select {
		case <-ends[key]:
		case <-ctx.Done():
			require.Fail(t, "still connected", key)
		}
	}
	for _, url := range a.urls {
		for name, enter := range doorsByName {
			v, err := enter(ctx, url, user, "x", fanfare.Position{})
			require.Error(t, err, "%s lets the user in again: %v", name, v)
		}
	}
}

func TestLogout_EndsEveryDoorOfEveryNode(t *testing.T) {
	t.Parallel()
	a := startSessionApp(t, 0)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	ann := a.enterAll(ctx, t, "ann")
	ben := a.enterAll(ctx, t, "ben")
	require.Eventually(t, func() bool { return a.clients() == len(ann)+len(ben) }, time.Minute, time.Millisecond, "polls that wait again")

	a.end("ann")
	require.NoError(t, a.nodes[1].Disconnect(ctx, "ann", nil))
	a.requireAllOut(ctx, t, "ann", ann)

	for key, end := range ben {
		select {
		case err := <-end:
			require.NoError(t, err, "ben is none of it: %s", key)
		default:
		}
	}
	cancel()
	for _, end := range ben {
		require.Error(t, <-end)
	}
}

// A session that ends without a logout ends by every door within the interval. Polls are over before their turn comes, and the next
// one is refused.
func TestRevalidate_EndsEveryDoorOfEveryNode(t *testing.T) {
	t.Parallel()
	a := startSessionApp(t, 200*time.Millisecond)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	ann := a.enterAll(ctx, t, "ann")
	a.end("ann")
	for key := range ann {
		if key == "poll of node A" || key == "poll of node B" {
			delete(ann, key)
		}
	}
	a.requireAllOut(ctx, t, "ann", ann)
	a.mu.Lock()
	defer a.mu.Unlock()
	require.ElementsMatch(t, []string{"websocket", "http_stream", "sse", "uni_websocket", "uni_http_stream", "uni_sse", "events"},
		slices.Collect(maps.Keys(a.checks)))
}
