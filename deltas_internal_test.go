package fanfare

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare/internal/protocol"
	"github.com/fanfare-go/fanfare/transport"
)

// oneFraming leaves messages as they are.
type oneFraming struct{}

func (oneFraming) AppendFrame(dst []byte, messages ...[]byte) []byte {
	for _, m := range messages {
		dst = append(dst, m...)
	}
	return dst
}

// subscriptionOf is a subscription of a connection of a form, as far as encoding looks at it.
func subscriptionOf(form int, e transport.Encoding, codec protocol.Codec) *subscription {
	c := &Client{wireForm: &wireForm{info: transport.Info{Encoding: e, Framing: oneFraming{}}, codec: codec, form: form}}
	return &subscription{client: c, declared: &declaration{}, params: params{channel: "x"}}
}

// Whatever the number of subscribers, what they get is made once for each form of connection, and what these have in common once
// for all.
func TestEdit_IsMadeOnce(t *testing.T) {
	long := strings.Repeat("long ", 20)
	e := &edit{
		base:   &content{p: &Publication{Data: []byte(`"` + long + `1"`)}, seq: 1},
		target: &content{p: &Publication{Data: []byte(`"` + long + `2"`)}, seq: 2},
	}
	line, other := subscriptionOf(0, transport.JSON, protocol.JSON), subscriptionOf(1, transport.JSON, protocol.JSON)
	binary := subscriptionOf(2, transport.Protobuf, protocol.Protobuf)
	for _, l := range []look{inFull, asDelta} {
		first := e.frame(line, l)
		require.Same(t, &first[0], &e.frame(subscriptionOf(0, transport.JSON, protocol.JSON), l)[0], "look %d", l)
		require.Equal(t, first, e.frame(other, l))
	}
	quoted := &e.deltas[0].quoted[0]
	raw := &e.deltas[0].data[0]
	e.message(binary, asDelta)
	e.message(subscriptionOf(3, transport.JSON, protocol.JSON), asDelta)
	require.Same(t, quoted, &e.deltas[0].quoted[0], "the JSON string is made again")
	require.Same(t, raw, &e.deltas[0].data[0], "the delta is made again")
	require.False(t, e.compared[1], "nobody asked for a delta of text")
	require.Zero(t, testing.AllocsPerRun(100, func() { e.frame(line, asDelta) }))
}

// Who come back together and missed the same share what it takes.
func TestEditCache(t *testing.T) {
	pubs := pubs("e", 1, 2, 3)
	c := &editCache{}
	first := c.step(pubs[0], pubs[1])
	require.Same(t, first, c.step(pubs[0], pubs[1]))
	require.NotSame(t, first, c.step(pubs[2], pubs[1]), "it is to another one")
	require.NotSame(t, c.step(nil, pubs[1]), c.step(nil, pubs[1]), "what goes in full is not kept")
	require.NotNil(t, (*editCache)(nil).step(pubs[0], pubs[1]))
	for range maxCachedEdits + 10 {
		c.step(pubs[0], &Publication{})
	}
	require.Len(t, c.edits, maxCachedEdits)
}
