package fanfare_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare"
	"github.com/fanfare-go/fanfare/fanfaretest"
)

func TestConnect_Spec4_ProcessingRules(t *testing.T) {
	for name, frame := range map[string]string{
		"rule 1: subscribe comes first":     `{"id":1,"subscribe":{"channel":"open"}}`,
		"rule 1: pong comes first":          `{}`,
		"rule 1: send comes first":          `{"send":{"data":1}}`,
		"rule 4: connect without an id":     `{"connect":{}}`,
		"spec 2.2: empty frame comes first": ``,
		"spec 2.2: malformed first command": `{"id":1,"connect":`,
		"spec 2.2: connect is no object":    `{"id":1,"connect":[]}`,
	} {
		inBubble(t, name, func(t *testing.T) {
			node := startNode(t)
			node.Channel("open", fanfare.ChannelOptions{Public: true})
			c := fanfaretest.Dial(t, node, "ann")
			require.NoError(t, c.Raw(frame))
			requireClosed(t, c, fanfare.DisconnectBadRequest)
			require.Empty(t, received(t, c))
		})
	}
	inBubble(t, "rule 2: second connect", func(t *testing.T) {
		c := fanfaretest.Connect(t, startNode(t), "ann")
		require.NoError(t, c.Raw(`{"id":900,"connect":{}}`))
		requireClosed(t, c, fanfare.DisconnectBadRequest)
	})
	inBubble(t, "rule 3: connect and subscribes in one frame", func(t *testing.T) {
		node := startNode(t, func(c *fanfare.Config) {
			c.Authenticate = func(context.Context, *fanfare.ConnectRequest) (fanfare.Identity, error) {
				time.Sleep(time.Second)
				return fanfare.Identity{User: "ann"}, nil
			}
		})
		users := make(chan string, 2)
		node.Channel("{x}", fanfare.ChannelOptions{
			Subscribe: func(_ context.Context, r *fanfare.SubscribeRequest) (fanfare.SubscribeReply, error) {
				users <- r.Client.User()
				return fanfare.SubscribeReply{}, nil
			},
		})
		c := fanfaretest.Dial(t, node, "")
		require.Empty(t, ask(t, c, `{"connect":{"name":"js"},"id":7}`+"\n"+
			`{"subscribe":{"channel":"a","flag":1},"id":8}`+"\n"+`{"subscribe":{"channel":"b","flag":1},"id":9}`))
		time.Sleep(time.Second)
		lines := received(t, c)
		require.Len(t, lines, 3)
		require.Regexp(t, `^{"id":7,"connect":{"client":"[0-9a-f-]{36}","version":"0.1.0","ping":25,"pong":true}}$`, lines[0])
		require.ElementsMatch(t, []string{`{"id":8,"subscribe":{}}`, `{"id":9,"subscribe":{}}`}, lines[1:])
		require.Equal(t, "ann", <-users)
		require.Equal(t, "ann", <-users)
	})
	inBubble(t, "rule 9: after an error reply nothing is answered and the transport is dropped", func(t *testing.T) {
		node := startNode(t, deny(fanfare.ErrUnauthorized))
		node.Channel("open", fanfare.ChannelOptions{Public: true})
		c := fanfaretest.Dial(t, node, "")
		require.Equal(t, []string{`{"id":3,"error":{"code":101,"message":"unauthorized"}}`},
			ask(t, c, `{"id":3,"connect":{}}`+"\n"+`{"id":4,"subscribe":{"channel":"open"}}`))
		requireOpen(t, c)
		require.Empty(t, ask(t, c, `{"id":5,"connect":{}}`))
		require.Empty(t, ask(t, c, `{"id":6,"rpc":{"method":"x"}}`))
		began := time.Now()
		requireClosed(t, c, dropped)
		require.LessOrEqual(t, time.Since(began), 5*time.Second)
	})
	inBubble(t, "rule 10: no connect in time", func(t *testing.T) {
		began := time.Now()
		c := fanfaretest.Dial(t, startNode(t), "")
		requireClosed(t, c, fanfare.DisconnectStale)
		require.Equal(t, 15*time.Second, time.Since(began))
	})
	inBubble(t, "rule 10: a connected client is never stale", func(t *testing.T) {
		c := fanfaretest.Connect(t, startNode(t), "")
		time.Sleep(time.Hour)
		requireOpen(t, c)
	})
}

