package websocket

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"math"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare/transport"
)

// peerFrame makes a frame as a client would, or should not.
func peerFrame(head byte, payload []byte) []byte {
	frame := []byte{head}
	switch n := len(payload); {
	case n < 126:
		frame = append(frame, 0x80|byte(n))
	case n <= 0xffff:
		frame = binary.BigEndian.AppendUint16(append(frame, 0x80|126), uint16(n))
	default:
		frame = binary.BigEndian.AppendUint64(append(frame, 0x80|127), uint64(n))
	}
	mask := [4]byte{0x9a, 0x01, 0xfe, 0x33}
	frame = append(frame, mask[:]...)
	for i, b := range payload {
		frame = append(frame, b^mask[i%4])
	}
	return frame
}

// seen is what a peer said, as far as it can be told apart.
type seen struct {
	messages [][]byte
	pongs    [][]byte // answers to be given to pings
	closed   bool
	failed   bool
}

// parse feeds a parser with pieces of at most size bytes.
func parse(stream []byte, limit, size int) (s seen, p *parser) {
	p = new(parser)
	p.reset(limit)
	for len(stream) > 0 {
		n := min(size, len(stream))
		data := bytes.Clone(stream[:n])
		stream = stream[n:]
		for len(data) > 0 {
			op, payload, rest, err := p.next(data)
			data = rest
			switch {
			case err != nil:
				s.failed = true
				return s, p
			case op == opText || op == opBinary:
				s.messages = append(s.messages, bytes.Clone(payload))
			case op == opPing:
				s.pongs = append(s.pongs, bytes.Clone(payload))
			case op == opClose:
				_, _, err := closePayload(payload)
				s.closed, s.failed = err == nil, err != nil
				return s, p
			}
		}
	}
	return s, p
}

func TestParser_TakesFramesCutAnywhere(t *testing.T) {
	t.Parallel()
	large := bytes.Repeat([]byte("0123456789"), 30)
	huge := bytes.Repeat([]byte("abcdefg"), 10_000)
	stream := bytes.Join([][]byte{
		peerFrame(0x81, []byte("one")), peerFrame(0x82, nil), peerFrame(0x01, large), peerFrame(0x89, []byte("ping")),
		peerFrame(0x00, nil), peerFrame(0x80, []byte("end")), peerFrame(0x81, huge), peerFrame(0x89, large[:125]), peerFrame(0x88, nil),
	}, nil)
	want := seen{
		messages: [][]byte{[]byte("one"), {}, append(bytes.Clone(large), "end"...), huge},
		pongs:    [][]byte{[]byte("ping"), large[:125]}, closed: true,
	}
	for _, size := range []int{1, 2, 3, 5, 7, 100, 4096, len(stream)} {
		got, p := parse(stream, 100_000, size)
		require.Equal(t, len(want.messages), len(got.messages), "pieces of %d bytes", size)
		for i := range want.messages {
			require.True(t, bytes.Equal(want.messages[i], got.messages[i]), "message %d, pieces of %d bytes", i, size)
		}
		require.Equal(t, want.pongs, got.pongs)
		require.True(t, got.closed && p.idle())
	}
	small := stream[:bytes.Index(stream, peerFrame(0x81, huge)[:8])]
	for cut := range len(small) {
		first, p := parse(small[:cut], 1000, cut)
		data := bytes.Clone(small[cut:])
		for len(data) > 0 {
			op, payload, rest, err := p.next(data)
			require.NoError(t, err)
			if op == opText || op == opBinary {
				first.messages = append(first.messages, bytes.Clone(payload))
			}
			data = rest
		}
		require.Len(t, first.messages, 3, "cut after %d", cut)
		require.Equal(t, string(want.messages[2]), string(first.messages[2]))
	}
}

func TestParser_RefusesWhatTheProtocolForbids(t *testing.T) {
	t.Parallel()
	for name, stream := range map[string]string{
		"reserved bit":                string(peerFrame(0xc1, nil)),
		"unmasked":                    "\x81\x02hi",
		"opcode 3":                    string(peerFrame(0x83, nil)),
		"opcode 11":                   string(peerFrame(0x8b, nil)),
		"fragmented ping":             string(peerFrame(0x09, nil)),
		"long ping":                   string(peerFrame(0x89, make([]byte, 126))),
		"continuation of nothing":     string(peerFrame(0x80, nil)),
		"continuation after an end":   string(peerFrame(0x81, nil)) + string(peerFrame(0x80, nil)),
		"message inside a message":    string(peerFrame(0x01, nil)) + string(peerFrame(0x81, nil)),
		"length with its highest bit": "\x82\xff\x80\x00\x00\x00\x00\x00\x00\x00aaaa",
		"close of one byte":           string(peerFrame(0x88, []byte{3})),
		"close code 1005":             string(peerFrame(0x88, []byte{0x03, 0xed})),
		"close code 2999":             string(peerFrame(0x88, []byte{0x0b, 0xb7})),
		"close code 5000":             string(peerFrame(0x88, []byte{0x13, 0x88})),
		"close reason not UTF-8":      string(peerFrame(0x88, []byte{0x03, 0xe8, 0xff})),
	} {
		got, _ := parse([]byte(stream), 1000, len(stream))
		require.True(t, got.failed, name)
	}
}

