package fanfaretest_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare"
	"github.com/fanfare-go/fanfare/fanfaretest"
)

// newNode makes a node with a channel of every sort that the tests need. It is shut down at the end of the test.
func newNode(t *testing.T, change ...func(*fanfare.Config)) *fanfare.Node {
	t.Helper()
	config := fanfare.Config{Authenticate: fanfaretest.Authenticate, DrainWindow: -1}
	for _, f := range change {
		f(&config)
	}
	node, err := fanfare.New(config)
	require.NoError(t, err)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		defer cancel()
		require.NoError(t, node.Shutdown(ctx))
	})
	node.Channel("news", fanfare.ChannelOptions{Public: true, AllowPublish: fanfare.Anyone})
	node.Channel("room:{id}", fanfare.ChannelOptions{
		Public:        true,
		History:       fanfare.History{Size: 10, TTL: time.Hour},
		AllowPublish:  fanfare.Subscribers,
		AllowHistory:  fanfare.Subscribers,
		AllowPresence: fanfare.Anyone,
		Presence:      true,
		JoinLeave:     true,
	})
	node.Channel("secret", fanfare.ChannelOptions{})
	node.Channel("expiring", fanfare.ChannelOptions{
		Subscribe: func(context.Context, *fanfare.SubscribeRequest) (fanfare.SubscribeReply, error) {
			return fanfare.SubscribeReply{ExpireAt: time.Now().Add(time.Minute)}, nil
		},
		SubRefresh: func(_ context.Context, r *fanfare.SubRefreshRequest) (fanfare.SubRefreshReply, error) {
			if r.Token != "good" {
				return fanfare.SubRefreshReply{}, fanfare.ErrPermissionDenied
			}
			return fanfare.SubRefreshReply{ExpireAt: time.Now().Add(time.Hour)}, nil
		},
	})
	node.RPC("echo", func(_ context.Context, r *fanfare.RPCRequest) ([]byte, error) { return r.Data, nil })
	return node
}

func bubble(t *testing.T, name string, f func(t *testing.T)) {
	t.Helper()
	t.Run(name, func(t *testing.T) {
		synctest.Test(t, f)
	})
}

func publish(t *testing.T, node *fanfare.Node, channel string, from, to int) {
	t.Helper()
	for i := from; i <= to; i++ {
		_, err := node.Publish(t.Context(), channel, fmt.Appendf(nil, "%d", i))
		require.NoError(t, err)
	}
}

func next(t *testing.T, c *fanfaretest.Client, kind fanfaretest.Kind) fanfaretest.Event {
	t.Helper()
	e, err := c.Next(t.Context())
	require.NoError(t, err)
	require.Equal(t, kind, e.Kind, e.Raw)
	return e
}

func TestConnect(t *testing.T) {
	bubble(t, "identity", func(t *testing.T) {
		var seen *fanfare.ConnectRequest
		var cookie string
		node := newNode(t, func(c *fanfare.Config) {
			c.Authenticate = func(_ context.Context, r *fanfare.ConnectRequest) (fanfare.Identity, error) {
				seen, cookie = r, r.HTTP.Header.Get("Cookie")
				return fanfare.Identity{User: fanfaretest.User(r.HTTP.Context()), Data: []byte(`{"hello": "ann"}`)}, nil
			}
		})
		c := fanfaretest.Connect(t, node, "ann",
			fanfaretest.WithToken("tok"),
			fanfaretest.WithData([]byte(`{ "v" : 1.0 }`)),
			fanfaretest.WithRequest(func(r *http.Request) { r.Header.Set("Cookie", "a=b") }))
		require.NotEmpty(t, c.ID())
		require.Equal(t, c.ID(), seen.ClientID)
		require.Equal(t, "tok", seen.Token)
		require.Equal(t, `{ "v" : 1.0 }`, string(seen.Data))
		require.Equal(t, "a=b", cookie)
		raw, err := c.NextRaw(t.Context())
		require.NoError(t, err)
		require.Contains(t, raw, `"data":{"hello": "ann"}`)
	})
	bubble(t, "refused with an error", func(t *testing.T) {
		node := newNode(t, func(c *fanfare.Config) {
			c.Authenticate = func(context.Context, *fanfare.ConnectRequest) (fanfare.Identity, error) {
				return fanfare.Identity{}, fanfare.ErrUnauthorized
			}
		})
		_, err := fanfaretest.Dial(t, node, "eve").Connect()
		require.ErrorIs(t, err, fanfare.ErrUnauthorized)
	})
	bubble(t, "refused with a disconnect", func(t *testing.T) {
		node := newNode(t, func(c *fanfare.Config) {
			c.Authenticate = func(context.Context, *fanfare.ConnectRequest) (fanfare.Identity, error) {
				return fanfare.Identity{}, fanfare.DisconnectInvalidToken
			}
		})
		_, err := fanfaretest.Dial(t, node, "eve").Connect()
		require.ErrorIs(t, err, fanfare.DisconnectInvalidToken)
		_, err = fanfaretest.Dial(t, node, "eve", fanfaretest.Unidirectional()).Connect()
		require.ErrorIs(t, err, fanfare.DisconnectInvalidToken)
	})
	bubble(t, "refused with a status", func(t *testing.T) {
		node := newNode(t)
		require.NoError(t, node.Shutdown(t.Context()))
		_, err := fanfaretest.Dial(t, node, "ann").Connect()
		require.ErrorContains(t, err, "503")
	})
	bubble(t, "server-side subscriptions", func(t *testing.T) {
		node := newNode(t, func(c *fanfare.Config) {
			c.Authenticate = func(_ context.Context, r *fanfare.ConnectRequest) (fanfare.Identity, error) {
				return fanfare.Identity{User: "ann", Subscriptions: map[string]fanfare.SubscribeReply{"room:1": {}}}, nil
			}
		})
		publish(t, node, "room:1", 1, 2)
		c := fanfaretest.Connect(t, node, "ann")
		publish(t, node, "room:1", 3, 3)
		require.EqualValues(t, 3, next(t, c, fanfaretest.KindPublication).Publication.Offset)
		at := c.Position("room:1")
		c.Close()
		publish(t, node, "room:1", 4, 5)

		c = fanfaretest.Dial(t, node, "ann", fanfaretest.WithSubs(map[string]fanfare.Position{"room:1": at}))
		r, err := c.Connect()
		require.NoError(t, err)
		require.True(t, r.Subs["room:1"].Recovered)
		require.Len(t, r.Subs["room:1"].Publications, 2)
		require.NoError(t, c.Check())
	})
}