func TestConnect_Spec5_1_Outcomes(t *testing.T) {
	soon := func(d time.Duration) time.Time { return time.Now().Add(d) }
	for name, test := range map[string]struct {
		identity fanfare.Identity
		err      error
		reply    *fanfare.Error
		closed   *fanfare.Disconnect
	}{
		"token expired":         {err: fanfare.ErrTokenExpired, reply: fanfare.ErrTokenExpired},
		"wrapped refusal":       {err: fmt.Errorf("no: %w", fanfare.ErrTokenExpired), reply: fanfare.ErrTokenExpired},
		"temporary trouble":     {err: errors.New("database is down"), reply: fanfare.ErrInternal},
		"own error":             {err: &fanfare.Error{Code: 400, Message: "no"}, reply: &fanfare.Error{Code: 400, Message: "no"}},
		"error without message": {err: &fanfare.Error{Code: 400}, reply: &fanfare.Error{Code: 400, Message: "error"}},
		"error of the clients":  {err: &fanfare.Error{Code: 7, Message: "no"}, reply: fanfare.ErrInternal},
		"expired credentials":   {identity: fanfare.Identity{ExpireAt: time.Unix(1, 0)}, reply: fanfare.ErrExpired},
		"invalid token":         {err: fanfare.DisconnectInvalidToken, closed: fanfare.DisconnectInvalidToken},
		"wrapped disconnect":    {err: fmt.Errorf("no: %w", fanfare.DisconnectConnectionLimit), closed: fanfare.DisconnectConnectionLimit},
		"own disconnect":        {err: &fanfare.Disconnect{Code: 4500, Reason: "banned"}, closed: &fanfare.Disconnect{Code: 4500, Reason: "banned"}},
		"data is not JSON":      {identity: fanfare.Identity{Data: []byte("{")}, closed: fanfare.DisconnectInappropriate},
		"info is not JSON":      {identity: fanfare.Identity{Info: []byte("{")}, closed: fanfare.DisconnectInappropriate},
	} {
		inBubble(t, name, func(t *testing.T) {
			node := startNode(t, func(c *fanfare.Config) {
				c.Authenticate = func(context.Context, *fanfare.ConnectRequest) (fanfare.Identity, error) {
					return test.identity, test.err
				}
			})
			c := fanfaretest.Dial(t, node, "")
			_, err := c.Connect()
			if test.closed != nil {
				requireClosed(t, c, test.closed)
				require.Empty(t, received(t, c), "no reply")
				return
			}
			require.Equal(t, test.reply, err)
			requireClosed(t, c, dropped)
		})
	}
	inBubble(t, "over the channel limit", func(t *testing.T) {
		node := startNode(t, identify(fanfare.Identity{Subscriptions: map[string]fanfare.SubscribeReply{"a": {}, "b": {}, "c": {}}}),
			func(c *fanfare.Config) { c.MaxChannels = 2 })
		node.Channel("{x}", fanfare.ChannelOptions{Public: true})
		c := fanfaretest.Dial(t, node, "")
		require.NoError(t, c.Raw(`{"id":1,"connect":{}}`))
		requireClosed(t, c, fanfare.DisconnectChannelLimit)
	})
	inBubble(t, "result", func(t *testing.T) {
		node := startNode(t, identify(fanfare.Identity{User: "ann", Data: []byte("{\n\"a\" : 1}"), ExpireAt: soon(time.Hour)}))
		c := fanfaretest.Dial(t, node, "")
		require.Regexp(t, `^{"id":1,"connect":{"client":"[0-9a-f-]{36}","version":"0.1.0","data":{"a" : 1},"ping":25,"pong":true}}$`,
			ask(t, c, `{"id":1,"connect":{}}`)[0], "without a Refresh hook the client is not asked to refresh")
	})
	inBubble(t, "expires and ttl when the client is to refresh", func(t *testing.T) {
		node := startNode(t, identify(fanfare.Identity{ExpireAt: soon(1500 * time.Millisecond)}), func(c *fanfare.Config) {
			c.Refresh = func(context.Context, *fanfare.RefreshRequest) (fanfare.RefreshReply, error) {
				return fanfare.RefreshReply{}, nil
			}
		})
		r, err := fanfaretest.Dial(t, node, "", fanfaretest.WithToken("t")).Connect()
		require.NoError(t, err)
		require.True(t, r.Expires)
		require.Equal(t, time.Second, r.TTL)
	})
	inBubble(t, "ttl is at least one second", func(t *testing.T) {
		node := startNode(t, identify(fanfare.Identity{ExpireAt: soon(time.Millisecond)}), func(c *fanfare.Config) {
			c.Refresh = func(context.Context, *fanfare.RefreshRequest) (fanfare.RefreshReply, error) {
				return fanfare.RefreshReply{}, nil
			}
		})
		r, err := fanfaretest.Dial(t, node, "", fanfaretest.WithToken("t")).Connect()
		require.NoError(t, err)
		require.Equal(t, time.Second, r.TTL)
	})
}

