//go:build unix

package e2e

import (
	"context"
	"fmt"
	"net"
	"os/exec"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare"
	"github.com/fanfare-go/fanfare/broker/redisbroker"
)

// lookRedis ends a test that needs a redis-server where there is none.
func lookRedis(t *testing.T) string {
	t.Helper()
	path, err := exec.LookPath("redis-server")
	if err != nil {
		unavailable(t, "redis-server")
	}
	return path
}

// startRedis starts a Redis that keeps nothing, and ends with the test, and returns its address.
func startRedis(t *testing.T) string {
	t.Helper()
	p := &process{t: t, addr: freeAddr(t), out: &output{}}
	program, dir := lookRedis(t), t.TempDir()
	_, port, err := net.SplitHostPort(p.addr)
	require.NoError(t, err)
	p.cmd = func() *exec.Cmd {
		return exec.Command(program, "--bind", "127.0.0.1", "--port", port, "--dir", dir, "--save", "", "--appendonly", "no")
	}
	t.Cleanup(func() {
		p.stop(syscall.SIGKILL)
		if t.Failed() {
			t.Logf("Redis said:\n%s", p.out)
		}
	})
	p.start()
	return p.addr
}

// replicas is how many nodes a clustered one is.
const replicas = 2

// clustered returns the configurations of nodes that share a Redis, and nothing with those that were made before.
func (s *server) clustered(c fanfare.Config) (list []fanfare.Config, err error) {
	s.mu.Lock()
	s.epochs++
	prefix := fmt.Sprint("cluster", s.epochs)
	s.mu.Unlock()
	for range replicas {
		b, err := newRedisBroker(s.redis, prefix)
		if err != nil {
			return nil, err
		}
		lossy := newLossyBroker(b)
		s.mu.Lock()
		s.losses = append(s.losses, lossy)
		s.mu.Unlock()
		c.Broker, c.Presence = lossy, b.Presence()
		list = append(list, c)
	}
	return list, nil
}

func newRedisBroker(addr, prefix string) (*redisbroker.Broker, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	return redisbroker.New(ctx, redisbroker.Config{Servers: []redisbroker.Server{{Addresses: []string{addr}}}, Prefix: prefix})
}
