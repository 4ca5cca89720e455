package serverapi_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare"
	"github.com/fanfare-go/fanfare/fanfaretest"
	"github.com/fanfare-go/fanfare/serverapi"
)

const (
	done         = `{"result":{}}`
	unknown      = `{"error":{"code":102,"message":"unknown channel"}}`
	notFound     = `{"error":{"code":104,"message":"not found"}}`
	badRequest   = `{"error":{"code":107,"message":"bad request"}}`
	notAvailable = `{"error":{"code":108,"message":"not available"}}`
)

func TestPublish(t *testing.T) {
	k := newKit(t)
	c := fanfaretest.Connect(t, k.node, "ann")
	_, err := c.Subscribe("kept:1")
	require.NoError(t, err)
	for _, test := range [][2]string{
		{`{"channel":"plain","data":{"a":1}}`, done},
		{`{"channel":"kept:1","data":{"a":"<b>"}}`, `{"result":{"offset":1,"epoch":"E"}}`},
		{`{"channel":"kept:1","data":"two","tags":{"k":"v"},"delta":true,"future":[]}`, `{"result":{"offset":2,"epoch":"E"}}`},
		{`{"channel":"kept:1","data":3,"idempotency_key":"o-17"}`, `{"result":{"offset":3,"epoch":"E"}}`},
		{`{"channel":"kept:1","data":4,"idempotency_key":"o-17"}`, `{"result":{"offset":3,"epoch":"E"}}`},
		{`{"channel":"kept:1","data":null,"b64data":"NA=="}`, `{"result":{"offset":4,"epoch":"E"}}`},
		{`{"channel":"kept:1","data":"loses","b64data":"NQ==","tags":null,"idempotency_key":null,"skip_history":null,"version":null}`, `{"result":{"offset":5,"epoch":"E"}}`},
		{`{"channel":"","data":1}`, badRequest},
		{`{"data":1}`, badRequest},
		{`{"channel":"plain"}`, badRequest},
		{`{"channel":"plain","data":null}`, badRequest},
		{`{"channel":"plain","b64data":"?"}`, badRequest},
		{`{"channel":"plain","b64data":"ew=="}`, badRequest}, // "{", and the channel carries JSON
		{`{"channel":"other","data":1}`, unknown},
		{`{"channel":"plain","data":"` + strings.Repeat("x", 300<<10) + `"}`, badRequest},
		{`{"channel":"text","data":7}`, badRequest},
		{`{"channel":"binary","data":7}`, badRequest},
	} {
		k.expect("publish", test[0], test[1])
	}
	require.Equal(t, []string{
		`{"push":{"channel":"kept:1","pub":{"data":{"a":"<b>"},"offset":1}}}`,
		`{"push":{"channel":"kept:1","pub":{"data":"two","offset":2,"tags":{"k":"v"}}}}`,
		`{"push":{"channel":"kept:1","pub":{"data":3,"offset":3}}}`,
		`{"push":{"channel":"kept:1","pub":{"data":4,"offset":4}}}`,
		`{"push":{"channel":"kept:1","pub":{"data":5,"offset":5}}}`,
	}, events(t, c, 5))
}

func TestPublish_VersionAndSkipHistory(t *testing.T) {
	k := newKit(t)
	for _, test := range [][2]string{
		{`{"channel":"kept:1","data":1,"version":5,"version_epoch":"a"}`, `{"result":{"offset":1,"epoch":"E"}}`},
		{`{"channel":"kept:1","data":"stale","version":5,"version_epoch":"a"}`, `{"result":{"offset":1,"epoch":"E"}}`},
		{`{"channel":"kept:1","data":"stale","version":4}`, `{"result":{"offset":1,"epoch":"E"}}`},
		{`{"channel":"kept:1","data":2,"version":1,"version_epoch":"b"}`, `{"result":{"offset":2,"epoch":"E"}}`},
		{`{"channel":"kept:1","data":3,"skip_history":true}`, done},
		{`{"channel":"plain","data":3,"skip_history":true}`, done},
		{`{"channel":"plain","data":3,"version":1}`, badRequest},
	} {
		k.expect("publish", test[0], test[1])
	}
	k.expect("history", `{"channel":"kept:1","limit":-1}`, `{"result":{"publications":[{"data":1,"offset":1},{"data":2,"offset":2}],"epoch":"E","offset":2}}`)
}

