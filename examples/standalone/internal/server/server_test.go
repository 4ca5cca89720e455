package server_test

import (
	"bytes"
	"context"
	"encoding/json"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/fanfare-go/fanfare"
	"github.com/fanfare-go/fanfare/examples/standalone/internal/config"
	"github.com/fanfare-go/fanfare/examples/standalone/internal/server"
	"github.com/fanfare-go/fanfare/fanfaretest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// log collects what a server logs.
type log struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *log) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(b)
}

func (l *log) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

func load(t *testing.T, file string) *config.Config {
	t.Helper()
	path := filepath.Join(t.TempDir(), "fanfare.json")
	require.NoError(t, os.WriteFile(path, []byte(file), 0o600))
	c, _, err := config.Load(path, nil)
	require.NoError(t, err)
	return c
}

// setup makes a server of a file, and ends it after the test.
func setup(t *testing.T, file string) (*server.Server, *log) {
	t.Helper()
	l := &log{}
	s, err := server.New(t.Context(), load(t, file), slog.New(slog.NewTextHandler(l, &slog.HandlerOptions{Level: slog.LevelDebug})))
	require.NoError(t, err)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		require.NoError(t, s.Close(ctx))
	})
	return s, l
}

// app is an app with a login: the cookie "user" says who it is.
func app(t *testing.T) *httptest.Server {
	t.Helper()
	reply := func(w http.ResponseWriter, v any) {
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(v)
	}
	yes := map[string]any{"result": map[string]any{}}
	no := map[string]any{"error": map[string]any{"code": 403, "message": "not yours"}}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /connect", func(w http.ResponseWriter, r *http.Request) {
		c, err := r.Cookie("user")
		if err != nil || r.Header.Get("X-Live-Secret") != "static-secret-static" {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		reply(w, map[string]any{"result": map[string]any{"user": c.Value}})
	})
	decide := func(w http.ResponseWriter, r *http.Request) {
		var q struct{ User, Channel string }
		_ = json.NewDecoder(r.Body).Decode(&q)
		c, err := r.Cookie("user")
		if err == nil && c.Value == q.User && strings.HasSuffix(q.Channel, q.User) {
			reply(w, yes)
			return
		}
		reply(w, no)
	}
	mux.HandleFunc("POST /subscribe", decide)
	mux.HandleFunc("POST /publish", decide)
	mux.HandleFunc("POST /rpc", func(w http.ResponseWriter, r *http.Request) {
		var q struct{ Method, User string }
		_ = json.NewDecoder(r.Body).Decode(&q)
		reply(w, map[string]any{"result": map[string]any{"data": q.Method + " for " + q.User}})
	})
	a := httptest.NewServer(mux)
	t.Cleanup(a.Close)
	return a
}

func withUser(user string) fanfaretest.Option {
	return fanfaretest.WithRequest(func(r *http.Request) { r.AddCookie(&http.Cookie{Name: "user", Value: user}) })
}

func TestConnect_Anonymous(t *testing.T) {
	t.Parallel()
	open, _ := setup(t, `{"anonymous": true}`)
	fanfaretest.Connect(t, open.Node(), "")
	_, err := fanfaretest.Dial(t, open.Node(), "", fanfaretest.WithToken("x")).Connect()
	require.ErrorIs(t, err, fanfare.DisconnectInvalidToken, "nobody here can read it")

	closed, _ := setup(t, `{}`)
	_, err = fanfaretest.Dial(t, closed.Node(), "").Connect()
	require.ErrorIs(t, err, fanfare.ErrUnauthorized)
}

func TestChannels_ClosedUntilSaidOtherwise(t *testing.T) {
	t.Parallel()
	s, _ := setup(t, `{"anonymous": true, "channels": {
		"closed": {"history_size": 1, "history_ttl": "1m", "presence": true}, "open": {"subscribe": "anyone"}, "members": {"subscribe": "users"}}}`)
	c := fanfaretest.Connect(t, s.Node(), "")
	_, err := c.Subscribe("closed")
	require.ErrorIs(t, err, fanfare.ErrPermissionDenied)
	_, err = c.Subscribe("members")
	require.ErrorIs(t, err, fanfare.ErrPermissionDenied)
	_, err = c.Subscribe("unknown")
	require.ErrorIs(t, err, fanfare.ErrUnknownChannel)
	_, err = c.Subscribe("open")
	require.NoError(t, err)
	require.ErrorIs(t, c.Publish("open", []byte(`1`)), fanfare.ErrPermissionDenied)
	_, err = c.History("closed", fanfare.HistoryQuery{})
	require.ErrorIs(t, err, fanfare.ErrPermissionDenied)
	_, err = c.Presence("closed")
	require.ErrorIs(t, err, fanfare.ErrPermissionDenied)
}

