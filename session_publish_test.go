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

func TestPublish_Spec5_4(t *testing.T) {
	inBubble(t, "reply, and the publisher's info, which includes the channel's", func(t *testing.T) {
		node := startNode(t, identify(fanfare.Identity{User: "42", Info: []byte(`{"n":"Ann"}`)}))
		options := subscribeHook(fanfare.SubscribeReply{Info: []byte(`"mod"`)}, nil)
		options.AllowPublish, options.History = fanfare.Anyone, room.History
		node.Channel("x", options)
		c := fanfaretest.Connect(t, node, "")
		require.Equal(t, []string{`{"id":901,"publish":{}}`}, ask(t, c, `{"id":901,"publish":{"channel":"x","data":1}}`), "a subscription is not needed")
		requireSubscribe(t, c, "x")
		require.ElementsMatch(t, []string{
			`{"push":{"channel":"x","pub":{"data":{"v" : 1.0},"info":{"user":"42","client":"` + c.ID() + `","conn_info":{"n":"Ann"},"chan_info":"mod"},"offset":2}}}`,
			`{"id":902,"publish":{}}`,
		}, ask(t, c, `{"id":902,"publish":{"channel":"x","data":{"v" : 1.0}}}`), "its own publication comes back, with the same bytes")
	})
	for name, test := range map[string]struct {
		request string
		want    string
	}{
		"no data":      {`{"channel":"x"}`, `"error":{"code":107,"message":"bad request"}`},
		"null is data": {`{"channel":"x","data":null}`, `"publish":{}`},
		"too large":    {`{"channel":"x","data":"` + strings.Repeat("a", 99) + `"}`, `"error":{"code":107,"message":"bad request"}`},
		"just fits":    {`{"channel":"x","data":"` + strings.Repeat("a", 98) + `"}`, `"publish":{}`},
		"name too long": {`{"channel":"` + strings.Repeat("a", 256) + `","data":1}`,
			`"error":{"code":107,"message":"bad request"}`},
	} {
		inBubble(t, name, func(t *testing.T) {
			node := startNode(t, func(c *fanfare.Config) { c.MaxPublicationSize = 100 })
			node.Channel("{x...}", fanfare.ChannelOptions{Public: true, AllowPublish: fanfare.Anyone})
			c := fanfaretest.Connect(t, node, "ann")
			require.Equal(t, []string{`{"id":901,` + test.want + `}`}, ask(t, c, `{"id":901,"publish":`+test.request+`}`))
		})
	}
	inBubble(t, "hook", func(t *testing.T) {
		node := startNode(t)
		var got []string
		node.Channel("x:{id}", fanfare.ChannelOptions{Public: true,
			Publish: func(_ context.Context, r *fanfare.PublishRequest) (fanfare.PublishReply, error) {
				got = append(got, r.Channel+r.Param("id")+string(r.Data)+r.Client.User())
				switch string(r.Data) {
				case `"refuse"`:
					return fanfare.PublishReply{}, fanfare.ErrPermissionDenied
				case `"fail"`:
					return fanfare.PublishReply{}, errors.New("oops")
				case `"handled"`:
					return fanfare.PublishReply{Handled: true}, nil
				case `"change"`:
					return fanfare.PublishReply{Data: []byte(`"changed"`)}, nil
				case `"garbage"`:
					return fanfare.PublishReply{Data: []byte(`{`)}, nil
				}
				return fanfare.PublishReply{}, nil
			}})
		c := fanfaretest.Connect(t, node, "ann")
		requireSubscribe(t, c, "x:1")
		require.ErrorIs(t, c.Publish("x:1", []byte(`"refuse"`)), fanfare.ErrPermissionDenied)
		require.ErrorIs(t, c.Publish("x:1", []byte(`"fail"`)), fanfare.ErrInternal)
		require.ErrorIs(t, c.Publish("x:1", []byte(`"garbage"`)), fanfare.ErrInternal)
		for _, data := range []string{`"handled"`, `"change"`, `1`} {
			require.NoError(t, c.Publish("x:1", []byte(data)))
		}
		require.Equal(t, []string{`x:1 "changed"`, "x:1 1"}, events(c))
		require.Equal(t, `x:11"refuse"ann`, got[0])
		require.Len(t, got, 6)
	})
}

