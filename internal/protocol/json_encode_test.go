package protocol_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare/internal/protocol"
)

func raw(s string) protocol.Raw { return protocol.Raw(s) }

type replyTest struct {
	name  string
	reply protocol.Reply
	want  string
}

// specReplies are the replies of the specification, in JSON.
func specReplies() []replyTest {
	publication := &protocol.Publication{
		Data: raw(`{"v":1}`), Info: &protocol.ClientInfo{User: "42", Client: "c-91"}, Offset: 49,
	}
	return []replyTest{
		{"19.1 connect", protocol.Reply{ID: 1, Connect: &protocol.ConnectResult{Client: "c-81", Version: "0.1.0", Ping: 25, Pong: true}},
			`{"id":1,"connect":{"client":"c-81","version":"0.1.0","ping":25,"pong":true}}`},
		{"19.1 subscribe", protocol.Reply{ID: 2, Subscribe: &protocol.SubscribeResult{}}, `{"id":2,"subscribe":{}}`},
		{"19.3 error", protocol.Reply{ID: 1, Error: &protocol.Error{Code: 109, Message: "token expired"}},
			`{"id":1,"error":{"code":109,"message":"token expired"}}`},
		{"19.3 expiring connect", protocol.Reply{ID: 2, Connect: &protocol.ConnectResult{
			Client: "c-82", Version: "0.1.0", Expires: true, TTL: 600, Ping: 25, Pong: true,
		}}, `{"id":2,"connect":{"client":"c-82","version":"0.1.0","expires":true,"ttl":600,"ping":25,"pong":true}}`},
		{"19.5 refresh", protocol.Reply{ID: 9, Refresh: &protocol.RefreshResult{Expires: true, TTL: 600}},
			`{"id":9,"refresh":{"expires":true,"ttl":600}}`},
		{"5.9 refresh without expiry", protocol.Reply{ID: 9, Refresh: &protocol.RefreshResult{}}, `{"id":9,"refresh":{}}`},
		{"5.10 sub_refresh", protocol.Reply{ID: 9, SubRefresh: &protocol.SubRefreshResult{Expires: true, TTL: 5}},
			`{"id":9,"sub_refresh":{"expires":true,"ttl":5}}`},
		{"5.10 sub_refresh without expiry", protocol.Reply{ID: 9, SubRefresh: &protocol.SubRefreshResult{}}, `{"id":9,"sub_refresh":{}}`},
		{"19.6 subscribe", protocol.Reply{ID: 2, Subscribe: &protocol.SubscribeResult{
			Recoverable: true, Positioned: true, Epoch: "kTzQwErB", Offset: 41,
		}}, `{"id":2,"subscribe":{"recoverable":true,"positioned":true,"epoch":"kTzQwErB","offset":41}}`},
		{"19.6 recovered", protocol.Reply{ID: 4, Subscribe: &protocol.SubscribeResult{
			Recoverable: true, Positioned: true, WasRecovering: true, Recovered: true, Epoch: "kTzQwErB", Offset: 42,
			Publications: []*protocol.Publication{{Data: raw(`{"n":2}`), Offset: 43}, {Data: raw(`{"n":3}`), Offset: 44}},
		}}, `{"id":4,"subscribe":{"recoverable":true,"positioned":true,"was_recovering":true,"recovered":true,"epoch":"kTzQwErB","offset":42,"publications":[{"data":{"n":2},"offset":43},{"data":{"n":3},"offset":44}]}}`},
		{"19.7 not recovered", protocol.Reply{ID: 4, Subscribe: &protocol.SubscribeResult{
			Recoverable: true, Positioned: true, WasRecovering: true, Epoch: "NewEpoch", Offset: 3,
		}}, `{"id":4,"subscribe":{"recoverable":true,"positioned":true,"was_recovering":true,"epoch":"NewEpoch","offset":3}}`},
		{"19.9 cache recovery", protocol.Reply{ID: 2, Subscribe: &protocol.SubscribeResult{
			Recoverable: true, Positioned: true, WasRecovering: true, Recovered: true, Epoch: "PpOoIiUu",
			Publications: []*protocol.Publication{{Data: raw(`{"usd":64000}`), Offset: 918}},
		}}, `{"id":2,"subscribe":{"recoverable":true,"positioned":true,"was_recovering":true,"recovered":true,"epoch":"PpOoIiUu","publications":[{"data":{"usd":64000},"offset":918}]}}`},
		{"19.10 delta", protocol.Reply{ID: 2, Subscribe: &protocol.SubscribeResult{
			Recoverable: true, Positioned: true, Epoch: "QqWwEeRr", Delta: true,
		}}, `{"id":2,"subscribe":{"recoverable":true,"positioned":true,"epoch":"QqWwEeRr","delta":true}}`},
		{"subscribe with data", protocol.Reply{ID: 2, Subscribe: &protocol.SubscribeResult{Expires: true, TTL: 7, Data: raw(`null`)}},
			`{"id":2,"subscribe":{"expires":true,"ttl":7,"data":null}}`},
		{"19.11 publish", protocol.Reply{ID: 3, Publish: &protocol.PublishResult{}}, `{"id":3,"publish":{}}`},
		{"19.11 presence", protocol.Reply{ID: 4, Presence: &protocol.PresenceResult{Presence: map[string]*protocol.ClientInfo{
			"c-91": {User: "42", Client: "c-91", ConnInfo: raw(`{"name":"Ann"}`)},
		}}}, `{"id":4,"presence":{"presence":{"c-91":{"user":"42","client":"c-91","conn_info":{"name":"Ann"}}}}}`},
		{"2.1 empty presence", protocol.Reply{ID: 4, Presence: &protocol.PresenceResult{}}, `{"id":4,"presence":{"presence":{}}}`},
		{"2.1 empty client info", protocol.Reply{ID: 4, Presence: &protocol.PresenceResult{Presence: map[string]*protocol.ClientInfo{
			"b": {ChanInfo: raw(`1`)}, "a": {},
		}}}, `{"id":4,"presence":{"presence":{"a":{"user":"","client":""},"b":{"user":"","client":"","chan_info":1}}}}`},
		{"19.11 presence_stats", protocol.Reply{ID: 5, PresenceStats: &protocol.PresenceStatsResult{NumClients: 1, NumUsers: 1}},
			`{"id":5,"presence_stats":{"num_clients":1,"num_users":1}}`},
		{"2.1 empty presence_stats", protocol.Reply{ID: 5, PresenceStats: &protocol.PresenceStatsResult{}},
			`{"id":5,"presence_stats":{"num_clients":0,"num_users":0}}`},
		{"19.11 history", protocol.Reply{ID: 6, History: &protocol.HistoryResult{
			Publications: []*protocol.Publication{publication}, Epoch: "kTzQwErB", Offset: 49,
		}}, `{"id":6,"history":{"publications":[{"data":{"v":1},"info":{"user":"42","client":"c-91"},"offset":49}],"epoch":"kTzQwErB","offset":49}}`},
		{"2.1 empty history", protocol.Reply{ID: 6, History: &protocol.HistoryResult{}},
			`{"id":6,"history":{"publications":[],"epoch":"","offset":0}}`},
		{"19.11 rpc", protocol.Reply{ID: 7, RPC: &protocol.RPCResult{Data: raw(`{"now":1790000000}`)}},
			`{"id":7,"rpc":{"data":{"now":1790000000}}}`},
		{"2.1 empty rpc", protocol.Reply{ID: 7, RPC: &protocol.RPCResult{}}, `{"id":7,"rpc":{}}`},
		{"temporary error", protocol.Reply{ID: 8, Error: &protocol.Error{Code: 100, Message: "internal server error", Temporary: true}},
			`{"id":8,"error":{"code":100,"message":"internal server error","temporary":true}}`},
		{"19.11 unsubscribe", protocol.Reply{ID: 10, Unsubscribe: &protocol.UnsubscribeResult{}}, `{"id":10,"unsubscribe":{}}`},
		{"19.12 server-side subscriptions", protocol.Reply{ID: 1, Connect: &protocol.ConnectResult{
			Client: "c-1", Version: "0.1.0", Ping: 25, Pong: true,
			Subs: map[string]*protocol.SubscribeResult{
				"#42": {Recoverable: true, Positioned: true, Epoch: "AaSsDdFf", Offset: 5}, "#1": {},
			},
		}}, `{"id":1,"connect":{"client":"c-1","version":"0.1.0","subs":{"#1":{},"#42":{"recoverable":true,"positioned":true,"epoch":"AaSsDdFf","offset":5}},"ping":25,"pong":true}}`},
		{"19.13 emulation", protocol.Reply{ID: 1, Connect: &protocol.ConnectResult{
			Client: "c-5", Version: "0.1.0", Ping: 25, Pong: true, Session: "s-77", Node: "n-1",
		}}, `{"id":1,"connect":{"client":"c-5","version":"0.1.0","ping":25,"pong":true,"session":"s-77","node":"n-1"}}`},
	}
}

