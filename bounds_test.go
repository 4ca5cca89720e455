package fanfare_test

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare"
	"github.com/fanfare-go/fanfare/fanfaretest"
)

// boundedNode has small limits and a channel of every sort that the tests of bounds need.
func boundedNode(t *testing.T, c fanfare.Config) *watched {
	t.Helper()
	node := watch(t, c)
	node.Channel("json", fanfare.ChannelOptions{Public: true, AllowPublish: fanfare.Anyone})
	node.Channel("text", fanfare.ChannelOptions{Public: true, AllowPublish: fanfare.Anyone, Payload: fanfare.PayloadText})
	node.Channel("binary", fanfare.ChannelOptions{Public: true, AllowPublish: fanfare.Anyone, Payload: fanfare.PayloadBinary})
	node.Channel("room:{id...}", fanfare.ChannelOptions{Public: true, History: fanfare.History{Size: 10, TTL: time.Hour},
		AllowHistory: fanfare.Anyone, AllowPresence: fanfare.Anyone, Presence: true, JoinLeave: true})
	node.Channel("full", fanfare.ChannelOptions{Public: true, MaxSubscribers: 1})
	node.Channel("closed", fanfare.ChannelOptions{})
	node.RPC("echo", func(_ context.Context, r *fanfare.RPCRequest) ([]byte, error) { return r.Data, nil })
	return node
}

// requireLogged checks that one line was logged of a client, beyond debugging, and returns it.
func (w *watched) requireLogged(t *testing.T, client string) entry {
	t.Helper()
	synctest.Wait()
	var found []entry
	for _, e := range w.log.from(slog.LevelInfo) {
		if client == "" || e.text("client") == client {
			found = append(found, e)
		}
	}
	require.Len(t, found, 1)
	return found[0]
}

// What a client may not send ends its connection, once everything before it has been executed.
func TestBounds_BadFrames(t *testing.T) {
	for name, test := range map[string]struct {
		frame string
		want  *fanfare.Disconnect
	}{
		"empty frame":             {"", fanfare.DisconnectBadRequest},
		"line feed alone":         {"\n", fanfare.DisconnectBadRequest},
		"cut":                     {`{"id":9,"rpc":{"meth`, fanfare.DisconnectBadRequest},
		"no object":               {`[1]`, fanfare.DisconnectBadRequest},
		"two objects in a line":   {`{}{}`, fanfare.DisconnectBadRequest},
		"invalid UTF-8":           {"{\"id\":9,\"rpc\":{\"method\":\"\xff\"}}", fanfare.DisconnectBadRequest},
		"nested too deep":         {`{"id":9,"rpc":{"method":"echo","data":` + strings.Repeat("[", 600) + strings.Repeat("]", 600) + `}}`, fanfare.DisconnectBadRequest},
		"wrong type":              {`{"id":"x","rpc":{}}`, fanfare.DisconnectBadRequest},
		"unknown command":         {`{"id":9,"dance":{}}`, fanfare.DisconnectBadRequest},
		"ping command":            {`{"id":9,"ping":{}}`, fanfare.DisconnectBadRequest},
		"no id":                   {`{"rpc":{"method":"echo"}}`, fanfare.DisconnectBadRequest},
		"second connect":          {`{"id":9,"connect":{}}`, fanfare.DisconnectBadRequest},
		"pong without ping":       {`{}`, fanfare.DisconnectBadRequest},
		"subscribe nowhere":       {`{"id":9,"subscribe":{}}`, fanfare.DisconnectBadRequest},
		"unsubscribe nowhere":     {`{"id":9,"unsubscribe":{}}`, fanfare.DisconnectBadRequest},
		"publish nowhere":         {`{"id":9,"publish":{"data":1}}`, fanfare.DisconnectBadRequest},
		"presence nowhere":        {`{"id":9,"presence":{}}`, fanfare.DisconnectBadRequest},
		"presence stats nowhere":  {`{"id":9,"presence_stats":{}}`, fanfare.DisconnectBadRequest},
		"history nowhere":         {`{"id":9,"history":{}}`, fanfare.DisconnectBadRequest},
		"sub_refresh nowhere":     {`{"id":9,"sub_refresh":{}}`, fanfare.DisconnectBadRequest},
		"refresh without a token": {`{"id":9,"refresh":{}}`, fanfare.DisconnectBadRequest},
		"unknown delta":           {`{"id":9,"subscribe":{"channel":"json","delta":"xdelta"}}`, fanfare.DisconnectBadRequest},
		"send to nobody":          {`{"send":{"data":1}}`, fanfare.DisconnectNotAvailable},
	} {
		inBubble(t, name, func(t *testing.T) {
			node := boundedNode(t, fanfare.Config{})
			client := fanfaretest.Connect(t, node.Node, "ann")
			requireSubscribe(t, client, "room:1")
			received(t, client)
			frame := `{"id":1000001,"rpc":{"method":"echo","data":"before"}}` + "\n" + test.frame
			if test.frame == "" {
				require.NoError(t, client.Raw(strings.TrimSuffix(frame, "\n")))
				frame = ""
			}
			require.NoError(t, client.Raw(frame))
			requireClosed(t, client, test.want)
			require.Equal(t, []string{`{"id":1000001,"rpc":{"data":"before"}}`}, received(t, client))

			e := node.requireLogged(t, client.ID())
			require.Equal(t, "connection ended", e.message)
			require.Equal(t, uint64(test.want.Code), e.attrs["code"].Uint64())
			require.Equal(t, "ann", e.text("user"))
			require.NotEmpty(t, e.text("err"))
			require.Equal(t, 1, counted(node.tally, &node.tally.disconnected, test.want.Code))
			require.Zero(t, node.Residue())
		})
	}
}

