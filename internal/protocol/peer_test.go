package protocol_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare/internal/protocol"
)

// halves are the two sides of each encoding.
var halves = map[string]struct {
	codec protocol.Codec
	peer  func() protocol.Peer
	end   func(message []byte) []byte // the form of HTTP streaming
}{
	"json": {protocol.JSON, func() protocol.Peer { return &protocol.JSONPeer{} }, func(m []byte) []byte { return append(m, '\n') }},
	"protobuf": {protocol.Protobuf, func() protocol.Peer { return &protocol.ProtobufPeer{} }, func(m []byte) []byte {
		return append(protowireLength(m), m...)
	}},
}

func protowireLength(m []byte) []byte {
	n := len(m)
	var b []byte
	for ; n >= 0x80; n >>= 7 {
		b = append(b, byte(n)|0x80)
	}
	return append(b, byte(n))
}

func TestPeer_CommandsAreReadAsTheyWereMeant(t *testing.T) {
	t.Parallel()
	sub := &protocol.SubscribeRequest{Channel: "room:1", Token: "t", Recover: true, Epoch: "e", Offset: 1 << 52, Data: protocol.Raw(`{"a":1}`),
		Positioned: true, Recoverable: true, JoinLeave: true, Flag: 2,
		TagsFilter: &protocol.FilterNode{Op: "and", Nodes: []*protocol.FilterNode{{Key: "k", Cmp: "eq", Val: "v"}, {Key: "l", Cmp: "in", Vals: []string{"", "ü"}}}}}
	commands := []*protocol.Command{
		{ID: 1, Connect: &protocol.ConnectRequest{Token: "t", Data: protocol.Raw(`[1]`), Name: "n", Version: "v",
			Subs: map[string]*protocol.SubscribeRequest{"#ann": {Recover: true, Epoch: "e", Offset: 3}, "#b": {}}}},
		{ID: 2, Subscribe: sub},
		{ID: 3, Connect: &protocol.ConnectRequest{}},
		{},
	}
	for name, h := range halves {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var frame []byte
			for _, c := range commands {
				frame = h.peer().AppendCommand(frame, c)
			}
			for _, want := range commands {
				got, rest, err := h.codec.NextCommand(frame)
				require.NoError(t, err)
				require.Equal(t, want, got)
				frame = rest
			}
			require.Empty(t, frame)
		})
	}
}

func TestPeer_ReadsWhatTheServerWrites(t *testing.T) {
	t.Parallel()
	info := &protocol.ClientInfo{User: "ann", Client: "c1", ConnInfo: protocol.Raw(`{"n":1}`), ChanInfo: protocol.Raw(`"x"`)}
	pubs := []*protocol.Publication{
		{Data: protocol.Raw(`{"text":"hi"}`), Offset: 1 << 52, Info: info, Tags: map[string]string{"k": "v", "l": ""}},
		{Data: protocol.Raw(`2`)},
	}
	sub := &protocol.SubscribeResult{Recoverable: true, Epoch: "e", Publications: pubs, Recovered: true, Offset: 7, Positioned: true,
		Data: protocol.Raw(`null`), WasRecovering: true}
	replies := []*protocol.Reply{
		{ID: 1, Error: &protocol.Error{Code: 100, Message: "internal", Temporary: true}},
		{ID: 2, Connect: &protocol.ConnectResult{Client: "c1", Data: protocol.Raw(`1`), Ping: 25, Session: "s", Node: "n", Subs: map[string]*protocol.SubscribeResult{"#ann": sub, "b": {}}}},
		{ID: 3, Subscribe: sub},
		{ID: 4, Subscribe: &protocol.SubscribeResult{}},
	}
	pushes := []*protocol.Push{
		{Channel: "room:1", Pub: pubs[0]},
		{Channel: "room:1", Pub: pubs[1]},
		{Channel: "room:1", Join: info},
		{Channel: "room:1", Leave: &protocol.ClientInfo{Client: "c2"}},
		{Channel: "room:1", Unsubscribe: &protocol.Unsubscribe{Code: 2500, Reason: "insufficient state"}},
		{Message: &protocol.Message{Data: protocol.Raw(`{}`)}},
		{Channel: "#ann", Subscribe: &protocol.Subscribe{Recoverable: true, Epoch: "e", Offset: 3, Positioned: true, Data: protocol.Raw(`1`)}},
		{Disconnect: &protocol.Disconnect{Code: 3001, Reason: "shutdown"}},
	}
	for name, h := range halves {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var frames []byte
			for _, r := range replies {
				frames = append(frames, h.end(h.codec.AppendReply(nil, r))...)
			}
			for _, p := range pushes {
				frames = append(frames, h.end(h.codec.AppendPush(nil, p))...)
			}
			frames = append(frames, h.end(h.codec.AppendPing(nil))...)
			peer := h.peer()
			next := func() *protocol.Incoming {
				m, rest, err := peer.NextMessage(frames)
				require.NoError(t, err)
				frames = rest
				return m
			}
			for _, want := range replies {
				m := next()
				require.Equal(t, *want, m.Reply)
				require.Nil(t, m.Push)
			}
			for _, want := range pushes {
				m := next()
				require.Equal(t, want, m.Push)
				require.False(t, m.Ping())
			}
			require.True(t, next().Ping())
			require.Empty(t, frames)
		})
	}
}

func TestPeer_RefusesWhatNoServerWrites(t *testing.T) {
	t.Parallel()
	for name, bad := range map[string]string{"json": "{nonsense\n", "protobuf": "\x05\x08"} {
		_, _, err := halves[name].peer().NextMessage([]byte(bad))
		require.Error(t, err, name)
	}
}

func TestProtobufPeer_ReadsPublicationsWithoutAllocating(t *testing.T) {
	h := halves["protobuf"]
	frame := h.end(h.codec.AppendPush(nil, &protocol.Push{Channel: "room:1", Pub: &protocol.Publication{Data: protocol.Raw(`{"text":"hi"}`), Offset: 42}}))
	peer := h.peer()
	require.Zero(t, testing.AllocsPerRun(100, func() {
		if m, _, err := peer.NextMessage(frame); err != nil || m.Push.Pub.Offset != 42 {
			t.Fatal(m, err)
		}
	}))
}