func TestPresence_Spec5_5(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		node := startNode(t, func(c *fanfare.Config) {
			c.Authenticate = func(_ context.Context, r *fanfare.ConnectRequest) (fanfare.Identity, error) {
				return fanfare.Identity{User: fanfaretest.User(r.HTTP.Context()), Info: []byte(`{"i":1}`)}, nil
			}
		})
		options := subscribeHook(fanfare.SubscribeReply{Info: []byte(`"ci"`)}, nil)
		options.Presence, options.AllowPresence = true, fanfare.Anyone
		node.Channel("x", options)
		c := fanfaretest.Connect(t, node, "ann")
		require.Equal(t, []string{`{"id":901,"presence":{"presence":{}}}`}, ask(t, c, `{"id":901,"presence":{"channel":"x"}}`))
		require.Equal(t, []string{`{"id":901,"presence_stats":{"num_clients":0,"num_users":0}}`}, ask(t, c, `{"id":901,"presence_stats":{"channel":"x"}}`))
		requireSubscribe(t, c, "x")
		require.Equal(t, []string{`{"id":901,"presence":{"presence":{"` + c.ID() + `":{"user":"ann","client":"` + c.ID() + `","conn_info":{"i":1},"chan_info":"ci"}}}}`},
			ask(t, c, `{"id":901,"presence":{"channel":"x"}}`))
		others := []*fanfaretest.Client{fanfaretest.Connect(t, node, "ann"), fanfaretest.Connect(t, node, ""), fanfaretest.Connect(t, node, "")}
		for _, o := range others {
			requireSubscribe(t, o, "x")
		}
		stats, err := c.PresenceStats("x")
		require.NoError(t, err)
		require.Equal(t, fanfare.PresenceStats{Clients: 4, Users: 2}, stats)
		others[0].Close()
		require.NoError(t, others[1].Unsubscribe("x"))
		synctest.Wait()
		members, err := c.Presence("x")
		require.NoError(t, err)
		require.Len(t, members, 2)
		require.Equal(t, fanfare.ClientInfo{Client: others[2].ID(), ConnInfo: []byte(`{"i":1}`), ChanInfo: []byte(`"ci"`)}, members[others[2].ID()])
	})
}

