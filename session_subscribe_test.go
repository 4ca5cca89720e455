package fanfare_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare"
	"github.com/fanfare-go/fanfare/fanfaretest"
)

// subscribeHook is a channel whose hook always answers the same.
func subscribeHook(reply fanfare.SubscribeReply, err error) fanfare.ChannelOptions {
	return fanfare.ChannelOptions{Subscribe: func(context.Context, *fanfare.SubscribeRequest) (fanfare.SubscribeReply, error) {
		return reply, err
	}}
}

func TestSubscribe_Spec5_2_Checks(t *testing.T) {
	long := "open:" + strings.Repeat("x", 251)
	for name, test := range map[string]struct {
		request string
		reply   string
		closed  *fanfare.Disconnect
	}{
		"no channel":                 {request: `{}`, closed: fanfare.DisconnectBadRequest},
		"channel name too long":      {request: `{"channel":"` + long + `"}`, reply: `"error":{"code":107,"message":"bad request"}`},
		"longest channel name":       {request: `{"channel":"` + long[1:] + `"}`, reply: `"error":{"code":102,"message":"unknown channel"}`},
		"already subscribed":         {request: `{"channel":"open:1"}`, reply: `"error":{"code":105,"message":"already subscribed"}`},
		"unknown delta":              {request: `{"channel":"open:2","delta":"xdelta"}`, closed: fanfare.DisconnectBadRequest},
		"fossil delta: not granted":  {request: `{"channel":"open:2","delta":"fossil"}`, reply: `"subscribe":{}`},
		"tags filter":                {request: `{"channel":"open:2","tf":{"key":"k","cmp":"ex"}}`, reply: `"error":{"code":107,"message":"bad request"}`},
		"no tags filter":             {request: `{"channel":"open:2","tf":null}`, reply: `"subscribe":{}`},
		"map subscription":           {request: `{"channel":"open:2","type":1}`, reply: `"error":{"code":108,"message":"not available"}`},
		"shared poll":                {request: `{"channel":"open:2","type":4}`, reply: `"error":{"code":108,"message":"not available"}`},
		"compaction is only offered": {request: `{"channel":"open:2","flag":1}`, reply: `"subscribe":{}`},
		"wishes are not granted":     {request: `{"channel":"open:2","positioned":true,"recoverable":true,"join_leave":true}`, reply: `"subscribe":{}`},
		"undeclared":                 {request: `{"channel":"other"}`, reply: `"error":{"code":102,"message":"unknown channel"}`},
		"declared, and not public":   {request: `{"channel":"closed"}`, reply: `"error":{"code":103,"message":"permission denied"}`},
		"token expired":              {request: `{"channel":"109"}`, reply: `"error":{"code":109,"message":"token expired"}`},
		"token of another":           {request: `{"channel":"3500"}`, closed: fanfare.DisconnectInvalidToken},
		"already expired":            {request: `{"channel":"past"}`, reply: `"error":{"code":110,"message":"expired"}`},
		"temporary trouble":          {request: `{"channel":"down"}`, reply: `"error":{"code":100,"message":"internal server error","temporary":true}`},
		"data is not JSON":           {request: `{"channel":"baddata"}`, closed: fanfare.DisconnectInappropriate},
		"info is not JSON":           {request: `{"channel":"badinfo"}`, closed: fanfare.DisconnectInappropriate},
		"data":                       {request: `{"channel":"data"}`, reply: `"subscribe":{"data":[1,2]}`},
		"unknown fields":             {request: `{"channel":"open:2","future":{"a":[]}}`, reply: `"subscribe":{}`},
	} {
		inBubble(t, name, func(t *testing.T) {
			node := startNode(t)
			node.Channel("open:{n}", fanfare.ChannelOptions{Public: true})
			node.Channel("closed", fanfare.ChannelOptions{})
			node.Channel("109", subscribeHook(fanfare.SubscribeReply{}, fmt.Errorf("hook: %w", fanfare.ErrTokenExpired)))
			node.Channel("3500", subscribeHook(fanfare.SubscribeReply{}, fanfare.DisconnectInvalidToken))
			node.Channel("past", subscribeHook(fanfare.SubscribeReply{ExpireAt: time.Now()}, nil))
			node.Channel("down", subscribeHook(fanfare.SubscribeReply{}, errors.New("database is down")))
			node.Channel("baddata", subscribeHook(fanfare.SubscribeReply{Data: []byte("x")}, nil))
			node.Channel("badinfo", subscribeHook(fanfare.SubscribeReply{Info: []byte("x")}, nil))
			node.Channel("data", subscribeHook(fanfare.SubscribeReply{Data: []byte("[1,\n2]")}, nil))
			c := fanfaretest.Connect(t, node, "ann")
			requireSubscribe(t, c, "open:1")
			lines := ask(t, c, `{"id":900,"subscribe":`+test.request+`}`)
			if test.closed != nil {
				requireClosed(t, c, test.closed)
				return
			}
			require.Equal(t, []string{`{"id":900,` + test.reply + `}`}, lines)
			requireOpen(t, c)
		})
	}
}

