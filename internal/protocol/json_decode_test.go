package protocol_test

import (
	"math"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare/internal/protocol"
)

type commandTest struct {
	name, frame string
	want        protocol.Command
}

// specCommands are the commands of the specification, and others, in JSON.
func specCommands() []commandTest {
	return []commandTest{
		{"19.1 connect, id last", `{"connect":{"token":"eyJ…","name":"js"},"id":1}`,
			protocol.Command{ID: 1, Connect: &protocol.ConnectRequest{Token: "eyJ…", Name: "js"}}},
		{"19.1 subscribe", `{"subscribe":{"channel":"room:7","flag":1},"id":2}`,
			protocol.Command{ID: 2, Subscribe: &protocol.SubscribeRequest{Channel: "room:7", Flag: protocol.FlagCompaction}}},
		{"19.2 pong", `{}`, protocol.Command{}},
		{"19.5 refresh", `{"refresh":{"token":"NEW2"},"id":9}`,
			protocol.Command{ID: 9, Refresh: &protocol.RefreshRequest{Token: "NEW2"}}},
		{"sub_refresh", `{"sub_refresh":{"channel":"a","token":"T","type":4},"id":9}`,
			protocol.Command{ID: 9, SubRefresh: &protocol.SubRefreshRequest{Channel: "a", Token: "T", Type: 4}}},
		{"19.6 recover", `{"id":4,"subscribe":{"channel":"orders","recoverable":true,"positioned":true,"recover":true,"offset":42,"epoch":"kTzQwErB"}}`,
			protocol.Command{ID: 4, Subscribe: &protocol.SubscribeRequest{
				Channel: "orders", Recoverable: true, Positioned: true, Recover: true, Offset: 42, Epoch: "kTzQwErB",
			}}},
		{"19.10 delta", `{"id":2,"subscribe":{"channel":"doc","recoverable":true,"delta":"fossil"}}`,
			protocol.Command{ID: 2, Subscribe: &protocol.SubscribeRequest{Channel: "doc", Recoverable: true, Delta: "fossil"}}},
		{"all of subscribe", `{"id":2,"subscribe":{"channel":"c","token":"t","data":[1],"join_leave":true,"tf":{"op":""},"flag":3,"type":-1}}`,
			protocol.Command{ID: 2, Subscribe: &protocol.SubscribeRequest{
				Channel: "c", Token: "t", Data: raw(`[1]`), JoinLeave: true, TagsFilter: &protocol.FilterNode{}, Flag: 3, Type: -1,
			}}},
		{"tags filter", `{"id":2,"subscribe":{"tf":{"op":"or","nodes":[{"key":"a","cmp":"in","vals":["x","","z"]},{"op":"not","nodes":[{"key":"b","cmp":"eq","val":"v"}]}]}}}`,
			protocol.Command{ID: 2, Subscribe: &protocol.SubscribeRequest{TagsFilter: &protocol.FilterNode{Op: "or", Nodes: []*protocol.FilterNode{
				{Key: "a", Cmp: "in", Vals: []string{"x", "", "z"}},
				{Op: "not", Nodes: []*protocol.FilterNode{{Key: "b", Cmp: "eq", Val: "v"}}},
			}}}}},
		{"empty lists of a tags filter", `{"id":2,"subscribe":{"tf":{"vals":[ ],"nodes":[ ]}}}`,
			protocol.Command{ID: 2, Subscribe: &protocol.SubscribeRequest{TagsFilter: &protocol.FilterNode{}}}},
		{"a tags filter that is too long", `{"id":2,"subscribe":{"channel":"c","tf":{"key":"` + strings.Repeat("k", 16<<10) + `"},"flag":3}}`,
			protocol.Command{ID: 2, Subscribe: &protocol.SubscribeRequest{Channel: "c", TagsFilter: &protocol.FilterNode{Op: "overlong"}, Flag: 3}}},
		{"19.11 publish", `{"id":3,"publish":{"channel":"orders","data":{"v":1}}}`,
			protocol.Command{ID: 3, Publish: &protocol.PublishRequest{Channel: "orders", Data: raw(`{"v":1}`)}}},
		{"19.11 presence", `{"id":4,"presence":{"channel":"orders"}}`,
			protocol.Command{ID: 4, Presence: &protocol.PresenceRequest{Channel: "orders"}}},
		{"19.11 presence_stats", `{"id":5,"presence_stats":{"channel":"orders"}}`,
			protocol.Command{ID: 5, PresenceStats: &protocol.PresenceStatsRequest{Channel: "orders"}}},
		{"19.11 history", `{"id":6,"history":{"channel":"orders","limit":1,"reverse":true}}`,
			protocol.Command{ID: 6, History: &protocol.HistoryRequest{Channel: "orders", Limit: 1, Reverse: true}}},
		{"history since", `{"id":6,"history":{"channel":"orders","limit":-1,"since":{"offset":5,"epoch":"e"}}}`,
			protocol.Command{ID: 6, History: &protocol.HistoryRequest{
				Channel: "orders", Limit: -1, Since: &protocol.StreamPosition{Offset: 5, Epoch: "e"},
			}}},
		{"19.11 rpc", `{"id":7,"rpc":{"method":"time","data":{}}}`,
			protocol.Command{ID: 7, RPC: &protocol.RPCRequest{Method: "time", Data: raw(`{}`)}}},
		{"19.11 send", `{"send":{"data":{"typing":true}}}`,
			protocol.Command{Send: &protocol.SendRequest{Data: raw(`{"typing":true}`)}}},
		{"19.11 unsubscribe", `{"id":10,"unsubscribe":{"channel":"orders"}}`,
			protocol.Command{ID: 10, Unsubscribe: &protocol.UnsubscribeRequest{Channel: "orders"}}},
		{"19.12 reconnect", `{"id":2,"connect":{"token":"eyJ…","subs":{"#42":{"recover":true,"offset":6,"epoch":"AaSsDdFf"}}}}`,
			protocol.Command{ID: 2, Connect: &protocol.ConnectRequest{Token: "eyJ…", Subs: map[string]*protocol.SubscribeRequest{
				"#42": {Recover: true, Offset: 6, Epoch: "AaSsDdFf"},
			}}}},
		{"rest of connect", `{"id":1,"connect":{"version":"1.2","data":"d","headers":{"a":"b","c":"d","c":null},"flag":1,"dict":"x"}}`,
			protocol.Command{ID: 1, Connect: &protocol.ConnectRequest{
				Version: "1.2", Data: raw(`"d"`), Headers: map[string]string{"a": "b"},
			}}},
		{"4.6 id without known request", `{"id":2,"ping":{}}`, protocol.Command{ID: 2}},
		{"3.1 first in order wins", `{"id":1,"sub_refresh":{},"send":{},"rpc":{"method":"m"}}`,
			protocol.Command{ID: 1, RPC: &protocol.RPCRequest{Method: "m"}}},
		{"3.1 null is not set", `{"id":1,"connect":null,"subscribe":{"channel":"a"}}`,
			protocol.Command{ID: 1, Subscribe: &protocol.SubscribeRequest{Channel: "a"}}},
		{"2.1 unknown fields", `{"x":[{"id":[[],{},"]}\""]}],"id":1,"rpc":{"y":{"method":1},"z":-1.5e3,"method":"m"},"w":null}`,
			protocol.Command{ID: 1, RPC: &protocol.RPCRequest{Method: "m"}}},
		{"names are case sensitive", `{"ID":5,"Rpc":{},"id":1,"rpc":{"METHOD":"x","Data":1}}`,
			protocol.Command{ID: 1, RPC: &protocol.RPCRequest{}}},
		{"last of equal names", `{"id":5,"id":1,"rpc":{"method":"a","method":"b"}}`,
			protocol.Command{ID: 1, RPC: &protocol.RPCRequest{Method: "b"}}},
		{"escaped names and texts", `{"\u0069d":1,"rpc":{"m\u0065thod":"\"\\\u00e9\ud83c\udf89"}}`,
			protocol.Command{ID: 1, RPC: &protocol.RPCRequest{Method: `"\é🎉`}}},
		{"nulls are absent", `{"id":null,"history":{"channel":null,"limit":null,"since":null,"reverse":null}}`,
			protocol.Command{History: &protocol.HistoryRequest{}}},
		{"more nulls", `{"id":1,"connect":{"token":null,"subs":{"a":null},"headers":null},"subscribe":{"offset":null,"tf":null}}`,
			protocol.Command{ID: 1, Connect: &protocol.ConnectRequest{Subs: map[string]*protocol.SubscribeRequest{}}}},
		{"null data is a payload", `{"id":1,"rpc":{"data":null}}`, protocol.Command{ID: 1, RPC: &protocol.RPCRequest{Data: raw(`null`)}}},
		{"white space", " {\t\"id\" : 1 ,\r \"rpc\" : { \"data\" : [ 1 , 2 ] } } \r",
			protocol.Command{ID: 1, RPC: &protocol.RPCRequest{Data: raw(`[ 1 , 2 ]`)}}},
		{"largest numbers", `{"id":4294967295,"subscribe":{"offset":18446744073709551615,"flag":-9223372036854775808}}`,
			protocol.Command{ID: math.MaxUint32, Subscribe: &protocol.SubscribeRequest{Offset: math.MaxUint64, Flag: math.MinInt64}}},
	}
}

