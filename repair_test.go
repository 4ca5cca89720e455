package fanfare_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare"
	"github.com/fanfare-go/fanfare/fanfaretest"
)

// kept is a channel that keeps all that these tests publish.
var kept = fanfare.ChannelOptions{Public: true, History: fanfare.History{Size: 10_000, TTL: time.Hour}}

// repairs is an observer that counts repairs.
type repairs struct {
	fanfare.NopObserver
	whole, failed chan int // with the publications found
}

func (r *repairs) Repaired(_ string, ok bool, publications int) {
	if ok {
		r.whole <- publications
	} else {
		r.failed <- publications
	}
}

// gapTest is a node over a faulty broker, with the channel "x" and some subscribers in it.
type gapTest struct {
	*fanfare.Node
	t       *testing.T
	broker  *faultBroker
	repairs *repairs
	clients []*fanfaretest.Client
	reads   int // of history, when it began
}

// startGap must be called in a bubble.
func startGap(t *testing.T, o fanfare.ChannelOptions, subscribers int, change ...func(*fanfare.Config)) *gapTest {
	t.Helper()
	g := &gapTest{t: t, broker: newFaultBroker(t)}
	g.repairs = &repairs{whole: make(chan int, 100), failed: make(chan int, 100)}
	change = append(change, g.broker.config, func(c *fanfare.Config) { c.Observer = g.repairs })
	g.Node = startNode(t, change...)
	g.Channel("x", o)
	for i := range subscribers {
		c := fanfaretest.Connect(t, g.Node, strconv.Itoa(i))
		requireSubscribe(t, c, "x")
		g.clients = append(g.clients, c)
	}
	g.reads = g.broker.readCount()
	return g
}

// publish publishes the numbers from first to last, which are their offsets as well.
func (g *gapTest) publish(first, last int) {
	g.t.Helper()
	for i := first; i <= last; i++ {
		requirePublish(g.t, g.Node, "x", strconv.Itoa(i))
	}
}

// requireAll fails the test unless every subscriber got the numbers from first to last and nothing else.
func (g *gapTest) requireAll(first, last int) {
	g.t.Helper()
	var want []string
	for i := first; i <= last; i++ {
		want = append(want, fmt.Sprintf("x %d", i))
	}
	for _, c := range g.clients {
		require.Equal(g.t, want, events(c))
		require.NoError(g.t, c.Check())
	}
}

// requireReads fails the test unless history was read so often since the last call.
func (g *gapTest) requireReads(n int) {
	g.t.Helper()
	synctest.Wait()
	require.Equal(g.t, n, g.broker.readCount()-g.reads, "reads of history")
	g.reads = g.broker.readCount()
}

// beginSubscribe returns a client that is subscribing to the channel, and has read where its stream stands: what happens now comes between
// that and the flow. The subscribe has succeeded when finish returns.
func (g *gapTest) beginSubscribe(user string) (c *fanfaretest.Client, finish func()) {
	g.t.Helper()
	c = fanfaretest.Connect(g.t, g.Node, user)
	release := g.broker.holdNextRead()
	subscribed := make(chan error, 1)
	go func() {
		_, err := c.Subscribe("x")
		subscribed <- err
	}()
	synctest.Wait()
	return c, func() {
		g.t.Helper()
		release()
		require.NoError(g.t, <-subscribed)
	}
}

