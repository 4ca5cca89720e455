package main

import (
	"context"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestRun_EndsInGoodOrder(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	require.NoError(t, run(ctx, "127.0.0.1:0", filepath.Join(t.TempDir(), "chat.jsonl"), 0, slog.New(slog.DiscardHandler)))
}

func TestRun_BusyAddressLeavesTheStoreAlone(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	path := filepath.Join(t.TempDir(), "chat.jsonl")
	// Half a line: what the first process is writing at the moment.
	require.NoError(t, os.WriteFile(path, []byte(`{"message":`), 0o600))

	require.Error(t, run(t.Context(), l.Addr().String(), path, 0, slog.New(slog.DiscardHandler)))
	b, err := os.ReadFile(path)
	require.NoError(t, err)
	require.Equal(t, `{"message":`, string(b))
}

func TestBrowserURL(t *testing.T) {
	require.Equal(t, "http://127.0.0.1:80", browserURL(&net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 80}))
	require.Equal(t, "http://localhost:80", browserURL(&net.TCPAddr{IP: net.IPv6unspecified, Port: 80}))
}