func TestJSON_AppendReply_MatchesTheSpecification(t *testing.T) {
	t.Parallel()
	for _, tt := range specReplies() {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got := protocol.JSON.AppendReply([]byte("kept"), &tt.reply)
			require.Equal(t, "kept"+tt.want, string(got))
		})
	}
}

type pushTest struct {
	name string
	push protocol.Push
	want string // bare
}

// specPushes are the pushes of the specification, in JSON.
func specPushes() []pushTest {
	return []pushTest{
		{"19.1 publication", protocol.Push{Channel: "room:7", Pub: &protocol.Publication{Data: raw(`{"text":"hi"}`)}},
			`{"channel":"room:7","pub":{"data":{"text":"hi"}}}`},
		{"19.11 publication of a client", protocol.Push{Channel: "orders", Pub: &protocol.Publication{
			Data: raw(`{"v":1}`), Info: &protocol.ClientInfo{User: "42", Client: "c-91"}, Offset: 49,
		}}, `{"channel":"orders","pub":{"data":{"v":1},"info":{"user":"42","client":"c-91"},"offset":49}}`},
		{"tags", protocol.Push{Channel: "a", Pub: &protocol.Publication{
			Data: raw(`1`), Tags: map[string]string{"k": "v", "a\"b": ""},
		}}, `{"channel":"a","pub":{"data":1,"tags":{"a\"b":"","k":"v"}}}`},
		{"19.10 delta", protocol.Push{Channel: "doc", Pub: &protocol.Publication{Data: raw(`"l\nj@0,2:2}KJYlR;"`), Offset: 2, Delta: true}},
			`{"channel":"doc","pub":{"data":"l\nj@0,2:2}KJYlR;","offset":2,"delta":true}}`},
		{"join", protocol.Push{Channel: "a", Join: &protocol.ClientInfo{User: "u", Client: "c"}},
			`{"channel":"a","join":{"info":{"user":"u","client":"c"}}}`},
		{"leave", protocol.Push{Channel: "a", Leave: &protocol.ClientInfo{Client: "c"}},
			`{"channel":"a","leave":{"info":{"user":"","client":"c"}}}`},
		{"19.8 insufficient state", protocol.Push{Channel: "orders", Unsubscribe: &protocol.Unsubscribe{Code: 2500, Reason: "insufficient state"}},
			`{"channel":"orders","unsubscribe":{"code":2500,"reason":"insufficient state"}}`},
		{"message", protocol.Push{Message: &protocol.Message{Data: raw(`"x"`)}}, `{"message":{"data":"x"}}`},
		{"19.12 subscribe", protocol.Push{Channel: "promo", Subscribe: &protocol.Subscribe{Data: raw(`{"until":"noon"}`)}},
			`{"channel":"promo","subscribe":{"data":{"until":"noon"}}}`},
		{"subscribe with a position", protocol.Push{Channel: "a", Subscribe: &protocol.Subscribe{
			Recoverable: true, Positioned: true, Epoch: "e", Offset: 3,
		}}, `{"channel":"a","subscribe":{"recoverable":true,"positioned":true,"epoch":"e","offset":3}}`},
		{"19.15 connect without node and pong", protocol.Push{Connect: &protocol.ConnectResult{
			Client: "c-7", Version: "0.1.0", Ping: 25, Pong: true, Session: "s-79", Node: "n-1",
			Subs: map[string]*protocol.SubscribeResult{"news": {
				Recoverable: true, Positioned: true, WasRecovering: true, Recovered: true, Epoch: "ZzXxCcVv", Offset: 12,
			}},
		}}, `{"connect":{"client":"c-7","version":"0.1.0","subs":{"news":{"recoverable":true,"positioned":true,"was_recovering":true,"recovered":true,"epoch":"ZzXxCcVv","offset":12}},"ping":25,"session":"s-79"}}`},
		{"19.13 disconnect", protocol.Push{Disconnect: &protocol.Disconnect{Code: 3001, Reason: "shutdown"}},
			`{"disconnect":{"code":3001,"reason":"shutdown"}}`},
		{"refresh", protocol.Push{Refresh: &protocol.Refresh{Expires: true, TTL: 60}}, `{"refresh":{"expires":true,"ttl":60}}`},
	}
}

