package delivery

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"
)

// newTransport makes requests of which each has a connection of its own, so that a balancer picks a node for each.
func newTransport() *http.Transport {
	return &http.Transport{DisableKeepAlives: true, DisableCompression: true, ResponseHeaderTimeout: 2 * commandTimeout}
}

// stream is a session whose messages come in the response to one request, and whose commands go in requests of their own.
type stream struct {
	base      string
	door      string // "http_stream" or "sse"
	codec     codec
	transport *http.Transport
	cancel    context.CancelFunc // of the response
	body      io.Closer
	r         *bufio.Reader

	// node and session are set by receive, before the message that brings them is returned.
	node, session string
}

func newStream(address, door string, c codec) *stream {
	return &stream{base: "http://" + address, door: door, codec: c, transport: newTransport(), cancel: func() {}}
}

// begin makes the request whose response is the stream.
func (s *stream) begin(ctx context.Context, first command) error {
	frame, err := s.codec.encode(first)
	if err != nil {
		return err
	}
	ctx, s.cancel = context.WithCancel(ctx)
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, s.base+"/"+s.door, bytes.NewReader(frame))
	if err != nil {
		return err
	}
	r.Header.Set("Content-Type", s.codec.contentType())
	response, err := s.transport.RoundTrip(r)
	if err != nil {
		return err
	}
	if response.StatusCode != http.StatusOK {
		response.Body.Close()
		return fmt.Errorf("status %d", response.StatusCode)
	}
	s.body, s.r = response.Body, bufio.NewReader(response.Body)
	return nil
}

func (s *stream) receive() (*message, error) {
	m, err := s.next()
	if err != nil {
		return nil, err
	}
	if m.Connect != nil {
		s.node, s.session = m.Connect.Node, m.Connect.Session
	}
	if m.Push != nil && m.Push.Disconnect != nil {
		return nil, closed{*m.Push.Disconnect}
	}
	return m, nil
}

func (s *stream) next() (*message, error) {
	if s.door != "sse" {
		return s.codec.next(s.r)
	}
	for {
		line, err := s.r.ReadString('\n')
		if data, ok := strings.CutPrefix(line, "data: "); ok {
			return s.codec.next(bufio.NewReader(strings.NewReader(data)))
		}
		if err != nil {
			return nil, err
		}
	}
}

// send takes commands to the session, by whatever node the balancer picks.
func (s *stream) send(ctx context.Context, commands ...command) error {
	frame, err := s.codec.encode(commands...)
	if err != nil {
		return err
	}
	body, err := s.codec.wrap(s.node, s.session, frame)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, commandTimeout)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, s.base+"/emulation", bytes.NewReader(body))
	if err != nil {
		return err
	}
	r.Header.Set("Content-Type", s.codec.contentType())
	response, err := s.transport.RoundTrip(r)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusNoContent {
		return fmt.Errorf("emulation: status %d", response.StatusCode)
	}
	return nil
}

func (s *stream) hangUp() {
	s.cancel()
	if s.body != nil {
		s.body.Close()
	}
}

// commandTimeout is after how long the published clients give up on a command, and connect anew.
const commandTimeout = 5 * time.Second
