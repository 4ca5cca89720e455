//go:build unix

package websocket

import (
	"bytes"
	"fmt"
	"net"
	"syscall"

	"github.com/fanfare-go/fanfare/transport"
)

// tryConn is a connection whose socket can be written to without waiting.
type tryConn struct {
	*conn
	attempt func(fd uintptr) bool // made once, so that TryWrite allocates nothing

	// The arguments and results of attempt, guarded by wire.mu.
	frames []byte
	n      int
	err    error
}

var (
	_ transport.Conn      = (*tryConn)(nil)
	_ transport.TryWriter = (*tryConn)(nil)
	_ transport.Pinger    = (*tryConn)(nil)
)

// newTryConn returns nil if bytes may not go to the socket as they are.
func newTryConn(c *conn) transport.Conn {
	if c.wire.raw == nil {
		return nil
	}
	t := &tryConn{conn: c}
	t.attempt = t.write
	return t
}

// TryWrite implements [transport.TryWriter]. It writes nothing while another write is under way.
func (t *tryConn) TryWrite(frames []byte) (int, error) {
	w := &t.wire
	if !w.mu.TryLock() {
		return 0, nil
	}
	defer w.mu.Unlock()
	switch {
	case w.sealed:
		return 0, fmt.Errorf("websocket: write: %w", net.ErrClosed)
	case w.broken != nil:
		return 0, fmt.Errorf("websocket: write: %w", w.broken)
	case len(w.rest) > 0:
		return 0, nil
	}
	t.frames = frames
	err := w.raw.Write(t.attempt)
	n := t.n
	if err == nil {
		err = t.err
	}
	t.frames, t.n, t.err = nil, 0, nil
	if err != nil {
		w.broken = err
		return n, fmt.Errorf("websocket: write: %w", err)
	}
	if n < len(frames) {
		// A copy, for frames belong to the core, and Close may have to finish this one.
		w.rest = bytes.Clone(cutFrame(frames, n))
	}
	return n, nil
}

// write makes one system call, and tells the runtime not to wait for the socket to become writable.
func (t *tryConn) write(fd uintptr) bool {
	for {
		n, err := syscall.Write(int(fd), t.frames)
		switch err {
		case nil:
			t.n = n
		case syscall.EINTR:
			continue
		case syscall.EAGAIN:
		default:
			t.err = err
		}
		return true
	}
}
