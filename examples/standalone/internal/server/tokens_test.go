package server_test

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare"
	"github.com/fanfare-go/fanfare/fanfaretest"
	"github.com/fanfare-go/fanfare/jwtauth"
)

const secret = "hmac-secret-hmac-secret-hmac-secret"

var signer = jwtauth.Signer{Key: []byte(secret), TTL: time.Hour}

func connection(t *testing.T, user string) string {
	t.Helper()
	token, err := signer.ConnectionToken(jwtauth.ConnectionClaims{User: user})
	require.NoError(t, err)
	return token
}

func subscriptionToken(t *testing.T, user, channel string) string {
	t.Helper()
	token, err := signer.SubscriptionToken(jwtauth.SubscriptionClaims{User: user, Channel: channel})
	require.NoError(t, err)
	return token
}

func subscription(t *testing.T, user, channel string) fanfaretest.SubscribeOption {
	t.Helper()
	return fanfaretest.Token(subscriptionToken(t, user, channel))
}

func TestTokens_SayWhoAndWhere(t *testing.T) {
	t.Parallel()
	s, l := setup(t, `{"token_hmac_secret": "`+secret+`", "api_key": "`+secret+`", "personal_channel_prefix": "#", "channels": {
		"secret:{id}": {"subscribe": "token"}, "users": {"subscribe": "users"}, "closed": {}}}`)
	_, err := fanfaretest.Dial(t, s.Node(), "").Connect()
	require.ErrorIs(t, err, fanfare.ErrUnauthorized, "no token, and anonymous is not set")
	bad := connection(t, "ann") + "x"
	_, err = fanfaretest.Dial(t, s.Node(), "", fanfaretest.WithToken(bad)).Connect()
	require.ErrorIs(t, err, fanfare.DisconnectInvalidToken)

	c := fanfaretest.Dial(t, s.Node(), "", fanfaretest.WithToken(connection(t, "ann")))
	r, err := c.Connect()
	require.NoError(t, err)
	require.Contains(t, r.Subs, "#ann")
	require.True(t, r.Expires)
	refreshed, err := c.Refresh(connection(t, "ann"))
	require.NoError(t, err)
	require.True(t, refreshed.Expires)

	_, err = c.Subscribe("secret:1")
	require.ErrorIs(t, err, fanfare.ErrPermissionDenied)
	sub, err := c.Subscribe("secret:1", subscription(t, "ann", "secret:1"))
	require.NoError(t, err)
	require.True(t, sub.Expires)
	again, err := c.SubRefresh("secret:1", subscriptionToken(t, "ann", "secret:1"))
	require.NoError(t, err)
	require.True(t, again.Expires)
	_, err = c.Subscribe("users")
	require.NoError(t, err)
	_, err = c.Subscribe("closed", subscription(t, "ann", "closed"))
	require.ErrorIs(t, err, fanfare.ErrPermissionDenied, "nobody is nobody")
	_, err = c.Refresh(connection(t, "bob"))
	require.ErrorIs(t, err, fanfare.DisconnectInvalidToken)

	require.NotContains(t, l.String(), secret)
	require.NotContains(t, l.String(), strings.Split(bad, ".")[1])
}

func TestTokens_WhoSendsOneMeansIt(t *testing.T) {
	t.Parallel()
	s, _ := setup(t, `{"token_hmac_secret": "`+secret+`", "anonymous": true, "channels": {"open": {"subscribe": "anyone"}}}`)
	c := fanfaretest.Connect(t, s.Node(), "")
	r, err := c.Subscribe("open", subscription(t, "", "open"))
	require.NoError(t, err)
	require.True(t, r.Expires, "the token's expiry counts, although none was needed")
	d := fanfaretest.Connect(t, s.Node(), "")
	_, err = d.Subscribe("open", subscription(t, "ann", "open"))
	require.ErrorIs(t, err, fanfare.DisconnectInvalidToken, "it is another user's")
}

func TestTokens_BesideWebhooks(t *testing.T) {
	t.Parallel()
	a := app(t)
	s, _ := setup(t, strings.ReplaceAll(`{"token_hmac_secret": "`+secret+`", "channels": {"of:{user}": {}},
		"webhooks": {"connect": "APP/connect", "subscribe": "APP/subscribe", "publish": "APP/publish",
			"static_headers": {"X-Live-Secret": "static-secret-static"}}}`, "APP", a.URL))
	// The token says who it is, and the app, which sees the cookie of this connection, where it may go.
	c := fanfaretest.Connect(t, s.Node(), "", fanfaretest.WithToken(connection(t, "ann")), withUser("ann"))
	_, err := c.Subscribe("of:ann")
	require.NoError(t, err)
	_, err = c.Refresh(connection(t, "ann"))
	require.NoError(t, err, "who came by a token prolongs by a token")

	// Without a token the app says who it is.
	c = fanfaretest.Connect(t, s.Node(), "", withUser("bob"))
	_, err = c.Subscribe("of:bob")
	require.NoError(t, err)
	_, err = c.Subscribe("of:ann")
	require.Error(t, err)
}

func TestTokens_WhoCameByTheAppCannotProlongByOne(t *testing.T) {
	t.Parallel()
	a := app(t)
	s, _ := setup(t, strings.ReplaceAll(`{"token_hmac_secret": "`+secret+`", "webhooks": {"connect": "APP/connect",
		"static_headers": {"X-Live-Secret": "static-secret-static"}}}`, "APP", a.URL))
	c := fanfaretest.Connect(t, s.Node(), "", withUser("ann"))
	_, err := c.Refresh(connection(t, "ann"))
	require.ErrorIs(t, err, fanfare.DisconnectExpired, "it comes back, and the app is asked")
}

func TestLimits_HoldForAUser(t *testing.T) {
	t.Parallel()
	s, _ := setup(t, `{"token_hmac_secret": "`+secret+`", "limits": {"user_connections": 1}}`)
	fanfaretest.Connect(t, s.Node(), "", fanfaretest.WithToken(connection(t, "ann")))
	_, err := fanfaretest.Dial(t, s.Node(), "", fanfaretest.WithToken(connection(t, "ann"))).Connect()
	require.Equal(t, uint32(3504), err.(*fanfare.Disconnect).Code)
	fanfaretest.Connect(t, s.Node(), "", fanfaretest.WithToken(connection(t, "bob")))
}
