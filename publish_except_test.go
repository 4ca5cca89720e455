package fanfare_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare"
	"github.com/fanfare-go/fanfare/fanfaretest"
	"github.com/fanfare-go/fanfare/transport"
)

// except publishes to "x", and leaves out a connection.
func except(t *testing.T, node *fanfare.Node, clientID string, data ...string) (at fanfare.Position) {
	t.Helper()
	for _, d := range data {
		at = requirePublishWith(t, node, "x", d, fanfare.WithoutClient(clientID))
	}
	return at
}

func TestPublish_WithoutClient(t *testing.T) {
	inBubble(t, "everybody else gets it, and the next one comes to all", func(t *testing.T) {
		g := startGap(t, kept, 3)
		out, others := g.clients[1], []*fanfaretest.Client{g.clients[0], g.clients[2]}
		except(t, g.Node, out.ID(), `1`)
		g.publish(2, 2)
		except(t, g.Node, out.ID(), `3`, `4`)
		g.publish(5, 5)
		require.Equal(t, []string{"x 2", "x 5"}, events(out))
		for _, c := range others {
			require.Equal(t, []string{"x 1", "x 2", "x 3", "x 4", "x 5"}, events(c))
			require.NoError(t, c.Check())
		}
		g.requireReads(0) // nobody takes it for a gap
	})
	inBubble(t, "one that nobody has", func(t *testing.T) {
		g := startGap(t, kept, 2)
		except(t, g.Node, "somebody", `1`)
		except(t, g.Node, "", `2`)
		g.requireAll(1, 2)
	})
	inBubble(t, "without history", func(t *testing.T) {
		g := startGap(t, fanfare.ChannelOptions{Public: true}, 2)
		except(t, g.Node, g.clients[0].ID(), `1`)
		g.publish(2, 2)
		require.Equal(t, []string{"x 2"}, events(g.clients[0]))
		require.Equal(t, []string{"x 1", "x 2"}, events(g.clients[1]))
	})
	inBubble(t, "in a channel with history, but not stored", func(t *testing.T) {
		g := startGap(t, kept, 2)
		requirePublishWith(t, g.Node, "x", `"a"`, fanfare.WithoutHistory(), fanfare.WithoutClient(g.clients[0].ID()))
		require.Empty(t, events(g.clients[0]))
		require.Equal(t, []string{`x "a"`}, events(g.clients[1]))
	})
	inBubble(t, "on another node", func(t *testing.T) {
		cluster := startCluster(t)
		a, b := cluster.start(), cluster.start()
		ann, ben := joinAs(t, a, "ann", "x"), joinAs(t, b, "ben", "x")
		except(t, a, ben.ID(), `1`)
		except(t, b, ben.ID(), `2`)
		except(t, b, ann.ID(), `3`)
		require.Equal(t, []string{"x 1", "x 2"}, only(events(ann), "x"))
		require.Equal(t, []string{"x 3"}, only(events(ben), "x"))
	})
	inBubble(t, "a subscription that the server made", func(t *testing.T) {
		g := startGap(t, kept, 0)
		c := fanfaretest.Connect(t, g.Node, "u")
		require.NoError(t, g.Subscribe(t.Context(), "u", "x", fanfare.SubscribeReply{}))
		events(c)
		except(t, g.Node, c.ID(), `1`)
		g.publish(2, 2)
		require.Equal(t, []string{"x 2"}, events(c))
	})
	inBubble(t, "the channel is silent afterwards: the position is the stream's", func(t *testing.T) {
		g := startGap(t, kept, 1, func(c *fanfare.Config) { c.PositionCheck = 10 * time.Second })
		except(t, g.Node, g.clients[0].ID(), `1`)
		time.Sleep(time.Minute)
		require.Empty(t, events(g.clients[0]))
		g.publish(2, 2)
		require.Equal(t, []string{"x 2"}, events(g.clients[0]))
	})
	inBubble(t, "it was lost on its way, and is repaired", func(t *testing.T) {
		g := startGap(t, kept, 2)
		g.broker.lose(2)
		g.publish(1, 1)
		except(t, g.Node, g.clients[0].ID(), `2`)
		g.publish(3, 3)
		require.Equal(t, []string{"x 1", "x 3"}, events(g.clients[0]))
		require.Equal(t, []string{"x 1", "x 2", "x 3"}, events(g.clients[1]))
	})
	inBubble(t, "history has it", func(t *testing.T) {
		o := kept
		o.AllowHistory = fanfare.Anyone
		g := startGap(t, o, 1)
		except(t, g.Node, g.clients[0].ID(), `1`)
		h, err := g.clients[0].History("x", fanfare.HistoryQuery{Limit: -1})
		require.NoError(t, err)
		require.Equal(t, []string{"1"}, payloads(h.Publications))
	})
}

