package redisbroker

import (
	"errors"
	"fmt"

	"github.com/redis/rueidis"
)

const (
	// maxBatch is how many channels one command subscribes to; maxCommands and maxChannels are how many travel together. All of them
	// are answered within one timeout, also by a busy server, and the answers fit into its output buffer.
	maxBatch    = 500
	maxCommands = 500
	maxChannels = 10_000
)

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
