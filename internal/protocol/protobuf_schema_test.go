package protocol_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"testing"

	"github.com/bufbuild/protocompile"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/dynamicpb"

	"github.com/fanfare-go/fanfare/internal/protocol"
)

// schema is client.proto, compiled.
var schema = sync.OnceValues(func() (protoreflect.MessageDescriptors, error) {
	compiler := protocompile.Compiler{Resolver: &protocompile.SourceResolver{ImportPaths: []string{"."}}}
	files, err := compiler.Compile(context.Background(), "client.proto")
	if err != nil {
		return nil, err
	}
	return files[0].Messages(), nil
})

// errNoAnswer says that the library panicked over a message, so that it has no opinion to compare with. Its decoder for
// messages without generated code does so over a map's entry in which a second key of another wire type follows the first.
var errNoAnswer = errors.New("the library panicked")

// decodeBySchema decodes a message with the library.
func decodeBySchema(t testing.TB, name protoreflect.Name, data []byte) (m *dynamicpb.Message, err error) {
	t.Helper()
	m = newMessage(t, name)
	defer func() {
		if p := recover(); p != nil {
			require.Equal(t, "type mismatch: cannot convert nil to map key", fmt.Sprint(p), "another panic than the known one")
			err = errNoAnswer
		}
	}()
	return m, proto.Unmarshal(data, m)
}

func newMessage(t testing.TB, name protoreflect.Name) *dynamicpb.Message {
	t.Helper()
	messages, err := schema()
	require.NoError(t, err)
	require.NotNil(t, messages.ByName(name), "no message %s", name)
	return dynamicpb.NewMessage(messages.ByName(name))
}

// asJSON is what a message says, in the JSON of the protocol: payloads are embedded.
func asJSON(m protoreflect.Message) map[string]any {
	out := make(map[string]any)
	m.Range(func(f protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		switch {
		case f.IsMap():
			entries := make(map[string]any)
			v.Map().Range(func(k protoreflect.MapKey, v protoreflect.Value) bool {
				entries[k.String()] = singleAsJSON(f.MapValue(), v)
				return true
			})
			out[string(f.Name())] = entries
		case f.IsList():
			var all []any
			for i := range v.List().Len() {
				all = append(all, singleAsJSON(f, v.List().Get(i)))
			}
			out[string(f.Name())] = all
		default:
			out[string(f.Name())] = singleAsJSON(f, v)
		}
		return true
	})
	return out
}

func singleAsJSON(f protoreflect.FieldDescriptor, v protoreflect.Value) any {
	switch f.Kind() {
	case protoreflect.MessageKind:
		return asJSON(v.Message())
	case protoreflect.BytesKind:
		return payload(v.Bytes())
	}
	return v.Interface()
}

// payload keeps withoutZeros out.
type payload json.RawMessage

func (p payload) MarshalJSON() ([]byte, error) { return p, nil }

// withoutZeros removes what is always present in JSON, and never in Protobuf when it is zero.
func withoutZeros(v any) any {
	switch v := v.(type) {
	case map[string]any:
		for key, value := range v {
			if key == "data" || key == "conn_info" || key == "chan_info" || key == "tags" {
				continue
			}
			switch value := withoutZeros(value).(type) {
			case nil:
				delete(v, key)
			case map[string]any:
				// A result that is empty is a result; a presence that is empty is none.
				if len(value) == 0 && key == "presence" && len(v) == 1 && v["id"] == nil {
					delete(v, key)
				}
			}
		}
		return v
	case []any:
		if len(v) == 0 {
			return nil
		}
		for i := range v {
			v[i] = withoutZeros(v[i])
		}
		return v
	case string:
		if v == "" {
			return nil
		}
	case float64:
		if v == 0 {
			return nil
		}
	}
	return v
}

// requireSame compares a message, decoded by the schema, with JSON.
func requireSame(t *testing.T, want string, got protoreflect.Message) {
	t.Helper()
	var wanted any
	require.NoError(t, json.Unmarshal([]byte(want), &wanted))
	wantedJSON, err := json.Marshal(withoutZeros(wanted))
	require.NoError(t, err)
	gotJSON, err := json.Marshal(asJSON(got))
	require.NoError(t, err)
	require.JSONEq(t, string(wantedJSON), string(gotJSON))
}