func TestRepair(t *testing.T) {
	inBubble(t, "a lost publication is read once for all, and nobody notices", func(t *testing.T) {
		g := startGap(t, kept, 20)
		g.broker.lose(2)
		g.publish(1, 4)
		g.requireAll(1, 4)
		g.requireReads(1)
		require.Len(t, g.repairs.whole, 1)
	})
	inBubble(t, "the first publication is lost", func(t *testing.T) {
		g := startGap(t, kept, 2)
		g.broker.lose(1)
		g.publish(1, 2)
		g.requireAll(1, 2)
	})
	inBubble(t, "more is lost than is read at once", func(t *testing.T) {
		g := startGap(t, kept, 2)
		var lost []uint64
		for i := uint64(2); i < 1200; i++ {
			lost = append(lost, i)
		}
		g.broker.lose(lost...)
		g.publish(1, 1200)
		g.requireAll(1, 1200)
		g.requireReads(3)
	})
	inBubble(t, "what comes during a repair waits for its turn", func(t *testing.T) {
		g := startGap(t, kept, 3)
		g.broker.lose(2)
		release := g.broker.hangHistory()
		g.publish(1, 50)
		synctest.Wait()
		release()
		g.publish(51, 60)
		g.requireAll(1, 60)
		g.requireReads(1)
	})
	inBubble(t, "more comes during a repair than is kept in memory", func(t *testing.T) {
		const last = 9000 // of which 4096 are kept
		g := startGap(t, kept, 2)
		g.broker.lose(2)
		release := g.broker.hangHistory()
		g.publish(1, last)
		release()
		g.requireAll(1, last)
		require.Len(t, g.repairs.whole, 1)
	})
	for _, lost := range [][]uint64{{5}, {4}, {4, 5}, {4, 6}} {
		inBubble(t, fmt.Sprintf("another gap behind the first, found during its repair: %d", lost), func(t *testing.T) {
			g := startGap(t, kept, 3)
			g.broker.lose(slices.Concat([]uint64{2}, lost)...)
			g.broker.onHistory = func(_ context.Context, read func()) error {
				g.broker.set(func() { g.broker.onHistory = nil })
				read()
				g.publish(4, 7)
				return nil
			}
			g.publish(1, 3)
			synctest.Wait()
			g.requireAll(1, 7)
			g.requireReads(2)
			require.Empty(t, g.repairs.failed)
		})
	}
	inBubble(t, "out of order: the late one is not delivered again", func(t *testing.T) {
		g := startGap(t, kept, 3)
		var late func()
		g.broker.onDelivery = func(p *fanfare.Publication, deliver func(*fanfare.Publication)) {
			if p.Offset == 2 {
				late = func() { deliver(p) }
				return
			}
			deliver(p)
		}
		g.publish(1, 3)
		synctest.Wait()
		late()
		g.publish(4, 4)
		g.requireAll(1, 4)
		g.requireReads(1)
	})
	inBubble(t, "a subscriber who comes during a repair joins without a seam", func(t *testing.T) {
		g := startGap(t, kept, 1)
		g.broker.lose(2)
		release := g.broker.hangHistory()
		g.publish(1, 3)
		synctest.Wait()
		g.broker.set(func() { g.broker.onHistory = nil }) // only the repair hangs
		c := fanfaretest.Connect(t, g.Node, "late")
		r := requireSubscribe(t, c, "x", fanfaretest.Recover(fanfare.Position{}))
		require.Equal(t, []string{"1", "2", "3"}, payloads(r.Publications))
		g.publish(4, 4)
		release()
		g.requireAll(1, 4)
		require.Equal(t, []string{"x 4"}, events(c))
	})
}

func TestRepair_Repeats(t *testing.T) {
	for name, o := range map[string]fanfare.ChannelOptions{
		"with positions":    kept,
		"without positions": {Public: true, History: kept.History, Recovery: fanfare.RecoveryOff},
	} {
		inBubble(t, "what comes twice or late is dropped, "+name, func(t *testing.T) {
			g := startGap(t, o, 3)
			var all []*fanfare.Publication
			g.broker.onDelivery = func(p *fanfare.Publication, deliver func(*fanfare.Publication)) {
				all = append(all, p)
				deliver(p)
				for _, p := range all {
					deliver(p)
				}
			}
			g.publish(1, 5)
			g.requireAll(1, 5)
			g.requireReads(0)
		})
	}
	inBubble(t, "a late one from before the subscribe", func(t *testing.T) {
		g := startGap(t, kept, 0)
		late := &fanfare.Publication{Position: requirePublish(t, g.Node, "x", "1"), Data: []byte("1")}
		g.broker.onDelivery = func(p *fanfare.Publication, deliver func(*fanfare.Publication)) {
			deliver(late)
			deliver(p)
		}
		c := fanfaretest.Connect(t, g.Node, "ann")
		requireSubscribe(t, c, "x")
		g.publish(2, 2)
		require.Equal(t, []string{"x 2"}, events(c))
	})
	inBubble(t, "without history everything passes, and nothing is ever read", func(t *testing.T) {
		g := startGap(t, fanfare.ChannelOptions{Public: true}, 2)
		n := 0
		g.broker.onDelivery = func(p *fanfare.Publication, deliver func(*fanfare.Publication)) {
			if n++; n != 2 {
				deliver(p)
			}
		}
		g.publish(1, 3)
		time.Sleep(time.Hour)
		for _, c := range g.clients {
			require.Equal(t, []string{"x 1", "x 3"}, events(c))
		}
		g.requireReads(0)
	})
}

