package fanfare_test

import (
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare"
	"github.com/fanfare-go/fanfare/internal/protocol"
	"github.com/fanfare-go/fanfare/transport"
)

// fossil is what clients ask for.
var fossil = order{delta: "fossil"}

// documents is a channel with history that offers deltas.
var documents = fanfare.ChannelOptions{Public: true, Delta: true, History: fanfare.History{Size: 5, TTL: time.Hour}}

// document is long enough for deltas to be worth it.
func document(n any) string {
	return fmt.Sprintf(`{"title":"Grüße: a rather long document title","rev":"%v","end":true}`, n)
}

func publishDocuments(t *testing.T, node *fanfare.Node, revs ...int) (texts []string) {
	t.Helper()
	for _, rev := range revs {
		texts = append(texts, document(rev))
		requirePublish(t, node, "x", document(rev))
	}
	return texts
}

// how says of each publication whether it was a delta.
func how(pubs []readPub) string {
	var b strings.Builder
	for _, p := range pubs {
		if p.delta {
			b.WriteString("d")
		} else {
			b.WriteString("F")
		}
	}
	return b.String()
}

func texts(pubs []readPub) (texts []string) {
	for _, p := range pubs {
		texts = append(texts, p.data)
	}
	return texts
}

// requireRead fails the test unless a client has got these documents, in this way.
func requireRead(t *testing.T, r *reader, ways string, want ...string) {
	t.Helper()
	got := r.take("x")
	require.Equal(t, want, texts(got))
	require.Equal(t, ways, how(got))
}

// The lines of spec 19.10.
func TestDelta_Spec19_10(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		node := startNode(t)
		node.Channel("doc", documents)
		r := read(t, node, transport.JSON)
		reply := r.subscribe("doc", fossil)
		title := `{"title":"a rather long document title","rev":`
		requirePublish(t, node, "doc", title+"1}", title+"2}")
		r.settle()
		require.Equal(t, []string{
			`{"id":2,"subscribe":{"recoverable":true,"positioned":true,"epoch":"` + reply.at.Epoch + `","delta":true}}`,
			`{"push":{"channel":"doc","pub":{"data":"{\"title\":\"a rather long document title\",\"rev\":1}","offset":1}}}`,
			`{"push":{"channel":"doc","pub":{"data":"l\nj@0,2:2}KJYlR;","offset":2,"delta":true}}}`,
		}, r.lines[1:])
	})
}

func TestDelta_Spec11_1_Negotiation(t *testing.T) {
	plainly := documents
	plainly.Delta = false
	inBothEncodings(t, "asked and offered", func(t *testing.T, e transport.Encoding) {
		node := startNode(t)
		node.Channel("x", documents)
		r := read(t, node, e)
		require.True(t, r.subscribe("x", fossil).delta)
		requireRead(t, r, "Fdd", publishDocuments(t, node, 1, 2, 3)...)
	})
	inBothEncodings(t, "asked and not offered", func(t *testing.T, e transport.Encoding) {
		node := startNode(t)
		node.Channel("x", plainly)
		r := read(t, node, e)
		require.False(t, r.subscribe("x", fossil).delta)
		requireRead(t, r, "FF", publishDocuments(t, node, 1, 2)...)
	})
	inBothEncodings(t, "offered and not asked", func(t *testing.T, e transport.Encoding) {
		node := startNode(t)
		node.Channel("x", documents)
		r := read(t, node, e)
		require.False(t, r.subscribe("x", order{}).delta)
		requireRead(t, r, "FF", publishDocuments(t, node, 1, 2)...)
		require.False(t, node.KeepsForDeltas("x"), "nobody takes deltas, so nothing is kept for them")
	})
	inBothEncodings(t, "with a filter it is declined", func(t *testing.T, e transport.Encoding) {
		node := startNode(t)
		both := documents
		both.TagsFilter = true
		node.Channel("x", both)
		r := read(t, node, e)
		reply := r.subscribe("x", order{delta: "fossil", filter: &protocol.FilterNode{Key: "k", Cmp: "nex"}})
		require.Zero(t, reply.code)
		require.False(t, reply.delta)
		requireRead(t, r, "FF", publishDocuments(t, node, 1, 2)...)
	})
	inBothEncodings(t, "the server's own never", func(t *testing.T, e transport.Encoding) {
		node := startNode(t, func(c *fanfare.Config) { c.Authenticate = nil })
		node.Channel("x", documents)
		r := read(t, node, e)
		require.NoError(t, node.Subscribe(t.Context(), "", "x", fanfare.SubscribeReply{}))
		requireRead(t, r, "FF", publishDocuments(t, node, 1, 2)...)
	})
	inBubble(t, "an unknown kind ends the connection", func(t *testing.T) {
		node := startNode(t)
		node.Channel("x", documents)
		r := read(t, node, transport.JSON)
		r.ask("x", order{delta: "xdelta"})
		r.settle()
		require.Equal(t, fanfare.DisconnectBadRequest.Code, r.closed)
	})
	inBothEncodings(t, "kept only while somebody takes them", func(t *testing.T, e transport.Encoding) {
		node := startNode(t)
		node.Channel("x", documents)
		plain, r := read(t, node, e), read(t, node, e)
		plain.subscribe("x", order{})
		r.subscribe("x", fossil)
		publishDocuments(t, node, 1)
		require.True(t, node.KeepsForDeltas("x"))
		r.unsubscribe("x")
		require.False(t, node.KeepsForDeltas("x"))
		requireRead(t, plain, "F", document(1))
	})
}

