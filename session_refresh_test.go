package fanfare_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare"
	"github.com/fanfare-go/fanfare/fanfaretest"
)

// byToken is what the hooks of these tests decide by the token.
func byToken(token string) (expireAt time.Time, err error) {
	switch token {
	case "hour":
		return time.Now().Add(time.Hour), nil
	case "never":
		return time.Time{}, nil
	case "past":
		return time.Now().Add(-time.Second), nil
	case "expired":
		return time.Time{}, fmt.Errorf("hook: %w", fanfare.ErrTokenExpired)
	case "110":
		return time.Time{}, fanfare.ErrExpired
	case "invalid":
		return time.Time{}, fanfare.DisconnectInvalidToken
	case "refused":
		return time.Time{}, fanfare.ErrUnauthorized
	}
	return time.Time{}, errors.New("database is down")
}

// refreshing makes a node whose connections last a minute.
func refreshing(t *testing.T, withHook bool) *fanfare.Node {
	return startNode(t, func(c *fanfare.Config) {
		c.Authenticate = func(context.Context, *fanfare.ConnectRequest) (fanfare.Identity, error) {
			return fanfare.Identity{User: "ann", ExpireAt: time.Now().Add(time.Minute)}, nil
		}
		if withHook {
			c.Refresh = func(_ context.Context, r *fanfare.RefreshRequest) (fanfare.RefreshReply, error) {
				at, err := byToken(r.Token)
				return fanfare.RefreshReply{ExpireAt: at}, err
			}
		}
	})
}

func TestRefresh_Spec5_9_Answers(t *testing.T) {
	for token, test := range map[string]struct {
		reply  string
		closed *fanfare.Disconnect
	}{
		"hour":    {reply: `"refresh":{"expires":true,"ttl":3600}`},
		"never":   {reply: `"refresh":{}`},
		"down":    {reply: `"error":{"code":100,"message":"internal server error","temporary":true}`},
		"refused": {reply: `"error":{"code":101,"message":"unauthorized"}`},
		"past":    {closed: fanfare.DisconnectExpired},
		"expired": {closed: fanfare.DisconnectExpired},
		"110":     {closed: fanfare.DisconnectExpired},
		"invalid": {closed: fanfare.DisconnectInvalidToken},
		"":        {closed: fanfare.DisconnectBadRequest},
	} {
		inBubble(t, "token "+token, func(t *testing.T) {
			c := fanfaretest.Connect(t, refreshing(t, true), "", fanfaretest.WithToken("t"))
			lines := ask(t, c, `{"id":901,"refresh":{"token":"`+token+`"}}`)
			if test.closed != nil {
				require.Empty(t, lines)
				requireClosed(t, c, test.closed)
				return
			}
			require.Equal(t, []string{`{"id":901,` + test.reply + `}`}, lines)
			requireOpen(t, c)
		})
	}
	inBubble(t, "the server refreshes by itself: 3501", func(t *testing.T) {
		c := fanfaretest.Connect(t, refreshing(t, false), "")
		require.Empty(t, ask(t, c, `{"id":901,"refresh":{"token":"hour"}}`))
		requireClosed(t, c, fanfare.DisconnectBadRequest)
	})
}

func TestRefresh_Spec5_9_Timer(t *testing.T) {
	for name, test := range map[string]struct {
		hook  bool
		token string
		lasts time.Duration // 0: it stays
	}{
		"no refresh: ttl and grace":       {true, "", time.Minute + 25*time.Second},
		"refreshed once":                  {true, "hour", time.Hour + 25*time.Second},
		"refreshed for ever":              {true, "never", 0},
		"a failed refresh changes little": {true, "down", time.Minute + 25*time.Second},
		"no client refresh: no grace":     {false, "", time.Minute},
	} {
		inBubble(t, name, func(t *testing.T) {
			began := time.Now()
			c := fanfaretest.Connect(t, refreshing(t, test.hook), "", fanfaretest.WithToken("t"))
			if test.token != "" {
				_, err := c.Refresh(test.token)
				require.Equal(t, test.token == "down", err != nil)
			}
			if test.lasts == 0 {
				time.Sleep(2 * time.Hour)
				requireOpen(t, c)
				return
			}
			ctx, cancel := context.WithTimeout(t.Context(), 3*time.Hour)
			defer cancel()
			d, err := c.Closed(ctx)
			require.NoError(t, err)
			require.Equal(t, fanfare.DisconnectExpired, d)
			require.Equal(t, test.lasts, time.Since(began))
		})
	}
}

// subRefreshing makes a node with a channel "x" whose subscriptions last a minute.
func subRefreshing(t *testing.T, withHook bool, change ...func(*fanfare.Config)) *fanfare.Node {
	node := startNode(t, change...)
	o := fanfare.ChannelOptions{Subscribe: func(context.Context, *fanfare.SubscribeRequest) (fanfare.SubscribeReply, error) {
		return fanfare.SubscribeReply{ExpireAt: time.Now().Add(time.Minute)}, nil
	}}
	if withHook {
		o.SubRefresh = func(_ context.Context, r *fanfare.SubRefreshRequest) (fanfare.SubRefreshReply, error) {
			at, err := byToken(r.Token)
			return fanfare.SubRefreshReply{ExpireAt: at}, err
		}
	}
	node.Channel("x", o)
	o.Subscribe, o.Public = nil, true
	node.Channel("endless", o)
	return node
}

