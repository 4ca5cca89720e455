package websocket_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/fanfare-go/fanfare/transport/transporttest"
)

// peer is a WebSocket client that can misbehave: it sends and reads single frames.
type peer struct {
	conn     net.Conn
	br       *bufio.Reader
	response *http.Response
	binary   bool

	mu    sync.Mutex // serialises writes
	pongs atomic.Int32
}

var (
	_ transporttest.Client = (*peer)(nil)
	_ transporttest.Pinger = (*peer)(nil)
)

// dialPeer makes the handshake; early is sent together with it.
func dialPeer(ctx context.Context, target string, header http.Header, early ...byte) (*peer, error) {
	u, err := url.Parse(target)
	if err != nil {
		return nil, err
	}
	var conn net.Conn
	if u.Scheme == "https" {
		d := tls.Dialer{Config: &tls.Config{InsecureSkipVerify: true}}
		conn, err = d.DialContext(ctx, "tcp", u.Host)
	} else {
		conn, err = new(net.Dialer).DialContext(ctx, "tcp", u.Host)
	}
	if err != nil {
		return nil, err
	}
	p, err := handshake(conn, u, header, early)
	if err != nil {
		_ = conn.Close()
		return nil, err
	}
	return p, nil
}

func handshake(conn net.Conn, u *url.URL, header http.Header, early []byte) (*peer, error) {
	var b bytes.Buffer
	fmt.Fprintf(&b, "GET /?%s HTTP/1.1\r\nHost: %s\r\n", u.RawQuery, u.Host)
	h := http.Header{
		"Connection": {"keep-alive, Upgrade"}, "Upgrade": {"websocket"},
		"Sec-Websocket-Version": {"13"}, "Sec-Websocket-Key": {"dGhlIHNhbXBsZSBub25jZQ=="},
	}
	for key, values := range header {
		h[key] = values
	}
	_ = h.Write(&b)
	b.WriteString("\r\n")
	b.Write(early)
	if _, err := conn.Write(b.Bytes()); err != nil {
		return nil, err
	}
	p := &peer{conn: conn, br: bufio.NewReader(conn)}
	response, err := http.ReadResponse(p.br, nil)
	if err != nil {
		return nil, err
	}
	if response.StatusCode != http.StatusSwitchingProtocols {
		defer response.Body.Close()
		body, _ := io.ReadAll(response.Body)
		return nil, &transporttest.Refused{Status: response.StatusCode, Body: string(body)}
	}
	p.response = response
	p.binary = response.Header.Get("Sec-WebSocket-Protocol") == "centrifuge-protobuf"
	return p, nil
}

// masked makes a client's frame.
func masked(op byte, payload []byte) []byte {
	var frame []byte
	switch n := len(payload); {
	case n < 126:
		frame = append(frame, op, 0x80|byte(n))
	case n <= 0xffff:
		frame = binary.BigEndian.AppendUint16(append(frame, op, 0x80|126), uint16(n))
	default:
		frame = binary.BigEndian.AppendUint64(append(frame, op, 0x80|127), uint64(n))
	}
	mask := [4]byte{1, 2, 3, 4}
	frame = append(frame, mask[:]...)
	for i, c := range payload {
		frame = append(frame, c^mask[i%4])
	}
	return frame
}

func (p *peer) raw(b []byte) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	_, err := p.conn.Write(b)
	return err
}

func (p *peer) Send(frame []byte) error { return p.raw(masked(0x81, frame)) }
func (p *peer) Ping() error             { return p.raw(masked(0x89, []byte("hi"))) }
func (p *peer) Pongs() int              { return int(p.pongs.Load()) }
func (p *peer) Leave() error            { return p.raw(masked(0x88, []byte{0x03, 0xe8})) }
func (p *peer) Drop() error             { return p.conn.Close() }

// frame reads one frame of the server as it is.
func (p *peer) frame() (op byte, payload []byte, err error) {
	var h [10]byte
	if _, err := io.ReadFull(p.br, h[:2]); err != nil {
		return 0, nil, err
	}
	n := uint64(h[1])
	switch n {
	case 126:
		_, err = io.ReadFull(p.br, h[2:4])
		n = uint64(binary.BigEndian.Uint16(h[2:]))
	case 127:
		_, err = io.ReadFull(p.br, h[2:10])
		n = binary.BigEndian.Uint64(h[2:])
	}
	if err != nil {
		return 0, nil, err
	}
	if n > 16<<20 {
		return 0, nil, fmt.Errorf("frame of %d bytes: the stream is out of step", n)
	}
	payload = make([]byte, n)
	_, err = io.ReadFull(p.br, payload)
	return h[0], payload, err
}

// Next reads the next data frame, and answers pings and the close.
func (p *peer) Next() ([][]byte, error) {
	for {
		op, payload, err := p.frame()
		if err != nil {
			return nil, err
		}
		switch op {
		case 0x81:
			return bytes.Split(payload, []byte("\n")), nil
		case 0x89:
			err = p.raw(masked(0x8a, payload))
		case 0x8a:
			p.pongs.Add(1)
		case 0x88:
			_ = p.raw(masked(0x88, payload))
			return nil, p.closed(payload)
		default:
			err = fmt.Errorf("unexpected frame %#x of %d bytes", op, len(payload))
		}
		if err != nil {
			return nil, err
		}
	}
}

// closed checks that nothing follows a close frame.
func (p *peer) closed(payload []byte) error {
	rest, _ := io.ReadAll(p.br)
	if len(rest) > 0 {
		return fmt.Errorf("%d bytes after the close frame", len(rest))
	}
	if len(payload) < 2 {
		return errors.New("closed without a code")
	}
	return &transporttest.Closed{Code: uint32(binary.BigEndian.Uint16(payload)), Reason: string(payload[2:])}
}

// dialer returns the Dial of the kit, with a query.
func dialer(query string) func(context.Context, string, http.Header) (transporttest.Client, error) {
	return func(ctx context.Context, target string, header http.Header) (transporttest.Client, error) {
		p, err := dialPeer(ctx, strings.TrimSuffix(target, "/")+"/?"+query, header)
		if err != nil { // not a nil *peer in an interface
			return nil, err
		}
		return p, nil
	}
}
