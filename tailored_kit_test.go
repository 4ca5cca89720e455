package fanfare_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"sync"
	"testing"
	"testing/synctest"

	fdelta "github.com/shadowspore/fossil-delta"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/fanfare-go/fanfare"
	"github.com/fanfare-go/fanfare/internal/protocol"
	"github.com/fanfare-go/fanfare/transport"
)

// reader is a client of either encoding, in memory, that takes what subscriptions may ask for: deltas and filters. It reads deltas
// as the SDKs do, with a library, and fails the test where those would stop.
type reader struct {
	t        *testing.T
	encoding transport.Encoding
	session  transport.Session
	ids      uint32

	mu     sync.Mutex    // guards below
	buf    []byte        // not read yet
	closed uint32        // code, once the server has closed the connection
	gate   chan struct{} // takes nothing until it is closed, if it is not nil

	channels map[string]*readerSub
	lines    []string          // everything, in JSON
	pushes   []string          // others than publications
	asks     map[uint32]string // channels, by id
	replies  map[uint32]asked
}

// readerSub is what a client knows of a subscription.
type readerSub struct {
	delta bool   // negotiated
	base  []byte // what the next delta is to
	got   []readPub
}

// readPub is a publication as the app sees it, and how it came.
type readPub struct {
	data   string
	offset uint64
	delta  bool
	wire   int // bytes of the payload
}

// asked is the reply to a subscribe.
type asked struct {
	code      uint32 // of the error
	delta     bool
	recovered bool
	was       bool
	at        fanfare.Position
}

// order is what a client asks for.
type order struct {
	recover bool
	at      fanfare.Position
	delta   string
	filter  *protocol.FilterNode
}

var (
	_ transport.Conn      = (*reader)(nil)
	_ transport.TryWriter = (*reader)(nil)
)

func (r *reader) Info() transport.Info {
	info := transport.Info{Name: "reader", Encoding: r.encoding, Framing: linePerMessage{}}
	if r.encoding == transport.Protobuf {
		info.Framing = lengthPerMessage{}
	}
	return info
}

// lengthPerMessage puts its length before each message.
type lengthPerMessage struct{}

func (lengthPerMessage) AppendFrame(dst []byte, messages ...[]byte) []byte {
	for _, m := range messages {
		dst = protowire.AppendBytes(dst, m)
	}
	return dst
}

func (r *reader) TryWrite(frames []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.gate != nil {
		return 0, nil
	}
	r.buf = append(r.buf, frames...)
	return len(frames), nil
}

func (r *reader) Write(frames []byte) error {
	r.mu.Lock()
	gate := r.gate
	r.mu.Unlock()
	if gate != nil {
		<-gate
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.buf = append(r.buf, frames...)
	return nil
}

// stall makes the client take nothing until resume is called.
func (r *reader) stall() (resume func()) {
	gate := make(chan struct{})
	r.mu.Lock()
	defer r.mu.Unlock()
	r.gate = gate
	return func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.gate = nil
		close(gate)
	}
}

func (r *reader) Close(code uint32, _ string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.closed = max(code, 1)
	return nil
}

func (r *reader) Name() string { return "reader" }

func (r *reader) Serve(_ http.ResponseWriter, req *http.Request, a transport.Acceptor) {
	var err error
	r.session, err = a.Accept(req, r)
	require.NoError(r.t, err)
}

// read connects a reader. It works in a bubble only.
func read(t *testing.T, node *fanfare.Node, encoding transport.Encoding) *reader {
	t.Helper()
	r := &reader{t: t, encoding: encoding, channels: make(map[string]*readerSub), replies: make(map[uint32]asked), asks: make(map[uint32]string)}
	node.Handler(r).ServeHTTP(nil, &http.Request{})
	t.Cleanup(func() { r.session.Closed(nil) })
	r.command("connect", protoConnect, object{})
	r.settle()
	return r
}

// object is a request: JSON members, and Protobuf fields.
type object struct{ json, proto []byte }

func (o *object) text(name string, num protowire.Number, v string) {
	if v != "" {
		o.json = fmt.Appendf(o.json, ",%q:%s", name, protocol.AppendString(nil, v))
		o.proto = protowire.AppendString(protowire.AppendTag(o.proto, num, protowire.BytesType), v)
	}
}

func (o *object) number(name string, num protowire.Number, v uint64) {
	if v != 0 {
		o.json = fmt.Appendf(o.json, ",%q:%d", name, v)
		o.proto = protowire.AppendVarint(protowire.AppendTag(o.proto, num, protowire.VarintType), v)
	}
}

func (o *object) flag(name string, num protowire.Number, v bool) {
	if v {
		o.json = fmt.Appendf(o.json, ",%q:true", name)
		o.proto = protowire.AppendVarint(protowire.AppendTag(o.proto, num, protowire.VarintType), 1)
	}
}

func (o *object) nested(name string, num protowire.Number, v object) {
	o.json = fmt.Appendf(o.json, ",%q:%s", name, v.asJSON())
	o.proto = protowire.AppendBytes(protowire.AppendTag(o.proto, num, protowire.BytesType), v.proto)
}

