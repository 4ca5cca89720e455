package natsbroker

import (
	"hash/maphash"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare"
)

func TestPublish_TwoBrokersOnOneChannelBothGetThrough(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	brokers := []*Broker{s.broker(t, nil), s.broker(t, nil)}
	var published [2]atomic.Int64
	var stop atomic.Bool
	var publishers sync.WaitGroup
	for i := range 8 {
		publishers.Go(func() {
			for !stop.Load() {
				if _, err := publish(brokers[i%2], "x", "1"); !assert.NoError(t, err) {
					return
				}
				published[i%2].Add(1)
			}
		})
	}
	eventually(t, "both have published", func() bool { return published[0].Load() >= 100 && published[1].Load() >= 100 || t.Failed() })
	stop.Store(true)
	publishers.Wait()
	require.EqualValues(t, published[0].Load()+published[1].Load(), all(t, brokers[0], "x").Offset)
	t.Logf("%d and %d", published[0].Load(), published[1].Load())
}

func TestPublish_OldRecordsAreDeleted(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	b := s.broker(t, nil)
	o := fanfare.StoreOptions{History: fanfare.History{Size: 10, TTL: time.Minute}}
	for range 1000 {
		_, err := b.Publish(t.Context(), "x", &fanfare.Publication{Data: []byte("1")}, o)
		require.NoError(t, err)
	}
	stored := func() uint64 {
		info, err := b.ensure(t.Context())
		require.NoError(t, err)
		return info.State.Msgs
	}
	eventually(t, "old records are gone", func() bool { return stored() < 100 })
	require.Len(t, all(t, b, "x").Publications, 10)
	require.NoError(t, b.RemoveHistory(t.Context(), "x"))
	eventually(t, "all but the marker are gone", func() bool { return stored() == 1 })
	require.EqualValues(t, 1000, all(t, b, "x").Offset)
}

func TestPublish_ALargerOneThanTheServerTakes(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	b := s.broker(t, nil)
	_, err := publish(b, "x", strings.Repeat("x", 2<<20))
	require.ErrorContains(t, err, "payload")
	require.NotErrorIs(t, err, ErrUnavailable)
	require.EqualValues(t, 1, mustPublish(t, b, "x", "1").Offset)
}

func TestHistory_WhatWasDeletedByOthersIsNotKept(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	b := s.broker(t, nil)
	for range 10 {
		mustPublish(t, b, "x", "1")
	}
	require.NoError(t, (*b.stream.Load()).DeleteMsg(t.Context(), 5))
	got := all(t, b, "x")
	require.EqualValues(t, 10, got.Offset)
	require.Len(t, got.Publications, 5, "without holes")
	_, err := b.mark(t.Context(), "x", b.lanes.byToken["x"].known(), b.lanes.byToken["x"].known().marker(b.clock.now()))
	require.NoError(t, err)
	require.NoError(t, b.purge(t.Context(), b.recordSubject("x"), 11))
	got = all(t, b, "x")
	require.EqualValues(t, 10, got.Offset)
	require.Empty(t, got.Publications)
	require.EqualValues(t, 11, mustPublish(t, b, "x", "1").Offset)
	require.Len(t, all(t, b, "x").Publications, 1)
}

func TestHistory_AReadKeepsAQuietStream(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	b := s.broker(t, nil)
	top := mustPublish(t, b, "x", "1")
	later := time.Now().Add(b.config.StreamTTL * 3 / 4)
	b.clock.set(later, time.Now(), time.Now())
	h := all(t, b, "x")
	require.Equal(t, top, h.Position)
	require.Empty(t, h.Publications)
	newest, err := b.newest(t.Context(), "x")
	require.NoError(t, err)
	require.GreaterOrEqual(t, newest.time, later.UnixMicro(), "it was renewed")
	require.EqualValues(t, 2, mustPublish(t, b, "x", "2").Offset)
}

func TestDelivery_ANodeThatIsTooSlowIsTold(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	b := s.broker(t, nil)
	node := attach(t, b, "one", "x")
	node.block = make(chan struct{})
	for range inboundMax + 1000 {
		_, err := b.Publish(t.Context(), "x", &fanfare.Publication{Data: []byte("1")}, fanfare.StoreOptions{})
		require.NoError(t, err)
	}
	require.NoError(t, b.nc.Flush())
	close(node.block)
	eventually(t, "the node is told", func() bool {
		n, channels := node.interruptions()
		return n > 0 && len(channels) == 1 && channels[0] == "x"
	})
}

// A channel that has lost its only message is told of, although nothing else comes for it.
func TestDelivery_ALossBehindOthersIsTold(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	b := s.broker(t, nil)
	lane := func(channel string) uint64 {
		return maphash.String(inboundSeed, token(channel)) % uint64(len(b.inbound))
	}
	quiet := "y"
	for lane(quiet) != lane("x") {
		quiet += "y"
	}
	node := attach(t, b, "one", "x", quiet)
	node.block = make(chan struct{})
	for range inboundMax + 1000 {
		_, err := b.Publish(t.Context(), "x", &fanfare.Publication{Data: []byte("1")}, fanfare.StoreOptions{})
		require.NoError(t, err)
	}
	mustPublish(t, b, quiet, "lost")
	require.NoError(t, b.nc.Flush())
	close(node.block)
	eventually(t, "the node is told", func() bool {
		node.mu.Lock()
		defer node.mu.Unlock()
		return slices.ContainsFunc(node.interrupted, func(channels []string) bool { return slices.Equal(channels, []string{quiet}) })
	})
}

func TestPublish_ManyKeysAtOnce(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	// With files the server takes some milliseconds for each.
	b := s.broker(t, func(c *Config) { c.Timeout, c.Storage = 10*time.Second, jetstream.MemoryStorage })
	o := kept
	o.IdempotencyTTL = time.Minute
	var publishers sync.WaitGroup
	for i := range 200 { // more than the server takes batches
		publishers.Go(func() {
			o := o
			o.IdempotencyKey = "key"
			for range 2 {
				at, err := b.Publish(t.Context(), "x"+strconv.Itoa(i), &fanfare.Publication{Data: []byte("1")}, o)
				assert.NoError(t, err)
				assert.EqualValues(t, 1, at.Offset)
			}
		})
	}
	publishers.Wait()
}