func TestConnect_unidirectional(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		node := newNode(t, func(c *fanfare.Config) {
			c.Authenticate = func(context.Context, *fanfare.ConnectRequest) (fanfare.Identity, error) {
				return fanfare.Identity{User: "ann", Subscriptions: map[string]fanfare.SubscribeReply{"news": {}}}, nil
			}
		})
		c := fanfaretest.Connect(t, node, "ann", fanfaretest.Unidirectional())
		publish(t, node, "news", 1, 1)
		require.Equal(t, "1", string(next(t, c, fanfaretest.KindPublication).Publication.Data))
		_, err := c.Subscribe("news")
		require.ErrorContains(t, err, "unidirectional")
		time.Sleep(5 * time.Minute) // pings, and nothing is missed for want of pongs
		require.NoError(t, node.Disconnect(t.Context(), "ann", nil))
		require.EqualValues(t, 3503, next(t, c, fanfaretest.KindDisconnect).Code)
		d, err := c.Closed(t.Context())
		require.NoError(t, err)
		require.Equal(t, fanfare.DisconnectForce, d)
	})
}

func TestClient_commands(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		node := newNode(t)
		ann := fanfaretest.Connect(t, node, "ann")
		sub, err := ann.Subscribe("room:1", fanfaretest.JoinLeave())
		require.NoError(t, err)
		require.True(t, sub.Positioned && sub.Recoverable)
		require.NotEmpty(t, sub.Epoch)
		require.Equal(t, ann.ID(), next(t, ann, fanfaretest.KindJoin).Info.Client)

		_, err = ann.Subscribe("room:1")
		require.ErrorIs(t, err, fanfare.ErrAlreadySubscribed)
		_, err = ann.Subscribe("secret")
		require.ErrorIs(t, err, fanfare.ErrPermissionDenied)
		_, err = ann.Subscribe("nothing")
		require.ErrorIs(t, err, fanfare.ErrUnknownChannel)

		ben := fanfaretest.Connect(t, node, "ben")
		require.ErrorIs(t, ben.Publish("room:1", []byte(`1`)), fanfare.ErrPermissionDenied)
		_, err = ben.Subscribe("room:1")
		require.NoError(t, err)
		require.Equal(t, "ben", next(t, ann, fanfaretest.KindJoin).Info.User)

		require.NoError(t, ann.Publish("room:1", []byte(`{"a": "<é>"}`)))
		for _, c := range []*fanfaretest.Client{ann, ben} {
			p := next(t, c, fanfaretest.KindPublication).Publication
			require.Equal(t, `{"a": "<é>"}`, string(p.Data))
			require.Equal(t, fanfare.Position{Offset: 1, Epoch: sub.Epoch}, p.Position)
			require.Equal(t, ann.ID(), p.Info.Client)
			require.Equal(t, p.Position, c.Position("room:1"))
		}
		members, err := ann.Presence("room:1")
		require.NoError(t, err)
		require.Len(t, members, 2)
		require.Equal(t, "ben", members[ben.ID()].User)
		stats, err := ann.PresenceStats("room:1")
		require.NoError(t, err)
		require.Equal(t, fanfare.PresenceStats{Clients: 2, Users: 2}, stats)

		publish(t, node, "room:1", 2, 4)
		h, err := ann.History("room:1", fanfare.HistoryQuery{Since: &fanfare.Position{Offset: 4}, Limit: 2, Reverse: true})
		require.NoError(t, err)
		require.EqualValues(t, 4, h.Offset)
		require.Len(t, h.Publications, 2)
		require.EqualValues(t, 3, h.Publications[0].Offset)

		out, err := ann.RPC("echo", []byte(`[1, 2]`))
		require.NoError(t, err)
		require.Equal(t, `[1, 2]`, string(out))
		out, err = ann.RPC("echo", nil)
		require.NoError(t, err)
		require.Nil(t, out)
		_, err = ann.RPC("none", nil)
		require.ErrorIs(t, err, fanfare.ErrMethodNotFound)

		require.NoError(t, ben.Unsubscribe("room:1"))
		require.NoError(t, ben.Unsubscribe("room:1"))
		for range 3 {
			next(t, ann, fanfaretest.KindPublication)
		}
		require.Equal(t, "ben", next(t, ann, fanfaretest.KindLeave).Info.User)
		require.NoError(t, errors.Join(ann.Check(), ben.Check()))
	})
}

