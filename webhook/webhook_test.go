package webhook_test

import (
	"context"
	"fmt"
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare"
	"github.com/fanfare-go/fanfare/fanfaretest"
	"github.com/fanfare-go/fanfare/webhook"
)

// browser is the request of a browser with a session.
func browser(r *http.Request) {
	r.RemoteAddr = "203.0.113.9:5555"
	r.Header.Set("Cookie", "sessionid=s3cret")
	r.Header.Set("User-Agent", "Firefox")
	r.Header.Set("Authorization", "Bearer t0ken")
	r.Header.Set("X-Forwarded-For", "198.51.100.1")
	r.Header.Set("Upgrade", "websocket")
}

func TestHooks_WhatTheAppIsAsked(t *testing.T) {
	t.Parallel()
	app := newApp(t)
	app.answer("/connect", `{"result":{"user":"42","info":{"name":"Ann"},"data":{"hello":1},"meta":{"plan":"pro"}}}`)
	app.answer("/rpc", `{"result":{"data":{"sum":3}}}`)
	app.answer("/subscribe", `{"result":{"info":{"seat":7},"b64data":"eyJ4IjoxfQ=="}}`)
	app.answer("/publish", `{"result":{"data":{"text":"hi","checked":true}}}`)
	c := app.config()
	c.Static = http.Header{"x-live-secret": {"pssst"}, "Host": {"shop.example"}}
	node := newNode(t, newHooks(t, c))

	client := fanfaretest.Dial(t, node, "", fanfaretest.WithRequest(browser), fanfaretest.WithData([]byte(`{"tab":"<1>"}`)))
	connected, err := client.Connect()
	require.NoError(t, err)
	require.JSONEq(t, `{"hello":1}`, string(connected.Data))
	sub, err := client.Subscribe("room:1", fanfaretest.Data([]byte(`[2]`)), fanfaretest.Token("tkn"))
	require.NoError(t, err)
	require.Equal(t, `{"x":1}`, string(sub.Data))
	require.NoError(t, client.Publish("room:1", []byte(`{"text":"hi"}`)))
	e, err := client.Next(t.Context())
	require.NoError(t, err)
	require.JSONEq(t, `{"text":"hi","checked":true}`, string(e.Publication.Data))
	answer, err := client.RPC("add", []byte(`[1,2]`))
	require.NoError(t, err)
	require.JSONEq(t, `{"sum":3}`, string(answer))

	id := connected.Client
	common := func(more map[string]any) map[string]any {
		all := map[string]any{"client": id, "transport": "memory", "protocol": "json", "encoding": "json"}
		for k, v := range more {
			all[k] = v
		}
		return all
	}
	meta := map[string]any{"plan": "pro"}
	for path, want := range map[string]map[string]any{
		"/connect":   common(map[string]any{"name": "fanfaretest", "data": map[string]any{"tab": "<1>"}}),
		"/subscribe": common(map[string]any{"user": "42", "channel": "room:1", "token": "tkn", "data": []any{2.0}, "meta": meta}),
		"/publish":   common(map[string]any{"user": "42", "channel": "room:1", "data": map[string]any{"text": "hi"}, "meta": meta}),
		"/rpc":       common(map[string]any{"user": "42", "method": "add", "data": []any{1.0, 2.0}, "meta": meta}),
	} {
		calls := app.asked(path)
		require.Len(t, calls, 1, path)
		require.Equal(t, want, calls[0].body, path)
		require.Equal(t, "shop.example", calls[0].host)
		calls[0].header.Del("Content-Length")
		require.Equal(t, http.Header{
			"Accept":          {"application/json"},
			"Content-Type":    {"application/json"},
			"Cookie":          {"sessionid=s3cret"},
			"User-Agent":      {"fanfare-webhook"},
			"X-Forwarded-For": {"203.0.113.9"}, // what the browser claims is not believed
			"X-Live-Secret":   {"pssst"},
		}, calls[0].header, path)
	}
	members, err := node.Presence(t.Context(), "room:1")
	require.NoError(t, err)
	require.JSONEq(t, `{"name":"Ann"}`, string(members[0].ConnInfo))
	require.JSONEq(t, `{"seat":7}`, string(members[0].ChanInfo))
}

