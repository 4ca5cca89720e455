package brokertest

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/fanfare-go/fanfare"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

var lifecycleSentences = []sentence{
	{name: "UnsubscribeEndsDelivery", run: unsubscribeEndsDelivery,
		text: "Unsubscribe ends the delivery of a channel, to that node alone. A second Subscribe changes nothing: one Unsubscribe ends it. It is not an error if there is nothing to end."},
	{name: "SubscribeAndUnsubscribeAtOnce", run: subscribeAndUnsubscribeAtOnce,
		text: "All methods are safe for concurrent use."},
	{name: "LinkCloseEndsDelivery", run: linkCloseEndsDelivery,
		text: "No sink method is called after Link.Close returned. It may be called twice. Later calls return ErrClosed. Other nodes go on."},
	{name: "CloseTwice", run: closeTwice,
		text: "Broker.Close may be called twice. Later calls return ErrClosed."},
	{name: "CloseDuringPublish", run: closeDuringPublish,
		text: "Broker.Close may be called while others publish; no sink method is called after it returned."},
	{name: "CancelledContext", run: cancelledContext,
		text: "Methods return soon after their context ends, with its error, and do nothing if it has ended before."},
	{name: "ControlReachesOne", run: controlReachesOne,
		text: "SendControl delivers to the sink of one node, and does not know whether it is there."},
	{name: "ControlReachesAllOthers", run: controlReachesAllOthers,
		text: "SendControl without a receiver delivers to every attached node but the sender."},
	{name: "RestartIsSurvivedOrTold", run: restartIsSurvivedOrTold,
		text: "When the server was restarted, nodes are served again without doing anything, and a stream either goes on or has a new epoch."},
}

func unsubscribeEndsDelivery(k *kit) {
	a, b := k.brokers()
	ch := k.channel("x")
	l, one := k.node(a, "one", ch, ch)
	_, two := k.node(a, "two", ch)
	_, three := k.node(b, "three", ch)
	k.publish(b, ch, data(1), history)
	require.Equal(k, []string{data(1)}, one.data(ch, 1))

	require.NoError(k, l.Unsubscribe(k.Context(), ch))
	k.publish(b, ch, data(2), history)
	require.Equal(k, []string{data(1), data(2)}, two.data(ch, 2))
	require.Equal(k, []string{data(1), data(2)}, three.data(ch, 2))

	require.NoError(k, l.Unsubscribe(k.Context(), ch))
	require.NoError(k, l.Unsubscribe(k.Context(), k.channel("never")))

	// The order of a channel makes the third publication the proof that the second never comes.
	require.NoError(k, l.Subscribe(k.Context(), ch))
	k.publish(b, ch, data(3), history)
	require.Equal(k, []string{data(1), data(3)}, one.data(ch, 2))
}

func subscribeAndUnsubscribeAtOnce(k *kit) {
	const channels, rounds = 4, 30
	a, b := k.brokers()
	l, r := k.node(b, "one")
	name := func(i int) string { return k.channel(fmt.Sprint(i % channels)) }
	concurrently(3*channels, func(i int) {
		for n := range rounds {
			switch i / channels {
			case 0:
				assert.NoError(k, l.Subscribe(k.Context(), name(i)))
				assert.NoError(k, l.Unsubscribe(k.Context(), name(i)))
			case 1:
				_, err := a.Publish(k.Context(), name(i), &fanfare.Publication{Data: []byte(data(n))}, fanfare.StoreOptions{History: history})
				assert.NoError(k, err)
			default:
				_, err := a.History(k.Context(), name(i), fanfare.HistoryQuery{Limit: -1})
				assert.NoError(k, err)
			}
		}
	})
	for i := range channels {
		require.Equal(k, upTo(1, rounds), k.all(b, name(i)))
		require.NoError(k, l.Subscribe(k.Context(), name(i)))
		k.publish(a, name(i), "last", history)
		r.until("the last publication", func() bool {
			ps := r.publications[name(i)]
			return len(ps) > 0 && string(ps[len(ps)-1].Data) == "last"
		})
	}
}

// flood uses the channels and the control bus from several goroutines until the returned function is called. Errors are handed to
// check, which may be nil.
func (k *kit) flood(b fanfare.Broker, channels []string, check func(error)) (stop func()) {
	var wg sync.WaitGroup
	var stopped atomic.Bool
	for _, ch := range channels {
		wg.Go(func() {
			for !stopped.Load() {
				_, err := b.Publish(k.Context(), ch, &fanfare.Publication{Data: []byte(`1`)}, fanfare.StoreOptions{History: history})
				errs := []error{err, b.PublishMembership(k.Context(), ch, fanfare.Membership{Joined: true})}
				if bus, ok := b.(fanfare.ControlBus); ok {
					errs = append(errs, bus.SendControl(k.Context(), k.prefix+"nobody", "", []byte(`1`)))
				}
				if check != nil {
					check(errors.Join(errs...))
				}
			}
		})
	}
	return func() {
		stopped.Store(true)
		wg.Wait()
	}
}

func linkCloseEndsDelivery(k *kit) {
	a, b := k.brokers()
	channels := []string{k.channel("x"), k.channel("y"), k.channel("z")}
	l, one := k.node(b, "one", channels...)
	_, two := k.node(b, "two", channels...)
	stop := k.flood(a, channels, func(err error) { assert.NoError(k, err) })
	defer stop()
	one.got(channels[0], 10)

	concurrently(3, func(int) { assert.NoError(k, l.Close()) })
	calls := one.count()
	require.ErrorIs(k, l.Subscribe(k.Context(), channels[0]), fanfare.ErrClosed)
	require.ErrorIs(k, l.Unsubscribe(k.Context(), channels[0]), fanfare.ErrClosed)
	for _, ch := range channels {
		two.got(ch, len(two.got(ch, 0))+10)
	}
	require.Equal(k, calls, one.count(), "the sink was called after Close")
	require.NoError(k, l.Close())

	again, _ := k.node(b, "one", channels[0]) // the id is free again
	require.NoError(k, again.Close())
}