func TestPublish_KindsOfData(t *testing.T) {
	k := newKit(t)
	for _, body := range []string{`{"channel":"text","data":"<b>\n"}`, `{"channel":"text","b64data":"PGI+Cg=="}`} {
		require.Contains(t, k.ask("/api/publish", body), `"offset":`)
	}
	require.Contains(t, k.ask("/api/publish", `{"channel":"binary","b64data":"/wA="}`), `"offset":1`)
	require.Contains(t, k.ask("/api/history", `{"channel":"text","limit":-1}`), `"publications":[{"data":"<b>\n","offset":1},{"data":"<b>\n","offset":2}]`)
	require.Contains(t, k.ask("/api/history", `{"channel":"binary","limit":-1}`), `"publications":[{"b64data":"/wA=","offset":1}]`)
}

func TestBroadcast(t *testing.T) {
	k := newKit(t, func(c *serverapi.Config) { c.MaxItems, c.Concurrency = 4, 2 })
	for _, test := range [][2]string{
		{`{"channels":["kept:1","bad:x","plain",null],"data":1}`, `{"result":{"responses":[{"result":{"offset":1,"epoch":"E"}},` + unknown + `,` + done + `,` + badRequest + `]}}`},
		{`{"channels":["kept:1"],"data":1,"idempotency_key":"k"}`, `{"result":{"responses":[{"result":{"offset":2,"epoch":"E"}}]}}`},
		{`{"channels":["kept:1","plain"],"data":1,"idempotency_key":"k"}`, `{"result":{"responses":[{"result":{"offset":2,"epoch":"E"}},` + done + `]}}`},
		{`{"channels":[],"data":1}`, badRequest},
		{`{"data":1}`, badRequest},
		{`{"channels":["plain"]}`, badRequest},
		{`{"channels":["plain"],"data":null,"b64data":"*"}`, badRequest},
		{`{"channels":["a","b","c","d","e"],"data":1}`, badRequest},
	} {
		k.expect("broadcast", test[0], test[1])
	}
}

func TestSubscribe(t *testing.T) {
	k := newKit(t)
	k.expect("publish", `{"channel":"kept:1","data":1}`, `{"result":{"offset":1,"epoch":"E"}}`)
	k.expect("publish", `{"channel":"kept:1","data":2}`, `{"result":{"offset":2,"epoch":"E"}}`)
	c, other := fanfaretest.Connect(t, k.node, "42"), fanfaretest.Connect(t, k.node, "42")
	for _, test := range [][2]string{
		{`{"channel":"","user":"42"}`, badRequest},
		{`{"user":"42"}`, badRequest},
		{`{"channel":"other","user":"42"}`, unknown},
		{`{"channel":"plain","user":"42","b64data":"ew=="}`, badRequest},
		{`{"channel":"plain","user":"42","b64info":"*"}`, badRequest},
		{`{"channel":"plain","user":"nobody"}`, done},
		{`{"channel":"plain","user":"42","client":"nobody"}`, done},
		{`{"channel":"plain","user":"42","session":"nobody"}`, done},
		{`{"channel":"plain"}`, done},
		{`{"channel":"plain","user":"42","expire_at":1}`, `{"error":{"code":110,"message":"expired"}}`},
		{`{"channel":"plain","user":"42","client":"` + c.ID() + `","override":{"force_recovery":{"value":true}}}`, notAvailable},
		{`{"channel":"kept:1","user":"42","client":"` + c.ID() + `","session":null,"data":{"d":1},"recover_since":{"offset":1,"epoch":"E"}}`, done},
		{`{"channel":"lobby","user":"42","client":"` + c.ID() + `","info":{"i":1},"override":{"join_leave":null,"presence":{"value":true}}}`, done},
		{`{"channel":"lobby","user":"42","client":"` + other.ID() + `","b64info":"Mg==","data":null,"expire_at":null,"recover_since":null,"override":{"presence":{"value":false}}}`, done},
		{`{"channel":"kept:2","user":"42","client":"` + other.ID() + `","override":{"force_recovery":{},"force_positioning":{"value":true}}}`, done},
	} {
		k.expect("subscribe", test[0], test[1])
	}
	got := events(t, c, 3)
	require.Contains(t, got[0], `"channel":"kept:1","subscribe":{"recoverable":true,"positioned":true,`)
	require.Contains(t, got[0], `"offset":1,"data":{"d":1}`)
	require.Equal(t, `{"push":{"channel":"kept:1","pub":{"data":2,"offset":2}}}`, got[1])
	got = events(t, other, 2)
	require.Equal(t, `{"push":{"channel":"lobby","subscribe":{}}}`, got[0])
	require.Contains(t, got[1], `"channel":"kept:2","subscribe":{"positioned":true,`)
	k.expect("presence", `{"channel":"lobby"}`, `{"result":{"presence":{"`+c.ID()+`":{"user":"42","client":"`+c.ID()+`","chan_info":{"i":1}}}}}`)
	k.expect("presence_stats", `{"channel":"lobby"}`, `{"result":{"num_clients":1,"num_users":1}}`)
}

