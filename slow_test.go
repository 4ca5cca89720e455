package fanfare_test

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare"
	"github.com/fanfare-go/fanfare/fanfaretest"
)

// slowQueue is how much is queued for a client of a slowNode: about forty numbers.
const slowQueue = 2000

// slowNode has a channel under every policy for slow readers.
func slowNode(t *testing.T, change ...func(*fanfare.Config)) *watched {
	t.Helper()
	// A ping comes within 25 s, and its pong may take 20.
	config := fanfare.Config{MaxQueueSize: slowQueue, PongTimeout: 20 * time.Second}
	for _, f := range change {
		f(&config)
	}
	node := watch(t, config)
	history := fanfare.History{Size: 1000, TTL: time.Hour}
	for channel, o := range map[string]fanfare.ChannelOptions{
		"close":           {History: history},
		"close:{name...}": {History: history},
		"told:{name...}":  {History: history, SlowReader: fanfare.SlowReaderDropOldest},
		"sure":            {},
		"told":            {History: history, SlowReader: fanfare.SlowReaderDropOldest, Presence: true},
		"told2":           {History: history, SlowReader: fanfare.SlowReaderDropOldest},
		"asked":           {History: history, SlowReader: fanfare.SlowReaderDropOldest, Recovery: fanfare.RecoveryOnRequest},
		"lossy":           {SlowReader: fanfare.SlowReaderDropOldest},
		"lossy2":          {SlowReader: fanfare.SlowReaderDropOldest},
		"latest":          {SlowReader: fanfare.SlowReaderKeepLatest},
		"cached":          {SlowReader: fanfare.SlowReaderKeepLatest, History: history, Recovery: fanfare.RecoveryCache},
	} {
		o.Public = true
		node.Channel(channel, o)
	}
	node.RPC("echo", func(_ context.Context, r *fanfare.RPCRequest) ([]byte, error) { return r.Data, nil })
	return node
}

// slowClient connects a client that may stall for an hour, subscribes it, and stalls it.
func slowClient(t *testing.T, node *watched, channels ...string) *fanfaretest.Client {
	t.Helper()
	c := fanfaretest.Connect(t, node.Node, "slow", fanfaretest.WithWriteTimeout(time.Hour))
	for _, channel := range channels {
		requireSubscribe(t, c, channel)
	}
	received(t, c)
	c.Stall()
	return c
}

// long ends the name of a channel of which ten publications fill a queue, and few enough to be recovered at once.
var long = ":" + strings.Repeat("x", 150)

// numbers are the data of publications.
func numbers(from, to int) (data []string) {
	for i := from; i <= to; i++ {
		data = append(data, strconv.Itoa(i))
	}
	return data
}

// pour publishes numbers. The first one is in the hands of a blocked writer before the others come.
func pour(t *testing.T, node *watched, channel string, from, to int) {
	t.Helper()
	for i := from; i <= to; i++ {
		requirePublish(t, node.Node, channel, strconv.Itoa(i))
		if i == from {
			synctest.Wait()
		}
	}
}

// requireNumbers checks that numbers of a channel came, without a gap, and returns the first one.
func requireNumbers(t *testing.T, events []string, channel string, last int) (first int) {
	t.Helper()
	first = last - len(events) + 1
	for i, e := range events {
		require.Equal(t, fmt.Sprintf("%s %d", channel, first+i), e)
	}
	return first
}

// only returns the events of one channel.
func only(events []string, channel string) (found []string) {
	for _, e := range events {
		if strings.HasPrefix(e, channel+" ") {
			found = append(found, e)
		}
	}
	return found
}

