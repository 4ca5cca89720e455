package natsbroker

import (
	"context"
	"fmt"
	"net"
	"net/url"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare"
)

// startCluster starts three servers that know each other.
func startCluster(t *testing.T) []*server.Server {
	t.Helper()
	// Servers with JetStream insist on knowing the others from the start.
	var ports []int
	var routes []*url.URL
	for range 3 {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		require.NoError(t, err)
		ports = append(ports, l.Addr().(*net.TCPAddr).Port)
		routes = append(routes, &url.URL{Scheme: "nats", Host: l.Addr().String()})
		require.NoError(t, l.Close())
	}
	var servers []*server.Server
	for i, port := range ports {
		s, err := server.NewServer(&server.Options{
			ServerName: fmt.Sprint("s", i), Host: "127.0.0.1", Port: server.RANDOM_PORT, JetStream: true, StoreDir: t.TempDir(), NoLog: true, NoSigs: true,
			Cluster: server.ClusterOpts{Name: "c", Host: "127.0.0.1", Port: port}, Routes: routes,
		})
		require.NoError(t, err)
		t.Cleanup(func() {
			s.Shutdown()
			s.WaitForShutdown()
		})
		s.Start()
		servers = append(servers, s)
	}
	for _, s := range servers {
		require.True(t, s.ReadyForConnections(20*time.Second))
	}
	return servers
}

func TestCluster_ALostServerLosesNothing(t *testing.T) {
	t.Parallel()
	servers := startCluster(t)
	urls := servers[0].ClientURL() + "," + servers[1].ClientURL() + "," + servers[2].ClientURL()
	replicated := func(c *Config) { c.URL, c.Replicas, c.Timeout = urls, 3, 5*time.Second }
	var first *Broker
	eventually(t, "the cluster has elected its leader", func() bool {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		c := Config{}
		replicated(&c)
		b, err := New(ctx, c)
		first = b
		return err == nil
	})
	t.Cleanup(func() { _ = first.Close() })
	second := (&natsServer{}).broker(t, replicated)
	node := &sink{}
	link, err := second.Attach("one", node)
	require.NoError(t, err)
	// A busy machine may elect again.
	eventually(t, "the stream has a leader", func() bool { return link.Subscribe(t.Context(), "x") == nil })

	var before fanfare.Position
	var mu sync.Mutex // guards before
	var publishers sync.WaitGroup
	for i := range 4 {
		publishers.Go(func() {
			for range 25 {
				at, err := publish([]*Broker{first, second}[i%2], "x", "1")
				if !assert.NoError(t, err) {
					return
				}
				mu.Lock()
				before = at
				mu.Unlock()
				h, err := second.History(t.Context(), "x", fanfare.HistoryQuery{Limit: -1})
				assert.NoError(t, err)
				assert.GreaterOrEqual(t, h.Offset, at.Offset)
				assert.Len(t, h.Publications, int(h.Offset))
			}
		})
	}
	publishers.Wait()
	eventually(t, "the node has got all", func() bool { return len(node.got()) == 100 })
	for i, p := range node.got() {
		require.EqualValues(t, i+1, p.Offset)
	}

	info, err := (*first.stream.Load()).Info(t.Context())
	require.NoError(t, err)
	for _, s := range servers {
		if s.Name() == info.Cluster.Leader {
			s.Shutdown()
		}
	}
	var after fanfare.Position
	eventually(t, "another server leads", func() bool {
		after, err = publish(first, "x", "2")
		return err == nil
	})
	require.Equal(t, before.Epoch, after.Epoch)
	require.Greater(t, after.Offset, uint64(100))
	eventually(t, "the other broker is back, and nothing is lost", func() bool {
		h, err := second.History(t.Context(), "x", fanfare.HistoryQuery{Limit: -1})
		return err == nil && h.Epoch == before.Epoch && h.Offset >= after.Offset && len(h.Publications) == int(h.Offset)
	})
}