func TestHooks_ForwardsTheChosenHeaders(t *testing.T) {
	t.Parallel()
	app := newApp(t)
	c := app.config()
	c.Headers = []string{"cookie", "authorization", "user-agent", "x-forwarded-for", "x-request-id"}
	node := newNode(t, newHooks(t, c))
	fanfaretest.Connect(t, node, "", fanfaretest.WithRequest(func(r *http.Request) {
		browser(r)
		r.Header.Set("X-Request-Id", "1")
		r.Header.Set("Connection", "Upgrade, x-request-id") // so it belongs to this hop
	}))
	header := app.asked("/connect")[0].header
	require.Equal(t, "Bearer t0ken", header.Get("Authorization"))
	require.Equal(t, "Firefox", header.Get("User-Agent"))
	require.Equal(t, "198.51.100.1, 203.0.113.9", header.Get("X-Forwarded-For"))
	require.Equal(t, "sessionid=s3cret", header.Get("Cookie"))
	require.NotContains(t, header, "X-Request-Id")
	require.NotContains(t, header, "Upgrade")
}

func TestHooks_BinaryDataAndProtobufClients(t *testing.T) {
	t.Parallel()
	app := newApp(t)
	h := newHooks(t, app.config())
	r, err := http.NewRequest(http.MethodGet, "/connection/websocket", nil)
	require.NoError(t, err)
	r.Header.Set("Sec-WebSocket-Protocol", "centrifuge-protobuf")
	_, err = h.Authenticate(t.Context(), &fanfare.ConnectRequest{HTTP: r, ClientID: "c1", Transport: "websocket", Data: []byte{0xff, 0}})
	require.NoError(t, err)
	require.Equal(t, map[string]any{"client": "c1", "transport": "websocket", "protocol": "protobuf", "encoding": "binary", "b64data": "/wA="},
		app.asked("/connect")[0].body)
}

func TestHooks_ServerSideSubscriptions(t *testing.T) {
	t.Parallel()
	app := newApp(t)
	app.answer("/connect", `{"result":{"user":"42","channels":["room:1"],"subs":{"room:2":{"data":{"n":2},"override":{"presence":{"value":false}},
		"recover_since":null,"info":null}}}}`)
	node := newNode(t, newHooks(t, app.config()))
	client := fanfaretest.Dial(t, node, "")
	connected, err := client.Connect()
	require.NoError(t, err)
	require.Len(t, connected.Subs, 2)
	require.JSONEq(t, `{"n":2}`, string(connected.Subs["room:2"].Data))
	require.Empty(t, app.asked("/subscribe"), "the server's own subscriptions need no leave")
	for channel, present := range map[string]int{"room:1": 1, "room:2": 0} {
		stats, err := node.PresenceStats(t.Context(), channel)
		require.NoError(t, err)
		require.Equal(t, present, stats.Clients, channel)
	}
}

// session is an app's own state beside that of the webhooks.
type session struct {
	*webhook.State
	cart int
}

func TestHooks_BesideAnotherAuthenticate(t *testing.T) {
	t.Parallel()
	for name, state := range map[string]func(h *webhook.Hooks, r *fanfare.ConnectRequest) (any, error){
		"embedded": func(h *webhook.Hooks, r *fanfare.ConnectRequest) (any, error) {
			s, err := h.NewState(r)
			return &session{State: s, cart: 1}, err
		},
		"by value": func(h *webhook.Hooks, r *fanfare.ConnectRequest) (any, error) {
			s, err := h.NewState(r)
			return session{State: s}, err
		},
		"none":             func(*webhook.Hooks, *fanfare.ConnectRequest) (any, error) { return nil, nil },
		"empty embedding":  func(*webhook.Hooks, *fanfare.ConnectRequest) (any, error) { return session{}, nil },
		"something of its": func(*webhook.Hooks, *fanfare.ConnectRequest) (any, error) { return 7, nil },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			app := newApp(t)
			h := newHooks(t, app.config())
			node := newNode(t, h, func(c *fanfare.Config) {
				c.Authenticate = func(_ context.Context, r *fanfare.ConnectRequest) (fanfare.Identity, error) {
					s, err := state(h, r)
					return fanfare.Identity{User: "7", State: s}, err
				}
			})
			client := fanfaretest.Connect(t, node, "", fanfaretest.WithRequest(browser))
			_, err := client.RPC("x", nil)
			require.NoError(t, err)
			asked := app.asked("/rpc")[0]
			require.Equal(t, "7", asked.body["user"])
			want := ""
			if name == "embedded" || name == "by value" {
				want = "sessionid=s3cret"
			}
			require.Equal(t, want, asked.header.Get("Cookie"))
		})
	}
}

