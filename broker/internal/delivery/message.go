package delivery

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"

	"google.golang.org/protobuf/encoding/protowire"
)

// command is what these clients say: at most one of its parts, and with none a pong.
type command struct {
	ID        uint32            `json:"id,omitzero"`
	Connect   *struct{}         `json:"connect,omitempty"`
	Subscribe *subscribeRequest `json:"subscribe,omitempty"`
}

type subscribeRequest struct {
	Channel string `json:"channel"`
	Recover bool   `json:"recover,omitzero"`
	Epoch   string `json:"epoch,omitzero"`
	Offset  uint64 `json:"offset,omitzero"`
	Flag    int64  `json:"flag,omitzero"`
}

// message is what they understand of a server's messages. One without any part is a ping.
type message struct {
	ID        uint32           `json:"id"`
	Error     *failure         `json:"error"`
	Connect   *connectResult   `json:"connect"`
	Subscribe *subscribeResult `json:"subscribe"`
	Push      *push            `json:"push"`
}

func (m *message) ping() bool { return *m == message{} }

type failure struct {
	Code      uint32 `json:"code"`
	Message   string `json:"message"`
	Temporary bool   `json:"temporary"`
}

type connectResult struct {
	Session string `json:"session"`
	Node    string `json:"node"`
}

type subscribeResult struct {
	Recoverable   bool          `json:"recoverable"`
	Epoch         string        `json:"epoch"`
	Publications  []publication `json:"publications"`
	Recovered     bool          `json:"recovered"`
	Offset        uint64        `json:"offset"`
	WasRecovering bool          `json:"was_recovering"`
}

type publication struct {
	Data   payload `json:"data"`
	Offset uint64  `json:"offset"`
}

// payload is the JSON text of what was published, on every encoding.
type payload string

func (p *payload) UnmarshalJSON(data []byte) error {
	*p = payload(data)
	return nil
}

type push struct {
	Channel     string       `json:"channel"`
	Pub         *publication `json:"pub"`
	Unsubscribe *end         `json:"unsubscribe"`
	Disconnect  *end         `json:"disconnect"`
}

type end struct {
	Code   uint32 `json:"code"`
	Reason string `json:"reason"`
}

// codec is one of the encodings.
type codec interface {
	// encode returns commands as one frame.
	encode(commands ...command) ([]byte, error)
	// next reads a message of a frame or a stream. io.EOF is its end.
	next(r *bufio.Reader) (*message, error)
	// wrap returns the body of a request that takes a frame to a session.
	wrap(node, session string, frame []byte) ([]byte, error)
	// contentType is that of requests.
	contentType() string
}

type jsonCodec struct{}

func (jsonCodec) contentType() string { return "application/json" }

func (jsonCodec) encode(commands ...command) ([]byte, error) {
	var lines [][]byte
	for _, c := range commands {
		line, err := json.Marshal(c)
		if err != nil {
			return nil, err
		}
		lines = append(lines, line)
	}
	return bytes.Join(lines, []byte("\n")), nil
}

func (jsonCodec) next(r *bufio.Reader) (*message, error) {
	line, err := r.ReadBytes('\n')
	if len(line) == 0 {
		return nil, err
	}
	m := new(message)
	if err := json.Unmarshal(line, m); err != nil {
		return nil, fmt.Errorf("message %q: %w", line, err)
	}
	return m, nil
}

func (jsonCodec) wrap(node, session string, frame []byte) ([]byte, error) {
	return json.Marshal(map[string]string{"node": node, "session": session, "data": string(frame)})
}

// protobufCodec encodes by field number. Every message has its length before it.
type protobufCodec struct{}

func (protobufCodec) contentType() string { return "application/octet-stream" }

func (protobufCodec) encode(commands ...command) ([]byte, error) {
	var frame []byte
	for _, c := range commands {
		var b []byte
		if c.ID != 0 {
			b = protowire.AppendVarint(protowire.AppendTag(b, 1, protowire.VarintType), uint64(c.ID))
		}
		if c.Connect != nil {
			b = protowire.AppendBytes(protowire.AppendTag(b, 4, protowire.BytesType), nil)
		}
		if c.Subscribe != nil {
			b = protowire.AppendBytes(protowire.AppendTag(b, 5, protowire.BytesType), c.Subscribe.protobuf())
		}
		frame = protowire.AppendBytes(frame, b)
	}
	return frame, nil
}

func (r *subscribeRequest) protobuf() []byte {
	b := protowire.AppendString(protowire.AppendTag(nil, 1, protowire.BytesType), r.Channel)
	number := func(field protowire.Number, v uint64) {
		if v != 0 {
			b = protowire.AppendVarint(protowire.AppendTag(b, field, protowire.VarintType), v)
		}
	}
	if r.Recover {
		number(3, 1)
	}
	if r.Epoch != "" {
		b = protowire.AppendString(protowire.AppendTag(b, 6, protowire.BytesType), r.Epoch)
	}
	number(7, r.Offset)
	number(14, uint64(r.Flag))
	return b
}

func (protobufCodec) wrap(node, session string, frame []byte) ([]byte, error) {
	b := protowire.AppendString(protowire.AppendTag(nil, 1, protowire.BytesType), node)
	b = protowire.AppendString(protowire.AppendTag(b, 2, protowire.BytesType), session)
	return protowire.AppendBytes(protowire.AppendTag(b, 3, protowire.BytesType), frame), nil
}

func (protobufCodec) next(r *bufio.Reader) (*message, error) {
	size, err := binary.ReadUvarint(r)
	if err != nil {
		return nil, err
	}
	if size > maxFrame {
		return nil, fmt.Errorf("message of %d bytes", size)
	}
	body := make([]byte, size)
	if _, err := io.ReadFull(r, body); err != nil {
		return nil, err
	}
	return decodeMessage(body)
}

// maxFrame bounds what these clients take at once, in bytes.
const maxFrame = 16 << 20
