package redisbroker_test

import (
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare"
	"github.com/fanfare-go/fanfare/broker/internal/redistest"
	"github.com/fanfare-go/fanfare/broker/redisbroker"
)

const (
	metaOfX   = "fanfare:m:{.x}"
	streamOfX = "fanfare:s:{.x}"
)

func TestStream_ALifeOfTheServerIsAnEpoch(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t, "--appendonly yes", "--appendfsync no")
	told := connect(t, at(server.Addr()))
	sure := configured(t, redisbroker.Config{Servers: []redisbroker.Server{at(server.Addr())}, Durable: true, Prefix: "durable"})
	first, firstSure := publish(t, told, "x", "1"), publish(t, sure, "x", "1")
	require.Equal(t, first.Epoch, publish(t, told, "x", "2").Epoch)
	server.Kill()
	server.Start()

	eventually(t, "the server is back", func() bool {
		_, err := told.History(t.Context(), "x", fanfare.HistoryQuery{})
		_, errSure := sure.History(t.Context(), "x", fanfare.HistoryQuery{})
		return err == nil && errSure == nil
	})
	h := read(t, told, "x")
	require.NotEqual(t, first.Epoch, h.Epoch)
	require.EqualValues(t, 2, h.Offset, "offsets go on")
	require.Equal(t, fanfare.Position{Offset: 3, Epoch: h.Epoch}, publish(t, told, "x", "3"))
	require.Equal(t, []string{"1", "2", "3"}, kept(t, told, "x"), "what is stored stays")
	require.Equal(t, fanfare.Position{Offset: 2, Epoch: firstSure.Epoch}, publish(t, sure, "x", "2"), "nothing is lost")
}

func TestStream_LosesItsKeys(t *testing.T) {
	t.Parallel()
	server, prefix := redistest.Shared(t)
	b := configured(t, redisbroker.Config{Servers: []redisbroker.Server{at(server.Addr())}, Prefix: prefix})
	meta, stream := prefix+":m:{.x}", prefix+":s:{.x}"

	first := publish(t, b, "x", "1")
	server.CLI("DEL", meta)
	second := publish(t, b, "x", "2")
	require.EqualValues(t, 1, second.Offset, "what is known of the stream was evicted")
	require.NotEqual(t, first.Epoch, second.Epoch)
	require.Equal(t, []string{"2"}, kept(t, b, "x"))

	server.CLI("DEL", stream)
	require.Empty(t, kept(t, b, "x"))
	require.Equal(t, fanfare.Position{Offset: 2, Epoch: second.Epoch}, publish(t, b, "x", "3"), "the publications were evicted")
	require.Equal(t, []string{"3"}, kept(t, b, "x"))

	server.CLI("DEL", meta, stream)
	require.Zero(t, read(t, b, "x").Offset)
	require.NotEqual(t, second.Epoch, read(t, b, "x").Epoch)
}

func TestStream_ScriptsAreForgotten(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	b := connect(t, at(server.Addr()))
	for i := range 3 {
		require.EqualValues(t, i+1, publish(t, b, "x", "1").Offset)
		server.CLI("SCRIPT", "FLUSH")
		require.EqualValues(t, i+1, read(t, b, "x").Offset)
		server.CLI("SCRIPT", "FLUSH")
	}
	require.NoError(t, b.RemoveHistory(t.Context(), "x"))
	require.Empty(t, kept(t, b, "x"))
}

// Ages may change with every publication: the rule is that of package stream, which the memory broker uses.
func TestStream_AgesThatRiseAndFall(t *testing.T) {
	t.Parallel()
	server, prefix := redistest.Shared(t)
	b := configured(t, redisbroker.Config{Servers: []redisbroker.Server{at(server.Addr())}, Prefix: prefix})
	add := func(data string, age time.Duration) {
		_, err := b.Publish(t.Context(), "x", &fanfare.Publication{Data: []byte(data)}, fanfare.StoreOptions{History: fanfare.History{Size: 5, TTL: age}})
		require.NoError(t, err)
	}
	ages := func() string { return server.CLI("HMGET", prefix+":m:{.x}", "g", "t") }
	add("1", time.Hour)
	add("2", 2*time.Hour)
	add("3", 3*time.Hour)
	require.Equal(t, "1:3600000,2:7200000,\n10800000", ages())
	add("4", 2*time.Hour)
	require.Equal(t, "1:3600000,\n7200000", ages(), "what was to live longer does not")
	for i := range 20 {
		add("more", time.Duration(i+3)*time.Hour)
	}
	require.LessOrEqual(t, strings.Count(ages(), ":"), 5, "ages of what is gone are forgotten")
	add("short", time.Minute)
	require.Equal(t, "60000", strings.TrimSpace(ages()))
	require.Len(t, kept(t, b, "x"), 5)
	require.NoError(t, b.RemoveHistory(t.Context(), "x"))
	add("last", time.Hour)
	require.Equal(t, []string{"last"}, kept(t, b, "x"))
}

