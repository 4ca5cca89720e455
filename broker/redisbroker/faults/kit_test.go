package faults

import (
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare"
	"github.com/fanfare-go/fanfare/broker/internal/delivery"
	"github.com/fanfare-go/fanfare/broker/redisbroker"
)

// at is a Redis at one address.
func at(address string) redisbroker.Config {
	return redisbroker.Config{Servers: []redisbroker.Server{{Addresses: []string{address}}}}
}

// newNode returns a node with a broker of its own, as in a process of its own.
func newNode(t *testing.T, redis redisbroker.Config, c fanfare.Config) *fanfare.Node {
	t.Helper()
	if redis.Logger == nil {
		redis.Logger = delivery.Logger(t)
	}
	broker, err := redisbroker.New(t.Context(), redis)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, broker.Close()) })
	c.Broker, c.Presence = broker, broker.Presence()
	return delivery.NewNode(t, c)
}

// start starts a run over two nodes.
func start(t *testing.T, redis redisbroker.Config, c fanfare.Config) *delivery.Run {
	t.Helper()
	return delivery.Start(t, delivery.Options{}, newNode(t, redis, c), newNode(t, redis, c))
}

// Publications before, between and after faults.
const some, more = 60, 90

// requireTold expects that every client was told of one gap in each of some channels, and of no other.
func requireTold(t *testing.T, channels int, r *delivery.Run, result delivery.Result) {
	t.Helper()
	want := make(map[string]int)
	for _, client := range r.Clients() {
		if channels > 0 {
			want[client] = channels
		}
	}
	require.Equal(t, want, result.Gaps, "gaps told")
}

// away is how long a fault lasts that clients and nodes sit out. FANFARE_FAULT_PAUSE makes it longer.
func away(t *testing.T) time.Duration {
	t.Helper()
	text := os.Getenv("FANFARE_FAULT_PAUSE")
	if text == "" {
		return 3 * time.Second
	}
	d, err := time.ParseDuration(text)
	require.NoError(t, err, "FANFARE_FAULT_PAUSE")
	return d
}
