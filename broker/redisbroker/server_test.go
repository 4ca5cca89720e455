package redisbroker_test

import (
	"context"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare"
	"github.com/fanfare-go/fanfare/broker/internal/redistest"
	"github.com/fanfare-go/fanfare/broker/redisbroker"
)

// works uses everything that a broker does with a server.
func works(t *testing.T, b *redisbroker.Broker) {
	t.Helper()
	l, n := attach(t, b, "one", "x")
	_, two := attach(t, b, "two")
	publish(t, b, "x", "1")
	_, err := b.Publish(t.Context(), "x", &fanfare.Publication{Data: []byte("2")}, fanfare.StoreOptions{IdempotencyKey: "k", IdempotencyTTL: time.Minute})
	require.NoError(t, err)
	_, err = b.Publish(t.Context(), "x", &fanfare.Publication{Data: []byte("3")}, fanfare.StoreOptions{})
	require.NoError(t, err)
	require.NoError(t, b.PublishMembership(t.Context(), "x", fanfare.Membership{Joined: true}))
	require.NoError(t, b.SendControl(t.Context(), "one", "two", []byte("hello")))
	eventually(t, "it delivers", func() bool {
		two.mu.Lock()
		defer two.mu.Unlock()
		return strings.Join(n.got("x"), " ") == "1 2 3" && len(two.controls) == 1
	})
	require.Equal(t, []string{"1"}, kept(t, b, "x"))
	require.NoError(t, b.RemoveHistory(t.Context(), "x"))
	require.NoError(t, l.Unsubscribe(t.Context(), "x"))

	admission, err := b.AddConnection(t.Context(), fanfare.UserConnection{Node: "one", User: "u", Client: "c"}, 1, false)
	require.NoError(t, err)
	require.True(t, admission.Admitted)
	require.NoError(t, b.Presence().Add(t.Context(), "one", "x", fanfare.ClientInfo{User: "u", Client: "c"}))
	members, err := b.Presence().Members(t.Context(), "x")
	require.NoError(t, err)
	require.Len(t, members, 1)
	require.NoError(t, l.Close())
}

func TestServer_TLS(t *testing.T) {
	t.Parallel()
	server, trusted := redistest.StartTLS(t)
	secure := at(server.Addr())
	secure.TLS = trusted
	works(t, connect(t, secure))

	for name, s := range map[string]redisbroker.Server{"plain": at(server.Addr()), "unknown authority": func() redisbroker.Server {
		distrustful := at(server.Addr())
		distrustful.TLS = trusted.Clone()
		distrustful.TLS.RootCAs = nil
		return distrustful
	}()} {
		_, err := redisbroker.New(t.Context(), redisbroker.Config{Servers: []redisbroker.Server{s}, Timeout: time.Second})
		require.ErrorContains(t, err, server.Addr(), name)
	}
}

// leastACL are the rules that the documentation of the package names.
const leastACL = "on >secret resetchannels resetkeys ~app:* &app:* -@all +@connection +@hash +@string +@set +@sortedset +@stream +@scripting +@pubsub +@keyspace -@dangerous +info +time"

func TestServer_ACLAndDatabase(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t, "--user app "+leastACL)
	s := at(server.Addr())
	s.Username, s.Password, s.DB = "app", "secret", 3
	works(t, configured(t, redisbroker.Config{Servers: []redisbroker.Server{s}, Prefix: "app"}))
	require.Empty(t, server.CLI("KEYS", "*"))
	require.NotEmpty(t, server.CLI("-n", "3", "KEYS", "app:*"))

	b := configured(t, redisbroker.Config{Servers: []redisbroker.Server{s}, Prefix: "app"})
	server.CLI("ACL", "SETUSER", "app", "resetchannels", "&app:n:*")
	l, n := attach(t, b, "three")
	require.ErrorContains(t, l.Subscribe(t.Context(), "x"), "NOPERM")
	once := fanfare.StoreOptions{History: history, IdempotencyKey: "k", IdempotencyTTL: time.Minute}
	_, err := b.Publish(t.Context(), "stored", &fanfare.Publication{Data: []byte("1")}, once)
	require.ErrorContains(t, err, "channel")
	server.CLI("ACL", "SETUSER", "app", "&app:*")
	_, err = b.Publish(t.Context(), "stored", &fanfare.Publication{Data: []byte("1")}, once)
	require.NoError(t, err)
	require.Equal(t, []string{"1"}, kept(t, b, "stored"), "what was refused behind the storing is not stored again")
	require.NoError(t, l.Subscribe(t.Context(), "x"))
	publish(t, b, "x", "1")
	eventually(t, "it delivers", func() bool { return len(n.got("x")) == 1 })

	s.Password = "wrong"
	_, err = redisbroker.New(t.Context(), redisbroker.Config{Servers: []redisbroker.Server{s}})
	require.ErrorContains(t, err, "WRONGPASS")

	server.CLI("ACL", "SETUSER", "careful", "on", ">secret", "~*", "&*", "+@all", "-@dangerous")
	s.Username, s.Password = "careful", "secret"
	_, err = redisbroker.New(t.Context(), redisbroker.Config{Servers: []redisbroker.Server{s}})
	require.ErrorContains(t, err, "+info")
}

