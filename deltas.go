package fanfare

import (
	"sync"
	"unicode/utf8"

	"github.com/fanfare-go/fanfare/internal/delta"
	"github.com/fanfare-go/fanfare/internal/protocol"
	"github.com/fanfare-go/fanfare/transport"
)

// look is how a subscription gets a publication, or the first one of a batch.
type look uint8

const (
	plain   look = iota
	inFull       // to those that take deltas, whole
	asDelta      // to those whose last publication was the one before

	mixed // some of a batch pass the subscription's filter, and some do not
	none  // none of them does
)

// payloadForms is how many forms payloads have that deltas are taken of: see [formOf].
const payloadForms = 2

// formOf says what clients make of deltas: the bytes of the publication (0), or the JSON value that they stand for (1). The SDKs
// parse what they have put together as JSON on JSON connections, and only data of [PayloadText] is none by itself.
func formOf(kind Payload, e transport.Encoding) int {
	if kind == PayloadText && e == transport.JSON {
		return 1
	}
	return 0
}

// content is a publication's payload, for those who take deltas.
type content struct {
	p   *Publication
	seq uint64 // of the message in the room; 0 if it is from history

	mu    sync.Mutex // guards below
	forms [payloadForms]quotable
}

// quotable is data, and the JSON string that holds it: both are made when they are first asked for.
type quotable struct{ data, quoted []byte }

func (q *quotable) asString() []byte {
	if q.quoted == nil {
		q.quoted = protocol.AppendString(make([]byte, 0, len(q.data)+len(q.data)/8+2), q.data)
	}
	return q.quoted
}

// data is the payload in a form.
func (c *content) data(form int) []byte {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.dataLocked(form)
}

func (c *content) dataLocked(form int) []byte {
	f := &c.forms[form]
	if f.data == nil {
		f.data = c.p.Data
		if form == 1 {
			f.data = protocol.AppendString(make([]byte, 0, len(c.p.Data)+2), c.p.Data)
		}
	}
	return f.data
}

// quoted is the payload in a form, as a JSON string.
func (c *content) quoted(form int) []byte {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.dataLocked(form)
	return c.forms[form].asString()
}

// edit is the step from one publication of a channel to the next. What it takes is made once, when the first subscription asks
// for it, and shared by all of them.
type edit struct {
	base   *content // nil if nobody can have the one before
	target *content

	mu       sync.Mutex // guards below
	deltas   [payloadForms]quotable
	compared [payloadForms]bool
	messages [][]byte // by wire form, kind of payload, and whether it is a delta
	frames   [][]byte
}

// delta returns the delta in a form, or nil if the payload must go in full. The lock is held.
func (e *edit) delta(form int, enc transport.Encoding) *quotable {
	if e.base == nil {
		return nil
	}
	d := &e.deltas[form]
	base, target := e.base.data(form), e.target.data(form)
	if !e.compared[form] {
		e.compared[form] = true
		d.data = delta.Create(base, target)
	}
	// What is not UTF-8 does not survive a JSON string, neither as a delta nor as its base (spec 11.2, rule 6). Node.Publish refuses
	// it; but other processes publish, too.
	if d.data == nil || enc == transport.JSON && !(utf8.Valid(d.data) && utf8.Valid(base) && utf8.Valid(target)) {
		return nil
	}
	return d
}

// publication is the target as a client gets it (spec 11.2).
func (e *edit) publication(kind Payload, enc transport.Encoding, l look) *protocol.Publication {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.publicationLocked(kind, enc, l)
}

func (e *edit) publicationLocked(kind Payload, enc transport.Encoding, l look) *protocol.Publication {
	w, form := wireEnvelope(e.target.p), formOf(kind, enc)
	var d *quotable
	if l == asDelta {
		d = e.delta(form, enc)
	}
	switch {
	case d != nil && enc == transport.JSON:
		w.Data, w.Delta = d.asString(), true
	case d != nil:
		w.Data, w.Delta = d.data, true
	case enc == transport.JSON:
		w.Data = e.target.quoted(form)
	}
	return w
}

// message is the encoded push.
func (e *edit) message(s *subscription, l look) []byte {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.messageLocked(s, l)
}

func (e *edit) messageLocked(s *subscription, l look) []byte {
	return cached(&e.messages, editKey(s, l), func() []byte {
		w := e.publicationLocked(s.declared.options.Payload, s.client.info.Encoding, l)
		return s.client.appendPush(nil, &protocol.Push{Channel: s.channel, Pub: w})
	})
}

// frame is the message in a frame of its own.
func (e *edit) frame(s *subscription, l look) []byte {
	e.mu.Lock()
	defer e.mu.Unlock()
	return cached(&e.frames, editKey(s, l), func() []byte { return s.client.frame(e.messageLocked(s, l)) })
}

// editKey numbers the ways in which a publication may look to subscriptions that take deltas.
func editKey(s *subscription, l look) int { return formKey(s)*2 + int(l-inFull) }

// editCache keeps the steps between publications that were read from history, for those who recover them at about the same
// time.
type editCache struct {
	mu    sync.Mutex // guards below
	edits map[*Publication]*edit
}

// maxCachedEdits bounds a cache. A recovery has [Config.MaxRecovered] of them.
const maxCachedEdits = 1000

// step returns the edit from one publication to another. The cache may be nil.
func (c *editCache) step(from, to *Publication) *edit {
	fresh := &edit{target: &content{p: to}}
	if from != nil {
		fresh.base = &content{p: from}
	}
	if c == nil || from == nil {
		return fresh
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if e := c.edits[to]; e != nil && e.base.p == from {
		return e
	}
	if len(c.edits) < maxCachedEdits {
		if c.edits == nil {
			c.edits = make(map[*Publication]*edit)
		}
		c.edits[to] = fresh
	}
	return fresh
}

// wireEdits are recovered publications for a client that takes deltas: the first in full, since nobody knows what it still has
// (spec 11.2, rules 2 and 3), and the others against the one before.
func (c *Client) wireEdits(kind Payload, pubs []*Publication, cache *editCache) []*protocol.Publication {
	var out []*protocol.Publication
	l, before := inFull, (*Publication)(nil)
	for _, p := range pubs {
		out = append(out, cache.step(before, p).publication(kind, c.info.Encoding, l))
		l, before = asDelta, p
	}
	return out
}
