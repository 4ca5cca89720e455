package fanfare_test

import (
	"context"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare"
	"github.com/fanfare-go/fanfare/fanfaretest"
)

func TestNode_Publish(t *testing.T) {
	inBubble(t, "an idempotency key makes a repeat harmless, for a while", func(t *testing.T) {
		node := startNode(t, func(c *fanfare.Config) { c.IdempotencyTTL = time.Minute })
		node.Channel("{name}", room)
		c := fanfaretest.Connect(t, node, "ann")
		requireSubscribe(t, c, "x")
		publish := func(channel, key string) fanfare.Position {
			p, err := node.Publish(t.Context(), channel, []byte(`1`), fanfare.WithIdempotencyKey(key))
			require.NoError(t, err)
			return p
		}
		first := publish("x", "a")
		require.Equal(t, first, publish("x", "a"))
		require.EqualValues(t, 2, publish("x", "b").Offset)
		require.EqualValues(t, 1, publish("y", "a").Offset, "keys are the channel's")
		require.Equal(t, []string{"x 1", "x 1"}, events(c))
		time.Sleep(time.Minute + time.Second)
		require.EqualValues(t, 3, publish("x", "a").Offset)
	})
	inBubble(t, "tags", func(t *testing.T) {
		node := startNode(t)
		node.Channel("x", room)
		c := fanfaretest.Connect(t, node, "ann")
		requireSubscribe(t, c, "x")
		received(t, c)
		_, err := node.Publish(t.Context(), "x", []byte(`1`), fanfare.WithTags(map[string]string{"k": "v"}))
		require.NoError(t, err)
		require.Equal(t, []string{`{"push":{"channel":"x","pub":{"data":1,"offset":1,"tags":{"k":"v"}}}}`}, received(t, c))
		h, err := node.History(t.Context(), "x", fanfare.HistoryQuery{Limit: 1})
		require.NoError(t, err)
		require.Equal(t, map[string]string{"k": "v"}, h.Publications[0].Tags)
	})
	inBubble(t, "positions: offsets one by one, and zero without history", func(t *testing.T) {
		node := startNode(t)
		node.Channel("x", room)
		node.Channel("plain", fanfare.ChannelOptions{})
		first := requirePublish(t, node, "x", `1`)
		require.EqualValues(t, 1, first.Offset)
		require.Equal(t, fanfare.Position{Offset: 2, Epoch: first.Epoch}, requirePublish(t, node, "x", `2`))
		require.Zero(t, requirePublish(t, node, "plain", `1`))
	})
	inBubble(t, "what the broker says is passed on, with the channel", func(t *testing.T) {
		node := startNode(t)
		node.Channel("x", room)
		ended, cancel := context.WithCancel(t.Context())
		cancel()
		_, err := node.Publish(ended, "x", []byte(`1`))
		require.ErrorIs(t, err, context.Canceled)
		require.ErrorContains(t, err, `"x"`)
	})
}

func TestNode_History(t *testing.T) {
	inBubble(t, "errors", func(t *testing.T) {
		node := startNode(t)
		node.Channel("x", room)
		node.Channel("plain", fanfare.ChannelOptions{})
		ended, cancel := context.WithCancel(t.Context())
		cancel()
		for name, test := range map[string]struct {
			ctx     context.Context
			channel string
			want    error
		}{
			"undeclared": {t.Context(), "other", fanfare.ErrUnknownChannel},
			"without":    {t.Context(), "plain", fanfare.ErrHistoryDisabled},
			"cancelled":  {ended, "x", context.Canceled},
		} {
			_, err := node.History(test.ctx, test.channel, fanfare.HistoryQuery{Limit: 1})
			require.ErrorIs(t, err, test.want, name)
			require.ErrorIs(t, node.RemoveHistory(test.ctx, test.channel), test.want, name)
			var got error
			for p, err := range node.Publications(test.ctx, test.channel, fanfare.Position{}) {
				require.Nil(t, p)
				got = err
			}
			require.ErrorIs(t, got, test.want, name)
		}
	})
	inBubble(t, "another epoch: the error, and where the stream stands", func(t *testing.T) {
		node := startNode(t)
		node.Channel("x", room)
		top := requirePublish(t, node, "x", `1`, `2`)
		h, err := node.History(t.Context(), "x", fanfare.HistoryQuery{Since: &fanfare.Position{Offset: 1, Epoch: "other"}, Limit: -1})
		require.ErrorIs(t, err, fanfare.ErrUnrecoverablePosition)
		require.Equal(t, fanfare.HistoryResult{Position: top}, h)
	})
	inBubble(t, "removal keeps the top", func(t *testing.T) {
		node := startNode(t)
		node.Channel("x", room)
		top := requirePublish(t, node, "x", `1`, `2`)
		require.NoError(t, node.RemoveHistory(t.Context(), "x"))
		h, err := node.History(t.Context(), "x", fanfare.HistoryQuery{Limit: -1})
		require.NoError(t, err)
		require.Equal(t, fanfare.HistoryResult{Position: top}, h)
	})
}

