package fanfare_test

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare"
	"github.com/fanfare-go/fanfare/fanfaretest"
)

// requirePanic returns what f panics with, as text.
func requirePanic(t *testing.T, f func()) (message string) {
	t.Helper()
	defer func() {
		v := recover()
		require.NotNil(t, v, "no panic")
		message = fmt.Sprint(v)
	}()
	f()
	return ""
}

func TestChannel_OptionsThatContradictEachOtherPanic(t *testing.T) {
	kept := fanfare.History{Size: 1, TTL: time.Hour}
	for name, test := range map[string]struct {
		options fanfare.ChannelOptions
		fields  []string
	}{
		"size without ttl":               {fanfare.ChannelOptions{History: fanfare.History{Size: 1}}, []string{"History.Size", "History.TTL"}},
		"ttl without size":               {fanfare.ChannelOptions{History: fanfare.History{TTL: 1}}, []string{"History.TTL", "History.Size"}},
		"negative size":                  {fanfare.ChannelOptions{History: fanfare.History{Size: -1, TTL: 1}}, []string{"History.Size"}},
		"negative ttl":                   {fanfare.ChannelOptions{History: fanfare.History{Size: 1, TTL: -1}}, []string{"History.TTL"}},
		"recovery without history":       {fanfare.ChannelOptions{Recovery: fanfare.RecoveryStream}, []string{"Recovery", "History"}},
		"cache without history":          {fanfare.ChannelOptions{Recovery: fanfare.RecoveryCache}, []string{"Recovery", "History"}},
		"unknown recovery":               {fanfare.ChannelOptions{Recovery: 99}, []string{"Recovery"}},
		"unknown payload":                {fanfare.ChannelOptions{Payload: 99}, []string{"Payload"}},
		"unknown policy":                 {fanfare.ChannelOptions{SlowReader: 99}, []string{"SlowReader"}},
		"unknown access":                 {fanfare.ChannelOptions{AllowPublish: 99}, []string{"AllowPublish"}},
		"latest only, with a stream":     {fanfare.ChannelOptions{History: kept, SlowReader: fanfare.SlowReaderKeepLatest}, []string{"SlowReader", "History"}},
		"negative limit":                 {fanfare.ChannelOptions{MaxSubscribers: -1}, []string{"MaxSubscribers"}},
		"who may read no history":        {fanfare.ChannelOptions{AllowHistory: fanfare.Anyone}, []string{"AllowHistory", "History"}},
		"who may read no presence":       {fanfare.ChannelOptions{AllowPresence: fanfare.Anyone}, []string{"AllowPresence", "Presence"}},
		"negative grace":                 {fanfare.ChannelOptions{Presence: true, PresenceGrace: -1}, []string{"PresenceGrace"}},
		"grace, and nothing to hold":     {fanfare.ChannelOptions{PresenceGrace: 1}, []string{"PresenceGrace", "Presence"}},
		"hook for a history that is not": {fanfare.ChannelOptions{ReadHistory: func(context.Context, *fanfare.HistoryRequest) error { return nil }}, []string{"ReadHistory"}},
	} {
		t.Run(name, func(t *testing.T) {
			node := startNode(t)
			message := requirePanic(t, func() { node.Channel("room:{id}", test.options) })
			require.Contains(t, message, `"room:{id}"`)
			for _, f := range test.fields {
				require.Contains(t, message, f)
			}
			node.Channel("room:{id}", fanfare.ChannelOptions{}) // nothing of it was declared
		})
	}
	t.Run("latest only, with a cache", func(t *testing.T) {
		startNode(t).Channel("x", fanfare.ChannelOptions{History: kept, Recovery: fanfare.RecoveryCache, SlowReader: fanfare.SlowReaderKeepLatest})
	})
}

func TestChannel_PatternsInConflictPanic(t *testing.T) {
	node := startNode(t)
	node.Channel("room:{id}", room)
	message := requirePanic(t, func() { node.Channel("room:{name}", room) })
	require.Contains(t, message, "room:{id}")
	require.Contains(t, message, "room:{name}")
	for _, bad := range []string{"", "a{", "{a}b", "{a}{b}", "{a...}:b", "{1}", "x:{a}:{a}"} {
		require.Contains(t, requirePanic(t, func() { node.Channel(bad, room) }), fmt.Sprintf("%q", bad))
	}
}

