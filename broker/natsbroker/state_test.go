package natsbroker

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare"
	"github.com/fanfare-go/fanfare/internal/stream"
)

// channelOfRecords is what a server has of one channel, without the server.
type channelOfRecords struct {
	t       *testing.T
	now     int64
	seq     uint64
	head    head
	records []storedRecord
}

type storedRecord struct {
	seq  uint64
	data []byte
}

func (c *channelOfRecords) store(k kind, s state, below uint64) {
	c.seq += 1 + rand.Uint64N(3) // others store, too
	data := message{kind: k, state: s}.append(nil)
	parsed, err := parseMessage(data)
	require.NoError(c.t, err)
	c.head, err = parsed.head(c.seq)
	require.NoError(c.t, err)
	c.records = append(c.records, storedRecord{c.seq, data})
	if below > 0 {
		c.records = slices.DeleteFunc(c.records, func(r storedRecord) bool { return r.seq < below })
	}
}

// read returns the offsets that a query finds, and how many records it looked at.
func (c *channelOfRecords) read(q fanfare.HistoryQuery) (offsets []uint64, looked int) {
	r, n := newReader(c.head, q, c.now)
	if n == 0 {
		return nil, 0
	}
	for _, record := range c.records {
		if record.seq < c.head.seqBefore(r.next) {
			continue
		}
		looked++
		if !r.take(&nats.Msg{Data: record.data}, record.seq) {
			break
		}
	}
	require.NoError(c.t, r.complete())
	require.False(c.t, r.trimmed)
	for _, p := range r.pubs {
		offsets = append(offsets, p.Offset)
	}
	if q.Reverse {
		slices.Reverse(offsets)
	}
	return offsets, looked
}

func TestState_KeepsWhatTheStreamInMemoryKeeps(t *testing.T) {
	ttls := []time.Duration{time.Millisecond, 20 * time.Millisecond, time.Second, time.Hour}
	sizes := []int{1, 3, 10, 100, 1000}
	for range 12 {
		base := time.UnixMicro(1_700_000_000_000_000)
		c := &channelOfRecords{t: t, now: base.UnixMicro()}
		want := stream.New[uint64]("e", base)
		size, ttl := 10, time.Hour
		for range 500 {
			c.now += rand.Int64N(3000)
			at := time.UnixMicro(c.now)
			switch rand.IntN(40) {
			case 0:
				size = sizes[rand.IntN(len(sizes))]
			case 1:
				ttl = ttls[rand.IntN(len(ttls))]
			case 2:
				c.now += rand.Int64N(2_000_000)
			case 3:
				c.store(kindMarker, c.head.marker(c.now), 0)
			case 4:
				if rand.IntN(5) == 0 {
					c.store(kindMarker, c.head.cleared(c.now), c.seq+1)
					want.Clear()
				}
			default:
				next, below := c.head.next(c.now, size, ttl)
				next.epoch = "e"
				c.store(kindPublication, next, below)
				want.Append(at, next.top, size, ttl)
			}
			q := fanfare.HistoryQuery{Limit: rand.IntN(30) - 1, Reverse: rand.IntN(2) == 0}
			sq := stream.Query{Limit: q.Limit, Reverse: q.Reverse}
			if rand.IntN(3) > 0 {
				q.Since = &fanfare.Position{Offset: rand.Uint64N(c.head.top + 3)}
				sq.After, sq.HasAfter = q.Since.Offset, true
			}
			got, _ := c.read(q)
			require.Equal(t, want.Read(time.UnixMicro(c.now), sq), got, "%+v", q)
			require.Equal(t, want.Top(), c.head.top)
		}
	}
}

func TestState_LittleIsStoredAndLookedAtBeyondWhatIsWanted(t *testing.T) {
	for _, size := range []int{1, 10, 100, 2000} {
		c := &channelOfRecords{t: t, now: 1}
		for range 4*size + 200 {
			next, below := c.head.next(c.now, size, time.Hour)
			c.store(kindPublication, next, below)
			require.LessOrEqual(t, len(c.records), 3*size+3*minPurge)
		}
		for _, n := range []int{1, 10, 100, size} {
			n = min(n, size)
			got, looked := c.read(fanfare.HistoryQuery{Limit: n, Reverse: true})
			require.Len(t, got, n)
			require.LessOrEqual(t, looked, 4*n, "the newest %d of %d", n, size)
		}
		require.Less(t, len(message{state: c.head.state}.append(nil)), 500)
	}
}

func TestState_ManyAgesAreBounded(t *testing.T) {
	c := &channelOfRecords{t: t, now: 1}
	for i := range 1000 {
		c.now += 1000
		next, below := c.head.next(c.now, 1000, time.Duration(i+1)*time.Hour)
		c.store(kindPublication, next, below)
		require.LessOrEqual(t, len(c.head.limits), maxLimits)
	}
	all, _ := c.read(fanfare.HistoryQuery{Limit: -1})
	require.Len(t, all, 1000)
	c.now += (972 * time.Hour).Microseconds()
	kept, _ := c.read(fanfare.HistoryQuery{Limit: -1})
	require.NotEmpty(t, kept)
	require.GreaterOrEqual(t, kept[0], uint64(972), "nothing is kept longer than asked for")
	require.EqualValues(t, 1000, kept[len(kept)-1])
}

func TestState_TimeNeverGoesBack(t *testing.T) {
	first, _ := head{}.next(100, 10, time.Second)
	second, _ := head{first, 1, true}.next(50, 10, time.Second)
	require.EqualValues(t, 100, second.time)
}

func TestState_LifetimeHoldsTheLongestAge(t *testing.T) {
	s, _ := head{}.next(1, 10, time.Duration(1<<63-1))
	require.Positive(t, s.lifetime(time.Hour))
	s, _ = head{}.next(1, 10, time.Minute)
	require.Equal(t, time.Hour+time.Minute, s.lifetime(time.Hour))
	require.Equal(t, time.Hour, state{}.lifetime(time.Hour))
}
