package redisbroker_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare"
	"github.com/fanfare-go/fanfare/broker/internal/redistest"
	"github.com/fanfare-go/fanfare/broker/redisbroker"
	"github.com/fanfare-go/fanfare/brokertest"
)

// connect returns a broker over the servers, which the caller closes.
func connect(t testing.TB, servers ...redisbroker.Server) *redisbroker.Broker {
	t.Helper()
	b, err := redisbroker.New(t.Context(), redisbroker.Config{Servers: servers, Timeout: 5 * time.Second})
	require.NoError(t, err)
	return b
}

func at(addresses ...string) redisbroker.Server {
	return redisbroker.Server{Addresses: addresses}
}

func TestBroker(t *testing.T) {
	for name, restart := range map[string]func(s *redistest.Server){
		"restarted with its data":    func(s *redistest.Server) { s.Kill(); s.Start() },
		"restarted without its data": func(s *redistest.Server) { s.Kill(); s.Wipe(); s.Start() },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := redistest.Start(t, "--appendonly yes", "--appendfsync always")
			brokertest.Run(t, brokertest.Options{
				New:     func(t testing.TB) fanfare.Broker { return connect(t, at(server.Addr())) },
				Shared:  true,
				Restart: func(testing.TB) { restart(server) },
			})
		})
	}
}
