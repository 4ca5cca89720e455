package jwtauth_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare"
	"github.com/fanfare-go/fanfare/fanfaretest"
	"github.com/fanfare-go/fanfare/jwtauth"
)

// connect opens a connection to a node in memory.
func connect(t *testing.T, node *fanfare.Node, token string) *fanfaretest.Client {
	t.Helper()
	return fanfaretest.Connect(t, node, "", fanfaretest.WithToken(token))
}

// lasts returns how long a connection goes on, and how it ends.
func lasts(t *testing.T, c *fanfaretest.Client) (time.Duration, *fanfare.Disconnect) {
	t.Helper()
	began := time.Now()
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Hour)
	defer cancel()
	d, err := c.Closed(ctx)
	if err != nil {
		return 0, nil
	}
	return time.Since(began), d
}

const grace = 25 * time.Second

func TestRefresh_Time(t *testing.T) {
	signer := &jwtauth.Signer{Key: secret, TTL: time.Minute}
	ann := jwtauth.ConnectionClaims{User: "ann"}

	inBubble(t, "a connection ends with its token, and a grace", func(t *testing.T) {
		c := connect(t, startNode(t, newVerifier(t)), must(signer.ConnectionToken(ann)))
		d, end := lasts(t, c)
		require.Equal(t, fanfare.DisconnectExpired, end)
		require.Equal(t, time.Minute+grace, d)
	})
	inBubble(t, "refreshed again and again it goes on, and each time is told its time", func(t *testing.T) {
		c := connect(t, startNode(t, newVerifier(t)), must(signer.ConnectionToken(ann)))
		for range 100 {
			time.Sleep(time.Minute)
			r, err := c.Refresh(must(signer.ConnectionToken(ann)))
			require.NoError(t, err)
			require.Equal(t, fanfaretest.RefreshResult{Expires: true, TTL: time.Minute}, r)
		}
		d, end := lasts(t, c)
		require.Equal(t, fanfare.DisconnectExpired, end)
		require.Equal(t, time.Minute+grace, d)
	})
	inBubble(t, "the token that it began with is no refresh once it has expired", func(t *testing.T) {
		first := must(signer.ConnectionToken(ann))
		c := connect(t, startNode(t, newVerifier(t)), first)
		time.Sleep(time.Minute)
		_, err := c.Refresh(first)
		require.Equal(t, fanfare.DisconnectExpired, err)
	})
	inBubble(t, "expire_at 0: the connection stays, the token does not", func(t *testing.T) {
		endless := ann
		endless.NeverExpires = true
		node, tk := startNode(t, newVerifier(t)), must(signer.ConnectionToken(endless))
		c := connect(t, node, tk)
		d, end := lasts(t, c)
		require.Zero(t, d)
		require.Nil(t, end)
		_, err := fanfaretest.Dial(t, node, "", fanfaretest.WithToken(tk)).Connect()
		require.Equal(t, fanfare.ErrTokenExpired, err)
	})
	inBubble(t, "expire_at later than exp", func(t *testing.T) {
		later := ann
		later.ExpireAt = time.Now().Add(time.Hour)
		d, _ := lasts(t, connect(t, startNode(t, newVerifier(t)), must(signer.ConnectionToken(later))))
		require.Equal(t, time.Hour+grace, d)
	})
	inBubble(t, "a refresh to a token that never expires", func(t *testing.T) {
		c := connect(t, startNode(t, newVerifier(t)), must(signer.ConnectionToken(ann)))
		r, err := c.Refresh(hs256(claims{"sub": "ann"}))
		require.NoError(t, err)
		require.Equal(t, fanfaretest.RefreshResult{}, r)
		d, _ := lasts(t, c)
		require.Zero(t, d)
	})
	inBubble(t, "nobody is told of more than a year", func(t *testing.T) {
		for _, at := range []any{in(10 * 365 * 24 * time.Hour), 1e300, int64(1<<63 - 1)} {
			c := fanfaretest.Dial(t, startNode(t, newVerifier(t)), "", fanfaretest.WithToken(hs256(claims{"sub": "ann", "exp": at})))
			r, err := c.Connect()
			require.NoError(t, err)
			require.True(t, r.Expires)
			require.Equal(t, 365*24*time.Hour, r.TTL)
		}
	})
	inBubble(t, "without Refresh nobody is told, and there is no grace", func(t *testing.T) {
		node := startNode(t, newVerifier(t), func(c *fanfare.Config) { c.Refresh = nil })
		c := fanfaretest.Dial(t, node, "", fanfaretest.WithToken(must(signer.ConnectionToken(ann))))
		r, err := c.Connect()
		require.NoError(t, err)
		require.False(t, r.Expires)
		d, end := lasts(t, c)
		require.Equal(t, fanfare.DisconnectExpired, end)
		require.Equal(t, time.Minute, d)
	})
	inBubble(t, "a token in its last moment is expired, not 110, which is for good", func(t *testing.T) {
		tk := must(signer.ConnectionToken(ann))
		time.Sleep(time.Minute - 50*time.Millisecond)
		_, err := fanfaretest.Dial(t, startNode(t, newVerifier(t)), "", fanfaretest.WithToken(tk)).Connect()
		require.Equal(t, fanfare.ErrTokenExpired, err)
	})
	inBubble(t, "nbf, and a clock that is ahead", func(t *testing.T) {
		early := hs256(claims{"sub": "ann", "nbf": in(3 * time.Second)})
		_, err := authenticate(t, newVerifier(t), early)
		require.Equal(t, fanfare.ErrTokenExpired, err)
		_, err = authenticate(t, newVerifier(t, func(c *jwtauth.Config) { c.Leeway = 5 * time.Second }), early)
		require.NoError(t, err)
		time.Sleep(3 * time.Second)
		_, err = authenticate(t, newVerifier(t), early)
		require.NoError(t, err)
	})
}

