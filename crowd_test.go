package fanfare_test

import (
	"context"
	"log/slog"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare"
)

// tabs opens streams as tabs of a browser do, and returns what closes the first.
func (e *examined) tabs(t *testing.T, n int, header http.Header) (leave context.CancelFunc) {
	t.Helper()
	for i := range n {
		ctx, cancel := context.WithCancel(t.Context())
		t.Cleanup(cancel)
		r := e.request(t, []string{"sse", "http_stream"}[i%2]).WithContext(ctx)
		r.Header = header.Clone()
		response, err := new(http.Transport).RoundTrip(r)
		require.NoError(t, err)
		require.Equal(t, http.StatusOK, response.StatusCode)
		t.Cleanup(func() { _ = response.Body.Close() })
		if leave == nil {
			leave = cancel
		}
	}
	return leave
}

// TestManyTabs: a browser with many streams over HTTP/1.1 is worth a warning, also in production, once.
func TestManyTabs(t *testing.T) {
	chromium := func(more ...string) http.Header {
		h := http.Header{"User-Agent": {"Mozilla/5.0 (X11; Linux x86_64)"}, "Cookie": {"session=ann"}, "Connection": {"keep-alive"}}
		for i := 0; i < len(more); i += 2 {
			h.Set(more[i], more[i+1])
		}
		return h
	}
	start := func(t *testing.T) (*examined, *fanfare.Node) {
		log := &logBook{}
		node := startNode(t, func(c *fanfare.Config) { c.Logger = slog.New(log) })
		return &examined{url: mount(t, node, nil), log: log, patience: 30 * time.Second}, node
	}
	t.Run("five tabs", func(t *testing.T) {
		e, node := start(t)
		e.tabs(t, 4, chromium())
		require.Empty(t, e.log.from(slog.LevelWarn))
		require.Equal(t, 1, node.CountedBrowsers())
		e.tabs(t, 1, chromium())
		entries := e.log.from(slog.LevelWarn)
		require.Len(t, entries, 1)
		require.Contains(t, entries[0].message, "six connections to a host")
		require.Equal(t, int64(5), entries[0].attrs["streams"].Int64())
		e.tabs(t, 6, chromium())
		e.tabs(t, 6, chromium("Cookie", "session=ben"))
		require.Len(t, e.log.from(slog.LevelWarn), 1, "once is enough")
		require.Zero(t, node.CountedBrowsers(), "and then nothing is counted")
	})
	t.Run("tabs that come and go", func(t *testing.T) {
		e, node := start(t)
		for range 10 {
			leave := e.tabs(t, 1, chromium())
			require.Equal(t, 1, node.CountedBrowsers())
			leave()
			eventually(t, func() bool { return node.CountedBrowsers() == 0 }, "%d are counted", func() any { return node.CountedBrowsers() })
		}
		require.Empty(t, e.log.from(slog.LevelWarn))
	})
	for name, headers := range map[string][2]http.Header{
		"two users":          {chromium(), chromium("Cookie", "session=ben")},
		"two browsers":       {chromium(), chromium("User-Agent", "Mozilla/5.0 (iPhone)")},
		"behind a proxy":     {chromium("X-Forwarded-For", "192.0.2.1"), chromium("Via", "1.1 proxy")},
		"behind a quiet one": {chromium("Connection", "close"), chromium("Connection", "upgrade")},
		"no browsers at all": {http.Header{"User-Agent": {"curl/8"}}, http.Header{"User-Agent": {"okhttp/4"}}},
	} {
		t.Run("no warning for "+name, func(t *testing.T) {
			e, _ := start(t)
			e.tabs(t, 4, headers[0])
			e.tabs(t, 4, headers[1])
			require.Empty(t, e.log.from(slog.LevelWarn))
		})
	}
	t.Run("no warning for WebSockets", func(t *testing.T) {
		e, node := start(t)
		for range 8 {
			require.Equal(t, works, e.tryWebSocket(t))
		}
		require.Zero(t, node.CountedBrowsers())
		require.Empty(t, e.log.from(slog.LevelWarn))
	})
}
