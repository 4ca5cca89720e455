package fanfare_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare"
	"github.com/fanfare-go/fanfare/internal/protocol"
	"github.com/fanfare-go/fanfare/transport"
)

// filtered is a channel with history that lets clients choose.
var filtered = fanfare.ChannelOptions{Public: true, TagsFilter: true, History: fanfare.History{Size: 10, TTL: time.Hour}}

// leaf is a filter with one comparison.
func leaf(key, cmp, val string) *protocol.FilterNode {
	return &protocol.FilterNode{Key: key, Cmp: cmp, Val: val}
}

// wants asks for the publications that pass.
func wants(f *protocol.FilterNode) order { return order{filter: f} }

// publishTagged publishes numbers, each with its tag: "3 red" is 3 with color=red.
func publishTagged(t *testing.T, node *fanfare.Node, items ...string) {
	t.Helper()
	for _, item := range items {
		data, color, tagged := strings.Cut(item, " ")
		var opts []fanfare.PublishOption
		if tagged {
			opts = append(opts, fanfare.WithTags(map[string]string{"color": color}))
		}
		_, err := node.Publish(t.Context(), "x", []byte(data), opts...)
		require.NoError(t, err)
	}
}

var onlyRed = leaf("color", "eq", "red")

func TestTagsFilter_Spec12_WhatIsRefused(t *testing.T) {
	inBothEncodings(t, "not offered", func(t *testing.T, e transport.Encoding) {
		node := startNode(t)
		node.Channel("x", room)
		r := read(t, node, e)
		require.Equal(t, fanfare.ErrBadRequest.Code, r.subscribe("x", wants(onlyRed)).code)
		require.Zero(t, r.subscribe("x", order{}).code, "the channel is free again")
	})
	malformed := map[string]*protocol.FilterNode{
		"empty":           {},
		"unknown op":      {Op: "xor", Nodes: []*protocol.FilterNode{onlyRed}},
		"unknown cmp":     leaf("color", "is", "red"),
		"no val":          leaf("color", "eq", ""),
		"val and vals":    {Key: "color", Cmp: "in", Val: "red", Vals: []string{"red"}},
		"no key":          leaf("", "eq", "red"),
		"and of nothing":  {Op: "and"},
		"not of two":      {Op: "not", Nodes: []*protocol.FilterNode{onlyRed, onlyRed}},
		"wrong deep down": {Op: "and", Nodes: []*protocol.FilterNode{onlyRed, {Op: "not", Nodes: []*protocol.FilterNode{leaf("a", "lt", "")}}}},
		"too many nodes":  {Op: "or", Nodes: make([]*protocol.FilterNode, 100)},
		"overlong":        leaf("color", "eq", strings.Repeat("x", 17_000)),
	}
	for i := range malformed["too many nodes"].Nodes {
		malformed["too many nodes"].Nodes[i] = onlyRed
	}
	deep := onlyRed
	for range 200 {
		deep = &protocol.FilterNode{Op: "not", Nodes: []*protocol.FilterNode{deep}}
	}
	malformed["too deep"] = &protocol.FilterNode{Op: "not", Nodes: []*protocol.FilterNode{deep}}
	inBothEncodings(t, "malformed", func(t *testing.T, e transport.Encoding) {
		asked := 0
		node := startNode(t)
		o := filtered
		o.Subscribe = func(ctx context.Context, r *fanfare.SubscribeRequest) (fanfare.SubscribeReply, error) {
			asked++
			return fanfare.SubscribeReply{}, nil
		}
		node.Channel("x", o)
		r := read(t, node, e)
		for name, f := range malformed {
			require.Equal(t, fanfare.ErrBadRequest.Code, r.subscribe("x", wants(f)).code, name)
		}
		require.Zero(t, asked, "the app is not asked about what makes no sense")
		require.Zero(t, r.subscribe("x", wants(onlyRed)).code)
		require.Equal(t, 1, asked)
	})
}