func TestSubRefresh_Time(t *testing.T) {
	signer := &jwtauth.Signer{Key: secret, TTL: time.Minute}
	ann := jwtauth.ConnectionClaims{User: "ann", NeverExpires: true}
	room := jwtauth.SubscriptionClaims{User: "ann", Channel: "token:1"}
	begin := func(t *testing.T) *fanfaretest.Client {
		c := connect(t, startNode(t, newVerifier(t)), must(signer.ConnectionToken(ann)))
		r, err := c.Subscribe("token:1", fanfaretest.Token(must(signer.SubscriptionToken(room))))
		require.NoError(t, err)
		require.True(t, r.Expires)
		require.Equal(t, time.Minute, r.TTL)
		return c
	}
	unsubscribed := func(t *testing.T, c *fanfaretest.Client) uint32 {
		t.Helper()
		synctest.Wait()
		var code uint32
		for _, e := range c.Events() {
			require.Equal(t, fanfaretest.KindUnsubscribe, e.Kind)
			code = e.Code
		}
		return code
	}

	inBubble(t, "a subscription ends with its token, and a grace", func(t *testing.T) {
		c := begin(t)
		time.Sleep(time.Minute + grace - time.Millisecond)
		require.Zero(t, unsubscribed(t, c))
		time.Sleep(time.Millisecond)
		require.EqualValues(t, 2501, unsubscribed(t, c))
	})
	inBubble(t, "refreshed again and again it goes on", func(t *testing.T) {
		c := begin(t)
		for range 100 {
			time.Sleep(time.Minute)
			r, err := c.SubRefresh("token:1", must(signer.SubscriptionToken(room)))
			require.NoError(t, err)
			require.Equal(t, fanfaretest.RefreshResult{Expires: true, TTL: time.Minute}, r)
		}
		require.Zero(t, unsubscribed(t, c))
	})
	inBubble(t, "an expired token ends it: the reference would make it unlimited", func(t *testing.T) {
		c, old := begin(t), must(signer.SubscriptionToken(room))
		time.Sleep(time.Minute)
		require.NoError(t, c.Raw(`{"id":901,"sub_refresh":{"channel":"token:1","token":"`+old+`"}}`))
		synctest.Wait()
		require.EqualValues(t, 2501, unsubscribed(t, c))
		var answers []string
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		for line, err := c.NextRaw(ctx); err == nil; line, err = c.NextRaw(ctx) {
			if line != "{}" { // a ping
				answers = append(answers, line)
			}
		}
		require.Equal(t, []string{
			`{"push":{"channel":"token:1","unsubscribe":{"code":2501,"reason":"subscription expired"}}}`,
			`{"id":901,"error":{"code":109,"message":"token expired"}}`,
		}, answers[len(answers)-2:])
		_, err := c.Subscribe("token:1", fanfaretest.Token(old))
		require.Equal(t, fanfare.ErrTokenExpired, err)
		_, err = c.Subscribe("token:1", fanfaretest.Token(must(signer.SubscriptionToken(room))))
		require.NoError(t, err)
	})
	inBubble(t, "expire_at 0: the subscription stays", func(t *testing.T) {
		endless := room
		endless.NeverExpires = true
		c := begin(t)
		r, err := c.SubRefresh("token:1", must(signer.SubscriptionToken(endless)))
		require.NoError(t, err)
		require.False(t, r.Expires)
		time.Sleep(3 * time.Hour)
		require.Zero(t, unsubscribed(t, c))
	})
}

