package fanfare_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare"
	"github.com/fanfare-go/fanfare/transport"
	eventsdoor "github.com/fanfare-go/fanfare/transport/events"
	"github.com/fanfare-go/fanfare/transport/httpstream"
	"github.com/fanfare-go/fanfare/transport/sse"
)

// memoryWriter is a response that takes everything at once, and keeps nothing of it.
type memoryWriter struct {
	counter *counter
	header  http.Header
}

var _ http.Flusher = (*memoryWriter)(nil)

func (w *memoryWriter) Header() http.Header              { return w.header }
func (w *memoryWriter) WriteHeader(int)                  {}
func (w *memoryWriter) Flush()                           {}
func (w *memoryWriter) SetReadDeadline(time.Time) error  { return nil }
func (w *memoryWriter) SetWriteDeadline(time.Time) error { return nil }
func (w *memoryWriter) Write(data []byte) (int, error) {
	w.counter.bytes.Add(int64(len(data)))
	if w.counter.came.Add(1) == w.counter.due.Load() {
		w.counter.all <- struct{}{}
	}
	return len(data), nil
}

// heldDoor is a request to one of the doors that hold a response.
type heldDoor struct {
	transport transport.Transport
	request   func() *http.Request
}

func heldDoors() []heldDoor {
	post := func(contentType, body string) func() *http.Request {
		return func() *http.Request {
			r := httptest.NewRequest(http.MethodPost, "/", strings.NewReader(body))
			r.Header.Set("Content-Type", contentType)
			return r
		}
	}
	get := func(query string) func() *http.Request {
		return func() *http.Request { return httptest.NewRequest(http.MethodGet, "/?"+query, nil) }
	}
	commands := `{"id":1,"connect":{}}` + "\n" + `{"id":2,"subscribe":{"channel":"plain"}}`
	protobuf := "\x04\x08\x01\x22\x00" + "\x0b\x08\x02\x2a\x07\x0a\x05plain"
	uni := `{"subs":{"plain":{}}}`
	return []heldDoor{
		{httpstream.New(httpstream.Options{}), post("application/json", commands)},
		{httpstream.New(httpstream.Options{}), post("application/octet-stream", protobuf)},
		{httpstream.NewUni(httpstream.Options{}), post("application/json", uni)},
		{sse.New(sse.Options{}), post("application/json", commands)},
		{sse.NewUni(sse.Options{}), get("cf_connect=" + url.QueryEscape(uni))},
		{eventsdoor.New(eventsdoor.Options{}), get("channel=plain")},
	}
}

// BenchmarkDoors measures a publication to subscribers that have come through all doors in turn, until each has it. What it
// allocates must not depend on how many they are.
func BenchmarkDoors(b *testing.B) {
	for _, subs := range []int{100, 1000, 10_000} {
		b.Run(fmt.Sprintf("subs=%d", subs), func(b *testing.B) {
			node, counter := benchNode(b), newCounter()
			ctx, leave := context.WithCancel(b.Context())
			var serving sync.WaitGroup
			var conns []*countingConn
			doors := heldDoors()
			for i := range subs {
				if i%(len(doors)+1) == len(doors) {
					conn := attach(node, counter)
					subscribeConn(b, conn, "plain")
					conns = append(conns, conn)
					continue
				}
				d := doors[i%(len(doors)+1)]
				w := &memoryWriter{counter: counter, header: make(http.Header)}
				serving.Go(func() { node.Handler(d.transport).ServeHTTP(w, d.request().WithContext(ctx)) })
			}
			gather(b, node, subs)
			counter.came.Store(0)
			counter.due.Store(0)
			publish := func() {
				counter.expect(subs)
				if _, err := node.Publish(b.Context(), "plain", benchPayload); err != nil {
					b.Fatal(err)
				}
				counter.wait()
			}
			for range 10 { // the first ones make the buffers that are kept
				publish()
			}
			b.ReportAllocs()
			for b.Loop() {
				publish()
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(subs), "ns/delivery")
			leave()
			serving.Wait()
			for _, conn := range conns {
				conn.leave()
			}
		})
	}
}

// gather waits until all subscribers are there, and have been told.
func gather(b *testing.B, node *fanfare.Node, subs int) {
	b.Helper()
	for end := time.Now().Add(time.Minute); ; time.Sleep(10 * time.Millisecond) {
		if n := node.Subscribers("plain"); n == subs {
			break
		}
		require.True(b, time.Now().Before(end), "subscribers are missing")
	}
	time.Sleep(200 * time.Millisecond) // for their replies
}