// TestSlowReader_Disconnect: the default, for everything that must not be lost.
func TestSlowReader_Disconnect(t *testing.T) {
	inBubble(t, "the client is closed with 3008, and recovers everything when it is back", func(t *testing.T) {
		node := slowNode(t)
		c := slowClient(t, node)
		c.Resume()
		requireSubscribe(t, c, "close"+long)
		pour(t, node, "close"+long, 1, 1)
		c.Stall()
		pour(t, node, "close"+long, 2, 9)
		requireOpen(t, c)
		pour(t, node, "close"+long, 10, 12)
		requireClosed(t, c, fanfare.DisconnectSlow)
		require.EqualValues(t, 3008, node.requireLogged(t, c.ID()).attrs["code"].Uint64())
		require.Equal(t, 1, counted(node.tally, &node.tally.disconnected, 3008))
		require.Zero(t, node.Residue())

		require.Equal(t, []string{"close" + long + " 1"}, events(c), "what was queued is thrown away")
		back := fanfaretest.Connect(t, node.Node, "slow")
		r := requireSubscribe(t, back, "close"+long, fanfaretest.Recover(c.Position("close"+long)))
		require.True(t, r.Recovered)
		require.Equal(t, numbers(2, 12), payloads(r.Publications))
	})
	inBubble(t, "nobody else notices", func(t *testing.T) {
		node := slowNode(t)
		quick := fanfaretest.Connect(t, node.Node, "quick")
		requireSubscribe(t, quick, "close")
		c := slowClient(t, node, "close")
		began := time.Now()
		for i := 1; i <= 200; i++ {
			pour(t, node, "close", i, i)
		}
		require.Zero(t, time.Since(began), "the publisher never waits")
		requireClosed(t, c, fanfare.DisconnectSlow)
		require.Equal(t, 1, requireNumbers(t, events(quick), "close", 200))
		require.Equal(t, 1, node.Residue().Clients)
	})
}