func TestSubscribe_Spec5_2_Limits(t *testing.T) {
	inBubble(t, "channels of a client: 106, and room again after an unsubscribe or a refusal", func(t *testing.T) {
		node := startNode(t, func(c *fanfare.Config) { c.MaxChannels = 2 })
		node.Channel("open:{n}", fanfare.ChannelOptions{Public: true})
		node.Channel("closed", fanfare.ChannelOptions{})
		c := fanfaretest.Connect(t, node, "ann")
		requireSubscribe(t, c, "open:1")
		_, err := c.Subscribe("closed")
		require.ErrorIs(t, err, fanfare.ErrPermissionDenied)
		requireSubscribe(t, c, "open:2")
		_, err = c.Subscribe("open:3")
		require.ErrorIs(t, err, fanfare.ErrLimitExceeded)
		require.NoError(t, c.Unsubscribe("open:1"))
		requireSubscribe(t, c, "open:3")
	})
	inBubble(t, "default is 128 channels", func(t *testing.T) {
		node := startNode(t)
		node.Channel("{n}", fanfare.ChannelOptions{Public: true})
		c := fanfaretest.Connect(t, node, "ann")
		for i := range 128 {
			requireSubscribe(t, c, fmt.Sprint(i))
		}
		_, err := c.Subscribe("128")
		require.ErrorIs(t, err, fanfare.ErrLimitExceeded)
	})
	inBubble(t, "subscribers of a channel: 106", func(t *testing.T) {
		node := startNode(t)
		node.Channel("small", fanfare.ChannelOptions{Public: true, MaxSubscribers: 1, Presence: true})
		ann, ben := fanfaretest.Connect(t, node, "ann"), fanfaretest.Connect(t, node, "ben")
		requireSubscribe(t, ann, "small")
		_, err := ben.Subscribe("small")
		require.ErrorIs(t, err, fanfare.ErrLimitExceeded)
		stats, err := node.PresenceStats(t.Context(), "small")
		require.NoError(t, err)
		require.Equal(t, 1, stats.Clients)
		ann.Close()
		synctest.Wait()
		requireSubscribe(t, ben, "small")
	})
}

func TestSubscribe_Request(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		node := startNode(t)
		var got []string
		node.Channel("game:{id}:user-{name}", fanfare.ChannelOptions{
			Subscribe: func(_ context.Context, r *fanfare.SubscribeRequest) (fanfare.SubscribeReply, error) {
				got = append(got, r.Channel, r.Param("id"), r.Param("name"), r.Param("other"), r.Token, string(r.Data), r.Client.User())
				return fanfare.SubscribeReply{}, nil
			},
		})
		c := fanfaretest.Connect(t, node, "ann")
		requireSubscribe(t, c, "game:7:user-é", fanfaretest.Token("T"), fanfaretest.Data([]byte(`{"d":1}`)))
		require.Equal(t, []string{"game:7:user-é", "7", "é", "", "T", `{"d":1}`, "ann"}, got)
	})
}

func TestSubscribe_Spec4_Overlap(t *testing.T) {
	// slow is a channel whose hook takes a second.
	slow := fanfare.ChannelOptions{Subscribe: func(context.Context, *fanfare.SubscribeRequest) (fanfare.SubscribeReply, error) {
		time.Sleep(time.Second)
		return fanfare.SubscribeReply{}, nil
	}}
	inBubble(t, "subscribes of one frame overlap up to the limit", func(t *testing.T) {
		node := startNode(t, func(c *fanfare.Config) { c.Concurrency = 2 })
		node.Channel("slow:{n}", slow)
		c := fanfaretest.Connect(t, node, "ann")
		var frame []string
		for i := range 4 {
			frame = append(frame, fmt.Sprintf(`{"id":%d,"subscribe":{"channel":"slow:%d"}}`, 900+i, i))
		}
		require.Empty(t, ask(t, c, strings.Join(frame, "\n")))
		time.Sleep(time.Second)
		require.Len(t, received(t, c), 2)
		time.Sleep(time.Second)
		require.Len(t, received(t, c), 2)
	})
	inBubble(t, "105 while the first one is under way", func(t *testing.T) {
		node := startNode(t)
		node.Channel("slow:{n}", slow)
		c := fanfaretest.Connect(t, node, "ann")
		require.Equal(t, []string{`{"id":901,"error":{"code":105,"message":"already subscribed"}}`},
			ask(t, c, `{"id":900,"subscribe":{"channel":"slow:1"}}`+"\n"+`{"id":901,"subscribe":{"channel":"slow:1"}}`))
		time.Sleep(time.Second)
		require.Equal(t, []string{`{"id":900,"subscribe":{}}`}, received(t, c))
	})
	inBubble(t, "rule 11: an unsubscribe waits for its subscribe, the next subscribe for both", func(t *testing.T) {
		node := startNode(t)
		node.Channel("slow:{n}", slow)
		c := fanfaretest.Connect(t, node, "ann")
		require.Empty(t, ask(t, c, `{"id":900,"subscribe":{"channel":"slow:1"}}`+"\n"+
			`{"id":901,"unsubscribe":{"channel":"slow:1"}}`+"\n"+`{"id":902,"subscribe":{"channel":"slow:1"}}`))
		time.Sleep(time.Second)
		require.Equal(t, []string{`{"id":900,"subscribe":{}}`, `{"id":901,"unsubscribe":{}}`}, received(t, c))
		time.Sleep(time.Second)
		require.Equal(t, []string{`{"id":902,"subscribe":{}}`}, received(t, c))
	})
	inBubble(t, "a refused subscribe and its unsubscribe", func(t *testing.T) {
		node := startNode(t)
		node.Channel("closed", fanfare.ChannelOptions{})
		c := fanfaretest.Connect(t, node, "ann")
		require.Equal(t, []string{`{"id":900,"error":{"code":103,"message":"permission denied"}}`, `{"id":901,"unsubscribe":{}}`},
			ask(t, c, `{"id":900,"subscribe":{"channel":"closed"}}`+"\n"+`{"id":901,"unsubscribe":{"channel":"closed"}}`))
	})
	inBubble(t, "a subscribe that the app refuses, its unsubscribe, and the next try", func(t *testing.T) {
		node := startNode(t)
		node.Channel("closed", fanfare.ChannelOptions{Subscribe: func(context.Context, *fanfare.SubscribeRequest) (fanfare.SubscribeReply, error) {
			return fanfare.SubscribeReply{}, fanfare.ErrPermissionDenied
		}})
		c := fanfaretest.Connect(t, node, "ann")
		for range 100 {
			require.Equal(t, []string{`{"id":900,"error":{"code":103,"message":"permission denied"}}`, `{"id":901,"unsubscribe":{}}`,
				`{"id":902,"error":{"code":103,"message":"permission denied"}}`},
				ask(t, c, `{"id":900,"subscribe":{"channel":"closed"}}`+"\n"+`{"id":901,"unsubscribe":{"channel":"closed"}}`+"\n"+
					`{"id":902,"subscribe":{"channel":"closed"}}`))
		}
	})
}

