package fanfare_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare"
	"github.com/fanfare-go/fanfare/transport"
)

// Rules 1 to 3: what a subscription begins with.
func TestDelta_Spec11_2_Beginnings(t *testing.T) {
	inBothEncodings(t, "rule 1: without recovery in full", func(t *testing.T, e transport.Encoding) {
		node := startNode(t)
		node.Channel("x", documents)
		other, r := read(t, node, e), read(t, node, e)
		other.subscribe("x", fossil)
		publishDocuments(t, node, 1, 2)
		r.subscribe("x", fossil)
		publishDocuments(t, node, 3, 4)
		requireRead(t, r, "Fd", document(3), document(4))
		requireRead(t, other, "Fddd", document(1), document(2), document(3), document(4))
		// And again after the end: what the client had is not what it would build on.
		r.unsubscribe("x")
		publishDocuments(t, node, 5)
		r.subscribe("x", fossil)
		publishDocuments(t, node, 6, 7)
		requireRead(t, r, "Fd", document(6), document(7))
	})
	inBothEncodings(t, "rule 2: a recovered list begins in full", func(t *testing.T, e transport.Encoding) {
		node := startNode(t)
		node.Channel("x", documents)
		publishDocuments(t, node, 1, 2, 3, 4)
		first, second := read(t, node, e), read(t, node, e)
		for _, r := range []*reader{first, second} {
			reply := r.subscribe("x", order{recover: true, at: fanfare.Position{Offset: 1}, delta: "fossil"})
			require.True(t, reply.recovered)
		}
		// Nobody took deltas before, so the first one live has no base here.
		publishDocuments(t, node, 5, 6)
		for _, r := range []*reader{first, second} {
			requireRead(t, r, "FddFd", document(2), document(3), document(4), document(5), document(6))
		}
	})
	inBothEncodings(t, "rule 3: the last of the list is the base of the first live one", func(t *testing.T, e transport.Encoding) {
		node := startNode(t)
		node.Channel("x", documents)
		other, r := read(t, node, e), read(t, node, e)
		other.subscribe("x", fossil)
		publishDocuments(t, node, 1, 2)
		require.True(t, r.subscribe("x", order{recover: true, delta: "fossil"}).recovered)
		publishDocuments(t, node, 3)
		requireRead(t, r, "Fdd", document(1), document(2), document(3))
	})
	inBothEncodings(t, "rule 3: after an empty list in full", func(t *testing.T, e transport.Encoding) {
		node := startNode(t)
		node.Channel("x", documents)
		other, r := read(t, node, e), read(t, node, e)
		other.subscribe("x", fossil)
		publishDocuments(t, node, 1, 2)
		require.True(t, r.subscribe("x", order{recover: true, at: fanfare.Position{Offset: 2}, delta: "fossil"}).recovered)
		publishDocuments(t, node, 3, 4)
		requireRead(t, r, "Fd", document(3), document(4))
	})
	inBothEncodings(t, "not recovered, in full", func(t *testing.T, e transport.Encoding) {
		node := startNode(t)
		node.Channel("x", documents)
		other, r := read(t, node, e), read(t, node, e)
		other.subscribe("x", fossil)
		publishDocuments(t, node, 1, 2, 3, 4, 5, 6, 7, 8)
		reply := r.subscribe("x", order{recover: true, at: fanfare.Position{Offset: 1}, delta: "fossil"})
		require.True(t, reply.was)
		require.False(t, reply.recovered)
		publishDocuments(t, node, 9, 10)
		requireRead(t, r, "Fd", document(9), document(10))
	})
}