func TestTagsFilter_Live(t *testing.T) {
	for name, o := range map[string]fanfare.ChannelOptions{"with positions": filtered, "without": {Public: true, TagsFilter: true}} {
		inBothEncodings(t, name, func(t *testing.T, e transport.Encoding) {
			node := startNode(t)
			node.Channel("x", o)
			red, all, rest := read(t, node, e), read(t, node, e), read(t, node, e)
			red.subscribe("x", wants(onlyRed))
			all.subscribe("x", order{})
			rest.subscribe("x", wants(&protocol.FilterNode{Op: "not", Nodes: []*protocol.FilterNode{onlyRed}}))
			publishTagged(t, node, "1 red", "2", "3 blue", "4 blue", "5 red")
			require.Equal(t, []string{"1", "5"}, red.texts("x"))
			require.Equal(t, []string{"2", "3", "4"}, rest.texts("x"))
			require.Equal(t, []string{"1", "2", "3", "4", "5"}, all.texts("x"))
		})
	}
}

// What is filtered out counts for the position: a hole in what the client sees is no gap, and a gap is one.
func TestTagsFilter_PositionAndGaps(t *testing.T) {
	inBothEncodings(t, "joins go on behind a position that the client has not seen", func(t *testing.T, e transport.Encoding) {
		node := startNode(t)
		o := filtered
		o.History.Size = 1
		node.Channel("x", o)
		r := read(t, node, e)
		reply := r.subscribe("x", wants(onlyRed))
		publishTagged(t, node, "1 red", "2", "3", "4")
		r.unsubscribe("x")
		// The client stands at 1, of which nothing is kept any more: on the unfiltered stream it is not recovered.
		again := r.subscribe("x", order{recover: true, at: fanfare.Position{Offset: 1, Epoch: reply.at.Epoch}, filter: onlyRed})
		require.False(t, again.recovered)
		require.EqualValues(t, 4, again.at.Offset)
	})
	inBothEncodings(t, "a gap in what is filtered out", func(t *testing.T, e transport.Encoding) {
		lose := true
		broker := &bentBroker{fanfare.NewMemoryBroker(fanfare.MemoryBrokerConfig{}), func(p *fanfare.Publication) []*fanfare.Publication {
			if p.Offset == 2 && lose {
				return nil
			}
			return []*fanfare.Publication{p}
		}}
		t.Cleanup(func() { require.NoError(t, broker.Close()) })
		node := startNode(t, func(c *fanfare.Config) { c.Broker = broker })
		o := filtered
		o.History.Size = 1 // so that it cannot be repaired
		node.Channel("x", o)
		r := read(t, node, e)
		r.subscribe("x", wants(onlyRed))
		publishTagged(t, node, "1 red", "2", "3 red")
		require.Equal(t, []string{"1"}, r.texts("x"))
		require.Equal(t, []string{"x unsubscribe 2500"}, r.pushes)
	})
}

