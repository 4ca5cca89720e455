package fanfare_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare"
	"github.com/fanfare-go/fanfare/fanfaretest"
)

func TestCommand_Spec2_2_Frames(t *testing.T) {
	pos := `{"id":%d,"presence_stats":{"channel":"x"}}`
	stats := `{"id":%d,"presence_stats":{"num_clients":0,"num_users":0}}`
	one, two := fmt.Sprintf(pos, 901), fmt.Sprintf(pos, 902)
	for name, test := range map[string]struct {
		frame   string
		answers int
		closed  bool
	}{
		"one command":                    {one, 1, false},
		"several commands":               {one + "\n" + two, 2, false},
		"one trailing line feed":         {one + "\n" + two + "\n", 2, false},
		"spaces around":                  {" " + one + " \n\t" + two, 2, false},
		"empty frame":                    {"", 0, true},
		"two trailing line feeds":        {one + "\n\n", 1, true},
		"blank line":                     {one + "\n\n" + two, 1, true},
		"malformed after a good one":     {one + "\n" + `{"id":902,`, 1, true},
		"malformed before a good one":    {`{"id":902` + "\n" + one, 0, true},
		"not an object":                  {one + "\n" + `[1]`, 1, true},
		"a bare word":                    {`hello`, 0, true},
		"invalid UTF-8":                  {one + "\n{\"id\":902,\"rpc\":{\"method\":\"\xff\"}}", 1, true},
		"wrong type of a field":          {one + "\n" + `{"id":902,"presence_stats":{"channel":7}}`, 1, true},
		"id out of range":                {`{"id":4294967296,"presence_stats":{"channel":"x"}}`, 0, true},
		"negative id":                    {`{"id":-1,"presence_stats":{"channel":"x"}}`, 0, true},
		"unknown fields are ignored":     {`{"future":1,` + one[1:], 1, false},
		"commands behind the bad: never": {`{}{}` + "\n" + one, 0, true},
	} {
		inBubble(t, name, func(t *testing.T) {
			node := startNode(t)
			node.Channel("x", fanfare.ChannelOptions{Presence: true, AllowPresence: fanfare.Anyone})
			c := fanfaretest.Connect(t, node, "ann")
			var want []string
			for i := range test.answers {
				want = append(want, fmt.Sprintf(stats, 901+i))
			}
			require.Equal(t, want, ask(t, c, test.frame))
			if test.closed {
				requireClosed(t, c, fanfare.DisconnectBadRequest)
			} else {
				requireOpen(t, c)
			}
		})
	}
	inBubble(t, "the close waits for slow commands in front of it", func(t *testing.T) {
		node := startNode(t)
		node.RPC("slow", func(context.Context, *fanfare.RPCRequest) ([]byte, error) {
			time.Sleep(time.Second)
			return []byte(`1`), nil
		})
		c := fanfaretest.Connect(t, node, "ann")
		require.Empty(t, ask(t, c, `{"id":901,"rpc":{"method":"slow"}}`+"\nnonsense"))
		requireOpen(t, c)
		requireClosed(t, c, fanfare.DisconnectBadRequest)
		require.Equal(t, []string{`{"id":901,"rpc":{"data":1}}`}, received(t, c))
	})
}

