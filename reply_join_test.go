package fanfare_test

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare"
	"github.com/fanfare-go/fanfare/transport"
)

// recordingConn keeps what is written to it, write by write.
type recordingConn struct {
	countingConn
	mu     sync.Mutex // guards below
	writes []string
}

func (c *recordingConn) TryWrite(frames []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.writes = append(c.writes, string(frames))
	return c.countingConn.TryWrite(frames)
}

// taken returns the writes since the last call, each as the ids of the replies in it.
func (c *recordingConn) taken(t *testing.T) []string {
	t.Helper()
	synctest.Wait()
	c.mu.Lock()
	defer c.mu.Unlock()
	ids := []string{}
	for _, w := range c.writes {
		var in []string
		for line := range strings.Lines(w) {
			var id int
			_, err := fmt.Sscanf(line, `{"id":%d,`, &id)
			require.NoError(t, err, line)
			in = append(in, fmt.Sprint(id))
		}
		ids = append(ids, strings.Join(in, " "))
	}
	c.writes = nil
	return ids
}

func (c *recordingConn) Name() string { return "recording" }

func (c *recordingConn) Serve(_ http.ResponseWriter, r *http.Request, a transport.Acceptor) {
	var err error
	if c.session, err = a.Accept(r, c); err != nil {
		panic(err)
	}
}

// subscribes are commands to subscribe to channels of a namespace, with ids from first on.
func subscribes(namespace string, first, n int) []string {
	var all []string
	for id := first; id < first+n; id++ {
		all = append(all, fmt.Sprintf(`{"id":%d,"subscribe":{"channel":"%s:%d"}}`, id, namespace, id))
	}
	return all
}

func TestReplies_AreJoined(t *testing.T) {
	long := []byte(`"` + strings.Repeat("x", 6000) + `"`)
	var gate chan struct{}
	setup := func(t *testing.T, change ...func(*fanfare.Config)) *recordingConn {
		gate = make(chan struct{})
		node := startNode(t, append(change, func(c *fanfare.Config) { c.Authenticate = nil })...)
		node.Channel("open:{id}", fanfare.ChannelOptions{Public: true})
		node.Channel("asked:{id}", fanfare.ChannelOptions{
			Subscribe: func(context.Context, *fanfare.SubscribeRequest) (fanfare.SubscribeReply, error) {
				<-gate
				return fanfare.SubscribeReply{}, nil
			}})
		node.Channel("long:{id}", fanfare.ChannelOptions{Public: true, History: fanfare.History{Size: 1, TTL: 1 << 40},
			Recovery: fanfare.RecoveryCacheAlways})
		if len(change) == 0 {
			for id := range 20 {
				_, err := node.Publish(t.Context(), fmt.Sprintf("long:%d", id), long)
				require.NoError(t, err)
			}
		}
		node.RPC("wait", func(ctx context.Context, _ *fanfare.RPCRequest) ([]byte, error) {
			select {
			case <-gate:
			case <-ctx.Done():
			}
			return nil, nil
		})
		conn := &recordingConn{countingConn: countingConn{counter: newCounter(), closed: make(chan struct{})}}
		node.Handler(conn).ServeHTTP(nil, &http.Request{})
		t.Cleanup(func() { conn.session.Closed(nil) })
		send(t, conn, `{"id":1,"connect":{}}`)
		require.Equal(t, []string{"1"}, conn.taken(t))
		return conn
	}
	// wait keeps the runner busy, so that what is sent behind it has to queue.
	const wait = `{"id":2,"rpc":{"method":"wait"}}`
	for name, tc := range map[string]struct {
		commands []string
		before   string   // the replies while the hook waits
		after    []string // the writes once it may return
	}{
		"subscribes that wait for nobody": {
			commands: append([]string{wait}, subscribes("open", 3, 5)...),
			after:    []string{"2", "3 4 5 6 7"},
		},
		"refusals among them": {
			commands: append(append([]string{wait}, subscribes("open", 3, 2)...), append(subscribes("unknown", 5, 1), subscribes("open", 6, 2)...)...),
			after:    []string{"2", "3 4", "5", "6 7"},
		},
		"none waits for a hook behind it": {
			commands: append(subscribes("open", 2, 3), `{"id":5,"rpc":{"method":"wait"}}`),
			before:   "2 3 4",
			after:    []string{"5"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				conn := setup(t)
				send(t, conn, tc.commands...)
				require.Equal(t, tc.before, strings.Join(conn.taken(t), " "))
				close(gate)
				require.Equal(t, tc.after, conn.taken(t))
			})
		})
	}

	t.Run("with those of subscribes that ask the app", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			conn := setup(t)
			send(t, conn, append([]string{wait}, append(subscribes("asked", 3, 1), subscribes("open", 4, 2)...)...)...)
			require.Empty(t, conn.taken(t))
			close(gate)
			require.ElementsMatch(t, []string{"2", "3", "4", "5"}, strings.Fields(strings.Join(conn.taken(t), " ")))
		})
	})
	t.Run("in their order, however long", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			conn := setup(t)
			send(t, conn, append([]string{wait}, subscribes("long", 3, 16)...)...)
			close(gate)
			require.Equal(t, "2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18", strings.Join(conn.taken(t), " "))
		})
	})
	t.Run("until they are much for a small queue", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			conn := setup(t, func(c *fanfare.Config) { c.MaxQueueSize, c.MaxPublicationSize = 1000, 500 })
			send(t, conn, append([]string{wait}, subscribes("open", 3, 90)...)...)
			close(gate)
			require.Len(t, strings.Fields(strings.Join(conn.taken(t), " ")), 91)
			require.Empty(t, conn.closed)
			send(t, conn, subscribes("open", 100, 1)...)
			require.Equal(t, []string{"100"}, conn.taken(t), "and it is still there")
		})
	})
	t.Run("before the end of the connection", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			conn := setup(t)
			send(t, conn, append(append([]string{wait}, subscribes("open", 3, 2)...), `nonsense`)...)
			close(gate)
			require.Equal(t, "2 3 4", strings.Join(conn.taken(t), " "))
			select {
			case <-conn.closed:
			default:
				t.Fatal("still open")
			}
		})
	})
}

// send sends commands in one frame.
func send(t *testing.T, conn *recordingConn, commands ...string) {
	t.Helper()
	require.NoError(t, conn.session.Receive([]byte(strings.Join(commands, "\n"))))
}