func TestTagsFilter_Recovery(t *testing.T) {
	inBothEncodings(t, "only what passes, judged by all", func(t *testing.T, e transport.Encoding) {
		node := startNode(t)
		node.Channel("x", filtered)
		publishTagged(t, node, "1 red", "2 blue", "3 red", "4", "5 red", "6 blue")
		r := read(t, node, e)
		reply := r.subscribe("x", order{recover: true, at: fanfare.Position{Offset: 1}, filter: onlyRed})
		require.True(t, reply.recovered)
		require.EqualValues(t, 1, reply.at.Offset)
		got := r.take("x")
		require.Equal(t, []string{"3", "5"}, texts(got))
		require.EqualValues(t, 5, got[1].offset)
		publishTagged(t, node, "7", "8 red")
		require.Equal(t, []string{"8"}, r.texts("x"))
		other := read(t, node, e)
		require.True(t, other.subscribe("x", order{recover: true, at: fanfare.Position{Offset: 1}}).recovered)
		require.Len(t, other.take("x"), 7, "what one client does not want, others who are answered by the same read do")
	})
	inBothEncodings(t, "what came during the subscribe", func(t *testing.T, e transport.Encoding) {
		broker := &gatedBroker{fanfare.NewMemoryBroker(fanfare.MemoryBrokerConfig{}), make(chan struct{})}
		t.Cleanup(func() { require.NoError(t, broker.Close()) })
		node := startNode(t, func(c *fanfare.Config) { c.Broker = broker })
		node.Channel("x", filtered)
		r := read(t, node, e)
		r.ask("x", order{recover: true, filter: onlyRed})
		synctest.Wait()
		publishTagged(t, node, "1", "2 red", "3")
		close(broker.gate)
		synctest.Wait()
		publishTagged(t, node, "4", "5 red")
		require.Equal(t, []string{"2", "5"}, r.texts("x"))
	})
	inBothEncodings(t, "without positions, what came during the subscribe", func(t *testing.T, e transport.Encoding) {
		gate := make(chan struct{})
		node := startNode(t, func(c *fanfare.Config) { c.Presence = &gatedPresence{fanfare.NewMemoryPresence(), gate} })
		node.Channel("x", fanfare.ChannelOptions{Public: true, TagsFilter: true, Presence: true})
		r := read(t, node, e)
		r.ask("x", wants(onlyRed))
		synctest.Wait()
		publishTagged(t, node, "1", "2 red", "3")
		close(gate)
		synctest.Wait()
		publishTagged(t, node, "4 red")
		require.Equal(t, []string{"2", "4"}, r.texts("x"))
	})
	inBothEncodings(t, "what does not pass takes no room", func(t *testing.T, e transport.Encoding) {
		node := startNode(t, func(c *fanfare.Config) { c.MaxQueueSize = 1000 })
		node.Channel("x", filtered)
		publishTagged(t, node, `"`+strings.Repeat("x", 400)+`"`, `"`+strings.Repeat("y", 400)+`"`, "3 red")
		r := read(t, node, e)
		require.True(t, r.subscribe("x", order{recover: true, filter: onlyRed}).recovered)
		require.Equal(t, []string{"3"}, r.texts("x"))
	})
}

// Spec 10.6: with a filter, the newest publication that passes it.
func TestTagsFilter_CacheRecovery(t *testing.T) {
	cache := filtered
	cache.Recovery = fanfare.RecoveryCacheAlways
	for name, row := range map[string]struct {
		items     []string
		recovered bool
		want      []string
		at        uint64
	}{
		"the newest passes":       {[]string{"1", "2 red"}, true, []string{"2"}, 0},
		"an older one passes":     {[]string{"1 red", "2 red", "3", "4 blue"}, true, []string{"2"}, 0},
		"none passes":             {[]string{"1", "2 blue"}, true, nil, 2},
		"nothing was published":   {nil, false, nil, 0},
		"it is older than kept":   {[]string{"1 red", "2", "3", "4", "5", "6", "7", "8", "9", "10", "11"}, true, nil, 11},
		"the last one that is":    {[]string{"1", "2 red", "3", "4", "5", "6", "7", "8", "9", "10", "11"}, true, []string{"2"}, 0},
		"red before many of blue": {[]string{"1 red", "2 blue", "3 blue", "4 blue"}, true, []string{"1"}, 0},
	} {
		inBothEncodings(t, name, func(t *testing.T, e transport.Encoding) {
			node := startNode(t)
			node.Channel("x", cache)
			publishTagged(t, node, row.items...)
			r := read(t, node, e)
			reply := r.subscribe("x", wants(onlyRed))
			require.Equal(t, row.recovered, reply.recovered)
			require.Equal(t, row.at, reply.at.Offset)
			require.Equal(t, row.want, r.texts("x"))
			publishTagged(t, node, "20", "21 red")
			require.Equal(t, []string{"21"}, r.texts("x"))
		})
	}
	inBothEncodings(t, "more is kept than is read", func(t *testing.T, e transport.Encoding) {
		node := startNode(t, func(c *fanfare.Config) { c.MaxRecovered = 3 })
		node.Channel("x", cache)
		publishTagged(t, node, "1 red", "2", "3", "4")
		r := read(t, node, e)
		reply := r.subscribe("x", wants(onlyRed))
		require.True(t, reply.was)
		require.False(t, reply.recovered, "the client's newest may be among those that were not read, and it must not believe otherwise")
		require.EqualValues(t, 4, reply.at.Offset)
	})
	inBothEncodings(t, "what came during the subscribe", func(t *testing.T, e transport.Encoding) {
		broker := &gatedBroker{fanfare.NewMemoryBroker(fanfare.MemoryBrokerConfig{}), make(chan struct{})}
		t.Cleanup(func() { require.NoError(t, broker.Close()) })
		node := startNode(t, func(c *fanfare.Config) { c.Broker = broker })
		node.Channel("x", cache)
		publishTagged(t, node, "1 red")
		r := read(t, node, e)
		r.ask("x", wants(onlyRed))
		synctest.Wait()
		publishTagged(t, node, "2 red", "3 red", "4")
		close(broker.gate)
		synctest.Wait()
		publishTagged(t, node, "5", "6 red")
		require.Equal(t, []string{"3", "6"}, r.texts("x"))
	})
	inBothEncodings(t, "nothing new", func(t *testing.T, e transport.Encoding) {
		node := startNode(t)
		node.Channel("x", cache)
		publishTagged(t, node, "1 red", "2")
		top, err := node.History(t.Context(), "x", fanfare.HistoryQuery{})
		require.NoError(t, err)
		r := read(t, node, e)
		require.True(t, r.subscribe("x", order{recover: true, at: top.Position, filter: onlyRed}).recovered)
		require.Empty(t, r.texts("x"))
	})
}

