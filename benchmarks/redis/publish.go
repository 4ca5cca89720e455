//go:build linux

package main

import (
	"context"
	"fmt"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/fanfare-go/fanfare"
	"github.com/fanfare-go/fanfare/broker/redisbroker"
)

const (
	// What redis-benchmark has under way at once, and so many publishers there are.
	connections = 50
	pipeline    = 16

	publications = 60_000
)

const (
	bare       = "redis-benchmark"
	overBroker = "broker.Publish"
	overNode   = "node.Publish"
)

func publishing() scenario {
	sample := message(0)
	return scenario{
		name: "publish",
		cases: []measured{
			{bare, publishBare},
			{overBroker, func(ctx context.Context, s *server, size sizes) (figures, error) {
				return publishOver(ctx, s, size, func(b *redisbroker.Broker, _ *fanfare.Node) error {
					_, err := b.Publish(ctx, channel, &fanfare.Publication{Data: sample}, fanfare.StoreOptions{History: history})
					return err
				})
			}},
			{overNode, func(ctx context.Context, s *server, size sizes) (figures, error) {
				return publishOver(ctx, s, size, func(_ *redisbroker.Broker, n *fanfare.Node) error {
					_, err := n.Publish(ctx, channel, sample)
					return err
				})
			}},
		},
		rows: []row{
			{what: "publications/s, the script called by redis-benchmark", case_: bare, key: "rate"},
			{what: "publications/s, `broker.Publish`", case_: overBroker, key: "rate", against: bare, targetWords: "≥ 0.8 ×"},
			{what: "publications/s, `node.Publish`", case_: overNode, key: "rate", against: bare, targetWords: "≥ 0.8 ×"},
			{what: "CPU of Redis per publication, µs, redis-benchmark", case_: bare, key: "cpu of Redis"},
			{what: "CPU of Redis per publication, µs, `broker.Publish`", case_: overBroker, key: "cpu of Redis", against: bare},
			{what: "CPU of Redis per publication, µs, `node.Publish`", case_: overNode, key: "cpu of Redis", against: bare},
			{what: "CPU of the client per publication, µs, redis-benchmark", case_: bare, key: "cpu"},
			{what: "CPU of the client per publication, µs, `broker.Publish`", case_: overBroker, key: "cpu", against: bare},
			{what: "CPU of the client per publication, µs, `node.Publish`", case_: overNode, key: "cpu", against: bare},
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
	return s.measureRate(size.of(publications), func(n int) (rate, cpu float64, err error) {
		var left atomic.Int64
		left.Store(int64(n))
		errs := make(chan error, connections*pipeline)
		var publishers sync.WaitGroup
		start, used := time.Now(), ownCPU()
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
		return float64(n) / took.Seconds(), ownCPU() - used, <-errs
	})
}

// measureRate tells what a publication costs the server and whoever publishes. On a busy machine these figures say more than the
// rate, which the slower of the two decides.
func (s *server) measureRate(n int, run func(n int) (rate, cpu float64, err error)) (figures, error) {
	before, err := s.usage()
	if err != nil {
		return nil, err
	}
	rate, cpu, err := run(n)
	if err != nil {
		return nil, err
	}
	after, err := s.usage()
	if err != nil {
		return nil, err
	}
	perPublication := 1e6 / float64(n)
	return figures{"rate": rate, "cpu of Redis": (after.cpu - before.cpu) * perPublication, "cpu": cpu * perPublication}, nil
}

// ownCPU returns the CPU seconds that this program has used.
func ownCPU() float64 {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		panic(err) // Linux never refuses this
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano()).Seconds()
}

// publishBare lets redis-benchmark call what the broker calls.
func publishBare(ctx context.Context, s *server, size sizes) (figures, error) {
	call, err := captureCall(ctx, s)
	if err != nil {
		return nil, err
	}
	return s.measureRate(size.of(publications), func(n int) (rate, cpu float64, err error) {
		args := []string{"-p", s.port, "-c", strconv.Itoa(connections), "-P", strconv.Itoa(pipeline), "-n", strconv.Itoa(n), "--csv"}
		cmd := exec.CommandContext(ctx, "redis-benchmark", append(args, call...)...)
		out, err := cmd.Output()
		if err != nil {
			return 0, 0, fmt.Errorf("redis-benchmark: %w", err)
		}
		rate, err = parseRate(string(out))
		return rate, (cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()).Seconds(), err
	})
}

// parseRate reads the requests per second of redis-benchmark.
func parseRate(csv string) (float64, error) {
	lines := strings.Split(strings.TrimSpace(csv), "\n")
	fields := strings.Split(lines[len(lines)-1], `","`)
	// The command holds the payload, and so anything; the rate is the seventh field from the end.
	i := len(fields) - 7
	if i < 1 {
		return 0, fmt.Errorf("redis-benchmark said %q", csv)
	}
	return strconv.ParseFloat(fields[i], 64)
}