// TestRefresh_WithoutToken: the node asks by itself about what was made without a token. That is an end like any other: the client
// may come back, and the end of one subscription is not that of the connection.
func TestRefresh_WithoutToken(t *testing.T) {
	ann := jwtauth.ConnectionClaims{User: "ann", NeverExpires: true}
	inBubble(t, "a connection", func(t *testing.T) {
		node := startNode(t, newVerifier(t), func(c *fanfare.Config) {
			c.Authenticate = func(context.Context, *fanfare.ConnectRequest) (fanfare.Identity, error) {
				return fanfare.Identity{User: "ann", ExpireAt: time.Now().Add(time.Minute)}, nil
			}
		})
		d, end := lasts(t, connect(t, node, ""))
		require.Equal(t, fanfare.DisconnectExpired, end)
		require.Equal(t, time.Minute, d)
	})
	node := func(t *testing.T) (*fanfare.Node, *fanfaretest.Client) {
		v := newVerifier(t)
		n := startNode(t, v)
		n.Channel("open", fanfare.ChannelOptions{
			Subscribe: func(context.Context, *fanfare.SubscribeRequest) (fanfare.SubscribeReply, error) {
				return fanfare.SubscribeReply{ExpireAt: time.Now().Add(time.Minute)}, nil
			},
			SubRefresh: v.SubRefresh,
		})
		return n, connect(t, n, must((&jwtauth.Signer{Key: secret}).ConnectionToken(ann)))
	}
	inBubble(t, "a subscription", func(t *testing.T) {
		_, c := node(t)
		_, err := c.Subscribe("open")
		require.NoError(t, err)
		time.Sleep(time.Minute)
		synctest.Wait()
		events := c.Events()
		require.Len(t, events, 1)
		require.Equal(t, fanfaretest.KindUnsubscribe, events[0].Kind)
		require.EqualValues(t, 2501, events[0].Code)
		_, end := lasts(t, c)
		require.Nil(t, end, "the connection goes on")
	})
	inBubble(t, "a subscription of the server's", func(t *testing.T) {
		n, c := node(t)
		require.NoError(t, n.Subscribe(t.Context(), "ann", "open", fanfare.SubscribeReply{ExpireAt: time.Now().Add(time.Minute)}))
		_, end := lasts(t, c)
		require.Equal(t, fanfare.DisconnectSubExpired, end)
	})
}
