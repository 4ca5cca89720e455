package brokertest

import (
	"fmt"
	"strings"
	"sync"

	"github.com/fanfare-go/fanfare"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

var deliverySentences = []sentence{
	{name: "PublicationReachesAllNodes", run: publicationReachesAllNodes,
		text: "The sink gets the publications of every channel that the node subscribes to through the returned Link: the same bytes, publisher, tags and Except."},
	{name: "OnlySubscribedChannels", run: onlySubscribedChannels,
		text: "A sink gets nothing of channels that its node did not subscribe to."},
	{name: "SubscribeReturnsWhenReady", run: subscribeReturnsWhenReady,
		text: "Subscribe returns when every later publication will be delivered."},
	{name: "OrderIsTheSameForAllSinks", run: orderIsTheSameForAllSinks,
		text: "Every sink sees the publications of a channel in the order of their offsets, under concurrent publishers, and calls for one channel do not overlap."},
	{name: "OneOffsetForAll", run: oneOffsetForAll,
		text: "Storing, numbering and delivering are one step: Publish returns the position that the delivered and the stored publication have."},
	{name: "DeliveredIsStored", run: deliveredIsStored,
		text: "What a sink got is in the stream already, and the top is not behind it."},
	{name: "WithoutHistoryOnlyDelivered", run: withoutHistoryOnlyDelivered,
		text: "Without history the position is zero and the publication is only delivered."},
	{name: "WithoutHistoryInOrder", run: withoutHistoryInOrder,
		text: "Without history, too, the publications of one publisher come in order."},
	{name: "AnyNameAnyData", run: anyNameAnyData,
		text: "Bytes in, the same bytes out; no character of a channel name is special."},
	{name: "MembershipReachesAllNodes", run: membershipReachesAllNodes,
		text: "PublishMembership delivers to the nodes that subscribe to the channel, in the order of the calls from one node. It is not stored."},
	{name: "TenThousandChannels", run: tenThousandChannels,
		text: "A node may subscribe to 10,000 channels, each with a stream of its own."},
}

func publicationReachesAllNodes(k *kit) {
	a, b := k.brokers()
	ch := k.channel("x")
	_, one := k.node(a, "one", ch)
	_, two := k.node(b, "two", ch)
	sent := fanfare.Publication{
		Data: []byte(`{"text":"hi"}`),
		Info: &fanfare.ClientInfo{User: "u", Client: "c", ConnInfo: []byte(`{"a":1}`), ChanInfo: []byte(`{"b":2}`)},
		Tags: map[string]string{"k": "v"},
		// It is not the publisher's in general.
		Except: "d",
	}
	for i, from := range []fanfare.Broker{a, b} {
		p := sent
		pos, err := from.Publish(k.Context(), ch, &p, fanfare.StoreOptions{History: history})
		require.NoError(k, err)
		want := sent
		want.Position = pos
		for _, r := range []*recorder{one, two} {
			require.Equal(k, &want, r.got(ch, i+1)[i])
		}
		require.Equal(k, &want, k.read(from, ch, fanfare.HistoryQuery{Since: &fanfare.Position{Offset: uint64(i)}, Limit: 1}).Publications[0], "stored")
	}
	require.Len(k, one.got(ch, 2), 2, "delivered twice")
}

func onlySubscribedChannels(k *kit) {
	a, b := k.brokers()
	x, y := k.channel("x"), k.channel("y")
	_, one := k.node(a, "one", x)
	_, two := k.node(b, "two", y)
	k.publish(a, y, data(1), history)
	k.publish(b, x, data(2), history)
	require.Equal(k, []string{data(2)}, one.data(x, 1))
	require.Equal(k, []string{data(1)}, two.data(y, 1))
	require.Equal(k, 1, one.count())
	require.Equal(k, 1, two.count())
}

func subscribeReturnsWhenReady(k *kit) {
	a, b := k.brokers()
	l, r := k.node(b, "one")
	concurrently(100, func(i int) {
		ch := k.channel(fmt.Sprint(i))
		if !assert.NoError(k, l.Subscribe(k.Context(), ch)) {
			return
		}
		_, err := a.Publish(k.Context(), ch, &fanfare.Publication{Data: []byte(data(i))}, fanfare.StoreOptions{})
		assert.NoError(k, err)
	})
	for i := range 100 {
		require.Equal(k, []string{data(i)}, r.data(k.channel(fmt.Sprint(i)), 1))
	}
}

func orderIsTheSameForAllSinks(k *kit) {
	const publishers, each = 8, 50
	a, b := k.brokers()
	ch := k.channel("x")
	_, one := k.node(a, "one", ch)
	_, two := k.node(b, "two", ch)
	concurrently(publishers, func(i int) {
		for n := range each {
			from := []fanfare.Broker{a, b}[i%2]
			_, err := from.Publish(k.Context(), ch, &fanfare.Publication{Data: []byte(data(i*each + n))}, fanfare.StoreOptions{History: history})
			assert.NoError(k, err)
		}
	})
	const total = publishers * each
	require.Equal(k, upTo(1, total), offsets(one.got(ch, total)))
	require.Equal(k, upTo(1, total), offsets(two.got(ch, total)))
	require.Equal(k, one.data(ch, total), two.data(ch, total))
}

func oneOffsetForAll(k *kit) {
	const publishers, each = 8, 50
	a, b := k.brokers()
	ch := k.channel("x")
	_, r := k.node(b, "one", ch)
	var returned [publishers * each]fanfare.Position // by payload
	concurrently(publishers, func(i int) {
		for n := i * each; n < (i+1)*each; n++ {
			p := &fanfare.Publication{Data: []byte(data(n))}
			pos, err := a.Publish(k.Context(), ch, p, fanfare.StoreOptions{History: history})
			assert.NoError(k, err)
			assert.Equal(k, pos, p.Position, "the broker sets the position of what it was given")
			returned[n] = pos
		}
	})
	want := make(map[string]fanfare.Position)
	seen := make(map[uint64]bool)
	for n, pos := range returned {
		require.False(k, seen[pos.Offset], "offset %d was given twice", pos.Offset)
		require.Equal(k, returned[0].Epoch, pos.Epoch)
		seen[pos.Offset] = true
		want[data(n)] = pos
	}
	for offset := range uint64(publishers * each) {
		require.True(k, seen[offset+1], "offsets are dense from 1: %d is missing", offset+1)
	}
	for _, p := range r.got(ch, len(returned)) {
		require.Equal(k, want[string(p.Data)], p.Position, "delivered")
	}
	for _, p := range k.read(b, ch, fanfare.HistoryQuery{Limit: -1}).Publications {
		require.Equal(k, want[string(p.Data)], p.Position, "stored")
	}
}

func deliveredIsStored(k *kit) {
	a, b := k.brokers()
	ch := k.channel("x")
	_, r := k.node(b, "one", ch)
	var publisher sync.WaitGroup
	defer publisher.Wait() // also when the test fails: it must not outlive it
	publisher.Go(func() {
		for i := range 100 {
			_, err := a.Publish(k.Context(), ch, &fanfare.Publication{Data: []byte(data(i))}, fanfare.StoreOptions{History: history})
			assert.NoError(k, err)
		}
	})
	for n := 1; n <= 100; n++ {
		ps := r.got(ch, n)
		newest := ps[len(ps)-1]
		h := k.read(b, ch, fanfare.HistoryQuery{Since: &fanfare.Position{Offset: newest.Offset - 1}, Limit: 1})
		require.GreaterOrEqual(k, h.Offset, newest.Offset)
		require.Equal(k, newest, h.Publications[0])
	}
}

func withoutHistoryOnlyDelivered(k *kit) {
	a, b := k.brokers()
	ch := k.channel("x")
	_, r := k.node(b, "one", ch)
	given := &fanfare.Publication{Position: fanfare.Position{Offset: 7, Epoch: "old"}, Data: []byte(data(1))}
	pos, err := a.Publish(k.Context(), ch, given, fanfare.StoreOptions{})
	require.NoError(k, err)
	require.Equal(k, fanfare.Position{}, pos)
	require.Equal(k, fanfare.Position{}, given.Position)
	p := r.got(ch, 1)[0]
	require.Equal(k, fanfare.Position{}, p.Position)
	require.Equal(k, data(1), string(p.Data))

	top := k.publish(a, ch, data(2), history)
	require.EqualValues(k, 1, top.Offset)
	k.publish(a, ch, data(3), fanfare.History{})
	require.Equal(k, []string{data(1), data(2), data(3)}, r.data(ch, 3))
	h := k.read(b, ch, fanfare.HistoryQuery{Limit: -1})
	require.Equal(k, top, h.Position)
	require.Equal(k, []uint64{1}, offsets(h.Publications))
}

func withoutHistoryInOrder(k *kit) {
	a, b := k.brokers()
	ch := k.channel("x")
	_, r := k.node(b, "one", ch)
	var want []string
	for i := range 200 {
		k.publish(a, ch, data(i), fanfare.History{})
		want = append(want, data(i))
	}
	require.Equal(k, want, r.data(ch, 200))
}

func anyNameAnyData(k *kit) {
	a, b := k.brokers()
	binary := make([]byte, 256)
	for i := range binary {
		binary[i] = byte(i)
	}
	for i, name := range []string{"plain", "a b", "a.b", "*", "news.>", "{x}", "[a-z]?", `"q'`, `back\slash`, "ü→😀", "line\nfeed", "a:b:c", "%s%d", strings.Repeat("x", 200)} {
		ch := k.channel(name)
		_, r := k.node(b, fmt.Sprint(i), ch)
		for n, payload := range [][]byte{binary, []byte(strings.Repeat("long ", 50_000)), {}, {0}} {
			_, err := a.Publish(k.Context(), ch, &fanfare.Publication{Data: payload}, fanfare.StoreOptions{History: history})
			require.NoError(k, err, name)
			require.Equal(k, string(payload), string(r.got(ch, n+1)[n].Data), name)
		}
		require.Equal(k, upTo(1, 4), k.all(b, ch), name)
	}
}

func membershipReachesAllNodes(k *kit) {
	a, b := k.brokers()
	ch := k.channel("x")
	_, one := k.node(a, "one", ch)
	_, two := k.node(b, "two", ch)
	_, other := k.node(b, "three", k.channel("y"))
	var want []fanfare.Membership
	for i := range 50 {
		m := fanfare.Membership{Joined: i%2 == 0, Info: fanfare.ClientInfo{
			User: "u", Client: fmt.Sprint(i / 2), ConnInfo: []byte(`{"a":1}`), ChanInfo: []byte(`{"b":2}`),
		}}
		want = append(want, m)
		require.NoError(k, a.PublishMembership(k.Context(), ch, m))
	}
	require.Equal(k, want, one.members(ch, 50))
	require.Equal(k, want, two.members(ch, 50))
	require.Zero(k, other.count())
	require.Empty(k, k.all(a, ch))
}

func tenThousandChannels(k *kit) {
	const channels = 10_000
	a, b := k.brokers()
	l, r := k.node(b, "one")
	name := func(i int) string { return k.channel(fmt.Sprint(i)) }
	concurrently(16, func(w int) {
		for i := w; i < channels; i += 16 {
			assert.NoError(k, l.Subscribe(k.Context(), name(i)))
		}
	})
	concurrently(16, func(w int) {
		for i := w; i < channels; i += 16 {
			pos, err := a.Publish(k.Context(), name(i), &fanfare.Publication{Data: []byte(data(i))}, fanfare.StoreOptions{History: history})
			assert.NoError(k, err)
			assert.EqualValues(k, 1, pos.Offset)
		}
	})
	for i := range channels {
		require.Equal(k, []string{data(i)}, r.data(name(i), 1))
	}
	concurrently(16, func(w int) {
		for i := w; i < channels; i += 16 {
			assert.NoError(k, l.Unsubscribe(k.Context(), name(i)))
		}
	})
	require.Equal(k, channels, r.count())
}
