//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/fanfare-go/fanfare"
	"github.com/fanfare-go/fanfare/broker/redisbroker"
)

const (
	// What redis-benchmark has under way at once, and so many publishers there are.
	connections = 50
	pipeline    = 16

	publications = 200_000
)

const (
	bare       = "redis-benchmark"
	overBroker = "broker.Publish"
	overNode   = "node.Publish"
)

func publishing() scenario {
	return scenario{
		name: "publish",
		cases: []measured{
			{bare, publishBare},
			{overBroker, func(ctx context.Context, s *server, size sizes) (figures, error) {
				return publishOver(ctx, s, size, func(b *redisbroker.Broker, _ *fanfare.Node) error {
					_, err := b.Publish(ctx, channel, &fanfare.Publication{Data: message(0)}, fanfare.StoreOptions{History: history})
					return err
				})
			}},
			{overNode, func(ctx context.Context, s *server, size sizes) (figures, error) {
				return publishOver(ctx, s, size, func(_ *redisbroker.Broker, n *fanfare.Node) error {
					_, err := n.Publish(ctx, channel, message(0))
					return err
				})
			}},
		},
		rows: []row{
			{what: "publications/s, the script called by redis-benchmark", case_: bare, key: "rate"},
			{what: "publications/s, `broker.Publish`", case_: overBroker, key: "rate", against: bare, targetWords: "≥ 0.8 ×"},
			{what: "publications/s, `node.Publish`", case_: overNode, key: "rate", against: bare, targetWords: "≥ 0.8 ×"},
			{what: "CPU of Redis per publication, µs, redis-benchmark", case_: bare, key: "cpu"},
			{what: "CPU of Redis per publication, µs, `broker.Publish`", case_: overBroker, key: "cpu", against: bare},
		},
	}
}

// publishOver publishes from many goroutines and tells how many a second were acknowledged.
func publishOver(ctx context.Context, s *server, size sizes, publish func(*redisbroker.Broker, *fanfare.Node) error) (figures, error) {
	r, err := newRig(ctx, s)
	if err != nil {
		return nil, err
	}
	defer r.close()
	if err := publish(r.broker, r.node); err != nil {
		return nil, err
	}
	return s.measureRate(size.of(publications), func(n int) (float64, error) {
		var left atomic.Int64
		left.Store(int64(n))
		errs := make(chan error, connections*pipeline)
		var publishers sync.WaitGroup
		start := time.Now()
		for range connections * pipeline {
			publishers.Go(func() {
				for left.Add(-1) >= 0 {
					if err := publish(r.broker, r.node); err != nil {
						errs <- err
						return
					}
				}
			})
		}
		publishers.Wait()
		took := time.Since(start)
		close(errs)
		return float64(n) / took.Seconds(), <-errs
	})
}

// measureRate also tells what a publication costs the server.
func (s *server) measureRate(n int, run func(n int) (rate float64, err error)) (figures, error) {
	before, err := s.usage()
	if err != nil {
		return nil, err
	}
	rate, err := run(n)
	if err != nil {
		return nil, err
	}
	after, err := s.usage()
	if err != nil {
		return nil, err
	}
	return figures{"rate": rate, "cpu": (after.cpu - before.cpu) / float64(n) * 1e6}, nil
}

// publishBare lets redis-benchmark call what the broker calls.
func publishBare(ctx context.Context, s *server, size sizes) (figures, error) {
	call, err := captureCall(ctx, s)
	if err != nil {
		return nil, err
	}
	return s.measureRate(size.of(publications), func(n int) (float64, error) {
		args := []string{"-p", s.port, "-c", strconv.Itoa(connections), "-P", strconv.Itoa(pipeline), "-n", strconv.Itoa(n), "--csv"}
		out, err := exec.CommandContext(ctx, "redis-benchmark", append(args, call...)...).Output()
		if err != nil {
			return 0, fmt.Errorf("redis-benchmark: %w", err)
		}
		return parseRate(string(out))
	})
}

// parseRate reads the requests per second of redis-benchmark: the field behind the command, in the last line.
func parseRate(csv string) (float64, error) {
	lines := strings.Split(strings.TrimSpace(csv), "\n")
	fields := strings.Split(lines[len(lines)-1], `","`)
	if len(fields) < 2 {
		return 0, fmt.Errorf("redis-benchmark said %q", csv)
	}
	// The command holds the payload, and so anything; the rate is the seventh field from the end.
	i := len(fields) - 7
	if i < 1 {
		return 0, errors.New("redis-benchmark said too little: " + csv)
	}
	return strconv.ParseFloat(fields[i], 64)
}