func TestJSON_NextCommand_MatchesTheSpecification(t *testing.T) {
	t.Parallel()
	for _, tt := range specCommands() {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			frame := []byte(tt.frame)
			cmd, rest, err := protocol.JSON.NextCommand(frame)
			require.NoError(t, err)
			require.Empty(t, rest)
			for i := range frame {
				frame[i] = '!' // the command must not share its memory
			}
			require.Equal(t, &tt.want, cmd)
		})
	}
}

func TestJSON_NextCommand_Framing(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, frame string
		ids         []uint32 // handed out before the error
		fails       bool
	}{
		{"one", `{"id":1}`, []uint32{1}, false},
		{"several", "{\"id\":1}\n{\"id\":2}\n{}", []uint32{1, 2, 0}, false},
		{"trailing line feed", "{\"id\":1}\n{\"id\":2}\n", []uint32{1, 2}, false},
		{"empty frame", "", nil, true},
		{"only a line feed", "\n", nil, true},
		{"leading line feed", "\n{\"id\":1}", nil, true},
		{"empty line", "{\"id\":1}\n\n{\"id\":2}", []uint32{1}, true},
		{"two trailing line feeds", "{\"id\":1}\n\n", []uint32{1}, true},
		{"blank line", "{\"id\":1}\n \n{\"id\":2}", []uint32{1}, true},
		{"malformed second", "{\"id\":1}\n{\"id\":", []uint32{1}, true},
		{"two objects without line feed", `{"id":1}{"id":2}`, nil, true},
		{"line feed inside an object", "{\"id\":\n1}", nil, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			var ids []uint32
			frame := []byte(tt.frame)
			for {
				cmd, rest, err := protocol.JSON.NextCommand(frame)
				if err != nil {
					require.True(t, tt.fails, "unexpected error: %v", err)
					require.Nil(t, cmd)
					break
				}
				ids = append(ids, cmd.ID)
				if len(rest) == 0 {
					require.False(t, tt.fails)
					break
				}
				frame = rest
			}
			require.Equal(t, tt.ids, ids)
		})
	}
}

