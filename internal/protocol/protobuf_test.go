package protocol_test

import (
	"encoding/hex"
	"fmt"
	"math"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"github.com/fanfare-go/fanfare/internal/protocol"
)

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.ReplaceAll(s, " ", ""))
	require.NoError(t, err)
	return b
}

// prefixed puts the length before each message, as the framing of a transport does.
func prefixed(messages ...[]byte) []byte {
	var all []byte
	for _, m := range messages {
		all = protowire.AppendBytes(all, m)
	}
	return all
}

// TestProtobuf_Spec20 checks the bytes that the specification gives.
func TestProtobuf_Spec20(t *testing.T) {
	t.Parallel()
	codec := protocol.Protobuf
	t.Run("A, commands", func(t *testing.T) {
		frame := unhex(t, "08  08 01  22 04  22 02 6a 73"+
			"18  08 02  2a 14  0a 04 6e 65 77 73  18 01  32 03 78 79 7a  38 ac 02  50 01  70 01")
		connect, rest, err := codec.NextCommand(frame)
		require.NoError(t, err)
		require.Equal(t, &protocol.Command{ID: 1, Connect: &protocol.ConnectRequest{Name: "js"}}, connect)
		subscribe, rest, err := codec.NextCommand(rest)
		require.NoError(t, err)
		require.Equal(t, &protocol.Command{ID: 2, Subscribe: &protocol.SubscribeRequest{
			Channel: "news", Recover: true, Epoch: "xyz", Offset: 300, Recoverable: true, Flag: protocol.FlagCompaction}}, subscribe)
		require.Empty(t, rest)
	})
	t.Run("B, connect reply", func(t *testing.T) {
		require.Equal(t, unhex(t, "11  08 01  2a 0d  0a 02 63 31  12 03 31 2e 30  38 19  40 01"),
			prefixed(codec.AppendReply(nil, &protocol.Reply{ID: 1,
				Connect: &protocol.ConnectResult{Client: "c1", Version: "1.0", Ping: 25, Pong: true}})))
	})
	t.Run("C, several messages", func(t *testing.T) {
		reply := codec.AppendReply(nil, &protocol.Reply{ID: 2, Subscribe: &protocol.SubscribeResult{
			Recoverable: true, Epoch: "xyz", Publications: []*protocol.Publication{{Data: raw("hi"), Offset: 301}},
			Recovered: true, Offset: 300, Positioned: true, WasRecovering: true}})
		push := codec.AppendPush(nil, &protocol.Push{Channel: "news", Pub: &protocol.Publication{
			Data: raw("\x00\xff"), Offset: 302, Tags: map[string]string{"k": "v"}}})
		require.Equal(t, unhex(t, "1d  08 02  32 19  18 01  32 03 78 79 7a  3a 07 22 02 68 69 30 ad 02  40 01  48 ac 02  50 01  60 01"+
			"19  22 17  12 04 6e 65 77 73  22 0f  22 02 00 ff  30 ae 02  3a 06 0a 01 6b 12 01 76"+
			"00"), prefixed(reply, push, codec.AppendPing(nil)))
	})
	t.Run("D, error", func(t *testing.T) {
		require.Equal(t, unhex(t, "1f  08 03  12 1b  08 64  12 15 69 6e 74 65 72 6e 61 6c 20 73 65 72 76 65 72 20 65 72 72 6f 72  18 01"),
			prefixed(codec.AppendReply(nil, &protocol.Reply{ID: 3,
				Error: &protocol.Error{Code: 100, Message: "internal server error", Temporary: true}})))
	})
	t.Run("E, empty result, pong and disconnect", func(t *testing.T) {
		require.Equal(t, unhex(t, "04 08 04 42 00"),
			prefixed(codec.AppendReply(nil, &protocol.Reply{ID: 4, Publish: &protocol.PublishResult{}})))
		pong, rest, err := codec.NextCommand([]byte{0})
		require.NoError(t, err)
		require.Equal(t, &protocol.Command{}, pong)
		require.Empty(t, rest)
		require.Equal(t, unhex(t, "11 22 0f 5a 0d 08 b9 17 12 08 73 68 75 74 64 6f 77 6e"),
			prefixed(codec.AppendPush(nil, &protocol.Push{Disconnect: &protocol.Disconnect{Code: 3001, Reason: "shutdown"}})))
	})
}

