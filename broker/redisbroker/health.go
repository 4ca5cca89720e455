package redisbroker

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/rueidis"
)

// master is one server process that serves, or for a while those that take each other's place under one address of Sentinels. It
// is looked at all the time: while it is away, operations fail at once, instead of each of them waiting for its timeout.
type master struct {
	shard   *shard
	address string
	client  rueidis.Client
	pending chan struct{} // holds one value for each operation under way
	feed    *feed

	ctx    context.Context // ends when the master is not needed any more
	cancel context.CancelFunc

	checking sync.Mutex            // held by check
	away     atomic.Pointer[error] // what operations return; nil while it serves
	suspects chan struct{}         // wakes the prober
}

const (
	// maxPending is how many operations may be under way at a master. The library's queue holds as many; behind that nobody could
	// be called back.
	maxPending = 1000
	// minBackoff and maxBackoff bound the pause between attempts to reach a server; half of it is random, so that not all nodes
	// come at the same moment.
	minBackoff = 50 * time.Millisecond
	maxBackoff = time.Second
)

// backoff returns the next pause after a failure, and the one behind it.
func backoff(last time.Duration) (now, next time.Duration) {
	last = max(last, minBackoff)
	return last/2 + rand.N(last/2), min(2*last, maxBackoff)
}

// addMaster makes a master known, after a look at whether it can serve.
func (s *shard) addMaster(ctx context.Context, address string, client rueidis.Client) error {
	if err := s.examine(ctx, client); err != nil {
		return err
	}
	s.masters.add(s.newMaster(address, client))
	return nil
}

func (s *shard) newMaster(address string, client rueidis.Client) *master {
	m := &master{
		shard: s, address: address, client: client,
		pending: make(chan struct{}, maxPending), suspects: make(chan struct{}, 1),
	}
	m.ctx, m.cancel = context.WithCancel(s.broker.ctx)
	m.feed = newFeed(m)
	return m
}

func (m *master) start() {
	m.shard.broker.running.Go(m.probe)
	m.shard.broker.running.Go(m.feed.run)
}

// close is called when neither prober nor feed run any more.
func (m *master) close() {
	m.cancel()
	if m.client != m.shard.client {
		m.client.Close()
	}
}

// unavailable returns an error while the master is away.
func (m *master) unavailable() error {
	if err := m.away.Load(); err != nil {
		return *err
	}
	return nil
}

// suspect has the master looked at now. Until that was done nobody needs to wait for it.
func (m *master) suspect(err error) {
	m.away.CompareAndSwap(nil, &err)
	m.look()
}

// look has the master looked at now.
func (m *master) look() {
	select {
	case m.suspects <- struct{}{}:
	default:
	}
}

// probe looks at the master, every so often and when it is suspected, until the broker is closed. It says once when the master is
// away, and once when it is back.
func (m *master) probe() {
	interval := min(m.shard.broker.config.Timeout/2, time.Second)
	log := m.shard.broker.config.Logger.With(slog.String("server", m.address))
	var since time.Time // when it was found away; zero while it serves
	wait, next := interval, minBackoff
	for {
		select {
		case <-m.suspects:
		case <-time.After(wait):
		case <-m.ctx.Done():
			return
		}
		err := m.check()
		switch {
		case m.ctx.Err() != nil:
			return
		case err == nil:
			wait, next = interval, minBackoff
			if !since.IsZero() {
				log.Info("Redis is back", slog.Duration("after", time.Since(since).Round(time.Millisecond)))
				since = time.Time{}
			}
			m.feed.look()
			continue
		case since.IsZero():
			since = time.Now()
			log.Error("Redis is away", slog.Any("err", err))
		}
		m.shard.masters.doubt()
		wait, next = backoff(next)
		drain(m.suspects) // they said what is known now
	}
}

func drain(signal chan struct{}) {
	select {
	case <-signal:
	default:
	}
}

// check asks the master whether it serves, and has operations sent to it, or not. The newest answer holds.
func (m *master) check() error {
	m.checking.Lock()
	defer m.checking.Unlock()
	err := m.ping()
	if err == nil {
		m.away.Store(nil)
		return nil
	}
	away := fmt.Errorf("%w: %w", ErrUnavailable, err)
	m.away.Store(&away)
	return err
}

func (m *master) ping() error {
	ctx, cancel := context.WithTimeout(m.ctx, m.shard.broker.config.Timeout)
	defer cancel()
	err := m.client.Do(ctx, m.client.B().Ping().Build()).Error()
	var answer *rueidis.RedisError
	if err != nil && ctx.Err() == nil && !errors.As(err, &answer) {
		// That a connection has broken says nothing about the server: the second time it is a new one.
		err = m.client.Do(ctx, m.client.B().Ping().Build()).Error()
	}
	if errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("no answer within %v", m.shard.broker.config.Timeout)
	}
	return err
}

// examine checks that a server is new enough, and lets us do what all scripts do.
func (s *shard) examine(ctx context.Context, client rueidis.Client) error {
	ctx, cancel := context.WithTimeout(ctx, s.broker.config.Timeout)
	defer cancel()
	info, err := client.Do(ctx, client.B().Info().Section("server").Build()).ToString()
	if err != nil {
		return needsInfo(err)
	}
	if err := newEnough(info); err != nil {
		return err
	}
	build := client.B().Eval().Script("return redis.call('INFO', 'replication')").Numkeys(0).Build()
	replication, err := client.Do(ctx, build).ToString()
	if err != nil {
		return needsInfo(err)
	}
	if !strings.Contains(replication, "master_replid:") {
		return errors.New("INFO replication does not tell master_replid, by which lost data is noticed")
	}
	return nil
}

// needsInfo says what a server must allow, if it was that which it refused.
func needsInfo(err error) error {
	var answer *rueidis.RedisError
	if errors.As(err, &answer) && !notServing(answer) {
		return fmt.Errorf("INFO must be allowed, also in scripts (in an ACL: +info): %w", err)
	}
	return err
}

const oldest = 7

// newEnough reads what INFO says of the server.
func newEnough(info string) error {
	_, version, _ := strings.Cut(info, "redis_version:")
	version, _, _ = strings.Cut(version, "\r\n")
	major, _, _ := strings.Cut(version, ".")
	if n, err := strconv.Atoi(major); err != nil || n < oldest {
		return fmt.Errorf("the server is Redis %q, needed is %d.0 or later", version, oldest)
	}
	return nil
}
