package fanfare_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare"
	"github.com/fanfare-go/fanfare/fanfaretest"
)

// streamOf makes a node with a channel "x" that has had publications up to top.
func streamOf(t *testing.T, options fanfare.ChannelOptions, top int, change ...func(*fanfare.Config)) (*fanfare.Node, *fanfaretest.Client, string) {
	t.Helper()
	node := startNode(t, change...)
	node.Channel("x", options)
	for i := range top {
		requirePublish(t, node, "x", fmt.Sprint(i+1))
	}
	h, err := node.History(t.Context(), "x", fanfare.HistoryQuery{})
	require.NoError(t, err)
	require.EqualValues(t, top, h.Offset)
	return node, fanfaretest.Connect(t, node, "ann"), h.Epoch
}

// recoveryRow is a row of spec 10.4 or 10.6: a stream of 5 kept publications, what the client asks, and what it is told.
type recoveryRow struct {
	top     int
	request string
	want    string // in both, E is the epoch
}

func (row recoveryRow) run(t *testing.T, options fanfare.ChannelOptions, change ...func(*fanfare.Config)) {
	node, c, epoch := streamOf(t, options, row.top, change...)
	request := strings.ReplaceAll(row.request, `"E"`, `"`+epoch+`"`)
	lines := ask(t, c, `{"id":900,"subscribe":{"channel":"x",`+request+`}}`)
	require.Len(t, lines, 1)
	require.JSONEq(t, `{"id":900,`+strings.ReplaceAll(row.want, `"E"`, `"`+epoch+`"`)+`}`, lines[0])
	requirePublish(t, node, "x", `"live"`)
	if strings.HasPrefix(row.want, `"error"`) {
		require.Empty(t, received(t, c), "there is no subscription")
		requireSubscribe(t, c, "x")
	} else {
		require.Equal(t, []string{fmt.Sprintf(`{"push":{"channel":"x","pub":{"data":"live","offset":%d}}}`, row.top+1)}, received(t, c))
	}
}