func TestConnect_Authenticate(t *testing.T) {
	inBubble(t, "what the client sent, and what middleware knows", func(t *testing.T) {
		type key struct{}
		var got fanfare.ConnectRequest
		var value any
		var cookie string
		var ctxErr error
		var deadline time.Time
		node := startNode(t, func(c *fanfare.Config) {
			c.Authenticate = func(ctx context.Context, r *fanfare.ConnectRequest) (fanfare.Identity, error) {
				got, value, cookie, ctxErr = *r, ctx.Value(key{}), r.HTTP.Header.Get("Cookie"), r.HTTP.Context().Err()
				deadline, _ = r.HTTP.Context().Deadline()
				return fanfare.Identity{User: "ann", Info: []byte(`{"n":1}`), State: 42}, nil
			}
		})
		began := time.Now()
		c := fanfaretest.Dial(t, node, "", fanfaretest.WithRequest(func(r *http.Request) {
			r.Header.Set("Cookie", "sid=1")
			ctx, cancel := context.WithCancel(context.WithValue(r.Context(), key{}, "from middleware"))
			cancel() // as net/http does when the handler has returned
			*r = *r.WithContext(ctx)
		}))
		reply := ask(t, c, `{"id":1,"connect":{"token":"T","data":{"d":1},"name":"js","version":"2","headers":{"X":"y"},"flag":1,"unknown":{}}}`)
		require.Contains(t, reply[0], got.ClientID)
		require.Equal(t, "from middleware", value)
		require.Equal(t, "sid=1", cookie)
		require.NoError(t, ctxErr)
		require.Equal(t, began.Add(4*time.Second), deadline)
		require.Equal(t, "T", got.Token)
		require.JSONEq(t, `{"d":1}`, string(got.Data))
		require.Equal(t, "js", got.Name)
		require.Equal(t, "2", got.Version)
		require.Equal(t, map[string]string{"X": "y"}, got.Headers)
		require.Equal(t, "memory", got.Transport)
	})
	inBubble(t, "without it everybody is anonymous", func(t *testing.T) {
		node := startNode(t, func(c *fanfare.Config) { c.Authenticate = nil })
		var client *fanfare.Client
		node.RPC("who", func(_ context.Context, r *fanfare.RPCRequest) ([]byte, error) {
			client = r.Client
			return nil, nil
		})
		c := fanfaretest.Connect(t, node, "ann")
		_, err := c.RPC("who", nil)
		require.NoError(t, err)
		require.Empty(t, client.User())
		require.Equal(t, c.ID(), client.ID())
	})
	inBubble(t, "Disconnected is told of a connection that was accepted but failed to connect", func(t *testing.T) {
		told := make(chan fanfare.Disconnect, 2)
		node := startNode(t, identify(fanfare.Identity{User: "ann", ExpireAt: time.Unix(1, 0)}), func(c *fanfare.Config) {
			c.Disconnected = func(_ context.Context, n *fanfare.DisconnectNotice) { told <- *n.Disconnect }
		})
		c := fanfaretest.Dial(t, node, "ann")
		_, err := c.Connect()
		require.ErrorIs(t, err, fanfare.ErrExpired)
		require.Empty(t, told, "the client is to end the connection itself")
		time.Sleep(2 * time.Second)
		synctest.Wait()
		require.Equal(t, fanfare.Disconnect{Code: 0, Reason: "connect refused"}, <-told)
		require.Empty(t, told)
	})
	inBubble(t, "Disconnected is told once, and only about accepted connections", func(t *testing.T) {
		var notices []string
		node := startNode(t, func(c *fanfare.Config) {
			c.Authenticate = func(_ context.Context, r *fanfare.ConnectRequest) (fanfare.Identity, error) {
				if r.Token == "bad" {
					return fanfare.Identity{}, fanfare.ErrUnauthorized
				}
				return fanfare.Identity{User: r.Token, State: 7}, nil
			}
			c.Disconnected = func(ctx context.Context, n *fanfare.DisconnectNotice) {
				notices = append(notices, fmt.Sprintf("%s %v %v %v", n.Client.User(), n.Client.State(), n.Disconnect, ctx.Err()))
			}
		})
		_, err := fanfaretest.Dial(t, node, "", fanfaretest.WithToken("bad")).Connect()
		require.ErrorIs(t, err, fanfare.ErrUnauthorized)
		fanfaretest.Connect(t, node, "", fanfaretest.WithToken("ann")).Close()
		synctest.Wait()
		fanfaretest.Connect(t, node, "", fanfaretest.WithToken("ben"))
		require.NoError(t, node.Disconnect(t.Context(), "ben", nil))
		synctest.Wait()
		time.Sleep(time.Minute)
		require.Equal(t, []string{"ann 7 disconnect 3000: connection closed <nil>", "ben 7 disconnect 3503: force disconnect <nil>"}, notices)
	})
	inBubble(t, "logging out while connecting", func(t *testing.T) {
		// The broker is slow with the server's subscription: the client is authenticated, and not yet connected.
		broker := &gatedBroker{MemoryBroker: fanfare.NewMemoryBroker(fanfare.MemoryBrokerConfig{}), gate: make(chan struct{})}
		defer broker.Close()
		node := startNode(t, identify(fanfare.Identity{User: "ann", Subscriptions: map[string]fanfare.SubscribeReply{"x": {}}}),
			func(c *fanfare.Config) { c.Broker = broker })
		node.Channel("x", room)
		c := fanfaretest.Dial(t, node, "")
		require.NoError(t, c.Raw(`{"id":1,"connect":{}}`))
		synctest.Wait()
		require.NoError(t, node.Disconnect(t.Context(), "ann", nil))
		close(broker.gate)
		requireClosed(t, c, fanfare.DisconnectForce)
	})
}

