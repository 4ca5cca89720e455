package redisbroker

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/redis/rueidis"

	"github.com/fanfare-go/fanfare"
)

// shard is one of the servers: a standalone one, a master with Sentinels, or a Cluster of several masters.
type shard struct {
	broker *Broker
	server Server
	name   string // the same on every node
	client rueidis.Client
	keeper *keeper

	cluster        bool
	publishCommand string
	masters        masters
	table          *table
}

// bufferSize is enough for one system call to carry many commands. The library's own default is half a megabyte, twice for each
// connection.
const bufferSize = 64 << 10

func (b *Broker) options(s Server) rueidis.ClientOption {
	o := rueidis.ClientOption{
		InitAddress: s.Addresses, Username: s.Username, Password: s.Password, SelectDB: s.DB, TLSConfig: s.TLS,
		Sentinel: rueidis.SentinelOption{
			MasterSet: s.SentinelMaster, Username: s.SentinelUsername, Password: s.SentinelPassword, TLSConfig: s.TLS,
			TopologyRefreshInterval: time.Second, // a switch that was not heard of
		},
		// A command that failed may have been carried out: whoever called decides.
		DisableRetry: true,
		DisableCache: true,
		// One connection, whose commands travel together under load: several would only make more system calls. Always: what a
		// connection with a single caller saves, it loses when the patience of that caller ends, because it is closed then.
		PipelineMultiplex:   -1,
		AlwaysPipelining:    true,
		ReadBufferEachConn:  bufferSize,
		WriteBufferEachConn: bufferSize,
		ConnWriteTimeout:    b.config.Timeout,
	}
	o.Dialer.Timeout = b.config.Timeout
	o.Dialer.KeepAlive = b.config.Timeout / 2 // also of a ping on a silent connection
	o.Sentinel.Dialer = o.Dialer
	return o
}

func (b *Broker) connect(ctx context.Context, server Server) (*shard, error) {
	client, err := rueidis.NewClient(b.options(server))
	if err != nil {
		return nil, err
	}
	s := &shard{
		broker: b, server: server, name: server.name(), client: client,
		cluster: client.Mode() == rueidis.ClientModeCluster, publishCommand: "PUBLISH",
	}
	s.table = newTable(s)
	if s.cluster {
		s.publishCommand, s.masters.doubts = "SPUBLISH", make(chan struct{}, 1)
		err = s.refresh(ctx)
	} else {
		err = s.addMaster(ctx, strings.Join(server.Addresses, ","), client)
	}
	if err != nil {
		s.close()
		return nil, err
	}
	return s, nil
}

// start starts what the shard does by itself.
func (s *shard) start() {
	for _, m := range s.masters.all() {
		m.start()
	}
	if s.cluster {
		s.broker.running.Go(s.watch)
	}
}

// close is called when nothing of the broker runs any more.
func (s *shard) close() {
	for _, m := range s.masters.all() {
		m.close()
	}
	s.client.Close()
}

// run runs a script, within the context and the timeout of the broker. Keys must be of one slot.
func (s *shard) run(ctx context.Context, script *rueidis.Lua, keys, args []string) (rueidis.RedisResult, error) {
	return s.do(ctx, keys[0], func(ctx context.Context) rueidis.RedisResult {
		return script.Exec(ctx, s.client, keys, args)
	})
}

// do calls a function that sends something to the master of a key, within the context and the timeout of the broker. At most
// maxPending of them are under way at a master, others wait for that.
func (s *shard) do(ctx context.Context, key string, send func(ctx context.Context) rueidis.RedisResult) (rueidis.RedisResult, error) {
	if err := ctx.Err(); err != nil {
		return rueidis.RedisResult{}, err
	}
	if s.broker.isClosed() {
		return rueidis.RedisResult{}, fanfare.ErrClosed
	}
	m := s.masters.of(key)
	if m == nil {
		return rueidis.RedisResult{}, fmt.Errorf("%w: nobody serves the slot of %q", ErrUnavailable, key)
	}
	if err := m.unavailable(); err != nil {
		return rueidis.RedisResult{}, err
	}
	timed, cancel := context.WithTimeout(ctx, s.broker.config.Timeout)
	defer cancel()
	select {
	case m.pending <- struct{}{}:
		defer func() { <-m.pending }()
	case <-timed.Done():
		return rueidis.RedisResult{}, s.failed(ctx, m, timed.Err())
	}
	result := send(timed)
	if err := result.Error(); err != nil && !rueidis.IsRedisNil(err) {
		return result, s.failed(ctx, m, err)
	}
	return result, nil
}

// failed translates an error of an operation that ran under ctx, and lets the master be looked at if it may be away.
func (s *shard) failed(ctx context.Context, m *master, err error) error {
	var answer *rueidis.RedisError
	switch answered := errors.As(err, &answer); {
	case ctx.Err() != nil:
		return ctx.Err()
	case s.broker.isClosed():
		return fanfare.ErrClosed
	case answered && !notServing(answer):
		return fmt.Errorf("redisbroker: %w", err)
	case errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled):
		// Not the caller's context: that would have ended.
		err = fmt.Errorf("%w: no answer within %v", ErrUnavailable, s.broker.config.Timeout)
	default:
		err = fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	m.suspect(err)
	return err
}

// notServing tells answers of a server that will serve again by itself, or when the way to another one is known.
func notServing(err *rueidis.RedisError) bool {
	for _, code := range []string{"LOADING", "READONLY", "MASTERDOWN", "CLUSTERDOWN", "TRYAGAIN", "BUSY ", "NOREPLICAS", "MOVED", "ASK"} {
		if strings.HasPrefix(err.Error(), code) {
			return true
		}
	}
	return false
}
