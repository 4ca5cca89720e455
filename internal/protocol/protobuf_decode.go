package protocol

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"unicode/utf8"

	"google.golang.org/protobuf/encoding/protowire"
)

// Protobuf is the Protobuf encoding (spec 2.3, 3): of proto3, with a length before each command.
//
// The codec is written by hand, on the library's package for the wire format: there are few messages, and their numbers do not
// change. What protoc and vtprotobuf generate for them is 13,000 lines, and no faster.
var Protobuf Codec = protobufCodec{}

type protobufCodec struct{}

var (
	errProtoLength = errors.New("length does not fit the frame")
	errProtoNumber = errors.New("field number is too large")
	errProtoText   = errors.New("text is not UTF-8")
)

// NextCommand implements [Codec].
func (protobufCodec) NextCommand(frame []byte) (*Command, []byte, error) {
	size, n := protowire.ConsumeVarint(frame)
	if n < 0 || size > uint64(len(frame)-n) {
		return nil, nil, fmt.Errorf("protocol: decode command: %w", errProtoLength)
	}
	end := n + int(size)
	cmd, err := decodeProtoCommand(frame[n:end])
	if err != nil {
		return nil, nil, fmt.Errorf("protocol: decode command: %w", err)
	}
	return cmd, frame[end:], nil
}

// DecodeConnect implements [Codec]. The request stands alone, without a length.
func (protobufCodec) DecodeConnect(frame []byte) (*ConnectRequest, error) {
	r, err := decodeProtoConnect(frame)
	if err != nil {
		return nil, fmt.Errorf("protocol: decode connect request: %w", err)
	}
	return r, nil
}

// protoRequests are the numbers of the requests in the order in which the first one set wins (spec 3.1), which is not that of
// the numbers.
var protoRequests = [...]protowire.Number{4, 5, 6, 7, 8, 9, 10, 13, 12, 14, 15}

func decodeProtoCommand(message []byte) (*Command, error) {
	cmd := new(Command)
	var requests [len(protoRequests)]protoNested
	f := protoFields{rest: message}
	for f.next() {
		if f.num == 1 {
			f.uint32(&cmd.ID)
		} else if i := slices.Index(protoRequests[:], f.num); i >= 0 {
			requests[i].add(&f)
		}
	}
	if f.err != nil {
		return nil, f.err
	}
	for i := range requests {
		if !requests[i].set {
			continue
		}
		if err := decodeProtoRequest(cmd, protoRequests[i], requests[i].message); err != nil {
			return nil, fmt.Errorf("%s: %w", jsonRequests[i], err)
		}
		break
	}
	return cmd, nil
}

func decodeProtoRequest(cmd *Command, num protowire.Number, message []byte) (err error) {
	switch num {
	case 4:
		cmd.Connect, err = decodeProtoConnect(message)
	case 5:
		cmd.Subscribe, err = decodeProtoSubscribe(message)
	case 6:
		cmd.Unsubscribe = new(UnsubscribeRequest)
		cmd.Unsubscribe.Channel, err = decodeProtoText(message, 1)
	case 7:
		cmd.Publish, err = decodeProtoPublish(message)
	case 8:
		cmd.Presence = new(PresenceRequest)
		cmd.Presence.Channel, err = decodeProtoText(message, 1)
	case 9:
		cmd.PresenceStats = new(PresenceStatsRequest)
		cmd.PresenceStats.Channel, err = decodeProtoText(message, 1)
	case 10:
		cmd.History, err = decodeProtoHistory(message)
	case 12:
		cmd.Send, err = decodeProtoSend(message)
	case 13:
		cmd.RPC, err = decodeProtoRPC(message)
	case 14:
		cmd.Refresh = new(RefreshRequest)
		cmd.Refresh.Token, err = decodeProtoText(message, 1)
	case 15:
		cmd.SubRefresh, err = decodeProtoSubRefresh(message)
	}
	return err
}