// TestSlowReader_DropOldest_Positioned: nothing is lost in silence.
func TestSlowReader_DropOldest_Positioned(t *testing.T) {
	inBubble(t, "the queued messages go, and 2500 comes when there is room", func(t *testing.T) {
		node := slowNode(t)
		c := slowClient(t, node, "told")
		pour(t, node, "told", 1, 20)
		before := node.Connection(c.ID()).QueuedBytes()
		require.Positive(t, before)
		pour(t, node, "told", 21, 200)
		require.Zero(t, node.Connection(c.ID()).QueuedBytes(), "the others do not come either")
		require.Greater(t, counted(node.tally, &node.tally.dropped, "told"), 20)
		require.Less(t, counted(node.tally, &node.tally.dropped, "told"), 60, "those that came later were not queued")
		requireOpen(t, c)

		c.Resume()
		require.Equal(t, []string{"told 1", "told unsubscribe 2500 insufficient state"}, events(c))
		require.NoError(t, c.Check())
		requireSubscribe(t, c, "told")
		pour(t, node, "told", 201, 202)
		require.Equal(t, []string{"told 201", "told 202"}, events(c))
		requireOpen(t, c)
		require.Empty(t, node.log.about(c.ID()))
	})
	inBubble(t, "the client that comes back recovers everything", func(t *testing.T) {
		node := slowNode(t)
		c := slowClient(t, node, "told"+long)
		pour(t, node, "told"+long, 1, 12)
		c.Resume()
		require.Equal(t, []string{"told" + long + " 1", "told" + long + " unsubscribe 2500 insufficient state"}, events(c))
		r := requireSubscribe(t, c, "told"+long, fanfaretest.Recover(c.Position("told"+long)))
		require.True(t, r.Recovered)
		require.Equal(t, numbers(2, 12), payloads(r.Publications))
		pour(t, node, "told"+long, 13, 14)
		require.Len(t, events(c), 2)
		require.NoError(t, c.Check())
	})
	inBubble(t, "or is told that it was too much", func(t *testing.T) {
		node := slowNode(t)
		c := slowClient(t, node, "told")
		pour(t, node, "told", 1, 100)
		c.Resume()
		require.Len(t, events(c), 2)
		r := requireSubscribe(t, c, "told", fanfaretest.Recover(c.Position("told")))
		require.False(t, r.Recovered, "the reply would fill the queue again")
		require.EqualValues(t, 100, r.Offset)
	})
	inBubble(t, "a third time within ten seconds the client has to back off: 3010", func(t *testing.T) {
		node := slowNode(t)
		c := slowClient(t, node, "told")
		for range 2 {
			pour(t, node, "told", 1, 100)
			c.Resume()
			require.Len(t, events(c), 2)
			requireSubscribe(t, c, "told")
			received(t, c)
			c.Stall()
			time.Sleep(4900 * time.Millisecond)
		}
		pour(t, node, "told", 1, 100)
		c.Resume()
		requireClosed(t, c, fanfare.DisconnectInsufficient)
		require.EqualValues(t, 3010, node.requireLogged(t, c.ID()).attrs["code"].Uint64())
		require.Zero(t, node.Residue())
	})
	inBubble(t, "three times in more than ten seconds are none too many", func(t *testing.T) {
		node := slowNode(t, func(c *fanfare.Config) { c.PingInterval = -1 })
		c := slowClient(t, node, "told")
		for range 10 {
			pour(t, node, "told", 1, 100)
			c.Resume()
			require.Equal(t, "told unsubscribe 2500 insufficient state", events(c)[1])
			requireSubscribe(t, c, "told")
			received(t, c)
			c.Stall()
			time.Sleep(5100 * time.Millisecond)
		}
		requireOpen(t, c)
	})
	inBubble(t, "channels are counted each for itself", func(t *testing.T) {
		node := slowNode(t)
		c := slowClient(t, node, "told", "told2")
		for range 2 {
			for _, channel := range []string{"told", "told2"} {
				pour(t, node, channel, 1, 100)
				c.Resume()
				require.Equal(t, channel+" unsubscribe 2500 insufficient state", events(c)[1])
				requireSubscribe(t, c, channel)
				received(t, c)
				c.Stall()
			}
		}
		requireOpen(t, c)
	})
	inBubble(t, "a subscription that the server made cannot come back alone: 3010", func(t *testing.T) {
		node := slowNode(t)
		c := slowClient(t, node)
		c.Resume()
		require.NoError(t, node.Subscribe(t.Context(), "slow", "told", fanfare.SubscribeReply{}))
		received(t, c)
		c.Stall()
		pour(t, node, "told", 1, 100)
		requireOpen(t, c)
		c.Resume()
		requireClosed(t, c, fanfare.DisconnectInsufficient)
		synctest.Wait()
		require.Zero(t, node.Residue())
	})
	inBubble(t, "the client leaves before it is told", func(t *testing.T) {
		node := slowNode(t)
		c := slowClient(t, node, "told")
		pour(t, node, "told", 1, 100)
		c.Close()
		synctest.Wait()
		require.Zero(t, node.Residue())
	})
	inBubble(t, "the client unsubscribes before it is told, and subscribes again", func(t *testing.T) {
		node := slowNode(t)
		c := slowClient(t, node, "told")
		pour(t, node, "told", 1, 100)
		require.NoError(t, c.Raw(`{"id":1000001,"unsubscribe":{"channel":"told"}}`+"\n"+`{"id":1000002,"subscribe":{"channel":"told"}}`))
		synctest.Wait()
		c.Resume()
		require.Equal(t, []string{"told 1"}, events(c))
		pour(t, node, "told", 101, 102)
		require.Equal(t, []string{"told 101", "told 102"}, events(c))
	})
}

