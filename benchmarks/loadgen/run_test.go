//go:build linux

package main

import (
	"context"
	"net/http"
	"net/http/httptest"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare"
	"github.com/fanfare-go/fanfare/benchmarks/internal/target"
)

// startTarget serves what loadgen needs, from a real node.
func startTarget(t *testing.T, c fanfare.Config) options {
	t.Helper()
	c.DrainWindow = -1
	node, err := fanfare.New(c)
	require.NoError(t, err)
	node.Channel("rec", fanfare.ChannelOptions{Public: true, History: fanfare.History{Size: 100, TTL: time.Minute}})
	node.Channel("{any...}", fanfare.ChannelOptions{Public: true})
	mux := http.NewServeMux()
	mux.Handle("/connection/", node)
	mux.HandleFunc("GET /app", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("page")) })
	target.HandleControl(mux, func(ctx context.Context, channel string, data []byte) error {
		_, err := node.Publish(ctx, channel, data)
		return err
	})
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	t.Cleanup(func() { require.NoError(t, node.Shutdown(context.Background())) })
	return options{
		addr: server.Listener.Addr().String(), control: server.URL, pid: os.Getpid(), path: "/connection/websocket",
		protocol: "json", conns: 20, concurrency: 8, channel: "bench", size: 128, count: 30, window: 8, warmup: 3,
		missed: 5, timeout: 20 * time.Second, settle: 50 * time.Millisecond, hold: 100 * time.Millisecond,
		appPath: "/app",
	}
}

func measured(t *testing.T, o options) *result {
	t.Helper()
	r, err := run(o)
	require.NoError(t, err)
	require.Zero(t, r.Failed+r.Closed+r.OutOfOrder, "first error: %s", r.FirstError)
	require.Positive(t, r.Seconds)
	return r
}

func TestRun_FanoutCountsEveryDelivery(t *testing.T) {
	t.Parallel()
	o := startTarget(t, fanfare.Config{})
	o.mode, o.rate = "fanout", 100
	paced := measured(t, o)
	require.Equal(t, 600, paced.Delivered)
	require.Equal(t, paced.Expected, paced.Delivered)
	require.GreaterOrEqual(t, paced.Seconds, 0.29, "30 publications, 10 ms apart")
	require.Positive(t, paced.LatencyP99Ms)
	require.Positive(t, paced.RSSPeakMB)

	o.rate = 0
	require.Equal(t, 600, measured(t, o).Delivered)
}

func TestRun_ManySpreadsPublicationsOverChannels(t *testing.T) {
	t.Parallel()
	o := startTarget(t, fanfare.Config{})
	o.mode, o.channels = "many", 5
	require.Equal(t, 30*4, measured(t, o).Delivered)
}

func TestRun_StalledConnectionsCostTheOthersNothing(t *testing.T) {
	t.Parallel()
	o := startTarget(t, fanfare.Config{MaxQueueSize: 256 << 10})
	// More than the sockets of the stalled ones hold, and never more under way than the queues of the others.
	o.mode, o.conns, o.stall, o.size, o.count, o.window = "fanout", 10, 0.2, 16<<10, 300, 4
	o.settle = time.Second
	r := measured(t, o)
	require.Equal(t, 2, r.Stalled)
	require.Equal(t, 2, r.StalledClosed, "the server gives up a client whose queue is full")
	require.Equal(t, 300*8, r.Delivered)

	o.mode = "many"
	_, err := run(o)
	require.ErrorContains(t, err, "-stall")
}

func TestRun_RecoversEveryClient(t *testing.T) {
	t.Parallel()
	o := startTarget(t, fanfare.Config{})
	o.mode, o.channel = "recover", "rec"
	r := measured(t, o)
	require.Equal(t, 20, r.Recovered)
	require.Equal(t, 100, r.RecoveredMissed)
}

func TestRun_IdleTellsWhatAConnectionHolds(t *testing.T) {
	t.Parallel()
	o := startTarget(t, fanfare.Config{})
	o.mode = "idle"
	r := measured(t, o)
	require.Positive(t, r.RSSMB)
	require.NotNil(t, r.GoroutinesPerConn)
	require.Contains(t, r.MemStats, "goroutines")
}

func TestRun_AppIsAskedBesideAFanout(t *testing.T) {
	t.Parallel()
	o := startTarget(t, fanfare.Config{})
	o.mode, o.appRate = "app", 100
	r := measured(t, o)
	require.Positive(t, r.AppRequests)
	require.GreaterOrEqual(t, r.AppMaxMs, r.AppP50Ms)
	require.Zero(t, r.Delivered)

	o.mode, o.rate = "fanout", 100
	r = measured(t, o)
	require.Positive(t, r.AppRequests)
	require.Equal(t, r.Expected, r.Delivered)

	o.appPath = "/nowhere"
	_, err := run(o)
	require.ErrorContains(t, err, "404")
}

func TestResponseSize(t *testing.T) {
	t.Parallel()
	const ok = "HTTP/1.1 200 OK\r\n"
	tests := []struct {
		name, response string
		size           int
		err            string
	}{
		{"incomplete header", ok + "Content-Length: 3\r\n", 0, ""},
		{"complete", ok + "content-length: 3\r\n\r\nabc", 41, ""},
		{"no length", ok + "Transfer-Encoding: chunked\r\n\r\n", 0, "without Content-Length"},
		{"bad length", ok + "Content-Length: x\r\n\r\n", 0, "Content-Length"},
		{"other status", "HTTP/1.1 503 Service Unavailable\r\n\r\n", 0, "503"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			size, err := responseSize([]byte(tt.response))
			if tt.err != "" {
				require.ErrorContains(t, err, tt.err)
				return
			}
			require.NoError(t, err)
			require.Equal(t, tt.size, size)
		})
	}
}