// What came while the subscribe was under way is part of the reply, and the flow goes on behind it.
func TestDelta_PublicationsDuringASubscribe(t *testing.T) {
	for _, recover := range []bool{true, false} {
		inBothEncodings(t, fmt.Sprintf("recover=%t", recover), func(t *testing.T, e transport.Encoding) {
			broker := &gatedBroker{fanfare.NewMemoryBroker(fanfare.MemoryBrokerConfig{}), make(chan struct{})}
			t.Cleanup(func() { require.NoError(t, broker.Close()) })
			node := startNode(t, func(c *fanfare.Config) { c.Broker = broker })
			node.Channel("x", documents)
			r := read(t, node, e)
			r.ask("x", order{recover: recover, delta: "fossil"})
			synctest.Wait()
			publishDocuments(t, node, 1, 2, 3)
			close(broker.gate)
			synctest.Wait()
			publishDocuments(t, node, 4, 5)
			if recover {
				requireRead(t, r, "Fdddd", document(1), document(2), document(3), document(4), document(5))
			} else {
				requireRead(t, r, "Fd", document(4), document(5))
			}
		})
	}
	inBothEncodings(t, "without positions", func(t *testing.T, e transport.Encoding) {
		gate := make(chan struct{})
		presence := &gatedPresence{fanfare.NewMemoryPresence(), gate}
		node := startNode(t, func(c *fanfare.Config) { c.Presence = presence })
		node.Channel("x", fanfare.ChannelOptions{Public: true, Delta: true, Presence: true})
		r := read(t, node, e)
		r.ask("x", fossil)
		synctest.Wait()
		publishDocuments(t, node, 1, 2)
		close(gate)
		synctest.Wait()
		publishDocuments(t, node, 3, 4)
		requireRead(t, r, "FFFd", document(1), document(2), document(3), document(4))
	})
}

// gatedPresence admits nobody before its gate is open.
type gatedPresence struct {
	*fanfare.MemoryPresence
	gate chan struct{}
}

func (p *gatedPresence) Add(ctx context.Context, node, channel string, info fanfare.ClientInfo) error {
	<-p.gate
	return p.MemoryPresence.Add(ctx, node, channel, info)
}

// Rule 4.
func TestDelta_Spec11_2_OnlyToThePredecessor(t *testing.T) {
	bent := func(t *testing.T, bend func(p *fanfare.Publication) []*fanfare.Publication) *fanfare.Node {
		broker := &bentBroker{fanfare.NewMemoryBroker(fanfare.MemoryBrokerConfig{}), bend}
		t.Cleanup(func() { require.NoError(t, broker.Close()) })
		node := startNode(t, func(c *fanfare.Config) { c.Broker = broker })
		node.Channel("x", documents)
		return node
	}
	inBothEncodings(t, "a gap that is repaired", func(t *testing.T, e transport.Encoding) {
		node := bent(t, func(p *fanfare.Publication) []*fanfare.Publication {
			if p.Offset == 2 || p.Offset == 3 {
				return nil
			}
			return []*fanfare.Publication{p}
		})
		r := read(t, node, e)
		r.subscribe("x", fossil)
		publishDocuments(t, node, 1, 2, 3, 4, 5)
		requireRead(t, r, "Fdddd", document(1), document(2), document(3), document(4), document(5))
	})
	inBothEncodings(t, "what the node has missed and the client has recovered", func(t *testing.T, e transport.Encoding) {
		node := bent(t, func(p *fanfare.Publication) []*fanfare.Publication {
			if p.Offset == 2 || p.Offset == 3 {
				return nil
			}
			return []*fanfare.Publication{p}
		})
		other, r := read(t, node, e), read(t, node, e)
		other.subscribe("x", fossil)
		publishDocuments(t, node, 1, 2, 3)
		require.True(t, r.subscribe("x", order{recover: true, delta: "fossil"}).recovered)
		require.NoError(t, node.RemoveHistory(t.Context(), "x")) // so that the node cannot make up for it
		publishDocuments(t, node, 4, 5)
		requireRead(t, r, "FddFd", document(1), document(2), document(3), document(4), document(5))
		requireRead(t, other, "F", document(1))
		require.Equal(t, []string{"x unsubscribe 2500"}, other.pushes)
	})
	inBothEncodings(t, "what comes twice", func(t *testing.T, e transport.Encoding) {
		node := bent(t, func(p *fanfare.Publication) []*fanfare.Publication { return []*fanfare.Publication{p, p} })
		r := read(t, node, e)
		r.subscribe("x", fossil)
		publishDocuments(t, node, 1, 2, 3)
		requireRead(t, r, "Fdd", document(1), document(2), document(3))
	})
	inBothEncodings(t, "before and after one without an offset", func(t *testing.T, e transport.Encoding) {
		node := bent(t, func(p *fanfare.Publication) []*fanfare.Publication {
			if p.Offset != 2 {
				return []*fanfare.Publication{p}
			}
			return []*fanfare.Publication{p, {Data: []byte(document("aside"))}, {Data: []byte(document("aside again"))}}
		})
		r := read(t, node, e)
		r.subscribe("x", fossil)
		publishDocuments(t, node, 1, 2, 3, 4)
		requireRead(t, r, "FdFdFd", document(1), document(2), document("aside"), document("aside again"), document(3), document(4))
	})
	inBothEncodings(t, "another life of the stream", func(t *testing.T, e transport.Encoding) {
		life := "first"
		node := bent(t, func(p *fanfare.Publication) []*fanfare.Publication {
			q := *p
			if life == "second" {
				q.Epoch = life
			}
			return []*fanfare.Publication{&q}
		})
		r := read(t, node, e)
		r.subscribe("x", fossil)
		publishDocuments(t, node, 1, 2)
		life = "second"
		publishDocuments(t, node, 3)
		requireRead(t, r, "Fd", document(1), document(2))
		require.Equal(t, []string{"x unsubscribe 2500"}, r.pushes)
	})
	inBothEncodings(t, "a channel without history", func(t *testing.T, e transport.Encoding) {
		node := startNode(t)
		node.Channel("x", fanfare.ChannelOptions{Public: true, Delta: true})
		r := read(t, node, e)
		require.True(t, r.subscribe("x", fossil).delta)
		requireRead(t, r, "Fdd", publishDocuments(t, node, 1, 2, 3)...)
	})
}

