package brokertest

import (
	"time"

	"github.com/fanfare-go/fanfare"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

var idempotencySentences = []sentence{
	{name: "RepeatedPublishDoesNothing", run: repeatedPublishDoesNothing,
		text: "A repeated publish with an idempotency key returns the position of the first one without storing or delivering anything."},
	{name: "RepeatedPublishDoesNothingConcurrently", run: repeatedPublishConcurrently,
		text: "Of concurrent publishes with one idempotency key exactly one is stored and delivered, and all return its position."},
	{name: "IdempotencyKeysArePerChannel", run: idempotencyKeysArePerChannel,
		text: "An idempotency key is good for one channel."},
	{name: "IdempotencyWithoutHistory", run: idempotencyWithoutHistory,
		text: "An idempotency key works without history, too."},
	{name: "IdempotencyKeysExpire", run: idempotencyKeysExpire, aged: true,
		text: "An idempotency key is remembered for IdempotencyTTL."},
}

func (k *kit) publishOnce(b fanfare.Broker, channel, data, key string, h fanfare.History, ttl time.Duration) fanfare.Position {
	pos, err := b.Publish(k.Context(), channel, &fanfare.Publication{Data: []byte(data)},
		fanfare.StoreOptions{History: h, IdempotencyKey: key, IdempotencyTTL: ttl})
	assert.NoError(k, err)
	return pos
}

func repeatedPublishDoesNothing(k *kit) {
	a, b := k.brokers()
	ch := k.channel("x")
	_, r := k.node(b, "one", ch)
	first := k.publishOnce(a, ch, data(1), "key", history, time.Minute)
	require.EqualValues(k, 1, first.Offset)
	k.publish(a, ch, data(2), history)
	require.Equal(k, first, k.publishOnce(b, ch, data(1), "key", history, time.Minute))
	require.EqualValues(k, 3, k.publishOnce(a, ch, data(3), "other", history, time.Minute).Offset)

	require.Equal(k, []string{data(1), data(2), data(3)}, r.data(ch, 3))
	require.Equal(k, upTo(1, 3), k.all(b, ch))
}

func repeatedPublishConcurrently(k *kit) {
	const publishers = 20
	a, b := k.brokers()
	ch := k.channel("x")
	_, r := k.node(b, "one", ch)
	var positions [publishers]fanfare.Position
	concurrently(publishers, func(i int) {
		from := []fanfare.Broker{a, b}[i%2]
		positions[i] = k.publishOnce(from, ch, data(1), "key", history, time.Minute)
	})
	for _, pos := range positions {
		require.Equal(k, positions[0], pos)
	}
	k.publish(a, ch, data(2), history)
	require.Equal(k, []string{data(1), data(2)}, r.data(ch, 2))
	require.Equal(k, upTo(1, 2), k.all(b, ch))
}

func idempotencyKeysArePerChannel(k *kit) {
	b := k.broker()
	x, y := k.channel("x"), k.channel("y")
	k.publishOnce(b, x, data(1), "key", history, time.Minute)
	k.publishOnce(b, y, data(1), "key", history, time.Minute)
	require.Equal(k, upTo(1, 1), k.all(b, x))
	require.Equal(k, upTo(1, 1), k.all(b, y))
}

func idempotencyWithoutHistory(k *kit) {
	a, b := k.brokers()
	ch := k.channel("x")
	_, r := k.node(b, "one", ch)
	require.Equal(k, fanfare.Position{}, k.publishOnce(a, ch, data(1), "key", fanfare.History{}, time.Minute))
	require.Equal(k, fanfare.Position{}, k.publishOnce(b, ch, data(1), "key", fanfare.History{}, time.Minute))
	k.publish(a, ch, data(2), fanfare.History{})
	require.Equal(k, []string{data(1), data(2)}, r.data(ch, 2))
}

func idempotencyKeysExpire(k *kit) {
	b := k.broker()
	k.intime(func(ch string) bool {
		began := time.Now()
		first := k.publishOnce(b, ch, data(1), "key", history, k.TTL)
		again := k.publishOnce(b, ch, data(1), "key", history, k.TTL)
		if time.Since(began) >= k.TTL {
			return false
		}
		require.Equal(k, first, again)
		k.wait(k.TTL + k.TTL/4)
		require.EqualValues(k, 2, k.publishOnce(b, ch, data(1), "key", history, k.TTL).Offset)
		return true
	})
}