func TestSubscribe_Spec10_4_StreamRecovery(t *testing.T) {
	granted := `"recoverable":true,"epoch":"E",`
	for name, row := range map[string]recoveryRow{
		"no recover: position is the top": {top: 3, request: `"flag":1`,
			want: `"subscribe":{` + granted + `"offset":3,"positioned":true}`},
		"fresh channel: epoch and offset 0": {request: `"flag":1`,
			want: `"subscribe":{` + granted + `"positioned":true}`},
		"steps 5 and 9: missed ones, and the offset asked for": {top: 5, request: `"recover":true,"offset":3,"epoch":"E"`,
			want: `"subscribe":{` + granted + `"publications":[{"data":4,"offset":4},{"data":5,"offset":5}],"recovered":true,"offset":3,"positioned":true,"was_recovering":true}`},
		"step 3: empty epoch matches": {top: 5, request: `"recover":true,"offset":4`,
			want: `"subscribe":{` + granted + `"publications":[{"data":5,"offset":5}],"recovered":true,"offset":4,"positioned":true,"was_recovering":true}`},
		"step 3: another epoch": {top: 5, request: `"recover":true,"offset":4,"epoch":"other"`,
			want: `"subscribe":{` + granted + `"offset":5,"positioned":true,"was_recovering":true}`},
		"step 3: the epoch that never matches": {top: 5, request: `"recover":true,"offset":5,"epoch":"_"`,
			want: `"subscribe":{` + granted + `"offset":5,"positioned":true,"was_recovering":true}`},
		"step 4: nothing missed": {top: 5, request: `"recover":true,"offset":5,"epoch":"E"`,
			want: `"subscribe":{` + granted + `"recovered":true,"offset":5,"positioned":true,"was_recovering":true}`},
		"step 5: start was trimmed": {top: 8, request: `"recover":true,"offset":2,"epoch":"E"`,
			want: `"subscribe":{` + granted + `"offset":8,"positioned":true,"was_recovering":true}`},
		"step 5: exactly what is kept": {top: 8, request: `"recover":true,"offset":3,"epoch":"E"`,
			want: `"subscribe":{` + granted + `"publications":[{"data":4,"offset":4},{"data":5,"offset":5},{"data":6,"offset":6},{"data":7,"offset":7},{"data":8,"offset":8}],"recovered":true,"offset":3,"positioned":true,"was_recovering":true}`},
		"step 6: client ahead of the stream": {top: 5, request: `"recover":true,"offset":6,"epoch":"E"`,
			want: `"subscribe":{` + granted + `"offset":5,"positioned":true,"was_recovering":true}`},
		"step 7: no position, whole stream kept": {top: 2, request: `"recover":true`,
			want: `"subscribe":{` + granted + `"publications":[{"data":1,"offset":1},{"data":2,"offset":2}],"recovered":true,"positioned":true,"was_recovering":true}`},
		"step 7: no position, start trimmed": {top: 6, request: `"recover":true`,
			want: `"subscribe":{` + granted + `"offset":6,"positioned":true,"was_recovering":true}`},
		"step 7: no position, empty stream": {request: `"recover":true`,
			want: `"subscribe":{` + granted + `"recovered":true,"positioned":true,"was_recovering":true}`},
		"step 8: flag bit 1 rejects": {top: 5, request: `"recover":true,"offset":4,"epoch":"other","flag":3`,
			want: `"error":{"code":112,"message":"unrecoverable position"}`},
		"step 8: flag bit 1 and recovery succeeds": {top: 5, request: `"recover":true,"offset":5,"epoch":"E","flag":2`,
			want: `"subscribe":{` + granted + `"recovered":true,"offset":5,"positioned":true,"was_recovering":true}`},
		"flag bit 1 without recover": {top: 5, request: `"flag":2`,
			want: `"subscribe":{` + granted + `"offset":5,"positioned":true}`},
	} {
		inBubble(t, name, func(t *testing.T) { row.run(t, room) })
	}
	inBubble(t, "step 2: more than may be recovered", func(t *testing.T) {
		recoveryRow{top: 5, request: `"recover":true,"offset":2,"epoch":"E"`,
			want: `"subscribe":{` + granted + `"offset":5,"positioned":true,"was_recovering":true}`,
		}.run(t, room, func(c *fanfare.Config) { c.MaxRecovered = 2 })
	})
	inBubble(t, "step 2: just as many as may be recovered", func(t *testing.T) {
		recoveryRow{top: 5, request: `"recover":true,"offset":3,"epoch":"E"`,
			want: `"subscribe":{` + granted + `"publications":[{"data":4,"offset":4},{"data":5,"offset":5}],"recovered":true,"offset":3,"positioned":true,"was_recovering":true}`,
		}.run(t, room, func(c *fanfare.Config) { c.MaxRecovered = 2 })
	})
	inBubble(t, "step 4: nothing kept of what was missed", func(t *testing.T) {
		node, c, epoch := streamOf(t, room, 5)
		require.NoError(t, node.RemoveHistory(t.Context(), "x"))
		r := requireSubscribe(t, c, "x", fanfaretest.Recover(fanfare.Position{Offset: 4, Epoch: epoch}))
		require.True(t, r.WasRecovering)
		require.False(t, r.Recovered)
		require.Equal(t, fanfare.Position{Offset: 5, Epoch: epoch}, r.Position, "removal does not change the top")
	})
	inBubble(t, "aged out", func(t *testing.T) {
		node, c, epoch := streamOf(t, room, 4)
		time.Sleep(30 * time.Minute)
		requirePublish(t, node, "x", `5`)
		time.Sleep(30 * time.Minute)
		r := requireSubscribe(t, c, "x", fanfaretest.Recover(fanfare.Position{Offset: 3, Epoch: epoch}))
		require.False(t, r.Recovered)
		require.NoError(t, c.Unsubscribe("x"))
		r = requireSubscribe(t, c, "x", fanfaretest.Recover(fanfare.Position{Offset: 4, Epoch: epoch}))
		require.True(t, r.Recovered)
		require.Equal(t, []string{`5`}, payloads(r.Publications))
	})
	inBubble(t, "design 4.1: a reply over half the queue is not recovered", func(t *testing.T) {
		node, c, epoch := streamOf(t, room, 0, func(c *fanfare.Config) { c.MaxQueueSize = 1000 })
		requirePublish(t, node, "x", `"`+strings.Repeat("a", 298)+`"`, `"`+strings.Repeat("b", 298)+`"`)
		r := requireSubscribe(t, c, "x", fanfaretest.Recover(fanfare.Position{Epoch: epoch}))
		require.False(t, r.Recovered)
		require.EqualValues(t, 2, r.Offset)
		require.NoError(t, c.Unsubscribe("x"))
		r = requireSubscribe(t, c, "x", fanfaretest.Recover(fanfare.Position{Offset: 1, Epoch: epoch}))
		require.True(t, r.Recovered)
	})
}

