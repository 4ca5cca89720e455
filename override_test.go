package fanfare_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare"
	"github.com/fanfare-go/fanfare/fanfaretest"
)

// overridden makes a channel whose Subscribe hook overrides what the options say.
func overridden(o fanfare.ChannelOptions, v fanfare.Override) fanfare.ChannelOptions {
	o.Public = false
	o.Subscribe = func(context.Context, *fanfare.SubscribeRequest) (fanfare.SubscribeReply, error) {
		return fanfare.SubscribeReply{Override: &v}, nil
	}
	return o
}

func TestOverride_Positions(t *testing.T) {
	yes, no := new(true), new(false)
	kept := fanfare.History{Size: 5, TTL: time.Hour}
	const none, positioned, recoverable = `"subscribe":{}`, `"subscribe":{"positioned":true,`, `"subscribe":{"recoverable":true,"positioned":true,`
	for name, test := range map[string]struct {
		options  fanfare.ChannelOptions
		override fanfare.Override
		wishes   string
		want     string
	}{
		"nothing is overridden":                {options: fanfare.ChannelOptions{History: kept}, want: recoverable},
		"recovery off":                         {fanfare.ChannelOptions{History: kept}, fanfare.Override{ForceRecovery: no}, "", none},
		"recovery off, but asked for":          {fanfare.ChannelOptions{History: kept}, fanfare.Override{ForceRecovery: no}, `,"recoverable":true`, recoverable},
		"recovery off, positions asked for":    {fanfare.ChannelOptions{History: kept}, fanfare.Override{ForceRecovery: no}, `,"positioned":true`, positioned},
		"recovery off, positions forced":       {fanfare.ChannelOptions{History: kept}, fanfare.Override{ForceRecovery: no, ForcePositioning: yes}, "", positioned},
		"positions off, recovery stays":        {fanfare.ChannelOptions{History: kept}, fanfare.Override{ForcePositioning: no}, "", recoverable},
		"recovery on where it is off":          {fanfare.ChannelOptions{History: kept, Recovery: fanfare.RecoveryOff}, fanfare.Override{ForceRecovery: yes}, "", recoverable},
		"positions on where recovery is off":   {fanfare.ChannelOptions{History: kept, Recovery: fanfare.RecoveryOff}, fanfare.Override{ForcePositioning: yes}, "", positioned},
		"what is off cannot be asked for":      {fanfare.ChannelOptions{History: kept, Recovery: fanfare.RecoveryOff}, fanfare.Override{ForceRecovery: no}, `,"recoverable":true,"positioned":true`, none},
		"on request, and forced":               {fanfare.ChannelOptions{History: kept, Recovery: fanfare.RecoveryOnRequest}, fanfare.Override{ForceRecovery: yes}, "", recoverable},
		"positions without history: refused":   {fanfare.ChannelOptions{}, fanfare.Override{ForcePositioning: yes}, "", `"error":{"code":108,"message":"not available"}`},
		"recovery without history: refused":    {fanfare.ChannelOptions{}, fanfare.Override{ForceRecovery: yes}, "", `"error":{"code":108,"message":"not available"}`},
		"nothing is forced where nothing kept": {fanfare.ChannelOptions{}, fanfare.Override{ForceRecovery: no, ForcePositioning: no}, "", none},
	} {
		inBubble(t, name, func(t *testing.T) {
			node := startNode(t)
			node.Channel("x", overridden(test.options, test.override))
			c := fanfaretest.Connect(t, node, "ann")
			lines := ask(t, c, `{"id":900,"subscribe":{"channel":"x"`+test.wishes+`}}`)
			require.Len(t, lines, 1)
			require.Contains(t, lines[0], test.want)
		})
	}
}

