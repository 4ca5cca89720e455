package fanfare_test

import (
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare"
	"github.com/fanfare-go/fanfare/fanfaretest"
)

func requirePublishWith(t *testing.T, node *fanfare.Node, channel, data string, opts ...fanfare.PublishOption) fanfare.Position {
	t.Helper()
	p, err := node.Publish(t.Context(), channel, []byte(data), opts...)
	require.NoError(t, err)
	return p
}

func TestPublish_WithVersion(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		node := startNode(t)
		node.Channel("x", kept)
		c := fanfaretest.Connect(t, node, "u")
		requireSubscribe(t, c, "x")
		version := fanfare.WithVersion
		first := requirePublishWith(t, node, "x", `7`, version(7, ""))
		require.Equal(t, first, requirePublishWith(t, node, "x", `6`, version(6, "")), "a stale one is dropped, and the top returned")
		require.Equal(t, first, requirePublishWith(t, node, "x", `7`, version(7, "")))
		require.Equal(t, first.Offset+1, requirePublishWith(t, node, "x", `1`, version(1, "import")).Offset)
		requirePublishWith(t, node, "x", `0`, version(0, "import")) // no version
		requirePublishWith(t, node, "x", `99`, version(1, "import"))
		require.Equal(t, []string{"x 7", "x 1", "x 0"}, events(c))
		require.NoError(t, c.Check())

		// A retry with a key gets what the first try got, also if something newer came between.
		key := fanfare.WithIdempotencyKey("key")
		second := requirePublishWith(t, node, "x", `2`, version(2, ""), key)
		requirePublishWith(t, node, "x", `3`, version(3, ""))
		require.Equal(t, second, requirePublishWith(t, node, "x", `2`, version(2, ""), key))
		require.Equal(t, []string{"x 2", "x 3"}, events(c))
	})
}

func TestPublish_WithVersion_NeedsHistory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		node := startNode(t)
		node.Channel("x", kept)
		node.Channel("live", fanfare.ChannelOptions{Public: true})
		c := fanfaretest.Connect(t, node, "u")
		requireSubscribe(t, c, "live")
		_, err := node.Publish(t.Context(), "live", []byte(`1`), fanfare.WithVersion(1, ""))
		require.ErrorIs(t, err, fanfare.ErrBadRequest)
		require.ErrorContains(t, err, `fanfare: publish to "live": a version needs history`)
		_, err = node.Publish(t.Context(), "x", []byte(`1`), fanfare.WithVersion(1, ""), fanfare.WithoutHistory())
		require.ErrorIs(t, err, fanfare.ErrBadRequest)
		requirePublishWith(t, node, "live", `2`, fanfare.WithVersion(0, ""))
		require.Equal(t, []string{"live 2"}, events(c))
	})
}