func TestUnsubscribeDisconnectRefresh(t *testing.T) {
	k := newKit(t)
	connect := func(user string, opts ...fanfaretest.Option) *fanfaretest.Client {
		c := fanfaretest.Connect(t, k.node, user, opts...)
		_, err := c.Subscribe("plain")
		require.NoError(t, err)
		return c
	}
	// Only who came with a token is told of a new time.
	one, two, ben, anonymous := connect("42"), connect("42", fanfaretest.WithToken("t")), connect("ben"), connect("")
	for _, test := range [][3]string{
		{"unsubscribe", `{"channel":"","user":"42"}`, badRequest},
		{"unsubscribe", `{"channel":"other","user":"42"}`, unknown},
		{"unsubscribe", `{"channel":"plain","user":"42","client":"` + one.ID() + `"}`, done},
		{"unsubscribe", `{"channel":"plain","user":"nobody"}`, done},
		{"refresh", `{"user":"42"}`, badRequest},
		{"refresh", `{"user":"42","client":"` + one.ID() + `","expire_at":4102444800}`, done},
		{"refresh", `{"user":"42","client":"` + two.ID() + `","expire_at":` + fmt.Sprint(time.Now().Add(time.Hour).Unix()) + `,"info":{}}`, done},
		{"refresh", `{"user":"ben","expired":true,"expire_at":null}`, done},
		{"disconnect", `{"user":"42","disconnect":{"code":5,"reason":"x"}}`, badRequest},
		{"disconnect", `{"user":"42","whitelist":["` + two.ID() + `"],"disconnect":{"code":4501,"reason":"banned"}}`, done},
		{"disconnect", `{"user":"nobody"}`, done},
		{"disconnect", `{"user":"42","client":null,"session":null,"whitelist":null,"disconnect":null}`, done},
		{"disconnect", `{}`, done},
	} {
		k.expect(test[0], test[1], test[2])
	}
	require.Equal(t, []string{`{"push":{"channel":"plain","unsubscribe":{"code":2000,"reason":"server unsubscribe"}}}`}, events(t, one, 1))
	require.Equal(t, &fanfare.Disconnect{Code: 4501, Reason: "banned"}, closed(t, one))
	require.Empty(t, one.Events())
	require.Regexp(t, `{"push":{"refresh":{"expires":true,"ttl":3[56]\d\d}}}`, events(t, two, 1)[0])
	require.Equal(t, fanfare.DisconnectForce, closed(t, two))
	require.Equal(t, fanfare.DisconnectExpired, closed(t, ben))
	require.Equal(t, fanfare.DisconnectForce, closed(t, anonymous))
}

