package main

import (
	"bufio"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/coder/websocket"
	"github.com/stretchr/testify/require"
)

// place is a backend at an address.
type place string

func (p place) Addr() string { return string(p) }

// dead is an address at which nobody listens.
func dead(t *testing.T) place {
	t.Helper()
	addr, err := freeAddr()
	require.NoError(t, err)
	return place(addr)
}

func serving(t *testing.T, h http.HandlerFunc) place {
	t.Helper()
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return place(s.Listener.Addr().String())
}

// named answers with its name and the request's body.
func named(t *testing.T, name string) place {
	return serving(t, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		_, _ = io.WriteString(w, name+" "+r.Host+" "+string(body))
	})
}

func balance(t *testing.T, backends ...backend) *httptest.Server {
	t.Helper()
	s := httptest.NewServer(newBalancer(backends, slog.New(slog.DiscardHandler)))
	t.Cleanup(s.Close)
	return s
}

// ask posts a body.
func ask(t *testing.T, s *httptest.Server, body string) (int, string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, s.URL, strings.NewReader(body))
	require.NoError(t, err)
	r.Host = "example.com"
	response, err := s.Client().Do(r)
	require.NoError(t, err)
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	require.NoError(t, err)
	return response.StatusCode, string(text)
}

func TestBalancer_TakesTurns(t *testing.T) {
	s := balance(t, named(t, "a"), named(t, "b"), named(t, "c"))
	var got strings.Builder
	for range 6 {
		status, text := ask(t, s, "")
		require.Equal(t, http.StatusOK, status)
		require.Contains(t, text, " example.com ", "nodes compare the origin with the host that the browser knows")
		got.WriteString(text[:1])
	}
	require.Contains(t, "abcabcabc", got.String())
}

func TestBalancer_SkipsTheDead(t *testing.T) {
	s := balance(t, dead(t), named(t, "b"), place(""), dead(t))
	for range 8 {
		status, text := ask(t, s, "whole")
		require.Equal(t, http.StatusOK, status)
		require.Equal(t, "b example.com whole", text)
	}
}

func TestBalancer_NobodyIsThere(t *testing.T) {
	for _, s := range []*httptest.Server{balance(t, dead(t), dead(t)), balance(t, place(""))} {
		status, text := ask(t, s, "x")
		require.Equal(t, http.StatusBadGateway, status)
		require.Contains(t, text, "No node has answered")
	}
}

// What a node has got before it died is not sent to another one.
func TestBalancer_RepeatsNothing(t *testing.T) {
	var asked atomic.Int32
	dying := serving(t, func(http.ResponseWriter, *http.Request) {
		asked.Add(1)
		panic(http.ErrAbortHandler)
	})
	s := balance(t, dying, dying)
	status, _ := ask(t, s, "x")
	require.Equal(t, http.StatusBadGateway, status)
	require.EqualValues(t, 1, asked.Load())
}

func TestBalancer_RefusesHugeBodies(t *testing.T) {
	status, _ := ask(t, balance(t, named(t, "a")), strings.Repeat("x", 2<<20))
	require.Equal(t, http.StatusRequestEntityTooLarge, status)
}

// Streams come as they are written, also as the answer to a POST, and end with their backend.
func TestBalancer_Streams(t *testing.T) {
	more := make(chan string)
	s := balance(t, serving(t, func(w http.ResponseWriter, _ *http.Request) {
		for text := range more {
			_, _ = io.WriteString(w, text+"\n")
			_ = http.NewResponseController(w).Flush()
		}
		panic(http.ErrAbortHandler)
	}))
	go func() { more <- "one" }() // the answer begins with it
	response, err := s.Client().Post(s.URL, "text/plain", strings.NewReader("x"))
	require.NoError(t, err)
	defer response.Body.Close()
	lines := bufio.NewScanner(response.Body)
	require.True(t, lines.Scan())
	require.Equal(t, "one", lines.Text())
	more <- "two"
	require.True(t, lines.Scan())
	require.Equal(t, "two", lines.Text())
	close(more)
	require.False(t, lines.Scan())
	require.Error(t, lines.Err(), "no end that looks like one")
}

func TestBalancer_WebSocket(t *testing.T) {
	s := balance(t, dead(t), serving(t, func(w http.ResponseWriter, r *http.Request) {
		conn, err := websocket.Accept(w, r, nil)
		if err != nil {
			return
		}
		defer conn.CloseNow()
		kind, data, err := conn.Read(r.Context())
		if err == nil {
			_ = conn.Write(r.Context(), kind, data)
		}
		_, _, _ = conn.Read(r.Context())
	}))
	for range 2 {
		conn, _, err := websocket.Dial(t.Context(), s.URL, nil)
		require.NoError(t, err)
		require.NoError(t, conn.Write(t.Context(), websocket.MessageText, []byte("x")))
		_, data, err := conn.Read(t.Context())
		require.NoError(t, err)
		require.Equal(t, "x", string(data))
		require.NoError(t, conn.CloseNow())
	}
}

// Who leaves is no reason to ask the next node.
func TestBalancer_ClientLeaves(t *testing.T) {
	asked := make(chan struct{}, 9)
	waiting := serving(t, func(_ http.ResponseWriter, r *http.Request) {
		asked <- struct{}{}
		<-r.Context().Done()
	})
	s := balance(t, waiting, waiting)
	ctx, cancel := context.WithCancel(t.Context())
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, s.URL, nil)
	require.NoError(t, err)
	go func() {
		<-asked
		cancel()
	}()
	_, err = s.Client().Do(r)
	require.ErrorIs(t, err, context.Canceled)
	require.Empty(t, asked)
}

func TestErrors_AreOneLine(t *testing.T) {
	logger := slog.New(slog.DiscardHandler)
	t.Setenv("PATH", t.TempDir())
	err := run(t.Context(), options{addr: "127.0.0.1:0", nodes: 1}, logger)
	require.ErrorIs(t, err, errNoRedis)
	require.ErrorContains(t, err, "-redis redis://")

	err = run(t.Context(), options{addr: "127.0.0.1:0", nodes: 1, redis: "redis://" + dead(t).Addr()}, logger)
	require.ErrorContains(t, err, "-redis: ")
	require.NotContains(t, err.Error(), "\n")
	err = run(t.Context(), options{addr: "127.0.0.1:0", nodes: 1, redis: "nonsense"}, logger)
	require.ErrorContains(t, err, "-redis: ")

	l, lerr := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, lerr)
	defer l.Close()
	var op *net.OpError
	require.True(t, errors.As(run(t.Context(), options{addr: l.Addr().String()}, logger), &op))
}