// fromJSON sets the fields of a message as JSON of the protocol names them.
func fromJSON(t testing.TB, m protoreflect.Message, data []byte) {
	t.Helper()
	var members map[string]json.RawMessage
	require.NoError(t, json.Unmarshal(data, &members))
	for name, value := range members {
		f := m.Descriptor().Fields().ByName(protoreflect.Name(name))
		if f == nil || string(value) == "null" && f.Kind() != protoreflect.BytesKind {
			continue
		}
		switch {
		case f.IsList():
			var elements []json.RawMessage
			require.NoError(t, json.Unmarshal(value, &elements))
			for _, element := range elements {
				list := m.Mutable(f).List()
				list.Append(singleFromJSON(t, f, list.NewElement(), element))
			}
		case f.IsMap():
			var entries map[string]json.RawMessage
			require.NoError(t, json.Unmarshal(value, &entries))
			for key, value := range entries {
				if string(value) != "null" {
					v := singleFromJSON(t, f.MapValue(), m.Mutable(f).Map().NewValue(), value)
					m.Mutable(f).Map().Set(protoreflect.ValueOfString(key).MapKey(), v)
				}
			}
		default:
			m.Set(f, singleFromJSON(t, f, m.NewField(f), value))
		}
	}
}

func singleFromJSON(t testing.TB, f protoreflect.FieldDescriptor, zero protoreflect.Value, data []byte) protoreflect.Value {
	t.Helper()
	v := zero.Interface()
	switch f.Kind() {
	case protoreflect.MessageKind:
		fromJSON(t, zero.Message(), data)
		return zero
	case protoreflect.BytesKind:
		return protoreflect.ValueOfBytes(bytes.Clone(data))
	case protoreflect.StringKind:
		var s string
		require.NoError(t, json.Unmarshal(data, &s))
		v = s
	case protoreflect.BoolKind:
		v = string(data) == "true"
	case protoreflect.Uint32Kind:
		var n uint32
		require.NoError(t, json.Unmarshal(data, &n))
		v = n
	case protoreflect.Uint64Kind:
		var n uint64
		require.NoError(t, json.Unmarshal(data, &n))
		v = n
	case protoreflect.Int32Kind:
		var n int32
		require.NoError(t, json.Unmarshal(data, &n))
		v = n
	case protoreflect.Int64Kind:
		var n int64
		require.NoError(t, json.Unmarshal(data, &n))
		v = n
	default:
		t.Fatalf("kind %v", f.Kind())
	}
	return protoreflect.ValueOf(v)
}

// filterBySchema is what a FilterNode says, if it is not longer than the decoder reads.
func filterBySchema(m protoreflect.Message, level int) *protocol.FilterNode {
	field := func(name protoreflect.Name) protoreflect.Value { return m.Get(m.Descriptor().Fields().ByName(name)) }
	if proto.Size(m.Interface()) > 16<<10 || level > 32 {
		return &protocol.FilterNode{Op: "overlong"}
	}
	n := &protocol.FilterNode{
		Op: field("op").String(), Key: field("key").String(), Cmp: field("cmp").String(), Val: field("val").String(),
	}
	for vals, i := field("vals").List(), 0; i < vals.Len(); i++ {
		n.Vals = append(n.Vals, vals.Get(i).String())
	}
	for nodes, i := field("nodes").List(), 0; i < nodes.Len(); i++ {
		n.Nodes = append(n.Nodes, filterBySchema(nodes.Get(i).Message(), level+1))
	}
	return n
}