func (o *object) asJSON() []byte {
	if len(o.json) == 0 {
		return []byte("{}")
	}
	return fmt.Appendf(nil, "{%s}", o.json[1:])
}

func filterObject(n *protocol.FilterNode) (o object) {
	o.text("op", 1, n.Op)
	o.text("key", 2, n.Key)
	o.text("cmp", 3, n.Cmp)
	o.text("val", 4, n.Val)
	var vals, nodes []json.RawMessage
	for _, v := range n.Vals {
		vals = append(vals, protocol.AppendString(nil, v))
		o.proto = protowire.AppendString(protowire.AppendTag(o.proto, 5, protowire.BytesType), v)
	}
	for _, child := range n.Nodes {
		c := filterObject(child)
		nodes = append(nodes, c.asJSON())
		o.proto = protowire.AppendBytes(protowire.AppendTag(o.proto, 6, protowire.BytesType), c.proto)
	}
	for name, list := range map[string][]json.RawMessage{"vals": vals, "nodes": nodes} {
		if list != nil {
			data, _ := json.Marshal(list)
			o.json = fmt.Appendf(o.json, ",%q:%s", name, data)
		}
	}
	return o
}

func (r *reader) command(name string, num protowire.Number, request object) {
	r.t.Helper()
	r.ids++
	var c object
	c.number("id", 1, uint64(r.ids))
	c.nested(name, num, request)
	frame := c.asJSON()
	if r.encoding == transport.Protobuf {
		frame = protowire.AppendBytes(nil, c.proto)
	}
	require.NoError(r.t, r.session.Receive(frame))
}

// ask sends a subscribe, without waiting for anything.
func (r *reader) ask(channel string, o order) (id uint32) {
	r.t.Helper()
	var s object
	s.text("channel", 1, channel)
	s.flag("recover", 3, o.recover)
	s.text("epoch", 6, o.at.Epoch)
	s.number("offset", 7, o.at.Offset)
	s.text("delta", 12, o.delta)
	if o.filter != nil {
		s.nested("tf", 13, filterObject(o.filter))
	}
	// As in the SDKs, what is known of the payload outlives the subscription.
	if r.channels[channel] == nil {
		r.channels[channel] = &readerSub{}
	}
	r.asks[r.ids+1] = channel
	r.command("subscribe", protoSubscribe, s)
	return r.ids
}

// subscribe subscribes and returns the reply.
func (r *reader) subscribe(channel string, o order) asked {
	r.t.Helper()
	id := r.ask(channel, o)
	r.settle()
	reply, came := r.replies[id]
	require.True(r.t, came, "no reply")
	return reply
}

func (r *reader) unsubscribe(channel string) {
	r.t.Helper()
	var u object
	u.text("channel", 1, channel)
	r.command("unsubscribe", 6, u)
	r.settle()
}

// take returns the publications of a channel that came since the last call, once nothing moves any more.
func (r *reader) take(channel string) []readPub {
	r.t.Helper()
	r.settle()
	s := r.channels[channel]
	got := s.got
	s.got = nil
	return got
}

// texts returns what take does, as an app sees it.
func (r *reader) texts(channel string) (texts []string) {
	r.t.Helper()
	for _, p := range r.take(channel) {
		texts = append(texts, p.data)
	}
	return texts
}

// settle reads what has come when nothing moves any more.
func (r *reader) settle() {
	r.t.Helper()
	synctest.Wait()
	r.mu.Lock()
	buf := r.buf
	r.buf = nil
	r.mu.Unlock()
	for len(buf) > 0 {
		var reply wireReply
		if r.encoding == transport.Protobuf {
			m, n := protowire.ConsumeBytes(buf)
			require.Positive(r.t, n)
			buf = buf[n:]
			reply = parseProtoReply(r.t, m)
		} else {
			var line []byte
			for i, c := range buf {
				if c == '\n' {
					line, buf = buf[:i], buf[i+1:]
					break
				}
			}
			require.NoError(r.t, json.Unmarshal(line, &reply), "%s", line)
			r.lines = append(r.lines, string(line))
		}
		r.handle(&reply)
	}
}

// wireReply is what of a reply matters here.
type wireReply struct {
	ID    uint32
	Error *struct{ Code uint32 }
	Push  *struct {
		Channel     string
		Pub         *wirePub
		Unsubscribe *struct{ Code uint32 }
	}
	Subscribe *struct {
		Epoch         string
		Offset        uint64
		Recovered     bool
		WasRecovering bool `json:"was_recovering"`
		Delta         bool
		Publications  []*wirePub
	}
}

type wirePub struct {
	Data   json.RawMessage
	Offset uint64
	Delta  bool
}