func TestSubscribe_Spec10_4_RecoveryNotGranted(t *testing.T) {
	off := room
	off.Recovery = fanfare.RecoveryOff
	onRequest := room
	onRequest.Recovery = fanfare.RecoveryOnRequest
	granted := `"recoverable":true,"epoch":"E",`
	for name, row := range map[string]struct {
		options fanfare.ChannelOptions
		recoveryRow
	}{
		"off: plain subscription": {off, recoveryRow{top: 3, request: `"positioned":true,"recoverable":true`, want: `"subscribe":{}`}},
		"off: step 1": {off, recoveryRow{top: 3, request: `"recover":true,"offset":2,"epoch":"E"`,
			want: `"subscribe":{"was_recovering":true}`}},
		"off: flag bit 1 rejects nothing": {off, recoveryRow{top: 3, request: `"recover":true,"offset":2,"epoch":"E","flag":2`,
			want: `"subscribe":{"was_recovering":true}`}},
		"on request: not asked": {onRequest, recoveryRow{top: 3, request: `"flag":1`, want: `"subscribe":{}`}},
		"on request: positioned": {onRequest, recoveryRow{top: 3, request: `"positioned":true`,
			want: `"subscribe":{"epoch":"E","offset":3,"positioned":true}`}},
		"on request: recoverable is positioned, too": {onRequest, recoveryRow{top: 3, request: `"recoverable":true`,
			want: `"subscribe":{` + granted + `"offset":3,"positioned":true}`}},
		"on request: recover": {onRequest, recoveryRow{top: 3, request: `"recover":true,"offset":2,"epoch":"E"`,
			want: `"subscribe":{` + granted + `"publications":[{"data":3,"offset":3}],"recovered":true,"offset":2,"positioned":true,"was_recovering":true}`}},
	} {
		inBubble(t, name, func(t *testing.T) { row.run(t, row.options) })
	}
	inBubble(t, "off: without history", func(t *testing.T) {
		node := startNode(t)
		node.Channel("x", fanfare.ChannelOptions{Public: true})
		c := fanfaretest.Connect(t, node, "ann")
		require.Equal(t, []string{`{"id":900,"subscribe":{"was_recovering":true}}`},
			ask(t, c, `{"id":900,"subscribe":{"channel":"x","recover":true,"offset":2,"epoch":"e"}}`))
		requirePublish(t, node, "x", `1`)
		require.Equal(t, []string{`{"push":{"channel":"x","pub":{"data":1}}}`}, received(t, c))
	})
}