func TestCommand_Spec4_ProcessingRules(t *testing.T) {
	for name, frame := range map[string]string{
		"rule 4: id 0 with a request":          `{"rpc":{"method":"x"}}`,
		"rule 6: id without a request":         `{"id":901}`,
		"rule 6: unknown request":              `{"id":901,"future":{}}`,
		"rule 6 and 5.12: ping":                `{"id":901,"ping":{}}`,
		"rule 8: subscribe without a channel":  `{"id":901,"subscribe":{}}`,
		"rule 8: unsubscribe":                  `{"id":901,"unsubscribe":{}}`,
		"rule 8: publish":                      `{"id":901,"publish":{"data":1}}`,
		"rule 8: presence":                     `{"id":901,"presence":{}}`,
		"rule 8: presence_stats":               `{"id":901,"presence_stats":{}}`,
		"rule 8: history":                      `{"id":901,"history":{}}`,
		"rule 8: sub_refresh":                  `{"id":901,"sub_refresh":{"token":"T"}}`,
		"rule 8: empty channel, several fault": `{"id":901,"history":{"channel":""}}`,
	} {
		inBubble(t, name, func(t *testing.T) {
			c := fanfaretest.Connect(t, startNode(t), "ann")
			require.Empty(t, ask(t, c, frame))
			requireClosed(t, c, fanfare.DisconnectBadRequest)
		})
	}
	inBubble(t, "spec 3.1: of several requests the first of the table counts", func(t *testing.T) {
		node := startNode(t)
		c := fanfaretest.Connect(t, node, "ann")
		require.Equal(t, []string{`{"id":901,"unsubscribe":{}}`},
			ask(t, c, `{"id":901,"rpc":{"method":"x"},"history":{"channel":"x"},"unsubscribe":{"channel":"x"}}`))
	})
	inBubble(t, "rule 4: ids are only echoed", func(t *testing.T) {
		c := fanfaretest.Connect(t, startNode(t), "ann")
		for _, id := range []string{"4294967295", "901", "901", "5000000"} {
			require.Equal(t, []string{`{"id":` + id + `,"unsubscribe":{}}`}, ask(t, c, `{"id":`+id+`,"unsubscribe":{"channel":"x"}}`))
		}
	})
	inBubble(t, "rule 11: commands of a client come in order", func(t *testing.T) {
		node := startNode(t)
		var order []string
		node.RPC("do", func(_ context.Context, r *fanfare.RPCRequest) ([]byte, error) {
			time.Sleep(time.Duration(10-len(order)) * time.Millisecond)
			order = append(order, string(r.Data))
			return nil, nil
		})
		c := fanfaretest.Connect(t, node, "ann")
		var frame, want []string
		for i := range 10 {
			frame = append(frame, fmt.Sprintf(`{"id":%d,"rpc":{"method":"do","data":%d}}`, 901+i, i))
			want = append(want, fmt.Sprint(i))
		}
		require.NoError(t, c.Raw(strings.Join(frame, "\n")))
		time.Sleep(time.Second)
		synctest.Wait()
		require.Equal(t, want, order)
	})
}

func TestCommand_Spec4_1_NotConfigured(t *testing.T) {
	notAvailable := `{"id":901,"error":{"code":108,"message":"not available"}}`
	for name, test := range map[string]struct{ frame, want string }{
		"rpc":                       {`{"id":901,"rpc":{"method":"x"}}`, notAvailable},
		"refresh":                   {`{"id":901,"refresh":{"token":"T"}}`, notAvailable},
		"history":                   {`{"id":901,"history":{"channel":"plain"}}`, notAvailable},
		"presence":                  {`{"id":901,"presence":{"channel":"plain"}}`, notAvailable},
		"presence_stats":            {`{"id":901,"presence_stats":{"channel":"plain"}}`, notAvailable},
		"map publish":               {`{"id":901,"publish":{"channel":"plain","type":1,"data":1}}`, notAvailable},
		"publish is not permitted":  {`{"id":901,"publish":{"channel":"plain","data":1}}`, `{"id":901,"error":{"code":103,"message":"permission denied"}}`},
		"history is not permitted":  {`{"id":901,"history":{"channel":"full"}}`, `{"id":901,"error":{"code":103,"message":"permission denied"}}`},
		"presence is not permitted": {`{"id":901,"presence":{"channel":"full"}}`, `{"id":901,"error":{"code":103,"message":"permission denied"}}`},
		"stats are not permitted":   {`{"id":901,"presence_stats":{"channel":"full"}}`, `{"id":901,"error":{"code":103,"message":"permission denied"}}`},
		"publish, undeclared":       {`{"id":901,"publish":{"channel":"other","data":1}}`, `{"id":901,"error":{"code":102,"message":"unknown channel"}}`},
		"history, undeclared":       {`{"id":901,"history":{"channel":"other"}}`, `{"id":901,"error":{"code":102,"message":"unknown channel"}}`},
		"presence, undeclared":      {`{"id":901,"presence":{"channel":"other"}}`, `{"id":901,"error":{"code":102,"message":"unknown channel"}}`},
		"stats, undeclared":         {`{"id":901,"presence_stats":{"channel":"other"}}`, `{"id":901,"error":{"code":102,"message":"unknown channel"}}`},
		"sub_refresh, undeclared":   {`{"id":901,"sub_refresh":{"channel":"other","token":"T"}}`, `{"id":901,"error":{"code":103,"message":"permission denied"}}`},
	} {
		inBubble(t, name, func(t *testing.T) {
			node := startNode(t)
			node.Channel("plain", fanfare.ChannelOptions{Public: true})
			node.Channel("full", fanfare.ChannelOptions{Public: true, Presence: true, History: room.History})
			c := fanfaretest.Connect(t, node, "ann")
			requireSubscribe(t, c, "plain")
			requireSubscribe(t, c, "full")
			require.Equal(t, []string{test.want}, ask(t, c, test.frame))
			requireOpen(t, c)
		})
	}
	inBubble(t, "send", func(t *testing.T) {
		c := fanfaretest.Connect(t, startNode(t), "ann")
		require.NoError(t, c.Send([]byte(`1`)))
		requireClosed(t, c, fanfare.DisconnectNotAvailable)
	})
	inBubble(t, "rpc method", func(t *testing.T) {
		node := startNode(t)
		node.RPC("known", func(context.Context, *fanfare.RPCRequest) ([]byte, error) { return nil, nil })
		c := fanfaretest.Connect(t, node, "ann")
		for _, method := range []string{"nope", ""} {
			_, err := c.RPC(method, nil)
			require.Equal(t, fanfare.ErrMethodNotFound, err)
		}
	})
}