func TestClient_Subscribe_recovers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		node := newNode(t)
		c := fanfaretest.Connect(t, node, "ann")
		_, err := c.Subscribe("room:1")
		require.NoError(t, err)
		publish(t, node, "room:1", 1, 3)
		synctest.Wait()
		at := c.Position("room:1")
		require.EqualValues(t, 3, at.Offset)
		c.Close()
		publish(t, node, "room:1", 4, 6)

		c = fanfaretest.Connect(t, node, "ann")
		r, err := c.Subscribe("room:1", fanfaretest.Recover(at))
		require.NoError(t, err)
		require.True(t, r.WasRecovering && r.Recovered)
		require.Len(t, r.Publications, 3)
		require.Equal(t, at, r.Position)
		require.EqualValues(t, 6, c.Position("room:1").Offset)

		d := fanfaretest.Connect(t, node, "ann")
		r, err = d.Subscribe("room:1", fanfaretest.Recover(fanfare.Position{Offset: 1, Epoch: "other"}))
		require.NoError(t, err)
		require.True(t, r.WasRecovering && !r.Recovered)
		require.NoError(t, d.Unsubscribe("room:1"))
		_, err = d.Subscribe("room:1", fanfaretest.Recover(fanfare.Position{Offset: 1, Epoch: "other"}), fanfaretest.RejectUnrecovered())
		require.ErrorIs(t, err, fanfare.ErrUnrecoverablePosition)
		require.NoError(t, errors.Join(c.Check(), d.Check()))
	})
}

func TestClient_pings(t *testing.T) {
	bubble(t, "answered", func(t *testing.T) {
		c := fanfaretest.Connect(t, newNode(t), "ann")
		time.Sleep(10 * time.Minute)
		_, err := c.RPC("echo", []byte(`1`))
		require.NoError(t, err)
	})
	bubble(t, "not answered", func(t *testing.T) {
		c := fanfaretest.Connect(t, newNode(t), "ann", fanfaretest.NoPong())
		d, err := c.Closed(t.Context())
		require.NoError(t, err)
		require.Equal(t, fanfare.DisconnectNoPong, d)
		_, err = c.Subscribe("news")
		require.ErrorIs(t, err, fanfare.DisconnectNoPong)
	})
}

func TestClient_refresh(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		node := newNode(t, func(c *fanfare.Config) {
			c.Authenticate = func(context.Context, *fanfare.ConnectRequest) (fanfare.Identity, error) {
				return fanfare.Identity{User: "ann", ExpireAt: time.Now().Add(time.Hour)}, nil
			}
			c.Refresh = func(_ context.Context, r *fanfare.RefreshRequest) (fanfare.RefreshReply, error) {
				return fanfare.RefreshReply{ExpireAt: time.Now().Add(2 * time.Hour)}, nil
			}
		})
		c := fanfaretest.Dial(t, node, "ann", fanfaretest.WithToken("t"))
		connected, err := c.Connect()
		require.NoError(t, err)
		require.True(t, connected.Expires)
		require.InDelta(t, time.Hour, connected.TTL, float64(time.Second))
		r, err := c.Refresh("token")
		require.NoError(t, err)
		require.InDelta(t, 2*time.Hour, r.TTL, float64(time.Second))

		sub, err := c.Subscribe("expiring", fanfaretest.Token("t"))
		require.NoError(t, err)
		require.True(t, sub.Expires)
		_, err = c.SubRefresh("expiring", "bad")
		require.ErrorIs(t, err, fanfare.ErrPermissionDenied)
		r, err = c.SubRefresh("expiring", "good")
		require.NoError(t, err)
		require.InDelta(t, time.Hour, r.TTL, float64(time.Second))
		time.Sleep(2 * time.Hour)
		e := next(t, c, fanfaretest.KindUnsubscribe)
		require.EqualValues(t, 2501, e.Code)
	})
}

