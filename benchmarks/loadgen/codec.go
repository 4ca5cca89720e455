//go:build linux

package main

import (
	"bytes"
	"encoding/binary"
	"errors"
	"strconv"
)

// event is what the load generator needs to know of one server message.
type event struct {
	kind       eventKind
	recovered  bool
	missed     int // publications inside a subscribe reply
	offset     uint64
	epoch      []byte
	payload    []byte // publication data
	errMessage []byte
}

type eventKind uint8

const (
	evOther eventKind = iota
	evPing
	evConnected
	evSubscribed
	evPublication
	evError
)

// subscribeArgs are the parts of a subscribe command that the modes vary.
type subscribeArgs struct {
	channel string
	recover bool
	offset  uint64
	epoch   string
}

// codec writes commands and reads replies in one of the protocol's encodings.
// It looks only at the fields that the load generator uses, so that the client
// side stays cheap.
type codec interface {
	opcode() byte
	query() string
	hello(sub subscribeArgs) []byte
	pong() []byte
	// next splits the first message off a frame.
	next(frame []byte) (ev event, rest []byte, err error)
}

type jsonCodec struct{}

func (jsonCodec) opcode() byte  { return 0x1 }
func (jsonCodec) query() string { return "" }
func (jsonCodec) pong() []byte  { return []byte("{}") }

func (jsonCodec) hello(sub subscribeArgs) []byte {
	b := []byte(`{"id":1,"connect":{}}`)
	b = append(b, "\n{\"id\":2,\"subscribe\":{\"channel\":"...)
	b = strconv.AppendQuote(b, sub.channel)
	if sub.recover {
		b = append(b, `,"recover":true,"epoch":`...)
		b = strconv.AppendQuote(b, sub.epoch)
		b = append(b, `,"offset":`...)
		b = strconv.AppendUint(b, sub.offset, 10)
	}
	return append(b, "}}"...)
}

var (
	jsonPush    = []byte(`{"push":`)
	jsonID1     = []byte(`{"id":1,`)
	jsonID2     = []byte(`{"id":2,`)
	jsonError   = []byte(`"error":{`)
	jsonPub     = []byte(`"pub":{`)
	jsonData    = []byte(`"data":`)
	jsonOffset  = []byte(`"offset":`)
	jsonEpoch   = []byte(`"epoch":"`)
	jsonRecover = []byte(`"recovered":true`)
)

func (jsonCodec) next(frame []byte) (ev event, rest []byte, err error) {
	msg := frame
	if i := bytes.IndexByte(frame, '\n'); i >= 0 {
		msg, rest = frame[:i], frame[i+1:]
	}
	switch {
	case bytes.HasPrefix(msg, jsonPush):
		if i := bytes.Index(msg, jsonPub); i >= 0 {
			ev.kind = evPublication
			ev.payload = msg[i:]
		}
	case len(msg) == 2:
		ev.kind = evPing
	case bytes.HasPrefix(msg, jsonID1):
		ev.kind = evConnected
		if bytes.Contains(msg, jsonError) {
			ev.kind, ev.errMessage = evError, msg
		}
	case bytes.HasPrefix(msg, jsonID2):
		ev.kind = evSubscribed
		if bytes.HasPrefix(msg[len(jsonID2):], jsonError) {
			ev.kind, ev.errMessage = evError, msg
			break
		}
		ev.recovered = bytes.Contains(msg, jsonRecover)
		ev.missed = bytes.Count(msg, jsonData)
		if i := bytes.Index(msg, jsonEpoch); i >= 0 {
			e := msg[i+len(jsonEpoch):]
			if j := bytes.IndexByte(e, '"'); j >= 0 {
				ev.epoch = e[:j]
			}
		}
		if i := bytes.LastIndex(msg, jsonOffset); i >= 0 {
			ev.offset, _ = leadingUint(msg[i+len(jsonOffset):])
		}
	}
	return ev, rest, nil
}

// leadingUint reads the decimal digits at the start of b.
func leadingUint(b []byte) (v uint64, n int) {
	for n < len(b) && b[n] >= '0' && b[n] <= '9' {
		v = v*10 + uint64(b[n]-'0')
		n++
	}
	return v, n
}

type protobufCodec struct{}

func (protobufCodec) opcode() byte  { return 0x2 }
func (protobufCodec) query() string { return "format=protobuf" }
func (protobufCodec) pong() []byte  { return []byte{0} }