func TestConnect_Spec8_6_Unidirectional(t *testing.T) {
	uni := fanfaretest.Unidirectional()
	inBubble(t, "connect comes first, with session and without node and pong", func(t *testing.T) {
		node := startNode(t, identify(fanfare.Identity{User: "ann", Data: []byte(`"d"`), Subscriptions: map[string]fanfare.SubscribeReply{"news": {}}}))
		node.Channel("news", room)
		c := fanfaretest.Connect(t, node, "", uni)
		requirePublish(t, node, "news", `1`)
		lines := received(t, c)
		require.Len(t, lines, 2)
		require.Regexp(t, `^{"connect":{"client":"[0-9a-f-]{36}","version":"0.1.0","data":"d","subs":{"news":{"recoverable":true,"positioned":true,"epoch":"\w+"}},"ping":25,"session":"[0-9a-f-]{36}"}}$`, lines[0])
		require.NotContains(t, strings.Split(lines[0], `"session"`)[1], c.ID(), "the session is a secret, the client's id is not")
		require.Equal(t, `{"channel":"news","pub":{"data":1,"offset":1}}`, lines[1])
	})
	for name, test := range map[string]struct {
		err  error
		want *fanfare.Disconnect
	}{
		"109":            {fanfare.ErrTokenExpired, fanfare.DisconnectExpired},
		"110":            {fanfare.ErrExpired, fanfare.DisconnectExpired},
		"111":            {fanfare.ErrTooManyRequests, fanfare.DisconnectTooManyRequests},
		"103":            {fanfare.ErrPermissionDenied, fanfare.DisconnectPermissionDenied},
		"101":            {fanfare.ErrUnauthorized, fanfare.DisconnectPermissionDenied}, // design 2: the client stops asking
		"107":            {fanfare.ErrBadRequest, fanfare.DisconnectInternal},
		"102":            {fanfare.ErrUnknownChannel, fanfare.DisconnectInternal},
		"another error":  {errors.New("oops"), fanfare.DisconnectInternal},
		"own error":      {&fanfare.Error{Code: 1000, Message: "x"}, fanfare.DisconnectInternal},
		"disconnect":     {fanfare.DisconnectInvalidToken, fanfare.DisconnectInvalidToken},
		"own disconnect": {&fanfare.Disconnect{Code: 4001, Reason: "later"}, &fanfare.Disconnect{Code: 4001, Reason: "later"}},
	} {
		inBubble(t, "a failed connect is a disconnect: "+name, func(t *testing.T) {
			c := fanfaretest.Dial(t, startNode(t, deny(test.err)), "", uni)
			require.Equal(t, []string{fmt.Sprintf(`{"disconnect":{"code":%d,"reason":%q}}`, test.want.Code, test.want.Reason)}, ask(t, c, `{}`))
			requireClosed(t, c, test.want)
		})
	}
	for name, first := range map[string]string{"malformed": `{"token"`, "no object": `[]`, "empty": ``} {
		inBubble(t, "first message is "+name, func(t *testing.T) {
			c := fanfaretest.Dial(t, startNode(t), "", uni)
			require.Equal(t, []string{`{"disconnect":{"code":3501,"reason":"bad request"}}`}, ask(t, c, first))
			requireClosed(t, c, fanfare.DisconnectBadRequest)
		})
	}
	inBubble(t, "later messages are ignored", func(t *testing.T) {
		c := fanfaretest.Connect(t, startNode(t), "ann", uni)
		for _, frame := range []string{`{}`, `nonsense`, ``, `{"id":1,"connect":{}}`} {
			require.Empty(t, ask(t, c, frame))
		}
		requireOpen(t, c)
	})
	inBubble(t, "pings need no pong", func(t *testing.T) {
		c := fanfaretest.Connect(t, startNode(t), "ann", uni)
		time.Sleep(5 * time.Minute)
		require.Contains(t, received(t, c), `{}`)
		requireOpen(t, c)
	})
	inBubble(t, "with a token an expiry just ends the connection, with Refresh hook too", func(t *testing.T) {
		node := startNode(t, identify(fanfare.Identity{ExpireAt: time.Now().Add(time.Minute)}), func(c *fanfare.Config) {
			c.Refresh = func(context.Context, *fanfare.RefreshRequest) (fanfare.RefreshReply, error) {
				return fanfare.RefreshReply{}, nil
			}
		})
		began := time.Now()
		c := fanfaretest.Connect(t, node, "", uni, fanfaretest.WithToken("t"))
		require.NotContains(t, received(t, c)[0], "expires")
		requireClosed(t, c, fanfare.DisconnectExpired)
		require.Equal(t, time.Minute, time.Since(began))
	})
}