func TestJSON_AppendPush_MatchesTheSpecification(t *testing.T) {
	t.Parallel()
	for _, tt := range specPushes() {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			require.Equal(t, "kept"+tt.want, string(protocol.JSON.AppendBarePush([]byte("kept"), &tt.push)))
			require.Equal(t, `{"push":`+tt.want+`}`, string(protocol.JSON.AppendPush(nil, &tt.push)))
		})
	}
}

func TestJSON_AppendPing_IsAnEmptyObject(t *testing.T) {
	t.Parallel()
	require.Equal(t, "{}", string(protocol.JSON.AppendPing(nil)))
}

// Spec 18: the Python client reads these without a default.
func TestJSON_Append_WritesWhatClientsReadWithoutADefault(t *testing.T) {
	t.Parallel()
	require.Equal(t, `{"id":1,"error":{"code":0,"message":""}}`,
		string(protocol.JSON.AppendReply(nil, &protocol.Reply{ID: 1, Error: &protocol.Error{}})))
	require.Equal(t, `{"id":1,"connect":{"client":""}}`,
		string(protocol.JSON.AppendReply(nil, &protocol.Reply{ID: 1, Connect: &protocol.ConnectResult{}})))
	require.Equal(t, `{"id":1,"refresh":{"expires":true,"ttl":0}}`,
		string(protocol.JSON.AppendReply(nil, &protocol.Reply{ID: 1, Refresh: &protocol.RefreshResult{Expires: true}})))
	require.Equal(t, `{"channel":"a","unsubscribe":{"code":0,"reason":""}}`,
		string(protocol.JSON.AppendBarePush(nil, &protocol.Push{Channel: "a", Unsubscribe: &protocol.Unsubscribe{}})))
	require.Equal(t, `{"disconnect":{"code":0,"reason":""}}`,
		string(protocol.JSON.AppendBarePush(nil, &protocol.Push{Disconnect: &protocol.Disconnect{}})))
}

