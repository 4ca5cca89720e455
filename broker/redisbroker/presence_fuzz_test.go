package redisbroker

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare"
)

func FuzzParseMember(f *testing.F) {
	f.Add("client", "1:u\x1a\x01x")
	f.Add("", "0:")
	f.Add("client", "9:u")
	f.Add("client", "-1:u")
	f.Add("client", ":")
	f.Fuzz(func(t *testing.T, client, value string) {
		m, err := parseMember(client, value)
		if err != nil {
			return
		}
		again, err := parseMember(client, memberValue(m))
		require.NoError(t, err)
		require.Equal(t, m, again)
	})
}

func FuzzParseConnection(f *testing.F) {
	f.Add(newIncarnation("node"), "client")
	f.Add("", "1:")
	f.Fuzz(func(t *testing.T, inc, client string) {
		gotInc, gotClient := parseConnection(connectionMember(inc, client))
		require.Equal(t, inc, gotInc)
		require.Equal(t, client, gotClient)
		parseConnection(client)
	})
}

func TestMemberValue(t *testing.T) {
	for _, m := range []fanfare.ClientInfo{
		{},
		{Client: "c", User: "u:1"},
		{Client: "c", User: "4:user", ConnInfo: []byte(`{}`), ChanInfo: []byte{}},
		{Client: "c", ChanInfo: []byte(`{"a":1}`)},
	} {
		got, err := parseMember(m.Client, memberValue(m))
		require.NoError(t, err)
		require.Equal(t, m, got)
	}
}
