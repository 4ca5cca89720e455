package redisbroker

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare"
)

func TestGarbage_IsSaidOnceAMinute(t *testing.T) {
	var g garbage
	now := time.Now()
	more, due := g.due(now)
	require.True(t, due)
	require.Zero(t, more)
	for range 3 {
		_, due = g.due(now.Add(59 * time.Second))
		require.False(t, due)
	}
	more, due = g.due(now.Add(time.Minute))
	require.True(t, due)
	require.Equal(t, 3, more)
	_, due = g.due(now.Add(time.Minute))
	require.False(t, due)
}

func TestMessage_RoundTrips(t *testing.T) {
	p := &fanfare.Publication{Data: []byte{0, ' ', 255}, Tags: map[string]string{"k": "v"}, Except: "c"}
	m, err := decodeMessage(string(appendPassing(nil, p)))
	require.NoError(t, err)
	require.Equal(t, p, m.publication)

	m, err = decodeMessage("p12 epoch " + string(appendPassing(nil, p)[1:]))
	require.NoError(t, err)
	p.Position = fanfare.Position{Offset: 12, Epoch: "epoch"}
	require.Equal(t, p, m.publication)

	joined := fanfare.Membership{Joined: true, Info: fanfare.ClientInfo{User: "u", Client: "c"}}
	m, err = decodeMessage(string(appendMembership(nil, joined)))
	require.NoError(t, err)
	require.Equal(t, &joined, m.membership)

	from, data, err := decodeControl(string(appendControl(nil, "a node", []byte("data"))))
	require.NoError(t, err)
	require.Equal(t, "a node", from)
	require.Equal(t, "data", string(data))
}

func TestMessage_OfALaterVersionIsSkipped(t *testing.T) {
	m, err := decodeMessage("z of something new")
	require.NoError(t, err)
	require.Equal(t, message{}, m)
	_, data, err := decodeControl("z of something new")
	require.NoError(t, err)
	require.Nil(t, data)
}

func TestMessage_Malformed(t *testing.T) {
	for _, text := range []string{"", "p", "p1", "p1 ", "p1 e", "p0 e ", "px e ", "p1  ", "p1 e \xff", "q\xff", "m\xff"} {
		_, err := decodeMessage(text)
		require.Error(t, err, "%q", text)
	}
	for _, text := range []string{"", "c", "c\x05abc", "c\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff"} {
		_, _, err := decodeControl(text)
		require.Error(t, err, "%q", text)
	}
}

func FuzzMessage(f *testing.F) {
	p := &fanfare.Publication{Data: []byte("data"), Info: &fanfare.ClientInfo{User: "u"}}
	f.Add("p12 epoch " + string(appendPassing(nil, p)[1:]))
	f.Add(string(appendPassing(nil, p)))
	f.Add(string(appendMembership(nil, fanfare.Membership{Joined: true})))
	f.Add(string(appendControl(nil, "node", []byte("data"))))
	f.Fuzz(func(t *testing.T, text string) {
		m, err := decodeMessage(text)
		if err == nil && m.publication != nil {
			require.Equal(t, m.publication.Offset == 0, m.publication.Epoch == "")
		}
		from, data, err := decodeControl(text)
		if err == nil && data != nil {
			again, same, err := decodeControl(string(appendControl(nil, from, data)))
			require.NoError(t, err)
			require.Equal(t, from, again)
			require.Equal(t, data, same)
		}
	})
}

func TestSlotOf(t *testing.T) {
	// From the specification of the Cluster: 123456789 has the checksum 0x31C3.
	require.EqualValues(t, 0x31C3, slotOf("123456789"))
	require.Equal(t, slotOf("user1000"), slotOf("{user1000}.following"))
	require.Equal(t, slotOf("{"), slotOf("foo{{}}"))
	require.NotEqual(t, slotOf(""), slotOf("foo{}{bar}"))
	b := &Broker{config: Config{Prefix: "app"}}
	for _, channel := range []string{"", "a", "}", "{x}", "a{b}c"} {
		require.Equal(t, slotOf(b.key(kindMeta, channel)), slotOf(b.repeatKey(channel, "k}{")), "%q", channel)
		require.Equal(t, slotOf(b.key(kindMeta, channel)), slotOf(b.key(kindLive, channel)), "%q", channel)
	}
}