func TestBounds_BadFirstFrames(t *testing.T) {
	for name, frame := range map[string]string{
		"pong":           `{}`,
		"subscribe":      `{"id":1,"subscribe":{"channel":"json"}}`,
		"malformed":      `hello`,
		"empty":          ``,
		"connect, no id": `{"connect":{}}`,
	} {
		inBubble(t, name, func(t *testing.T) {
			node := boundedNode(t, fanfare.Config{})
			client := fanfaretest.Dial(t, node.Node, "ann")
			require.NoError(t, client.Raw(frame))
			requireClosed(t, client, fanfare.DisconnectBadRequest)
			require.Empty(t, received(t, client))
			require.NotEmpty(t, node.requireLogged(t, "").text("err"))
			require.Zero(t, node.Residue())
		})
	}
	inBubble(t, "unidirectional", func(t *testing.T) {
		node := boundedNode(t, fanfare.Config{})
		client := fanfaretest.Dial(t, node.Node, "ann", fanfaretest.Unidirectional())
		require.NoError(t, client.Raw(`hello`))
		requireClosed(t, client, fanfare.DisconnectBadRequest)
		require.Equal(t, []string{`{"disconnect":{"code":3501,"reason":"bad request"}}`}, received(t, client))
		node.requireLogged(t, "")
		require.Zero(t, node.Residue())
	})
}