// TestProtobuf_SaysWhatJSONSays decodes what is encoded with the library and the schema, and compares it with the JSON of the
// same message.
func TestProtobuf_SaysWhatJSONSays(t *testing.T) {
	t.Parallel()
	for _, tt := range specReplies() {
		t.Run("reply "+tt.name, func(t *testing.T) {
			got, err := decodeBySchema(t, "Reply", protocol.Protobuf.AppendReply(nil, &tt.reply))
			require.NoError(t, err)
			requireSame(t, tt.want, got)
		})
	}
	for _, tt := range specPushes() {
		t.Run("push "+tt.name, func(t *testing.T) {
			bare, err := decodeBySchema(t, "Push", protocol.Protobuf.AppendBarePush(nil, &tt.push))
			require.NoError(t, err)
			requireSame(t, tt.want, bare)
			reply, err := decodeBySchema(t, "Reply", protocol.Protobuf.AppendPush(nil, &tt.push))
			require.NoError(t, err)
			requireSame(t, `{"push":`+tt.want+`}`, reply)
		})
	}
	for _, tt := range specCommands() {
		t.Run("command "+tt.name, func(t *testing.T) {
			m := newMessage(t, "Command")
			fromJSON(t, m, []byte(tt.frame))
			message, err := proto.Marshal(m)
			require.NoError(t, err)
			frame := prefixed(message)
			cmd, rest, err := protocol.Protobuf.NextCommand(frame)
			require.NoError(t, err)
			require.Empty(t, rest)
			want := commandBySchema(m)
			for i := range frame {
				frame[i] = '!' // the command must not share its memory
			}
			require.Equal(t, want, cmd)
			require.Equal(t, tt.want.ID, cmd.ID)
		})
	}
}

// TestProtobuf_LongMessages: the length of what is nested takes more than one byte.
func TestProtobuf_LongMessages(t *testing.T) {
	t.Parallel()
	for _, size := range []int{100, 120, 127, 128, 200, 16_000, 16_383, 16_384, 3 << 20} {
		data := raw(strings.Repeat("x", size))
		tags := map[string]string{strings.Repeat("k", size%1000): strings.Repeat("v", size%3000)}
		push := &protocol.Push{Channel: "news", Pub: &protocol.Publication{Data: data, Tags: tags, Offset: math.MaxUint64,
			Info: &protocol.ClientInfo{User: "u", ConnInfo: data}}}
		got, err := decodeBySchema(t, "Reply", protocol.Protobuf.AppendPush([]byte(nil), push))
		require.NoError(t, err)
		pub := got.ProtoReflect().Get(got.Descriptor().Fields().ByName("push")).Message()
		pub = pub.Get(pub.Descriptor().Fields().ByName("pub")).Message()
		require.Equal(t, []byte(data), pub.Get(pub.Descriptor().Fields().ByName("data")).Bytes())
		require.Equal(t, uint64(math.MaxUint64), pub.Get(pub.Descriptor().Fields().ByName("offset")).Uint())
	}
}

func TestProtobuf_NextCommand_RefusesMalformed(t *testing.T) {
	t.Parallel()
	for name, frame := range map[string]string{
		"empty frame":                 "",
		"length without an end":       "ff",
		"length beyond the frame":     "05 08 01",
		"length beyond all measure":   "ff ff ff ff ff ff ff ff ff 01",
		"field number 0":              "02 00 01",
		"tag without a value":         "01 08",
		"text that is cut":            "05 6a 03 12 05 61",
		"text that is not UTF-8":      "05 6a 03 12 01 ff",
		"name of a header not UTF-8":  "09 22 07 32 05 0a 01 ff 12 00",
		"value of a header not UTF-8": "09 22 07 32 05 0a 00 12 01 ff",
		"channel in subs not UTF-8":   "09 22 07 1a 05 0a 01 ff 12 00",
		"subscribe in subs is cut":    "08 22 06 1a 04 12 02 0a 05",
		"group without an end":        "02 0b 08",
		"since is cut":                "06 52 04 42 02 08 80",
		"tags filter is cut":          "06 2a 04 6a 02 0a 05",
		"a node of it is not UTF-8":   "09 2a 07 6a 05 32 03 0a 01 ff",
	} {
		t.Run(name, func(t *testing.T) {
			cmd, _, err := protocol.Protobuf.NextCommand(unhex(t, frame))
			require.Error(t, err, "%+v", cmd)
			require.Nil(t, cmd)
			require.Contains(t, err.Error(), "protocol: decode command: ")
		})
	}
	_, err := protocol.Protobuf.DecodeConnect(unhex(t, "0a 05"))
	require.ErrorContains(t, err, "protocol: decode connect request: ")
}