func TestParser_BoundsMessagesBeforeTheyArrive(t *testing.T) {
	t.Parallel()
	p := new(parser)
	p.reset(100)
	_, _, _, err := p.next(peerFrame(0x81, make([]byte, 101))[:5])
	require.NoError(t, err, "the header is not complete")
	_, _, _, err = p.next(peerFrame(0x81, make([]byte, 101))[5:6])
	require.ErrorIs(t, err, transport.ErrTooLarge)

	p.reset(100)
	_, _, rest, err := p.next(append(peerFrame(0x01, make([]byte, 60)), peerFrame(0x80, make([]byte, 41))...))
	require.ErrorIs(t, err, transport.ErrTooLarge, "fragments count together")
	p.discard = true
	op, payload, _, err := p.next(append(rest, peerFrame(0x88, nil)...))
	require.NoError(t, err)
	require.EqualValues(t, opText, op, "the message that was too large ends")
	require.Empty(t, payload)
}

func TestParser_KeepsNoLargeBuffer(t *testing.T) {
	t.Parallel()
	p := new(parser)
	p.reset(1 << 20)
	stream := peerFrame(0x81, make([]byte, 1<<19))
	for len(stream) > 0 {
		n := min(4096, len(stream))
		_, _, _, err := p.next(stream[:n])
		require.NoError(t, err)
		stream = stream[n:]
	}
	require.True(t, p.idle())
	p.reset(1 << 20)
	require.LessOrEqual(t, cap(p.message), maxKept)
}

func TestUnmask_IsTheSameForAnyPieces(t *testing.T) {
	t.Parallel()
	random := rand.New(rand.NewPCG(1, 2))
	plain := make([]byte, 1000)
	for i := range plain {
		plain[i] = byte(random.Uint32())
	}
	frame := peerFrame(0x82, plain)
	for range 200 {
		b := bytes.Clone(frame[8:])
		mask := binary.LittleEndian.Uint32(frame[4:])
		for rest := b; len(rest) > 0; {
			n := min(1+random.IntN(40), len(rest))
			mask = unmask(rest[:n], mask)
			rest = rest[n:]
		}
		require.True(t, bytes.Equal(plain, b))
	}
}

// replay is a connection on which a peer has said all it will ever say.
type replay struct {
	net.Conn
	in  *bytes.Reader
	out bytes.Buffer
}

func (r *replay) Read(p []byte) (int, error)  { return r.in.Read(p) }
func (r *replay) Write(p []byte) (int, error) { return r.out.Write(p) }
func (r *replay) Close() error                { return nil }
func (r *replay) SetDeadline(time.Time) error { return nil }
func (r *replay) RemoteAddr() net.Addr        { return &net.TCPAddr{} }
func (r *replay) Header() http.Header         { return http.Header{} }
func (r *replay) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	return r, bufio.NewReadWriter(bufio.NewReader(r), bufio.NewWriter(r)), nil
}

type replayWriter struct {
	*httptest.ResponseRecorder
	*replay
}

func (w replayWriter) Header() http.Header         { return w.ResponseRecorder.Header() }
func (w replayWriter) Write(p []byte) (int, error) { return w.ResponseRecorder.Write(p) }

// consult asks the library what it makes of a stream.
func consult(t *testing.T, stream []byte) (s seen) {
	r := httptest.NewRequest(http.MethodGet, "/", nil)
	r.Header = http.Header{
		"Connection": {"Upgrade"}, "Upgrade": {"websocket"}, "Sec-Websocket-Version": {"13"},
		"Sec-Websocket-Key": {"dGhlIHNhbXBsZSBub25jZQ=="},
	}
	conn, err := websocket.Accept(replayWriter{httptest.NewRecorder(), &replay{in: bytes.NewReader(stream)}}, r,
		&websocket.AcceptOptions{OnPingReceived: func(_ context.Context, payload []byte) bool {
			s.pongs = append(s.pongs, bytes.Clone(payload))
			return true
		}})
	require.NoError(t, err)
	defer func() { _ = conn.CloseNow() }()
	conn.SetReadLimit(-1)
	for {
		_, reader, err := conn.Reader(t.Context())
		var message []byte
		if err == nil {
			message, err = io.ReadAll(reader)
		}
		if err != nil {
			s.closed = websocket.CloseStatus(err) != -1
			s.failed = !s.closed && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF)
			return s
		}
		s.messages = append(s.messages, message)
	}
}

// FuzzParser compares the parser with the library's. Where a stream ends in the middle of a message the library takes what
// there is for the whole, so then only the messages before that count.
func FuzzParser(f *testing.F) {
	f.Add(peerFrame(0x81, []byte("hello")), uint8(1))
	f.Add(append(peerFrame(0x01, []byte("he")), append(peerFrame(0x89, []byte("p")), peerFrame(0x80, []byte("llo"))...)...), uint8(3))
	f.Add(append(peerFrame(0x82, make([]byte, 300)), peerFrame(0x88, []byte{0x03, 0xe8, 'o', 'k'})...), uint8(200))
	f.Add([]byte("\x81\x02hi"), uint8(2))
	f.Add(peerFrame(0x88, []byte{0x03, 0xed}), uint8(2))
	f.Fuzz(func(t *testing.T, stream []byte, size uint8) {
		const limit = math.MaxInt // the library has none here
		got, p := parse(stream, limit, int(size)+1)
		whole, _ := parse(stream, limit, max(len(stream), 1))
		require.Equal(t, whole, got, "pieces do not matter")
		want := consult(t, stream)
		require.GreaterOrEqual(t, len(want.messages), len(got.messages))
		for i := range got.messages {
			require.Equal(t, string(want.messages[i]), string(got.messages[i]))
		}
		switch {
		case got.failed:
			require.True(t, want.failed || want.closed, "the parser is stricter about close reasons only")
		case !got.closed && !p.idle():
		default:
			require.Len(t, got.messages, len(want.messages))
			require.Equal(t, want.closed, got.closed)
			require.Equal(t, want.failed, got.failed)
			require.Equal(t, want.pongs, got.pongs)
		}
	})
}