func TestSubscribe_Spec10_6_CacheRecovery(t *testing.T) {
	cache := room
	cache.Recovery = fanfare.RecoveryCache
	granted := `"recoverable":true,"epoch":"E",`
	newest := granted + `"publications":[{"data":5,"offset":5}],"recovered":true,`
	for name, row := range map[string]recoveryRow{
		"no recover: position is the top, no data": {top: 5, request: `"flag":1`,
			want: `"subscribe":{` + granted + `"offset":5,"positioned":true}`},
		"behind": {top: 5, request: `"recover":true,"offset":4,"epoch":"E"`,
			want: `"subscribe":{` + newest + `"offset":4,"positioned":true,"was_recovering":true}`},
		"far behind": {top: 5, request: `"recover":true,"offset":1,"epoch":"E"`,
			want: `"subscribe":{` + newest + `"offset":1,"positioned":true,"was_recovering":true}`},
		"no position": {top: 5, request: `"recover":true`,
			want: `"subscribe":{` + newest + `"positioned":true,"was_recovering":true}`},
		"another epoch": {top: 5, request: `"recover":true,"offset":2,"epoch":"other"`,
			want: `"subscribe":{` + newest + `"offset":2,"positioned":true,"was_recovering":true}`},
		"another epoch, further on: the publication moves forward": {top: 5, request: `"recover":true,"offset":9,"epoch":"other"`,
			want: `"subscribe":{` + newest + `"offset":4,"positioned":true,"was_recovering":true}`},
		"same state": {top: 5, request: `"recover":true,"offset":5,"epoch":"E"`,
			want: `"subscribe":{` + granted + `"recovered":true,"offset":5,"positioned":true,"was_recovering":true}`},
		"empty history": {request: `"recover":true,"offset":5,"epoch":"other"`,
			want: `"subscribe":{` + granted + `"positioned":true,"was_recovering":true}`},
		"empty history, flag bit 1": {request: `"recover":true,"offset":5,"epoch":"other","flag":2`,
			want: `"error":{"code":112,"message":"unrecoverable position"}`},
	} {
		inBubble(t, name, func(t *testing.T) { row.run(t, cache) })
	}
	always := cache
	always.Recovery = fanfare.RecoveryCacheAlways
	for name, row := range map[string]recoveryRow{
		"always: not asked": {top: 5, request: `"flag":1`,
			want: `"subscribe":{` + newest + `"positioned":true,"was_recovering":true}`},
		"always: asked, behind": {top: 5, request: `"recover":true,"offset":4,"epoch":"E"`,
			want: `"subscribe":{` + newest + `"offset":4,"positioned":true,"was_recovering":true}`},
		"always: not asked, empty history, flag bit 1": {request: `"flag":2`,
			want: `"subscribe":{` + granted + `"positioned":true,"was_recovering":true}`},
	} {
		inBubble(t, name, func(t *testing.T) { row.run(t, always) })
	}
	inBubble(t, "always: subscriptions made by the server", func(t *testing.T) {
		node := startNode(t, withSubs(map[string]fanfare.SubscribeReply{"x": {}}))
		node.Channel("x", always)
		node.Channel("y", always)
		requirePublish(t, node, "x", `1`, `2`)
		requirePublish(t, node, "y", `3`)
		c := fanfaretest.Dial(t, node, "ann")
		require.Contains(t, ask(t, c, `{"id":1,"connect":{}}`)[0], `"publications":[{"data":2,"offset":2}]`)
		require.NoError(t, node.Subscribe(t.Context(), "ann", "y", fanfare.SubscribeReply{}))
		requirePublish(t, node, "y", `4`)
		lines := received(t, c)
		require.Len(t, lines, 3)
		require.Equal(t, []string{`{"push":{"channel":"y","pub":{"data":3,"offset":1}}}`, `{"push":{"channel":"y","pub":{"data":4,"offset":2}}}`}, lines[1:])
	})
	inBubble(t, "always: unidirectional", func(t *testing.T) {
		node := startNode(t)
		node.Channel("x", always)
		requirePublish(t, node, "x", `1`)
		c := fanfaretest.Dial(t, node, "ann", fanfaretest.Unidirectional())
		require.Contains(t, ask(t, c, `{"subs":{"x":{}}}`)[0], `"publications":[{"data":1,"offset":1}]`)
	})
	for name, test := range map[string]struct {
		offset    uint64
		recovered bool
	}{"same state": {5, true}, "behind": {4, false}} {
		inBubble(t, "history removed, "+name, func(t *testing.T) {
			node, c, epoch := streamOf(t, cache, 5)
			require.NoError(t, node.RemoveHistory(t.Context(), "x"))
			r := requireSubscribe(t, c, "x", fanfaretest.Recover(fanfare.Position{Offset: test.offset, Epoch: epoch}))
			require.True(t, r.WasRecovering)
			require.Equal(t, test.recovered, r.Recovered)
			require.Empty(t, r.Publications)
		})
	}
	inBubble(t, "of several that came meanwhile only the last", func(t *testing.T) {
		broker := &gatedBroker{MemoryBroker: fanfare.NewMemoryBroker(fanfare.MemoryBrokerConfig{}), gate: make(chan struct{})}
		defer broker.Close()
		node := startNode(t, func(c *fanfare.Config) { c.Broker = broker })
		node.Channel("x", cache)
		c := fanfaretest.Connect(t, node, "ann")
		require.Empty(t, ask(t, c, `{"id":900,"subscribe":{"channel":"x","recover":true}}`))
		requirePublish(t, node, "x", `1`, `2`, `3`)
		close(broker.gate)
		require.Regexp(t, `"recovered":true.*"publications":\[{"data":3,"offset":3}\]`, strings.Join(received(t, c), ""))
	})
}

