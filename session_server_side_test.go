package fanfare_test

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare"
	"github.com/fanfare-go/fanfare/fanfaretest"
)

// withSubs gives every client these subscriptions.
func withSubs(subs map[string]fanfare.SubscribeReply) func(*fanfare.Config) {
	return func(c *fanfare.Config) {
		c.Authenticate = func(_ context.Context, r *fanfare.ConnectRequest) (fanfare.Identity, error) {
			return fanfare.Identity{User: fanfaretest.User(r.HTTP.Context()), Subscriptions: subs}, nil
		}
	}
}

func TestServerSide_Spec14_Connect(t *testing.T) {
	inBubble(t, "reply holds them, and publications follow", func(t *testing.T) {
		node := startNode(t, withSubs(map[string]fanfare.SubscribeReply{"x": {Data: []byte(`{"d":1}`)}, "plain": {}}))
		node.Channel("x", room)
		node.Channel("plain", fanfare.ChannelOptions{}) // no Subscribe hook, not public: the app has just decided
		requirePublish(t, node, "x", `1`)
		c := fanfaretest.Dial(t, node, "ann")
		line := ask(t, c, `{"id":1,"connect":{}}`)[0]
		require.Regexp(t, `"subs":{"plain":{},"x":{"recoverable":true,"positioned":true,"epoch":"\w+","offset":1,"data":{"d":1}}}`, line)
		requirePublish(t, node, "x", `2`)
		requirePublish(t, node, "plain", `3`)
		require.Equal(t, []string{`{"push":{"channel":"x","pub":{"data":2,"offset":2}}}`, `{"push":{"channel":"plain","pub":{"data":3}}}`}, received(t, c))
	})
	inBubble(t, "the Subscribe hook is not asked, Unsubscribed is told", func(t *testing.T) {
		var told []string
		node := startNode(t, withSubs(map[string]fanfare.SubscribeReply{"x": {}}))
		o := subscribeHook(fanfare.SubscribeReply{}, fanfare.ErrPermissionDenied)
		o.Unsubscribed = func(_ context.Context, n *fanfare.UnsubscribeNotice) {
			told = append(told, fmt.Sprint(n.Channel, n.Code))
		}
		node.Channel("x", o)
		fanfaretest.Connect(t, node, "ann").Close()
		synctest.Wait()
		require.Equal(t, []string{"x1"}, told)
	})
	for name, test := range map[string]struct {
		options fanfare.ChannelOptions
		reply   fanfare.SubscribeReply
		err     error
		log     string
	}{
		"design 4.1: undeclared": {err: fanfare.ErrUnknownChannel, log: "channel=bad"},
		"already expired":        {options: room, reply: fanfare.SubscribeReply{ExpireAt: time.Unix(1, 0)}, err: fanfare.ErrExpired, log: "channel=bad"},
		"data is not JSON":       {options: room, reply: fanfare.SubscribeReply{Data: []byte("{")}, err: fanfare.DisconnectInappropriate, log: "SubscribeReply.Data"},
		"binary payloads, JSON client": {options: fanfare.ChannelOptions{Public: true, Payload: fanfare.PayloadBinary},
			err: fanfare.ErrNotAvailable, log: "channel=bad"},
	} {
		inBubble(t, "a failure of one fails the connect: "+name, func(t *testing.T) {
			var log logged
			node := startNode(t, log.config, withSubs(map[string]fanfare.SubscribeReply{"a": {}, "bad": test.reply, "z": {}}))
			node.Channel("a", room)
			node.Channel("z", room)
			if test.options.Public {
				node.Channel("bad", test.options)
			}
			_, err := fanfaretest.Dial(t, node, "ann").Connect()
			require.ErrorIs(t, err, test.err)
			require.Contains(t, log.String(), test.log)
		})
	}
	inBubble(t, "full channel", func(t *testing.T) {
		node := startNode(t, withSubs(map[string]fanfare.SubscribeReply{"x": {}}))
		node.Channel("x", fanfare.ChannelOptions{MaxSubscribers: 1})
		fanfaretest.Connect(t, node, "ann")
		_, err := fanfaretest.Dial(t, node, "ben").Connect()
		require.ErrorIs(t, err, fanfare.ErrLimitExceeded)
	})
	inBubble(t, "a client's subscribe to one of them: 105", func(t *testing.T) {
		node := startNode(t, withSubs(map[string]fanfare.SubscribeReply{"x": {}}))
		node.Channel("x", room)
		c := fanfaretest.Connect(t, node, "ann")
		_, err := c.Subscribe("x")
		require.ErrorIs(t, err, fanfare.ErrAlreadySubscribed)
		require.Equal(t, []string{`{"id":901,"unsubscribe":{}}`}, ask(t, c, `{"id":901,"unsubscribe":{"channel":"x"}}`))
	})
	inBubble(t, "spec 10.5: publications wait for the connect reply", func(t *testing.T) {
		broker := &gatedBroker{MemoryBroker: fanfare.NewMemoryBroker(fanfare.MemoryBrokerConfig{}), gate: make(chan struct{})}
		defer broker.Close()
		node := startNode(t, withSubs(map[string]fanfare.SubscribeReply{"x": {}, "plain": {}}), func(c *fanfare.Config) { c.Broker = broker })
		node.Channel("x", room)
		node.Channel("plain", fanfare.ChannelOptions{})
		c := fanfaretest.Dial(t, node, "ann")
		require.Empty(t, ask(t, c, `{"id":1,"connect":{}}`))
		requirePublish(t, node, "x", `1`)
		requirePublish(t, node, "plain", `2`)
		require.Empty(t, received(t, c))
		close(broker.gate)
		lines := received(t, c)
		require.Len(t, lines, 2)
		require.Contains(t, lines[0], `"offset":1`)
		require.Equal(t, `{"push":{"channel":"plain","pub":{"data":2}}}`, lines[1])
	})
}