func TestChannels_WhatIsAllowed(t *testing.T) {
	t.Parallel()
	s, _ := setup(t, `{"anonymous": true, "channels": {"room:{id}": {
		"history_size": 10, "history_ttl": "1m", "presence": true, "force_join_leave": true, "delta": true, "tags_filter": true,
		"subscribe": "anyone", "publish": "subscribers", "history": "anyone", "presence_read": "subscribers"}}}`)
	c := fanfaretest.Connect(t, s.Node(), "")
	require.ErrorIs(t, c.Publish("room:1", []byte(`1`)), fanfare.ErrPermissionDenied, "it is no subscriber yet")
	_, err := c.Subscribe("room:1")
	require.NoError(t, err)
	require.NoError(t, c.Publish("room:1", []byte(`1`)))
	h, err := c.History("room:1", fanfare.HistoryQuery{Limit: 10})
	require.NoError(t, err)
	require.Len(t, h.Publications, 1)
	there, err := c.Presence("room:1")
	require.NoError(t, err)
	require.Len(t, there, 1)
	e, err := c.Next(t.Context())
	require.NoError(t, err)
	require.Equal(t, fanfaretest.KindJoin, e.Kind, "told of joins, not asked for")
	require.True(t, server.Options(s, 0).Delta)
	require.True(t, server.Options(s, 0).TagsFilter)
}

func TestChannels_Recovery(t *testing.T) {
	t.Parallel()
	const kept = `"history_size": 10, "history_ttl": "1m", "subscribe": "anyone"`
	s, _ := setup(t, `{"anonymous": true, "channels": {
		"asked": {`+kept+`}, "stream": {"recover": "stream", `+kept+`}, "forced": {"force_recovery": true, `+kept+`},
		"positioned": {"force_positioning": true, `+kept+`}, "cache": {"recover": "cache", `+kept+`},
		"always": {"recover": "cache", "force_recovery": true, `+kept+`}, "none": {"subscribe": "anyone"}}}`)
	for _, tt := range []struct {
		channel                           string
		positioned, recoverable, newest   bool // unasked
		askedRecoverable, recoversAnyTime bool
	}{
		{channel: "asked", askedRecoverable: true},
		{channel: "stream", askedRecoverable: true},
		{channel: "forced", positioned: true, recoverable: true, askedRecoverable: true},
		{channel: "positioned", positioned: true, askedRecoverable: true},
		{channel: "cache", positioned: true, recoverable: true, askedRecoverable: true, recoversAnyTime: true},
		{channel: "always", positioned: true, recoverable: true, newest: true, askedRecoverable: true, recoversAnyTime: true},
		{channel: "none"},
	} {
		_, err := s.Node().Publish(t.Context(), tt.channel, []byte(`"newest"`))
		require.NoError(t, err)

		r, err := fanfaretest.Connect(t, s.Node(), "").Subscribe(tt.channel)
		require.NoError(t, err, tt.channel)
		require.Equal(t, tt.positioned, r.Positioned, tt.channel)
		require.Equal(t, tt.recoverable, r.Recoverable, tt.channel)
		require.Equal(t, tt.newest, len(r.Publications) == 1, tt.channel)

		r, err = fanfaretest.Connect(t, s.Node(), "").Subscribe(tt.channel, fanfaretest.Recoverable())
		require.NoError(t, err, tt.channel)
		require.Equal(t, tt.askedRecoverable, r.Recoverable, tt.channel)

		r, err = fanfaretest.Connect(t, s.Node(), "").Subscribe(tt.channel, fanfaretest.Recover(fanfare.Position{Offset: 99, Epoch: "gone"}))
		require.NoError(t, err, tt.channel)
		require.Equal(t, tt.recoversAnyTime, r.Recovered, "%s: a cache has the newest for whoever comes back", tt.channel)
	}
}

func TestChannels_PatternsThatContradictEachOther(t *testing.T) {
	t.Parallel()
	for file, want := range map[string]string{
		`{"channels": {"a:{x}": {}, "a:{y}": {}}}`: `fanfare.json:1: channels["a:{y}"]: `,
		`{"channels": {"a{": {}}}`:                 `fanfare.json:1: channels["a{"]: `,
		`{"channels": {"": {}}}`:                   `fanfare.json:1: channels[""]: `,
	} {
		path := filepath.Join(t.TempDir(), "fanfare.json")
		require.NoError(t, os.WriteFile(path, []byte(file), 0o600))
		c, _, err := config.Load(path, nil)
		if err == nil {
			_, err = server.New(t.Context(), c, slog.New(slog.DiscardHandler))
		}
		require.ErrorContains(t, err, want, file)
	}
}

