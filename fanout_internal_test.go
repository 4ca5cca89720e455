package fanfare

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare/transport"
)

// easyConn takes everything.
type easyConn struct{ transport.Conn }

func (easyConn) TryWrite(p []byte) (int, error) { return len(p), nil }

// Connections that are held and released, again and again, keep nobody waiting who has asked for a flush.
func TestWorker_ServesEverybody(t *testing.T) {
	for _, n := range []int{1, 50, 5000} {
		w := newWorker(0, 25*time.Millisecond)
		newClient := func() *Client {
			c := &Client{worker: w, node: &Node{}}
			c.out.try, c.out.max = easyConn{}, 1<<20
			return c
		}
		w.spacing, w.now = 12*time.Millisecond, time.Second
		held := make([]*Client, n)
		for i := range held {
			held[i] = newClient()
			held[i].out.wrote = w.now
			w.claim(held[i], &batch{})
		}
		waiting := newClient()
		waiting.out.flushing = true
		waiting.out.queue.Push([]byte("reply"), nil)
		w.clients = append(w.clients, waiting)
		rounds := 0
		for ; rounds < 1000 && waiting.out.flushing; rounds++ {
			w.now += 250 * time.Microsecond // a slice that a large channel used up
			w.release()
			w.next()
			w.flush(0) // no time: a chunk
			for _, c := range held {
				w.claim(c, &batch{}) // the channels go on
			}
		}
		require.Less(t, rounds, 400, "%d held", n)
		require.LessOrEqual(t, len(w.serving), 2*n+2*chunk)
	}
}
