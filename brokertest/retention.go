package brokertest

import (
	"fmt"
	"time"

	"github.com/fanfare-go/fanfare"
	"github.com/stretchr/testify/require"
)

var retentionSentences = []sentence{
	{name: "NothingOlderThanTTL", run: nothingOlderThanTTL, aged: true,
		text: "A publication is kept for TTL. Nothing older is ever returned, whatever came later."},
	{name: "TTLOfTheNewestHolds", run: ttlOfTheNewestHolds, aged: true,
		text: "The TTL of the newest publication holds for the whole stream: a smaller one also shortens what is kept already."},
	{name: "LongerTTLProlongsNothing", run: longerTTLProlongsNothing, aged: true,
		text: "A larger TTL does not prolong what is kept already."},
	{name: "NoHoles", run: noHoles, aged: true,
		text: "What is kept is always the newest part of the stream, without holes."},
	{name: "TopSurvivesAge", run: topSurvivesAge, aged: true,
		text: "A stream keeps its epoch and its top while it has subscribers, when all its publications are too old."},
	{name: "IdleStreamsAreForgotten", run: idleStreamsAreForgotten,
		text: "Of too many streams without publications and subscribers the one that was idle longest is forgotten; when its channel is used again it has a new epoch."},
	{name: "StreamsInUseAreNotForgotten", run: streamsInUseAreNotForgotten,
		text: "A stream keeps its epoch and its top while it has publications or subscribers, however many idle ones there are."},
	{name: "AgedStreamsAreForgotten", run: agedStreamsAreForgotten, aged: true,
		text: "A stream whose publications are all too old is idle."},
}

func nothingOlderThanTTL(k *kit) {
	a, b := k.brokers()
	h := fanfare.History{Size: 100, TTL: k.TTL}
	k.intime(func(ch string) bool {
		first := time.Now()
		k.publish(a, ch, data(1), h)
		k.publish(a, ch, data(2), h)
		if !k.young(b, ch, first, upTo(1, 2)) {
			return false
		}
		k.wait(k.TTL / 2)
		third := time.Now()
		k.publish(a, ch, data(3), h)
		if !k.young(b, ch, first, upTo(1, 3)) {
			return false
		}
		k.wait(k.TTL * 3 / 4)
		if !k.young(b, ch, third, upTo(3, 3)) {
			return false
		}
		k.wait(k.TTL / 2)
		require.Empty(k, k.all(b, ch))
		require.Empty(k, k.read(b, ch, fanfare.HistoryQuery{Limit: 1, Reverse: true}).Publications)
		fourth := time.Now()
		k.publish(a, ch, data(4), h)
		return k.young(b, ch, fourth, upTo(4, 4))
	})
}

func ttlOfTheNewestHolds(k *kit) {
	b := k.broker()
	k.intime(func(ch string) bool {
		k.publish(b, ch, data(1), history)
		k.wait(k.TTL + k.TTL/4)
		second := time.Now()
		k.publish(b, ch, data(2), fanfare.History{Size: 100, TTL: k.TTL})
		return k.young(b, ch, second, upTo(2, 2))
	})
}

func longerTTLProlongsNothing(k *kit) {
	b := k.broker()
	k.intime(func(ch string) bool {
		first := time.Now()
		k.publish(b, ch, data(1), fanfare.History{Size: 100, TTL: k.TTL})
		k.publish(b, ch, data(2), history)
		if !k.young(b, ch, first, upTo(1, 2)) {
			return false
		}
		k.wait(k.TTL + k.TTL/4)
		require.Equal(k, upTo(2, 2), k.all(b, ch))
		return true
	})
}

func noHoles(k *kit) {
	b := k.broker()
	k.intime(func(ch string) bool {
		k.publish(b, ch, data(1), history)
		second := time.Now()
		k.publish(b, ch, data(2), fanfare.History{Size: 100, TTL: k.TTL})
		k.publish(b, ch, data(3), history)
		if !k.young(b, ch, second, upTo(1, 3)) {
			return false
		}
		k.wait(k.TTL + k.TTL/4)
		require.Equal(k, upTo(3, 3), k.all(b, ch))
		return true
	})
}

