package redisbroker

import (
	"context"
	"slices"
	"strings"

	"github.com/redis/rueidis"

	"github.com/fanfare-go/fanfare"
)

// shard is one of the servers, and the client that commands go through; subscriptions have connections of their own.
type shard struct {
	broker *Broker
	server Server
	name   string // the same on every node
	client rueidis.Client
	keeper *keeper
}

func (s Server) options() rueidis.ClientOption {
	return rueidis.ClientOption{
		InitAddress: s.Addresses, Username: s.Username, Password: s.Password, SelectDB: s.DB, TLSConfig: s.TLS,
		Sentinel: rueidis.SentinelOption{MasterSet: s.SentinelMaster, Username: s.SentinelUsername, Password: s.SentinelPassword, TLSConfig: s.TLS},
		// A command that failed may have been carried out: whoever called decides.
		DisableRetry: true,
		DisableCache: true,
	}
}

func (b *Broker) connect(ctx context.Context, s Server) (*shard, error) {
	o := s.options()
	o.ConnWriteTimeout = b.config.Timeout
	o.Dialer.Timeout = b.config.Timeout
	client, err := rueidis.NewClient(o)
	if err != nil {
		return nil, err
	}
	if err := client.Do(ctx, client.B().Ping().Build()).Error(); err != nil {
		client.Close()
		return nil, err
	}
	addresses := slices.Clone(s.Addresses)
	slices.Sort(addresses)
	return &shard{broker: b, server: s, name: s.SentinelMaster + "@" + strings.Join(addresses, ","), client: client}, nil
}

func (s *shard) close() { s.client.Close() }

// run runs a script, within the context and the timeout of the broker. Keys must be of one slot.
func (s *shard) run(ctx context.Context, script *rueidis.Lua, keys, args []string) (rueidis.RedisResult, error) {
	if err := ctx.Err(); err != nil {
		return rueidis.RedisResult{}, err
	}
	if s.broker.isClosed() {
		return rueidis.RedisResult{}, fanfare.ErrClosed
	}
	timed, cancel := context.WithTimeout(ctx, s.broker.config.Timeout)
	defer cancel()
	result := script.Exec(timed, s.client, keys, args)
	return result, s.broker.failed(ctx, result.Error())
}