func TestPublish_WithoutClient_Recovery(t *testing.T) {
	inBubble(t, "the same connection stays left out, a new one is not", func(t *testing.T) {
		g := startGap(t, kept, 1)
		c := g.clients[0]
		g.publish(1, 1)
		except(t, g.Node, c.ID(), `2`)
		require.Equal(t, []string{"x 1"}, events(c))
		since := c.Position("x")
		require.EqualValues(t, 1, since.Offset, "the client cannot know of the other one")
		require.NoError(t, c.Unsubscribe("x"))
		r := requireSubscribe(t, c, "x", fanfaretest.Recover(since))
		require.True(t, r.Recovered)
		require.Empty(t, r.Publications)
		require.EqualValues(t, 2, r.Position.Offset, "but of where it stands")

		require.NoError(t, c.Unsubscribe("x"))
		g.publish(3, 3)
		except(t, g.Node, c.ID(), `4`)
		r = requireSubscribe(t, c, "x", fanfaretest.Recover(since))
		require.True(t, r.Recovered)
		require.Equal(t, []string{"3"}, payloads(r.Publications))
		g.publish(5, 5)
		require.Equal(t, []string{"x 5"}, events(c))

		c.Close()
		again := fanfaretest.Connect(t, g.Node, "0")
		r = requireSubscribe(t, again, "x", fanfaretest.Recover(since))
		require.Equal(t, []string{"2", "3", "4", "5"}, payloads(r.Publications))
	})
	inBubble(t, "while the subscription begins", func(t *testing.T) {
		g := startGap(t, kept, 0)
		c := fanfaretest.Connect(t, g.Node, "u")
		received(t, c)
		release := g.broker.hangHistory()
		require.NoError(t, c.Raw(`{"id":1000001,"subscribe":{"channel":"x","recover":true}}`))
		synctest.Wait()
		requirePublishWith(t, g.Node, "x", `"a"`, fanfare.WithoutHistory(), fanfare.WithoutClient(c.ID()))
		except(t, g.Node, c.ID(), `1`)
		g.publish(2, 2)
		except(t, g.Node, c.ID(), `3`)
		release()
		lines := received(t, c)
		require.Len(t, lines, 1)
		require.Contains(t, lines[0], `"publications":[{"data":2,"offset":2}]`)
		g.publish(4, 4)
		require.Equal(t, []string{"x 4"}, events(c))
	})
	inBubble(t, "a cache: who has made the state has it, but for a page that begins with it", func(t *testing.T) {
		o := kept
		o.Recovery = fanfare.RecoveryCacheAlways
		g := startGap(t, o, 1)
		c := g.clients[0]
		g.publish(1, 1)
		since := requirePublish(t, g.Node, "x", `2`)
		at := except(t, g.Node, c.ID(), `3`)
		require.Equal(t, []string{"x 1", "x 2"}, events(c))
		require.NoError(t, c.Unsubscribe("x"))
		r := requireSubscribe(t, c, "x", fanfaretest.Recover(since))
		require.True(t, r.Recovered)
		require.Empty(t, r.Publications)
		require.Equal(t, at, r.Position)
		require.NoError(t, c.Unsubscribe("x"))
		r = requireSubscribe(t, c, "x")
		require.Equal(t, []string{"3"}, payloads(r.Publications))
		other := requireSubscribe(t, fanfaretest.Connect(t, g.Node, "other"), "x", fanfaretest.Recover(since))
		require.Equal(t, []string{"3"}, payloads(other.Publications))
	})
}