func TestJSON_NextCommand_RefusesMalformed(t *testing.T) {
	t.Parallel()
	tests := []struct{ name, frame string }{
		{"null", `null`},
		{"array", `[]`},
		{"string", `"{}"`},
		{"number", `1`},
		{"garbage", `hello`},
		{"cut", `{"id":1`},
		{"trailing comma", `{"id":1,}`},
		{"byte order mark", "\ufeff{}"},
		{"protobuf", "\x08\x08\x01\x22\x04\x22\x02\x6a\x73"},
		{"id too large", `{"id":4294967296}`},
		{"negative id", `{"id":-1}`},
		{"fractional id", `{"id":1.5}`},
		{"exponent id", `{"id":1e2}`},
		{"text id", `{"id":"1"}`},
		{"request of another type", `{"id":1,"rpc":[]}`},
		{"request of another type that would not win", `{"id":1,"rpc":{},"send":1}`},
		{"text of another type", `{"id":1,"rpc":{"method":1}}`},
		{"flag of another type", `{"id":1,"subscribe":{"recover":1}}`},
		{"limit too large", `{"id":1,"history":{"limit":2147483648}}`},
		{"negative offset", `{"id":1,"subscribe":{"offset":-1}}`},
		{"offset too large", `{"id":1,"subscribe":{"offset":18446744073709551616}}`},
		{"position of another type", `{"id":1,"history":{"since":1}}`},
		{"inside a position", `{"id":1,"history":{"since":{"epoch":1}}}`},
		{"inside a subscription", `{"id":1,"connect":{"subs":{"a":{"offset":"1"}}}}`},
		{"subscription of another type", `{"id":1,"connect":{"subs":{"a":true}}}`},
		{"header of another type", `{"id":1,"connect":{"headers":{"a":["b"]}}}`},
		{"invalid UTF-8 in a payload", "{\"id\":1,\"rpc\":{\"data\":\"\xff\"}}"},
		{"invalid UTF-8 in a text", "{\"id\":1,\"rpc\":{\"method\":\"\xc3\"}}"},
		{"encoded surrogate", "{\"id\":1,\"rpc\":{\"data\":\"\xed\xa0\x80\"}}"},
		{"tags filter of another type", `{"id":1,"subscribe":{"tf":[]}}`},
		{"inside a tags filter", `{"id":1,"subscribe":{"tf":` + strings.Repeat(`{"nodes":[`, 30) + `{"key":1}` + strings.Repeat(`]}`, 30) + `}}`},
		{"null among values", `{"id":1,"subscribe":{"tf":{"vals":["a",null]}}}`},
		{"null among nodes", `{"id":1,"subscribe":{"tf":{"nodes":[null]}}}`},
		{"values of another type", `{"id":1,"subscribe":{"tf":{"vals":"a"}}}`},
		{"nested too deep", `{"x":` + strings.Repeat("[", 20_000) + strings.Repeat("]", 20_000) + `}`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			cmd, rest, err := protocol.JSON.NextCommand([]byte(tt.frame))
			require.Error(t, err)
			require.Nil(t, cmd)
			require.Nil(t, rest)
			require.LessOrEqual(t, len(err.Error()), 200, "errors go to logs")
		})
	}
}

