package fanfare_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare"
	"github.com/fanfare-go/fanfare/fanfaretest"
)

// victim is the user for whom an app's hooks misbehave.
const victim = "victim"

// app is a node with a hook of every kind, beside ordinary HTTP handlers. What a hook does for the victim is set by the
// test.
type app struct {
	*watched
	mux *http.ServeMux

	mu    sync.Mutex // guards below
	hooks map[string]func(ctx context.Context) error
	calls map[string]int // of hooks, for the victim
	ended []string       // the notices to the victim's
}

func newApp(t *testing.T, c fanfare.Config) *app {
	t.Helper()
	a := &app{hooks: make(map[string]func(context.Context) error), calls: make(map[string]int), mux: http.NewServeMux()}
	c.Authenticate = func(ctx context.Context, r *fanfare.ConnectRequest) (fanfare.Identity, error) {
		user := fanfaretest.User(r.HTTP.Context())
		if user == "" {
			user = r.Token
		}
		return fanfare.Identity{User: user}, a.run(ctx, "Authenticate", user)
	}
	c.Refresh = func(ctx context.Context, r *fanfare.RefreshRequest) (fanfare.RefreshReply, error) {
		return fanfare.RefreshReply{}, a.run(ctx, "Refresh", r.Client.User())
	}
	c.Message = func(ctx context.Context, r *fanfare.MessageRequest) error {
		return a.run(ctx, "Message", r.Client.User())
	}
	c.Disconnected = func(ctx context.Context, n *fanfare.DisconnectNotice) {
		a.note(ctx, n.Client.User(), "Disconnected %d", n.Disconnect.Code)
		_ = a.run(ctx, "Disconnected", n.Client.User())
	}
	c.RPC = func(ctx context.Context, r *fanfare.RPCRequest) ([]byte, error) {
		return nil, a.run(ctx, "RPC undeclared", r.Client.User())
	}
	a.watched = watch(t, c)
	a.Channel("live", fanfare.ChannelOptions{Public: true})
	a.Channel("room:{id}", a.room())
	a.RPC("do", func(ctx context.Context, r *fanfare.RPCRequest) ([]byte, error) {
		return []byte(`"done"`), a.run(ctx, "RPC do", r.Client.User())
	})
	a.RPC("echo", func(_ context.Context, r *fanfare.RPCRequest) ([]byte, error) { return r.Data, nil })
	a.mux.Handle("/realtime/", a.Node)
	a.mux.HandleFunc("POST /live", func(w http.ResponseWriter, r *http.Request) {
		data, _ := io.ReadAll(r.Body)
		if _, err := a.Publish(r.Context(), "live", data); err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
		}
	})
	return a
}

func (a *app) room() fanfare.ChannelOptions {
	return fanfare.ChannelOptions{
		History:  fanfare.History{Size: 10, TTL: time.Hour},
		Presence: true,
		Subscribe: func(ctx context.Context, r *fanfare.SubscribeRequest) (fanfare.SubscribeReply, error) {
			return fanfare.SubscribeReply{ExpireAt: time.Now().Add(time.Hour)}, a.run(ctx, "Subscribe", r.Client.User())
		},
		SubRefresh: func(ctx context.Context, r *fanfare.SubRefreshRequest) (fanfare.SubRefreshReply, error) {
			return fanfare.SubRefreshReply{ExpireAt: time.Now().Add(time.Hour)}, a.run(ctx, "SubRefresh", r.Client.User())
		},
		Publish: func(ctx context.Context, r *fanfare.PublishRequest) (fanfare.PublishReply, error) {
			return fanfare.PublishReply{}, a.run(ctx, "Publish", r.Client.User())
		},
		ReadHistory: func(ctx context.Context, r *fanfare.HistoryRequest) error {
			return a.run(ctx, "ReadHistory", r.Client.User())
		},
		ReadPresence: func(ctx context.Context, r *fanfare.PresenceRequest) error {
			return a.run(ctx, "ReadPresence", r.Client.User())
		},
		Unsubscribed: func(ctx context.Context, n *fanfare.UnsubscribeNotice) {
			a.note(ctx, n.Client.User(), "Unsubscribed %s %d", n.Channel, n.Code)
			_ = a.run(ctx, "Unsubscribed", n.Client.User())
		},
	}
}

// misbehave sets what a hook does for the victim.
func (a *app) misbehave(hook string, fn func(context.Context) error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.hooks[hook] = fn
}

func (a *app) run(ctx context.Context, hook, user string) error {
	if user != victim {
		return nil
	}
	a.mu.Lock()
	a.calls[hook]++
	fn := a.hooks[hook]
	a.mu.Unlock()
	if fn == nil {
		return nil
	}
	return fn(ctx)
}