// What a client may send but not have is refused, and the connection goes on.
func TestBounds_Refusals(t *testing.T) {
	for name, test := range map[string]struct {
		frame string
		want  *fanfare.Error
	}{
		"channel name too long":             {`{"id":9,"subscribe":{"channel":"room:` + strings.Repeat("x", 20) + `"}}`, fanfare.ErrBadRequest},
		"publish to a name too long":        {`{"id":9,"publish":{"channel":"room:` + strings.Repeat("x", 20) + `","data":1}}`, fanfare.ErrBadRequest},
		"too many channels":                 {`{"id":9,"subscribe":{"channel":"room:3"}}`, fanfare.ErrLimitExceeded},
		"subscribed already":                {`{"id":9,"subscribe":{"channel":"room:1"}}`, fanfare.ErrAlreadySubscribed},
		"undeclared channel":                {`{"id":9,"publish":{"channel":"nowhere","data":1}}`, fanfare.ErrUnknownChannel},
		"closed channel":                    {`{"id":9,"publish":{"channel":"closed","data":1}}`, fanfare.ErrPermissionDenied},
		"publish nothing":                   {`{"id":9,"publish":{"channel":"json"}}`, fanfare.ErrBadRequest},
		"publish too much":                  {`{"id":9,"publish":{"channel":"json","data":"` + strings.Repeat("x", 100) + `"}}`, fanfare.ErrBadRequest},
		"publish no text":                   {`{"id":9,"publish":{"channel":"text","data":{}}}`, fanfare.ErrBadRequest},
		"publish JSON as binary":            {`{"id":9,"publish":{"channel":"binary","data":"x"}}`, fanfare.ErrBadRequest},
		"unknown method":                    {`{"id":9,"rpc":{"method":"dance"}}`, fanfare.ErrMethodNotFound},
		"history of a channel without":      {`{"id":9,"history":{"channel":"json"}}`, fanfare.ErrNotAvailable},
		"presence of a channel without":     {`{"id":9,"presence":{"channel":"json"}}`, fanfare.ErrNotAvailable},
		"backwards from the beginning":      {`{"id":9,"history":{"channel":"room:1","since":{},"reverse":true}}`, fanfare.ErrBadRequest},
		"refresh without a hook":            {`{"id":9,"refresh":{"token":"t"}}`, fanfare.ErrNotAvailable},
		"sub_refresh without subscription":  {`{"id":9,"sub_refresh":{"channel":"json","token":"t"}}`, fanfare.ErrPermissionDenied},
		"sub_refresh without token":         {`{"id":9,"sub_refresh":{"channel":"room:1"}}`, fanfare.ErrBadRequest},
		"a filter, which is not there yet":  {`{"id":9,"subscribe":{"channel":"json","tf":{"key":"k"}}}`, fanfare.ErrBadRequest},
		"a kind of subscription not served": {`{"id":9,"subscribe":{"channel":"json","type":1}}`, fanfare.ErrNotAvailable},
	} {
		inBubble(t, name, func(t *testing.T) {
			node := boundedNode(t, fanfare.Config{MaxChannels: 2, MaxChannelLength: 20, MaxPublicationSize: 100})
			client := fanfaretest.Connect(t, node.Node, "ann")
			requireSubscribe(t, client, "room:1")
			if name == "too many channels" {
				requireSubscribe(t, client, "room:2")
			}
			want := fmt.Sprintf(`{"id":9,"error":{"code":%d,"message":%q}}`, test.want.Code, test.want.Message)
			require.Equal(t, []string{want}, ask(t, client, test.frame))
			entries := node.log.about(client.ID())
			require.Len(t, entries, 1)
			require.Equal(t, slog.LevelDebug, entries[0].level)
			require.Equal(t, "command refused", entries[0].message)
			requireOpen(t, client)
			client.Close()
			synctest.Wait()
			require.Zero(t, node.Residue())
		})
	}
	inBubble(t, "subscribe to a full channel", func(t *testing.T) {
		node := boundedNode(t, fanfare.Config{})
		ann, bob := fanfaretest.Connect(t, node.Node, "ann"), fanfaretest.Connect(t, node.Node, "bob")
		requireSubscribe(t, ann, "full")
		_, err := bob.Subscribe("full")
		require.ErrorIs(t, err, fanfare.ErrLimitExceeded)
		ann.Close()
		synctest.Wait()
		requireSubscribe(t, bob, "full")
	})
	inBubble(t, "subscribe to binary on a JSON connection", func(t *testing.T) {
		node := boundedNode(t, fanfare.Config{})
		_, err := fanfaretest.Connect(t, node.Node, "ann").Subscribe("binary")
		require.ErrorIs(t, err, fanfare.ErrNotAvailable)
	})
}

func TestBounds_Publish_RefusesWhatDoesNotFit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		node := boundedNode(t, fanfare.Config{MaxPublicationSize: 100, MaxChannelLength: 20})
		client := fanfaretest.Connect(t, node.Node, "ann")
		for _, channel := range []string{"json", "text", "room:1"} {
			requireSubscribe(t, client, channel)
		}
		for _, test := range []struct {
			channel, data string
			want          error
		}{
			{"json", ``, fanfare.ErrBadPayload},
			{"json", `{"a":`, fanfare.ErrBadPayload},
			{"json", `1 2`, fanfare.ErrBadPayload},
			{"json", "\"\xff\"", fanfare.ErrBadPayload},
			{"room:1", `hi`, fanfare.ErrBadPayload},
			{"text", "\xff", fanfare.ErrBadPayload},
			{"json", `"` + strings.Repeat("x", 100) + `"`, fanfare.ErrTooLarge},
			{"nowhere", `1`, fanfare.ErrUnknownChannel},
			{"room:" + strings.Repeat("x", 20), `1`, fanfare.ErrBadRequest},
		} {
			_, err := node.Publish(t.Context(), test.channel, []byte(test.data))
			require.ErrorIs(t, err, test.want, test)
		}
		result, err := node.History(t.Context(), "room:1", fanfare.HistoryQuery{Limit: -1})
		require.NoError(t, err)
		require.Empty(t, result.Publications)
		require.Zero(t, result.Offset)
		require.Empty(t, events(client))

		_, err = node.Publish(t.Context(), "binary", []byte{0xff, 0})
		require.NoError(t, err)
		_, err = node.Publish(t.Context(), "text", []byte("<p>\"ä\"\n"))
		require.NoError(t, err)
		require.Equal(t, []string{`text "<p>\"ä\"\n"`}, events(client))
		require.Empty(t, node.log.from(slog.LevelInfo), "the caller has the error")
	})
}

