package main

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"syscall"
	"time"
)

func (e *engine) read(c *clientConn) {
	n := copy(e.buf, c.pending)
	if n == len(e.buf) {
		e.fail(c, "frame larger than the read buffer")
		return
	}
	m, err := syscall.Read(int(c.fd), e.buf[n:])
	e.stats.reads++
	if c.stalled {
		e.stats.stalledReads++
	}
	if err != nil {
		if errors.Is(err, syscall.EAGAIN) || errors.Is(err, syscall.EINTR) {
			return
		}
		e.fail(c, "read: "+err.Error())
		return
	}
	if m == 0 {
		e.fail(c, "closed by the server without a close frame")
		return
	}
	now := time.Now().UnixNano()
	b := e.buf[:n+m]
	if c.state == stUpgrading {
		end := bytes.Index(b, []byte("\r\n\r\n"))
		if end < 0 {
			c.pending = append(c.pending[:0], b...)
			return
		}
		if !bytes.HasPrefix(b, []byte("HTTP/1.1 101 ")) {
			line, _, _ := bytes.Cut(b, []byte("\r\n"))
			e.fail(c, "upgrade refused: "+string(line))
			return
		}
		b = b[end+4:]
		c.state = stOpen
		e.writeFrame(c, e.codec.opcode(), e.codec.hello(c.sub))
	}
	for c.state != stClosed {
		opcode, payload, size := splitFrame(b)
		if size == 0 {
			break
		}
		b = b[size:]
		e.frame(c, opcode, payload, now)
	}
	if c.state == stClosed {
		return
	}
	if len(b) == 0 {
		c.pending = nil
	} else {
		c.pending = append(c.pending[:0:0], b...)
	}
}

// splitFrame cuts the first complete, unmasked frame off b. size is 0 when b
// holds no complete frame.
func splitFrame(b []byte) (opcode byte, payload []byte, size int) {
	if len(b) < 2 {
		return 0, nil, 0
	}
	head, n := 2, uint64(b[1]&0x7f)
	switch n {
	case 126:
		if len(b) < 4 {
			return 0, nil, 0
		}
		head, n = 4, uint64(binary.BigEndian.Uint16(b[2:]))
	case 127:
		if len(b) < 10 {
			return 0, nil, 0
		}
		head, n = 10, binary.BigEndian.Uint64(b[2:])
	}
	if uint64(len(b)-head) < n {
		return 0, nil, 0
	}
	size = head + int(n)
	return b[0] & 0x0f, b[head:size], size
}

func (e *engine) frame(c *clientConn, opcode byte, payload []byte, now int64) {
	e.stats.frames++
	switch opcode {
	case 0x1, 0x2:
	case 0x8:
		reason := "close frame"
		if len(payload) >= 2 {
			reason = fmt.Sprintf("close frame %d %s", binary.BigEndian.Uint16(payload), payload[2:])
		}
		e.fail(c, reason)
		return
	case 0x9:
		e.writeFrame(c, 0xA, payload)
		return
	default:
		return
	}
	for len(payload) > 0 && c.state != stClosed {
		ev, rest, err := e.codec.next(payload)
		if err != nil {
			e.fail(c, err.Error())
			return
		}
		payload = rest
		e.event(c, ev, now)
	}
}

func (e *engine) event(c *clientConn, ev event, now int64) {
	switch ev.kind {
	case evPublication:
		e.stats.pubs++
		sent, seq, ok := parsePayload(ev.payload)
		if !ok {
			return
		}
		e.stats.latency.add(now - sent)
		if seq <= c.lastSeq {
			e.stats.outOfOrder++
		}
		c.lastSeq = seq
	case evPing:
		e.writeFrame(c, e.codec.opcode(), e.codec.pong())
	case evSubscribed:
		c.state = stReady
		e.inFlight--
		e.stats.ready++
		e.stats.setup.add(int64(time.Since(c.started)))
		if ev.recovered {
			e.stats.recovered++
		}
		e.stats.missed += ev.missed
		if e.onSubscribed != nil {
			e.onSubscribed(c, ev)
		}
	case evError:
		e.fail(c, "error reply: "+string(ev.errMessage))
	}
}

var (
	payloadTime = []byte(`"t":`)
	payloadSeq  = []byte(`,"n":`)
)

// parsePayload reads the send time (Unix ns) and the sequence number that the
// server under test puts into a published payload: {"t":…,"n":…,"p":"…"}.
func parsePayload(b []byte) (sent int64, seq uint64, ok bool) {
	i := bytes.Index(b, payloadTime)
	if i < 0 {
		return 0, 0, false
	}
	b = b[i+len(payloadTime):]
	t, n := leadingUint(b)
	b = b[n:]
	if n == 0 || !bytes.HasPrefix(b, payloadSeq) {
		return 0, 0, false
	}
	seq, n = leadingUint(b[len(payloadSeq):])
	return int64(t), seq, n > 0
}