func TestPresence(t *testing.T) {
	k := newKit(t)
	for _, method := range []string{"presence", "presence_stats"} {
		k.expect(method, `{"channel":""}`, badRequest)
		k.expect(method, `{"channel":"other"}`, unknown)
		k.expect(method, `{"channel":"plain"}`, notAvailable)
	}
	k.expect("presence", `{"channel":"lobby"}`, `{"result":{"presence":{}}}`)
	k.expect("presence_stats", `{"channel":"lobby"}`, `{"result":{"num_clients":0,"num_users":0}}`)
	c := fanfaretest.Connect(t, k.node, "")
	_, err := c.Subscribe("lobby")
	require.NoError(t, err)
	k.expect("presence", `{"channel":"lobby"}`, `{"result":{"presence":{"`+c.ID()+`":{"user":"","client":"`+c.ID()+`"}}}}`)
	k.expect("presence_stats", `{"channel":"lobby"}`, `{"result":{"num_clients":1,"num_users":1}}`)
}

func TestHistory(t *testing.T) {
	k := newKit(t)
	k.expect("history", `{"channel":"kept:1"}`, `{"result":{"publications":[],"epoch":"E","offset":0}}`)
	k.expect("publish", `{"channel":"kept:1","data":1,"tags":{"k":"v"}}`, `{"result":{"offset":1,"epoch":"E"}}`)
	c := fanfaretest.Connect(t, k.node, "ann")
	require.NoError(t, c.Publish("kept:1", []byte(`2`)))
	k.expect("publish", `{"channel":"kept:1","data":3}`, `{"result":{"offset":3,"epoch":"E"}}`)
	one := `{"data":1,"offset":1,"tags":{"k":"v"}}`
	two := `{"data":2,"info":{"user":"ann","client":"` + c.ID() + `"},"offset":2}`
	three := `{"data":3,"offset":3}`
	for _, test := range [][2]string{
		{`{"channel":"kept:1","limit":0}`, ``},
		{`{"channel":"kept:1","limit":-1}`, one + `,` + two + `,` + three},
		{`{"channel":"kept:1","limit":1}`, one},
		{`{"channel":"kept:1","limit":1,"reverse":true}`, three},
		{`{"channel":"kept:1","limit":-1,"since":{"offset":1,"epoch":"E"}}`, two + `,` + three},
		{`{"channel":"kept:1","limit":-1,"since":{"offset":3,"epoch":"E"},"reverse":true}`, two + `,` + one},
		{`{"channel":"kept:1","limit":-1,"since":null,"reverse":null}`, one + `,` + two + `,` + three},
		{`{"channel":"kept:1","limit":null}`, ``},
	} {
		k.expect("history", test[0], `{"result":{"publications":[`+test[1]+`],"epoch":"E","offset":3}}`)
	}
	k.expect("history", `{"channel":"kept:1","limit":1,"since":{"offset":1,"epoch":"x"}}`, `{"error":{"code":112,"message":"unrecoverable position"}}`)
	for _, method := range []string{"history", "history_remove"} {
		k.expect(method, `{"channel":""}`, badRequest)
		k.expect(method, `{"channel":"other"}`, unknown)
		k.expect(method, `{"channel":"plain"}`, notAvailable)
	}
	k.expect("history_remove", `{"channel":"kept:1"}`, done)
	k.expect("history", `{"channel":"kept:1","limit":-1}`, `{"result":{"publications":[],"epoch":"E","offset":3}}`)
}