func TestSubscribe_Spec10_5_Seam(t *testing.T) {
	inBubble(t, "what came while history was read comes once, and after the reply", func(t *testing.T) {
		broker := &gatedBroker{MemoryBroker: fanfare.NewMemoryBroker(fanfare.MemoryBrokerConfig{}), gate: make(chan struct{})}
		defer broker.Close()
		node := startNode(t, func(c *fanfare.Config) { c.Broker = broker })
		node.Channel("x", room)
		at := requirePublish(t, node, "x", `1`)
		c := fanfaretest.Connect(t, node, "ann")
		d := fanfaretest.Connect(t, node, "ben")
		require.NoError(t, c.Raw(fmt.Sprintf(`{"id":900,"subscribe":{"channel":"x","recover":true,"offset":%d,"epoch":%q}}`, at.Offset, at.Epoch)))
		require.NoError(t, d.Raw(`{"id":900,"subscribe":{"channel":"x"}}`))
		synctest.Wait()
		requirePublish(t, node, "x", `2`, `3`)
		close(broker.gate)
		require.Contains(t, received(t, c)[1], `"offset":1,"publications":[{"data":2,"offset":2},{"data":3,"offset":3}]`)
		require.Contains(t, received(t, d)[1], `"offset":3`, "who did not recover is told the top that includes them")
		requirePublish(t, node, "x", `4`)
		require.Equal(t, []string{"x 4"}, events(c))
		require.Equal(t, []string{"x 4"}, events(d))
	})
	inBubble(t, "the client leaves while history is read", func(t *testing.T) {
		broker := &gatedBroker{MemoryBroker: fanfare.NewMemoryBroker(fanfare.MemoryBrokerConfig{}), gate: make(chan struct{})}
		defer broker.Close()
		node := startNode(t, func(c *fanfare.Config) { c.Broker = broker })
		node.Channel("x", room)
		c := fanfaretest.Connect(t, node, "ann")
		require.NoError(t, c.Raw(`{"id":900,"subscribe":{"channel":"x"}}`))
		synctest.Wait()
		c.Close()
		synctest.Wait()
		require.Zero(t, node.Residue())
	})
}

