package websocket

import (
	"encoding/binary"
	"fmt"
	"unicode/utf8"

	"github.com/fanfare-go/fanfare/transport"
)

const (
	opContinuation = 0x0
	opText         = 0x1
	opBinary       = 0x2
	opClose        = 0x8
	opPing         = 0x9
	opPong         = 0xa

	// maxControl is the longest payload of a control frame.
	maxControl = 125

	// maxPeerHeader is the longest header of a masked frame.
	maxPeerHeader = 14
)

// violation is a breach of RFC 6455, with the code that answers it.
type violation struct {
	code uint16
	text string
}

// Error implements error.
func (v *violation) Error() string { return fmt.Sprintf("peer broke the protocol: %s", v.text) }

func violates(text string) error { return &violation{1002, text} }

// parser takes the frames of a peer apart as the bytes come in. It joins fragments, and holds no more than what has
// arrived of one message.
type parser struct {
	limit   int  // bytes of one message
	discard bool // messages are not kept or bounded any more, only control frames count

	header  [maxPeerHeader]byte
	have    int // bytes of header
	op      byte
	fin     bool
	payload bool // the header is complete
	left    uint64
	mask    uint32

	kind    byte   // of the message whose last fragment has not come, 0 for none
	message []byte // what has arrived of it
	control []byte // what has arrived of a control frame's payload
}

// reset forgets everything but its buffers, of which it keeps small ones.
func (p *parser) reset(limit int) {
	message, control := p.message[:0], p.control[:0]
	if cap(message) > maxKept {
		message = nil
	}
	*p = parser{limit: limit, message: message, control: control}
}

// idle reports whether the connection is between messages, so that the parser holds nothing of it.
func (p *parser) idle() bool { return p.have == 0 && p.kind == 0 && !p.discard }

// next takes bytes off data until they complete a message or a control frame, and unmasks them in place. Op is 0 if they
// do not. The payload is valid until the next call. After [transport.ErrTooLarge] the parser goes on with the rest if it discards.
func (p *parser) next(data []byte) (op byte, payload, rest []byte, err error) {
	for len(data) > 0 {
		if !p.payload {
			if data, err = p.begin(data); err != nil || !p.payload {
				return 0, nil, data, err
			}
		}
		n := int(min(p.left, uint64(len(data))))
		piece := data[:n]
		data = data[n:]
		p.left -= uint64(n)
		p.mask = unmask(piece, p.mask)
		if p.op >= opClose {
			op, payload = p.endControl(piece)
		} else {
			op, payload = p.endData(piece)
		}
		if op != 0 {
			return op, payload, data, nil
		}
	}
	return 0, nil, nil, nil
}

// begin takes what data has of the header.
func (p *parser) begin(data []byte) (rest []byte, err error) {
	for p.have < p.headerSize() {
		if len(data) == 0 {
			return nil, nil
		}
		n := copy(p.header[p.have:p.headerSize()], data)
		p.have += n
		data = data[n:]
	}
	h := p.header[:p.have]
	p.op, p.fin = h[0]&0x0f, h[0]&0x80 != 0
	switch size := h[1] & 0x7f; size {
	case 126:
		p.left = uint64(binary.BigEndian.Uint16(h[2:]))
	case 127:
		p.left = binary.BigEndian.Uint64(h[2:])
	default:
		p.left = uint64(size)
	}
	if err := p.check(h); err != nil {
		return data, err
	}
	p.mask = binary.LittleEndian.Uint32(h[len(h)-4:])
	p.payload = true
	return data, p.admit()
}

// headerSize is as much of the header's size as is known.
func (p *parser) headerSize() int {
	if p.have < 2 {
		return 2
	}
	size := 2
	switch p.header[1] & 0x7f {
	case 126:
		size = 4
	case 127:
		size = 10
	}
	if p.header[1]&0x80 != 0 {
		size += 4
	}
	return size
}

func (p *parser) check(h []byte) error {
	switch {
	case h[0]&0x70 != 0:
		return violates("reserved bits are set")
	case h[1]&0x80 == 0:
		return violates("frame is not masked")
	case p.left > 1<<63-1:
		return violates("length is out of range")
	}
	switch p.op {
	case opContinuation:
		if p.kind == 0 {
			return violates("continuation of nothing")
		}
	case opText, opBinary:
		if p.kind != 0 {
			return violates("message inside a message")
		}
	case opClose, opPing, opPong:
		if !p.fin {
			return violates("control frame is fragmented")
		}
		if p.left > maxControl {
			return violates("control frame is too long")
		}
	default:
		return violates("unknown opcode")
	}
	return nil
}

// admit begins a data frame, unless the message becomes too large.
func (p *parser) admit() error {
	if p.op >= opClose {
		return nil
	}
	if p.op != opContinuation {
		p.kind = p.op
		p.message = p.message[:0]
	}
	if !p.discard && p.left > uint64(p.limit-len(p.message)) {
		return transport.ErrTooLarge
	}
	return nil
}

func (p *parser) endControl(piece []byte) (op byte, payload []byte) {
	if p.left > 0 || len(p.control) > 0 { // it did not come in one piece
		p.control = append(p.control, piece...)
		if p.left > 0 {
			return 0, nil
		}
		piece = p.control
		p.control = p.control[:0]
	}
	p.have, p.payload = 0, false
	return p.op, piece
}

func (p *parser) endData(piece []byte) (op byte, payload []byte) {
	last := p.left == 0 && p.fin
	switch {
	case p.discard:
		p.message, piece = nil, nil
	case !last || len(p.message) > 0:
		p.message = append(p.message, piece...)
		piece = p.message
	}
	if p.left == 0 {
		p.have, p.payload = 0, false
	}
	if !last {
		return 0, nil
	}
	op, p.kind = p.kind, 0
	p.message = p.message[:0]
	return op, piece
}

// unmask applies the mask, and returns it turned for the bytes that follow.
func unmask(b []byte, mask uint32) uint32 {
	wide := uint64(mask)<<32 | uint64(mask)
	for len(b) >= 8 {
		binary.LittleEndian.PutUint64(b, binary.LittleEndian.Uint64(b)^wide)
		b = b[8:]
	}
	for i := range b {
		b[i] ^= byte(mask)
		mask = mask>>8 | mask<<24
	}
	return mask
}

// closePayload takes the payload of a close frame apart. The code is 1005 if there is none.
func closePayload(payload []byte) (code uint16, reason string, err error) {
	switch {
	case len(payload) == 0:
		return 1005, "", nil
	case len(payload) == 1:
		return 0, "", violates("close frame of one byte")
	}
	code = binary.BigEndian.Uint16(payload)
	if code < 1000 || code >= 1004 && code <= 1006 || code > 1014 && code < 3000 || code > 4999 {
		return 0, "", violates("close code is out of range")
	}
	if !utf8.Valid(payload[2:]) {
		return 0, "", &violation{1007, "close reason is not UTF-8"}
	}
	return code, string(payload[2:]), nil
}