func closeTwice(k *kit) {
	b := k.broker()
	l, _ := k.node(b, "one", k.channel("x"))
	require.NoError(k, b.Close())
	require.NoError(k, b.Close())
	k.methods(k.Context(), b, l, k.channel("x"), func(method string, err error) {
		require.ErrorIs(k, err, fanfare.ErrClosed, method)
	})
	_, err := b.Attach("two", newRecorder(k))
	require.ErrorIs(k, err, fanfare.ErrClosed)
	require.NoError(k, l.Close())
	require.NoError(k, l.Close())
}

func closeDuringPublish(k *kit) {
	b := k.broker()
	channels := []string{k.channel("x"), k.channel("y"), k.channel("z")}
	_, r := k.node(b, "one", channels...)
	stop := k.flood(b, channels, nil) // what is under way may fail in any way
	defer stop()
	r.got(channels[0], 10)
	concurrently(3, func(int) { assert.NoError(k, b.Close()) })
	calls := r.count()
	for range 100 {
		_, err := b.Publish(k.Context(), channels[0], &fanfare.Publication{Data: []byte(`1`)}, fanfare.StoreOptions{History: history})
		require.ErrorIs(k, err, fanfare.ErrClosed)
	}
	stop()
	require.Equal(k, calls, r.count(), "the sink was called after Close")
}

func cancelledContext(k *kit) {
	b := k.broker()
	ch := k.channel("x")
	l, r := k.node(b, "one", ch)
	k.publish(b, ch, data(1), history)
	ended, cancel := context.WithCancel(k.Context())
	cancel()
	k.methods(ended, b, l, ch, func(method string, err error) {
		require.ErrorIs(k, err, context.Canceled, method)
	})
	k.publish(b, ch, data(2), history)
	require.Equal(k, []string{data(1), data(2)}, r.data(ch, 2))
	require.Equal(k, upTo(1, 2), k.all(b, ch))

	expired, cancel := context.WithDeadline(k.Context(), time.Now().Add(-time.Second))
	defer cancel()
	_, err := b.History(expired, ch, fanfare.HistoryQuery{})
	require.ErrorIs(k, err, context.DeadlineExceeded)
}

func (k *kit) bus(b fanfare.Broker) fanfare.ControlBus {
	k.Helper()
	bus, ok := b.(fanfare.ControlBus)
	if !ok {
		k.Skip("the broker is no ControlBus")
	}
	return bus
}

func controlReachesOne(k *kit) {
	a, b := k.brokers()
	bus := k.bus(a)
	_, one := k.node(a, "one")
	_, two := k.node(b, "two")
	_, three := k.node(b, "three")
	id := func(name string) string { return k.prefix + name }
	require.NoError(k, bus.SendControl(k.Context(), id("one"), id("two"), []byte("to two")))
	require.NoError(k, bus.SendControl(k.Context(), id("one"), id("one"), []byte("to myself")))
	require.NoError(k, bus.SendControl(k.Context(), id("one"), id("nobody"), []byte("to nobody")))
	require.Equal(k, []string{"to two"}, two.control(1))
	require.Equal(k, []string{"to myself"}, one.control(1))
	require.NoError(k, bus.SendControl(k.Context(), id("one"), id("three"), []byte("to three")))
	require.Equal(k, []string{"to three"}, three.control(1))
}

func controlReachesAllOthers(k *kit) {
	a, b := k.brokers()
	bus := k.bus(a)
	_, one := k.node(a, "one")
	_, two := k.node(a, "two")
	l, three := k.node(b, "three")
	send := func(message string) {
		require.NoError(k, bus.SendControl(k.Context(), k.prefix+"one", "", []byte(message)))
	}
	send("1")
	require.Equal(k, []string{"1"}, two.control(1))
	require.Equal(k, []string{"1"}, three.control(1))
	require.NoError(k, l.Close())
	send("2")
	require.Equal(k, []string{"1", "2"}, two.control(2))
	require.Equal(k, []string{"1"}, three.control(1), "closed")
	require.Zero(k, one.count(), "the sender")
}

func restartIsSurvivedOrTold(k *kit) {
	if k.Restart == nil {
		k.Skip("Options.Restart is not given")
	}
	a, b := k.brokers()
	ch := k.channel("x")
	_, r := k.node(b, "one", ch)
	before := k.publish(a, ch, data(1), history)
	r.got(ch, 1)
	k.Restart(k.T)

	// How soon the connections are back is the broker's business.
	deadline := time.Now().Add(k.Timeout)
	for delivered, n := false, 2; !delivered; n++ {
		pos, err := a.Publish(k.Context(), ch, &fanfare.Publication{Data: []byte(data(n))}, fanfare.StoreOptions{History: history})
		if err == nil {
			if pos.Epoch == before.Epoch {
				require.Greater(k, pos.Offset, before.Offset, "the same epoch, and the offset was used before")
			}
			delivered = len(r.got(ch, 0)) > 1
		}
		require.True(k, time.Now().Before(deadline), "not served again after %v; the last error is %v", k.Timeout, err)
		k.wait(10 * time.Millisecond)
	}
	h := k.read(b, ch, fanfare.HistoryQuery{Limit: -1})
	if h.Epoch == before.Epoch {
		require.Equal(k, upTo(1, h.Offset), offsets(h.Publications), "the same epoch, and publications are gone")
	} else {
		require.Equal(k, upTo(1, h.Offset), offsets(h.Publications), "a new epoch begins with offset 1")
	}
}