func TestServer_ACLOfACluster(t *testing.T) {
	t.Parallel()
	cluster := redistest.StartCluster(t)
	for _, m := range cluster.Masters {
		m.CLI(append([]string{"ACL", "SETUSER", "app"}, strings.Fields(leastACL+" +cluster|slots +cluster|shards")...)...)
	}
	s := at(cluster.Addrs()...)
	s.Username, s.Password = "app", "secret"
	works(t, configured(t, redisbroker.Config{Servers: []redisbroker.Server{s}, Prefix: "app"}))
}

func TestServer_PrefixesDoNotMeet(t *testing.T) {
	t.Parallel()
	server, prefix := redistest.Shared(t)
	one := configured(t, redisbroker.Config{Servers: []redisbroker.Server{at(server.Addr())}, Prefix: prefix + "1"})
	two := configured(t, redisbroker.Config{Servers: []redisbroker.Server{at(server.Addr())}, Prefix: prefix + "2"})
	_, a := attach(t, one, "node", "x")
	_, b := attach(t, two, "node", "x")
	publish(t, one, "x", "1")
	publish(t, two, "x", "2")
	require.NoError(t, one.SendControl(t.Context(), "nobody", "", []byte("1")))
	require.NoError(t, two.SendControl(t.Context(), "nobody", "", []byte("2")))
	for n, want := range map[*node]string{a: "1", b: "2"} {
		eventually(t, "it delivers", func() bool {
			n.mu.Lock()
			defer n.mu.Unlock()
			return len(n.publications["x"]) == 1 && len(n.controls) == 1
		})
		require.Equal(t, []string{want}, n.got("x"))
		require.Equal(t, []string{want}, n.controls)
	}
}

func TestServer_ThatIsNone(t *testing.T) {
	t.Parallel()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer func() { _ = listener.Close() }() // it takes connections and never answers
	began := time.Now()
	_, err = redisbroker.New(t.Context(), redisbroker.Config{Servers: []redisbroker.Server{at(listener.Addr().String())}, Timeout: 200 * time.Millisecond})
	require.ErrorContains(t, err, listener.Addr().String())
	require.Less(t, time.Since(began), patience)

	ended, cancel := context.WithCancel(t.Context())
	cancel()
	server, _ := redistest.Shared(t)
	_, err = redisbroker.New(ended, redisbroker.Config{Servers: []redisbroker.Server{at(server.Addr())}})
	require.ErrorIs(t, err, context.Canceled)
}

func TestShards_ShareTheChannels(t *testing.T) {
	t.Parallel()
	servers := make([]*redistest.Server, 3)
	addresses := make([]redisbroker.Server, len(servers))
	for i := range servers {
		servers[i] = redistest.Start(t)
		addresses[i] = at(servers[i].Addr())
	}
	const channels = 300
	two := connect(t, addresses[:2]...)
	for i := range channels {
		publish(t, two, fmt.Sprint(i), "1")
	}
	for _, s := range servers[:2] {
		require.InDelta(t, channels/2, streams(s), channels/5)
	}
	// In another order, and with one more.
	three := connect(t, addresses[2], addresses[1], addresses[0])
	for i := range channels {
		publish(t, three, fmt.Sprint(i), "1")
	}
	moved := streams(servers[2])
	require.InDelta(t, channels/3, moved, channels/5)
	require.Equal(t, channels, streams(servers[0])+streams(servers[1]), "nothing moved between those that had been there")
}

func streams(s *redistest.Server) int { return len(strings.Fields(s.CLI("KEYS", "fanfare:s:*"))) }