// TestSubscribe_Spec10_5_LiveDelivery states the table of 10.5: three publications are sent, the second is bent on its way.
func TestSubscribe_Spec10_5_LiveDelivery(t *testing.T) {
	type pubs = []*fanfare.Publication
	for name, test := range map[string]struct {
		bend    func(second *fanfare.Publication) pubs
		trimmed bool // history is gone, so that a gap cannot be repaired
		want    []string
	}{
		"p = s + 1: delivered": {
			bend: func(p *fanfare.Publication) pubs { return pubs{p} }, want: []string{"x 1", "x 2", "x 3"}},
		"p <= s: dropped in silence": {
			bend: func(p *fanfare.Publication) pubs { return pubs{p, p} }, want: []string{"x 1", "x 2", "x 3"}},
		"p = 0: delivered, position unchanged": {
			bend: func(p *fanfare.Publication) pubs { return pubs{{Data: []byte(`0`)}, p} }, want: []string{"x 1", "x 0", "x 2", "x 3"}},
		"p > s + 1: repaired from history": {
			bend: func(*fanfare.Publication) pubs { return nil }, want: []string{"x 1", "x 2", "x 3"}},
		"p > s + 1: and history does not hold it": {
			bend: func(*fanfare.Publication) pubs { return nil }, trimmed: true, want: []string{"x 1", "x unsubscribe 2500 insufficient state"}},
		"ep != es": {
			bend: func(p *fanfare.Publication) pubs {
				return pubs{{Data: p.Data, Position: fanfare.Position{Offset: 2, Epoch: "other"}}}
			}, want: []string{"x 1", "x unsubscribe 2500 insufficient state"}},
	} {
		inBubble(t, name, func(t *testing.T) {
			broker := &bentBroker{MemoryBroker: fanfare.NewMemoryBroker(fanfare.MemoryBrokerConfig{})}
			defer broker.Close()
			broker.bend = func(p *fanfare.Publication) []*fanfare.Publication {
				if p.Offset == 2 {
					return test.bend(p)
				}
				return pubs{p}
			}
			node := startNode(t, func(c *fanfare.Config) { c.Broker = broker })
			node.Channel("x", room)
			c := fanfaretest.Connect(t, node, "ann")
			requireSubscribe(t, c, "x")
			requirePublish(t, node, "x", `1`, `2`)
			if test.trimmed {
				require.NoError(t, node.RemoveHistory(t.Context(), "x"))
			}
			requirePublish(t, node, "x", `3`)
			require.Equal(t, test.want, events(c))
			requireOpen(t, c)
			if len(test.want) == 2 {
				r := requireSubscribe(t, c, "x", fanfaretest.Recover(fanfare.Position{Offset: 1, Epoch: c.Position("x").Epoch}))
				require.Equal(t, !test.trimmed, r.Recovered, "it comes back with its position")
			}
		})
	}
	inBubble(t, "server-side subscription: 3010", func(t *testing.T) {
		broker := &bentBroker{MemoryBroker: fanfare.NewMemoryBroker(fanfare.MemoryBrokerConfig{})}
		defer broker.Close()
		broker.bend = func(p *fanfare.Publication) []*fanfare.Publication {
			if p.Offset == 2 {
				return nil
			}
			return pubs{p}
		}
		node := startNode(t, identify(fanfare.Identity{User: "ann", Subscriptions: map[string]fanfare.SubscribeReply{"x": {}}}),
			func(c *fanfare.Config) { c.Broker = broker })
		node.Channel("x", room)
		c := fanfaretest.Connect(t, node, "")
		requirePublish(t, node, "x", `1`, `2`)
		require.NoError(t, node.RemoveHistory(t.Context(), "x"))
		requirePublish(t, node, "x", `3`)
		requireClosed(t, c, fanfare.DisconnectInsufficient)
		require.Equal(t, []string{"x 1"}, events(c))
	})
	inBubble(t, "periodic check: the last one was lost", func(t *testing.T) {
		broker := &bentBroker{MemoryBroker: fanfare.NewMemoryBroker(fanfare.MemoryBrokerConfig{})}
		defer broker.Close()
		broker.bend = func(p *fanfare.Publication) []*fanfare.Publication { return nil }
		node := startNode(t, func(c *fanfare.Config) { c.Broker = broker })
		node.Channel("x", room)
		c := fanfaretest.Connect(t, node, "ann")
		requireSubscribe(t, c, "x")
		requirePublish(t, node, "x", `1`)
		require.Empty(t, events(c))
		time.Sleep(time.Minute)
		require.Equal(t, []string{"x 1"}, events(c))
		requirePublish(t, node, "x", `2`)
		require.NoError(t, node.RemoveHistory(t.Context(), "x"))
		time.Sleep(time.Minute)
		require.Equal(t, []string{"x unsubscribe 2500 insufficient state"}, events(c))
	})
	inBubble(t, "spec 18: the third time within ten seconds is a disconnect", func(t *testing.T) {
		broker := &bentBroker{MemoryBroker: fanfare.NewMemoryBroker(fanfare.MemoryBrokerConfig{})}
		defer broker.Close()
		broker.bend = func(p *fanfare.Publication) []*fanfare.Publication {
			return pubs{{Data: p.Data, Position: fanfare.Position{Offset: p.Offset, Epoch: "other"}}}
		}
		node := startNode(t, func(c *fanfare.Config) { c.Broker = broker })
		node.Channel("x", room)
		c := fanfaretest.Connect(t, node, "ann")
		for range 2 {
			requireSubscribe(t, c, "x")
			requirePublish(t, node, "x", `1`)
			require.Equal(t, []string{"x unsubscribe 2500 insufficient state"}, events(c))
		}
		requireSubscribe(t, c, "x")
		requirePublish(t, node, "x", `1`)
		requireClosed(t, c, fanfare.DisconnectInsufficient)
	})
}