func TestChannel_TheMostSpecificPatternWins(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		node := startNode(t)
		for _, pattern := range []string{"room:{id}", "room:main", "room:{rest...}", "room:vip-{id}", "{any...}"} {
			node.Channel(pattern, subscribeHook(fanfare.SubscribeReply{Data: fmt.Appendf(nil, "%q", pattern)}, nil))
		}
		c := fanfaretest.Connect(t, node, "ann")
		for channel, pattern := range map[string]string{
			"room:main": "room:main", "room:vip-1": "room:vip-{id}", "room:vip-": "room:{id}", "room:7": "room:{id}",
			"room:7:8": "room:{rest...}", "$private#1": "{any...}",
		} {
			require.Equal(t, fmt.Sprintf("%q", pattern), string(requireSubscribe(t, c, channel).Data), channel)
		}
	})
}

func TestChannel_DeclaredLater(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		node := startNode(t)
		c := fanfaretest.Connect(t, node, "ann")
		_, err := c.Subscribe("x")
		require.ErrorIs(t, err, fanfare.ErrUnknownChannel)
		node.Channel("x", room)
		requireSubscribe(t, c, "x")
	})
}

// TestChannel_Access: design 4.1, defaults are closed; and what opens them.
func TestChannel_Access(t *testing.T) {
	hook := func(allowed bool) error {
		if allowed {
			return nil
		}
		return fanfare.ErrPermissionDenied
	}
	for name, test := range map[string]struct {
		access fanfare.Access
		hook   func(user string) bool // nil: no hook
		may    map[string]bool        // by user; "ann*" is subscribed
	}{
		"nobody":      {fanfare.Nobody, nil, map[string]bool{"": false, "ann": false, "ann*": false}},
		"anyone":      {fanfare.Anyone, nil, map[string]bool{"": true, "ann": true, "ann*": true}},
		"users":       {fanfare.Users, nil, map[string]bool{"": false, "ann": true, "ann*": true}},
		"subscribers": {fanfare.Subscribers, nil, map[string]bool{"": false, "ann": false, "ann*": true}},
		"hook alone": {fanfare.Nobody, func(user string) bool { return user == "ann" },
			map[string]bool{"": false, "ann": true, "ben": false}},
		"users and hook: both must agree": {fanfare.Users, func(user string) bool { return user != "ben" },
			map[string]bool{"": false, "ann": true, "ben": false}},
	} {
		inBubble(t, name, func(t *testing.T) {
			o := room
			o.Presence = true
			o.AllowPublish, o.AllowHistory, o.AllowPresence = test.access, test.access, test.access
			if test.hook != nil {
				o.Publish = func(_ context.Context, r *fanfare.PublishRequest) (fanfare.PublishReply, error) {
					return fanfare.PublishReply{}, hook(test.hook(r.Client.User()))
				}
				o.ReadHistory = func(_ context.Context, r *fanfare.HistoryRequest) error { return hook(test.hook(r.Client.User())) }
				o.ReadPresence = func(_ context.Context, r *fanfare.PresenceRequest) error { return hook(test.hook(r.Client.User())) }
			}
			node := startNode(t)
			node.Channel("x", o)
			for user, may := range test.may {
				c := fanfaretest.Connect(t, node, user[:min(len(user), 3)])
				if len(user) > 3 {
					requireSubscribe(t, c, "x")
				}
				_, historyErr := c.History("x", fanfare.HistoryQuery{})
				_, presenceErr := c.Presence("x")
				_, statsErr := c.PresenceStats("x")
				for what, err := range map[string]error{"publish": c.Publish("x", []byte(`1`)), "history": historyErr, "presence": presenceErr, "stats": statsErr} {
					if may {
						require.NoError(t, err, "%s by %q", what, user)
					} else {
						require.ErrorIs(t, err, fanfare.ErrPermissionDenied, "%s by %q", what, user)
					}
				}
			}
		})
	}
	inBubble(t, "what the read hooks are told", func(t *testing.T) {
		var got []string
		node := startNode(t)
		node.Channel("x:{id}", fanfare.ChannelOptions{
			Presence: true, History: room.History,
			ReadHistory: func(_ context.Context, r *fanfare.HistoryRequest) error {
				got = append(got, fmt.Sprint(r.Channel, r.Param("id"), r.Query.Limit, r.Query.Reverse, r.Query.Since.Offset))
				return nil
			},
			ReadPresence: func(_ context.Context, r *fanfare.PresenceRequest) error {
				got = append(got, fmt.Sprint(r.Channel, r.Param("id"), r.Stats))
				return nil
			},
		})
		c := fanfaretest.Connect(t, node, "ann")
		_, err := c.History("x:7", fanfare.HistoryQuery{Limit: 2, Reverse: true, Since: &fanfare.Position{Offset: 3}})
		require.NoError(t, err)
		_, err = c.Presence("x:7")
		require.NoError(t, err)
		_, err = c.PresenceStats("x:7")
		require.NoError(t, err)
		require.Equal(t, []string{"x:772 true 3", "x:77false", "x:77true"}, got)
	})
	inBubble(t, "recovery does not depend on the permission to read history", func(t *testing.T) {
		node := startNode(t)
		node.Channel("x", room)
		at := requirePublish(t, node, "x", `1`)
		requirePublish(t, node, "x", `2`)
		c := fanfaretest.Connect(t, node, "ann")
		require.True(t, requireSubscribe(t, c, "x", fanfaretest.Recover(at)).Recovered)
		_, err := c.History("x", fanfare.HistoryQuery{})
		require.ErrorIs(t, err, fanfare.ErrPermissionDenied)
	})
}