// The server needs no uniqueness of ids (spec 4, rule 4).
func TestBounds_DuplicateIDs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		node := boundedNode(t, fanfare.Config{})
		client := fanfaretest.Connect(t, node.Node, "ann")
		for _, data := range []string{"1", "2"} {
			require.Equal(t, []string{`{"id":9,"rpc":{"data":` + data + `}}`},
				ask(t, client, `{"id":9,"rpc":{"method":"echo","data":`+data+`}}`))
		}
	})
}

func TestBounds_NeverConnects(t *testing.T) {
	for name, opts := range map[string][]fanfaretest.Option{"bidirectional": nil, "unidirectional": {fanfaretest.Unidirectional()}} {
		inBubble(t, name, func(t *testing.T) {
			node := boundedNode(t, fanfare.Config{ConnectTimeout: 7 * time.Second})
			began := time.Now()
			client := fanfaretest.Dial(t, node.Node, "ann", opts...)
			require.Equal(t, 1, node.Residue().Clients)
			requireClosed(t, client, fanfare.DisconnectStale)
			require.Equal(t, 7*time.Second, time.Since(began))
			require.EqualValues(t, 3502, node.requireLogged(t, "").attrs["code"].Uint64())
			require.Zero(t, counted(node.tally, &node.tally.disconnected, 3502), "it was never connected")
			require.Zero(t, node.Residue())
		})
	}
}

// The node waits for the connect command, and then for the app: that is bounded by the app's own limit, and not the
// client's fault.
func TestBounds_SlowAuthenticate_IsNotStale(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		node := watch(t, fanfare.Config{ConnectTimeout: time.Second, HookTimeout: 10 * time.Second,
			Authenticate: func(ctx context.Context, r *fanfare.ConnectRequest) (fanfare.Identity, error) {
				time.Sleep(3 * time.Second)
				return fanfare.Identity{}, nil
			}})
		fanfaretest.Connect(t, node.Node, "")
	})
}

func TestBounds_TooManyServerSideSubscriptions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		node := boundedNode(t, fanfare.Config{MaxChannels: 2, Authenticate: func(context.Context, *fanfare.ConnectRequest) (fanfare.Identity, error) {
			return fanfare.Identity{Subscriptions: map[string]fanfare.SubscribeReply{"room:1": {}, "room:2": {}, "room:3": {}}}, nil
		}})
		_, err := fanfaretest.Dial(t, node.Node, "ann").Connect()
		require.ErrorIs(t, err, fanfare.DisconnectChannelLimit)
		require.EqualValues(t, 3505, node.requireLogged(t, "").attrs["code"].Uint64())
		require.Zero(t, node.Residue())
	})
}

// A full command queue stops the reading from its client, and from nobody else.
func TestBounds_CommandsInFlight(t *testing.T) {
	for name, test := range map[string]struct {
		config fanfare.Config
		pad    int // bytes of a command
		most   int // commands that wait
	}{
		"by number": {fanfare.Config{MaxChannels: 8}, 0, 8 + 32},
		"by bytes":  {fanfare.Config{MaxFrameSize: 1000}, 900, 4000 / 900},
	} {
		inBubble(t, name, func(t *testing.T) {
			a := newApp(t, test.config)
			bystander, client := a.bystander(t), a.victim(t)
			gate := newGate(t)
			var blocked atomic.Pointer[fanfare.Client]
			a.RPC("block", func(_ context.Context, r *fanfare.RPCRequest) ([]byte, error) {
				blocked.Store(r.Client)
				<-gate.opened
				return nil, nil
			})
			received(t, client)
			const commands = 200
			require.NoError(t, client.Raw(`{"id":1000000,"rpc":{"method":"block"}}`))
			for i := range commands {
				require.NoError(t, client.Raw(fmt.Sprintf(`{"id":%d,"rpc":{"method":"echo","data":"%s"}}`, 1_000_001+i, strings.Repeat("x", test.pad))))
			}
			synctest.Wait()
			require.LessOrEqual(t, blocked.Load().CommandsWaiting(), test.most)
			require.Greater(t, blocked.Load().CommandsWaiting(), test.most/2)
			a.goesOn(t, bystander)
			require.Len(t, received(t, client), 1, "deliveries go on")

			gate.open()
			lines := received(t, client)
			require.Len(t, lines, 1+commands)
			for i, line := range lines {
				require.True(t, strings.HasPrefix(line, fmt.Sprintf(`{"id":%d,`, 1_000_000+i)), "in order: %s", line)
			}
		})
	}
	inBubble(t, "the client leaves", func(t *testing.T) {
		a := newApp(t, fanfare.Config{MaxChannels: 8})
		client := a.victim(t)
		gate := newGate(t)
		a.misbehave("RPC do", func(context.Context) error { <-gate.opened; return nil })
		for i := range 30 {
			require.NoError(t, client.Raw(fmt.Sprintf(`{"id":%d,"rpc":{"method":"do"}}`, 1_000_000+i)))
		}
		synctest.Wait()
		client.Close()
		synctest.Wait()
		gate.open()
		synctest.Wait()
		require.Equal(t, 1, a.called("RPC do"), "what waits when the client leaves is not executed")
		require.Zero(t, a.Residue())
	})
}

