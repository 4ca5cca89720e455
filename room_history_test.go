package fanfare_test

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare"
	"github.com/fanfare-go/fanfare/fanfaretest"
)

// farBroker takes its time to read history, as one across a network does, and counts the reads.
type farBroker struct {
	*fanfare.MemoryBroker
	reads atomic.Int32
}

func (b *farBroker) History(ctx context.Context, channel string, q fanfare.HistoryQuery) (fanfare.HistoryResult, error) {
	b.reads.Add(1)
	time.Sleep(time.Millisecond)
	return b.MemoryBroker.History(ctx, channel, q)
}

func startFar(t *testing.T) (*fanfare.Node, *farBroker) {
	t.Helper()
	broker := &farBroker{MemoryBroker: fanfare.NewMemoryBroker(fanfare.MemoryBrokerConfig{})}
	t.Cleanup(func() { require.NoError(t, broker.Close()) })
	node := startNode(t, func(c *fanfare.Config) { c.Broker = broker })
	o := room
	o.AllowHistory = fanfare.Anyone
	node.Channel("x", o)
	return node, broker
}

// comeBack lets n clients subscribe at once, with the positions given, and returns what each got.
func comeBack(t *testing.T, node *fanfare.Node, n int, at func(i int) fanfare.Position) []*fanfaretest.SubscribeResult {
	t.Helper()
	results := make([]*fanfaretest.SubscribeResult, n)
	for i := range n {
		c := fanfaretest.Connect(t, node, "ann")
		go func() {
			r, err := c.Subscribe("x", fanfaretest.Recover(at(i)))
			if err == nil {
				results[i] = r
			}
		}()
	}
	time.Sleep(time.Second / 2)
	synctest.Wait()
	for _, r := range results {
		require.NotNil(t, r)
	}
	return results
}

func TestStorm_HistoryIsReadOnce(t *testing.T) {
	inBubble(t, "for all who come back with one position", func(t *testing.T) {
		node, broker := startFar(t)
		at := requirePublish(t, node, "x", `1`)
		requirePublish(t, node, "x", `2`, `3`)
		for _, r := range comeBack(t, node, 200, func(int) fanfare.Position { return at }) {
			require.True(t, r.Recovered)
			require.Equal(t, []string{`2`, `3`}, payloads(r.Publications))
		}
		require.EqualValues(t, 1, broker.reads.Load())
	})
	inBubble(t, "and for those who are further on", func(t *testing.T) {
		node, broker := startFar(t)
		first := requirePublish(t, node, "x", `1`)
		requirePublish(t, node, "x", `2`, `3`, `4`)
		results := comeBack(t, node, 40, func(i int) fanfare.Position { return fanfare.Position{Offset: uint64(1 + i%4), Epoch: first.Epoch} })
		for i, r := range results {
			require.True(t, r.Recovered)
			require.Len(t, r.Publications, 3-i%4)
		}
		require.LessOrEqual(t, broker.reads.Load(), int32(8), "two for each position at most")
	})
	inBubble(t, "but again for what is older, newer or of another life", func(t *testing.T) {
		node, broker := startFar(t)
		at := requirePublish(t, node, "x", `1`)
		for i := range 5 {
			requirePublish(t, node, "x", fmt.Sprint(i+2))
		}
		watcher := fanfaretest.Connect(t, node, "watcher")
		requireSubscribe(t, watcher, "x")
		for _, position := range []fanfare.Position{{Offset: 4, Epoch: at.Epoch}, {Offset: 2, Epoch: at.Epoch}, {Offset: 3, Epoch: "other"}, {Offset: 9, Epoch: at.Epoch}} {
			before := broker.reads.Load()
			comeBack(t, node, 1, func(int) fanfare.Position { return position })
			require.Equal(t, before+1, broker.reads.Load(), position)
		}
		requirePublish(t, node, "x", `7`)
		for _, r := range comeBack(t, node, 3, func(int) fanfare.Position { return fanfare.Position{Offset: 5, Epoch: at.Epoch} }) {
			require.Equal(t, []string{`6`, `7`}, payloads(r.Publications))
		}
	})
	inBubble(t, "and not for long: what was removed is soon gone", func(t *testing.T) {
		node, _ := startFar(t)
		at := requirePublish(t, node, "x", `1`)
		requirePublish(t, node, "x", `2`)
		watcher := fanfaretest.Connect(t, node, "watcher")
		requireSubscribe(t, watcher, "x", fanfaretest.Recover(at))
		require.NoError(t, node.RemoveHistory(t.Context(), "x"))
		require.False(t, comeBack(t, node, 1, func(int) fanfare.Position { return at })[0].Recovered)
	})
}