// reach keeps what an observer is told of publications.
type reach struct {
	fanfare.NopObserver
	mu   sync.Mutex // guards below
	subs []int
}

func (c *reach) Published(_ string, _, subscribers int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.subs = append(c.subs, subscribers)
}

// A publication counts for those who got it. With many subscribers some of it is joined, with one it is not.
func TestTagsFilter_ObserverCountsWhoGotIt(t *testing.T) {
	for _, each := range []int{1, 40} {
		inBothEncodings(t, strconv.Itoa(each), func(t *testing.T, e transport.Encoding) {
			observer := &reach{}
			node := startNode(t, func(c *fanfare.Config) { c.Observer = observer })
			node.Channel("x", filtered)
			for range each {
				read(t, node, e).subscribe("x", wants(onlyRed))
				read(t, node, e).subscribe("x", order{})
			}
			publishTagged(t, node, "1 red", "2", "3 red", "4 red")
			synctest.Wait()
			require.Equal(t, []int{2 * each, each, 2 * each, 2 * each}, observer.subs)
		})
	}
}

// Many clients with filters of their own see exactly what they chose, whoever else is there and however it was joined.
func TestTagsFilter_EveryoneSeesTheirs(t *testing.T) {
	for seed := range uint64(5) {
		inBubble(t, strconv.Itoa(int(seed)), func(t *testing.T) {
			rng := rand.New(rand.NewPCG(seed, 9))
			node := startNode(t)
			node.Channel("x", filtered)
			colors := []string{"red", "blue", "green", "red"}
			type member struct {
				*reader
				color string
				want  []string
			}
			var members []*member
			for i := range 80 {
				e := []transport.Encoding{transport.JSON, transport.Protobuf}[i%2]
				m := &member{reader: read(t, node, e), color: colors[rng.IntN(3)]}
				o := order{}
				if i%4 > 0 {
					o.filter = leaf("color", "eq", m.color)
				} else {
					m.color = ""
				}
				m.subscribe("x", o)
				members = append(members, m)
			}
			n := 0
			for range 50 {
				for range rng.IntN(6) {
					n++
					color := colors[rng.IntN(len(colors))]
					publishTagged(t, node, fmt.Sprintf("%d %s", n, color))
					for _, m := range members {
						if m.color == "" || m.color == color {
							m.want = append(m.want, strconv.Itoa(n))
						}
					}
				}
				if rng.IntN(3) == 0 {
					synctest.Wait()
				}
			}
			for _, m := range members {
				require.Equal(t, m.want, m.texts("x"))
				require.Empty(t, m.pushes)
			}
		})
	}
}
