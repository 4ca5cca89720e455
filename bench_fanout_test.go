package fanfare_test

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare"
	"github.com/fanfare-go/fanfare/transport"
)

// arrivals counts what comes to many connections, so that a publisher may keep a number of messages under way. Each core
// counts for itself: a number that all of them change would cost more than a delivery.
type arrivals struct {
	shards  []arrivalShard
	used    int32             // shards that have connections
	passed  [256]atomic.Int32 // how many of these a message has passed, modulo the length
	room    chan struct{}     // a token for each message that has passed all
	payload []byte
	asking  string // members of the subscribe commands besides the channel
}

type arrivalShard struct {
	all   *arrivals
	conns int64
	came  atomic.Int64
	bytes atomic.Int64
	_     [128]byte // the next one's are on another cache line
}

func newArrivals(shards int) *arrivals {
	a := &arrivals{shards: make([]arrivalShard, shards), room: make(chan struct{}, len(arrivals{}.passed)), payload: benchPayload}
	for i := range a.shards {
		a.shards[i].all = a
	}
	return a
}

func (s *arrivalShard) arrived(messages, bytes int) {
	s.bytes.Add(int64(bytes))
	after := s.came.Add(int64(messages))
	for k := (after - int64(messages)) / s.conns; k < after/s.conns; k++ {
		if p := &s.all.passed[k%int64(len(s.all.passed))]; p.Add(1) == s.all.used {
			p.Store(0)
			s.all.room <- struct{}{}
		}
	}
}

func (a *arrivals) bytes() (sum int64) {
	for i := range a.shards {
		sum += a.shards[i].bytes.Load()
	}
	return sum
}

// arrivalConn takes everything: a write is a message, or as many as its size says. Node gives connections to workers in turn, and arrivals to
// shards.
type arrivalConn struct {
	countingConn
	shard *arrivalShard
	size  int // of a message; 0 is any
}

func (c *arrivalConn) TryWrite(frames []byte) (int, error) {
	messages := 1
	if c.size > 0 {
		messages = max(1, len(frames)/c.size) // replies are smaller
	}
	c.shard.arrived(messages, len(frames))
	return len(frames), nil
}

func (c *arrivalConn) Name() string { return "arrivals" }

func (c *arrivalConn) Serve(_ http.ResponseWriter, r *http.Request, a transport.Acceptor) {
	var err error
	if c.session, err = a.Accept(r, c); err != nil {
		panic(err)
	}
}

// join makes subscribers of a channel, all of whose messages have one size.
func (a *arrivals) join(b *testing.B, node *fanfare.Node, channel string, n, size int) []*arrivalConn {
	b.Helper()
	conns := make([]*arrivalConn, n)
	a.used = int32(min(n, len(a.shards)))
	for i := range conns {
		shard := &a.shards[i%len(a.shards)]
		shard.conns++
		conns[i] = &arrivalConn{countingConn{closed: make(chan struct{})}, shard, size}
		node.Handler(conns[i]).ServeHTTP(nil, &http.Request{})
	}
	// As they lie in memory is not the order of a channel that people come to and leave.
	order := rand.New(rand.NewPCG(1, 2)).Perm(n)
	for _, frame := range []string{`{"id":1,"connect":{}}`, `{"id":2,"subscribe":{"channel":"` + channel + `"` + a.asking + `}}`} {
		for _, i := range order {
			require.NoError(b, conns[i].session.Receive([]byte(frame)))
		}
		<-a.room
	}
	for i := range a.shards {
		a.shards[i].bytes.Store(0)
	}
	return conns
}

// publish keeps messages under way until next says that it is enough, and then waits for all.
func (a *arrivals) publish(b *testing.B, node *fanfare.Node, channel string, window int, next func() bool) {
	under := 0
	for next() {
		if under++; under > window {
			<-a.room
			under--
		}
		if _, err := node.Publish(b.Context(), channel, a.payload); err != nil {
			b.Error(err)
			return
		}
	}
	for ; under > 0; under-- {
		<-a.room
	}
}

// pushSize is the length of benchPayload as a message of the channel "plain" of benchNode.
var pushSize = len(`{"push":{"channel":"plain","pub":{"data":`) + len(benchPayload) + len("}}}\n")

// largePayload is too large to be joined with another.
var largePayload = fmt.Appendf(nil, `{"text":"%040000d"}`, 0)

// BenchmarkFanout measures a publication from Publish until the last of its subscribers' connections has it.
func BenchmarkFanout(b *testing.B) {
	for _, channel := range []string{"plain", "history"} {
		for _, subs := range []int{10, 100, 1000, 10_000, 100_000} {
			b.Run(fmt.Sprintf("%s/subs=%d", channel, subs), func(b *testing.B) { newArrivals(64).fanOut(b, channel, subs, 1) })
		}
	}
}

// BenchmarkHotChannel measures one channel that always has something to deliver, each message by itself. With -cpu 1,2 it
// shows how that scales.
func BenchmarkHotChannel(b *testing.B) {
	for _, subs := range []int{10_000, 100_000} {
		b.Run(fmt.Sprintf("subs=%d", subs), func(b *testing.B) {
			arrivals := newArrivals(64)
			arrivals.payload = largePayload
			arrivals.fanOut(b, "plain", subs, 8)
		})
	}
}

func (a *arrivals) fanOut(b *testing.B, channel string, subs, window int, change ...func(*fanfare.Config)) {
	node := benchNode(b, change...)
	conns := a.join(b, node, channel, subs, 0)
	b.ReportAllocs()
	a.publish(b, node, channel, window, b.Loop)
	deliveries := float64(b.N) * float64(subs)
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/deliveries, "ns/delivery")
	b.ReportMetric(float64(a.bytes())/deliveries, "B/delivery")
	for _, conn := range conns {
		conn.leave()
	}
}

// BenchmarkLargeChannel measures what goes on beside one channel with 100,000 subscribers that always has something to
// deliver: a publication to another channel until its subscriber has it, and the life of one more subscriber of the large one.
func BenchmarkLargeChannel(b *testing.B) {
	const subs = 100_000
	beside := map[string]func(b *testing.B, node *fanfare.Node){
		"publish to another": func(b *testing.B, node *fanfare.Node) {
			other := newArrivals(1)
			conns := other.join(b, node, "history", 1, 0)
			other.publish(b, node, "history", 1, b.Loop)
			conns[0].leave()
		},
		"join and leave": func(b *testing.B, node *fanfare.Node) {
			for b.Loop() {
				newArrivals(1).join(b, node, "plain", 1, pushSize)[0].leave()
			}
		},
	}
	for name, f := range beside {
		for _, busy := range []bool{false, true} {
			b.Run(fmt.Sprintf("%s/busy=%t", name, busy), func(b *testing.B) {
				node, arrivals := benchNode(b), newArrivals(64)
				conns := arrivals.join(b, node, "plain", subs, pushSize)
				var on atomic.Bool
				on.Store(busy)
				stopped := make(chan struct{})
				go func() {
					defer close(stopped)
					arrivals.publish(b, node, "plain", 2, on.Load)
				}()
				f(b, node)
				on.Store(false)
				<-stopped
				for _, conn := range conns {
					conn.leave()
				}
			})
		}
	}
}