func TestServerSide_Spec14_Recovery(t *testing.T) {
	connect := func(t *testing.T, node *fanfare.Node, subs string) string {
		lines := ask(t, fanfaretest.Dial(t, node, "ann"), `{"id":1,"connect":{"subs":{`+subs+`}}}`)
		require.Len(t, lines, 1)
		return lines[0]
	}
	start := func(t *testing.T) (*fanfare.Node, string) {
		node := startNode(t, withSubs(map[string]fanfare.SubscribeReply{"x": {}}))
		node.Channel("x", room)
		node.Channel("public", room)
		return node, requirePublish(t, node, "x", `1`, `2`, `3`).Epoch
	}
	inBubble(t, "missed publications are in the connect reply", func(t *testing.T) {
		node, epoch := start(t)
		require.Contains(t, connect(t, node, `"x":{"recover":true,"offset":1,"epoch":"`+epoch+`"}`),
			`"subs":{"x":{"recoverable":true,"positioned":true,"was_recovering":true,"recovered":true,"epoch":"`+epoch+`","offset":1,"publications":[{"data":2,"offset":2},{"data":3,"offset":3}]}}`)
	})
	inBubble(t, "not recovered", func(t *testing.T) {
		node, epoch := start(t)
		require.Contains(t, connect(t, node, `"x":{"recover":true,"offset":1,"epoch":"other"}`),
			`"subs":{"x":{"recoverable":true,"positioned":true,"was_recovering":true,"epoch":"`+epoch+`","offset":3}}`)
	})
	inBubble(t, "channels that the server does not subscribe are ignored", func(t *testing.T) {
		node, _ := start(t)
		line := connect(t, node, `"public":{"recover":true,"offset":1,"epoch":"e"},"undeclared":{"recover":true},"x":null`)
		require.NotContains(t, line, "public")
		require.NotContains(t, line, "undeclared")
	})
	inBubble(t, "spec 3.3: only recover, epoch and offset are used", func(t *testing.T) {
		node, epoch := start(t)
		require.Contains(t, connect(t, node, `"x":{"recover":true,"offset":1,"epoch":"other","flag":2,"join_leave":true,"delta":"xdelta","type":7}`),
			`"was_recovering":true,"epoch":"`+epoch+`","offset":3`, "the client cannot make its own connect fail")
	})
}

