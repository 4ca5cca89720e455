package redisbroker

import (
	"context"
	"log/slog"
	"strconv"
	"time"
)

const (
	// sweepPlaces is how many places of a dead incarnation are read at once.
	sweepPlaces = 100
	// sweepMembers is how many members one script takes out.
	sweepMembers = 500
	// rememberSwept is how long a node may be out of reach and still find out that others took it for dead.
	rememberSwept = 24 * time.Hour
)

// sweepAll takes out what dead incarnations have left, one after the other, as the keeper claims them.
func (k *keeper) sweepAll() {
	for {
		select {
		case <-k.leases.ctx.Done():
			return
		case inc := <-k.claims:
			s := &sweep{keeper: k, inc: inc, tell: true, extended: time.Now()}
			if err := s.run(k.leases.ctx); err != nil {
				// The claim runs out, and then it is anybody's.
				k.leases.broker.config.Logger.Debug("a dead node is not swept yet", slog.String("node", nodeOf(inc)), slog.Any("err", err))
			}
			k.sweeping.Store(false)
			notify(k.wake) // there may be more
		}
	}
}

// sweep takes out everything of an incarnation that has no lease.
type sweep struct {
	*keeper
	inc      string
	tell     bool // watchers are told of its members
	extended time.Time
}

// run goes on behind places that fail, whose server of a Cluster may be away for long: the others need not wait for it. What is left is
// for whoever claims the incarnation next.
func (s *sweep) run(ctx context.Context) error {
	index := []string{s.index(s.inc)}
	var failed error
	for left := 0; ; { // places that failed: they stay in the index, in front
		result, err := s.shard.run(ctx, leaseIndex, index, []string{"ZRANGE", strconv.Itoa(left), strconv.Itoa(left + sweepPlaces - 1)})
		if err != nil {
			return err
		}
		places, err := result.AsStrSlice()
		if err != nil {
			return unexpected(err)
		}
		if len(places) == 0 {
			break
		}
		done := []string{"ZREM"}
		for _, indexed := range places {
			if err := s.place(ctx, placeOf(indexed)); err != nil {
				failed = err
				left++
				continue
			}
			done = append(done, indexed)
		}
		if len(done) == 1 {
			continue
		}
		if _, err := s.shard.run(ctx, leaseIndex, index, done); err != nil {
			return err
		}
	}
	if failed != nil {
		return failed
	}
	remember := "0"
	if s.tell {
		remember = milliseconds(rememberSwept)
	}
	_, err := s.shard.run(ctx, leaseSwept, []string{s.keys[1], s.keys[3]}, []string{s.inc, remember})
	return err
}

func (s *sweep) place(ctx context.Context, key placeKey) error {
	for {
		if err := s.extend(ctx); err != nil {
			return err
		}
		if key.kind == kindUser {
			_, err := s.shard.run(ctx, connectionsSweep, s.connectionKeys(key.name), []string{s.inc})
			return err
		}
		members, count, err := s.sweepMembers(ctx, key.name, s.inc)
		if err != nil {
			return err
		}
		if s.tell && len(members) > 0 {
			s.leases.tell(key.name, members)
		}
		if count < sweepMembers {
			return nil
		}
	}
}

// extend keeps the incarnation in this broker's hands.
func (s *sweep) extend(ctx context.Context) error {
	if time.Since(s.extended) < s.lease/4 {
		return nil
	}
	_, err := s.shard.run(ctx, leaseSweeping, s.keys[1:2], []string{s.inc, milliseconds(s.lease)})
	s.extended = time.Now()
	return err
}