func TestChannel_PayloadKinds(t *testing.T) {
	open := func(kind fanfare.Payload) (*fanfare.ChannelOptions, func(t *testing.T) (*fanfare.Node, *fanfaretest.Client)) {
		o := room
		o.Payload, o.AllowPublish, o.AllowHistory = kind, fanfare.Anyone, fanfare.Anyone
		return &o, func(t *testing.T) (*fanfare.Node, *fanfaretest.Client) {
			node := startNode(t)
			node.Channel("x", o)
			return node, fanfaretest.Connect(t, node, "ann")
		}
	}
	inBubble(t, "JSON: checked once, and then the same bytes", func(t *testing.T) {
		_, start := open(fanfare.PayloadJSON)
		node, c := start(t)
		requireSubscribe(t, c, "x")
		for _, bad := range []string{"", "{", "1 2", "\xff", "\"\xff\""} {
			_, err := node.Publish(t.Context(), "x", []byte(bad))
			require.ErrorIs(t, err, fanfare.ErrBadPayload)
		}
		received(t, c)
		requirePublish(t, node, "x", `{"b": 1.0,  "a":"é"}`, "[1,\n\n2]")
		require.Equal(t, []string{`{"push":{"channel":"x","pub":{"data":{"b": 1.0,  "a":"é"},"offset":1}}}`,
			`{"push":{"channel":"x","pub":{"data":[1,2],"offset":2}}}`}, received(t, c), "spec 2.1: raw line feeds are removed")
	})
	inBubble(t, "Text: one JSON string for JSON clients, everywhere", func(t *testing.T) {
		o, start := open(fanfare.PayloadText)
		var published string
		o.Publish = func(_ context.Context, r *fanfare.PublishRequest) (fanfare.PublishReply, error) {
			published = string(r.Data)
			return fanfare.PublishReply{}, nil
		}
		node, c := start(t)
		_, err := node.Publish(t.Context(), "x", []byte("\xff"))
		require.ErrorIs(t, err, fanfare.ErrBadPayload)
		requireSubscribe(t, c, "x")
		requirePublish(t, node, "x", "<b>\n\"hi\"</b>")
		require.Equal(t, []string{`x "<b>\n\"hi\"</b>"`}, events(c))
		require.NoError(t, c.Publish("x", []byte(`"line\nfeed \u00e9"`)))
		require.Equal(t, "line\nfeed é", published)
		require.Equal(t, []string{`x "line\nfeed é"`}, events(c))
		for _, bad := range []string{`1`, `{"a":1}`, `null`} {
			require.ErrorIs(t, c.Publish("x", []byte(bad)), fanfare.ErrBadRequest)
		}
		h, err := c.History("x", fanfare.HistoryQuery{Limit: -1})
		require.NoError(t, err)
		require.Equal(t, []string{`"<b>\n\"hi\"</b>"`, `"line\nfeed é"`}, payloads(h.Publications))
		fromGo, err := node.History(t.Context(), "x", fanfare.HistoryQuery{Limit: -1})
		require.NoError(t, err)
		require.Equal(t, []string{"<b>\n\"hi\"</b>", "line\nfeed é"}, payloads(fromGo.Publications))
		d := fanfaretest.Connect(t, node, "ben")
		r := requireSubscribe(t, d, "x", fanfaretest.Recover(fanfare.Position{}))
		require.Equal(t, []string{`"<b>\n\"hi\"</b>"`, `"line\nfeed é"`}, payloads(r.Publications))
	})
	inBubble(t, "Binary: any bytes, and not for JSON clients", func(t *testing.T) {
		_, start := open(fanfare.PayloadBinary)
		node, c := start(t)
		requirePublish(t, node, "x", "\x00\xff")
		_, err := c.Subscribe("x")
		require.ErrorIs(t, err, fanfare.ErrNotAvailable)
		_, err = c.History("x", fanfare.HistoryQuery{Limit: 1})
		require.ErrorIs(t, err, fanfare.ErrNotAvailable)
		require.ErrorIs(t, c.Publish("x", []byte(`1`)), fanfare.ErrBadRequest)
		requireOpen(t, c)
	})
}

