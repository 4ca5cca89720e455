// Package cursor is the token in which a reader without a protocol of its own keeps where it stands: the positions of all its
// channels in one opaque text, which fits an SSE id, a header, and a query without escaping.
package cursor

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"hash/fnv"
)

var (
	// ErrMalformed says that a text is no cursor, or part of one.
	ErrMalformed = errors.New("malformed cursor")
	// ErrVersion says that a cursor was made by a version with another form.
	ErrVersion = errors.New("cursor of another version")
)

const (
	// MaxLength bounds cursors, in bytes. 128 channels whose names are in the request take some 4,000.
	MaxLength = 32 << 10
	// maxRaw is what that is before it is text.
	maxRaw = MaxLength/4*3 - 4
	// maxEpoch bounds epochs, in bytes: a UUID has 36.
	maxEpoch = 64
)

// A cursor begins with a checksum of everything behind it, in every version: then comes the version, and then the entries.
const (
	version = 1
	header  = crc32.Size + 1
)

// Kinds of entries.
const (
	hashed  = iota // the channel is eight bytes of hash: its name is in the request anyway
	named          // the channel is a length and a name: nobody asked for it, the server subscribed it
	omitted        // instead of the entries that did not fit
)

var checksum = crc32.MakeTable(crc32.Castagnoli)

// Entry is the position in one channel.
type Entry struct {
	Channel string
	Named   bool // the name is part of the cursor
	Offset  uint64
	Epoch   string

	hash uint64 // of the channel, once it was needed
}

// Encoder makes cursors. It keeps its buffers for the next one, so it is not safe for concurrent use. The zero value is ready.
type Encoder struct{ raw []byte }

// Append appends the cursor of some entries, and returns the extended buffer. It completes the entries in place.
func (e *Encoder) Append(dst []byte, entries []Entry) []byte {
	raw := append(e.raw[:0], 0, 0, 0, 0, version)
	partial := false
	for i := range entries {
		whole := len(raw)
		if raw = entries[i].append(raw); len(raw) > maxRaw-1 || len(entries[i].Epoch) > maxEpoch {
			raw, partial = raw[:whole], true
		}
	}
	if partial {
		raw = append(raw, omitted)
	}
	binary.BigEndian.PutUint32(raw, crc32.Checksum(raw[crc32.Size:], checksum))
	e.raw = raw
	return base64.RawURLEncoding.AppendEncode(dst, raw)
}

func (e *Entry) append(dst []byte) []byte {
	if e.Named {
		dst = binary.AppendUvarint(append(dst, named), uint64(len(e.Channel)))
		dst = append(dst, e.Channel...)
	} else {
		if e.hash == 0 {
			e.hash = hash(e.Channel)
		}
		dst = binary.BigEndian.AppendUint64(append(dst, hashed), e.hash)
	}
	dst = binary.AppendUvarint(dst, e.Offset)
	dst = binary.AppendUvarint(dst, uint64(len(e.Epoch)))
	return append(dst, e.Epoch...)
}

// hash needs to tell the channels of one reader apart. Who makes two of them collide gets gaps in them.
func hash(channel string) uint64 {
	h := fnv.New64a()
	_, _ = h.Write([]byte(channel))
	return h.Sum64()
}

// Cursor is a cursor that was read. The zero value holds no positions.
type Cursor struct {
	hashed  map[uint64]Entry
	named   map[string]Entry
	partial bool
}

// Partial reports whether there was no room for all positions: those that are missing are lost.
func (c *Cursor) Partial() bool { return c.partial }

// Parse reads a cursor. It returns an error that wraps [ErrMalformed] or [ErrVersion].
func Parse(token string) (Cursor, error) {
	if len(token) > MaxLength {
		return Cursor{}, ErrMalformed
	}
	raw, err := base64.RawURLEncoding.Strict().DecodeString(token)
	switch {
	case err != nil || len(raw) < header:
		return Cursor{}, ErrMalformed
	case binary.BigEndian.Uint32(raw) != crc32.Checksum(raw[crc32.Size:], checksum):
		return Cursor{}, ErrMalformed
	case raw[crc32.Size] != version:
		return Cursor{}, ErrVersion
	}
	c := Cursor{hashed: make(map[uint64]Entry), named: make(map[string]Entry)}
	for r := (reader{rest: raw[header:]}); len(r.rest) > 0; {
		if !c.read(&r) {
			return Cursor{}, ErrMalformed
		}
	}
	return c, nil
}

func (c *Cursor) read(r *reader) bool {
	var e Entry
	kind := r.take(1)
	switch {
	case r.failed:
	case kind[0] == hashed:
		if b := r.take(8); !r.failed {
			e.hash = binary.BigEndian.Uint64(b)
		}
	case kind[0] == named:
		e.Named, e.Channel = true, r.text()
	case kind[0] == omitted:
		c.partial = true
		return true
	default:
		return false
	}
	e.Offset = r.uvarint()
	e.Epoch = r.text()
	if r.failed || len(e.Epoch) > maxEpoch {
		return false
	}
	if e.Named {
		c.named[e.Channel] = e
	} else {
		c.hashed[e.hash] = e
	}
	return true
}

// Lookup returns the position in a channel, if the cursor has one.
func (c *Cursor) Lookup(channel string) (Entry, bool) {
	if e, ok := c.named[channel]; ok {
		return e, true
	}
	e, ok := c.hashed[hash(channel)]
	e.Channel = channel
	return e, ok
}

// Named returns the positions in channels whose names are part of the cursor.
func (c *Cursor) Named() map[string]Entry { return c.named }

// reader takes a cursor apart. After a failure it returns nothing more.
type reader struct {
	rest   []byte
	failed bool
}

func (r *reader) take(n uint64) []byte {
	if r.failed || n > uint64(len(r.rest)) {
		r.failed = true
		return nil
	}
	b := r.rest[:n]
	r.rest = r.rest[n:]
	return b
}

func (r *reader) uvarint() uint64 {
	v, n := binary.Uvarint(r.rest)
	if n <= 0 {
		r.failed = true
		return 0
	}
	r.rest = r.rest[n:]
	return v
}

func (r *reader) text() string {
	return string(bytes.ToValidUTF8(r.take(r.uvarint()), []byte("\uFFFD")))
}
