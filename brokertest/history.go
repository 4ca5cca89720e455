package brokertest

import (
	"fmt"
	"math"
	"slices"
	"sync/atomic"
	"time"

	"github.com/fanfare-go/fanfare"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

var historySentences = []sentence{
	{name: "HistorySelects", run: historySelects,
		text: "History returns, up to the limit, what comes after (Reverse: before) a position, oldest first (Reverse: newest first), and always the top."},
	{name: "HistoryDoesNotCompareEpochs", run: historyDoesNotCompareEpochs,
		text: "The epoch of Since is not compared."},
	{name: "SizeIsKept", run: sizeIsKept,
		text: "At most Size publications are kept: the newest."},
	{name: "SizeOfTheNewestHolds", run: sizeOfTheNewestHolds,
		text: "The size of the newest publication holds for the whole stream: a smaller one also shortens what is kept already, a larger one brings nothing back."},
	{name: "TrimmedEntriesLeaveTheRest", run: trimmedEntriesLeaveTheRest,
		text: "Forward from a position whose next entries were trimmed, the oldest kept entry comes first."},
	{name: "RemoveHistoryKeepsTheTop", run: removeHistoryKeepsTheTop,
		text: "RemoveHistory forgets the publications of a stream, and the top stays."},
	{name: "RemoveHistoryOfNothing", run: removeHistoryOfNothing,
		text: "It is not an error to remove the history of a channel that has none."},
	{name: "ReadingGivesTheEpoch", run: readingGivesTheEpoch,
		text: "A channel never used before gets its epoch by being read, and the same epoch numbers its first publication."},
	{name: "OneEpochForAll", run: oneEpochForAll,
		text: "Concurrent first uses of a channel agree on its epoch."},
	{name: "ReadIsAtomic", run: readIsAtomic,
		text: "History reads publications and the top in one atomic step, without holes, under concurrent publishers."},
}

func historySelects(k *kit) {
	a, b := k.brokers()
	ch := k.channel("x")
	var top fanfare.Position
	for i := range 10 {
		top = k.publish(a, ch, data(i+1), fanfare.History{Size: 5, TTL: time.Minute})
	}
	since := func(offset uint64) *fanfare.Position { return &fanfare.Position{Offset: offset, Epoch: top.Epoch} }
	for _, tt := range []struct {
		name string
		q    fanfare.HistoryQuery
		want []uint64
	}{
		{"top alone", fanfare.HistoryQuery{}, nil},
		{"top alone, since", fanfare.HistoryQuery{Since: since(7)}, nil},
		{"top alone, reverse", fanfare.HistoryQuery{Reverse: true}, nil},
		{"all", fanfare.HistoryQuery{Limit: -1}, []uint64{6, 7, 8, 9, 10}},
		{"all, reverse", fanfare.HistoryQuery{Limit: -1, Reverse: true}, []uint64{10, 9, 8, 7, 6}},
		{"limit", fanfare.HistoryQuery{Limit: 2}, []uint64{6, 7}},
		{"limit, reverse", fanfare.HistoryQuery{Limit: 2, Reverse: true}, []uint64{10, 9}},
		{"high limit", fanfare.HistoryQuery{Limit: 1000}, []uint64{6, 7, 8, 9, 10}},
		{"since", fanfare.HistoryQuery{Since: since(8), Limit: -1}, []uint64{9, 10}},
		{"since, limit", fanfare.HistoryQuery{Since: since(7), Limit: 2}, []uint64{8, 9}},
		{"since, reverse", fanfare.HistoryQuery{Since: since(8), Limit: -1, Reverse: true}, []uint64{7, 6}},
		{"since, limit, reverse", fanfare.HistoryQuery{Since: since(9), Limit: 2, Reverse: true}, []uint64{8, 7}},
		{"since the top", fanfare.HistoryQuery{Since: since(10), Limit: -1}, nil},
		{"since the top, reverse", fanfare.HistoryQuery{Since: since(10), Limit: 2, Reverse: true}, []uint64{9, 8}},
		{"beyond the top", fanfare.HistoryQuery{Since: since(15), Limit: -1}, nil},
		{"beyond the top, reverse", fanfare.HistoryQuery{Since: since(15), Limit: 2, Reverse: true}, []uint64{10, 9}},
		{"far beyond the top", fanfare.HistoryQuery{Since: since(math.MaxUint64), Limit: -1}, nil},
		{"since trimmed, reverse", fanfare.HistoryQuery{Since: since(3), Limit: -1, Reverse: true}, nil},
		{"since 0, limit", fanfare.HistoryQuery{Since: since(0), Limit: 2}, []uint64{6, 7}},
		{"since 0, reverse", fanfare.HistoryQuery{Since: since(0), Limit: -1, Reverse: true}, nil},
	} {
		h := k.read(b, ch, tt.q)
		require.True(k, slices.Equal(tt.want, offsets(h.Publications)), "%s: want %v, got %v", tt.name, tt.want, offsets(h.Publications))
		require.Equal(k, top, h.Position, tt.name)
		for _, p := range h.Publications {
			require.Equal(k, data(int(p.Offset)), string(p.Data), tt.name)
			require.Equal(k, top.Epoch, p.Epoch, tt.name)
		}
	}
}

func historyDoesNotCompareEpochs(k *kit) {
	b := k.broker()
	ch := k.channel("x")
	k.publish(b, ch, data(1), history)
	top := k.publish(b, ch, data(2), history)
	for _, epoch := range []string{"", "no such epoch", top.Epoch} {
		h := k.read(b, ch, fanfare.HistoryQuery{Since: &fanfare.Position{Offset: 1, Epoch: epoch}, Limit: -1})
		require.Equal(k, []uint64{2}, offsets(h.Publications))
		require.Equal(k, top, h.Position)
	}
}

func sizeIsKept(k *kit) {
	a, b := k.brokers()
	ch := k.channel("x")
	for i := range uint64(20) {
		n := i + 1
		pos := k.publish(a, ch, data(1), fanfare.History{Size: 3, TTL: time.Minute})
		require.Equal(k, n, pos.Offset)
		require.Equal(k, upTo(max(n, 3)-2, n), k.all(b, ch))
	}
}

func sizeOfTheNewestHolds(k *kit) {
	b := k.broker()
	ch := k.channel("x")
	for range 10 {
		k.publish(b, ch, data(1), fanfare.History{Size: 8, TTL: time.Minute})
	}
	k.publish(b, ch, data(1), fanfare.History{Size: 3, TTL: time.Minute})
	require.Equal(k, upTo(9, 11), k.all(b, ch))
	k.publish(b, ch, data(1), fanfare.History{Size: 8, TTL: time.Minute})
	require.Equal(k, upTo(9, 12), k.all(b, ch))
}

func trimmedEntriesLeaveTheRest(k *kit) {
	b := k.broker()
	ch := k.channel("x")
	var top fanfare.Position
	for range 10 {
		top = k.publish(b, ch, data(1), fanfare.History{Size: 3, TTL: time.Minute})
	}
	for offset := range uint64(8) {
		h := k.read(b, ch, fanfare.HistoryQuery{Since: &fanfare.Position{Offset: offset, Epoch: top.Epoch}, Limit: 2})
		require.Equal(k, []uint64{8, 9}, offsets(h.Publications))
		require.Equal(k, top, h.Position)
	}
}

func removeHistoryKeepsTheTop(k *kit) {
	a, b := k.brokers()
	ch := k.channel("x")
	k.node(b, "one", ch) // with a subscriber nothing may be forgotten
	var top fanfare.Position
	for range 5 {
		top = k.publish(a, ch, data(1), history)
	}
	require.NoError(k, b.RemoveHistory(k.Context(), ch))
	h := k.read(a, ch, fanfare.HistoryQuery{Limit: -1})
	require.Empty(k, h.Publications)
	require.Equal(k, top, h.Position)
	require.Equal(k, fanfare.Position{Offset: 6, Epoch: top.Epoch}, k.publish(b, ch, data(6), history))
	require.Equal(k, upTo(6, 6), k.all(a, ch))
}

func removeHistoryOfNothing(k *kit) {
	b := k.broker()
	ch := k.channel("x")
	require.NoError(k, b.RemoveHistory(k.Context(), ch))
	k.publish(b, ch, data(1), history)
	require.NoError(k, b.RemoveHistory(k.Context(), ch))
	require.NoError(k, b.RemoveHistory(k.Context(), ch))
}

func readingGivesTheEpoch(k *kit) {
	a, b := k.brokers()
	ch := k.channel("x")
	first := k.read(a, ch, fanfare.HistoryQuery{Limit: -1})
	require.Empty(k, first.Publications)
	require.Zero(k, first.Offset)
	require.NotEmpty(k, first.Epoch)
	require.Equal(k, first.Position, k.read(b, ch, fanfare.HistoryQuery{}).Position)
	require.Equal(k, fanfare.Position{Offset: 1, Epoch: first.Epoch}, k.publish(b, ch, data(1), history))
}

func oneEpochForAll(k *kit) {
	a, b := k.brokers()
	for round := range 20 {
		ch := k.channel(fmt.Sprint(round))
		var epochs [10]string
		concurrently(len(epochs), func(i int) {
			from := []fanfare.Broker{a, b}[i%2]
			var pos fanfare.Position
			var err error
			if i < 5 {
				pos, err = from.Publish(k.Context(), ch, &fanfare.Publication{Data: []byte(data(i))}, fanfare.StoreOptions{History: history})
			} else {
				var h fanfare.HistoryResult
				h, err = from.History(k.Context(), ch, fanfare.HistoryQuery{})
				pos = h.Position
			}
			assert.NoError(k, err)
			epochs[i] = pos.Epoch
		})
		for _, e := range epochs {
			require.Equal(k, epochs[0], e)
		}
		require.Equal(k, upTo(1, 5), k.all(a, ch))
	}
}

func readIsAtomic(k *kit) {
	const publishers, each, size = 4, 100, 10
	a, b := k.brokers()
	ch := k.channel("x")
	epoch := k.read(b, ch, fanfare.HistoryQuery{}).Epoch
	var running atomic.Int32
	running.Store(publishers)
	concurrently(publishers+2, func(i int) {
		if i < publishers {
			defer running.Add(-1)
			for n := range each {
				_, err := a.Publish(k.Context(), ch, &fanfare.Publication{Data: []byte(data(n))},
					fanfare.StoreOptions{History: fanfare.History{Size: size, TTL: time.Minute}})
				assert.NoError(k, err)
			}
			return
		}
		last := uint64(0)
		for going := true; going; { // once more when all is published
			going = running.Load() > 0
			h, err := b.History(k.Context(), ch, fanfare.HistoryQuery{Limit: -1, Reverse: i%2 == 0})
			if !assert.NoError(k, err) {
				return
			}
			got := offsets(h.Publications)
			slices.Sort(got)
			want := upTo(max(h.Offset, size)-size+1, h.Offset)
			assert.Equal(k, want, got, "top is %d", h.Offset)
			assert.Equal(k, epoch, h.Epoch)
			assert.GreaterOrEqual(k, h.Offset, last, "the top went back")
			last = h.Offset
		}
	})
}