func decodeProtoConnect(message []byte) (*ConnectRequest, error) {
	r := new(ConnectRequest)
	f := protoFields{rest: message}
	for f.next() {
		switch f.num {
		case 1:
			f.text(&r.Token)
		case 2:
			f.raw(&r.Data)
		case 3:
			channel, message, ok := f.messageEntry()
			if !ok {
				continue
			}
			sub, err := decodeProtoSubscribe(message)
			if err != nil {
				return nil, fmt.Errorf("subs: %w", err)
			}
			if r.Subs == nil {
				r.Subs = make(map[string]*SubscribeRequest)
			}
			r.Subs[channel] = sub
		case 4:
			f.text(&r.Name)
		case 5:
			f.text(&r.Version)
		case 6:
			name, value, ok := f.textEntry()
			if !ok {
				continue
			}
			if r.Headers == nil {
				r.Headers = make(map[string]string)
			}
			r.Headers[name] = value
		}
	}
	return r, f.err
}

func decodeProtoSubscribe(message []byte) (*SubscribeRequest, error) {
	r := new(SubscribeRequest)
	var filter protoNested
	f := protoFields{rest: message}
	for f.next() {
		switch f.num {
		case 1:
			f.text(&r.Channel)
		case 2:
			f.text(&r.Token)
		case 3:
			f.bool(&r.Recover)
		case 6:
			f.text(&r.Epoch)
		case 7:
			f.uint64(&r.Offset)
		case 8:
			f.raw(&r.Data)
		case 9:
			f.bool(&r.Positioned)
		case 10:
			f.bool(&r.Recoverable)
		case 11:
			f.bool(&r.JoinLeave)
		case 12:
			f.text(&r.Delta)
		case 13:
			filter.add(&f)
		case 14:
			f.int64(&r.Flag)
		case 15:
			f.int32(&r.Type)
		}
	}
	if f.err != nil || !filter.set {
		return r, f.err
	}
	var err error
	r.TagsFilter, err = decodeProtoFilter(filter.message, 1)
	return r, err
}

// decodeProtoText decodes a message of which one text counts.
func decodeProtoText(message []byte, num protowire.Number) (text string, err error) {
	f := protoFields{rest: message}
	for f.next() {
		if f.num == num {
			f.text(&text)
		}
	}
	return text, f.err
}

func decodeProtoPublish(message []byte) (*PublishRequest, error) {
	r := new(PublishRequest)
	f := protoFields{rest: message}
	for f.next() {
		switch f.num {
		case 1:
			f.text(&r.Channel)
		case 2:
			f.raw(&r.Data)
		case 3:
			f.int32(&r.Type)
		}
	}
	return r, f.err
}

func decodeProtoHistory(message []byte) (*HistoryRequest, error) {
	r := new(HistoryRequest)
	var since protoNested
	f := protoFields{rest: message}
	for f.next() {
		switch f.num {
		case 1:
			f.text(&r.Channel)
		case 7:
			f.int32(&r.Limit)
		case 8:
			since.add(&f)
		case 9:
			f.bool(&r.Reverse)
		}
	}
	if f.err != nil || !since.set {
		return r, f.err
	}
	r.Since = new(StreamPosition)
	f = protoFields{rest: since.message}
	for f.next() {
		switch f.num {
		case 1:
			f.uint64(&r.Since.Offset)
		case 2:
			f.text(&r.Since.Epoch)
		}
	}
	return r, f.err
}

func decodeProtoRPC(message []byte) (*RPCRequest, error) {
	r := new(RPCRequest)
	f := protoFields{rest: message}
	for f.next() {
		switch f.num {
		case 1:
			f.raw(&r.Data)
		case 2:
			f.text(&r.Method)
		}
	}
	return r, f.err
}

func decodeProtoSend(message []byte) (*SendRequest, error) {
	r := new(SendRequest)
	f := protoFields{rest: message}
	for f.next() {
		if f.num == 1 {
			f.raw(&r.Data)
		}
	}
	return r, f.err
}

func decodeProtoSubRefresh(message []byte) (*SubRefreshRequest, error) {
	r := new(SubRefreshRequest)
	f := protoFields{rest: message}
	for f.next() {
		switch f.num {
		case 1:
			f.text(&r.Channel)
		case 2:
			f.text(&r.Token)
		case 3:
			f.int32(&r.Type)
		}
	}
	return r, f.err
}