// TestSubscribe_Spec10_5_EpochLearnedLive is the first row of the table in 10.5: es empty, adopt ep. Offsets count all the same.
func TestSubscribe_Spec10_5_EpochLearnedLive(t *testing.T) {
	for name, test := range map[string]struct {
		lost uint64
		want []string
	}{
		"adopted":                         {0, []string{"x 1", "x 2"}},
		"adopted, and the first was lost": {1, []string{"x unsubscribe 2500 insufficient state"}},
	} {
		inBubble(t, name, func(t *testing.T) {
			broker := newFaultBroker(t)
			broker.lose(test.lost)
			node := startNode(t, broker.config)
			node.Channel("x", room)
			c := fanfaretest.Connect(t, node, "ann")
			began := requireSubscribe(t, c, "x").Position
			node.ForgetEpochs("x")
			requirePublish(t, node, "x", `1`, `2`)
			require.Equal(t, test.want, events(c))
			if test.lost > 0 {
				r := requireSubscribe(t, c, "x", fanfaretest.Recover(began))
				require.Equal(t, []string{`1`, `2`}, payloads(r.Publications))
			}
			require.NoError(t, c.Check())
		})
	}
}

func TestSubscribe_Spec10_1_NewEpochIsNotRecovered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var at fanfare.Position
		for range 2 { // a server, and the one after it was restarted
			node, err := fanfare.New(fanfare.Config{})
			require.NoError(t, err)
			node.Channel("x", room)
			c := fanfaretest.Connect(t, node, "")
			r := requireSubscribe(t, c, "x", fanfaretest.Recover(at))
			require.Equal(t, at.Offset == 0, r.Recovered)
			at = requirePublish(t, node, "x", `1`)
			require.NoError(t, node.Shutdown(context.Background()))
		}
	})
}

// A recovery that the queue cannot hold would throw the client out again and again, so everything that is on the wire counts.
func TestSubscribe_RecoveryCountsWhatIsWritten(t *testing.T) {
	info := `"` + strings.Repeat("i", 2000) + `"`
	for name, publish := range map[string]func(t *testing.T, node *fanfare.Node, c *fanfaretest.Client) error{
		"escapes of text": func(_ *testing.T, _ *fanfare.Node, c *fanfaretest.Client) error {
			return c.Publish("text", []byte(`"`+strings.Repeat(`\u0001`, 1000)+`"`))
		},
		"who published": func(_ *testing.T, _ *fanfare.Node, c *fanfaretest.Client) error {
			return c.Publish("json", []byte(`1`))
		},
		"tags": func(t *testing.T, node *fanfare.Node, _ *fanfaretest.Client) error {
			_, err := node.Publish(t.Context(), "json", []byte(`1`), fanfare.WithTags(map[string]string{"t": strings.Repeat("t", 2000)}))
			return err
		},
	} {
		inBubble(t, name, func(t *testing.T) {
			node := startNode(t, identify(fanfare.Identity{User: "ann", Info: []byte(info)}), func(c *fanfare.Config) { c.MaxQueueSize = 20_000 })
			o := fanfare.ChannelOptions{Public: true, AllowPublish: fanfare.Anyone, History: fanfare.History{Size: 100, TTL: time.Hour}}
			node.Channel("json", o)
			o.Payload = fanfare.PayloadText
			node.Channel("text", o)
			c := fanfaretest.Connect(t, node, "ann")
			channel := "json"
			if name == "escapes of text" {
				channel = "text"
			}
			at := requireSubscribe(t, c, channel).Position
			for range 9 {
				require.NoError(t, publish(t, node, c))
			}
			back := fanfaretest.Connect(t, node, "ann")
			require.False(t, requireSubscribe(t, back, channel, fanfaretest.Recover(at)).Recovered)
			at.Offset += 8
			other := fanfaretest.Connect(t, node, "ann")
			require.True(t, requireSubscribe(t, other, channel, fanfaretest.Recover(at)).Recovered)
		})
	}
}