func TestConnect_Spec8_6_UnidirectionalSubs(t *testing.T) {
	hook := func(_ context.Context, r *fanfare.SubscribeRequest) (fanfare.SubscribeReply, error) {
		if r.Client.User() == "ann" {
			return fanfare.SubscribeReply{Data: []byte(`"hi"`)}, nil
		}
		return fanfare.SubscribeReply{}, fanfare.ErrPermissionDenied
	}
	declare := func(node *fanfare.Node) {
		node.Channel("room", room)
		node.Channel("asked", fanfare.ChannelOptions{Subscribe: hook})
		node.Channel("secret", fanfare.ChannelOptions{})
	}
	wanted := fanfaretest.WithSubs(map[string]fanfare.Position{"room": {}, "asked": {}, "secret": {}, "unknown": {}})
	inBubble(t, "what the client may have, and nothing else", func(t *testing.T) {
		node := startNode(t)
		declare(node)
		for user, want := range map[string]int{"ann": 2, "ben": 1} {
			c := fanfaretest.Dial(t, node, user, fanfaretest.Unidirectional(), wanted)
			r, err := c.Connect()
			require.NoError(t, err)
			require.Len(t, r.Subs, want)
			require.Contains(t, r.Subs, "room")
		}
	})
	inBubble(t, "recovery by their positions", func(t *testing.T) {
		node := startNode(t)
		declare(node)
		at := requirePublish(t, node, "room", `1`)
		requirePublish(t, node, "room", `2`, `3`)
		c := fanfaretest.Dial(t, node, "ann", fanfaretest.Unidirectional(), fanfaretest.WithSubs(map[string]fanfare.Position{"room": at}))
		r, err := c.Connect()
		require.NoError(t, err)
		require.True(t, r.Subs["room"].Recovered)
		require.Equal(t, []string{`2`, `3`}, payloads(r.Subs["room"].Publications))
		require.Equal(t, at, r.Subs["room"].Position)
		requirePublish(t, node, "room", `4`)
		require.Equal(t, []string{"room 4"}, events(c))
		require.NoError(t, c.Check())
	})
	inBubble(t, "a hook's disconnect ends the connection", func(t *testing.T) {
		node := startNode(t)
		node.Channel("bad", fanfare.ChannelOptions{Subscribe: func(context.Context, *fanfare.SubscribeRequest) (fanfare.SubscribeReply, error) {
			return fanfare.SubscribeReply{}, fanfare.DisconnectPermissionDenied
		}})
		c := fanfaretest.Dial(t, node, "ann", fanfaretest.Unidirectional(), fanfaretest.WithSubs(map[string]fanfare.Position{"bad": {}}))
		_, err := c.Connect()
		require.ErrorIs(t, err, fanfare.DisconnectPermissionDenied)
	})
	inBubble(t, "too many of them", func(t *testing.T) {
		node := startNode(t, func(c *fanfare.Config) { c.MaxChannels = 1 })
		declare(node)
		c := fanfaretest.Dial(t, node, "ann", fanfaretest.Unidirectional(), wanted)
		_, err := c.Connect()
		require.ErrorIs(t, err, fanfare.DisconnectChannelLimit)
	})
}