func TestChannelsInfoRPC(t *testing.T) {
	k := newKit(t)
	k.expect("channels", `{}`, `{"result":{"channels":{}}}`)
	for _, user := range []string{"ann", "ann", ""} {
		c := fanfaretest.Connect(t, k.node, user)
		_, err := c.Subscribe("plain")
		require.NoError(t, err)
		_, err = c.Subscribe("kept:1")
		require.NoError(t, err)
	}
	for _, test := range [][3]string{
		{"channels", `{}`, `{"result":{"channels":{"kept:1":{"num_clients":3},"plain":{"num_clients":3}}}}`},
		{"channels", `{"pattern":null}`, `{"result":{"channels":{"kept:1":{"num_clients":3},"plain":{"num_clients":3}}}}`},
		{"channels", `{"pattern":"kept:*"}`, `{"result":{"channels":{"kept:1":{"num_clients":3}}}}`},
		{"channels", `{"pattern":"["}`, badRequest},
		{"info", `{}`, `{"result":{"nodes":[{"uid":"` + k.node.ID() + `","name":"node","version":"` + fanfare.Version +
			`","num_clients":3,"num_users":2,"num_subs":6,"num_channels":2,"uptime":0}]}}`},
		{"rpc", `{"method":"echo","params":{"a":"<"}}`, `{"result":{"data":{"a":"<"}}}`},
		{"rpc", `{"method":"echo","params":null}`, done},
		{"rpc", `{"method":"other"}`, notFound},
		{"rpc", `{}`, notFound},
		{"rpc", `{"method":"deny"}`, `{"error":{"code":403,"message":"no"}}`},
		{"rpc", `{"method":"lie"}`, `{"error":{"code":100,"message":"internal server error"}}`},
		{"rpc", `{"method":"panic"}`, `{"error":{"code":100,"message":"internal server error"}}`},
	} {
		k.expect(test[0], test[1], test[2])
	}
	require.Contains(t, k.log.String(), "boom")
}

func TestBatch(t *testing.T) {
	k := newKit(t, func(c *serverapi.Config) { c.MaxItems, c.Concurrency = 8, 2 })
	const internal = `{"error":{"code":100,"message":"internal server error"}}`
	for _, parallel := range []string{"false", "true", "null"} {
		k.expect("batch", `{"commands":[{"publish":{"channel":"plain","data":1}},{"presence_stats":{"channel":"plain"}},{"future":{}},{},`+
			`{"batch":{"commands":[]}},{"publish":7},{"info":null,"history":{"channel":"kept:1"}},{"rpc":{"method":"panic"}}],"parallel":`+parallel+`}`,
			`{"replies":[{"publish":{}},`+notAvailable+`,`+notFound+`,`+notFound+`,`+notFound+`,`+badRequest+
				`,{"history":{"publications":[],"epoch":"E","offset":0}},`+internal+`]}`)
	}
	k.expect("batch", `{"commands":[{"publish":{"channel":"plain","data":1},"history":{"channel":"kept:1"}}]}`, `{"replies":[`+badRequest+`]}`)
	k.expect("batch", `{"commands":[null]}`, `{"replies":[`+notFound+`]}`)
	k.expect("batch", `{"commands":[]}`, `{"replies":[]}`)
	k.expect("batch", `{}`, `{"replies":[]}`)
	k.expect("batch", `{"commands":[{},{},{},{},{},{},{},{},{}]}`, badRequest)
	k.expect("batch", `{"commands":[{"publish":{"channel":"kept:1","data":1}},{"publish":{"channel":"kept:1","data":2}}]}`,
		`{"replies":[{"publish":{"offset":1,"epoch":"E"}},{"publish":{"offset":2,"epoch":"E"}}]}`)
}

func TestCombined(t *testing.T) {
	k := newKit(t)
	lines := []string{
		`{"method":"publish","params":{"channel":"kept:1","data":1}}`, `{"method":"publish","params":{"channel":"other","data":1}}`,
		`{"method":"info2"}`, `{"method":"history","params":{"channel":"kept:1","limit":1}}`, `{"method":"channels"}`,
		`{"method":"channels","params":null}`, `{"method":"publish","params":7}`, `{"method":"batch","params":{}}`,
	}
	want := []string{
		`{"result":{"offset":1,"epoch":"E"}}`, unknown, notFound, `{"result":{"publications":[{"data":1,"offset":1}],"epoch":"E","offset":1}}`,
		`{"result":{"channels":{}}}`, `{"result":{"channels":{}}}`, badRequest, notFound,
	}
	require.Equal(t, strings.Join(want, "\n"), k.ask("/api", strings.Join(lines, "\n")))
	require.Equal(t, done, k.ask("/api/", `{"method":"publish","params":{"channel":"plain","data":1}}`+"\n"))
	// One that cannot be read spoils them all, before anything is done.
	require.Equal(t, 400, k.post("/api", lines[0]+`{"method":7}`).Code)
	require.Contains(t, k.ask("/api/history", `{"channel":"kept:1"}`), `"offset":1`)
}
