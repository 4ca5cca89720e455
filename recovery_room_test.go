package fanfare_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare"
	"github.com/fanfare-go/fanfare/transport"
)

// tardyConn takes nothing at once, and each write a little later.
type tardyConn struct {
	recordingConn
	delay time.Duration
}

func (c *tardyConn) TryWrite([]byte) (int, error) { return 0, nil }

func (c *tardyConn) Write(frames []byte) error {
	time.Sleep(c.delay)
	_, err := c.recordingConn.TryWrite(frames)
	return err
}

func (c *tardyConn) Serve(_ http.ResponseWriter, r *http.Request, a transport.Acceptor) {
	var err error
	if c.session, err = a.Accept(r, c); err != nil {
		panic(err)
	}
}

// What fits into an empty queue is recovered, also if what was said before it is still being written.
func TestRecovery_WaitsForRoom(t *testing.T) {
	const channels = 5
	for name, test := range map[string]struct {
		delay     time.Duration
		recovered int
	}{
		"of a peer that reads":                            {50 * time.Millisecond, channels},
		"of one that does not, it is not waited for ever": {time.Hour, 1}, // what the queue holds beside the reply to connect, which is being written
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				node := startNode(t, func(c *fanfare.Config) { c.Authenticate, c.WriteTimeout = nil, 2*time.Hour })
				node.Channel("{name}", fanfare.ChannelOptions{Public: true, History: fanfare.History{Size: 10, TTL: 24 * time.Hour}})
				data := `"` + strings.Repeat("x", 100_000) + `"`
				commands := []string{`{"id":1,"connect":{}}`}
				for id := 2; id < 2+channels; id++ {
					channel := fmt.Sprint("long", id)
					at, err := node.Publish(t.Context(), channel, []byte(data))
					require.NoError(t, err)
					requirePublish(t, node, channel, data, data, data, data)
					commands = append(commands, fmt.Sprintf(`{"id":%d,"subscribe":{"channel":%q,"recover":true,"epoch":%q,"offset":1}}`, id, channel, at.Epoch))
				}
				conn := &tardyConn{delay: test.delay}
				conn.countingConn = countingConn{counter: newCounter(), closed: make(chan struct{})}
				node.Handler(conn).ServeHTTP(nil, &http.Request{})
				t.Cleanup(func() { conn.session.Closed(nil) })
				send(t, &conn.recordingConn, commands...)
				time.Sleep(10 * time.Hour)
				synctest.Wait()
				conn.mu.Lock()
				defer conn.mu.Unlock()
				require.Equal(t, test.recovered, strings.Count(strings.Join(conn.writes, ""), `"recovered":true`))
			})
		})
	}
}