// protoFields walks through the fields of a message. The accessors set what they are given, unless the field is of another wire
// type than they expect: by the rules of proto3 it is unknown then, and skipped.
type protoFields struct {
	rest   []byte
	err    error
	num    protowire.Number
	typ    protowire.Type
	varint uint64
	bytes  []byte // part of the message
}

// next moves to the next field, and returns false at the end or after an error.
func (f *protoFields) next() bool {
	if len(f.rest) == 0 || f.err != nil {
		return false
	}
	num, typ, n := protowire.ConsumeTag(f.rest)
	switch {
	case n < 0:
		return f.fail(protowire.ParseError(n))
	case num > protowire.MaxValidNumber:
		return f.fail(errProtoNumber)
	}
	f.num, f.typ, f.varint, f.bytes = num, typ, 0, nil
	f.rest = f.rest[n:]
	switch typ {
	case protowire.VarintType:
		f.varint, n = protowire.ConsumeVarint(f.rest)
	case protowire.BytesType:
		f.bytes, n = protowire.ConsumeBytes(f.rest)
	default:
		n = protowire.ConsumeFieldValue(num, typ, f.rest)
	}
	if n < 0 {
		return f.fail(protowire.ParseError(n))
	}
	f.rest = f.rest[n:]
	return true
}

func (f *protoFields) fail(err error) bool {
	f.err = err
	return false
}

func (f *protoFields) uint64(v *uint64) {
	if f.typ == protowire.VarintType {
		*v = f.varint
	}
}

// uint32 cuts a number off that is longer, as int32 and int64 do: so the rules say.
func (f *protoFields) uint32(v *uint32) {
	if f.typ == protowire.VarintType {
		*v = uint32(f.varint)
	}
}

func (f *protoFields) int32(v *int32) {
	if f.typ == protowire.VarintType {
		*v = int32(f.varint)
	}
}

func (f *protoFields) int64(v *int64) {
	if f.typ == protowire.VarintType {
		*v = int64(f.varint)
	}
}

func (f *protoFields) bool(v *bool) {
	if f.typ == protowire.VarintType {
		*v = protowire.DecodeBool(f.varint)
	}
}

func (f *protoFields) text(v *string) {
	switch {
	case f.typ != protowire.BytesType:
	case !utf8.Valid(f.bytes):
		f.err = errProtoText
	default:
		*v = string(f.bytes)
	}
}

// raw sets a payload: nil if it is empty, which is no different from none.
func (f *protoFields) raw(v *Raw) {
	switch {
	case f.typ != protowire.BytesType:
	case len(f.bytes) == 0:
		*v = nil
	default:
		*v = bytes.Clone(f.bytes)
	}
}

// textEntry returns an entry of a map of texts.
func (f *protoFields) textEntry() (key, value string, ok bool) {
	e := protoFields{rest: f.bytes}
	for e.next() {
		switch e.num {
		case 1:
			e.text(&key)
		case 2:
			e.text(&value)
		}
	}
	f.err = e.err
	return key, value, f.typ == protowire.BytesType && e.err == nil
}

// messageEntry returns an entry of a map of messages.
func (f *protoFields) messageEntry() (key string, message []byte, ok bool) {
	e := protoFields{rest: f.bytes}
	var value protoNested
	for e.next() {
		switch e.num {
		case 1:
			e.text(&key)
		case 2:
			value.add(&e)
		}
	}
	f.err = e.err
	return key, value.message, f.typ == protowire.BytesType && e.err == nil
}

// protoNested is a nested message. If the field comes again both are merged, which is the same as one after the other.
type protoNested struct {
	set     bool
	merged  bool // message is a copy of our own
	message []byte
}

func (m *protoNested) add(f *protoFields) {
	switch {
	case f.typ != protowire.BytesType:
		return
	case !m.set:
		m.set, m.message = true, f.bytes
		return
	case !m.merged:
		m.merged, m.message = true, bytes.Clone(m.message)
	}
	m.message = append(m.message, f.bytes...)
}
