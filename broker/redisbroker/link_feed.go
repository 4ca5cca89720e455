package redisbroker

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/rueidis"

	"github.com/fanfare-go/fanfare"
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
	owing []*subscription // is there again
	whole bool            // all that the broker subscribes to

	address atomic.Pointer[string] // of the server that the connection leads to
	moved   chan struct{}          // says that it is not the master any more
}

const (
	// maxBatch is how many channels one command subscribes to; maxCommands and maxChannels are how many travel together. All of them
	// are answered within one timeout, also by a busy server, and the answers fit into its output buffer.
	maxBatch    = 500
	maxCommands = 500
	maxChannels = 10_000
)

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
	for {
		connected := time.Now()
		served, err := f.serve()
		f.lose()
		if f.master.ctx.Err() != nil {
			return
		}
		if served {
			log.Warn("connection for subscriptions lost", slog.Any("err", err))
			f.master.look()
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
func (f *feed) serve() (served bool, err error) {
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

// catchUp empties the queue.
func (f *feed) catchUp(client rueidis.DedicatedClient) error {
	for {
		joins, leaves := f.take()
		if len(joins) == 0 && len(leaves) == 0 {
			return nil
		}
		if err := f.carryOut(client, leaves, f.unsubscribe, f.left); err != nil {
			return err
		}
		if err := f.carryOut(client, joins, f.subscribe, f.joined); err != nil {
			return err
		}
	}
}

// take empties the queue into what is to be subscribed to and what is to be left.
func (f *feed) take() (joins, leaves []*subscription) {
	f.table.mu.Lock()
	defer f.table.mu.Unlock()
	queue := f.queue
	f.queue = nil
	for _, sub := range queue {
		sub.queued = false
		switch wanted := len(sub.links) > 0; {
		case wanted && sub.state == absent:
			sub.state = joining
			joins = append(joins, sub)
		case !wanted && sub.state == present:
			sub.state = leaving
			leaves = append(leaves, sub)
		default:
			f.table.settle(sub)
		}
	}
	return joins, leaves
}

// carryOut sends a command for every batch, and says of each how it ended.
func (f *feed) carryOut(client rueidis.DedicatedClient, subs []*subscription, command func(batch []*subscription) rueidis.Completed, done func(batch []*subscription, err error)) error {
	batches := f.batches(subs)
	for len(batches) > 0 {
		now := batches[:together(batches)]
		batches = batches[len(now):]
		commands := make([]rueidis.Completed, 0, len(now))
		for _, batch := range now {
			commands = append(commands, command(batch))
		}
		for i, result := range f.do(client, commands...) {
			err := result.Error()
			var answer *rueidis.RedisError
			if err != nil && !errors.As(err, &answer) {
				return err
			}
			done(now[i], err)
		}
	}
	return nil
}

// together returns how many of the batches travel together.
func together(batches [][]*subscription) (n int) {
	for channels := 0; n < min(len(batches), maxCommands); n++ {
		if channels += len(batches[n]); channels > maxChannels {
			break
		}
	}
	return n
}

// batches divides subscriptions into what one command can carry: of a Cluster, those of one slot.
func (f *feed) batches(subs []*subscription) [][]*subscription {
	var batches [][]*subscription
	if !f.master.shard.cluster {
		for len(subs) > 0 {
			n := min(len(subs), maxBatch)
			batches, subs = append(batches, subs[:n]), subs[n:]
		}
		return batches
	}
	open := make(map[uint16]int) // the index of the batch of a slot that has room
	for _, sub := range subs {
		i, ok := open[sub.slot]
		if !ok || len(batches[i]) == maxBatch {
			i = len(batches)
			open[sub.slot] = i
			batches = append(batches, nil)
		}
		batches[i] = append(batches[i], sub)
	}
	return batches
}

func names(batch []*subscription) []string {
	all := make([]string, len(batch))
	for i, sub := range batch {
		all[i] = sub.name
	}
	return all
}

func (f *feed) subscribe(batch []*subscription) rueidis.Completed {
	b := f.master.client.B()
	if f.master.shard.cluster {
		return b.Ssubscribe().Channel(names(batch)...).Build()
	}
	return b.Subscribe().Channel(names(batch)...).Build()
}

func (f *feed) unsubscribe(batch []*subscription) rueidis.Completed {
	b := f.master.client.B()
	if f.master.shard.cluster {
		return b.Sunsubscribe().Channel(names(batch)...).Build()
	}
	return b.Unsubscribe().Channel(names(batch)...).Build()
}

// joined notes the answer to a subscribe.
func (f *feed) joined(batch []*subscription, err error) {
	f.table.mu.Lock()
	defer f.table.mu.Unlock()
	if err != nil {
		f.refused(batch, err)
		return
	}
	for _, sub := range batch {
		if sub.state != joining {
			continue // its slot has moved on meanwhile
		}
		if sub.owed {
			sub.owed = false
			f.owing = append(f.owing, sub)
		}
		f.table.turn(sub, present)
		f.table.settle(sub)
	}
}

// refused notes that a server does not take subscriptions. If they are another one's, that is found out without telling anybody. The
// lock is held.
func (f *feed) refused(batch []*subscription, err error) {
	var answer *rueidis.RedisError
	away := errors.As(err, &answer) && notServing(answer)
	if away && f.master.shard.cluster {
		for _, sub := range batch {
			sub.state = absent
		}
		f.table.stranded.Store(true)
		f.master.shard.masters.doubt()
		return
	}
	if away {
		err = fmt.Errorf("%w: subscribe: %w", ErrUnavailable, err)
	} else {
		err = fmt.Errorf("redisbroker: subscribe: %w", err)
	}
	for _, sub := range batch {
		f.table.refuse(sub, err)
	}
}

// left notes the answer to an unsubscribe. One that is refused says that there was nothing to leave.
func (f *feed) left(batch []*subscription, _ error) {
	f.table.mu.Lock()
	defer f.table.mu.Unlock()
	for _, sub := range batch {
		if sub.state == leaving {
			f.table.turn(sub, absent)
			f.table.settle(sub)
		}
	}
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

// carrier hands what comes over one connection to the nodes. The library calls it from one goroutine.
type carrier struct {
	feed *feed

	mu    sync.Mutex // held during every delivery, so that there is none after the end; guards below
	ended bool
}

// end returns when nothing more is delivered. Only then may another connection deliver.
func (c *carrier) end() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ended = true
}

func (c *carrier) message(m rueidis.PubSubMessage) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ended {
		return
	}
	t := c.feed.table
	t.mu.RLock()
	sub := t.byName[m.Channel]
	var links []*link
	if sub != nil {
		links = sub.links
	}
	t.mu.RUnlock()
	if len(links) == 0 {
		return
	}
	var err error
	if sub.carries == messages {
		err = deliverMessage(links, sub.channel, m.Message)
	} else {
		err = deliverControl(links, m.Message, sub.carries == controlToAll)
	}
	if err != nil {
		t.shard.broker.config.Logger.Warn("message of Redis not understood", slog.String("channel", m.Channel), slog.Any("err", err))
	}
}

func deliverMessage(links []*link, channel, text string) error {
	m, err := decodeMessage(text)
	if err != nil {
		return err
	}
	for _, l := range links {
		l.deliver(func(sink fanfare.Sink) {
			switch {
			case m.publication != nil:
				sink.Publication(channel, m.publication)
			case m.membership != nil:
				sink.Membership(channel, *m.membership)
			}
		})
	}
	return nil
}

func deliverControl(links []*link, text string, toAll bool) error {
	from, data, err := decodeControl(text)
	if err != nil || data == nil {
		return err
	}
	for _, l := range links {
		if !toAll || l.node != from { // the sender knows already
			l.deliver(func(sink fanfare.Sink) { sink.Control(data) })
		}
	}
	return nil
}

// subscription hears what the server does by itself: it ends the subscriptions of a slot that it has given away.
func (c *carrier) subscription(s rueidis.PubSubSubscription) {
	if !strings.HasSuffix(s.Kind, "unsubscribe") {
		return
	}
	t := c.feed.table
	t.mu.Lock()
	defer t.mu.Unlock()
	sub := t.byName[s.Channel]
	if sub == nil || sub.feed != c.feed || sub.state != present && sub.state != joining {
		return
	}
	sub.owed = true
	t.turn(sub, absent)
	t.stranded.Store(true)
	c.feed.master.shard.masters.doubt()
}