// commandBySchema is what a Command says, by the library's decoder and the rules of spec 3.1.
func commandBySchema(m protoreflect.Message) *protocol.Command {
	text := func(m protoreflect.Message, name protoreflect.Name) string {
		return m.Get(m.Descriptor().Fields().ByName(name)).String()
	}
	number := func(m protoreflect.Message, name protoreflect.Name) uint64 {
		return m.Get(m.Descriptor().Fields().ByName(name)).Uint()
	}
	integer := func(m protoreflect.Message, name protoreflect.Name) int64 {
		return m.Get(m.Descriptor().Fields().ByName(name)).Int()
	}
	flag := func(m protoreflect.Message, name protoreflect.Name) bool {
		return m.Get(m.Descriptor().Fields().ByName(name)).Bool()
	}
	data := func(m protoreflect.Message, name protoreflect.Name) protocol.Raw {
		b := m.Get(m.Descriptor().Fields().ByName(name)).Bytes()
		if len(b) == 0 {
			return nil
		}
		return b
	}
	has := func(m protoreflect.Message, name protoreflect.Name) (protoreflect.Message, bool) {
		f := m.Descriptor().Fields().ByName(name)
		return m.Get(f).Message(), m.Has(f)
	}
	subscribe := func(r protoreflect.Message) *protocol.SubscribeRequest {
		var filter *protocol.FilterNode
		if tf, set := has(r, "tf"); set {
			filter = filterBySchema(tf, 1)
		}
		return &protocol.SubscribeRequest{
			Channel: text(r, "channel"), Token: text(r, "token"), Recover: flag(r, "recover"), Epoch: text(r, "epoch"),
			Offset: number(r, "offset"), Data: data(r, "data"), Positioned: flag(r, "positioned"),
			Recoverable: flag(r, "recoverable"), JoinLeave: flag(r, "join_leave"), Delta: text(r, "delta"),
			TagsFilter: filter, Flag: integer(r, "flag"), Type: int32(integer(r, "type")),
		}
	}
	cmd := &protocol.Command{ID: uint32(number(m, "id"))}
	for _, name := range []protoreflect.Name{"connect", "subscribe", "unsubscribe", "publish", "presence", "presence_stats",
		"history", "rpc", "send", "refresh", "sub_refresh"} {
		r, set := has(m, name)
		if !set {
			continue
		}
		switch name {
		case "connect":
			c := &protocol.ConnectRequest{Token: text(r, "token"), Data: data(r, "data"), Name: text(r, "name"), Version: text(r, "version")}
			r.Get(r.Descriptor().Fields().ByName("subs")).Map().Range(func(k protoreflect.MapKey, v protoreflect.Value) bool {
				if c.Subs == nil {
					c.Subs = make(map[string]*protocol.SubscribeRequest)
				}
				c.Subs[k.String()] = subscribe(v.Message())
				return true
			})
			r.Get(r.Descriptor().Fields().ByName("headers")).Map().Range(func(k protoreflect.MapKey, v protoreflect.Value) bool {
				if c.Headers == nil {
					c.Headers = make(map[string]string)
				}
				c.Headers[k.String()] = v.String()
				return true
			})
			cmd.Connect = c
		case "subscribe":
			cmd.Subscribe = subscribe(r)
		case "unsubscribe":
			cmd.Unsubscribe = &protocol.UnsubscribeRequest{Channel: text(r, "channel")}
		case "publish":
			cmd.Publish = &protocol.PublishRequest{Channel: text(r, "channel"), Data: data(r, "data"), Type: int32(integer(r, "type"))}
		case "presence":
			cmd.Presence = &protocol.PresenceRequest{Channel: text(r, "channel")}
		case "presence_stats":
			cmd.PresenceStats = &protocol.PresenceStatsRequest{Channel: text(r, "channel")}
		case "history":
			cmd.History = &protocol.HistoryRequest{Channel: text(r, "channel"), Limit: int32(integer(r, "limit")), Reverse: flag(r, "reverse")}
			if since, set := has(r, "since"); set {
				cmd.History.Since = &protocol.StreamPosition{Offset: number(since, "offset"), Epoch: text(since, "epoch")}
			}
		case "rpc":
			cmd.RPC = &protocol.RPCRequest{Data: data(r, "data"), Method: text(r, "method")}
		case "send":
			cmd.Send = &protocol.SendRequest{Data: data(r, "data")}
		case "refresh":
			cmd.Refresh = &protocol.RefreshRequest{Token: text(r, "token")}
		case "sub_refresh":
			cmd.SubRefresh = &protocol.SubRefreshRequest{Channel: text(r, "channel"), Token: text(r, "token"), Type: int32(integer(r, "type"))}
		}
		break
	}
	return cmd
}