func TestRepair_BrokerFails(t *testing.T) {
	down := errors.New("broker is down")
	inBubble(t, "for a moment: the read is tried again", func(t *testing.T) {
		g := startGap(t, kept, 3)
		g.broker.lose(2)
		failures := 2
		g.broker.onHistory = func(context.Context, func()) error {
			if failures--; failures >= 0 {
				return down
			}
			return nil
		}
		g.publish(1, 4)
		time.Sleep(time.Second)
		g.requireAll(1, 4)
		g.requireReads(3)
	})
	inBubble(t, "for longer: clients are told, come back, and miss nothing", func(t *testing.T) {
		g := startGap(t, kept, 3)
		g.broker.lose(2)
		g.broker.onHistory = func(context.Context, func()) error { return down }
		g.publish(1, 4)
		time.Sleep(time.Second)
		synctest.Wait()
		require.Len(t, g.repairs.failed, 1)
		g.broker.set(func() { g.broker.onHistory = nil })
		for _, c := range g.clients {
			require.Equal(t, []string{"x 1", "x unsubscribe 2500 insufficient state"}, events(c))
			r := requireSubscribe(t, c, "x", fanfaretest.Recover(c.Position("x")))
			require.True(t, r.Recovered)
			require.Equal(t, []string{"2", "3", "4"}, payloads(r.Publications))
		}
		g.publish(5, 6)
		g.requireAll(5, 6)
	})
	inBubble(t, "it hangs: nobody waits for ever", func(t *testing.T) {
		g := startGap(t, kept, 1)
		g.broker.lose(2)
		release := g.broker.hangHistory()
		g.publish(1, 3)
		time.Sleep(time.Minute)
		require.Equal(t, []string{"x 1", "x unsubscribe 2500 insufficient state"}, events(g.clients[0]))
		release()
	})
	inBubble(t, "Shutdown does not wait for a repair that hangs", func(t *testing.T) {
		g := startGap(t, kept, 1)
		g.broker.lose(2)
		release := g.broker.hangHistory()
		defer release()
		g.publish(1, 3)
		synctest.Wait()
		began := time.Now()
		require.NoError(t, g.Shutdown(t.Context()))
		require.LessOrEqual(t, time.Since(began), 4*time.Second, "one attempt may end")
	})
}

func TestRepair_PositionCheck(t *testing.T) {
	check := func(c *fanfare.Config) { c.PositionCheck = 10 * time.Second }
	inBubble(t, "what was lost at the end is found", func(t *testing.T) {
		g := startGap(t, kept, 20, check)
		g.broker.lose(3, 4)
		g.publish(1, 4)
		g.requireAll(1, 2)
		time.Sleep(15 * time.Second)
		g.requireAll(3, 4)
		g.requireReads(2) // the check, and the repair
	})
	inBubble(t, "all that was ever published was lost", func(t *testing.T) {
		g := startGap(t, kept, 2, check)
		g.broker.lose(1)
		g.publish(1, 1)
		time.Sleep(15 * time.Second)
		g.requireAll(1, 1)
	})
	inBubble(t, "a channel in use is not read", func(t *testing.T) {
		g := startGap(t, kept, 2, check)
		for i := 1; i <= 20; i++ {
			g.publish(i, i)
			time.Sleep(5 * time.Second)
		}
		g.requireAll(1, 20)
		g.requireReads(0)
	})
	inBubble(t, "what was lost is no longer kept: told", func(t *testing.T) {
		o := kept
		o.History.TTL = 5 * time.Second
		g := startGap(t, o, 2, check)
		g.broker.lose(2)
		g.publish(1, 2)
		time.Sleep(15 * time.Second)
		for _, c := range g.clients {
			require.Equal(t, []string{"x 1", "x unsubscribe 2500 insufficient state"}, events(c))
			r := requireSubscribe(t, c, "x", fanfaretest.Recover(c.Position("x")))
			require.False(t, r.Recovered)
			require.EqualValues(t, 2, r.Offset)
		}
		g.publish(3, 3)
		g.requireAll(3, 3)
	})
	inBubble(t, "the broker has lost everything: told", func(t *testing.T) {
		g := startGap(t, kept, 2, check)
		g.publish(1, 3)
		g.requireAll(1, 3)
		g.broker.restart(t)
		time.Sleep(15 * time.Second)
		for _, c := range g.clients {
			require.Equal(t, []string{"x unsubscribe 2500 insufficient state"}, events(c))
		}
	})
	inBubble(t, "lost between two first subscribes: the earlier one is told", func(t *testing.T) {
		// No publication has come to the node, so its idea of the stream is what the later subscriber read.
		g := startGap(t, kept, 0, check)
		g.broker.lose(1)
		early, finish := g.beginSubscribe("early")
		g.publish(1, 1)
		late := fanfaretest.Connect(t, g.Node, "late")
		requireSubscribe(t, late, "x")
		finish()
		time.Sleep(15 * time.Second)
		require.Equal(t, []string{"x unsubscribe 2500 insufficient state"}, events(early))
		require.Empty(t, events(late))
	})
}

