//go:build linux

package main

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"sync"
	"syscall"
	"time"

	"github.com/fanfare-go/fanfare/benchmarks/internal/target"
)

const (
	// retry is how long a write waits for a full socket; it should not happen in a run whose figures count.
	retry = 50 * time.Microsecond
	// giveUp is when a socket that stays full is dropped.
	giveUp = 5 * time.Second
)

// floor holds the subscribers of all channels.
type floor struct {
	readers sync.WaitGroup

	mu       sync.Mutex // guards below, and keeps descriptors open while they are written to
	channels map[string][]*subscriber
	conns    map[net.Conn]struct{}
	closed   bool
}

type subscriber struct {
	fd      int
	channel string
	index   int // in the channel's list
}

func newFloor() *floor {
	return &floor{channels: make(map[string][]*subscriber), conns: make(map[net.Conn]struct{})}
}

func (f *floor) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /connection/websocket", f.connect)
	target.HandleControl(mux, f.publish)
	return mux
}

// publish writes one frame to every subscriber.
func (f *floor) publish(_ context.Context, channel string, data []byte) error {
	frame := appendFrame(nil, channel, data)
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, s := range f.channels[channel] {
		n, err := syscall.Write(s.fd, frame)
		if err != nil || n != len(frame) {
			s.finish(frame[max(n, 0):])
		}
	}
	return nil
}

// finish writes the rest of a frame to a full socket. It drops those that are broken; their readers then remove them.
func (s *subscriber) finish(rest []byte) {
	for start := time.Now(); time.Since(start) < giveUp; {
		n, err := syscall.Write(s.fd, rest)
		rest = rest[max(n, 0):]
		switch {
		case len(rest) == 0:
			return
		case err == nil || errors.Is(err, syscall.EAGAIN) || errors.Is(err, syscall.EINTR):
			time.Sleep(retry)
			continue
		}
		break
	}
	_ = syscall.Shutdown(s.fd, syscall.SHUT_RDWR)
}

// appendFrame appends a publication as a node sends it on a JSON WebSocket.
func appendFrame(dst []byte, channel string, data []byte) []byte {
	const head, middle, tail = `{"push":{"channel":`, `,"pub":{"data":`, `}}}`
	name := strconv.Quote(channel)
	dst = appendHeader(dst, len(head)+len(name)+len(middle)+len(data)+len(tail))
	dst = append(append(append(dst, head...), name...), middle...)
	return append(append(dst, data...), tail...)
}

func appendText(dst []byte, text string) []byte { return append(appendHeader(dst, len(text)), text...) }

func appendHeader(dst []byte, size int) []byte {
	const finText = 0x81
	switch {
	case size < 126:
		return append(dst, finText, byte(size))
	case size < 1<<16:
		return binary.BigEndian.AppendUint16(append(dst, finText, 126), uint16(size))
	default:
		return binary.BigEndian.AppendUint64(append(dst, finText, 127), uint64(size))
	}
}

// hold makes a connection known, so that close finds it.
func (f *floor) hold(c net.Conn) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed {
		return net.ErrClosed
	}
	f.conns[c] = struct{}{}
	f.readers.Add(1)
	return nil
}

// subscribe answers under the lock: behind the reply every publication follows, and none before it.
func (f *floor) subscribe(c net.Conn, cmd command) (*subscriber, error) {
	tcp, ok := c.(*net.TCPConn)
	if !ok {
		return nil, fmt.Errorf("%T is not a TCP connection", c)
	}
	raw, err := tcp.SyscallConn()
	if err != nil {
		return nil, err
	}
	s := &subscriber{channel: cmd.channel}
	if err := raw.Control(func(fd uintptr) { s.fd = int(fd) }); err != nil {
		return nil, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if _, err := c.Write(appendText(nil, cmd.reply)); err != nil {
		return nil, err
	}
	s.index = len(f.channels[s.channel])
	f.channels[s.channel] = append(f.channels[s.channel], s)
	return s, nil
}

// release forgets a connection before its descriptor can become another's.
func (f *floor) release(c net.Conn, s *subscriber) {
	defer f.readers.Done()
	f.mu.Lock()
	defer f.mu.Unlock()
	if s != nil {
		list := f.channels[s.channel]
		last := list[len(list)-1]
		list[s.index], last.index = last, s.index
		f.channels[s.channel] = list[:len(list)-1]
	}
	delete(f.conns, c)
	_ = c.Close()
}

func (f *floor) close(context.Context) error {
	f.mu.Lock()
	f.closed = true
	for c := range f.conns {
		// The reader closes it: until then the descriptor must remain its own.
		_ = c.SetDeadline(time.Unix(1, 0))
	}
	f.mu.Unlock()
	f.readers.Wait()
	return nil
}
