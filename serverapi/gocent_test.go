package serverapi_test

import (
	"net/http/httptest"
	"testing"

	"github.com/centrifugal/gocent/v3"
	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare"
	"github.com/fanfare-go/fanfare/fanfaretest"
)

// TestGocent: the published API client for Go, which speaks the old combined form.
func TestGocent(t *testing.T) {
	k := newKit(t)
	server := httptest.NewServer(k.api)
	t.Cleanup(server.Close)
	transport := server.Client()
	t.Cleanup(transport.CloseIdleConnections)
	c := gocent.New(gocent.Config{Addr: server.URL + "/api", Key: key, HTTPClient: transport})
	ctx := t.Context()
	peer := fanfaretest.Connect(t, k.node, "ann")

	published, err := c.Publish(ctx, "kept:1", []byte(`{"a":1}`))
	require.NoError(t, err)
	require.Equal(t, uint64(1), published.Offset)
	_, err = c.Publish(ctx, "kept:1", []byte(`{"a":2}`), gocent.WithSkipHistory(true))
	require.NoError(t, err)
	_, err = c.Publish(ctx, "other", []byte(`1`))
	require.Equal(t, &gocent.Error{Code: 102, Message: "unknown channel"}, err)
	many, err := c.Broadcast(ctx, []string{"kept:1", "other"}, []byte(`2`))
	require.NoError(t, err)
	require.Equal(t, uint64(2), many.Responses[0].Result.Offset)
	require.Equal(t, 102, many.Responses[1].Error.Code)

	history, err := c.History(ctx, "kept:1", gocent.WithLimit(gocent.NoLimit), gocent.WithReverse(true))
	require.NoError(t, err)
	require.Equal(t, []gocent.Publication{{Offset: 2, Data: []byte(`2`)}, {Offset: 1, Data: []byte(`{"a":1}`)}}, history.Publications)
	require.Equal(t, published.Epoch, history.Epoch)
	_, err = c.History(ctx, "kept:1", gocent.WithLimit(1), gocent.WithSince(&gocent.StreamPosition{Offset: 1, Epoch: "x"}))
	require.Equal(t, &gocent.Error{Code: 112, Message: "unrecoverable position"}, err)
	require.NoError(t, c.HistoryRemove(ctx, "kept:1"))

	require.NoError(t, c.Subscribe(ctx, "lobby", "ann", gocent.WithSubscribeInfo([]byte(`{"i":1}`))))
	require.NoError(t, c.Subscribe(ctx, "kept:1", "ann", gocent.WithRecoverSince(&gocent.StreamPosition{Offset: 2, Epoch: published.Epoch})))
	presence, err := c.Presence(ctx, "lobby")
	require.NoError(t, err)
	require.Equal(t, map[string]gocent.ClientInfo{peer.ID(): {User: "ann", Client: peer.ID(), ChanInfo: []byte(`{"i":1}`)}}, presence.Presence)
	stats, err := c.PresenceStats(ctx, "lobby")
	require.NoError(t, err)
	require.Equal(t, gocent.PresenceStatsResult{NumClients: 1, NumUsers: 1}, stats)
	channels, err := c.Channels(ctx, gocent.WithPattern("lo*"))
	require.NoError(t, err)
	require.Equal(t, map[string]gocent.ChannelInfo{"lobby": {}}, channels.Channels)
	info, err := c.Info(ctx)
	require.NoError(t, err)
	require.Len(t, info.Nodes, 1)
	require.Equal(t, k.node.ID(), info.Nodes[0].UID)
	require.Equal(t, 1, info.Nodes[0].NumClients)

	require.NoError(t, c.Unsubscribe(ctx, "lobby", "ann"))
	require.NoError(t, c.Disconnect(ctx, "ann", gocent.WithDisconnectClientWhitelist([]string{peer.ID()})))
	info, err = c.Info(ctx)
	require.NoError(t, err)
	require.Equal(t, 1, info.Nodes[0].NumClients, "the only client is on the list")
	pipe := c.Pipe()
	require.NoError(t, pipe.AddPublish("plain", []byte(`1`)))
	require.NoError(t, pipe.AddPresence("plain"))
	require.NoError(t, pipe.AddDisconnect("ann"))
	replies, err := c.SendPipe(ctx, pipe)
	require.NoError(t, err)
	require.Len(t, replies, 3)
	require.Nil(t, replies[0].Error)
	require.Equal(t, 108, replies[1].Error.Code)
	require.Equal(t, fanfare.DisconnectForce, closed(t, peer))

	stranger := gocent.New(gocent.Config{Addr: server.URL + "/api", Key: "wrong", HTTPClient: transport})
	_, err = stranger.Info(ctx)
	require.Equal(t, gocent.ErrStatusCode{Code: 401, Body: []byte{}}, err)
}