func TestChannel_Spec13_JoinLeave(t *testing.T) {
	inBubble(t, "granted where asked and allowed, or forced", func(t *testing.T) {
		node := startNode(t)
		node.Channel("asked", fanfare.ChannelOptions{Public: true, JoinLeave: true})
		node.Channel("forced", fanfare.ChannelOptions{Public: true, ForceJoinLeave: true})
		node.Channel("never", fanfare.ChannelOptions{Public: true})
		watcher, wish := fanfaretest.Connect(t, node, "plain"), fanfaretest.Connect(t, node, "wish")
		for _, channel := range []string{"asked", "forced", "never"} {
			requireSubscribe(t, watcher, channel)
			requireSubscribe(t, wish, channel, fanfaretest.JoinLeave())
		}
		ann := fanfaretest.Connect(t, node, "ann")
		events(watcher)
		events(wish)
		for _, channel := range []string{"asked", "forced", "never"} {
			requireSubscribe(t, ann, channel)
			require.NoError(t, ann.Unsubscribe(channel))
		}
		require.Equal(t, []string{"forced join ann", "forced leave ann"}, events(watcher))
		require.Equal(t, []string{"asked join ann", "asked leave ann", "forced join ann", "forced leave ann"}, events(wish))
	})
	inBubble(t, "spec 6: its own join behind the reply, never its own leave", func(t *testing.T) {
		node := startNode(t)
		node.Channel("x", fanfare.ChannelOptions{Public: true, JoinLeave: true})
		c := fanfaretest.Connect(t, node, "ann")
		require.Equal(t, []string{`{"id":901,"subscribe":{}}`, `{"push":{"channel":"x","join":{"info":{"user":"ann","client":"` + c.ID() + `"}}}}`},
			ask(t, c, `{"id":901,"subscribe":{"channel":"x","join_leave":true}}`))
		require.Equal(t, []string{`{"id":902,"unsubscribe":{}}`}, ask(t, c, `{"id":902,"unsubscribe":{"channel":"x"}}`))
	})
	inBubble(t, "presence is there before the reply, and gone before the leave", func(t *testing.T) {
		presence := &tracedPresence{MemoryPresence: fanfare.NewMemoryPresence()}
		broker := &tracedBroker{MemoryBroker: fanfare.NewMemoryBroker(fanfare.MemoryBrokerConfig{}), trace: &presence.trace}
		t.Cleanup(func() { // after the node's shutdown, which still uses both
			require.NoError(t, presence.Close())
			require.NoError(t, broker.Close())
		})
		node := startNode(t, func(c *fanfare.Config) { c.Presence, c.Broker = presence, broker })
		node.Channel("x", fanfare.ChannelOptions{Public: true, Presence: true, JoinLeave: true})
		c := fanfaretest.Connect(t, node, "ann")
		received(t, c)
		presence.added = func() {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			_, err := c.NextRaw(ctx)
			require.ErrorIs(t, err, context.DeadlineExceeded, "nothing is sent before the entry is there")
		}
		requireSubscribe(t, c, "x")
		c.Close()
		synctest.Wait()
		require.Equal(t, []string{"add", "join", "remove", "leave"}, presence.trace)
	})
	inBubble(t, "info of both", func(t *testing.T) {
		node := startNode(t, identify(fanfare.Identity{User: "ann", Info: []byte(`1`)}))
		o := subscribeHook(fanfare.SubscribeReply{Info: []byte(`2`)}, nil)
		o.ForceJoinLeave = true
		node.Channel("x", o)
		c := fanfaretest.Connect(t, node, "")
		require.Contains(t, ask(t, c, `{"id":901,"subscribe":{"channel":"x"}}`)[1], `"conn_info":1,"chan_info":2`)
	})
}

// tracedPresence and tracedBroker note what is done in which order. A test's bubble sees to it that nothing overlaps.
type tracedPresence struct {
	*fanfare.MemoryPresence
	trace []string
	added func()
}

func (p *tracedPresence) Add(ctx context.Context, node, channel string, m fanfare.ClientInfo) error {
	p.trace = append(p.trace, "add")
	p.added()
	return p.MemoryPresence.Add(ctx, node, channel, m)
}

func (p *tracedPresence) Remove(ctx context.Context, node, channel, client string) error {
	p.trace = append(p.trace, "remove")
	return p.MemoryPresence.Remove(ctx, node, channel, client)
}

type tracedBroker struct {
	*fanfare.MemoryBroker
	trace *[]string
}

func (b *tracedBroker) PublishMembership(ctx context.Context, channel string, m fanfare.Membership) error {
	*b.trace = append(*b.trace, map[bool]string{true: "join", false: "leave"}[m.Joined])
	return b.MemoryBroker.PublishMembership(ctx, channel, m)
}
