package wire

import (
	"encoding/hex"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/fanfare-go/fanfare"
)

var someInfo = fanfare.ClientInfo{User: "u", Client: "c", ConnInfo: []byte(`{"a":1}`), ChanInfo: []byte(`{"b":2}`)}

func TestPublication_RoundTrip(t *testing.T) {
	for name, p := range map[string]fanfare.Publication{
		"empty":           {Data: []byte{}},
		"data":            {Data: []byte(`{"text":"hi"}`)},
		"binary":          {Data: []byte{0, 255, 10}},
		"info":            {Data: []byte("1"), Info: &someInfo},
		"empty info":      {Data: []byte("1"), Info: &fanfare.ClientInfo{}},
		"empty JSON":      {Data: []byte("1"), Info: &fanfare.ClientInfo{ConnInfo: []byte{}, ChanInfo: []byte{}}},
		"one tag":         {Data: []byte("1"), Tags: map[string]string{"k": "v"}},
		"tags":            {Data: []byte("1"), Tags: map[string]string{"k": "v", "": "", "e": "", "ü": "\x00"}},
		"left out":        {Data: []byte("1"), Except: "c"},
		"everything":      {Data: []byte("1"), Info: &someInfo, Tags: map[string]string{"a": "b"}, Except: "c"},
		"like a message":  {Data: AppendPublication(nil, &fanfare.Publication{Data: []byte("1"), Except: "c"})},
		"longer than 127": {Data: make([]byte, 300)},
	} {
		got, err := Publication(AppendPublication(nil, &p))
		require.NoError(t, err, name)
		require.Equal(t, &p, got, name)
	}
}

func TestPublication_PositionIsNotPartOfIt(t *testing.T) {
	p := fanfare.Publication{Position: fanfare.Position{Offset: 5, Epoch: "e"}, Data: []byte("1")}
	got, err := Publication(AppendPublication(nil, &p))
	require.NoError(t, err)
	require.Zero(t, got.Position)
}

func TestAppend_KeepsWhatIsThere(t *testing.T) {
	p := fanfare.Publication{Data: []byte("1"), Except: "c"}
	require.Equal(t, append([]byte("before"), AppendPublication(nil, &p)...), AppendPublication([]byte("before"), &p))
}

func TestMembership_RoundTrip(t *testing.T) {
	for _, m := range []fanfare.Membership{
		{}, {Joined: true}, {Info: someInfo}, {Joined: true, Info: someInfo},
		{Joined: true, Info: fanfare.ClientInfo{Client: "c"}},
	} {
		got, err := Membership(AppendMembership(nil, m))
		require.NoError(t, err)
		require.Equal(t, m, got)
	}
}

// Nodes of other versions read and write the same messages, so their bytes do not change.
func TestAppend_Bytes(t *testing.T) {
	info := fanfare.ClientInfo{User: "u", Client: "c", ConnInfo: []byte("1"), ChanInfo: []byte{}}
	for want, message := range map[string][]byte{
		"0a026869 120b 0a0175 120163 1a0131 2200 1a06 0a016b 120176 220178": AppendPublication(nil, &fanfare.Publication{
			Data: []byte("hi"), Info: &info, Tags: map[string]string{"k": "v"}, Except: "x",
		}),
		"0a00":               AppendPublication(nil, &fanfare.Publication{Data: []byte{}}),
		"0a0101 1203 0a0175": AppendMembership(nil, fanfare.Membership{Joined: true, Info: fanfare.ClientInfo{User: "u"}}),
		"1200":               AppendMembership(nil, fanfare.Membership{}),
	} {
		require.Equal(t, strings.ReplaceAll(want, " ", ""), hex.EncodeToString(message))
	}
}