func TestJSON_Append_EmbedsPayloadsRawWithoutLineEnds(t *testing.T) {
	t.Parallel()
	tests := []struct{ name, data, want string }{
		{"spaces and escapes are kept", `{ "a" : "\u0041\n<&>" }`, `{"pub":{"data":{ "a" : "\u0041\n<&>" }}}`},
		{"large numbers are kept", `12345678901234567890.10`, `{"pub":{"data":12345678901234567890.10}}`},
		{"line ends are removed", "{\r\n\t\"a\":\n[1,\r2]}\n", "{\"pub\":{\"data\":{\t\"a\":[1,2]}}}"},
		{"null is a payload", `null`, `{"pub":{"data":null}}`},
		{"an empty payload is none", ``, `{"pub":{}}`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			data := raw(tt.data)
			got := protocol.JSON.AppendBarePush(nil, &protocol.Push{Pub: &protocol.Publication{Data: data}})
			require.Equal(t, tt.want, string(got))
			require.True(t, json.Valid(got))
			require.Equal(t, tt.data, string(data), "the payload is shared and must not change")
		})
	}
}

func TestAppendString_Escapes(t *testing.T) {
	t.Parallel()
	tests := []struct{ name, in, want string }{
		{"empty", "", `""`},
		{"plain", "room:7", `"room:7"`},
		{"quotes and backslashes", `a"b\c`, `"a\"b\\c"`},
		{"control characters", "\x00\x1f\n\r\t\x7f", `"\u0000\u001f\n\r\t` + "\x7f" + `"`},
		{"other scripts", "Привет 🎉", `"Привет 🎉"`},
		{"html", "<a&b>", `"<a&b>"`},
		{"line separators", "a\u2028b\u2029", `"a\u2028b\u2029"`},
		{"replacement character itself", "\ufffd", "\"\ufffd\""},
		{"invalid byte", "a\xffb", `"a\ufffdb"`},
		{"cut rune", "é\xc3", `"é\ufffd"`},
		{"surrogate", "\xed\xa0\x80", `"\ufffd\ufffd\ufffd"`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got := protocol.AppendString([]byte("x"), tt.in)
			require.Equal(t, "x"+tt.want, string(got))
			require.Equal(t, got, protocol.AppendString([]byte("x"), []byte(tt.in)))

			back, ok := protocol.DecodeString(got[1:])
			require.True(t, ok)
			require.Equal(t, strings.ToValidUTF8(tt.in, "\ufffd"), strings.ReplaceAll(back, "\ufffd\ufffd\ufffd", "\ufffd"))
		})
	}
}