func TestDelta_KindsOfPayload(t *testing.T) {
	with := func(kind fanfare.Payload) fanfare.ChannelOptions {
		o := documents
		o.Payload = kind
		return o
	}
	inBubble(t, "text", func(t *testing.T) {
		node := startNode(t)
		node.Channel("x", with(fanfare.PayloadText))
		binary, text, plain := read(t, node, transport.Protobuf), read(t, node, transport.JSON), read(t, node, transport.JSON)
		binary.subscribe("x", fossil)
		text.subscribe("x", fossil)
		plain.subscribe("x", order{})
		var raw, literal []string
		for i := range 3 {
			raw = append(raw, fmt.Sprintf("<p class=\"a\">\n  Grüße %d\n  “and more”\t</p>\x00", i))
			literal = append(literal, string(protocol.AppendString(nil, raw[i])))
		}
		requirePublish(t, node, "x", raw...)
		requireRead(t, binary, "Fdd", raw...)
		requireRead(t, text, "Fdd", literal...) // the SDK parses what it has put together: a JSON string
		requireRead(t, plain, "FFF", literal...)
	})
	inBubble(t, "binary", func(t *testing.T) {
		node := startNode(t)
		node.Channel("x", with(fanfare.PayloadBinary))
		r := read(t, node, transport.Protobuf)
		r.subscribe("x", fossil)
		raw := []string{strings.Repeat("\x80\xff", 40), strings.Repeat("\x80\xff", 39) + "\x00", strings.Repeat("\xbf", 90)}
		requirePublish(t, node, "x", raw...)
		requireRead(t, r, "FdF", raw...)
		require.Equal(t, fanfare.ErrNotAvailable.Code, read(t, node, transport.JSON).subscribe("x", fossil).code)
	})
	inBubble(t, "JSON over several lines", func(t *testing.T) {
		node := startNode(t)
		node.Channel("x", documents)
		r := read(t, node, transport.JSON)
		r.subscribe("x", fossil)
		doc := func(n int) string {
			return fmt.Sprintf("{\r\n  \"title\": \"a rather long document title\",\n  \"rev\": %d\n}\n", n)
		}
		requirePublish(t, node, "x", doc(1), doc(2))
		requireRead(t, r, "Fd", doc(1), doc(2)) // byte by byte: in a string, no line feed has to go
	})
}

func TestDelta_CacheRecovery(t *testing.T) {
	for name, o := range map[string]order{"always": fossil, "asked": {recover: true, delta: "fossil"}} {
		inBothEncodings(t, name, func(t *testing.T, e transport.Encoding) {
			cache := documents
			cache.Recovery = fanfare.RecoveryCacheAlways
			if o.recover {
				cache.Recovery = fanfare.RecoveryCache
			}
			broker := &gatedBroker{fanfare.NewMemoryBroker(fanfare.MemoryBrokerConfig{}), make(chan struct{})}
			t.Cleanup(func() { require.NoError(t, broker.Close()) })
			node := startNode(t, func(c *fanfare.Config) { c.Broker = broker })
			node.Channel("x", cache)
			publishDocuments(t, node, 1, 2)
			r := read(t, node, e)
			id := r.ask("x", o)
			synctest.Wait()
			publishDocuments(t, node, 3, 4)
			close(broker.gate)
			synctest.Wait()
			publishDocuments(t, node, 5, 6)
			requireRead(t, r, "Fdd", document(4), document(5), document(6)) // spec 10.6: only the newest, then what follows it
			require.True(t, r.replies[id].recovered)
		})
	}
	inBothEncodings(t, "nothing new", func(t *testing.T, e transport.Encoding) {
		cache := documents
		cache.Recovery = fanfare.RecoveryCache
		node := startNode(t)
		node.Channel("x", cache)
		other, r := read(t, node, e), read(t, node, e)
		other.subscribe("x", fossil)
		top := requirePublish(t, node, "x", document(1))
		require.True(t, r.subscribe("x", order{recover: true, at: top, delta: "fossil"}).recovered)
		publishDocuments(t, node, 2, 3)
		requireRead(t, r, "Fd", document(2), document(3))
	})
}