// TestSlowReader_DropOldest: without positions publications are really dropped, and counted.
func TestSlowReader_DropOldest(t *testing.T) {
	for _, channel := range []string{"lossy", "asked"} {
		inBubble(t, "the newest arrive, in order, and what is dropped is counted: "+channel, func(t *testing.T) {
			node := slowNode(t)
			quick := fanfaretest.Connect(t, node.Node, "quick")
			requireSubscribe(t, quick, channel)
			c := slowClient(t, node, channel)
			most := 0
			for i := 1; i <= 1000; i++ {
				pour(t, node, channel, i, i)
				most = max(most, node.Connection(c.ID()).QueuedBytes())
			}
			require.LessOrEqual(t, most, slowQueue)
			c.Resume()
			got := events(c)
			require.Equal(t, channel+" 1", got[0], "it was being written")
			first := requireNumbers(t, got[1:], channel, 1000)
			require.Greater(t, len(got), slowQueue/2/60, "the queue is used")
			require.Equal(t, first-2, counted(node.tally, &node.tally.dropped, channel))
			require.Equal(t, 1, requireNumbers(t, events(quick), channel, 1000))
			requireOpen(t, c)
			pour(t, node, channel, 1001, 1001)
			require.Equal(t, []string{channel + " 1001"}, events(c))
		})
	}
	inBubble(t, "a subscription that asked for positions is told", func(t *testing.T) {
		node := slowNode(t)
		c := slowClient(t, node)
		c.Resume()
		requireSubscribe(t, c, "asked", fanfaretest.Positioned())
		received(t, c)
		c.Stall()
		pour(t, node, "asked", 1, 100)
		c.Resume()
		require.Equal(t, []string{"asked 1", "asked unsubscribe 2500 insufficient state"}, events(c))
	})
	inBubble(t, "what was held back while it subscribed is held to the same bound", func(t *testing.T) {
		broker := newFaultBroker(t)
		node := slowNode(t, broker.config)
		c := slowClient(t, node, "sure")
		pour(t, node, "sure", 1, 1)
		gate := newGate(t)
		broker.set(func() {
			broker.onLink = func(_ context.Context, link func()) error {
				link()
				<-gate.opened
				return nil
			}
		})
		require.NoError(t, c.Raw(`{"id":1000001,"subscribe":{"channel":"lossy"}}`))
		synctest.Wait()
		pour(t, node, "lossy", 1, 100)
		gate.open()
		synctest.Wait()
		require.LessOrEqual(t, node.Connection(c.ID()).QueuedBytes(), slowQueue)
		c.Resume()
		first := requireNumbers(t, only(events(c), "lossy"), "lossy", 100)
		require.Equal(t, first-1, counted(node.tally, &node.tally.dropped, "lossy"))
	})
	inBubble(t, "one that does not fit beside other channels' messages is dropped itself", func(t *testing.T) {
		node := slowNode(t)
		c := slowClient(t, node, "sure", "lossy")
		pour(t, node, "sure", 1, 1)
		requirePublish(t, node.Node, "sure", `"`+strings.Repeat("x", 900)+`"`)
		requirePublish(t, node.Node, "sure", `"`+strings.Repeat("x", 800)+`"`)
		requirePublish(t, node.Node, "lossy", `"`+strings.Repeat("x", 500)+`"`)
		require.Equal(t, 1, counted(node.tally, &node.tally.dropped, "lossy"))
		c.Resume()
		require.Len(t, only(events(c), "sure"), 3)
	})
}

func TestSlowReader_KeepLatest(t *testing.T) {
	for _, channel := range []string{"latest", "cached"} {
		inBubble(t, "after a stall only the newest comes: "+channel, func(t *testing.T) {
			node := slowNode(t)
			quick := fanfaretest.Connect(t, node.Node, "quick")
			requireSubscribe(t, quick, channel)
			c := slowClient(t, node, channel)
			for i := 1; i <= 1000; i++ {
				pour(t, node, channel, i, i)
				require.Less(t, node.Connection(c.ID()).QueuedBytes(), 100)
			}
			require.Equal(t, 998, counted(node.tally, &node.tally.dropped, channel))
			c.Resume()
			require.Equal(t, []string{channel + " 1", channel + " 1000"}, events(c))
			require.Equal(t, 1, requireNumbers(t, events(quick), channel, 1000))

			for i := 1001; i <= 1010; i++ {
				pour(t, node, channel, i, i)
			}
			require.Equal(t, 1001, requireNumbers(t, events(c), channel, 1010), "to a client that reads everything comes")
		})
	}
	inBubble(t, "the newest was promised: 3008 if there is no room for it", func(t *testing.T) {
		node := slowNode(t)
		c := slowClient(t, node, "sure", "latest")
		pour(t, node, "sure", 1, 1)
		requirePublish(t, node.Node, "sure", `"`+strings.Repeat("x", 900)+`"`)
		requirePublish(t, node.Node, "sure", `"`+strings.Repeat("x", 800)+`"`)
		requirePublish(t, node.Node, "latest", `"`+strings.Repeat("x", 500)+`"`)
		requireClosed(t, c, fanfare.DisconnectSlow)
	})
}