func TestWebhooks_TheAppDecides(t *testing.T) {
	t.Parallel()
	a := app(t)
	s, l := setup(t, strings.ReplaceAll(`{"personal_channel_prefix": "#",
		"channels": {"of:{user}": {}, "open": {"subscribe": "users", "publish": "users"}},
		"webhooks": {"connect": "APP/connect", "subscribe": "APP/subscribe", "publish": "APP/publish", "rpc": "APP/rpc",
			"static_headers": {"X-Live-Secret": "static-secret-static"}}}`, "APP", a.URL))
	_, err := fanfaretest.Dial(t, s.Node(), "").Connect()
	require.Error(t, err, "nobody is logged in")

	ann := fanfaretest.Connect(t, s.Node(), "", withUser("ann"))
	_, err = ann.Subscribe("of:bob")
	require.ErrorIs(t, err, &fanfare.Error{Code: 403, Message: "not yours"})
	_, err = ann.Subscribe("of:ann")
	require.NoError(t, err)
	require.NoError(t, ann.Publish("of:ann", []byte(`1`)))
	require.Error(t, ann.Publish("of:bob", []byte(`1`)))
	_, err = ann.Subscribe("open")
	require.NoError(t, err, "users may, without a question")
	data, err := ann.RPC("greet", []byte(`{}`))
	require.NoError(t, err)
	require.Equal(t, `"greet for ann"`, string(data))
	require.NotContains(t, l.String(), "static-secret")
}

func TestPersonalChannels(t *testing.T) {
	t.Parallel()
	a := app(t)
	for name, tt := range map[string]struct {
		channels                string
		positioned, recoverable bool
	}{
		"undeclared": {channels: `{}`},
		"declared":   {channels: `{"#{user}": {"history_size": 1, "history_ttl": "1m", "force_recovery": true}}`, positioned: true, recoverable: true},
		"positioned": {channels: `{"#{user}": {"history_size": 1, "history_ttl": "1m", "force_positioning": true}}`, positioned: true},
	} {
		s, _ := setup(t, strings.ReplaceAll(`{"personal_channel_prefix": "#", "channels": `+tt.channels+`,
			"webhooks": {"connect": "APP/connect", "static_headers": {"X-Live-Secret": "static-secret-static"}}}`, "APP", a.URL))
		c := fanfaretest.Dial(t, s.Node(), "", withUser("ann"))
		r, err := c.Connect()
		require.NoError(t, err, name)
		require.Contains(t, r.Subs, "#ann", name)
		require.Equal(t, tt.positioned, r.Subs["#ann"].Positioned, name)
		require.Equal(t, tt.recoverable, r.Subs["#ann"].Recoverable, name)
		_, err = s.Node().Publish(t.Context(), "#ann", []byte(`"hi"`))
		require.NoError(t, err, name)
		e, err := c.Next(t.Context())
		require.NoError(t, err, name)
		require.Equal(t, "#ann", e.Channel, name)
		_, err = c.Subscribe("#bob")
		require.ErrorIs(t, err, fanfare.ErrPermissionDenied, name)
	}
	open, _ := setup(t, `{"anonymous": true, "personal_channel_prefix": "#"}`)
	r, err := fanfaretest.Dial(t, open.Node(), "").Connect()
	require.NoError(t, err)
	require.Empty(t, r.Subs, "the anonymous user has none")
}

func TestServe_AnswersProbesUntilTheEnd(t *testing.T) {
	t.Parallel()
	s, err := server.New(t.Context(), load(t, `{"anonymous": true, "drain_window": "0s"}`), slog.New(slog.DiscardHandler))
	require.NoError(t, err)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	ctx, stop := context.WithCancel(t.Context())
	served := make(chan error, 1)
	go func() { served <- s.Serve(ctx, l) }()

	get := func(path string) *httptest.ResponseRecorder {
		w := httptest.NewRecorder()
		s.ServeHTTP(w, httptest.NewRequest("GET", path, nil))
		return w
	}
	require.Equal(t, 200, get("/health").Code)
	require.Equal(t, 200, get("/health/ready").Code)
	require.Equal(t, 404, get("/").Code)
	c := fanfaretest.Connect(t, s.Node(), "")
	stop()
	d, err := c.Closed(t.Context())
	require.NoError(t, err)
	require.Equal(t, fanfare.DisconnectShutdown, d)
	require.NoError(t, <-served)
	require.Equal(t, 503, get("/health/ready").Code)
	require.JSONEq(t, `{"status":"draining"}`, get("/health/ready").Body.String())
	require.Equal(t, 200, get("/health").Code, "a process that drains is alive")
}

// timed is a connection that knows its deadlines.
type timed struct {
	*httptest.ResponseRecorder
	read, write time.Time
}

func (w *timed) SetReadDeadline(t time.Time) error { w.read = t; return nil }

func (w *timed) SetWriteDeadline(t time.Time) error { w.write = t; return nil }

func TestServeHTTP_BoundsWhatIsNoStream(t *testing.T) {
	t.Parallel()
	s, _ := setup(t, `{"anonymous": true, "api_key": "api-key-api-key-api-key"}`)
	for path, bounded := range map[string]bool{
		"/api/publish": true, "/metrics": true, "/health": true, "/nothing": true, "/connection/nothing": false,
	} {
		w := &timed{ResponseRecorder: httptest.NewRecorder()}
		s.ServeHTTP(w, httptest.NewRequest("GET", path, nil))
		require.Equal(t, bounded, !w.read.IsZero(), path)
		require.Equal(t, bounded, !w.write.IsZero(), path)
	}
}
