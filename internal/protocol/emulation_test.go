package protocol_test

import (
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/fanfare-go/fanfare/internal/protocol"
)

func TestDecodeEmulation(t *testing.T) {
	t.Parallel()
	r, err := protocol.DecodeProtobufEmulation(unhex(t, "0a 02 6e 31  12 02 73 31  1a 01 00")) // spec 20, example F
	require.NoError(t, err)
	require.Equal(t, protocol.EmulationRequest{Node: "n1", Session: "s1", Data: []byte{0}}, r)

	r, err = protocol.DecodeJSONEmulation([]byte(`{"session":"s-77","node":"n-1","data":"{\"id\":2}\n{}"}`)) // spec 19.13
	require.NoError(t, err)
	require.Equal(t, protocol.EmulationRequest{Node: "n-1", Session: "s-77", Data: []byte("{\"id\":2}\n{}")}, r)
}

// FuzzDecodeEmulation compares the decoders with libraries.
func FuzzDecodeEmulation(f *testing.F) {
	for _, seed := range []string{"\x0a\x02n1\x12\x02s1\x1a\x01\x00", `{"session":"s","node":"n","data":"{}"}`, `{"data":{}}`, `{"data":"\ud800"}`, "{", ""} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		got, err := protocol.DecodeProtobufEmulation(body)
		m, wantErr := decodeBySchema(t, "EmulationRequest", body)
		require.Equal(t, wantErr != nil, err != nil, "%v, %v", wantErr, err)
		if err == nil {
			get := func(name protoreflect.Name) protoreflect.Value { return m.Get(m.Descriptor().Fields().ByName(name)) }
			require.Equal(t, get("node").String(), got.Node)
			require.Equal(t, get("session").String(), got.Session)
			require.Equal(t, string(get("data").Bytes()), string(got.Data))
		}

		got, err = protocol.DecodeJSONEmulation(body)
		if err != nil {
			return
		}
		var want struct {
			Node, Session string
			Data          any
		}
		require.NoError(t, json.Unmarshal(body, &want))
		require.Equal(t, want.Node, got.Node)
		require.Equal(t, want.Session, got.Session)
		if got.Data != nil {
			require.Equal(t, want.Data, string(got.Data))
		}
	})
}