func TestCommand_Spec5_3_Unsubscribe(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		node := startNode(t)
		node.Channel("x", room)
		c := fanfaretest.Connect(t, node, "ann")
		for _, channel := range []string{"x", "undeclared", strings.Repeat("long", 100)} {
			require.Equal(t, []string{`{"id":901,"unsubscribe":{}}`}, ask(t, c, `{"id":901,"unsubscribe":{"channel":"`+channel+`"}}`), "not subscribed")
		}
		requireSubscribe(t, c, "x")
		require.NoError(t, c.Unsubscribe("x"))
		requirePublish(t, node, "x", `1`)
		require.Empty(t, events(c))
	})
}

func TestCommand_Spec5_7_RPC(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		node := startNode(t)
		node.RPC("echo", func(_ context.Context, r *fanfare.RPCRequest) ([]byte, error) {
			return fmt.Appendf(nil, `[%q,%q,%q]`, r.Client.User(), r.Method, r.Data), nil
		})
		node.RPC("nothing", func(context.Context, *fanfare.RPCRequest) ([]byte, error) { return nil, nil })
		node.RPC("teapot", func(context.Context, *fanfare.RPCRequest) ([]byte, error) {
			return nil, fmt.Errorf("wrapped: %w", &fanfare.Error{Code: 418, Message: "teapot"})
		})
		node.RPC("broken", func(context.Context, *fanfare.RPCRequest) ([]byte, error) { return nil, errors.New("secret detail") })
		node.RPC("leave", func(context.Context, *fanfare.RPCRequest) ([]byte, error) {
			return nil, &fanfare.Disconnect{Code: 4000, Reason: "bye"}
		})
		node.RPC("garbage", func(context.Context, *fanfare.RPCRequest) ([]byte, error) { return []byte("{"), nil })
		c := fanfaretest.Connect(t, node, "ann")
		for _, test := range [][2]string{
			{`"method":"echo","data":{"a":1}`, `"rpc":{"data":["ann","echo","{\"a\":1}"]}`},
			{`"method":"echo"`, `"rpc":{"data":["ann","echo",""]}`},
			{`"method":"echo","data":null`, `"rpc":{"data":["ann","echo","null"]}`},
			{`"method":"nothing"`, `"rpc":{}`},
			{`"method":"teapot"`, `"error":{"code":418,"message":"teapot"}`},
			{`"method":"broken"`, `"error":{"code":100,"message":"internal server error","temporary":true}`},
		} {
			require.Equal(t, []string{`{"id":901,` + test[1] + `}`}, ask(t, c, `{"id":901,"rpc":{`+test[0]+`}}`))
		}
		require.Empty(t, ask(t, c, `{"id":901,"rpc":{"method":"leave"}}`))
		requireClosed(t, c, &fanfare.Disconnect{Code: 4000, Reason: "bye"})

		c = fanfaretest.Connect(t, node, "ann")
		require.Empty(t, ask(t, c, `{"id":901,"rpc":{"method":"garbage"}}`))
		requireClosed(t, c, fanfare.DisconnectInappropriate)
	})
}