// slowMembers takes its time to read who is there, and counts the reads.
type slowMembers struct {
	*fanfare.MemoryPresence
	reads atomic.Int32
}

func (p *slowMembers) Members(ctx context.Context, channel string) ([]fanfare.ClientInfo, error) {
	p.reads.Add(1)
	time.Sleep(time.Millisecond)
	return p.MemoryPresence.Members(ctx, channel)
}

func TestStorm_PresenceIsReadTogether(t *testing.T) {
	inBubble(t, "and whoever asks is in it", func(t *testing.T) {
		presence := &slowMembers{MemoryPresence: fanfare.NewMemoryPresence()}
		t.Cleanup(func() { require.NoError(t, presence.Close()) })
		node := startNode(t, func(c *fanfare.Config) { c.Presence = presence })
		node.Channel("x", fanfare.ChannelOptions{Public: true, Presence: true, AllowPresence: fanfare.Anyone})
		const n = 100
		seen := make(chan bool, n)
		for range n {
			c := fanfaretest.Connect(t, node, "ann")
			go func() {
				_, err := c.Subscribe("x")
				members, readErr := c.Presence("x")
				_, itself := members[c.ID()]
				seen <- err == nil && readErr == nil && itself
			}()
		}
		for range n {
			require.True(t, <-seen)
		}
		require.Less(t, presence.reads.Load(), int32(n/10))
	})
}

func TestStorm_WhoLeavesSpoilsNobodysRead(t *testing.T) {
	inBubble(t, "", func(t *testing.T) {
		node, _ := startFar(t)
		at := requirePublish(t, node, "x", `1`)
		requirePublish(t, node, "x", `2`)
		frame := fmt.Sprintf(`{"id":1000001,"subscribe":{"channel":"x","recover":true,"offset":%d,"epoch":%q}}`, at.Offset, at.Epoch)
		for range 2 { // the first reads, the second waits for the next read, and leaves
			c := fanfaretest.Connect(t, node, "ann")
			require.NoError(t, c.Raw(frame))
			synctest.Wait()
			defer c.Close()
			c.Close()
		}
		synctest.Wait()
		late := fanfaretest.Connect(t, node, "ann")
		require.True(t, requireSubscribe(t, late, "x", fanfaretest.Recover(at)).Recovered)
	})
}

func TestStorm_ConnectsWaitTheirTurn(t *testing.T) {
	inBubble(t, "", func(t *testing.T) {
		var running, most atomic.Int32
		node := startNode(t, func(c *fanfare.Config) {
			c.MaxConnecting = 5
			c.Authenticate = func(context.Context, *fanfare.ConnectRequest) (fanfare.Identity, error) {
				now := running.Add(1)
				defer running.Add(-1)
				for old := most.Load(); now > old && !most.CompareAndSwap(old, now); old = most.Load() {
				}
				time.Sleep(10 * time.Millisecond)
				return fanfare.Identity{User: "ann"}, nil
			}
		})
		began := time.Now()
		connected := make(chan error, 100)
		var gone []*fanfaretest.Client
		for i := range 100 {
			c := fanfaretest.Dial(t, node, "ann")
			if i >= 90 {
				gone = append(gone, c)
			}
			go func() {
				_, err := c.Connect()
				connected <- err
			}()
		}
		time.Sleep(time.Millisecond)
		for _, c := range gone { // waiting costs nobody anything who leaves
			c.Close()
		}
		failed := 0
		for range 100 {
			if <-connected != nil {
				failed++
			}
		}
		require.LessOrEqual(t, failed, 10)
		require.EqualValues(t, 5, most.Load())
		require.LessOrEqual(t, time.Since(began), 201*time.Millisecond)
	})
}