func topSurvivesAge(k *kit) {
	a, b := k.brokers()
	ch := k.channel("x")
	k.node(b, "one", ch)
	h := fanfare.History{Size: 100, TTL: k.TTL}
	k.publish(a, ch, data(1), h)
	top := k.publish(a, ch, data(2), h)
	for range 3 {
		k.wait(k.TTL + k.TTL/4)
		require.Equal(k, fanfare.HistoryResult{Position: top}, k.read(b, ch, fanfare.HistoryQuery{Limit: -1}))
	}
	require.Equal(k, fanfare.Position{Offset: 3, Epoch: top.Epoch}, k.publish(a, ch, data(3), h))
}

func (k *kit) bounded(maxIdleStreams int) fanfare.Broker {
	k.Helper()
	if k.NewBounded == nil {
		k.Skip("Options.NewBounded is not given")
	}
	return k.closing(k.NewBounded(k.T, maxIdleStreams))
}

func (k *kit) epoch(b fanfare.Broker, channel string) string {
	k.Helper()
	return k.read(b, channel, fanfare.HistoryQuery{}).Epoch
}

func idleStreamsAreForgotten(k *kit) {
	b := k.bounded(3)
	x, y, z := k.channel("x"), k.channel("y"), k.channel("z")
	ex, ey, ez := k.epoch(b, x), k.epoch(b, y), k.epoch(b, z)
	require.Equal(k, ex, k.epoch(b, x), "three are remembered")
	ew := k.epoch(b, k.channel("w"))
	require.Equal(k, ex, k.epoch(b, x), "x was used after y")
	require.Equal(k, ez, k.epoch(b, z))
	require.Equal(k, ew, k.epoch(b, k.channel("w")))
	require.NotEqual(k, ey, k.epoch(b, y), "y was idle longest")
	pos := k.publish(b, x, data(1), history)
	require.EqualValues(k, 1, pos.Offset)
	require.NotEqual(k, ex, pos.Epoch, "x had to go when y came back")
}

func streamsInUseAreNotForgotten(k *kit) {
	b := k.bounded(2)
	used, watched := k.channel("used"), k.channel("watched")
	top := k.publish(b, used, data(1), history)
	l, _ := k.node(b, "one", watched)
	epoch := k.epoch(b, watched)
	others := func() {
		for i := range 10 {
			k.epoch(b, k.channel(fmt.Sprint(i)))
		}
	}
	others()
	require.Equal(k, top, k.read(b, used, fanfare.HistoryQuery{}).Position)
	require.Equal(k, epoch, k.epoch(b, watched))

	require.NoError(k, b.RemoveHistory(k.Context(), used))
	require.NoError(k, l.Unsubscribe(k.Context(), watched))
	require.Equal(k, top, k.read(b, used, fanfare.HistoryQuery{}).Position, "idle, but remembered")
	require.Equal(k, epoch, k.epoch(b, watched))
	others()
	require.NotEqual(k, top.Epoch, k.epoch(b, used))
	require.NotEqual(k, epoch, k.epoch(b, watched))
}

func agedStreamsAreForgotten(k *kit) {
	b := k.bounded(2)
	ch := k.channel("x")
	top := k.publish(b, ch, data(1), fanfare.History{Size: 10, TTL: k.TTL})
	k.wait(k.TTL + 2*time.Second)
	require.Equal(k, top, k.read(b, ch, fanfare.HistoryQuery{}).Position)
	k.epoch(b, k.channel("y"))
	k.epoch(b, k.channel("z"))
	pos := k.publish(b, ch, data(2), history)
	require.EqualValues(k, 1, pos.Offset)
	require.NotEqual(k, top.Epoch, pos.Epoch)
}
