package natsbroker

import (
	"slices"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare"
)

func TestNodes_AreThoseAttached(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	short := func(c *Config) { c.Lease = 3 * time.Second }
	a, b := s.broker(t, short), s.broker(t, short)
	nodes := func() []string {
		got, err := a.Nodes(t.Context())
		require.NoError(t, err)
		slices.Sort(got)
		return got
	}
	require.Empty(t, nodes())
	l, err := a.Attach("one", &sink{})
	require.NoError(t, err)
	_, err = b.Attach("two. *", &sink{})
	require.NoError(t, err)
	require.Equal(t, []string{"one", "two. *"}, nodes())
	_, err = a.Attach("one", &sink{})
	require.ErrorContains(t, err, "attached already")

	require.NoError(t, l.Close())
	require.Equal(t, []string{"two. *"}, nodes())
	_, err = a.Attach("one", &sink{})
	require.NoError(t, err)

	began := time.Now()
	b.nc.Close() // as a node that dies
	eventually(t, "the dead node is gone", func() bool { return len(nodes()) == 1 })
	require.Less(t, time.Since(began), 10*time.Second)
	require.Equal(t, []string{"one"}, nodes(), "the other one has renewed its lease")
}

func TestNew_WithAConnection(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	nc, err := nats.Connect(s.url())
	require.NoError(t, err)
	defer nc.Close()
	b, err := New(t.Context(), Config{Conn: nc, Prefix: "other"})
	require.NoError(t, err)
	require.EqualValues(t, 1, mustPublish(t, b, "x", "1").Offset)
	require.NoError(t, b.Close())
	require.True(t, nc.IsConnected(), "the connection is not the broker's")

	again, err := New(t.Context(), Config{Conn: nc, Prefix: "other"})
	require.NoError(t, err)
	require.EqualValues(t, 2, mustPublish(t, again, "x", "1").Offset)
	require.NoError(t, again.Close())
}

func TestNew_Refuses(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	b := s.broker(t, nil)
	_, err := b.js.CreateStream(t.Context(), jetstream.StreamConfig{Name: "orders", Subjects: []string{"orders.*"}})
	require.NoError(t, err)
	for name, tt := range map[string]struct {
		config Config
		want   string
	}{
		"no server":         {Config{}, "URL and Conn"},
		"two servers":       {Config{URL: s.url(), Conn: b.nc}, "URL and Conn"},
		"prefix":            {Config{URL: s.url(), Prefix: "a.b"}, "Prefix"},
		"replicas":          {Config{URL: s.url(), Replicas: -1}, "Replicas"},
		"lease":             {Config{URL: s.url(), Lease: time.Second}, "Lease"},
		"stream TTL":        {Config{URL: s.url(), StreamTTL: time.Second}, "StreamTTL"},
		"timeout":           {Config{URL: s.url(), Timeout: -1}, "Timeout"},
		"somebody's stream": {Config{URL: s.url(), Prefix: "orders"}, "something else"},
		"nobody listens":    {Config{URL: "nats://127.0.0.1:1"}, "no servers"},
		"too many replicas": {Config{URL: s.url(), Prefix: "many", Replicas: 3}, "replicas"},
		"options that fail": {Config{URL: s.url(), Options: []nats.Option{nats.RootCAs("/nowhere")}}, "nowhere"},
	} {
		_, err := New(t.Context(), tt.config)
		require.ErrorContains(t, err, tt.want, name)
	}
}

func TestServers_ThatAreReplicasAreAskedThroughTheirLeader(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	b := s.broker(t, nil)
	b.replicated.Store(true)
	require.EqualValues(t, 1, mustPublish(t, b, "x", "1").Offset)
	h := all(t, b, "x")
	require.Len(t, h.Publications, 1)
	require.Empty(t, all(t, b, "y").Publications)
	b.lanes.forget()
	require.Equal(t, fanfare.Position{Offset: 2, Epoch: h.Epoch}, mustPublish(t, b, "x", "2"))
}