// TestSlowReader_OtherTraffic: one channel's flood costs nothing else of the same connection.
func TestSlowReader_OtherTraffic(t *testing.T) {
	for _, flood := range []string{"told", "lossy", "latest", "cached"} {
		inBubble(t, "replies and pings get through: "+flood, func(t *testing.T) {
			node := slowNode(t)
			c := slowClient(t, node, flood)
			pour(t, node, flood, 1, 500)
			require.NoError(t, c.Raw(`{"id":1000001,"rpc":{"method":"echo","data":1}}`))
			time.Sleep(26 * time.Second) // at least one ping
			pour(t, node, flood, 501, 1000)
			require.NoError(t, c.Raw(`{"id":1000002,"rpc":{"method":"echo","data":2}}`))
			synctest.Wait()
			c.Resume()
			lines := received(t, c)
			require.Contains(t, lines, `{"id":1000001,"rpc":{"data":1}}`)
			require.Contains(t, lines, `{}`)
			require.Contains(t, lines, `{"id":1000002,"rpc":{"data":2}}`)
			time.Sleep(time.Minute)
			requireOpen(t, c)
		})
		inBubble(t, "what other channels must not drop arrives complete: "+flood, func(t *testing.T) {
			node := slowNode(t)
			c := slowClient(t, node, "sure", "close", "lossy2", flood)
			pour(t, node, "sure", 1, 2)
			for i := 1; i <= 5; i++ {
				for _, quiet := range []string{"sure", "close", "lossy2"} {
					pour(t, node, quiet, i, i)
				}
				pour(t, node, flood, 100*i, 100*i+99)
			}
			c.Resume()
			got := events(c)
			require.Len(t, only(got, "sure"), 7)
			require.Equal(t, 1, requireNumbers(t, only(got, "sure")[2:], "sure", 5))
			require.Equal(t, 1, requireNumbers(t, only(got, "close"), "close", 5))
			requireNumbers(t, only(got, "lossy2"), "lossy2", 5)
			require.NotEmpty(t, only(got, "lossy2"), "the newest, at least")
			requireOpen(t, c)
			require.Empty(t, node.log.about(c.ID()))
		})
	}
}

func TestSlowReader_JoinsCostNoConnection(t *testing.T) {
	inBubble(t, "", func(t *testing.T) {
		node := startNode(t, identify(fanfare.Identity{User: "u", Info: []byte(`"` + strings.Repeat("i", 1000) + `"`)}),
			func(c *fanfare.Config) { c.MaxQueueSize, c.WriteTimeout = 64<<10, time.Minute })
		node.Channel("lobby", fanfare.ChannelOptions{Public: true, ForceJoinLeave: true})
		node.Channel("news", fanfare.ChannelOptions{Public: true})
		watcher := fanfaretest.Connect(t, node, "w", fanfaretest.WithWriteTimeout(time.Minute))
		requireSubscribe(t, watcher, "lobby")
		requireSubscribe(t, watcher, "news")
		events(watcher)
		watcher.Stall()
		for range 200 {
			requireSubscribe(t, fanfaretest.Connect(t, node, "u"), "lobby")
		}
		requirePublish(t, node, "news", `1`)
		watcher.Resume()
		require.Equal(t, []string{"news 1"}, only(events(watcher), "news"))
	})
}
