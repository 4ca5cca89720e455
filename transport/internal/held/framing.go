package held

import (
	"encoding/binary"

	"github.com/fanfare-go/fanfare/transport"
)

// Lines ends each message in JSON with a line feed (spec 2.2).
type Lines struct{}

// Prefixed puts the length before each message in Protobuf (spec 2.3).
type Prefixed struct{}

var _, _ transport.Framing = Lines{}, Prefixed{}

// AppendFrame implements [transport.Framing].
func (Lines) AppendFrame(dst []byte, messages ...[]byte) []byte {
	for _, m := range messages {
		dst = append(append(dst, m...), '\n')
	}
	return dst
}

// AppendFrame implements [transport.Framing].
func (Prefixed) AppendFrame(dst []byte, messages ...[]byte) []byte {
	for _, m := range messages {
		dst = append(binary.AppendUvarint(dst, uint64(len(m))), m...)
	}
	return dst
}