func TestSubRefresh_Spec5_10_Answers(t *testing.T) {
	for name, test := range map[string]struct {
		hook    bool
		request string
		replies []string
		closed  *fanfare.Disconnect
	}{
		"valid":         {hook: true, request: `"channel":"x","token":"hour"`, replies: []string{`{"id":901,"sub_refresh":{"expires":true,"ttl":3600}}`}},
		"never expires": {hook: true, request: `"channel":"x","token":"never"`, replies: []string{`{"id":901,"sub_refresh":{}}`}},
		"not subscribed": {hook: true, request: `"channel":"y","token":"hour"`,
			replies: []string{`{"id":901,"error":{"code":103,"message":"permission denied"}}`}},
		"no token": {hook: true, request: `"channel":"x"`, replies: []string{`{"id":901,"error":{"code":107,"message":"bad request"}}`}},
		"invalid":  {hook: true, request: `"channel":"x","token":"invalid"`, closed: fanfare.DisconnectInvalidToken},
		"temporary trouble": {hook: true, request: `"channel":"x","token":"down"`,
			replies: []string{`{"id":901,"error":{"code":100,"message":"internal server error","temporary":true}}`}},
		"shared poll": {hook: true, request: `"channel":"x","token":"hour","type":4`,
			replies: []string{`{"id":901,"error":{"code":108,"message":"not available"}}`}},
		"not refreshed by the client":        {hook: false, request: `"channel":"x","token":"hour"`, closed: fanfare.DisconnectBadRequest},
		"a subscription that never expires":  {hook: true, request: `"channel":"endless","token":"hour"`, closed: fanfare.DisconnectBadRequest},
		"expired: not the reference's reply": {hook: true, request: `"channel":"x","token":"expired"`, replies: expiredReplies},
		"expired, by its code 110":           {hook: true, request: `"channel":"x","token":"110"`, replies: expiredReplies},
		"expired, by the time":               {hook: true, request: `"channel":"x","token":"past"`, replies: expiredReplies},
	} {
		inBubble(t, name, func(t *testing.T) {
			c := fanfaretest.Connect(t, subRefreshing(t, test.hook), "ann")
			for _, channel := range []string{"x", "endless"} {
				r := requireSubscribe(t, c, channel, fanfaretest.Token("t"))
				require.Equal(t, test.hook && channel == "x", r.Expires)
			}
			lines := ask(t, c, `{"id":901,"sub_refresh":{`+test.request+`}}`)
			if test.closed != nil {
				require.Empty(t, lines)
				requireClosed(t, c, test.closed)
				return
			}
			require.Equal(t, test.replies, lines)
			requireOpen(t, c)
		})
	}
	inBubble(t, "after an expired token nothing more comes, and the client may come back", func(t *testing.T) {
		node := subRefreshing(t, true)
		c := fanfaretest.Connect(t, node, "ann")
		requireSubscribe(t, c, "x", fanfaretest.Token("t"))
		_, err := c.SubRefresh("x", "expired")
		require.ErrorIs(t, err, fanfare.ErrTokenExpired)
		requirePublish(t, node, "x", `1`)
		require.Equal(t, []string{"x unsubscribe 2501 subscription expired"}, events(c))
		requireSubscribe(t, c, "x")
	})
}

// expiredReplies end the subscription first, so that the client asks for a new token and comes back.
var expiredReplies = []string{
	`{"push":{"channel":"x","unsubscribe":{"code":2501,"reason":"subscription expired"}}}`,
	`{"id":901,"error":{"code":109,"message":"token expired"}}`,
}

func TestSubRefresh_Spec5_10_Timer(t *testing.T) {
	for name, test := range map[string]struct {
		hook  bool
		token string
		lasts time.Duration
	}{
		"no refresh: ttl and grace":   {true, "", time.Minute + 25*time.Second},
		"refreshed once":              {true, "hour", time.Hour + 25*time.Second},
		"refreshed for ever":          {true, "never", 0},
		"no client refresh: no grace": {false, "", time.Minute},
	} {
		inBubble(t, name, func(t *testing.T) {
			began := time.Now()
			c := fanfaretest.Connect(t, subRefreshing(t, test.hook), "ann")
			r := requireSubscribe(t, c, "x", fanfaretest.Token("t"))
			require.Equal(t, test.hook, r.Expires)
			if test.hook {
				require.Equal(t, time.Minute, r.TTL)
			}
			if test.token != "" {
				_, err := c.SubRefresh("x", test.token)
				require.NoError(t, err)
			}
			if test.lasts == 0 {
				time.Sleep(2 * time.Hour)
				require.Empty(t, events(c))
				return
			}
			time.Sleep(time.Until(began.Add(test.lasts - time.Millisecond)))
			require.Empty(t, events(c))
			time.Sleep(time.Millisecond)
			require.Equal(t, []string{"x unsubscribe 2501 subscription expired"}, events(c))
			requireOpen(t, c)
		})
	}
}