func TestJSON_DecodeConnect(t *testing.T) {
	t.Parallel()
	r, err := protocol.JSON.DecodeConnect([]byte("{\"token\":\"eyJ…\",\n \"subs\":{\"news\":{\"recover\":true,\"offset\":12,\"epoch\":\"ZzXxCcVv\"}}}\n"))
	require.NoError(t, err)
	require.Equal(t, &protocol.ConnectRequest{Token: "eyJ…", Subs: map[string]*protocol.SubscribeRequest{
		"news": {Recover: true, Offset: 12, Epoch: "ZzXxCcVv"},
	}}, r)

	r, err = protocol.JSON.DecodeConnect([]byte(`{}`))
	require.NoError(t, err)
	require.Equal(t, &protocol.ConnectRequest{}, r)

	for _, frame := range []string{"", "\n", "null", "[]", `{"token":1}`, "{}{}", "{}\n{}", "{\"name\":\"\xff\"}"} {
		r, err = protocol.JSON.DecodeConnect([]byte(frame))
		require.Error(t, err, "%q", frame)
		require.Nil(t, r)
	}
}

func TestValidPayload(t *testing.T) {
	t.Parallel()
	for _, data := range []string{`null`, `{}`, ` [1,"é"] `, `"\ud800"`, `-0.5e+1`, "{\n}"} {
		require.True(t, protocol.ValidPayload([]byte(data)), "%q", data)
	}
	for _, data := range []string{``, ` `, `{`, `{}{}`, `NaN`, `'a'`, "\"\xff\"", "\"\n\"", "\x00", "01"} {
		require.False(t, protocol.ValidPayload([]byte(data)), "%q", data)
	}
	require.False(t, protocol.ValidPayload(nil))

	nested := func(n int) []byte { return []byte(strings.Repeat("[", n) + `"]"` + strings.Repeat("]", n)) }
	require.True(t, protocol.ValidPayload(nested(500)))
	require.False(t, protocol.ValidPayload(nested(501)))
	require.True(t, protocol.ValidPayload([]byte("["+strings.Repeat(`{"[":[]},`, 1000)+"1]")), "wide is not deep")
}

func TestDecodeString(t *testing.T) {
	t.Parallel()
	for data, want := range map[string]string{
		`""`: "", `"a"`: "a", ` "a\nb" `: "a\nb", `"\u003cp\u003e"`: "<p>", `"\ud800"`: "\ufffd", "\"\ufffd\"": "\ufffd",
	} {
		got, ok := protocol.DecodeString(raw(data))
		require.True(t, ok, "%q", data)
		require.Equal(t, want, got)
	}
	for _, data := range []string{``, `null`, `1`, `{"a":"b"}`, `"a`, `"a"b`, "\"\xff\"", "\"a\nb\""} {
		_, ok := protocol.DecodeString(raw(data))
		require.False(t, ok, "%q", data)
	}
	_, ok := protocol.DecodeString(nil)
	require.False(t, ok)
}

func BenchmarkJSON_NextCommand(b *testing.B) {
	frames := map[string]string{
		"pong":      `{}`,
		"subscribe": `{"subscribe":{"channel":"room:42","recoverable":true,"recover":true,"offset":42,"epoch":"kTzQwErB","flag":1},"id":2}`,
		"publish":   `{"publish":{"channel":"room:42","data":{"text":"` + strings.Repeat("a", 1000) + `"}},"id":3}`,
	}
	for name, frame := range frames {
		b.Run(name, func(b *testing.B) {
			data := []byte(frame)
			b.SetBytes(int64(len(data)))
			b.ReportAllocs()
			for b.Loop() {
				if _, _, err := protocol.JSON.NextCommand(data); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