// Rules 5 and 6.
func TestDelta_Spec11_2_InFullWhereThatIsShorterOrSafer(t *testing.T) {
	inBothEncodings(t, "rule 5", func(t *testing.T, e transport.Encoding) {
		node := startNode(t)
		node.Channel("x", documents)
		r := read(t, node, e)
		r.subscribe("x", fossil)
		other := `{"nothing":"of it is the same as before"}`
		requirePublish(t, node, "x", document(1), other, `1`, `2`, document(2), document(3))
		requireRead(t, r, "FFFFFd", document(1), other, `1`, `2`, document(2), document(3))
	})
	inBothEncodings(t, "rule 6: characters that share bytes", func(t *testing.T, e transport.Encoding) {
		node := startNode(t)
		node.Channel("x", documents)
		r := read(t, node, e)
		r.subscribe("x", fossil)
		doc := func(middle string) string {
			return `"` + strings.Repeat("é", 40) + middle + strings.Repeat("🎈", 40) + `"`
		}
		docs := []string{doc("é"), doc("è"), doc("🎉"), doc("🎊"), doc("ü🎈")}
		requirePublish(t, node, "x", docs...)
		requireRead(t, r, "Fdddd", docs...)
	})
	inBubble(t, "what is no UTF-8, from another process", func(t *testing.T) {
		node := startNode(t)
		o := documents
		o.Payload = fanfare.PayloadText
		node.Channel("x", o)
		binary, text := read(t, node, transport.Protobuf), read(t, node, transport.JSON)
		binary.subscribe("x", fossil)
		text.subscribe("x", fossil)
		long := strings.Repeat("long text ", 20)
		for _, data := range []string{long + "1", long + "\xff", long + "\xfe", long + "2", long + "3"} {
			node.PublishUnbounded(t.Context(), "x", []byte(data))
		}
		requireRead(t, binary, "Fdddd", long+"1", long+"\xff", long+"\xfe", long+"2", long+"3")
		require.Len(t, text.take("x"), 5) // and each of them could be read
	})
	inBubble(t, "JSON that is no UTF-8, from another process", func(t *testing.T) {
		node := startNode(t)
		node.Channel("x", documents)
		r := read(t, node, transport.JSON)
		r.subscribe("x", fossil)
		bad := strings.Replace(document(2), "ü", "\xc3?", 1)
		for _, data := range []string{document(1), bad, document(2), document(3)} {
			node.PublishUnbounded(t.Context(), "x", []byte(data))
		}
		requireRead(t, r, "FFFd", document(1), string([]rune(bad)), document(2), document(3))
	})
}
