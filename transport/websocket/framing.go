package websocket

import (
	"encoding/binary"
	"errors"
	"slices"

	"github.com/fanfare-go/fanfare/transport"
)

const (
	finText   = 0x81
	finBinary = 0x82
	finClose  = 0x88
	finPing   = 0x89
	finPong   = 0x8a

	// maxHeader is the longest header of an unmasked frame.
	maxHeader = 10

	// maxJoined bounds the payload of a frame with several messages, so that the frame is at most 64 KiB. Joined
	// frames then never need the longest header.
	maxJoined = 64<<10 - 4
)

// pingPayload tells answers to our pings from the unsolicited pongs that RFC 6455 allows.
const pingPayload = "ff"

var errFrame = errors.New("not a frame of this connection's framing")

// textFraming joins JSON messages by line feeds (spec 2.2).
type textFraming struct{}

// singleFraming gives each JSON message its own text frame.
type singleFraming struct{}

// binaryFraming puts the length before each Protobuf message (spec 2.3).
type binaryFraming struct{}

var _, _, _ transport.Framing = textFraming{}, singleFraming{}, binaryFraming{}

// AppendFrame implements [transport.Framing].
func (textFraming) AppendFrame(dst []byte, messages ...[]byte) []byte {
	for len(messages) > 0 {
		n, size := 1, len(messages[0])
		for n < len(messages) && size+1+len(messages[n]) <= maxJoined {
			size += 1 + len(messages[n])
			n++
		}
		dst = appendHeader(dst, finText, size)
		dst = append(dst, messages[0]...)
		for _, m := range messages[1:n] {
			dst = append(dst, '\n')
			dst = append(dst, m...)
		}
		messages = messages[n:]
	}
	return dst
}

// AppendFrame implements [transport.Framing].
func (singleFraming) AppendFrame(dst []byte, messages ...[]byte) []byte {
	for _, m := range messages {
		dst = append(appendHeader(dst, finText, len(m)), m...)
	}
	return dst
}

// AppendFrame implements [transport.Framing].
func (binaryFraming) AppendFrame(dst []byte, messages ...[]byte) []byte {
	for len(messages) > 0 {
		n, size := 1, prefixed(messages[0])
		for n < len(messages) && size+prefixed(messages[n]) <= maxJoined {
			size += prefixed(messages[n])
			n++
		}
		dst = appendHeader(dst, finBinary, size)
		for _, m := range messages[:n] {
			dst = binary.AppendUvarint(dst, uint64(len(m)))
			dst = append(dst, m...)
		}
		messages = messages[n:]
	}
	return dst
}

// prefixed is the size of a message together with its length.
func prefixed(m []byte) int {
	size := len(m) + 1
	for n := len(m); n >= 0x80; n >>= 7 {
		size++
	}
	return size
}

// appendHeader appends the header of an unmasked frame, and makes room for the payload.
func appendHeader(dst []byte, op byte, size int) []byte {
	dst = slices.Grow(dst, maxHeader+size)
	switch {
	case size < 126:
		return append(dst, op, byte(size))
	case size <= 0xffff:
		return binary.BigEndian.AppendUint16(append(dst, op, 126), uint16(size))
	}
	return binary.BigEndian.AppendUint64(append(dst, op, 127), uint64(size))
}

func appendPing(dst []byte) []byte { return appendControl(dst, finPing, []byte(pingPayload)) }

// appendControl appends a control frame; the payload is short enough.
func appendControl(dst []byte, op byte, payload []byte) []byte {
	return append(append(dst, op, byte(len(payload))), payload...)
}

// appendClose appends a close frame; the reason is short enough.
func appendClose(dst []byte, code uint16, reason string) []byte {
	dst = append(dst, finClose, byte(2+len(reason)))
	return append(binary.BigEndian.AppendUint16(dst, code), reason...)
}

// nextFrame splits off the first of frames that AppendFrame or AppendPing made.
func nextFrame(frames []byte) (op byte, payload, rest []byte, err error) {
	if len(frames) < 2 {
		return 0, nil, nil, errFrame
	}
	op, header, size := frames[0], 2, uint64(frames[1])
	switch size {
	case 126:
		if header = 4; len(frames) < header {
			return 0, nil, nil, errFrame
		}
		size = uint64(binary.BigEndian.Uint16(frames[2:]))
	case 127:
		if header = 10; len(frames) < header {
			return 0, nil, nil, errFrame
		}
		size = binary.BigEndian.Uint64(frames[2:])
	}
	masked := frames[1]&0x80 != 0
	if masked || op != finText && op != finBinary && op != finPing || size > uint64(len(frames)-header) {
		return 0, nil, nil, errFrame
	}
	end := header + int(size)
	return op, frames[header:end], frames[end:], nil
}

// cutFrame returns what is missing of the frame that the first n bytes of frames end within; it is empty when they end
// between frames.
func cutFrame(frames []byte, n int) []byte {
	for left := frames; len(left) > 0; {
		at := len(frames) - len(left)
		if at == n {
			return nil
		}
		_, _, rest, err := nextFrame(left)
		if err != nil {
			return frames[n:]
		}
		if end := len(frames) - len(rest); n < end {
			return frames[n:end]
		}
		left = rest
	}
	return nil
}
