package fanfare_test

import (
	"context"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare"
	"github.com/fanfare-go/fanfare/broker/redisbroker"
)

// startRedis starts a Redis that keeps nothing on disk, and returns its address. It ends with the test.
func startRedis(t *testing.T) string {
	t.Helper()
	program, err := exec.LookPath("redis-server")
	if err != nil {
		require.NotEqual(t, "true", os.Getenv("CI"), "redis-server is not available")
		t.Skip("redis-server is not available: run scripts/setup-test-tools")
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	addr, port := l.Addr().String(), l.Addr().(*net.TCPAddr).Port
	require.NoError(t, l.Close())
	cmd := exec.Command(program, "--bind", "127.0.0.1", "--port", strconv.Itoa(port), "--dir", t.TempDir(), "--save", "", "--appendonly", "no")
	require.NoError(t, cmd.Start())
	t.Cleanup(func() {
		_ = cmd.Process.Kill() // it may have ended
		_ = cmd.Wait()
	})
	require.Eventually(t, func() bool {
		conn, err := net.Dial("tcp", addr)
		if err == nil {
			err = conn.Close()
		}
		return err == nil
	}, 30*time.Second, 5*time.Millisecond, "Redis does not answer")
	return addr
}

// twoNodes are nodes over Redis, in front of which each request goes to one of them at random: no session is sticky, and commands
// that are posted mostly come to the node that does not have the connection.
func twoNodes(t *testing.T) *house {
	t.Helper()
	redis, h := startRedis(t), &house{}
	for range 2 {
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		defer cancel()
		broker, err := redisbroker.New(ctx, redisbroker.Config{Servers: []redisbroker.Server{{Addresses: []string{redis}}}})
		require.NoError(t, err)
		t.Cleanup(func() { require.NoError(t, broker.Close()) })
		a := plain(t, func(c *fanfare.Config) {
			c.MaxRecovered = 5000 // the publisher is fast
			c.Broker, c.Presence = broker, broker.Presence()
		})
		h.nodes = append(h.nodes, a.Node)
	}
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { h.node().ServeHTTP(w, r) }))
	t.Cleanup(s.Close)
	h.url = s.URL
	return h
}

func TestDoors_ConversationOverRedis(t *testing.T) {
	t.Parallel()
	converse(t, twoNodes(t))
}

func TestDoors_MovingOverRedis(t *testing.T) {
	t.Parallel()
	move(t, twoNodes(t))
}