func TestServerSide_Spec14_DuringTheSession(t *testing.T) {
	inBubble(t, "subscribe push, publications, unsubscribe push", func(t *testing.T) {
		node := startNode(t)
		node.Channel("x", room)
		epoch := requirePublish(t, node, "x", `1`).Epoch
		c, other := fanfaretest.Connect(t, node, "ann"), fanfaretest.Connect(t, node, "ben")
		received(t, c)
		require.NoError(t, node.Subscribe(t.Context(), "ann", "x", fanfare.SubscribeReply{Data: []byte(`{"until":"noon"}`)}))
		requirePublish(t, node, "x", `2`)
		require.NoError(t, node.Subscribe(t.Context(), "ann", "x", fanfare.SubscribeReply{}), "it stays as it is")
		require.NoError(t, node.Unsubscribe(t.Context(), "ann", "x"))
		require.NoError(t, node.Unsubscribe(t.Context(), "ann", "x"))
		requirePublish(t, node, "x", `3`)
		require.Equal(t, []string{
			`{"push":{"channel":"x","subscribe":{"recoverable":true,"positioned":true,"epoch":"` + epoch + `","offset":1,"data":{"until":"noon"}}}}`,
			`{"push":{"channel":"x","pub":{"data":2,"offset":2}}}`,
			`{"push":{"channel":"x","unsubscribe":{"code":2000,"reason":"server unsubscribe"}}}`,
		}, received(t, c))
		require.Empty(t, events(other))
	})
	inBubble(t, "unidirectional clients, too", func(t *testing.T) {
		node := startNode(t)
		node.Channel("x", fanfare.ChannelOptions{})
		c := fanfaretest.Connect(t, node, "ann", fanfaretest.Unidirectional())
		received(t, c)
		require.NoError(t, node.Subscribe(t.Context(), "ann", "x", fanfare.SubscribeReply{}))
		requirePublish(t, node, "x", `1`)
		require.NoError(t, node.Unsubscribe(t.Context(), "ann", "x"))
		require.Equal(t, []string{`{"channel":"x","subscribe":{}}`, `{"channel":"x","pub":{"data":1}}`,
			`{"channel":"x","unsubscribe":{"code":2000,"reason":"server unsubscribe"}}`}, received(t, c))
	})
	inBubble(t, "what it refuses", func(t *testing.T) {
		node := startNode(t, func(c *fanfare.Config) { c.MaxChannels = 1 })
		node.Channel("x", room)
		node.Channel("y", room)
		node.Channel("bin", fanfare.ChannelOptions{Payload: fanfare.PayloadBinary})
		c := fanfaretest.Connect(t, node, "ann")
		require.ErrorIs(t, node.Subscribe(t.Context(), "ann", "undeclared", fanfare.SubscribeReply{}), fanfare.ErrUnknownChannel)
		require.ErrorIs(t, node.Subscribe(t.Context(), "ann", "x", fanfare.SubscribeReply{Data: []byte("{")}), fanfare.ErrBadPayload)
		require.ErrorIs(t, node.Subscribe(t.Context(), "ann", "x", fanfare.SubscribeReply{Info: []byte("{")}), fanfare.ErrBadPayload)
		require.ErrorIs(t, node.Subscribe(t.Context(), "ann", "x", fanfare.SubscribeReply{ExpireAt: time.Unix(1, 0)}), fanfare.ErrExpired)
		require.ErrorIs(t, node.Subscribe(t.Context(), "ann", "bin", fanfare.SubscribeReply{}), fanfare.ErrNotAvailable)
		require.Empty(t, events(c))
		requireSubscribe(t, c, "x")
		require.NoError(t, node.Subscribe(t.Context(), "nobody", "x", fanfare.SubscribeReply{}))
		requireOpen(t, c)
	})
	inBubble(t, "the channel's joins, leaves and presence", func(t *testing.T) {
		node := startNode(t)
		node.Channel("x", fanfare.ChannelOptions{Presence: true, ForceJoinLeave: true})
		c := fanfaretest.Connect(t, node, "ann")
		require.NoError(t, node.Subscribe(t.Context(), "ann", "x", fanfare.SubscribeReply{Info: []byte(`7`)}))
		require.NoError(t, node.Subscribe(t.Context(), "", "x", fanfare.SubscribeReply{}))
		members, err := node.Presence(t.Context(), "x")
		require.NoError(t, err)
		require.Equal(t, []fanfare.ClientInfo{{User: "ann", Client: c.ID(), ChanInfo: []byte(`7`)}}, members)
		require.Len(t, events(c), 2)
	})
}

func TestServerSide_Spec5_10_Expiry(t *testing.T) {
	for name, subscribe := range map[string]func(t *testing.T, hook bool) *fanfaretest.Client{
		"made at connect": func(t *testing.T, hook bool) *fanfaretest.Client {
			node := subRefreshing(t, hook, withSubs(map[string]fanfare.SubscribeReply{"x": {ExpireAt: time.Now().Add(time.Minute)}}))
			r, err := fanfaretest.Dial(t, node, "ben").Connect()
			require.NoError(t, err)
			require.False(t, r.Subs["x"].Expires, "the client is not asked to refresh")
			return fanfaretest.Connect(t, node, "ann")
		},
		"made later": func(t *testing.T, hook bool) *fanfaretest.Client {
			node := subRefreshing(t, hook)
			c := fanfaretest.Connect(t, node, "ann")
			require.NoError(t, node.Subscribe(t.Context(), "ann", "x", fanfare.SubscribeReply{ExpireAt: time.Now().Add(time.Minute)}))
			return c
		},
	} {
		inBubble(t, "3006 in time: "+name, func(t *testing.T) {
			began := time.Now()
			c := subscribe(t, false)
			requireClosed(t, c, fanfare.DisconnectSubExpired)
			require.Equal(t, time.Minute, time.Since(began))
		})
		inBubble(t, "it cannot be refreshed by the client: "+name, func(t *testing.T) {
			c := subscribe(t, true)
			_, err := c.SubRefresh("x", "hour")
			require.ErrorIs(t, err, fanfare.DisconnectBadRequest)
		})
	}
}