func (a *app) note(ctx context.Context, user, format string, args ...any) {
	if user != victim {
		return
	}
	notice := fmt.Sprintf(format, args...)
	if ctx.Err() != nil {
		notice += " with an ended context"
	}
	if _, ok := ctx.Deadline(); !ok {
		notice += " without a deadline"
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.ended = append(a.ended, notice)
}

// notices returns what the app was told about the victim.
func (a *app) notices() []string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return append([]string(nil), a.ended...)
}

func (a *app) called(hook string) int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.calls[hook]
}

// victim connects the victim, and subscribes it to a room and to what is live.
func (a *app) victim(t *testing.T) *fanfaretest.Client {
	t.Helper()
	c := fanfaretest.Connect(t, a.Node, victim)
	for _, channel := range []string{"room:1", "live"} {
		_, err := c.Subscribe(channel)
		require.NoError(t, err)
	}
	return c
}

func (a *app) bystander(t *testing.T) *fanfaretest.Client {
	t.Helper()
	c := fanfaretest.Connect(t, a.Node, "bystander")
	_, err := c.Subscribe("live")
	require.NoError(t, err)
	return c
}

// goesOn checks, within a bubble, that the app's own handlers and the other clients are served at once.
func (a *app) goesOn(t *testing.T, bystander *fanfaretest.Client) {
	t.Helper()
	began := time.Now()
	w := httptest.NewRecorder()
	a.mux.ServeHTTP(w, httptest.NewRequest(http.MethodPost, "/live", strings.NewReader(`"go"`)))
	require.Equal(t, http.StatusOK, w.Code, w.Body)
	e, err := bystander.Next(t.Context())
	require.NoError(t, err)
	require.Equal(t, `"go"`, string(e.Publication.Data))
	answer, err := bystander.RPC("do", nil)
	require.NoError(t, err)
	require.Equal(t, `"done"`, string(answer))
	_, err = bystander.Subscribe("room:1")
	require.NoError(t, err)
	require.NoError(t, bystander.Unsubscribe("room:1"))
	newcomer := fanfaretest.Connect(t, a.Node, "newcomer")
	newcomer.Close()
	require.Zero(t, time.Since(began))
}

// kind is a kind of hook.
type kind struct {
	hook    string // its name in the log
	channel string // and the channel there
	// provoke makes the hook run for the victim, which [app.victim] made, and returns the answer's error.
	provoke func(c *fanfaretest.Client) error
	silent  bool // nothing is answered
	notice  bool // nobody waits for it
}

// kinds are the hooks that run for a connected client.
var kinds = []kind{
	{hook: "Refresh", provoke: func(c *fanfaretest.Client) error { _, err := c.Refresh("token"); return err }},
	{hook: "RPC do", provoke: func(c *fanfaretest.Client) error { _, err := c.RPC("do", nil); return err }},
	{hook: "RPC undeclared", provoke: func(c *fanfaretest.Client) error { _, err := c.RPC("undeclared", nil); return err }},
	{hook: "Subscribe", channel: "room:2", provoke: func(c *fanfaretest.Client) error { _, err := c.Subscribe("room:2"); return err }},
	{hook: "SubRefresh", channel: "room:1", provoke: func(c *fanfaretest.Client) error { _, err := c.SubRefresh("room:1", "token"); return err }},
	{hook: "Publish", channel: "room:1", provoke: func(c *fanfaretest.Client) error { return c.Publish("room:1", []byte(`1`)) }},
	{hook: "ReadHistory", channel: "room:1", provoke: func(c *fanfaretest.Client) error { _, err := c.History("room:1", fanfare.HistoryQuery{}); return err }},
	{hook: "ReadPresence", channel: "room:1", provoke: func(c *fanfaretest.Client) error { _, err := c.PresenceStats("room:1"); return err }},
	{hook: "Message", silent: true, provoke: func(c *fanfaretest.Client) error { return c.Send([]byte(`1`)) }},
	{hook: "Unsubscribed", channel: "room:1", notice: true, provoke: func(c *fanfaretest.Client) error { return c.Unsubscribe("room:1") }},
	{hook: "Disconnected", notice: true, provoke: func(c *fanfaretest.Client) error { c.Close(); return nil }},
}

// eachKind runs a test in a bubble for every kind of hook that some function admits.
func eachKind(t *testing.T, admit func(kind) bool, test func(t *testing.T, k kind)) {
	t.Helper()
	for _, k := range kinds {
		if admit == nil || admit(k) {
			t.Run(k.hook, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) { test(t, k) })
			})
		}
	}
}

// gate holds up what waits for it until it is opened, at the end of the test at the latest.
type gate struct {
	opened chan struct{}
	once   sync.Once
}

func newGate(t *testing.T) *gate {
	g := &gate{opened: make(chan struct{})}
	t.Cleanup(g.open)
	return g
}

func (g *gate) open() { g.once.Do(func() { close(g.opened) }) }
