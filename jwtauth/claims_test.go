package jwtauth_test

import (
	"context"
	"encoding/base64"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare"
	"github.com/fanfare-go/fanfare/fanfaretest"
	"github.com/fanfare-go/fanfare/jwtauth"
)

func b64(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) }

func TestAuthenticate_Spec15_1_Claims(t *testing.T) {
	v := newVerifier(t)
	yes, no := true, false
	for name, row := range map[string]struct {
		claims claims
		want   fanfare.Identity
	}{
		"user alone":               {claims{}, fanfare.Identity{}},
		"exp":                      {claims{"exp": 4102444800}, fanfare.Identity{ExpireAt: time.Unix(4102444800, 0)}},
		"exp in parts of a second": {claims{"exp": 4102444800.5}, fanfare.Identity{ExpireAt: time.Unix(4102444800, 5e8)}},
		"expire_at":                {claims{"exp": 4102444800, "expire_at": 4102444801}, fanfare.Identity{ExpireAt: time.Unix(4102444801, 0)}},
		"expire_at 0":              {claims{"exp": 4102444800, "expire_at": 0}, fanfare.Identity{}},
		"expire_at null":           {claims{"exp": 4102444800, "expire_at": (*int)(nil)}, fanfare.Identity{ExpireAt: time.Unix(4102444800, 0)}},
		"info":                     {claims{"info": object{"name": "Ann"}}, fanfare.Identity{Info: []byte(`{"name":"Ann"}`)}},
		"info null":                {claims{"info": (*int)(nil)}, fanfare.Identity{}},
		"b64info wins":             {claims{"info": 1, "b64info": b64(`[2]`)}, fanfare.Identity{Info: []byte(`[2]`)}},
		"b64info empty":            {claims{"info": 1, "b64info": ""}, fanfare.Identity{Info: []byte(`1`)}},
		"meta":                     {claims{"meta": object{"role": "staff"}}, fanfare.Identity{State: jwtauth.Meta(`{"role":"staff"}`)}},
		"channel empty":            {claims{"channel": ""}, fanfare.Identity{}},
		"what others call client":  {claims{"client": object{}, "data": 1, "override": 1}, fanfare.Identity{}},
		"channels":                 {claims{"channels": []string{"a", "b", "a"}}, fanfare.Identity{Subscriptions: map[string]fanfare.SubscribeReply{"a": {}, "b": {}}}},
		"channels and empty subs": {claims{"channels": []string{"a"}, "subs": object{}},
			fanfare.Identity{Subscriptions: map[string]fanfare.SubscribeReply{"a": {}}}},
		"subs win": {claims{"channels": []string{"a"}, "subs": object{
			"b": object{"info": 1, "data": "x"},
			"c": object{"b64info": b64(`{}`), "info": 7, "b64data": b64(`[]`), "data": 8},
			"d": nil,
			"e": object{"override": object{
				"presence": object{"value": true}, "join_leave": object{"value": false}, "force_recovery": object{"value": true},
				"force_positioning": object{"value": false}, "force_push_join_leave": object{"value": true}, "unheard_of": object{"value": true},
			}},
			"f": object{"override": object{"presence": object{}, "join_leave": nil}},
		}}, fanfare.Identity{Subscriptions: map[string]fanfare.SubscribeReply{
			"b": {Info: []byte(`1`), Data: []byte(`"x"`)},
			"c": {Info: []byte(`{}`), Data: []byte(`[]`)},
			"d": {},
			"e": {Override: &fanfare.Override{Presence: &yes, JoinLeave: &no, ForceRecovery: &yes, ForcePositioning: &no, ForceJoinLeave: &yes}},
			"f": {Override: &fanfare.Override{}},
		}}},
	} {
		t.Run(name, func(t *testing.T) {
			row.want.User = "ann"
			id, err := authenticate(t, v, hs256(with(row.claims, claims{"sub": "ann"})))
			require.NoError(t, err)
			require.Equal(t, row.want, id)
		})
	}
}

