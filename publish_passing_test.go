package fanfare_test

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare"
	"github.com/fanfare-go/fanfare/fanfaretest"
	"github.com/fanfare-go/fanfare/transport"
)

// publishPassing publishes without history.
func publishPassing(t *testing.T, node *fanfare.Node, channel string, data ...string) {
	t.Helper()
	for _, d := range data {
		require.Zero(t, requirePublishWith(t, node, channel, d, fanfare.WithoutHistory()))
	}
}

func TestPublish_WithoutHistory(t *testing.T) {
	inBubble(t, "subscribers with positions get it, and nothing moves", func(t *testing.T) {
		g := startGap(t, kept, 1)
		c := g.clients[0]
		publishPassing(t, g.Node, "x", `"a"`)
		g.publish(1, 1)
		publishPassing(t, g.Node, "x", `"b"`, `"c"`)
		at := requirePublish(t, g.Node, "x", `2`)
		require.Equal(t, []string{`x "a"`, "x 1", `x "b"`, `x "c"`, "x 2"}, events(c))
		require.NoError(t, c.Check())
		require.Equal(t, at, c.Position("x"))
		h, err := g.History(t.Context(), "x", fanfare.HistoryQuery{Limit: -1})
		require.NoError(t, err)
		require.Equal(t, []string{"1", "2"}, payloads(h.Publications))
		require.EqualValues(t, 2, h.Offset)
		g.requireReads(1) // this one: nobody takes it for a gap
	})
	inBubble(t, "it is not recovered, and not missed", func(t *testing.T) {
		g := startGap(t, kept, 0)
		at := requirePublish(t, g.Node, "x", `1`)
		publishPassing(t, g.Node, "x", `"a"`)
		c := fanfaretest.Connect(t, g.Node, "u")
		r := requireSubscribe(t, c, "x", fanfaretest.Recover(at))
		require.True(t, r.Recovered)
		require.Empty(t, r.Publications)
		require.NoError(t, c.Unsubscribe("x"))
		publishPassing(t, g.Node, "x", `"b"`)
		g.publish(2, 2)
		publishPassing(t, g.Node, "x", `"c"`)
		r = requireSubscribe(t, c, "x", fanfaretest.Recover(at))
		require.True(t, r.Recovered)
		require.Equal(t, []string{"2"}, payloads(r.Publications))
	})
	inBubble(t, "a cache stays what it was", func(t *testing.T) {
		o := kept
		o.Recovery = fanfare.RecoveryCacheAlways
		g := startGap(t, o, 1)
		g.publish(1, 1)
		publishPassing(t, g.Node, "x", `"a"`)
		require.Equal(t, []string{"x 1", `x "a"`}, events(g.clients[0]))
		r := requireSubscribe(t, fanfaretest.Connect(t, g.Node, "late"), "x")
		require.Equal(t, []string{"1"}, payloads(r.Publications))
	})
	inBubble(t, "an idempotency key works", func(t *testing.T) {
		g := startGap(t, kept, 1)
		for range 2 {
			requirePublishWith(t, g.Node, "x", `"a"`, fanfare.WithoutHistory(), fanfare.WithIdempotencyKey("key"))
		}
		require.Equal(t, []string{`x "a"`}, events(g.clients[0]))
	})
	inBubble(t, "in a channel without history it changes nothing", func(t *testing.T) {
		g := startGap(t, fanfare.ChannelOptions{Public: true}, 1)
		publishPassing(t, g.Node, "x", `"a"`)
		require.Equal(t, []string{`x "a"`}, events(g.clients[0]))
	})
}

// What comes while a subscription begins belongs behind its reply.
func TestPublish_WithoutHistory_Seam(t *testing.T) {
	for name, o := range map[string]order{
		"stream": {recover: true}, "deltas": {recover: true, delta: "fossil"}, "filter": {recover: true, filter: leaf("k", "nex", "")},
	} {
		inBothEncodings(t, name, func(t *testing.T, e transport.Encoding) {
			options := documents
			options.TagsFilter = true
			g := startGap(t, options, 0)
			r := read(t, g.Node, e)
			g.publish(1, 1)
			release := g.broker.hangHistory()
			r.ask("x", o)
			synctest.Wait()
			publishPassing(t, g.Node, "x", `"a"`)
			g.publish(2, 2)
			release()
			require.Equal(t, []string{"1", "2", `"a"`}, r.texts("x"))
			g.publish(3, 3)
			require.Equal(t, []string{"3"}, r.texts("x"))
		})
	}
	inBubble(t, "more than fits is counted", func(t *testing.T) {
		broker := newFaultBroker(t)
		node := slowNode(t, broker.config)
		c := fanfaretest.Connect(t, node.Node, "u")
		release := broker.hangHistory()
		require.NoError(t, c.Raw(`{"id":1000001,"subscribe":{"channel":"close"}}`))
		synctest.Wait()
		for range 100 {
			publishPassing(t, node.Node, "close", `"a"`)
		}
		requirePublish(t, node.Node, "close", `1`)
		release()
		received(t, c)
		require.Equal(t, 100, counted(node.tally, &node.tally.dropped, "close"), "what had come when there was no more room, and all after that")
		requirePublish(t, node.Node, "close", `2`)
		require.Equal(t, []string{"close 2"}, events(c))
	})
}

