package redisbroker

import (
	"encoding/binary"
	"errors"
	"strconv"
	"strings"

	"github.com/fanfare-go/fanfare"
	"github.com/fanfare-go/fanfare/broker/internal/wire"
)

// The first byte of a message to subscribers says what follows. Kinds that are not known are of a later version: they are skipped.
const (
	messageStored     = 'p' // offset, space, epoch, space, publication; made by stream_publish.lua
	messagePassing    = 'q' // publication
	messageMembership = 'm' // membership
	messageControl    = 'c' // length of the sender's id (varint), the id, data
)

var errMessage = errors.New("malformed message")

// message is what a subscriber got: a publication, a membership or neither.
type message struct {
	publication *fanfare.Publication
	membership  *fanfare.Membership
}

func appendPassing(dst []byte, p *fanfare.Publication) []byte {
	return wire.AppendPublication(append(dst, messagePassing), p)
}

func appendMembership(dst []byte, m fanfare.Membership) []byte {
	return wire.AppendMembership(append(dst, messageMembership), m)
}

// decodeMessage reads what was published in the channel of Redis that belongs to one of ours.
func decodeMessage(text string) (message, error) {
	if text == "" {
		return message{}, errMessage
	}
	switch kind, rest := text[0], text[1:]; kind {
	case messageStored:
		offset, rest, found := strings.Cut(rest, " ")
		n, err := strconv.ParseUint(offset, 10, 64)
		epoch, rest, whole := strings.Cut(rest, " ")
		if !found || !whole || err != nil || n == 0 || epoch == "" {
			return message{}, errMessage
		}
		p, err := wire.Publication([]byte(rest))
		if err != nil {
			return message{}, err
		}
		p.Position = fanfare.Position{Offset: n, Epoch: strings.Clone(epoch)}
		return message{publication: p}, nil
	case messagePassing:
		p, err := wire.Publication([]byte(rest))
		return message{publication: p}, err
	case messageMembership:
		m, err := wire.Membership([]byte(rest))
		return message{membership: &m}, err
	}
	return message{}, nil
}

func appendControl(dst []byte, from string, data []byte) []byte {
	dst = binary.AppendUvarint(append(dst, messageControl), uint64(len(from)))
	return append(append(dst, from...), data...)
}

// decodeControl reads a message from node to node. The data is nil if the message is of a later version.
func decodeControl(text string) (from string, data []byte, err error) {
	if text == "" {
		return "", nil, errMessage
	}
	if text[0] != messageControl {
		return "", nil, nil
	}
	rest := []byte(text[1:])
	length, size := binary.Uvarint(rest)
	if size <= 0 || length > uint64(len(rest)-size) {
		return "", nil, errMessage
	}
	rest = rest[size:]
	return string(rest[:length]), rest[length:], nil
}
