//go:build linux

package main

import (
	"bufio"
	"bytes"
	"crypto/sha1"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
)

// connect answers the handshake and then reads on a goroutine of its own, so that the request's buffers are let go.
func (f *floor) connect(w http.ResponseWriter, r *http.Request) {
	key := r.Header.Get("Sec-WebSocket-Key")
	if key == "" || r.URL.Query().Get("format") != "" {
		http.Error(w, "only WebSocket with JSON", http.StatusBadRequest)
		return
	}
	c, rw, err := http.NewResponseController(w).Hijack()
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	if err := f.hold(c); err != nil {
		_ = c.Close()
		return
	}
	// RFC 6455, 1.3
	sum := sha1.Sum([]byte(key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"))
	const answer = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: %s\r\n\r\n"
	_, _ = fmt.Fprintf(c, answer, base64.StdEncoding.EncodeToString(sum[:])) // reading finds the same error
	// Ends with the connection, at the latest when close makes it; close waits for it.
	go f.read(c, rw.Reader)
}

// read answers commands until the connection ends.
func (f *floor) read(c net.Conn, r *bufio.Reader) {
	var s *subscriber
	defer func() { f.release(c, s) }()
	for {
		opcode, payload, err := readFrame(r)
		if err != nil || opcode == 0x8 {
			return
		}
		for line := range bytes.Lines(payload) {
			cmd, err := parseCommand(line)
			switch {
			case err != nil, s != nil && cmd.reply != "":
				return // once subscribed, nothing but publications may be written
			case cmd.channel != "":
				s, err = f.subscribe(c, cmd)
			case cmd.reply != "":
				_, err = c.Write(appendText(nil, cmd.reply))
			}
			if err != nil {
				return
			}
		}
	}
}

// command is what a command asks for: a static reply, and a channel if it is a subscribe.
type command struct {
	reply   string
	channel string
}

func parseCommand(line []byte) (command, error) {
	var cmd struct {
		ID        uint32          `json:"id"`
		Connect   json.RawMessage `json:"connect"`
		Subscribe *struct {
			Channel string `json:"channel"`
		} `json:"subscribe"`
	}
	if err := json.Unmarshal(line, &cmd); err != nil {
		return command{}, err
	}
	switch {
	case cmd.Subscribe != nil && cmd.Subscribe.Channel == "":
		return command{}, errors.New("subscribe without a channel")
	case cmd.Subscribe != nil:
		return command{fmt.Sprintf(`{"id":%d,"subscribe":{}}`, cmd.ID), cmd.Subscribe.Channel}, nil
	case cmd.Connect != nil:
		return command{reply: fmt.Sprintf(`{"id":%d,"connect":{"client":"floor","version":"0"}}`, cmd.ID)}, nil
	}
	return command{}, nil
}

// readFrame reads one masked frame. Loadgen does not split messages.
func readFrame(r *bufio.Reader) (opcode byte, payload []byte, err error) {
	var head [2]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return 0, nil, err
	}
	size := int(head[1] & 0x7f)
	switch size {
	case 126:
		var long [2]byte
		if _, err := io.ReadFull(r, long[:]); err != nil {
			return 0, nil, err
		}
		size = int(binary.BigEndian.Uint16(long[:]))
	case 127:
		return 0, nil, errors.New("frame of more than 64 KiB")
	}
	var mask [4]byte
	if head[1]&0x80 == 0 {
		return 0, nil, errors.New("frame is not masked")
	}
	if _, err := io.ReadFull(r, mask[:]); err != nil {
		return 0, nil, err
	}
	payload = make([]byte, size)
	if _, err := io.ReadFull(r, payload); err != nil {
		return 0, nil, err
	}
	for i := range payload {
		payload[i] ^= mask[i%4]
	}
	return head[0] & 0x0f, payload, nil
}