func TestPublish_WithoutHistory_Deltas(t *testing.T) {
	inBothEncodings(t, "no delta between what is part of the stream and what is not", func(t *testing.T, e transport.Encoding) {
		node := startNode(t)
		node.Channel("x", documents)
		r, other := read(t, node, e), read(t, node, e)
		require.True(t, r.subscribe("x", fossil).delta)
		other.subscribe("x", order{})
		var want []string
		for i, passing := range []bool{false, false, true, true, false, false, true} {
			if want = append(want, document(i)); passing {
				publishPassing(t, node, "x", document(i))
			} else {
				requirePublish(t, node, "x", document(i))
			}
		}
		requireRead(t, r, "FdFdFdF", want...)
		require.Equal(t, want, texts(other.take("x")))
	})
}

func TestPublish_WithoutHistory_Repair(t *testing.T) {
	inBubble(t, "it does not wait for a repair", func(t *testing.T) {
		g := startGap(t, kept, 1)
		g.broker.lose(2)
		release := g.broker.hangHistory()
		g.publish(1, 3)
		synctest.Wait()
		publishPassing(t, g.Node, "x", `"a"`)
		require.Equal(t, []string{"x 1", `x "a"`}, events(g.clients[0]))
		release()
		g.publish(4, 4)
		g.requireAll(2, 4)
		g.requireReads(1)
	})
	inBubble(t, "it does not hide that the last publication was lost", func(t *testing.T) {
		g := startGap(t, kept, 2, func(c *fanfare.Config) { c.PositionCheck = 10 * time.Second })
		g.broker.lose(3)
		g.publish(1, 3)
		g.requireAll(1, 2)
		for range 30 {
			time.Sleep(time.Second)
			publishPassing(t, g.Node, "x", `"a"`)
		}
		var stored []string
		for _, e := range events(g.clients[0]) {
			if e != `x "a"` {
				stored = append(stored, e)
			}
		}
		require.Equal(t, []string{"x 3"}, stored)
	})
}

func TestPublish_WithoutHistory_SlowReader(t *testing.T) {
	for _, channel := range []string{"close", "told", "cached"} {
		inBubble(t, "nothing that is stored is dropped for it, and nobody is sent away: "+channel, func(t *testing.T) {
			node := slowNode(t)
			quick := fanfaretest.Connect(t, node.Node, "quick")
			requireSubscribe(t, quick, channel)
			c := slowClient(t, node, channel)
			pour(t, node, channel, 1, 3)
			for i := range 200 {
				publishPassing(t, node.Node, channel, fmt.Sprintf(`"a %d"`, i))
				synctest.Wait()
				require.LessOrEqual(t, node.Connection(c.ID()).QueuedBytes(), slowQueue)
			}
			require.Len(t, events(quick), 203)
			require.Positive(t, counted(node.tally, &node.tally.dropped, channel))
			c.Resume()
			got := events(c)
			require.Contains(t, got, channel+" 3", "the newest that is stored")
			if channel != "cached" {
				require.Equal(t, []string{channel + " 1", channel + " 2", channel + " 3", channel + ` "a 0"`}, got[:4])
			}
			pour(t, node, channel, 4, 4)
			require.Equal(t, []string{channel + " 4"}, events(c), "the position is the stream's")
			requireOpen(t, c)
		})
	}
}

func TestPublish_WithoutHistory_PlainDoors(t *testing.T) {
	t.Parallel()
	a := plain(t)
	t.Run("events", func(t *testing.T) {
		s := a.events(t, "channel=room:1")
		s.requireNext(t, "ready {}")
		requirePublish(t, a.Node, "room:1", `1`)
		publishPassing(t, a.Node, "room:1", `"a"`)
		s.requireNext(t, "publication 1", `publication "a"`)
		s.close()
		again := a.events(t, "channel=room:1", "Last-Event-ID", s.lastID)
		again.requireNext(t, "ready {}")
		requirePublish(t, a.Node, "room:1", `2`)
		again.requireNext(t, "publication 2")
	})
	t.Run("poll", func(t *testing.T) {
		at, err := a.Cursor(t.Context(), "room:2")
		require.NoError(t, err)
		published := make(chan error)
		go func() {
			for a.Subscribers("room:2") == 0 && t.Context().Err() == nil {
				time.Sleep(time.Millisecond)
			}
			_, err := a.Publish(t.Context(), "room:2", []byte(`"a"`), fanfare.WithoutHistory())
			published <- err
		}()
		got, told := a.poll(t, after(at, "channel=room:2"))
		require.NoError(t, <-published)
		require.Equal(t, []string{`publication room:2 "a"`}, told)
		publishPassing(t, a.Node, "room:2", `"b"`) // nobody waits
		requirePublish(t, a.Node, "room:2", `1`)
		_, told = a.poll(t, after(got.Cursor, "channel=room:2"))
		require.Equal(t, []string{"publication room:2 1"}, told)
	})
}