func TestNode_Publications(t *testing.T) {
	inBubble(t, "all of them, in pages", func(t *testing.T) {
		broker := newFaultBroker(t)
		node := startNode(t, broker.config)
		node.Channel("x", kept)
		const published = 250
		var epoch string
		for i := range published {
			epoch = requirePublish(t, node, "x", fmt.Sprint(i+1)).Epoch
		}
		read := func(since fanfare.Position, max int) (offsets []uint64) {
			for p, err := range node.Publications(t.Context(), "x", since) {
				require.NoError(t, err)
				require.Equal(t, fmt.Sprint(p.Offset), string(p.Data))
				if offsets = append(offsets, p.Offset); len(offsets) == max {
					break
				}
			}
			return offsets
		}
		all := read(fanfare.Position{}, -1)
		require.Len(t, all, published)
		require.True(t, slices.IsSorted(all))
		require.EqualValues(t, 1, all[0])
		require.Equal(t, []uint64{249, 250}, read(fanfare.Position{Offset: 248, Epoch: epoch}, -1))
		reads := broker.readCount()
		require.Len(t, read(fanfare.Position{}, 3), 3)
		require.Equal(t, reads+1, broker.readCount(), "nothing is read that nobody wants")
	})
	inBubble(t, "the stream begins a new life in between", func(t *testing.T) {
		broker := newFaultBroker(t)
		node := startNode(t, broker.config)
		node.Channel("x", kept)
		for range 150 {
			requirePublish(t, node, "x", `1`)
		}
		n := 0
		var last error
		for p, err := range node.Publications(t.Context(), "x", fanfare.Position{}) {
			if last = err; err != nil {
				break
			}
			if n++; p.Offset == 50 {
				broker.restart(t)
			}
		}
		require.Equal(t, 100, n)
		require.ErrorIs(t, last, fanfare.ErrUnrecoverablePosition)
	})
}

func TestNode_Presence(t *testing.T) {
	inBubble(t, "members and counts", func(t *testing.T) {
		node := startNode(t)
		node.Channel("x", fanfare.ChannelOptions{Public: true, Presence: true})
		for _, user := range []string{"ann", "ann", "ben", "", ""} {
			requireSubscribe(t, fanfaretest.Connect(t, node, user), "x")
		}
		members, err := node.Presence(t.Context(), "x")
		require.NoError(t, err)
		require.Len(t, members, 5)
		stats, err := node.PresenceStats(t.Context(), "x")
		require.NoError(t, err)
		require.Equal(t, fanfare.PresenceStats{Clients: 5, Users: 3}, stats)
	})
	inBubble(t, "errors", func(t *testing.T) {
		node := startNode(t)
		node.Channel("x", fanfare.ChannelOptions{Presence: true})
		node.Channel("plain", room)
		ended, cancel := context.WithCancel(t.Context())
		cancel()
		for name, test := range map[string]struct {
			ctx     context.Context
			channel string
			want    error
		}{
			"undeclared": {t.Context(), "other", fanfare.ErrUnknownChannel},
			"without":    {t.Context(), "plain", fanfare.ErrPresenceDisabled},
			"cancelled":  {ended, "x", context.Canceled},
		} {
			_, err := node.Presence(test.ctx, test.channel)
			require.ErrorIs(t, err, test.want, name)
			_, err = node.PresenceStats(test.ctx, test.channel)
			require.ErrorIs(t, err, test.want, name)
		}
	})
}

func TestNode_RPC_PanicsWhenWrong(t *testing.T) {
	node := startNode(t)
	node.RPC("known", takes(0))
	require.Contains(t, requirePanic(t, func() { node.RPC("", takes(0)) }), "empty method")
	require.Contains(t, requirePanic(t, func() { node.RPC("nothing", nil) }), `"nothing"`)
	require.Contains(t, requirePanic(t, func() { node.RPC("known", takes(0)) }), `"known"`)
}

func TestErrors_AreTheSameByCode(t *testing.T) {
	require.ErrorIs(t, fmt.Errorf("wrapped: %w", &fanfare.Error{Code: 103, Message: "no"}), fanfare.ErrPermissionDenied)
	require.NotErrorIs(t, &fanfare.Error{Code: 104}, fanfare.ErrPermissionDenied)
	require.ErrorIs(t, &fanfare.Disconnect{Code: 3503, Reason: "because"}, fanfare.DisconnectForce)
	require.NotErrorIs(t, &fanfare.Disconnect{Code: 103}, fanfare.ErrPermissionDenied)
	require.EqualError(t, fanfare.ErrExpired, "110: expired")
	require.EqualError(t, fanfare.DisconnectStale, "disconnect 3502: stale")
}

