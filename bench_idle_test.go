package fanfare_test

import (
	"context"
	"fmt"
	"net/http"
	"runtime"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare"
)

// BenchmarkIdle measures what a node keeps for a connection that is connected, subscribed to one channel of a hundred, and
// otherwise silent. The connection itself is the transport's, and does not count.
func BenchmarkIdle(b *testing.B) {
	b.Run("anonymous", func(b *testing.B) { idle(b, fanfare.Config{}) })
	b.Run("users", func(b *testing.B) {
		idle(b, fanfare.Config{Authenticate: func(_ context.Context, r *fanfare.ConnectRequest) (fanfare.Identity, error) {
			return fanfare.Identity{User: r.ClientID[:8], Info: []byte(`{}`)}, nil
		}})
	})
	b.Run("revalidated", func(b *testing.B) {
		idle(b, fanfare.Config{Revalidate: fanfare.Revalidate{Interval: time.Hour, Check: func(context.Context, *fanfare.RevalidateRequest) error {
			return nil
		}}})
	})
}

func idle(b *testing.B, config fanfare.Config) {
	const connections = 10_000
	config.DrainWindow = -1
	var bytes, objects float64
	for b.Loop() {
		node, err := fanfare.New(config)
		require.NoError(b, err)
		node.Channel("{id}", fanfare.ChannelOptions{Public: true})
		counter := newCounter()
		conns := make([]countingConn, connections)
		for i := range conns {
			conns[i].counter, conns[i].closed = counter, make(chan struct{})
		}
		before := memory()
		counter.expect(2 * connections)
		for i := range conns {
			r := &http.Request{}
			if config.Revalidate.Check != nil {
				r.Header = http.Header{"Cookie": {fmt.Sprintf("session=%056d", i)}}
			}
			node.Handler(oneConn{&conns[i]}).ServeHTTP(nil, r)
			subscribeConn(b, &conns[i], fmt.Sprint(i%100))
		}
		counter.wait()
		after := memory()
		bytes += float64(after.HeapAlloc) - float64(before.HeapAlloc)
		objects += float64(after.HeapObjects) - float64(before.HeapObjects)
		for i := range conns {
			conns[i].leave()
		}
		require.NoError(b, node.Shutdown(context.Background()))
	}
	b.ReportMetric(bytes/float64(b.N)/connections, "B/conn")
	b.ReportMetric(objects/float64(b.N)/connections, "objects/conn")
	b.ReportMetric(0, "ns/op")
}

// memory is what is in use.
func memory() (m runtime.MemStats) {
	for range 3 { // what is pooled takes more than one turn
		runtime.GC()
	}
	runtime.ReadMemStats(&m)
	return m
}