func (r *reader) handle(m *wireReply) {
	r.t.Helper()
	switch {
	case m.Push != nil && m.Push.Pub != nil:
		s := r.channels[m.Push.Channel]
		if s == nil { // made by the server
			s = &readerSub{}
			r.channels[m.Push.Channel] = s
		}
		r.publication(s, m.Push.Pub)
	case m.Push != nil && m.Push.Unsubscribe != nil:
		r.pushes = append(r.pushes, fmt.Sprintf("%s unsubscribe %d", m.Push.Channel, m.Push.Unsubscribe.Code))
	case m.Error != nil:
		r.replies[m.ID] = asked{code: m.Error.Code}
	case m.Subscribe != nil:
		a := m.Subscribe
		r.replies[m.ID] = asked{delta: a.Delta, recovered: a.Recovered, was: a.WasRecovering, at: fanfare.Position{Offset: a.Offset, Epoch: a.Epoch}}
		s := r.channels[r.asks[m.ID]]
		s.delta = a.Delta
		for _, p := range a.Publications {
			r.publication(s, p)
		}
	}
}

// publication does what the SDKs do (spec 11.2).
func (r *reader) publication(s *readerSub, p *wirePub) {
	r.t.Helper()
	data := []byte(p.Data)
	if s.delta && r.encoding == transport.JSON {
		var text string
		require.NoError(r.t, json.Unmarshal(p.Data, &text), "data is no string: %s", p.Data)
		data = []byte(text)
	}
	wire := len(data)
	if p.Delta {
		require.True(r.t, s.delta, "a delta that nobody asked for")
		require.NotNil(r.t, s.base, "a delta to nothing")
		var err error
		data, err = fdelta.Apply(s.base, data)
		require.NoError(r.t, err, "%s", p.Data)
		require.Less(r.t, wire, len(data))
	}
	s.base = data
	text := string(data)
	if r.encoding == transport.JSON {
		require.True(r.t, json.Valid(data), "the SDK parses this: %s", data)
	}
	s.got = append(s.got, readPub{text, p.Offset, p.Delta, wire})
}

func parseProtoReply(t *testing.T, m []byte) (r wireReply) {
	t.Helper()
	eachField(t, m, func(num protowire.Number, n uint64, b []byte) {
		switch num {
		case 1:
			r.ID = uint32(n)
		case 2:
			r.Error = &struct{ Code uint32 }{}
			eachField(t, b, func(num protowire.Number, n uint64, _ []byte) {
				if num == 1 {
					r.Error.Code = uint32(n)
				}
			})
		case 4:
			r.Push = &struct {
				Channel     string
				Pub         *wirePub
				Unsubscribe *struct{ Code uint32 }
			}{}
			eachField(t, b, func(num protowire.Number, _ uint64, b []byte) {
				switch num {
				case 2:
					r.Push.Channel = string(b)
				case 4:
					r.Push.Pub = parseProtoPub(t, b)
				case 7:
					r.Push.Unsubscribe = &struct{ Code uint32 }{}
					eachField(t, b, func(num protowire.Number, n uint64, _ []byte) {
						if num == 2 {
							r.Push.Unsubscribe.Code = uint32(n)
						}
					})
				}
			})
		case 6:
			r.Subscribe = &struct {
				Epoch         string
				Offset        uint64
				Recovered     bool
				WasRecovering bool `json:"was_recovering"`
				Delta         bool
				Publications  []*wirePub
			}{}
			s := r.Subscribe
			eachField(t, b, func(num protowire.Number, n uint64, b []byte) {
				switch num {
				case 6:
					s.Epoch = string(b)
				case 7:
					s.Publications = append(s.Publications, parseProtoPub(t, b))
				case 8:
					s.Recovered = n > 0
				case 9:
					s.Offset = n
				case 12:
					s.WasRecovering = n > 0
				case 13:
					s.Delta = n > 0
				}
			})
		}
	})
	return r
}

func parseProtoPub(t *testing.T, m []byte) *wirePub {
	t.Helper()
	p := &wirePub{}
	eachField(t, m, func(num protowire.Number, n uint64, b []byte) {
		switch num {
		case 4:
			p.Data = b
		case 6:
			p.Offset = n
		case 8:
			p.Delta = n > 0
		}
	})
	return p
}

func eachField(t *testing.T, m []byte, f func(num protowire.Number, n uint64, b []byte)) {
	t.Helper()
	for len(m) > 0 {
		num, typ, n := protowire.ConsumeTag(m)
		require.Positive(t, n)
		m = m[n:]
		switch typ {
		case protowire.VarintType:
			v, n := protowire.ConsumeVarint(m)
			require.Positive(t, n)
			m = m[n:]
			f(num, v, nil)
		case protowire.BytesType:
			b, n := protowire.ConsumeBytes(m)
			require.Positive(t, n)
			m = m[n:]
			f(num, 0, b)
		default:
			require.Fail(t, "wire type", "%v", typ)
		}
	}
}

// inBothEncodings runs a test in a bubble for each encoding.
func inBothEncodings(t *testing.T, name string, f func(t *testing.T, encoding transport.Encoding)) {
	t.Helper()
	for _, e := range []struct {
		name     string
		encoding transport.Encoding
	}{{"JSON", transport.JSON}, {"Protobuf", transport.Protobuf}} {
		inBubble(t, name+"/"+e.name, func(t *testing.T) { f(t, e.encoding) })
	}
}
