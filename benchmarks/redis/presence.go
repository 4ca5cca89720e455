//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/fanfare-go/fanfare"
	"github.com/fanfare-go/fanfare/broker/redisbroker"
)

const (
	// lease is shorter than the default, so that several renewals fall into the time that is looked at.
	lease    = 3 * time.Second
	watching = 12 * time.Second

	membersPerChannel = 100
)

var crowds = []int{0, 100, 10_000, 100_000}

func presence() scenario {
	s := scenario{name: "presence"}
	name := func(n int) string { return fmt.Sprintf("%d members", n) }
	for _, n := range crowds {
		s.cases = append(s.cases, measured{name(n), func(ctx context.Context, s *server, size sizes) (figures, error) {
			return keepPresent(ctx, s, size, n)
		}})
	}
	for _, n := range crowds {
		s.rows = append(s.rows,
			row{what: "commands/s of Redis, " + name(n), case_: name(n), key: "commands", targetWords: "the same for all"},
			row{what: "CPU of Redis, ms/s, " + name(n), case_: name(n), key: "cpu of Redis", against: name(0), difference: true, targetWords: "the same for all"},
			row{what: "CPU of the node, ms/s, " + name(n), case_: name(n), key: "cpu", against: name(0), difference: true, targetWords: "the same for all"})
	}
	return s
}

// keepPresent puts members of one node into channels, and looks at what it takes to keep them there.
func keepPresent(ctx context.Context, s *server, size sizes, members int) (f figures, err error) {
	b, err := redisbroker.New(ctx, redisbroker.Config{Servers: []redisbroker.Server{{Addresses: []string{s.addr}}}, Lease: lease})
	if err != nil {
		return nil, err
	}
	defer b.Close()
	const node = "bench"
	link, err := b.Attach(node, sink(func(int) {}))
	if err != nil {
		return nil, err
	}
	p := b.Presence()
	defer func() { err = errors.Join(err, p.RemoveNode(context.WithoutCancel(ctx), node), link.Close()) }()
	if err := enter(ctx, p, node, size.of(members)); err != nil {
		return nil, err
	}
	time.Sleep(size.lasting(lease))

	before, err := s.usage()
	if err != nil {
		return nil, err
	}
	start, used := time.Now(), ownCPU()
	select {
	case <-time.After(size.lasting(watching)):
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	after, err := s.usage()
	if err != nil {
		return nil, err
	}
	took := time.Since(start).Seconds()
	f = figures{
		"commands": (after.commands - before.commands) / took, "cpu of Redis": (after.cpu - before.cpu) / took * 1000,
		"cpu": (ownCPU() - used) / took * 1000,
	}
	return f, stillThere(ctx, p, size.of(members))
}

func memberChannel(i int) string { return fmt.Sprintf("bench:%d", i/membersPerChannel) }

// enter puts members into channels, many at a time.
func enter(ctx context.Context, p fanfare.Presence, node string, members int) error {
	var next atomic.Int64
	errs := make(chan error, connections)
	var workers sync.WaitGroup
	for range connections {
		workers.Go(func() {
			for {
				i := int(next.Add(1)) - 1
				if i >= members {
					return
				}
				m := fanfare.ClientInfo{User: fmt.Sprintf("user-%d", i), Client: fmt.Sprintf("client-%d", i)}
				if err := p.Add(ctx, node, memberChannel(i), m); err != nil {
					errs <- err
					return
				}
			}
		})
	}
	workers.Wait()
	close(errs)
	return <-errs
}

// stillThere fails if the last channel has lost somebody: then nothing was kept.
func stillThere(ctx context.Context, p fanfare.Presence, members int) error {
	if members == 0 {
		return nil
	}
	last := memberChannel(members - 1)
	stats, err := p.Stats(ctx, last)
	if err != nil {
		return err
	}
	if want := (members-1)%membersPerChannel + 1; stats.Clients != want {
		return fmt.Errorf("%s has %d members, not %d", last, stats.Clients, want)
	}
	return nil
}
