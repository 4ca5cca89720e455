package delivery

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"
)

// Opcodes of RFC 6455.
const (
	opText   = 1
	opBinary = 2
	opClose  = 8
	opPing   = 9
	opPong   = 10
)

// closed is the close frame that ended a WebSocket, or the push that ended a stream.
type closed struct{ end }

func (c closed) Error() string { return fmt.Sprintf("closed with %d %s", c.Code, c.Reason) }

// socket is a client's end of a WebSocket. One goroutine sends, another receives.
type socket struct {
	conn   net.Conn
	r      *bufio.Reader
	codec  codec
	opcode byte
	frame  *bufio.Reader // what is left of the newest one
}

func dialSocket(ctx context.Context, address string, c codec) (link, error) {
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	s := &socket{conn: conn, r: bufio.NewReader(conn), codec: c, opcode: opText, frame: bufio.NewReader(bytes.NewReader(nil))}
	if _, binary := c.(protobufCodec); binary {
		s.opcode = opBinary
	}
	if err := s.shakeHands(address); err != nil {
		conn.Close()
		return nil, err
	}
	return s, nil
}

func (s *socket) shakeHands(address string) error {
	_ = s.conn.SetDeadline(time.Now().Add(commandTimeout))
	var nonce [16]byte
	_, _ = rand.Read(nonce[:])
	r, err := http.NewRequest(http.MethodGet, "http://"+address+"/websocket", nil)
	if err != nil {
		return err
	}
	r.Header = http.Header{"Connection": {"Upgrade"}, "Upgrade": {"websocket"}, "Sec-Websocket-Version": {"13"},
		"Sec-Websocket-Key": {base64.StdEncoding.EncodeToString(nonce[:])}}
	if s.opcode == opBinary {
		r.Header.Set("Sec-WebSocket-Protocol", "centrifuge-protobuf")
	}
	if err := r.Write(s.conn); err != nil {
		return err
	}
	response, err := http.ReadResponse(s.r, r)
	if err != nil {
		return err
	}
	if response.StatusCode != http.StatusSwitchingProtocols {
		return fmt.Errorf("status %d instead of a WebSocket", response.StatusCode)
	}
	return s.conn.SetDeadline(time.Time{})
}

func (s *socket) begin(_ context.Context, first command) error {
	return s.send(context.Background(), first)
}

func (s *socket) send(_ context.Context, commands ...command) error {
	frame, err := s.codec.encode(commands...)
	if err != nil {
		return err
	}
	return s.write(s.opcode, frame)
}

func (s *socket) write(opcode byte, payload []byte) error {
	frame := []byte{0x80 | opcode}
	switch n := len(payload); {
	case n < 126:
		frame = append(frame, 0x80|byte(n))
	case n < 1<<16:
		frame = binary.BigEndian.AppendUint16(append(frame, 0x80|126), uint16(n))
	default:
		frame = binary.BigEndian.AppendUint64(append(frame, 0x80|127), uint64(n))
	}
	var mask [4]byte
	_, _ = rand.Read(mask[:])
	frame = append(frame, mask[:]...)
	for i, b := range payload {
		frame = append(frame, b^mask[i%4])
	}
	_ = s.conn.SetWriteDeadline(time.Now().Add(commandTimeout))
	_, err := s.conn.Write(frame)
	return err
}

func (s *socket) receive() (*message, error) {
	for {
		m, err := s.codec.next(s.frame)
		if !errors.Is(err, io.EOF) {
			return m, err
		}
		frame, err := s.read()
		if err != nil {
			return nil, err
		}
		s.frame = bufio.NewReader(bytes.NewReader(frame))
	}
}

// read returns the next data message, which may come in several frames.
func (s *socket) read() ([]byte, error) {
	var whole []byte
	for {
		head, payload, err := s.readFrame()
		if err != nil {
			return nil, err
		}
		switch head & 0x0f {
		case opClose:
			if len(payload) < 2 {
				return nil, closed{}
			}
			return nil, closed{end{uint32(binary.BigEndian.Uint16(payload)), string(payload[2:])}}
		case opPing, opPong: // servers of this protocol have pings of their own
			continue
		}
		whole = append(whole, payload...)
		if head&0x80 != 0 {
			return whole, nil
		}
	}
}

func (s *socket) readFrame() (head byte, payload []byte, err error) {
	var b [8]byte
	if _, err := io.ReadFull(s.r, b[:2]); err != nil {
		return 0, nil, err
	}
	head = b[0]
	size := uint64(b[1])
	switch size { // a server does not mask
	case 126:
		_, err = io.ReadFull(s.r, b[:2])
		size = uint64(binary.BigEndian.Uint16(b[:]))
	case 127:
		_, err = io.ReadFull(s.r, b[:])
		size = binary.BigEndian.Uint64(b[:])
	}
	if err == nil && size > maxFrame {
		err = fmt.Errorf("frame of %d bytes", size)
	}
	if err != nil {
		return 0, nil, err
	}
	payload = make([]byte, size)
	_, err = io.ReadFull(s.r, payload)
	return head, payload, err
}

func (s *socket) hangUp() { s.conn.Close() }
