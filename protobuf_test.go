package fanfare_test

import (
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/fanfare-go/fanfare"
	"github.com/fanfare-go/fanfare/internal/protocol"
)

// protobufPeer is a client that speaks Protobuf, byte by byte.
type protobufPeer struct {
	*peer
	rest []byte // of the last frame
}

// message is a message of fields with texts or payloads in them, by number.
func message(fields map[protowire.Number]string) []byte {
	var m []byte
	for num := range protowire.Number(20) {
		if v, ok := fields[num]; ok {
			m = protowire.AppendString(protowire.AppendTag(m, num, protowire.BytesType), v)
		}
	}
	return m
}

// send sends a command: its id, and a request under its number.
func (p *protobufPeer) send(t *testing.T, id uint64, request protowire.Number, fields map[protowire.Number]string) {
	t.Helper()
	m := protowire.AppendVarint(protowire.AppendTag(nil, 1, protowire.VarintType), id)
	m = protowire.AppendBytes(protowire.AppendTag(m, request, protowire.BytesType), message(fields))
	require.NoError(t, p.Write(t.Context(), websocket.MessageBinary, protowire.AppendBytes(nil, m)))
}

// next returns the next message.
func (p *protobufPeer) next(t *testing.T) []byte {
	t.Helper()
	if len(p.rest) == 0 {
		kind, frame, err := p.Read(t.Context())
		require.NoError(t, err)
		require.Equal(t, websocket.MessageBinary, kind)
		p.rest = frame
	}
	m, n := protowire.ConsumeBytes(p.rest)
	require.Positive(t, n)
	p.rest = p.rest[n:]
	return m
}

func (p *protobufPeer) requireReply(t *testing.T, r *protocol.Reply) {
	t.Helper()
	require.Equal(t, protocol.Protobuf.AppendReply(nil, r), p.next(t))
}

func (p *protobufPeer) requireError(t *testing.T, id uint32, e *fanfare.Error) {
	t.Helper()
	p.requireReply(t, &protocol.Reply{ID: id, Error: &protocol.Error{Code: e.Code, Message: e.Message, Temporary: e.Temporary}})
}

func (p *protobufPeer) requirePublication(t *testing.T, channel, data string) {
	t.Helper()
	require.Equal(t, protocol.Protobuf.AppendPush(nil, &protocol.Push{Channel: channel, Pub: &protocol.Publication{Data: []byte(data)}}), p.next(t))
}

// The numbers of requests.
const (
	protoConnect, protoSubscribe, protoPublish, protoRPC = 4, 5, 7, 13
)

func connectProtobuf(t *testing.T, s *served, channels ...string) *protobufPeer {
	t.Helper()
	p := &protobufPeer{peer: s.dial(t, "websocket?format=protobuf", false)}
	p.send(t, 1, protoConnect, map[protowire.Number]string{1: "bob"})
	require.Contains(t, string(p.next(t)), fanfare.Version)
	for i, channel := range channels {
		p.send(t, uint64(2+i), protoSubscribe, map[protowire.Number]string{1: channel})
		p.requireReply(t, &protocol.Reply{ID: uint32(2 + i), Subscribe: &protocol.SubscribeResult{}})
	}
	return p
}

func TestProtobuf_Payloads(t *testing.T) {
	s := serve(t, fanfare.Config{PingInterval: -1})
	for channel, kind := range map[string]fanfare.Payload{"json": fanfare.PayloadJSON, "text": fanfare.PayloadText, "binary": fanfare.PayloadBinary} {
		s.Channel(channel, fanfare.ChannelOptions{Public: true, Payload: kind, AllowPublish: fanfare.Subscribers})
	}
	p := connectProtobuf(t, s, "json", "text", "binary")
	other := s.dial(t, "websocket", false)
	other.send(t, `{"id":1,"connect":{"token":"ann"}}`+"\n"+`{"id":2,"subscribe":{"channel":"json"}}`+"\n"+`{"id":3,"subscribe":{"channel":"text"}}`)
	other.await(t, `{"id":2,"subscribe":{}}`)
	other.await(t, `{"id":3,"subscribe":{}}`)

	for channel, payloads := range map[string][]string{
		"json":   {`{ "a" : 1 }`, `"` + strings.Repeat("ü", 300) + `"`, `null`},
		"text":   {"<p>\n “ü”\n</p>", `{"looks":"like JSON"}`},
		"binary": {"\x00\xff\xfe", "\n", strings.Repeat("\x80", 20_000)},
	} {
		for _, data := range payloads {
			requirePublish(t, s.Node, channel, data)
			p.requirePublication(t, channel, data)
			switch channel {
			case "json":
				other.await(t, `{"push":{"channel":"json","pub":{"data":`+data+`}}}`)
			case "text":
				other.await(t, `{"push":{"channel":"text","pub":{"data":`+string(protocol.AppendString(nil, data))+`}}}`)
			}
		}
	}

	t.Run("that do not fit the channel are the client's mistake", func(t *testing.T) {
		for channel, data := range map[string]string{"json": "\x00", "text": "\xff"} {
			p.send(t, 10, protoPublish, map[protowire.Number]string{1: channel, 2: data})
			p.requireError(t, 10, fanfare.ErrBadRequest)
		}
		p.send(t, 11, protoPublish, map[protowire.Number]string{1: "json"})
		p.requireError(t, 11, fanfare.ErrBadRequest)
		require.Empty(t, s.log.from(slog.LevelInfo))
	})
	t.Run("of an RPC are any bytes", func(t *testing.T) {
		p.send(t, 12, protoRPC, map[protowire.Number]string{1: "\x00\xff", 2: "echo"})
		p.requireReply(t, &protocol.Reply{ID: 12, RPC: &protocol.RPCResult{Data: []byte("\x00\xff")}})
	})
}

func TestProtobuf_Malformed(t *testing.T) {
	s := serve(t, fanfare.Config{})
	p := connectProtobuf(t, s)
	require.NoError(t, p.Write(t.Context(), websocket.MessageBinary, []byte{5, 8}))
	_, _, err := p.Read(t.Context())
	require.Equal(t, websocket.StatusCode(fanfare.DisconnectBadRequest.Code), websocket.CloseStatus(err))
	s.requireEnd(t, "bob", fanfare.DisconnectBadRequest.Code)
	s.requireEmpty(t)
}

func TestProtobuf_Pings(t *testing.T) {
	s := serve(t, fanfare.Config{PingInterval: time.Second, PongTimeout: 500 * time.Millisecond})
	p := connectProtobuf(t, s)
	for range 2 {
		require.Empty(t, p.next(t), "the empty message is the ping")
		require.NoError(t, p.Write(t.Context(), websocket.MessageBinary, []byte{0}))
	}
	require.Empty(t, p.next(t))
	_, _, err := p.Read(t.Context()) // and no pong
	require.Equal(t, websocket.StatusCode(fanfare.DisconnectNoPong.Code), websocket.CloseStatus(err))
}