func TestStream_KeysOfServersLiveAsLongAsTheyAreNeeded(t *testing.T) {
	t.Parallel()
	server, prefix := redistest.Shared(t)
	b := configured(t, redisbroker.Config{Servers: []redisbroker.Server{at(server.Addr())}, Prefix: prefix, StreamTTL: time.Hour})
	lives := func(key string) (left time.Duration) {
		var ms int64
		_, err := fmt.Sscan(server.CLI("PTTL", prefix+key), &ms)
		require.NoError(t, err)
		return time.Duration(ms) * time.Millisecond
	}
	read(t, b, "read")
	require.Greater(t, lives(":m:{.read}"), 59*time.Minute, "a stream that was only read")
	publish(t, b, "x", "1")
	require.Greater(t, lives(":m:{.x}"), 59*time.Minute)
	require.Greater(t, lives(":s:{.x}"), 59*time.Second)
	require.Less(t, lives(":s:{.x}"), 10*time.Minute)

	_, err := b.Publish(t.Context(), "x", &fanfare.Publication{Data: []byte("2")}, fanfare.StoreOptions{History: fanfare.History{Size: 10, TTL: 48 * time.Hour}})
	require.NoError(t, err)
	require.Greater(t, lives(":s:{.x}"), 47*time.Hour)
	require.Greater(t, lives(":m:{.x}"), 47*time.Hour, "the top lives as long as the publications")

	_, err = b.Publish(t.Context(), "y", &fanfare.Publication{Data: []byte("1")}, fanfare.StoreOptions{IdempotencyKey: "k", IdempotencyTTL: time.Minute})
	require.NoError(t, err)
	key := server.CLI("KEYS", prefix+":r:{.y}*")
	require.NotEmpty(t, key)
	require.Empty(t, server.CLI("KEYS", prefix+":?:{.y}"), "what is not stored leaves nothing else")
}

func TestStream_TrimsWhatIsOldWhilePublishing(t *testing.T) {
	t.Parallel()
	server, prefix := redistest.Shared(t)
	b := configured(t, redisbroker.Config{Servers: []redisbroker.Server{at(server.Addr())}, Prefix: prefix})
	h := fanfare.StoreOptions{History: fanfare.History{Size: 100_000, TTL: 50 * time.Millisecond}}
	add := func() {
		_, err := b.Publish(t.Context(), "x", &fanfare.Publication{Data: []byte("1")}, h)
		require.NoError(t, err)
	}
	for range 200 {
		add()
	}
	eventually(t, "the old ones are gone though nobody reads", func() bool {
		add()
		return server.CLI("XRANGE", prefix+":s:{.x}", "-", "200") == ""
	})
}

func TestStream_VersionsOfAnySize(t *testing.T) {
	t.Parallel()
	server, prefix := redistest.Shared(t)
	b := configured(t, redisbroker.Config{Servers: []redisbroker.Server{at(server.Addr())}, Prefix: prefix})
	offset := func(version uint64) uint64 {
		pos, err := b.Publish(t.Context(), "x", &fanfare.Publication{Data: []byte("1")}, fanfare.StoreOptions{History: history, Version: version})
		require.NoError(t, err)
		return pos.Offset
	}
	for i, version := range []uint64{9, 10, 1 << 53, 1<<53 + 1, math.MaxUint64 - 1, math.MaxUint64} {
		require.EqualValues(t, i+1, offset(version), "%d", version)
		require.EqualValues(t, i+1, offset(version), "%d again", version)
		require.EqualValues(t, i+1, offset(9), "an old one")
	}
}

func TestStream_AClockThatIsSetBack(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	b := connect(t, at(server.Addr()))
	publish(t, b, "x", "1")
	server.CLI("HSET", metaOfX, "c", fmt.Sprint(time.Now().Add(30*time.Second).UnixMilli()), "s", "0")
	require.EqualValues(t, 2, publish(t, b, "x", "2").Offset)
	require.EqualValues(t, 3, publish(t, b, "x", "3").Offset)
	require.Equal(t, []string{"1", "2", "3"}, kept(t, b, "x"))
	require.Equal(t, "3", server.CLI("XLEN", streamOfX))

	var expires, left int64
	_, err := fmt.Sscan(server.CLI("HGET", metaOfX, "s")+" "+server.CLI("PTTL", streamOfX), &expires, &left)
	require.NoError(t, err)
	require.InDelta(t, time.Now().UnixMilli()+left, expires, 10_000, "it is known when Redis lets go of the publications")
}

func TestStream_KeptForEver(t *testing.T) {
	t.Parallel()
	server, prefix := redistest.Shared(t)
	b := configured(t, redisbroker.Config{Servers: []redisbroker.Server{at(server.Addr())}, Prefix: prefix, StreamTTL: math.MaxInt64})
	o := fanfare.StoreOptions{History: fanfare.History{Size: 10, TTL: math.MaxInt64}, IdempotencyKey: "k", IdempotencyTTL: math.MaxInt64}
	for range 2 {
		pos, err := b.Publish(t.Context(), "x", &fanfare.Publication{Data: []byte("1")}, o)
		require.NoError(t, err)
		require.EqualValues(t, 1, pos.Offset)
	}
	require.Equal(t, []string{"1"}, kept(t, b, "x"))
}