func TestProtobuf_NextCommand_FollowsTheRulesOfProto3(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		frame string
		want  protocol.Command
	}{
		"unknown fields are skipped":      {"0d 08 01 a0 06 05 aa 06 01 00 6a 02 12 00", protocol.Command{ID: 1, RPC: &protocol.RPCRequest{}}},
		"so are groups":                   {"06 08 01 a3 06 a4 06", protocol.Command{ID: 1}},
		"and fields of another wire type": {"09 08 01 0a 01 05 6a 02 10 07", protocol.Command{ID: 1, RPC: &protocol.RPCRequest{}}},
		"the last of equal fields counts": {"0a 08 05 08 01 6a 04 12 00 12 00", protocol.Command{ID: 1, RPC: &protocol.RPCRequest{}}},
		"nested messages are merged": {"0c 6a 03 0a 01 61 6a 03 12 01 62 08 01",
			protocol.Command{ID: 1, RPC: &protocol.RPCRequest{Data: raw("a"), Method: "b"}}},
		"a tags filter is merged": {"10 2a 0e 6a 03 1a 01 65 6a 07 0a 01 6f 2a 00 32 00",
			protocol.Command{Subscribe: &protocol.SubscribeRequest{TagsFilter: &protocol.FilterNode{Op: "o", Cmp: "e", Vals: []string{""},
				Nodes: []*protocol.FilterNode{{}}}}}},
		"so is a key after the key, of another wire type": {"0b 22 09 32 07 0a 01 61 08 05 12 00",
			protocol.Command{Connect: &protocol.ConnectRequest{Headers: map[string]string{"a": ""}}}},
		"long numbers are cut": {"07 08 81 80 80 80 80 01", protocol.Command{ID: 1}},
		"the first request in the order of the specification wins": {"06 62 00 6a 00 08 01", protocol.Command{ID: 1, RPC: &protocol.RPCRequest{}}},
	} {
		t.Run(name, func(t *testing.T) {
			cmd, rest, err := protocol.Protobuf.NextCommand(unhex(t, tt.frame))
			require.NoError(t, err)
			require.Empty(t, rest)
			require.Equal(t, &tt.want, cmd)
		})
	}
}

// FuzzProtobufDecode compares the decoder with the library's, and passes what decodes through the encoder.
func FuzzProtobufDecode(f *testing.F) {
	for _, tt := range specCommands() {
		m := newMessage(f, "Command")
		fromJSON(f, m, []byte(tt.frame))
		message, err := proto.Marshal(m)
		require.NoError(f, err)
		f.Add(message)
	}
	for _, seed := range []string{"", "08", "0b 0c", "6a 03 0a 01 61 6a 03 12 01 62", "22 07 32 05 0a 01 ff 12 00", "52 04 42 02 08 01 52 04 42 02 12 00",
		"22 09 32 07 0a 01 61 08 05 12 00"} {
		f.Add(unhex(f, seed))
	}
	f.Fuzz(func(t *testing.T, message []byte) {
		want, wantErr := decodeBySchema(t, "Command", message)
		cmd, rest, err := protocol.Protobuf.NextCommand(append(prefixed(message), "rest"...))
		if err != nil {
			require.Error(t, wantErr, "only the decoder fails: %v", err)
			return
		}
		require.Equal(t, "rest", string(rest))
		if wantErr != nil {
			return // the library has no answer, or what is wrong stands in a request that does not count, which is not looked into
		}
		if s := cmd.Subscribe; s != nil && s.TagsFilter != nil && len(message) > 16<<10 {
			return // which is decided by what was sent, and that may hold more than is left of it in the message
		}
		require.Equal(t, commandBySchema(want), cmd)
		if p := cmd.Publish; p != nil {
			push, err := decodeBySchema(t, "Push", protocol.Protobuf.AppendBarePush(nil, &protocol.Push{
				Channel: p.Channel, Pub: &protocol.Publication{Data: p.Data}}))
			require.NoError(t, err)
			fields := push.Descriptor().Fields()
			require.Equal(t, p.Channel, push.Get(fields.ByName("channel")).String())
			pub := push.Get(fields.ByName("pub")).Message()
			require.Equal(t, string(p.Data), string(pub.Get(pub.Descriptor().Fields().ByName("data")).Bytes()))
		}
	})
}

// BenchmarkProtobuf compares the codec with the library's encoder of the same schema, and with JSON.
func BenchmarkProtobuf(b *testing.B) {
	push, reply := benchmarkPush(), benchmarkReply()
	for name, codec := range map[string]protocol.Codec{"protobuf": protocol.Protobuf, "json": protocol.JSON} {
		b.Run(fmt.Sprintf("push/%s", name), func(b *testing.B) {
			b.ReportAllocs()
			var buf []byte
			for b.Loop() {
				buf = codec.AppendPush(buf[:0], push)
			}
			b.SetBytes(int64(len(buf)))
		})
		b.Run(fmt.Sprintf("reply/%s", name), func(b *testing.B) {
			b.ReportAllocs()
			var buf []byte
			for b.Loop() {
				buf = codec.AppendReply(buf[:0], reply)
			}
			b.SetBytes(int64(len(buf)))
		})
	}
	m := newMessage(b, "Command")
	fromJSON(b, m, []byte(`{"id":2,"subscribe":{"channel":"news","recover":true,"epoch":"xyz","offset":300,"recoverable":true,"flag":1}}`))
	message, err := proto.Marshal(m)
	require.NoError(b, err)
	frame := prefixed(message)
	b.Run("command", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, _, err := protocol.Protobuf.NextCommand(frame); err != nil {
				b.Fatal(err)
			}
		}
	})
}

func TestProtobuf_Append_DoesNotAllocate(t *testing.T) {
	push, reply := benchmarkPush(), benchmarkReply()
	buf := make([]byte, 0, 64<<10)
	require.Zero(t, testing.AllocsPerRun(100, func() {
		buf = protocol.Protobuf.AppendPush(buf[:0], push)
		buf = protocol.Protobuf.AppendReply(buf[:0], reply)
	}))
}
