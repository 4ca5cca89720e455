package brokertest

import (
	"time"

	"github.com/fanfare-go/fanfare"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

var versionSentences = []sentence{
	{name: "StaleVersionDoesNothing", run: staleVersionDoesNothing,
		text: "A publication whose version is not above the stream's is neither stored nor delivered, and Publish returns the top."},
	{name: "NewestVersionWins", run: newestVersionWins,
		text: "Comparing the version, storing and delivering are one step: under concurrent publishers versions in a stream only rise."},
	{name: "PublicationsWithoutVersion", run: publicationsWithoutVersion,
		text: "A publication without a version is never stale, and leaves the stream's version as it is."},
	{name: "VersionEpochBeginsAnew", run: versionEpochBeginsAnew,
		text: "With another VersionEpoch versions begin anew; an empty one matches every epoch."},
	{name: "VersionsArePerChannel", run: versionsArePerChannel,
		text: "A version is good for one channel."},
	{name: "VersionOutlivesPublications", run: versionOutlivesPublications, aged: true,
		text: "A version is remembered as long as the stream's top is, so also when its publications were removed or are too old."},
	{name: "VersionAndIdempotencyKey", run: versionAndIdempotencyKey,
		text: "An idempotency key is looked at before the version, and is remembered for a stale publication, too."},
}

func (k *kit) publishVersion(b fanfare.Broker, channel, data string, version uint64, epoch string) fanfare.Position {
	k.Helper()
	pos, err := b.Publish(k.Context(), channel, &fanfare.Publication{Data: []byte(data)},
		fanfare.StoreOptions{History: history, Version: version, VersionEpoch: epoch})
	require.NoError(k, err)
	return pos
}

func staleVersionDoesNothing(k *kit) {
	a, b := k.brokers()
	ch := k.channel("x")
	_, r := k.node(b, "one", ch)
	require.EqualValues(k, 1, k.publishVersion(a, ch, data(1), 5, "").Offset)
	top := k.publishVersion(b, ch, data(2), 7, "")
	require.EqualValues(k, 2, top.Offset)
	for _, stale := range []uint64{1, 6, 7} {
		require.Equal(k, top, k.publishVersion(a, ch, data(99), stale, ""), "version %d", stale)
	}
	require.EqualValues(k, 3, k.publishVersion(a, ch, data(3), 8, "").Offset)

	require.Equal(k, []string{data(1), data(2), data(3)}, r.data(ch, 3))
	require.Equal(k, upTo(1, 3), k.all(b, ch))
}

func newestVersionWins(k *kit) {
	const publishers, each = 8, 50
	a, b := k.brokers()
	ch := k.channel("x")
	_, r := k.node(b, "one", ch)
	concurrently(publishers, func(i int) {
		for n := range each {
			version := n*publishers + i + 1
			_, err := []fanfare.Broker{a, b}[i%2].Publish(k.Context(), ch, &fanfare.Publication{Data: []byte(data(version))},
				fanfare.StoreOptions{History: history, Version: uint64(version)})
			assert.NoError(k, err)
		}
	})
	const last = publishers * each
	top := k.publishVersion(a, ch, data(last), last, "")
	pubs := k.read(b, ch, fanfare.HistoryQuery{Limit: -1}).Publications
	require.Equal(k, upTo(1, top.Offset), offsets(pubs))
	require.Equal(k, data(last), string(pubs[len(pubs)-1].Data), "the newest version was stored, and nothing came after it")
	for i := 1; i < len(pubs); i++ {
		require.True(k, older(string(pubs[i-1].Data), string(pubs[i].Data)), "%s was stored before %s", pubs[i-1].Data, pubs[i].Data)
	}
	require.Equal(k, upTo(1, top.Offset), offsets(r.got(ch, len(pubs))))
}

// older compares what data made of two numbers.
func older(a, b string) bool { return len(a) < len(b) || len(a) == len(b) && a < b }

func publicationsWithoutVersion(k *kit) {
	b := k.broker()
	ch := k.channel("x")
	k.publishVersion(b, ch, data(1), 5, "a")
	require.EqualValues(k, 2, k.publish(b, ch, data(2), history).Offset)
	require.EqualValues(k, 2, k.publishVersion(b, ch, data(99), 5, "a").Offset)
	require.EqualValues(k, 3, k.publishVersion(b, ch, data(3), 6, "a").Offset)
	require.Equal(k, upTo(1, 3), k.all(b, ch))
}

func versionEpochBeginsAnew(k *kit) {
	a, b := k.brokers()
	ch := k.channel("x")
	for i, step := range []struct {
		version uint64
		epoch   string
		top     uint64
	}{
		{5, "a", 1}, {5, "a", 1}, {4, "", 1}, {1, "b", 2}, {1, "b", 2}, {1, "", 2}, {2, "", 3}, {2, "b", 4}, {5, "a", 5}, {5, "a", 5},
	} {
		from := []fanfare.Broker{a, b}[i%2]
		require.Equal(k, step.top, k.publishVersion(from, ch, data(i), step.version, step.epoch).Offset, "step %d", i)
	}
	require.Equal(k, upTo(1, 5), k.all(a, ch))
}

func versionsArePerChannel(k *kit) {
	b := k.broker()
	x, y := k.channel("x"), k.channel("y")
	k.publishVersion(b, x, data(1), 5, "")
	k.publishVersion(b, y, data(1), 3, "")
	require.Equal(k, upTo(1, 1), k.all(b, x))
	require.Equal(k, upTo(1, 1), k.all(b, y))
}

func versionOutlivesPublications(k *kit) {
	b := k.broker()
	ch := k.channel("x")
	k.node(b, "one", ch) // with a subscriber nothing may be forgotten
	k.publishVersion(b, ch, data(1), 5, "")
	require.NoError(k, b.RemoveHistory(k.Context(), ch))
	require.EqualValues(k, 1, k.publishVersion(b, ch, data(99), 5, "").Offset)

	_, err := b.Publish(k.Context(), ch, &fanfare.Publication{Data: []byte(data(2))},
		fanfare.StoreOptions{History: fanfare.History{Size: 10, TTL: k.TTL}, Version: 6})
	require.NoError(k, err)
	k.wait(k.TTL + k.TTL/4)
	require.Empty(k, k.all(b, ch))
	require.EqualValues(k, 2, k.publishVersion(b, ch, data(99), 6, "").Offset)
	require.EqualValues(k, 3, k.publishVersion(b, ch, data(3), 7, "").Offset)
	require.Equal(k, upTo(3, 3), k.all(b, ch))
}

func versionAndIdempotencyKey(k *kit) {
	a, b := k.brokers()
	ch := k.channel("x")
	_, r := k.node(b, "one", ch)
	publish := func(from fanfare.Broker, n int, version uint64, key string) uint64 {
		pos, err := from.Publish(k.Context(), ch, &fanfare.Publication{Data: []byte(data(n))},
			fanfare.StoreOptions{History: history, Version: version, IdempotencyKey: key, IdempotencyTTL: time.Minute})
		require.NoError(k, err)
		return pos.Offset
	}
	require.EqualValues(k, 1, publish(a, 1, 5, "one"))
	require.EqualValues(k, 2, publish(b, 2, 6, "two"))
	require.EqualValues(k, 1, publish(b, 1, 5, "one"), "a repeated publish returns the position of the first")
	require.EqualValues(k, 1, publish(a, 99, 9, "one"), "whatever its version is now")
	require.EqualValues(k, 2, publish(a, 99, 6, "stale"))
	require.EqualValues(k, 3, publish(a, 3, 7, "three"))
	require.EqualValues(k, 2, publish(b, 99, 6, "stale"), "the key of a stale one is remembered")
	require.Equal(k, []string{data(1), data(2), data(3)}, r.data(ch, 3))
	require.Equal(k, upTo(1, 3), k.all(b, ch))
}
