package webhook_test

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/fanfare-go/fanfare"
	"github.com/fanfare-go/fanfare/webhook"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// call is what an app was asked.
type call struct {
	path   string
	host   string
	header http.Header
	body   map[string]any
}

// app is an app behind webhooks, which can be told what to answer.
type app struct {
	*httptest.Server

	mu      sync.Mutex // guards below
	calls   []call
	answers map[string]http.HandlerFunc
	conns   int
}

func newApp(t *testing.T) *app {
	a := &app{answers: make(map[string]http.HandlerFunc)}
	a.Server = httptest.NewUnstartedServer(a)
	a.Server.Config.ConnState = func(_ net.Conn, s http.ConnState) {
		if s == http.StateNew {
			a.mu.Lock()
			a.conns++
			a.mu.Unlock()
		}
	}
	a.Server.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	a.Server.Start()
	t.Cleanup(a.Server.Close)
	a.answer("/connect", `{"result":{"user":"42"}}`)
	for _, path := range []string{"/refresh", "/subscribe", "/sub_refresh", "/publish", "/rpc"} {
		a.answer(path, `{"result":{}}`)
	}
	return a
}

// reply sets what a path does.
func (a *app) reply(path string, f http.HandlerFunc) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.answers[path] = f
}

// answer sets the JSON that a path answers.
func (a *app) answer(path, body string) {
	a.reply(path, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json; charset=utf-8")
		_, _ = io.WriteString(w, body)
	})
}

func (a *app) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	raw, _ := io.ReadAll(r.Body)
	c := call{path: r.URL.Path, host: r.Host, header: r.Header.Clone()}
	_ = json.Unmarshal(raw, &c.body)
	a.mu.Lock()
	a.calls = append(a.calls, c)
	f := a.answers[r.URL.Path]
	a.mu.Unlock()
	if f == nil {
		http.NotFound(w, r)
		return
	}
	f(w, r)
}

// asked returns the calls of a path so far.
func (a *app) asked(path string) []call {
	a.mu.Lock()
	defer a.mu.Unlock()
	var calls []call
	for _, c := range a.calls {
		if c.path == path {
			calls = append(calls, c)
		}
	}
	return calls
}

// config has every endpoint of an app.
func (a *app) config() webhook.Config { return configFor(a.URL) }

func configFor(base string) webhook.Config {
	return webhook.Config{Connect: base + "/connect", Refresh: base + "/refresh", Subscribe: base + "/subscribe",
		SubRefresh: base + "/sub_refresh", Publish: base + "/publish", RPC: base + "/rpc"}
}

func newHooks(t *testing.T, c webhook.Config) *webhook.Hooks {
	t.Helper()
	h, err := webhook.New(c)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, h.Close()) })
	return h
}

// newNode is a node that asks the app for everything.
func newNode(t *testing.T, h *webhook.Hooks, change ...func(*fanfare.Config)) *fanfare.Node {
	t.Helper()
	c := fanfare.Config{Authenticate: h.Authenticate, Refresh: h.Refresh, RPC: h.RPC}
	for _, f := range change {
		f(&c)
	}
	node, err := fanfare.New(c)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, node.Shutdown(context.Background())) })
	node.Channel("room:{id}", fanfare.ChannelOptions{Subscribe: h.Subscribe, Publish: h.Publish, SubRefresh: h.SubRefresh,
		Presence: true, History: fanfare.History{Size: 10, TTL: time.Hour}})
	return node
}

// logs is a logger and what it was given.
type logs struct {
	mu  sync.Mutex // guards buf
	buf bytes.Buffer
}

func (l *logs) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

func (l *logs) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

func (l *logs) logger() *slog.Logger {
	return slog.New(slog.NewTextHandler(l, &slog.HandlerOptions{Level: slog.LevelDebug}))
}