// Field numbers of the client protocol that are used here.
const (
	fieldCommandID = 1
	fieldConnect   = 4 // in Command
	fieldSubscribe = 5 // in Command

	fieldReplyID        = 1
	fieldReplyError     = 2
	fieldReplyPush      = 4
	fieldReplyConnect   = 5
	fieldReplySubscribe = 6

	fieldPushPub = 4
	fieldPubData = 4

	fieldSubChannel = 1
	fieldSubRecover = 3
	fieldSubEpoch   = 6
	fieldSubOffset  = 7

	fieldResultEpoch        = 6
	fieldResultPublications = 7
	fieldResultRecovered    = 8
	fieldResultOffset       = 9
)

const (
	wireVarint = 0
	wireBytes  = 2
)

func appendVarintField(b []byte, field int, v uint64) []byte {
	b = binary.AppendUvarint(b, uint64(field)<<3|wireVarint)
	return binary.AppendUvarint(b, v)
}

func appendBytesField[T string | []byte](b []byte, field int, v T) []byte {
	b = binary.AppendUvarint(b, uint64(field)<<3|wireBytes)
	b = binary.AppendUvarint(b, uint64(len(v)))
	return append(b, v...)
}

func (protobufCodec) hello(sub subscribeArgs) []byte {
	connect := appendVarintField(nil, fieldCommandID, 1)
	connect = appendBytesField(connect, fieldConnect, "")

	req := appendBytesField(nil, fieldSubChannel, sub.channel)
	if sub.recover {
		req = appendVarintField(req, fieldSubRecover, 1)
		req = appendBytesField(req, fieldSubEpoch, sub.epoch)
		req = appendVarintField(req, fieldSubOffset, sub.offset)
	}
	subscribe := appendVarintField(nil, fieldCommandID, 2)
	subscribe = appendBytesField(subscribe, fieldSubscribe, req)

	b := binary.AppendUvarint(nil, uint64(len(connect)))
	b = append(b, connect...)
	b = binary.AppendUvarint(b, uint64(len(subscribe)))
	return append(b, subscribe...)
}

var errProtobuf = errors.New("malformed protobuf message")

func (protobufCodec) next(frame []byte) (ev event, rest []byte, err error) {
	n, w := binary.Uvarint(frame)
	if w <= 0 || uint64(len(frame)-w) < n {
		return ev, nil, errProtobuf
	}
	msg, rest := frame[w:w+int(n)], frame[w+int(n):]
	if len(msg) == 0 {
		ev.kind = evPing
		return ev, rest, nil
	}
	err = eachField(msg, func(field int, v uint64, b []byte) error {
		switch field {
		case fieldReplyError:
			ev.kind, ev.errMessage = evError, b
		case fieldReplyConnect:
			ev.kind = evConnected
		case fieldReplySubscribe:
			ev.kind = evSubscribed
			return eachField(b, func(field int, v uint64, b []byte) error {
				switch field {
				case fieldResultEpoch:
					ev.epoch = b
				case fieldResultPublications:
					ev.missed++
				case fieldResultRecovered:
					ev.recovered = v == 1
				case fieldResultOffset:
					ev.offset = v
				}
				return nil
			})
		case fieldReplyPush:
			return eachField(b, func(field int, v uint64, b []byte) error {
				if field != fieldPushPub {
					return nil
				}
				ev.kind = evPublication
				return eachField(b, func(field int, v uint64, b []byte) error {
					if field == fieldPubData {
						ev.payload = b
					}
					return nil
				})
			})
		}
		return nil
	})
	return ev, rest, err
}

// eachField calls f for every varint or length-delimited field of a protobuf
// message. The protocol has no fixed-width fields.
func eachField(b []byte, f func(field int, v uint64, b []byte) error) error {
	for len(b) > 0 {
		tag, w := binary.Uvarint(b)
		if w <= 0 {
			return errProtobuf
		}
		b = b[w:]
		v, w := binary.Uvarint(b)
		if w <= 0 {
			return errProtobuf
		}
		b = b[w:]
		var data []byte
		switch tag & 7 {
		case wireVarint:
		case wireBytes:
			if uint64(len(b)) < v {
				return errProtobuf
			}
			data, b = b[:v], b[v:]
		default:
			return errProtobuf
		}
		if err := f(int(tag>>3), v, data); err != nil {
			return err
		}
	}
	return nil
}