func TestClient_serverPushes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		clients := make(chan *fanfare.Client, 1)
		node := newNode(t, func(c *fanfare.Config) {
			c.Message = func(_ context.Context, r *fanfare.MessageRequest) error {
				clients <- r.Client
				return r.Client.Send(r.Data)
			}
		})
		c := fanfaretest.Connect(t, node, "ann")
		require.NoError(t, c.Send([]byte(`{"n":1}`)))
		require.Equal(t, `{"n":1}`, string(next(t, c, fanfaretest.KindMessage).Data))
		require.Equal(t, c.ID(), (<-clients).ID())

		require.NoError(t, node.Subscribe(t.Context(), "ann", "room:1", fanfare.SubscribeReply{Data: []byte(`1`)}))
		e := next(t, c, fanfaretest.KindSubscribe)
		require.Equal(t, "room:1", e.Channel)
		require.Equal(t, "1", string(e.Subscription.Data))
		publish(t, node, "room:1", 1, 1)
		next(t, c, fanfaretest.KindPublication)
		require.NoError(t, node.Unsubscribe(t.Context(), "ann", "room:1"))
		require.EqualValues(t, 2000, next(t, c, fanfaretest.KindUnsubscribe).Code)

		require.NoError(t, node.Disconnect(t.Context(), "ann", &fanfare.Disconnect{Code: 4501, Reason: "banned"}))
		_, err := c.Next(t.Context())
		require.ErrorIs(t, err, &fanfare.Disconnect{Code: 4501})
		require.NoError(t, c.Check())
	})
}

func TestClient_stalled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		node := newNode(t, func(c *fanfare.Config) { c.MaxQueueSize, c.MaxPublicationSize = 4<<10, 1<<10 })
		slow, quick := fanfaretest.Connect(t, node, "slow"), fanfaretest.Connect(t, node, "quick")
		for _, c := range []*fanfaretest.Client{slow, quick} {
			_, err := c.Subscribe("news")
			require.NoError(t, err)
		}
		slow.Stall()
		for i := range 10 { // so slowly that the other one can follow
			publish(t, node, "news", 1, 50)
			synctest.Wait()
			require.Len(t, quick.Events(), 50, "round %d", i)
		}
		d, err := slow.Closed(t.Context())
		require.NoError(t, err)
		require.Contains(t, []uint32{3008, 3009}, d.Code)
		require.NoError(t, errors.Join(slow.Check(), quick.Check()))
	})
}

func TestClient_raw(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := fanfaretest.Dial(t, newNode(t), "ann")
		require.NoError(t, c.Raw(`{"connect":{},"id":1000000}`+"\n"+`{"subscribe":{"channel":"news","flag":1},"id":1000001}`))
		raw, err := c.NextRaw(t.Context())
		require.NoError(t, err)
		require.Contains(t, raw, `{"id":1000000,"connect":{`)
		raw, err = c.NextRaw(t.Context())
		require.NoError(t, err)
		require.Equal(t, `{"id":1000001,"subscribe":{}}`, raw)
		require.NoError(t, c.Raw(`{"id":`))
		d, err := c.Closed(t.Context())
		require.NoError(t, err)
		require.Equal(t, fanfare.DisconnectBadRequest, d)
		require.NoError(t, c.Check())
	})
}

func TestClient_outsideBubble(t *testing.T) {
	node := newNode(t)
	c := fanfaretest.Connect(t, node, "ann")
	_, err := c.Subscribe("news")
	require.NoError(t, err)
	require.NoError(t, c.Publish("news", []byte(`1`)))
	require.Equal(t, "1", string(next(t, c, fanfaretest.KindPublication).Publication.Data))

	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = c.Next(ctx)
	require.ErrorIs(t, err, context.Canceled)
}

func TestClient_commandTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := fanfaretest.Connect(t, newNode(t), "ann", fanfaretest.WithTimeout(300*time.Millisecond))
		c.Stall()
		start := time.Now()
		_, err := c.RPC("echo", []byte(`1`))
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.Equal(t, 300*time.Millisecond, time.Since(start))
	})
}