func TestHooks_WithoutURL(t *testing.T) {
	t.Parallel()
	app := newApp(t)
	h := newHooks(t, webhook.Config{Connect: app.URL + "/connect"})
	client := fanfaretest.Connect(t, newNode(t, h), "")
	_, err := client.RPC("x", nil)
	require.ErrorIs(t, err, fanfare.ErrNotAvailable)
	_, err = client.Subscribe("room:1")
	require.ErrorIs(t, err, fanfare.ErrNotAvailable)
}

func TestHooks_TooLongHeaders(t *testing.T) {
	t.Parallel()
	app := newApp(t)
	client := fanfaretest.Dial(t, newNode(t, newHooks(t, app.config())), "", fanfaretest.WithRequest(func(r *http.Request) {
		r.Header.Set("Cookie", fmt.Sprintf("a=%020000d", 1))
	}))
	_, err := client.Connect()
	require.ErrorIs(t, err, fanfare.ErrBadRequest)
	require.Empty(t, app.asked("/connect"))
}

func TestNew_NamesWhatIsWrong(t *testing.T) {
	t.Parallel()
	const good = "http://app.test/connect"
	for want, c := range map[string]webhook.Config{
		"no URL":                              {},
		"Config.Connect: URL with scheme":     {Connect: "ftp://app.test"},
		"Config.RPC: URL without a host":      {RPC: "http:///x"},
		"Config.Publish: not a URL":           {Publish: "http://%zz"},
		"Config.Refresh: URL with a user":     {Refresh: "http://u:p@app.test"},
		"Config.Headers: Connection":          {Connect: good, Headers: []string{"connection"}},
		"Config.Headers: Proxy-Authorization": {Connect: good, Headers: []string{"proxy-authorization"}},
		"Config.Headers: Sec-Websocket-Key":   {Connect: good, Headers: []string{"Sec-WebSocket-Key"}},
		"Config.Headers: Host":                {Connect: good, Headers: []string{"Host"}},
		"Config.Headers: X-Idempotency-Key":   {Connect: good, Headers: []string{"x-idempotency-key"}},
		"Config.Static: Idempotency-Key":      {Connect: good, Static: http.Header{"Idempotency-Key": {"x"}}},
		`Config.Headers: "a b"`:               {Connect: good, Headers: []string{"a b"}},
		`Config.Static: ""`:                   {Connect: good, Static: http.Header{"": {"x"}}},
		"Config.Static: Content-Length":       {Connect: good, Static: http.Header{"Content-Length": {"1"}}},
		"Config.Static: Host":                 {Connect: good, Static: http.Header{"Host": {}}},
		"the value of X-A":                    {Connect: good, Static: http.Header{"X-A": {"a\nb"}}},
		"Config.MaxAnswer":                    {Connect: good, MaxAnswer: -1},
		"Config.MaxConcurrent":                {Connect: good, MaxConcurrent: -1},
		"Config.Timeout":                      {Connect: good, Timeout: -1},
		"Config.Breaker.OpenFor":              {Connect: good, Breaker: webhook.Breaker{OpenFor: -1}},
		"Config.Breaker.Failures":             {Connect: good, Breaker: webhook.Breaker{Failures: 1 << 40}},
	} {
		_, err := webhook.New(c)
		require.ErrorContains(t, err, want)
	}
}
