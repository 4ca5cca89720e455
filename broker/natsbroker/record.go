package natsbroker

import (
	"errors"
	"math"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/fanfare-go/fanfare"
	"github.com/fanfare-go/fanfare/broker/internal/wire"
)

// kind is what a message is.
type kind uint64

const (
	kindPublication kind = 1 + iota // stored, with the state of its channel
	kindMarker                      // the state of a channel alone
	kindKey                         // an idempotency key; with the publication if that is not stored
	kindPassing                     // a publication that is not stored
	kindMembership
)

// message is whatever brokers send each other about a channel. It is written as Protobuf, so that nodes of different versions
// understand each other while an app is deployed.
type message struct {
	kind    kind
	state          // of publications and markers; of keys, the position, as epoch and top
	expires int64  // of keys, as state.time
	payload []byte // of package wire: the publication or the membership

	// What only the next record is made of is decoded by head. Not for append.
	packedLimits, packedMarks []byte
}

// Fields of the message. Numbers are never used again for something else.
const (
	fieldKind         protowire.Number = 1
	fieldEpoch        protowire.Number = 2
	fieldTop          protowire.Number = 3
	fieldTime         protowire.Number = 4
	fieldFloor        protowire.Number = 5
	fieldPurged       protowire.Number = 6
	fieldVersion      protowire.Number = 7
	fieldVersionEpoch protowire.Number = 8
	fieldLimits       protowire.Number = 9  // packed: upTo, age, …
	fieldMarks        protowire.Number = 10 // packed: offset, seq, time, …
	fieldExpires      protowire.Number = 11
	fieldPayload      protowire.Number = 15
)

var errMalformed = errors.New("natsbroker: malformed message")

func (m message) append(dst []byte) []byte {
	dst = appendNumber(dst, fieldKind, uint64(m.kind))
	dst = wire.AppendField(dst, fieldEpoch, m.epoch)
	dst = appendNumber(dst, fieldTop, m.top)
	dst = appendNumber(dst, fieldTime, uint64(m.time))
	dst = appendNumber(dst, fieldFloor, m.floor)
	dst = appendNumber(dst, fieldPurged, m.purged)
	dst = appendNumber(dst, fieldVersion, m.version)
	dst = wire.AppendField(dst, fieldVersionEpoch, m.versionEpoch)
	packed := make([]byte, 0, 128)
	for _, l := range m.limits {
		packed = protowire.AppendVarint(protowire.AppendVarint(packed, l.upTo), uint64(l.age))
	}
	dst = wire.AppendField(dst, fieldLimits, packed)
	packed = packed[:0]
	for _, k := range m.marks {
		packed = protowire.AppendVarint(protowire.AppendVarint(packed, k.offset), k.seq)
		packed = protowire.AppendVarint(packed, uint64(k.time))
	}
	dst = wire.AppendField(dst, fieldMarks, packed)
	dst = appendNumber(dst, fieldExpires, uint64(m.expires))
	return wire.AppendField(dst, fieldPayload, m.payload)
}

// parseMessage decodes what append made, but for the limits and marks. It keeps parts of data.
func parseMessage(data []byte) (m message, err error) {
	for len(data) > 0 {
		n, typ, size := protowire.ConsumeTag(data)
		if size < 0 {
			return message{}, errMalformed
		}
		data = data[size:]
		var number uint64
		var value []byte
		switch typ {
		case protowire.VarintType:
			number, size = protowire.ConsumeVarint(data)
		case protowire.BytesType:
			value, size = protowire.ConsumeBytes(data)
		default:
			size = protowire.ConsumeFieldValue(n, typ, data)
		}
		if size < 0 {
			return message{}, errMalformed
		}
		data = data[size:]
		if typ == protowire.VarintType {
			m.setNumber(n, number)
		} else {
			m.setBytes(n, value)
		}
	}
	if m.kind == 0 || m.time < 0 || m.expires < 0 || m.top == math.MaxUint64 || m.floor > m.top || m.purged > m.floor {
		return message{}, errMalformed
	}
	return m, nil
}

func (m *message) setNumber(n protowire.Number, value uint64) {
	switch n {
	case fieldKind:
		m.kind = kind(value)
	case fieldTop:
		m.top = value
	case fieldTime:
		m.time = int64(value)
	case fieldFloor:
		m.floor = value
	case fieldPurged:
		m.purged = value
	case fieldVersion:
		m.version = value
	case fieldExpires:
		m.expires = int64(value)
	}
}

func (m *message) setBytes(n protowire.Number, value []byte) {
	switch n {
	case fieldEpoch:
		m.epoch = string(value)
	case fieldVersionEpoch:
		m.versionEpoch = string(value)
	case fieldLimits:
		m.packedLimits = value
	case fieldMarks:
		m.packedMarks = value
	case fieldPayload:
		m.payload = value
	}
}

// isRecord reports whether the message has the state of its channel.
func (m message) isRecord() bool { return m.kind == kindPublication || m.kind == kindMarker }

// head returns the record that a message is, with its place in the stream.
func (m message) head(seq uint64) (head, error) {
	h := head{m.state, seq, m.kind == kindPublication}
	if !m.isRecord() {
		return head{}, errMalformed
	}
	err := unpack(m.packedLimits, func(v [2]uint64) { h.limits = append(h.limits, limit{v[0], int64(v[1])}) })
	if err == nil {
		err = unpack(m.packedMarks, func(v [3]uint64) { h.marks = append(h.marks, mark{v[0], v[1], int64(v[2])}) })
	}
	return h, err
}

// unpack calls f with the numbers of a packed field, some at a time.
func unpack[T [2]uint64 | [3]uint64](packed []byte, f func(T)) error {
	for len(packed) > 0 {
		var values T
		for i := range len(values) {
			v, size := protowire.ConsumeVarint(packed)
			if size < 0 {
				return errMalformed
			}
			values[i], packed = v, packed[size:]
		}
		f(values)
	}
	return nil
}

// publication returns the publication of a message, with its position.
func (m message) publication() (*fanfare.Publication, error) {
	p, err := wire.Publication(m.payload)
	if err != nil {
		return nil, err
	}
	if m.kind == kindPublication {
		p.Position = m.position()
	}
	return p, nil
}

// position is the top of the stream.
func (s state) position() fanfare.Position { return fanfare.Position{Offset: s.top, Epoch: s.epoch} }

func appendNumber(dst []byte, n protowire.Number, value uint64) []byte {
	if value == 0 {
		return dst
	}
	return protowire.AppendVarint(protowire.AppendTag(dst, n, protowire.VarintType), value)
}