func TestAuthenticate_UserClaim(t *testing.T) {
	v := newVerifier(t, func(c *jwtauth.Config) { c.UserClaim = "user_id" })
	id, err := authenticate(t, v, hs256(claims{"sub": "eve", "user_id": "ann"}))
	require.NoError(t, err)
	require.Equal(t, "ann", id.User)
	_, err = authenticate(t, v, hs256(claims{"sub": "eve"}))
	require.Equal(t, fanfare.DisconnectPermissionDenied, err)
}

func TestAuthenticate_PreviousHMACSecret(t *testing.T) {
	renewed := newVerifier(t, func(c *jwtauth.Config) {
		c.PreviousHMACSecret, c.HMACSecret = c.HMACSecret, []byte("another secret of HMAC with 32 bytes and more")
	})
	for _, key := range []string{string(secret), "another secret of HMAC with 32 bytes and more"} {
		tk, err := (&jwtauth.Signer{Key: []byte(key)}).ConnectionToken(jwtauth.ConnectionClaims{User: "ann"})
		require.NoError(t, err)
		_, err = authenticate(t, renewed, tk)
		require.NoError(t, err)
	}
}

// TestClaims_ThroughANode: what tokens say arrives where the spec wants it.
func TestClaims_ThroughANode(t *testing.T) {
	inBubble(t, "", func(t *testing.T) {
		signer := &jwtauth.Signer{Key: secret}
		node := startNode(t, newVerifier(t))
		node.Channel("news", fanfare.ChannelOptions{History: fanfare.History{Size: 10, TTL: time.Hour}, Recovery: fanfare.RecoveryOnRequest})
		metas := make(chan string, 1)
		node.RPC("meta", func(_ context.Context, r *fanfare.RPCRequest) ([]byte, error) {
			metas <- string(jwtauth.MetaOf(r.Client))
			return nil, nil
		})
		yes, no := true, false
		c := fanfaretest.Dial(t, node, "", fanfaretest.WithToken(must(signer.ConnectionToken(jwtauth.ConnectionClaims{
			User: "ann", Info: object{"name": "Ann"}, Meta: object{"role": "staff"},
			Subscriptions: map[string]jwtauth.SubscriptionOptions{
				"news": {Data: "welcome", Override: &fanfare.Override{ForceRecovery: &yes}},
			},
		}))))
		hello, err := c.Connect()
		require.NoError(t, err)
		require.True(t, hello.Expires)
		require.Equal(t, 10*time.Minute, hello.TTL)
		require.Equal(t, `"welcome"`, string(hello.Subs["news"].Data))
		require.True(t, hello.Subs["news"].Recoverable)

		r, err := c.Subscribe("token:1", fanfaretest.Token(must(signer.SubscriptionToken(jwtauth.SubscriptionClaims{
			User: "ann", Channel: "token:1", Client: c.ID(), TTL: time.Hour,
			SubscriptionOptions: jwtauth.SubscriptionOptions{Info: object{"seat": 7}, Data: []int{1}},
		}))))
		require.NoError(t, err)
		require.Equal(t, `[1]`, string(r.Data))
		require.Equal(t, time.Hour, r.TTL)
		members, err := c.Presence("token:1")
		require.NoError(t, err)
		require.Equal(t, map[string]fanfare.ClientInfo{c.ID(): {
			User: "ann", Client: c.ID(), ConnInfo: []byte(`{"name":"Ann"}`), ChanInfo: []byte(`{"seat":7}`),
		}}, members)

		_, err = c.Subscribe("token:2", fanfaretest.Token(must(signer.SubscriptionToken(jwtauth.SubscriptionClaims{
			User: "ann", Channel: "token:2", SubscriptionOptions: jwtauth.SubscriptionOptions{Override: &fanfare.Override{Presence: &no}},
		}))))
		require.NoError(t, err)
		members, err = c.Presence("token:2")
		require.NoError(t, err)
		require.Empty(t, members)

		_, err = c.RPC("meta", nil)
		require.NoError(t, err)
		require.Equal(t, `{"role":"staff"}`, <-metas)
		synctest.Wait()
	})
}