func TestSubscribe_Spec4_2_Ordering(t *testing.T) {
	for name, options := range map[string]fanfare.ChannelOptions{
		"without history": {Public: true},
		"with history":    {Public: true, History: fanfare.History{Size: 100, TTL: time.Hour}},
	} {
		inBubble(t, name, func(t *testing.T) {
			node := startNode(t)
			node.Channel("x", options)
			c := fanfaretest.Connect(t, node, "ann")
			stop := make(chan struct{})
			done := make(chan struct{})
			go func() {
				defer close(done)
				for i := 1; ; i++ {
					select {
					case <-stop:
						return
					default:
					}
					if _, err := node.Publish(context.Background(), "x", fmt.Append(nil, i)); err != nil {
						t.Error(err)
						return
					}
					time.Sleep(time.Microsecond)
				}
			}()
			// The client itself fails the test for a publication before the subscribe reply or after the unsubscribe.
			for range 200 {
				requireSubscribe(t, c, "x")
				require.NoError(t, c.Unsubscribe("x"))
			}
			close(stop)
			<-done
			require.NoError(t, c.Check())
		})
	}
	inBubble(t, "the server's unsubscribe is the last of its channel", func(t *testing.T) {
		node := startNode(t)
		node.Channel("x", room)
		c := fanfaretest.Connect(t, node, "ann")
		requireSubscribe(t, c, "x")
		requirePublish(t, node, "x", `1`)
		require.NoError(t, node.Unsubscribe(t.Context(), "ann", "x"))
		requirePublish(t, node, "x", `2`)
		require.Equal(t, []string{"x 1", "x unsubscribe 2000 server unsubscribe"}, events(c))
		requireSubscribe(t, c, "x")
	})
}

func TestSubscribe_UnsubscribedNotice(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var notices []string
		options := fanfare.ChannelOptions{
			Subscribe: func(_ context.Context, r *fanfare.SubscribeRequest) (fanfare.SubscribeReply, error) {
				if r.Param("id") == "refused" {
					return fanfare.SubscribeReply{}, fanfare.ErrPermissionDenied
				}
				return fanfare.SubscribeReply{}, nil
			},
			Unsubscribed: func(ctx context.Context, n *fanfare.UnsubscribeNotice) {
				notices = append(notices, fmt.Sprint(n.Client.User(), " ", n.Channel, " ", n.Param("id"), " ", n.Code, " ", ctx.Err()))
			},
		}
		node := startNode(t)
		node.Channel("r:{id}", options)
		c := fanfaretest.Connect(t, node, "ann")
		_, err := c.Subscribe("r:refused")
		require.ErrorIs(t, err, fanfare.ErrPermissionDenied)
		for _, how := range []func(){
			func() { require.NoError(t, c.Unsubscribe("r:1")) },
			func() { require.NoError(t, node.Unsubscribe(t.Context(), "ann", "r:1")) },
			func() { c.Close() },
		} {
			requireSubscribe(t, c, "r:1")
			how()
			synctest.Wait()
		}
		require.Equal(t, []string{"ann r:1 1 0 <nil>", "ann r:1 1 2000 <nil>", "ann r:1 1 1 <nil>"}, notices)
	})
}
