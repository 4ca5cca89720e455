package serverapi_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare"
	"github.com/fanfare-go/fanfare/fanfaretest"
	"github.com/fanfare-go/fanfare/serverapi"
)

const key = "secret"

// kit is a node with channels of every kind, and its API.
type kit struct {
	t    testing.TB
	node *fanfare.Node
	api  http.Handler
	log  bytes.Buffer
}

func newKit(t testing.TB, change ...func(*serverapi.Config)) *kit {
	t.Helper()
	node, err := fanfare.New(fanfare.Config{Authenticate: fanfaretest.Authenticate, DrainWindow: -1, Name: "node"})
	require.NoError(t, err)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		require.NoError(t, node.Shutdown(ctx))
	})
	kept := fanfare.History{Size: 10, TTL: time.Hour}
	node.Channel("plain", fanfare.ChannelOptions{Public: true})
	node.Channel("kept:{id}", fanfare.ChannelOptions{Public: true, History: kept, AllowPublish: fanfare.Anyone})
	node.Channel("lobby", fanfare.ChannelOptions{Public: true, Presence: true})
	node.Channel("text", fanfare.ChannelOptions{Public: true, Payload: fanfare.PayloadText, History: kept})
	node.Channel("binary", fanfare.ChannelOptions{Public: true, Payload: fanfare.PayloadBinary, History: kept})
	k := &kit{t: t, node: node}
	config := serverapi.Config{Keys: []string{"old", key}, Logger: slog.New(slog.NewTextHandler(&k.log, &slog.HandlerOptions{Level: slog.LevelDebug})),
		RPC: map[string]serverapi.RPCFunc{
			"echo": func(_ context.Context, params json.RawMessage) (json.RawMessage, error) { return params, nil },
			"deny": func(context.Context, json.RawMessage) (json.RawMessage, error) {
				return nil, &fanfare.Error{Code: 403, Message: "no"}
			},
			"fail": func(context.Context, json.RawMessage) (json.RawMessage, error) {
				return nil, errors.New("database is down")
			},
			"lie":   func(context.Context, json.RawMessage) (json.RawMessage, error) { return json.RawMessage("{"), nil },
			"panic": func(context.Context, json.RawMessage) (json.RawMessage, error) { panic("boom") },
		}}
	for _, f := range change {
		f(&config)
	}
	k.api, err = serverapi.New(node, config)
	require.NoError(t, err)
	return k
}

// post makes a request with the key.
func (k *kit) post(path, body string, headers ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(http.MethodPost, path, strings.NewReader(body))
	r.Header.Set("X-API-Key", key)
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	w := httptest.NewRecorder()
	k.api.ServeHTTP(w, r)
	return w
}

// ask makes a request that is answered with 200, and returns the answer. E in the request and in the answer stands for the epoch of
// channel kept:1.
func (k *kit) ask(path, body string) string {
	k.t.Helper()
	h, err := k.node.History(context.Background(), "kept:1", fanfare.HistoryQuery{})
	require.NoError(k.t, err)
	w := k.post(path, strings.ReplaceAll(body, `"E"`, `"`+h.Epoch+`"`))
	require.Equal(k.t, http.StatusOK, w.Code, "%s", w.Body)
	require.Equal(k.t, "application/json", w.Header().Get("Content-Type"))
	return strings.ReplaceAll(w.Body.String(), `"`+h.Epoch+`"`, `"E"`)
}

// expect compares answers.
func (k *kit) expect(method, body, want string) {
	k.t.Helper()
	require.Equal(k.t, want, k.ask("/api/"+method, body), "%s %s", method, body)
}

// events returns what has come to a client, in short.
func events(t *testing.T, c *fanfaretest.Client, n int) (list []string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	for range n {
		e, err := c.Next(ctx)
		require.NoError(t, err)
		list = append(list, e.Raw)
	}
	return list
}

func closed(t *testing.T, c *fanfaretest.Client) *fanfare.Disconnect {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	d, err := c.Closed(ctx)
	require.NoError(t, err)
	return d
}