func TestFieldsOfLaterVersions_AreSkipped(t *testing.T) {
	later := func(message []byte) []byte {
		message = protowire.AppendVarint(protowire.AppendTag(message, 100, protowire.VarintType), 7)
		message = protowire.AppendFixed32(protowire.AppendTag(message, 101, protowire.Fixed32Type), 7)
		message = protowire.AppendFixed64(protowire.AppendTag(message, 102, protowire.Fixed64Type), 7)
		return protowire.AppendString(protowire.AppendTag(message, 103, protowire.BytesType), "later")
	}
	p := fanfare.Publication{Data: []byte("1"), Info: &someInfo}
	got, err := Publication(later(AppendPublication(nil, &p)))
	require.NoError(t, err)
	require.Equal(t, &p, got)
	info, err := ClientInfo(later(AppendClientInfo(nil, someInfo)))
	require.NoError(t, err)
	require.Equal(t, someInfo, info)
	m, err := Membership(later(AppendMembership(nil, fanfare.Membership{Joined: true, Info: someInfo})))
	require.NoError(t, err)
	require.Equal(t, fanfare.Membership{Joined: true, Info: someInfo}, m)
}

func TestMalformedMessages_AreErrors(t *testing.T) {
	bytesOf := func(n protowire.Number, value []byte) []byte { return appendBytes(nil, n, value) }
	for name, message := range map[string][]byte{
		"no field number":       {0x02, 0x00},
		"tag cut off":           {0xff},
		"length cut off":        {0x0a},
		"value cut off":         {0x0a, 5, 'x'},
		"length beyond memory":  {0x0a, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f},
		"varint cut off":        {0x08, 0x80},
		"group without end":     {0x0b},
		"malformed info":        bytesOf(publicationInfo, []byte{0x0a, 5}),
		"malformed tag of tags": bytesOf(publicationTag, []byte{0x0a, 5}),
	} {
		_, err := Publication(message)
		require.ErrorIs(t, err, errMalformed, name)
	}
	_, err := ClientInfo([]byte{0x0a, 5})
	require.ErrorIs(t, err, errMalformed)
	_, err = Membership(bytesOf(membershipInfo, []byte{0x0a, 5}))
	require.ErrorIs(t, err, errMalformed)
}

func TestDecodedParts_DoNotGrowIntoEachOther(t *testing.T) {
	got, err := Publication(AppendPublication(nil, &fanfare.Publication{Data: []byte("one"), Info: &someInfo}))
	require.NoError(t, err)
	_ = append(got.Data, "two"...)
	require.Equal(t, &someInfo, got.Info)
}

func FuzzPublication_RoundTrip(f *testing.F) {
	f.Add([]byte(`{}`), "u", "c", []byte(`{}`), "k", "v", "d", true)
	f.Add([]byte{}, "", "", []byte{}, "", "", "", false)
	f.Fuzz(func(t *testing.T, data []byte, user, client string, info []byte, key, value, except string, tagged bool) {
		if data == nil {
			data = []byte{}
		}
		p := fanfare.Publication{Data: data, Info: &fanfare.ClientInfo{User: user, Client: client, ConnInfo: info}, Except: except}
		if tagged {
			p.Tags = map[string]string{key: value, "other": ""}
		}
		got, err := Publication(AppendPublication(nil, &p))
		require.NoError(t, err)
		require.Equal(t, &p, got)
	})
}

// FuzzGarbage decodes what others may have written: there may be errors, and no panic; and what was decoded is written and decoded again.
func FuzzGarbage(f *testing.F) {
	f.Add([]byte{})
	f.Add(AppendPublication(nil, &fanfare.Publication{Data: []byte("1"), Info: &someInfo, Tags: map[string]string{"a": "b"}, Except: "c"}))
	f.Add(AppendMembership(nil, fanfare.Membership{Joined: true, Info: someInfo}))
	f.Add([]byte{0x0b, 0x0c})
	f.Fuzz(func(t *testing.T, message []byte) {
		if p, err := Publication(message); err == nil {
			again, err := Publication(AppendPublication(nil, p))
			require.NoError(t, err)
			require.Equal(t, p, again)
		}
		if m, err := Membership(message); err == nil {
			again, err := Membership(AppendMembership(nil, m))
			require.NoError(t, err)
			require.Equal(t, m, again)
		}
		if info, err := ClientInfo(message); err == nil {
			again, err := ClientInfo(AppendClientInfo(nil, info))
			require.NoError(t, err)
			require.Equal(t, info, again)
		}
	})
}
