package main

import (
	"context"
	"log/slog"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/fanfare-go/fanfare"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestRun_EndsInGoodOrder(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	require.NoError(t, run(ctx, "127.0.0.1:0", t.TempDir(), slog.New(slog.DiscardHandler)))
}

func TestPage_IsThatOfTheDirectory(t *testing.T) {
	dist := t.TempDir()
	node, err := newNode(slog.New(slog.DiscardHandler))
	require.NoError(t, err)
	defer func() { require.NoError(t, node.Shutdown(context.Background())) }()
	get := func(path string) *httptest.ResponseRecorder {
		w := httptest.NewRecorder()
		handler(node, dist).ServeHTTP(w, httptest.NewRequest("GET", path, nil))
		return w
	}
	missing := get("/")
	require.Equal(t, 404, missing.Code)
	require.Contains(t, missing.Body.String(), "npm run build")

	require.NoError(t, os.WriteFile(filepath.Join(dist, "index.html"), []byte("built"), 0o600))
	require.Equal(t, "built", get("/").Body.String())
}

func TestAuthenticate_WantsAName(t *testing.T) {
	for data, ok := range map[string]bool{
		`{"name":" Ada "}`: true, `{"name":"  "}`: false, `{"name":"` + strings.Repeat("x", maxName+1) + `"}`: false, `[]`: false, ``: false,
	} {
		who, err := authenticate(t.Context(), &fanfare.ConnectRequest{Data: []byte(data)})
		require.Equal(t, ok, err == nil, data)
		if ok {
			require.Equal(t, "Ada", who.User)
		}
	}
}

func TestCheck_PublishesWhatItHasRead(t *testing.T) {
	reply, err := check(t.Context(), &fanfare.PublishRequest{Data: []byte(`{"text":"hi","more":1}`)})
	require.NoError(t, err)
	require.JSONEq(t, `{"text":"hi"}`, string(reply.Data))
	for _, data := range []string{`{"text":""}`, `{"text":"` + strings.Repeat("x", maxText+1) + `"}`, `"hi"`, `{"text":1}`} {
		_, err := check(t.Context(), &fanfare.PublishRequest{Data: []byte(data)})
		require.ErrorIs(t, err, fanfare.ErrBadRequest, data)
	}
}