func TestJSON_Append_DoesNotAllocate(t *testing.T) {
	push, reply := benchmarkPush(), benchmarkReply()
	dst := make([]byte, 0, 4096)
	require.Zero(t, testing.AllocsPerRun(100, func() { dst = protocol.JSON.AppendPush(dst[:0], push) }))
	require.Zero(t, testing.AllocsPerRun(100, func() { dst = protocol.JSON.AppendReply(dst[:0], reply) }))
	text := []byte(strings.Repeat("naïve \u2028 text\n", 20))
	require.Zero(t, testing.AllocsPerRun(100, func() { dst = protocol.AppendString(dst[:0], text) }))
}

func benchmarkPush() *protocol.Push {
	return &protocol.Push{Channel: "room:42", Pub: &protocol.Publication{
		Data: raw(`{"text":"` + strings.Repeat("a", 100) + `"}`), Offset: 1234567,
		Info: &protocol.ClientInfo{User: "42", Client: "8e3c1a52-6d0e-4f0c-9f61-0d5b2c7a9b11"},
		Tags: map[string]string{"lang": "fr", "kind": "naïve"},
	}}
}

func benchmarkReply() *protocol.Reply {
	presence := make(map[string]*protocol.ClientInfo)
	for i := range 10 {
		client := fmt.Sprintf("client-%d", i)
		presence[client] = &protocol.ClientInfo{User: "42", Client: client, ConnInfo: raw(`{"name":"Ann"}`)}
	}
	return &protocol.Reply{ID: 7, Presence: &protocol.PresenceResult{Presence: presence}}
}

func BenchmarkJSON_AppendPush(b *testing.B) {
	push, dst := benchmarkPush(), make([]byte, 0, 4096)
	b.ReportAllocs()
	for b.Loop() {
		dst = protocol.JSON.AppendPush(dst[:0], push)
	}
}

func BenchmarkJSON_AppendReply(b *testing.B) {
	reply, dst := benchmarkReply(), make([]byte, 0, 4096)
	b.ReportAllocs()
	for b.Loop() {
		dst = protocol.JSON.AppendReply(dst[:0], reply)
	}
}