func TestRepair_NotPossible(t *testing.T) {
	two := fanfare.ChannelOptions{Public: true, History: fanfare.History{Size: 2, TTL: time.Hour}}
	inBubble(t, "trimmed away: told before anything newer, and not recovered", func(t *testing.T) {
		g := startGap(t, two, 3)
		g.broker.lose(2, 3, 4)
		g.publish(1, 5)
		for _, c := range g.clients {
			require.Equal(t, []string{"x 1", "x unsubscribe 2500 insufficient state"}, events(c))
			r := requireSubscribe(t, c, "x", fanfaretest.Recover(c.Position("x")))
			require.True(t, r.WasRecovering)
			require.False(t, r.Recovered)
			require.EqualValues(t, 5, r.Offset)
		}
		g.publish(6, 7)
		g.requireAll(6, 7)
		require.Len(t, g.repairs.failed, 1)
	})
	inBubble(t, "without positions the flow just goes on", func(t *testing.T) {
		o := two
		o.Recovery = fanfare.RecoveryOnRequest
		g := startGap(t, o, 2)
		asked := fanfaretest.Connect(t, g.Node, "asked")
		requireSubscribe(t, asked, "x", fanfaretest.Positioned())
		g.broker.lose(2, 3, 4)
		g.publish(1, 5)
		synctest.Wait()
		g.publish(6, 6)
		for _, c := range g.clients {
			require.Equal(t, []string{"x 1", "x 4", "x 5", "x 6"}, events(c))
		}
		require.Equal(t, []string{"x 1", "x unsubscribe 2500 insufficient state"}, events(asked))
	})
	inBubble(t, "a server-side subscription: 3010", func(t *testing.T) {
		g := startGap(t, two, 0, identify(fanfare.Identity{Subscriptions: map[string]fanfare.SubscribeReply{"x": {}}}))
		c := fanfaretest.Connect(t, g.Node, "ann")
		g.broker.lose(2, 3, 4)
		g.publish(1, 5)
		requireClosed(t, c, fanfare.DisconnectInsufficient)
		require.Equal(t, []string{"x 1"}, events(c))
	})
	inBubble(t, "the third time within ten seconds: 3010", func(t *testing.T) {
		g := startGap(t, two, 1)
		c, next := g.clients[0], 1
		for range 2 {
			g.broker.lose(uint64(next+1), uint64(next+2), uint64(next+3))
			g.publish(next, next+4)
			require.Equal(t, []string{fmt.Sprintf("x %d", next), "x unsubscribe 2500 insufficient state"}, events(c))
			requireSubscribe(t, c, "x")
			next += 5
			time.Sleep(4 * time.Second)
		}
		g.broker.lose(uint64(next), uint64(next+1))
		g.publish(next, next+3)
		requireClosed(t, c, fanfare.DisconnectInsufficient)
	})
	inBubble(t, "history was removed", func(t *testing.T) {
		g := startGap(t, kept, 1)
		g.broker.lose(2)
		g.publish(1, 2)
		require.NoError(t, g.RemoveHistory(t.Context(), "x"))
		g.publish(3, 3)
		require.Equal(t, []string{"x 1", "x unsubscribe 2500 insufficient state"}, events(g.clients[0]))
	})
	inBubble(t, "the stream has a new epoch", func(t *testing.T) {
		g := startGap(t, kept, 3)
		g.publish(1, 2)
		g.broker.restart(t)
		g.publish(3, 3)
		for _, c := range g.clients {
			require.Equal(t, []string{"x 1", "x 2", "x unsubscribe 2500 insufficient state"}, events(c))
			r := requireSubscribe(t, c, "x", fanfaretest.Recover(c.Position("x")))
			require.False(t, r.Recovered)
			require.EqualValues(t, 1, r.Offset)
		}
		g.publish(4, 5)
		g.requireAll(4, 5)
	})
	inBubble(t, "the stream gets a new epoch during a repair", func(t *testing.T) {
		g := startGap(t, kept, 3)
		g.broker.lose(2)
		release := g.broker.hangHistory()
		g.publish(1, 3)
		synctest.Wait()
		g.broker.restart(t)
		release()
		for _, c := range g.clients {
			require.Equal(t, []string{"x 1", "x unsubscribe 2500 insufficient state"}, events(c))
		}
	})
}