// Dropping removes what the next delta builds on: with positions that ends the subscription, which then begins in full.
func TestDelta_SlowReader(t *testing.T) {
	inBothEncodings(t, "drop oldest", func(t *testing.T, e transport.Encoding) {
		o := documents
		o.History.Size = 1000
		o.SlowReader = fanfare.SlowReaderDropOldest
		node := startNode(t, func(c *fanfare.Config) { c.MaxQueueSize = 4000 })
		node.Channel("x", o)
		r := read(t, node, e)
		reply := r.subscribe("x", fossil)
		publishDocuments(t, node, 0)
		resume := r.stall()
		for i := range 200 {
			publishDocuments(t, node, i+1)
		}
		synctest.Wait()
		resume()
		before := r.take("x")
		require.Equal(t, []string{"x unsubscribe 2500"}, r.pushes)
		last := before[len(before)-1].offset
		require.Less(t, last, uint64(201))
		require.False(t, r.subscribe("x", order{recover: true, at: fanfare.Position{Offset: last, Epoch: reply.at.Epoch}, delta: "fossil"}).recovered, "too much for the queue")
		publishDocuments(t, node, 201, 202)
		requireRead(t, r, "Fd", document(201), document(202))
	})
	for name, o := range map[string]fanfare.ChannelOptions{
		"latest":              {SlowReader: fanfare.SlowReaderKeepLatest},
		"latest of a cache":   {SlowReader: fanfare.SlowReaderKeepLatest, History: documents.History, Recovery: fanfare.RecoveryCache},
		"oldest":              {SlowReader: fanfare.SlowReaderDropOldest},
		"oldest, on request":  {SlowReader: fanfare.SlowReaderDropOldest, History: documents.History, Recovery: fanfare.RecoveryOnRequest},
		"oldest, no recovery": {SlowReader: fanfare.SlowReaderDropOldest, History: documents.History, Recovery: fanfare.RecoveryOff},
	} {
		o.Delta = true
		t.Run(name+" is refused", func(t *testing.T) {
			message := requirePanic(t, func() { startNode(t).Channel("x", o) })
			require.Contains(t, message, "Delta")
			require.Contains(t, message, "SlowReader")
		})
	}
}

// Many clients of all kinds come, go and recover while documents are edited: whatever way each document takes, all see the
// same ones.
func TestDelta_EveryoneSeesTheSame(t *testing.T) {
	for seed := range uint64(6) {
		inBubble(t, strconv.Itoa(int(seed)), func(t *testing.T) { everyoneSeesTheSame(t, rand.New(rand.NewPCG(seed, 5))) })
	}
}

func everyoneSeesTheSame(t *testing.T, rng *rand.Rand) {
	o := documents
	o.History.Size = 30
	observer := &tally{}
	node := startNode(t, func(c *fanfare.Config) { c.Observer = observer })
	node.Channel("x", o)
	type member struct {
		*reader
		here bool
		seen uint64
	}
	var members []*member
	for i := range 60 { // more than a publisher serves itself, so that some of what is published is joined
		e := []transport.Encoding{transport.JSON, transport.Protobuf}[i%2]
		members = append(members, &member{reader: read(t, node, e)})
	}
	docs := []string{}
	doc := []rune(document(0) + strings.Repeat("äöü🎈 and so on ", 10))
	ways := map[string]int{}
	for range 60 {
		for range rng.IntN(8) {
			i := rng.IntN(len(doc))
			doc = append(append(append([]rune{}, doc[:i]...), []rune([]string{"é", "è", "漢", "🎉", "x"}[rng.IntN(5)])...), doc[min(len(doc), i+rng.IntN(3)):]...)
			docs = append(docs, string(protocol.AppendString(nil, string(doc))))
			requirePublish(t, node, "x", docs[len(docs)-1])
		}
		if rng.IntN(3) > 0 {
			continue
		}
		for _, m := range members {
			switch {
			case m.here:
				got := m.take("x")
				for _, p := range got {
					m.seen++
					require.Equal(t, m.seen, p.offset)
					require.Equal(t, docs[m.seen-1], p.data)
				}
				for _, w := range how(got) {
					ways[string(w)]++
				}
				require.EqualValues(t, len(docs), m.seen)
				if rng.IntN(4) == 0 {
					m.here = false
					m.unsubscribe("x")
				}
			case rng.IntN(2) == 0:
				ask := order{recover: true, at: fanfare.Position{Offset: m.seen}}
				if rng.IntN(4) > 0 {
					ask.delta = "fossil"
				}
				reply := m.subscribe("x", ask)
				m.here = true
				if !reply.recovered {
					m.seen = reply.at.Offset
				}
			}
		}
	}
	require.Greater(t, ways["d"], ways["F"], "hardly any deltas")
}