// TestErrors_Spec9_AreThoseOfTheProtocol: clients decide by these numbers, and Python clients read the texts.
func TestErrors_Spec9_AreThoseOfTheProtocol(t *testing.T) {
	for _, e := range []struct {
		got  *fanfare.Error
		want fanfare.Error
	}{
		{fanfare.ErrInternal, fanfare.Error{Code: 100, Message: "internal server error", Temporary: true}},
		{fanfare.ErrUnauthorized, fanfare.Error{Code: 101, Message: "unauthorized"}},
		{fanfare.ErrUnknownChannel, fanfare.Error{Code: 102, Message: "unknown channel"}},
		{fanfare.ErrPermissionDenied, fanfare.Error{Code: 103, Message: "permission denied"}},
		{fanfare.ErrMethodNotFound, fanfare.Error{Code: 104, Message: "method not found"}},
		{fanfare.ErrAlreadySubscribed, fanfare.Error{Code: 105, Message: "already subscribed"}},
		{fanfare.ErrLimitExceeded, fanfare.Error{Code: 106, Message: "limit exceeded"}},
		{fanfare.ErrBadRequest, fanfare.Error{Code: 107, Message: "bad request"}},
		{fanfare.ErrNotAvailable, fanfare.Error{Code: 108, Message: "not available"}},
		{fanfare.ErrTokenExpired, fanfare.Error{Code: 109, Message: "token expired"}},
		{fanfare.ErrExpired, fanfare.Error{Code: 110, Message: "expired"}},
		{fanfare.ErrTooManyRequests, fanfare.Error{Code: 111, Message: "too many requests", Temporary: true}},
		{fanfare.ErrUnrecoverablePosition, fanfare.Error{Code: 112, Message: "unrecoverable position"}},
	} {
		require.Equal(t, e.want, *e.got)
	}
	for _, d := range []struct {
		got  *fanfare.Disconnect
		want fanfare.Disconnect
	}{
		{fanfare.DisconnectClosed, fanfare.Disconnect{Code: 3000, Reason: "connection closed"}},
		{fanfare.DisconnectShutdown, fanfare.Disconnect{Code: 3001, Reason: "shutdown"}},
		{fanfare.DisconnectInternal, fanfare.Disconnect{Code: 3004, Reason: "internal server error"}},
		{fanfare.DisconnectExpired, fanfare.Disconnect{Code: 3005, Reason: "connection expired"}},
		{fanfare.DisconnectSubExpired, fanfare.Disconnect{Code: 3006, Reason: "subscription expired"}},
		{fanfare.DisconnectSlow, fanfare.Disconnect{Code: 3008, Reason: "slow"}},
		{fanfare.DisconnectWriteError, fanfare.Disconnect{Code: 3009, Reason: "write error"}},
		{fanfare.DisconnectInsufficient, fanfare.Disconnect{Code: 3010, Reason: "insufficient state"}},
		{fanfare.DisconnectForceReconnect, fanfare.Disconnect{Code: 3011, Reason: "force reconnect"}},
		{fanfare.DisconnectNoPong, fanfare.Disconnect{Code: 3012, Reason: "no pong"}},
		{fanfare.DisconnectTooManyRequests, fanfare.Disconnect{Code: 3013, Reason: "too many requests"}},
		{fanfare.DisconnectInvalidToken, fanfare.Disconnect{Code: 3500, Reason: "invalid token"}},
		{fanfare.DisconnectBadRequest, fanfare.Disconnect{Code: 3501, Reason: "bad request"}},
		{fanfare.DisconnectStale, fanfare.Disconnect{Code: 3502, Reason: "stale"}},
		{fanfare.DisconnectForce, fanfare.Disconnect{Code: 3503, Reason: "force disconnect"}},
		{fanfare.DisconnectConnectionLimit, fanfare.Disconnect{Code: 3504, Reason: "connection limit"}},
		{fanfare.DisconnectChannelLimit, fanfare.Disconnect{Code: 3505, Reason: "channel limit"}},
		{fanfare.DisconnectInappropriate, fanfare.Disconnect{Code: 3506, Reason: "inappropriate protocol"}},
		{fanfare.DisconnectPermissionDenied, fanfare.Disconnect{Code: 3507, Reason: "permission denied"}},
		{fanfare.DisconnectNotAvailable, fanfare.Disconnect{Code: 3508, Reason: "not available"}},
		{fanfare.DisconnectTooManyErrors, fanfare.Disconnect{Code: 3509, Reason: "too many errors"}},
	} {
		require.Equal(t, d.want, *d.got)
	}
}

// TestHook_EveryKindIsTested compares the hooks that there are with those that the tests of hooks provoke.
func TestHook_EveryKindIsTested(t *testing.T) {
	tested := map[string]bool{"Authenticate": true} // which has tests of its own
	for _, k := range kinds {
		tested[k.hook] = true
	}
	require.True(t, tested["RPC do"])
	tested["RPC"] = tested["RPC undeclared"]
	for _, s := range []any{fanfare.Config{}, fanfare.ChannelOptions{}} {
		for _, f := range reflect.VisibleFields(reflect.TypeOf(s)) {
			if f.Type.Kind() == reflect.Func {
				require.True(t, tested[f.Name], "hook %s.%s panics and hangs in no test", strings.TrimPrefix(reflect.TypeOf(s).String(), "fanfare."), f.Name)
			}
		}
	}
}
