package websocket

import (
	"net"
	"os"
	"sync"
	"syscall"
)

// engine serves connections of plain sockets without a goroutine for each. What it runs exists only while it has
// connections.
type engine struct {
	mu     sync.Mutex // guards below
	poller *poller    // nil without connections
	conns  int
}

// join counts a connection in.
func (e *engine) join() (*poller, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.poller == nil {
		p, err := newPoller()
		if err != nil {
			return nil, err
		}
		e.poller = p
	}
	e.conns++
	return e.poller, nil
}

// leave counts a connection out; the last one ends the goroutines.
func (e *engine) leave() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.conns--
	if e.conns == 0 {
		e.poller.close()
		e.poller = nil
	}
}

// adopt moves the connection to the engine if it is one of a bare TCP or Unix socket; TLS and wrappers of unknown purpose
// stay. So do all when the engine cannot have them, because the process is short of files, say.
func (t *Transport) adopt(c *conn, o offer) door {
	if t.options.PortableIO || c.wire.compressed {
		return c
	}
	socket, ok := plainSocket(c.wire.Conn)
	if !ok {
		return c
	}
	p, err := t.engine.join()
	if err != nil {
		return c
	}
	fd, err := duplicate(socket)
	if err != nil {
		t.engine.leave()
		return c
	}
	d := &dense{
		transport: t, poller: p, fd: int32(fd), encoding: o.encoding, nativePing: c.info.NativePing,
		opening: &opening{first: o.connect, early: c.wire.early},
	}
	d.state.Store(stateRunning) // until start: what happens before is only noted
	if err := p.add(d); err != nil {
		_ = syscall.Close(fd)
		t.engine.leave()
		return c
	}
	c.detach()
	return d
}

// duplicate makes a file of our own for the socket, which the runtime's poller and the garbage collector do not know.
func duplicate(socket syscall.Conn) (fd int, err error) {
	raw, err := socket.SyscallConn()
	if err != nil {
		return 0, err
	}
	var errno syscall.Errno
	err = raw.Control(func(original uintptr) {
		var r uintptr
		r, _, errno = syscall.Syscall(syscall.SYS_FCNTL, original, syscall.F_DUPFD_CLOEXEC, 0)
		fd = int(r)
	})
	if err == nil && errno != 0 {
		err = os.NewSyscallError("fcntl", errno)
	}
	return fd, err
}

// detach lets the library's object and the original of the socket go: the handshake was all they were needed for.
func (c *conn) detach() {
	socket := c.wire.Conn
	c.wire.Conn = detached{}
	_ = c.lib.CloseNow() // which also spares the collector a finalizer
	_ = socket.Close()
}

// detached takes the place of a connection that is no longer the library's to close.
type detached struct{ net.Conn }

// Close implements [net.Conn].
func (detached) Close() error { return nil }