// clientIDs are those of the clients that subscribe, in their order.
func clientIDs(o fanfare.ChannelOptions) (fanfare.ChannelOptions, *[]string) {
	var ids []string
	o.Subscribe = func(_ context.Context, r *fanfare.SubscribeRequest) (fanfare.SubscribeReply, error) {
		ids = append(ids, r.Client.ID())
		return fanfare.SubscribeReply{}, nil
	}
	return o, &ids
}

func TestPublish_WithoutClient_Deltas(t *testing.T) {
	for name, history := range map[string]bool{"with history": true, "without history": false} {
		inBothEncodings(t, name, func(t *testing.T, e transport.Encoding) {
			o, ids := clientIDs(documents)
			if !history {
				o.History = fanfare.History{}
			}
			node := startNode(t)
			node.Channel("x", o)
			out, other := read(t, node, e), read(t, node, e)
			out.subscribe("x", fossil)
			other.subscribe("x", fossil)
			var all, some []string
			for i, left := range []bool{true, false, false, true, false, true, true, false, false} {
				doc := document(i)
				if all = append(all, doc); left {
					except(t, node, (*ids)[0], doc)
				} else {
					requirePublish(t, node, "x", doc)
					some = append(some, doc)
				}
			}
			requireRead(t, out, "FdFFd", some...)
			requireRead(t, other, "Fdddddddd", all...)
		})
	}
	inBothEncodings(t, "recovered by the same connection", func(t *testing.T, e transport.Encoding) {
		o, ids := clientIDs(documents)
		node := startNode(t)
		node.Channel("x", o)
		out := read(t, node, e)
		at := out.subscribe("x", fossil).at
		out.unsubscribe("x")
		requirePublish(t, node, "x", document(1))
		except(t, node, (*ids)[0], document(2))
		requirePublish(t, node, "x", document(3))
		except(t, node, (*ids)[0], document(4))
		out.subscribe("x", order{recover: true, at: at, delta: "fossil"})
		requirePublish(t, node, "x", document(5), document(6))
		requireRead(t, out, "FdFd", document(1), document(3), document(5), document(6))
	})
}

func TestPublish_WithoutClient_Filter(t *testing.T) {
	inBothEncodings(t, "who is left out is left out of what passes, too", func(t *testing.T, e transport.Encoding) {
		o, ids := clientIDs(filtered)
		node := startNode(t)
		node.Channel("x", o)
		r, other := read(t, node, e), read(t, node, e)
		r.subscribe("x", wants(onlyRed))
		other.subscribe("x", wants(onlyRed))
		for i, color := range []string{"red", "blue", "red", "red"} {
			id := (*ids)[i%2]
			requirePublishWith(t, node, "x", strconv.Itoa(i), fanfare.WithTags(map[string]string{"color": color}), fanfare.WithoutClient(id))
		}
		require.Equal(t, []string{"3"}, r.texts("x"))
		require.Equal(t, []string{"0", "2"}, other.texts("x"))
	})
}

// Many at once are joined: each client gets its part of them.
func TestPublish_WithoutClient_Many(t *testing.T) {
	for name, o := range map[string]fanfare.ChannelOptions{"stream": kept, "live": {Public: true}, "deltas": documents} {
		inBubble(t, name, func(t *testing.T) {
			const clients, publications = 100, 300
			o, ids := clientIDs(o)
			node := startNode(t)
			node.Channel("x", o)
			readers := make([]*reader, clients)
			for i := range readers {
				readers[i] = read(t, node, transport.JSON)
				ask := order{}
				if i%2 == 0 {
					ask = fossil
				}
				readers[i].subscribe("x", ask)
			}
			rnd := rand.New(rand.NewPCG(1, 2))
			want := make([][]string, clients)
			for n := range publications {
				left := rnd.IntN(2 * clients) // half of them leave out nobody
				var opts []fanfare.PublishOption
				if left < clients {
					opts = append(opts, fanfare.WithoutClient((*ids)[left]))
				}
				requirePublishWith(t, node, "x", document(n), opts...)
				for i := range want {
					if i != left {
						want[i] = append(want[i], document(n))
					}
				}
				if n%100 == 99 {
					synctest.Wait()
				}
			}
			for i, r := range readers {
				require.Equal(t, want[i], r.texts("x"), fmt.Sprint("client ", i))
			}
		})
	}
}
