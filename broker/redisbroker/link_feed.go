package redisbroker

import (
	"context"
	"errors"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/redis/rueidis"
)

// feed is the connection over which a master sends what is published. It is made again whenever it breaks, and then everything is
// subscribed to again before the nodes are told that they may have missed something.
type feed struct {
	master *master
	table  *table
	signal chan struct{} // wakes run
	ended  chan struct{} // closed when run has returned

	queue []*subscription // to look at; table.mu guards it

	// The rest belongs to run.
	owing   []*subscription // is there again
	whole   bool            // all that the broker subscribes to
	without bool            // the log says that there is no connection

	address atomic.Pointer[string] // of the server that the connection leads to
	moved   chan struct{}          // says that it is not the master any more
}

func newFeed(m *master) *feed {
	return &feed{
		master: m, table: m.shard.table,
		signal: make(chan struct{}, 1), ended: make(chan struct{}), moved: make(chan struct{}, 1),
	}
}

func (f *feed) wake() {
	select {
	case f.signal <- struct{}{}:
	default:
	}
}

// run keeps the connection until the master is not needed any more.
func (f *feed) run() {
	defer close(f.ended)
	defer f.lose() // also what came into the queue while it paused: it belongs to another master now
	log := f.master.shard.broker.config.Logger.With(slog.String("server", f.master.address))
	wait, next := time.Duration(0), minBackoff
	lost := time.Now()
	for {
		connected := time.Now()
		served, err := f.serve(log)
		f.lose()
		if f.master.ctx.Err() != nil {
			return
		}
		switch {
		case served:
			lost = time.Now()
			log.Warn("connection for subscriptions lost", slog.Any("err", err))
			f.master.look()
		case !f.without && f.master.unavailable() == nil && time.Since(lost) > f.master.shard.broker.config.Timeout:
			f.without = true
			log.Error("no connection for subscriptions, though Redis serves: what other nodes publish does not arrive", slog.Any("err", err))
		}
		if served && time.Since(connected) > maxBackoff {
			next = minBackoff
		}
		wait, next = backoff(next)
		if !pause(f.master.ctx, wait) {
			return
		}
	}
}

// serve connects, and does what the table wants until the connection breaks. It reports whether there was one.
func (f *feed) serve(log *slog.Logger) (served bool, err error) {
	address := f.present()
	client, _ := f.master.client.Dedicate()
	defer client.Close()
	c := &carrier{feed: f}
	lost := client.SetPubSubHooks(rueidis.PubSubHooks{OnMessage: c.message, OnSubscription: c.subscription})
	defer c.end()
	if err := f.do(client, client.B().Ping().Build())[0].Error(); err != nil {
		return false, err
	}
	// Nodes that are told of an interruption read what they have missed.
	if f.master.unavailable() != nil {
		if err := f.master.check(); err != nil {
			return false, err
		}
	}
	if f.without {
		f.without = false
		log.Info("there is a connection for subscriptions again")
	}
	f.address.Store(&address)
	drain(f.moved)
	for {
		if err := f.catchUp(client); err != nil {
			return true, err
		}
		f.tell()
		select {
		case <-f.signal:
		case err := <-lost:
			return true, err
		case <-f.moved:
			return true, errors.New("another server is the master")
		case <-f.master.ctx.Done():
			return true, nil
		}
	}
}

// present returns the address of the server that is the master now.
func (f *feed) present() string {
	for address := range f.master.client.Nodes() {
		return address
	}
	return ""
}

// look checks whether Sentinels have made another server the master, and has done what was left undone.
func (f *feed) look() {
	if !f.master.shard.cluster {
		f.table.assign()
	}
	if address := f.address.Load(); address != nil && *address != f.present() {
		select {
		case f.moved <- struct{}{}:
		default:
		}
	}
}

// do sends commands, and bounds the time they may take.
func (f *feed) do(client rueidis.DedicatedClient, commands ...rueidis.Completed) []rueidis.RedisResult {
	ctx, cancel := context.WithTimeout(f.master.ctx, f.master.shard.broker.config.Timeout)
	defer cancel()
	return client.DoMulti(ctx, commands...)
}

// lose notes that nothing comes over the connection any more. What is wanted goes into the queue of its master, which may be another
// one by now.
func (f *feed) lose() {
	f.address.Store(nil)
	f.table.mu.Lock()
	defer f.table.mu.Unlock()
	f.whole = f.whole || !f.master.shard.cluster && len(f.master.shard.broker.shards) == 1 && len(f.table.byName) > 0
	f.queue, f.owing = nil, nil
	for _, sub := range f.table.byName {
		if sub.feed != f {
			continue
		}
		sub.queued = false
		sub.owed = sub.owed || sub.state == present
		f.table.turn(sub, absent)
		f.table.settle(sub)
	}
}

// tell tells the nodes what they may have missed, now that it is there again.
func (f *feed) tell() {
	if len(f.owing) == 0 {
		return
	}
	lost := make(map[*link][]string)
	f.table.mu.RLock()
	for _, sub := range f.owing {
		for _, l := range sub.links {
			if sub.carries == messages {
				lost[l] = append(lost[l], sub.channel)
			}
		}
	}
	f.table.mu.RUnlock()
	for l, channels := range lost {
		if f.whole {
			channels = nil
		}
		l.interrupted(channels)
	}
	f.owing, f.whole = nil, false
}