func TestSubscribe_LostAtTheSeam(t *testing.T) {
	// during makes things happen after so many reads of history, and before their results are used.
	during := func(g *gapTest, reads int, happen func()) {
		g.broker.onHistory = func(_ context.Context, read func()) error {
			if reads--; reads >= 0 {
				read()
				happen()
			}
			return nil
		}
	}
	for name, opts := range map[string][]fanfaretest.SubscribeOption{
		"subscribe": nil,
		"recovery":  {fanfaretest.Recover(fanfare.Position{})},
	} {
		inBubble(t, name+": history is read again", func(t *testing.T) {
			g := startGap(t, kept, 0)
			c := fanfaretest.Connect(t, g.Node, "ann")
			g.broker.lose(1)
			during(g, 1, func() { g.publish(1, 2) })
			r := requireSubscribe(t, c, "x", opts...)
			if opts != nil {
				require.True(t, r.Recovered)
				require.Equal(t, []string{"1", "2"}, payloads(r.Publications))
			} else {
				require.EqualValues(t, 2, r.Offset)
			}
			g.requireReads(2)
			g.publish(3, 4)
			require.Equal(t, []string{"x 3", "x 4"}, events(c))
			require.NoError(t, c.Check())
		})
		inBubble(t, name+": a gap that the node repairs is none", func(t *testing.T) {
			g := startGap(t, kept, 1)
			c := fanfaretest.Connect(t, g.Node, "ann")
			g.broker.lose(1)
			during(g, 1, func() { g.publish(1, 2) })
			r := requireSubscribe(t, c, "x", opts...)
			synctest.Wait()
			require.EqualValues(t, 2, c.Position("x").Offset)
			require.Len(t, append(payloads(r.Publications), events(c)...), 2)
			g.requireAll(1, 2)
			g.requireReads(2) // one of them is the repair
		})
	}
	flood := func(t *testing.T, reads int) (*gapTest, *fanfaretest.Client) {
		g := startGap(t, kept, 0, func(c *fanfare.Config) { c.MaxQueueSize = 4000 })
		n := 0
		during(g, reads, func() {
			g.publish(n+1, n+3000)
			n += 3000
		})
		return g, fanfaretest.Connect(t, g.Node, "ann")
	}
	inBubble(t, "more comes meanwhile than may be queued: history is read again", func(t *testing.T) {
		g, c := flood(t, 2)
		r := requireSubscribe(t, c, "x")
		require.EqualValues(t, 6000, r.Offset)
		g.publish(6001, 6002)
		require.Equal(t, []string{"x 6001", "x 6002"}, events(c))
	})
	inBubble(t, "the third time: 3010", func(t *testing.T) {
		g, c := flood(t, 3)
		_, err := c.Subscribe("x")
		require.Error(t, err)
		requireClosed(t, c, fanfare.DisconnectInsufficient)
		require.Equal(t, 3, g.broker.readCount())
	})
	inBubble(t, "the stream begins anew meanwhile", func(t *testing.T) {
		g := startGap(t, kept, 0)
		g.publish(1, 5)
		c := fanfaretest.Connect(t, g.Node, "ann")
		old, err := g.History(t.Context(), "x", fanfare.HistoryQuery{})
		require.NoError(t, err)
		during(g, 1, func() {
			g.broker.restart(t)
			g.publish(1, 1)
		})
		r := requireSubscribe(t, c, "x", fanfaretest.Recover(old.Position))
		require.False(t, r.Recovered)
		require.EqualValues(t, 1, r.Offset)
		g.publish(2, 2)
		require.Equal(t, []string{"x 2"}, events(c))
		require.NoError(t, c.Check())
	})
}
