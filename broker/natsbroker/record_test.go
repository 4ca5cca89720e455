package natsbroker

import (
	"encoding/hex"
	"math"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare/broker/internal/wire"
)

func TestMessage_RoundTrip(t *testing.T) {
	for name, m := range map[string]message{
		"publication": {kind: kindPublication, payload: []byte("x"), state: state{
			epoch: "e", top: 9, time: 5, floor: 3, purged: 2, version: 7, versionEpoch: "v",
			limits: []limit{{4, 10}, {9, 20}}, marks: []mark{{4, 100, 1}, {8, 120, 4}},
		}},
		"marker":     {kind: kindMarker, state: state{epoch: "e"}},
		"key":        {kind: kindKey, expires: 12, state: state{epoch: "e", top: 3}},
		"membership": {kind: kindMembership, payload: []byte{0}},
	} {
		got, err := parseMessage(m.append(nil))
		require.NoError(t, err, name)
		if got.isRecord() {
			h, err := got.head(1)
			require.NoError(t, err, name)
			require.Equal(t, m.state, h.state, name)
		}
		require.Equal(t, m.payload, got.payload, name)
		require.Equal(t, []any{m.kind, m.expires, m.epoch, m.top}, []any{got.kind, got.expires, got.epoch, got.top}, name)
	}
}

// Nodes of other versions read and write the same messages, so their bytes do not change.
func TestMessage_Bytes(t *testing.T) {
	for want, m := range map[string]message{
		"0801 120165 1809 2005 2803 3002 3807 420176 4a04040a0914 5206046401087804 7a0178": {
			kind: kindPublication, payload: []byte("x"), state: state{
				epoch: "e", top: 9, time: 5, floor: 3, purged: 2, version: 7, versionEpoch: "v",
				limits: []limit{{4, 10}, {9, 20}}, marks: []mark{{4, 100, 1}, {8, 120, 4}},
			},
		},
		"0802 120165":      {kind: kindMarker, payload: []byte{}, state: state{epoch: "e"}},
		"0803 1803 580c":   {kind: kindKey, expires: 12, state: state{top: 3}},
		"0805 7a0100":      {kind: kindMembership, payload: []byte{0}},
		"0804 7a03000102":  {kind: kindPassing, payload: []byte{0, 1, 2}},
		"0801 187f 38ac02": {kind: kindPublication, state: state{top: 127, version: 300}},
	} {
		require.Equal(t, strings.ReplaceAll(want, " ", ""), hex.EncodeToString(m.append(nil)))
	}
}

func TestMessage_UnknownFieldsAreSkipped(t *testing.T) {
	data := message{kind: kindMarker, state: state{epoch: "e"}}.append(nil)
	data = appendNumber(data, 100, 5)
	data = wire.AppendField(data, 101, "later")
	m, err := parseMessage(data)
	require.NoError(t, err)
	require.Equal(t, "e", m.epoch)
}

func FuzzMessage(f *testing.F) {
	f.Add([]byte{})
	f.Add(message{kind: kindPublication, payload: []byte("x"), state: state{
		epoch: "e", top: 9, time: 5, floor: 3, limits: []limit{{9, 20}}, marks: []mark{{8, 120, 4}},
	}}.append(nil))
	f.Add(message{kind: kindKey, expires: 12}.append(nil))
	f.Fuzz(func(t *testing.T, data []byte) {
		m, err := parseMessage(data)
		if err != nil {
			return
		}
		if _, err = m.publication(); err == nil && m.kind == kindPublication {
			require.Less(t, m.top, uint64(math.MaxUint64))
		}
		h, err := m.head(1)
		if err != nil {
			return
		}
		again, err := parseMessage(message{kind: m.kind, state: h.state, expires: m.expires, payload: m.payload}.append(nil))
		require.NoError(t, err)
		same, err := again.head(1)
		require.NoError(t, err)
		require.Equal(t, h, same)
		require.Equal(t, string(m.payload), string(again.payload))
		// Whatever another node has written, the next record can be made of it.
		next, _ := h.next(1, 10, 1000)
		require.Equal(t, m.top+1, next.top)
	})
}

func TestToken(t *testing.T) {
	everything := make([]byte, 256)
	for i := range everything {
		everything[i] = byte(i)
	}
	for _, name := range []string{"", "plain", "a b", "*", "news.>", "=", "==", "ü→😀", string(everything)} {
		encoded := token(name)
		require.NotEmpty(t, encoded)
		require.False(t, strings.ContainsAny(encoded, ".*> \t\r\n\x00"), encoded)
		decoded, err := untoken(encoded)
		require.NoError(t, err)
		require.Equal(t, name, decoded)
	}
	require.Equal(t, "chat:room-1", token("chat:room-1"))
	require.Equal(t, "a=2eb=3d", token("a.b="))
	for _, malformed := range []string{"a.b", "=2", "=zz", "a="} {
		_, err := untoken(malformed)
		require.ErrorIs(t, err, errToken, malformed)
	}
}