func TestHistory_Spec5_6(t *testing.T) {
	const kept = 5 // of 7: offsets 3 to 7
	for name, test := range map[string]struct {
		request string // E is the epoch
		want    string // the data, or an error
	}{
		"limit 0: only the top":             {``, ``},
		"limit 0 with since: only the top":  {`"since":{"offset":3,"epoch":"E"}`, ``},
		"first two":                         {`"limit":2`, `3 4`},
		"last two, newest first":            {`"limit":2,"reverse":true`, `7 6`},
		"after a position":                  {`"limit":2,"since":{"offset":4,"epoch":"E"}`, `5 6`},
		"before a position":                 {`"limit":2,"since":{"offset":6,"epoch":"E"},"reverse":true`, `5 4`},
		"no limit":                          {`"limit":-1`, `3 4 5 6`},
		"capped":                            {`"limit":100`, `3 4 5 6`},
		"empty epoch matches":               {`"limit":1,"since":{"offset":4}`, `5`},
		"other epoch":                       {`"limit":1,"since":{"offset":4,"epoch":"other"}`, `112 unrecoverable position`},
		"other epoch, limit 0":              {`"since":{"offset":4,"epoch":"other"}`, `112 unrecoverable position`},
		"reverse from 0":                    {`"limit":1,"since":{"offset":0,"epoch":"E"},"reverse":true`, `107 bad request`},
		"trimmed: from the oldest kept":     {`"limit":1,"since":{"offset":1,"epoch":"E"}`, `3`},
		"at the top":                        {`"limit":1,"since":{"offset":7,"epoch":"E"}`, ``},
		"beyond the top":                    {`"limit":1,"since":{"offset":70,"epoch":"E"}`, ``},
		"before the oldest kept":            {`"limit":2,"since":{"offset":3,"epoch":"E"},"reverse":true`, ``},
		"reverse from beyond the top":       {`"limit":2,"since":{"offset":70,"epoch":"E"},"reverse":true`, `7 6`},
		"absent since, as null":             {`"limit":1,"since":null`, `3`},
		"since without offset is the start": {`"limit":1,"since":{"epoch":"E"}`, `3`},
	} {
		inBubble(t, name, func(t *testing.T) {
			options := room
			options.History.Size, options.AllowHistory = kept, fanfare.Anyone
			_, c, epoch := streamOf(t, options, 7, func(c *fanfare.Config) { c.MaxHistoryRead = 4 })
			request := `"channel":"x"`
			if test.request != "" {
				request += "," + strings.ReplaceAll(test.request, `"E"`, `"`+epoch+`"`)
			}
			want := fmt.Sprintf(`"history":{"publications":[%s],"epoch":%q,"offset":7}`, wirePubs(test.want), epoch)
			if code, message, ok := strings.Cut(test.want, " "); ok && len(code) == 3 {
				want = fmt.Sprintf(`"error":{"code":%s,"message":%q}`, code, message)
			}
			require.Equal(t, []string{`{"id":901,` + want + `}`}, ask(t, c, `{"id":901,"history":{`+request+`}}`))
		})
	}
	inBubble(t, "a channel never used before has an epoch", func(t *testing.T) {
		options := room
		options.AllowHistory = fanfare.Anyone
		node := startNode(t)
		node.Channel("x", options)
		c := fanfaretest.Connect(t, node, "ann")
		h, err := c.History("x", fanfare.HistoryQuery{})
		require.NoError(t, err)
		require.NotEmpty(t, h.Epoch)
		require.Zero(t, h.Offset)
		p := requirePublish(t, node, "x", `1`)
		require.Equal(t, fanfare.Position{Offset: 1, Epoch: h.Epoch}, p)
	})
	inBubble(t, "design 4.1: a reply over half the queue is refused, a smaller page fits", func(t *testing.T) {
		options := room
		options.AllowHistory = fanfare.Anyone
		node := startNode(t, func(c *fanfare.Config) { c.MaxQueueSize = 1000 })
		node.Channel("x", options)
		big := `"` + strings.Repeat("a", 298) + `"`
		requirePublish(t, node, "x", big, big)
		c := fanfaretest.Connect(t, node, "ann")
		_, err := c.History("x", fanfare.HistoryQuery{Limit: 2})
		require.ErrorIs(t, err, fanfare.ErrLimitExceeded)
		h, err := c.History("x", fanfare.HistoryQuery{Limit: 1})
		require.NoError(t, err)
		require.Len(t, h.Publications, 1)
		requireOpen(t, c)
	})
	inBubble(t, "older than the retention is never returned", func(t *testing.T) {
		options := room
		options.AllowHistory = fanfare.Anyone
		node, c, _ := streamOf(t, options, 1)
		time.Sleep(40 * time.Minute)
		requirePublish(t, node, "x", `2`)
		time.Sleep(20 * time.Minute)
		h, err := c.History("x", fanfare.HistoryQuery{Limit: -1})
		require.NoError(t, err)
		require.Equal(t, []string{`2`}, payloads(h.Publications))
	})
}

// wirePubs are publications of a stream whose data are their offsets.
func wirePubs(offsets string) string {
	var out []string
	for o := range strings.FieldsSeq(offsets) {
		out = append(out, fmt.Sprintf(`{"data":%s,"offset":%s}`, o, o))
	}
	return strings.Join(out, ",")
}