func TestOverride_PresenceAndJoins(t *testing.T) {
	yes, no := new(true), new(false)
	// start makes a lobby with a watcher, who sees what others do.
	start := func(t *testing.T, o fanfare.ChannelOptions) (*fanfare.Node, *fanfaretest.Client) {
		node := startNode(t, func(c *fanfare.Config) {
			c.Authenticate = fanfaretest.Authenticate
		})
		o.Public, o.Presence, o.JoinLeave = true, true, true
		node.Channel("lobby", o)
		watcher := fanfaretest.Connect(t, node, "watcher")
		requireSubscribe(t, watcher, "lobby", fanfaretest.JoinLeave())
		require.Empty(t, without(events(watcher), "lobby join watcher"))
		return node, watcher
	}
	inBubble(t, "a client that is not shown, and not told of", func(t *testing.T) {
		node, watcher := start(t, fanfare.ChannelOptions{})
		c := fanfaretest.Connect(t, node, "ghost")
		require.NoError(t, node.Subscribe(t.Context(), "ghost", "lobby", fanfare.SubscribeReply{Override: &fanfare.Override{Presence: no, JoinLeave: no}}))
		require.Equal(t, []string{"watcher"}, present(t, node))
		require.NoError(t, node.Unsubscribe(t.Context(), "ghost", "lobby"))
		require.Empty(t, events(watcher))
		require.NotEmpty(t, events(c))
	})
	inBubble(t, "joins are forced upon one", func(t *testing.T) {
		node, _ := start(t, fanfare.ChannelOptions{})
		c := fanfaretest.Connect(t, node, "told")
		require.NoError(t, node.Subscribe(t.Context(), "told", "lobby", fanfare.SubscribeReply{Override: &fanfare.Override{ForceJoinLeave: yes, JoinLeave: no}}))
		events(c)
		requireSubscribe(t, fanfaretest.Connect(t, node, "ann"), "lobby")
		require.Equal(t, []string{"lobby join ann"}, events(c))
	})
	inBubble(t, "a channel that tells of nobody tells of one", func(t *testing.T) {
		node := startNode(t)
		node.Channel("quiet", fanfare.ChannelOptions{Public: true})
		listener := fanfaretest.Connect(t, node, "listener")
		for _, user := range []string{"listener", "ann", "ben"} {
			if user != "listener" {
				fanfaretest.Connect(t, node, user)
			}
			v := fanfare.Override{ForceJoinLeave: new(user == "listener"), JoinLeave: new(user == "ann")}
			require.NoError(t, node.Subscribe(t.Context(), user, "quiet", fanfare.SubscribeReply{Override: &v}))
		}
		require.NoError(t, node.Disconnect(t.Context(), "ann", nil))
		require.NoError(t, node.Disconnect(t.Context(), "ben", nil))
		require.Equal(t, []string{"quiet join ann", "quiet leave ann"}, events(listener)[1:])
	})
	inBubble(t, "per user: the leave is told if the join was, whichever client it was of", func(t *testing.T) {
		node, watcher := start(t, fanfare.ChannelOptions{JoinLeavePerUser: true})
		quiet := fanfaretest.Connect(t, node, "ann")
		require.NoError(t, node.Subscribe(t.Context(), "ann", "lobby", fanfare.SubscribeReply{Override: &fanfare.Override{JoinLeave: no}}))
		require.Empty(t, events(watcher))
		loud := fanfaretest.Connect(t, node, "ann")
		requireSubscribe(t, loud, "lobby")
		require.Equal(t, []string{"lobby join ann"}, events(watcher))
		loud.Close()
		require.Empty(t, events(watcher))
		quiet.Close()
		require.Equal(t, []string{"lobby leave ann"}, events(watcher))
	})
	inBubble(t, "grace: a quiet return does not swallow the leave of the one that was told of", func(t *testing.T) {
		node, watcher := start(t, fanfare.ChannelOptions{PresenceGrace: 5 * time.Second})
		loud := fanfaretest.Connect(t, node, "ann")
		requireSubscribe(t, loud, "lobby")
		loud.Close()
		require.Equal(t, []string{"lobby join ann"}, events(watcher))
		fanfaretest.Connect(t, node, "ann")
		require.NoError(t, node.Subscribe(t.Context(), "ann", "lobby", fanfare.SubscribeReply{Override: &fanfare.Override{JoinLeave: no}}))
		require.Equal(t, []string{"lobby leave ann"}, events(watcher))
	})
}

// without leaves some lines out.
func without(lines []string, out ...string) (rest []string) {
	for _, line := range lines {
		keep := true
		for _, o := range out {
			keep = keep && line != o
		}
		if keep {
			rest = append(rest, line)
		}
	}
	return rest
}

func TestOverride_DeltasNeedPositionsWherePublicationsAreDropped(t *testing.T) {
	inBubble(t, "declined", func(t *testing.T) {
		node := startNode(t)
		o := room
		o.Delta, o.SlowReader = true, fanfare.SlowReaderDropOldest
		node.Channel("x", overridden(o, fanfare.Override{ForceRecovery: new(false)}))
		c := fanfaretest.Connect(t, node, "ann")
		require.Equal(t, []string{`{"id":900,"subscribe":{}}`}, ask(t, c, `{"id":900,"subscribe":{"channel":"x","delta":"fossil"}}`))
		requirePublish(t, node, "x", `1`)
		require.Equal(t, []string{`{"push":{"channel":"x","pub":{"data":1,"offset":1}}}`}, received(t, c))
	})
}

