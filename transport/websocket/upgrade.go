package websocket

import (
	"bufio"
	"crypto/sha1"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"

	"github.com/coder/websocket"
)

const (
	// readBuffer is small because every idle connection holds one; larger messages bypass it.
	readBuffer = 512

	// headerBuffer is enough where the wire reads ahead by itself.
	headerBuffer = 32

	// controlBuffer must hold the largest control frame, 127 bytes, so that each is one Write. Nothing else goes
	// through the library's writer on an uncompressed connection.
	controlBuffer = 128

	// compressedBuffer spares most compressed messages a second Write.
	compressedBuffer = 2048
)

// ErrHijack is reported when a connection cannot be taken over although its writer promises that.
var ErrHijack = errors.New("hijack")

// acceptSuffix makes an answer of a challenge (RFC 6455 1.3).
const acceptSuffix = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"

// upgrade makes the handshake, and finds the connection its engine. After an error the request has been answered.
//
// A connection of the dense engine needs nothing of the library, whose handshake is a tenth of what a connect costs. So the
// handshake is made here if there is a chance of that, and repeated to the library if it turns out to be none. Requests that
// are no proper handshake are left to the library.
func (t *Transport) upgrade(w http.ResponseWriter, r *http.Request, h http.Hijacker, o offer) (door, error) {
	u := &upgrader{ResponseWriter: w, hijacker: h}
	if key, ok := challenge(r); ok && t.mayAdopt(r) {
		if err := u.switchProtocols(key, o.subprotocol); err != nil {
			return nil, err
		}
		if d := t.adopt(u.conn, u.early, o); d != nil {
			return d, nil
		}
	}
	return t.accept(u, r, o)
}

// accept lets the library make the handshake, if it has not been made, and a connection.
func (t *Transport) accept(u *upgrader, r *http.Request, o offer) (door, error) {
	c := &conn{transport: t, info: t.info(o), first: o.connect, limit: t.options.MaxFrameSize}
	c.wire.timeout = t.options.WriteTimeout
	u.wire = &c.wire
	accept := &websocket.AcceptOptions{
		InsecureSkipVerify: true, // the acceptor has checked the origin
	}
	if o.subprotocol != "" {
		accept.Subprotocols = []string{o.subprotocol}
	}
	if t.options.Compression && u.conn == nil { // or the handshake has been made, without it
		accept.CompressionMode = websocket.CompressionNoContextTakeover
	}
	if c.info.NativePing {
		accept.OnPongReceived = c.pong
	}
	lib, err := websocket.Accept(u, r, accept)
	if err != nil {
		if u.conn != nil {
			_ = u.conn.Close()
		}
		return nil, err
	}
	if c.wire.compressed {
		c.limit *= deflatedGrowth
	}
	// The library would answer a message over its limit with a reason, and clients expect none (spec 2.4), so the
	// reader counts.
	lib.SetReadLimit(-1)
	c.lib = lib
	return c, nil
}

// challenge returns the key of a handshake that the library would accept (RFC 6455 4.2.1); [checkUpgrade] has seen to the
// rest.
func challenge(r *http.Request) (key string, ok bool) {
	keys := r.Header["Sec-Websocket-Key"]
	if len(keys) != 1 || !r.ProtoAtLeast(1, 1) || r.Header.Get("Sec-WebSocket-Version") != "13" {
		return "", false
	}
	var nonce [18]byte // a decoder asks for room in multiples of three
	if len(keys[0]) != base64.StdEncoding.EncodedLen(16) {
		return "", false
	}
	n, err := base64.StdEncoding.Decode(nonce[:], []byte(keys[0]))
	return keys[0], err == nil && n == 16
}

// upgrader is the ResponseWriter that the library sees: hijacking it yields the connection behind our write lock, and
// buffers that are small enough for tens of thousands of idle connections. It has the connection already if the handshake
// was made without the library.
type upgrader struct {
	http.ResponseWriter
	hijacker http.Hijacker
	wire     *wire

	conn  net.Conn // not nil once hijacked
	early []byte   // frames that the peer sent together with its handshake
}

// switchProtocols makes the handshake, as the library does. Through the ResponseWriter: middleware may add a cookie to the
// answer.
func (u *upgrader) switchProtocols(key, subprotocol string) error {
	h := u.Header()
	sum := sha1.Sum([]byte(key + acceptSuffix))
	h.Set("Upgrade", "websocket")
	h.Set("Connection", "Upgrade")
	h.Set("Sec-WebSocket-Accept", base64.StdEncoding.EncodeToString(sum[:]))
	if subprotocol != "" {
		h.Set("Sec-WebSocket-Protocol", subprotocol)
	}
	u.WriteHeader(http.StatusSwitchingProtocols)
	u.WriteHeaderNow()
	if err := u.take(); err != nil {
		if u.conn != nil {
			_ = u.conn.Close()
		} else {
			http.Error(u, http.StatusText(http.StatusInternalServerError), http.StatusInternalServerError)
		}
		return fmt.Errorf("websocket: %w", err)
	}
	return nil
}

// take hijacks the connection.
func (u *upgrader) take() error {
	netConn, brw, err := u.hijacker.Hijack()
	if err != nil {
		return fmt.Errorf("%w: %w", ErrHijack, err)
	}
	u.conn = netConn
	if n := brw.Reader.Buffered(); n > 0 {
		b, _ := brw.Reader.Peek(n)
		u.early = append([]byte(nil), b...)
	}
	if brw.Writer.Buffered() > 0 {
		if err := brw.Writer.Flush(); err != nil {
			return err
		}
	}
	// The server's own timeouts were meant for requests.
	return netConn.SetDeadline(time.Time{})
}

// WriteHeader implements [http.ResponseWriter].
func (u *upgrader) WriteHeader(status int) {
	if u.conn == nil {
		u.ResponseWriter.WriteHeader(status)
	}
}

// WriteHeaderNow is called by the library for writers that delay the status line until then (gin's, for one).
func (u *upgrader) WriteHeaderNow() {
	if w, ok := u.ResponseWriter.(interface{ WriteHeaderNow() }); ok && u.conn == nil {
		w.WriteHeaderNow()
	}
}

// Hijack implements [http.Hijacker].
func (u *upgrader) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	if u.conn == nil {
		if err := u.take(); err != nil {
			return nil, nil, err
		}
	}
	u.wire.Conn, u.wire.early = u.conn, u.early
	size := controlBuffer
	if u.Header().Get("Sec-WebSocket-Extensions") != "" {
		u.wire.compressed = true
		size = compressedBuffer
	}
	ahead := readBuffer
	if socket, plain := plainSocket(u.conn); plain && !u.wire.compressed {
		var err error
		if u.wire.raw, err = socket.SyscallConn(); err != nil {
			return nil, nil, err
		}
		ahead = headerBuffer
	}
	u.wire.buffered = bufio.NewReaderSize(u.wire, ahead)
	return u.wire, bufio.NewReadWriter(u.wire.buffered, bufio.NewWriterSize(u.wire, size)), nil
}
