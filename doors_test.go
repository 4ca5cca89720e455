package fanfare_test

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare"
)

func requireHeard(t *testing.T, v visit, first, last int) {
	t.Helper()
	for i := first; i <= last; i++ {
		data, err := v.next()
		require.NoError(t, err)
		require.Equal(t, strconv.Itoa(i), data)
	}
}

// house is where the doors lead: a node, or several of one broker, behind a URL.
type house struct {
	url   string
	nodes []*fanfare.Node
}

// node is any of them.
func (h *house) node() *fanfare.Node { return h.nodes[rand.IntN(len(h.nodes))] }

// publishCount publishes first … last as JSON numbers.
func (h *house) publishCount(t *testing.T, channel string, first, last int) {
	t.Helper()
	for i := first; i <= last; i++ {
		requirePublish(t, h.node(), channel, strconv.Itoa(i))
	}
}

func oneNode(t *testing.T) *house {
	t.Helper()
	a := plain(t, func(c *fanfare.Config) { c.MaxRecovered = 5000 }) // the publisher is fast
	return &house{a.url, []*fanfare.Node{a.Node}}
}

func TestDoors_Conversation(t *testing.T) {
	t.Parallel()
	converse(t, oneNode(t))
}

// converse has the same conversation by every door.
func converse(t *testing.T, h *house) {
	for name, open := range doorsByName {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			channel := "talk:" + strconv.Itoa(int(rand.Uint32()))
			v, err := open(ctx, h.url, "ann", channel, fanfare.Position{})
			require.NoError(t, err)
			go h.publishCount(t, channel, 1, 1000)
			requireHeard(t, v, 1, 500)
			present := func() fanfare.PresenceStats {
				stats, err := h.node().PresenceStats(ctx, channel)
				require.NoError(t, err)
				return stats
			}
			if name != "poll" { // which is there while it asks
				require.Equal(t, fanfare.PresenceStats{Clients: 1, Users: 1}, present())
			}
			requireHeard(t, v, 501, 1000)
			v.cut()
			eventually(t, func() bool { return present() == fanfare.PresenceStats{} }, "still present: %+v", func() any { return present() })

			h.publishCount(t, channel, 1001, 1050)
			back, err := open(ctx, h.url, "ann", channel, v.position())
			require.NoError(t, err)
			h.publishCount(t, channel, 1051, 1100)
			requireHeard(t, back, 1001, 1100)
			require.EqualValues(t, 1100, back.position().Offset)
			back.cut()
			eventually(t, func() bool { return present() == fanfare.PresenceStats{} }, "still present: %+v", func() any { return present() })
		})
	}
}

func TestDoors_Moving(t *testing.T) {
	t.Parallel()
	move(t, oneNode(t))
}

// move goes from door to door at the same position: who does so misses nothing, and gets nothing twice.
func move(t *testing.T, h *house) {
	names := slices.Sorted(maps.Keys(doorsByName))
	for seed := range uint64(3) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			rnd := rand.New(rand.NewPCG(seed, 4))
			channel := "talk:" + strconv.FormatUint(seed, 10)
			at, got := fanfare.Position{}, 0
			published := make(chan struct{})
			go func() { // waited for below
				defer close(published)
				for i := 1; i <= 3000 && ctx.Err() == nil; i++ {
					requirePublish(t, h.node(), channel, strconv.Itoa(i))
					if i%20 == 0 {
						time.Sleep(time.Millisecond)
					}
				}
			}()
			var way []string
			for got < 3000 {
				name := names[rnd.IntN(len(names))]
				way = append(way, name)
				v, err := doorsByName[name](ctx, h.url, "ann", channel, at)
				require.NoError(t, err, "%v", way)
				for n := rnd.IntN(60); n > 0 && got < 3000; n-- {
					data, err := v.next()
					require.NoError(t, err, "%v", way)
					number, err := strconv.Atoi(data)
					require.NoError(t, err)
					if got > 0 {
						require.Equal(t, got+1, number, "%v", way)
					}
					got = number
				}
				at = v.position()
				v.cut()
			}
			<-published
		})
	}
}
