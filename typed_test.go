package fanfare_test

import (
	"encoding/json"
	"errors"
	"math"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare"
	"github.com/fanfare-go/fanfare/fanfaretest"
)

type typedMessage struct {
	Text string `json:"text"`
	Rank int    `json:"rank,omitempty"`
}

func TestTyped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		node := startNode(t)
		node.Channel("room:{id}", kept)
		node.Channel("room:{id}:{rest...}", kept)
		node.Channel("{all...}", kept)
		rooms := fanfare.Typed[typedMessage](node, "room:{id}")
		c := fanfaretest.Connect(t, node, "u")
		requireSubscribe(t, c, "room:1")

		_, err := rooms.Publish(t.Context(), "room:1", typedMessage{Text: "<hi>"}, fanfare.WithTags(map[string]string{"k": "v"}))
		require.NoError(t, err)
		top, err := rooms.Publish(t.Context(), "room:1", typedMessage{"ho", 2})
		require.NoError(t, err)
		require.Equal(t, []string{`room:1 {"text":"\u003chi\u003e"}`, `room:1 {"text":"ho","rank":2}`}, events(c))

		h, err := rooms.History(t.Context(), "room:1", fanfare.HistoryQuery{Limit: -1})
		require.NoError(t, err)
		first, second := fanfare.Position{Offset: 1, Epoch: top.Epoch}, top
		require.Equal(t, fanfare.TypedHistory[typedMessage]{Position: top, Publications: []fanfare.TypedPublication[typedMessage]{
			{Position: first, Value: typedMessage{Text: "<hi>"}, Tags: map[string]string{"k": "v"}},
			{Position: second, Value: typedMessage{"ho", 2}},
		}}, h)

		var texts []string
		for p, err := range rooms.Publications(t.Context(), "room:1", first) {
			require.NoError(t, err)
			texts = append(texts, p.Value.Text)
		}
		require.Equal(t, []string{"ho"}, texts)
	})
}

func TestTyped_Errors(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		node := startNode(t)
		node.Channel("room:{id}", kept)
		node.Channel("news:{rest...}", kept)
		node.Channel("news:{id}", kept) // more precise, also for the other pattern's own name
		node.Channel("html:{id}", fanfare.ChannelOptions{Payload: fanfare.PayloadText})
		node.Channel("live", fanfare.ChannelOptions{})
		require.Contains(t, requirePanic(t, func() { fanfare.Typed[int](node, "room:1") }), `channel pattern "room:1" is not declared`)
		require.Contains(t, requirePanic(t, func() { fanfare.Typed[int](node, "html:{id}") }), `channels "html:{id}" do not carry JSON`)

		news := fanfare.Typed[float64](node, "news:{rest...}")
		_, err := news.Publish(t.Context(), "news:a:b", 1)
		require.NoError(t, err)
		for _, channel := range []string{"news:a", "room:1", "unknown"} {
			_, err = news.Publish(t.Context(), channel, 1)
			require.ErrorIs(t, err, fanfare.ErrUnknownChannel, channel)
			_, err = news.History(t.Context(), channel, fanfare.HistoryQuery{})
			require.ErrorIs(t, err, fanfare.ErrUnknownChannel, channel)
			for _, err := range news.Publications(t.Context(), channel, fanfare.Position{}) {
				require.ErrorIs(t, err, fanfare.ErrUnknownChannel, channel)
			}
		}
		_, err = news.Publish(t.Context(), "news:a:b", math.Inf(1))
		require.ErrorIs(t, err, fanfare.ErrBadPayload)
		require.ErrorContains(t, err, `"news:a:b"`)
		_, err = fanfare.Typed[int](node, "live").History(t.Context(), "live", fanfare.HistoryQuery{})
		require.ErrorIs(t, err, fanfare.ErrHistoryDisabled)
	})
}

// What is no T is named, and does not hide what comes after it.
func TestTyped_Decode(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		node := startNode(t)
		node.Channel("room:{id}", kept)
		rooms := fanfare.Typed[typedMessage](node, "room:{id}")
		top := requirePublish(t, node, "room:1", `{"text":"a"}`, `{"text":"b","rank":"high"}`, `{"text":"c"}`)

		h, err := rooms.History(t.Context(), "room:1", fanfare.HistoryQuery{Limit: -1})
		bad, ok := errors.AsType[*fanfare.DecodeError](err)
		require.True(t, ok)
		require.Equal(t, "room:1", bad.Channel)
		require.Equal(t, fanfare.Position{Offset: 2, Epoch: top.Epoch}, bad.Position)
		require.ErrorContains(t, err, `fanfare: publication 2 in "room:1": json: cannot unmarshal string`)
		_, ok = errors.AsType[*json.UnmarshalTypeError](err)
		require.True(t, ok)
		require.Len(t, h.Publications, 1)
		require.Equal(t, top, h.Position)
		rest, err := rooms.History(t.Context(), "room:1", fanfare.HistoryQuery{Since: &bad.Position, Limit: -1})
		require.NoError(t, err)
		require.Equal(t, "c", rest.Publications[0].Value.Text)

		var told []string
		for p, err := range rooms.Publications(t.Context(), "room:1", fanfare.Position{}) {
			if err != nil {
				require.Zero(t, p.Value)
				require.EqualValues(t, 2, p.Offset)
				told = append(told, "error")
				continue
			}
			told = append(told, p.Value.Text)
		}
		require.Equal(t, []string{"a", "error", "c"}, told)
	})
}