func TestSubscribeReply_Since(t *testing.T) {
	missed := func(t *testing.T, o fanfare.ChannelOptions, config ...func(*fanfare.Config)) (*fanfare.Node, string) {
		node := startNode(t, config...)
		node.Channel("x", o)
		return node, requirePublish(t, node, "x", `1`, `2`, `3`).Epoch
	}
	inBubble(t, "during the session the publications follow the push", func(t *testing.T) {
		node, epoch := missed(t, room)
		c := fanfaretest.Connect(t, node, "ann")
		events(c)
		r := fanfare.SubscribeReply{Since: &fanfare.Position{Offset: 1, Epoch: epoch}}
		require.NoError(t, node.Subscribe(t.Context(), "ann", "x", r))
		requirePublish(t, node, "x", `4`)
		lines := received(t, c)
		require.Equal(t, `{"push":{"channel":"x","subscribe":{"recoverable":true,"positioned":true,"epoch":"`+epoch+`","offset":1}}}`, lines[len(lines)-4])
		require.Equal(t, []string{"x 2", "x 3", "x 4"}, events(c)[1:])
	})
	inBubble(t, "what is no longer there is not made up", func(t *testing.T) {
		node, _ := missed(t, room)
		c := fanfaretest.Connect(t, node, "ann")
		events(c)
		r := fanfare.SubscribeReply{Since: &fanfare.Position{Offset: 1, Epoch: "other"}}
		require.NoError(t, node.Subscribe(t.Context(), "ann", "x", r))
		require.Len(t, events(c), 1)
	})
	inBubble(t, "at connect", func(t *testing.T) {
		since := fanfare.Position{Offset: 2}
		node, epoch := missed(t, room, withSubs(map[string]fanfare.SubscribeReply{"x": {Since: &since}}))
		since.Epoch = epoch
		lines := ask(t, fanfaretest.Dial(t, node, "ann"), `{"id":1,"connect":{}}`)
		require.Contains(t, lines[0], `"was_recovering":true,"recovered":true,"epoch":"`+epoch+`","offset":2,"publications":[{"data":3,"offset":3}]`)
	})
	inBubble(t, "a subscribe command, whose own position counts more", func(t *testing.T) {
		since := fanfare.Position{Offset: 2}
		o := room
		o.Subscribe = func(context.Context, *fanfare.SubscribeRequest) (fanfare.SubscribeReply, error) {
			return fanfare.SubscribeReply{Since: &since}, nil
		}
		node, epoch := missed(t, o)
		since.Epoch = epoch
		r := requireSubscribe(t, fanfaretest.Connect(t, node, "ann"), "x")
		require.Equal(t, []string{"3"}, payloads(r.Publications))
		r = requireSubscribe(t, fanfaretest.Connect(t, node, "ben"), "x", fanfaretest.Recover(fanfare.Position{Offset: 1, Epoch: epoch}))
		require.Equal(t, []string{"2", "3"}, payloads(r.Publications))
	})
	inBubble(t, "no effect where nothing recovers", func(t *testing.T) {
		node := startNode(t)
		node.Channel("x", fanfare.ChannelOptions{})
		c := fanfaretest.Connect(t, node, "ann")
		received(t, c)
		require.NoError(t, node.Subscribe(t.Context(), "ann", "x", fanfare.SubscribeReply{Since: &fanfare.Position{Offset: 1}}))
		require.Equal(t, []string{`{"push":{"channel":"x","subscribe":{}}}`}, received(t, c))
	})
}

func TestConfig_RPC(t *testing.T) {
	inBubble(t, "what no method was declared for", func(t *testing.T) {
		node := startNode(t, func(c *fanfare.Config) {
			c.RPC = func(_ context.Context, r *fanfare.RPCRequest) ([]byte, error) {
				return []byte(`"any ` + r.Method + `"`), nil
			}
		})
		node.RPC("known", func(context.Context, *fanfare.RPCRequest) ([]byte, error) { return []byte(`"known"`), nil })
		c := fanfaretest.Connect(t, node, "ann")
		for method, want := range map[string]string{"known": `"known"`, "other": `"any other"`, "": `"any "`} {
			got, err := c.RPC(method, nil)
			require.NoError(t, err)
			require.Equal(t, want, string(got))
		}
	})
}
