package server

import (
	"context"
	"log/slog"

	"github.com/fanfare-go/fanfare/broker/redisbroker"
	"github.com/fanfare-go/fanfare/examples/standalone/internal/config"
)

// openBroker connects to the Redis that the servers share. Without one it returns nil: the node keeps everything itself.
func openBroker(ctx context.Context, c *config.Config, log *slog.Logger) (*redisbroker.Broker, error) {
	if !c.Redis.Any() {
		return nil, nil
	}
	servers, err := c.Redis.Servers()
	if err != nil {
		return nil, c.Problem("redis.urls", "not understood") // err may hold a password
	}
	b, err := redisbroker.New(ctx, redisbroker.Config{Servers: servers, Prefix: c.Redis.Prefix, Durable: c.Redis.Durable, Logger: log})
	if err != nil {
		return nil, c.Problem("redis.urls", "%v", err)
	}
	return b, nil
}