func TestCommand_Spec5_8_Send(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var got []string
		node := startNode(t, func(c *fanfare.Config) {
			c.Message = func(_ context.Context, r *fanfare.MessageRequest) error {
				got = append(got, string(r.Data))
				switch string(r.Data) {
				case `"refuse"`:
					return fanfare.ErrPermissionDenied
				case `"leave"`:
					return fanfare.DisconnectForceReconnect
				}
				return r.Client.Send([]byte(`{"got":` + string(r.Data) + `}`))
			}
		})
		c := fanfaretest.Connect(t, node, "ann")
		require.Equal(t, []string{`{"push":{"message":{"data":{"got":1}}}}`}, ask(t, c, `{"send":{"data":1}}`))
		require.Empty(t, ask(t, c, `{"send":{"data":"refuse"}}`), "there is no reply")
		require.Empty(t, ask(t, c, `{"send":{"data":"leave"}}`))
		requireClosed(t, c, fanfare.DisconnectForceReconnect)
		require.Equal(t, []string{`1`, `"refuse"`, `"leave"`}, got)
	})
}

func TestClient_Send(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var client *fanfare.Client
		var early error
		node := startNode(t, func(c *fanfare.Config) {
			c.Message = func(_ context.Context, r *fanfare.MessageRequest) error {
				client = r.Client
				return nil
			}
			c.Disconnected = func(_ context.Context, n *fanfare.DisconnectNotice) { early = n.Client.Send([]byte(`1`)) }
		})
		c := fanfaretest.Connect(t, node, "ann")
		require.NoError(t, c.Send([]byte(`1`)))
		synctest.Wait()
		require.ErrorIs(t, client.Send([]byte(`{`)), fanfare.ErrBadPayload)
		require.NoError(t, client.Send([]byte("{\n}")))
		require.Equal(t, []string{"message {}"}, events(c))
		require.Equal(t, "memory", client.Transport())
		require.NoError(t, client.Context().Err())

		client.Disconnect(nil)
		requireClosed(t, c, fanfare.DisconnectForce)
		synctest.Wait()
		require.ErrorIs(t, early, fanfare.ErrClosed)
		require.ErrorIs(t, client.Send([]byte(`1`)), fanfare.ErrClosed)
		require.Error(t, client.Context().Err())
	})
}

// TestDisconnect_Spec8_1_Reasons: what is sent must not be misread by clients.
func TestDisconnect_Spec8_1_Reasons(t *testing.T) {
	for reason, want := range map[string]string{
		"plain":                   "plain",
		"":                        "disconnect",
		"123":                     "reason: 123",
		`{"reconnect":true}`:      `reason: {"reconnect":true}`,
		strings.Repeat("é", 62):   strings.Repeat("é", 61),
		strings.Repeat("1", 1000): "reason: " + strings.Repeat("1", 115),
	} {
		inBubble(t, want[:min(len(want), 20)], func(t *testing.T) {
			node := startNode(t)
			c := fanfaretest.Connect(t, node, "ann")
			require.NoError(t, node.Disconnect(t.Context(), "ann", &fanfare.Disconnect{Code: 4000, Reason: reason}))
			requireClosed(t, c, &fanfare.Disconnect{Code: 4000, Reason: want})
		})
	}
}