// Replies count too: a client that asks and does not read is closed before it fills the memory.
func TestBounds_QueueBytes_OfReplies(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const limit = 10_000
		a := newApp(t, fanfare.Config{MaxQueueSize: limit, MaxPublicationSize: 1000})
		bystander, client := a.bystander(t), a.victim(t)
		var asking atomic.Pointer[fanfare.Client]
		most := 0
		a.RPC("much", func(_ context.Context, r *fanfare.RPCRequest) ([]byte, error) {
			asking.Store(r.Client)
			most = max(most, r.Client.QueuedBytes())
			return []byte(`"` + strings.Repeat("x", 1000) + `"`), nil
		})
		client.Stall()
		began := time.Now()
		var frame []string
		for i := range 50 {
			frame = append(frame, fmt.Sprintf(`{"id":%d,"rpc":{"method":"much"}}`, 1_000_000+i))
		}
		require.NoError(t, client.Raw(strings.Join(frame, "\n")))
		requireClosed(t, client, fanfare.DisconnectSlow)
		require.Zero(t, time.Since(began))
		require.LessOrEqual(t, most, limit+limit/8) // replies and pings may take a little more
		require.EqualValues(t, 3008, a.requireLogged(t, client.ID()).attrs["code"].Uint64())
		require.Zero(t, asking.Load().QueuedBytes())
		require.ElementsMatch(t, []string{"Unsubscribed room:1 1", "Disconnected 3008"}, a.notices(), "each on a goroutine of its own")
		a.goesOn(t, bystander)
		synctest.Wait()
		require.Equal(t, 1, a.Residue().Clients)
	})
}

// A client that takes nothing at all is found by the write that does not end.
func TestBounds_NeverReads(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		node := boundedNode(t, fanfare.Config{})
		client := fanfaretest.Connect(t, node.Node, "ann")
		requireSubscribe(t, client, "room:1")
		client.Stall()
		began := time.Now()
		requirePublish(t, node.Node, "room:1", `1`)
		requireClosed(t, client, dropped)
		require.Equal(t, time.Second, time.Since(began), "a write is given a second")
		synctest.Wait()
		require.Equal(t, 1, counted(node.tally, &node.tally.disconnected, 3009))
		entries := node.log.about(client.ID())
		require.Len(t, entries, 1)
		require.EqualValues(t, 3009, entries[0].attrs["code"].Uint64())
		require.NotEmpty(t, entries[0].text("err"))
		require.Zero(t, node.Residue())
	})
	inBubble(t, "nor anything but pings come", func(t *testing.T) {
		node := boundedNode(t, fanfare.Config{})
		client := fanfaretest.Connect(t, node.Node, "ann")
		client.Stall()
		_, err := client.Closed(t.Context())
		require.NoError(t, err)
		synctest.Wait()
		require.Equal(t, 1, counted(node.tally, &node.tally.disconnected, 3009))
		require.Zero(t, node.Residue())
	})
}

// A history reply that would throw the client out is refused; a smaller page fits.
func TestBounds_HistoryReply(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		node := boundedNode(t, fanfare.Config{MaxQueueSize: 10_000, MaxPublicationSize: 1000})
		for range 10 {
			requirePublish(t, node.Node, "room:1", `"`+strings.Repeat("x", 900)+`"`)
		}
		client := fanfaretest.Connect(t, node.Node, "ann")
		_, err := client.History("room:1", fanfare.HistoryQuery{Limit: -1})
		require.ErrorIs(t, err, fanfare.ErrLimitExceeded)
		result, err := client.History("room:1", fanfare.HistoryQuery{Limit: 5})
		require.NoError(t, err)
		require.Len(t, result.Publications, 5)
	})
}
