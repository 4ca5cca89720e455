package websocket

import (
	"net"
	"net/http"
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

// mayAdopt reports whether the connection of a request is the engine's if it is of a plain socket.
func (t *Transport) mayAdopt(r *http.Request) bool {
	deflated := t.options.Compression && len(r.Header["Sec-Websocket-Extensions"]) > 0
	return !t.options.PortableIO && !deflated && r.TLS == nil
}

// adopt moves a connection to the engine if it is one of a bare TCP or Unix socket; TLS and wrappers of unknown purpose
// are not moved. So are none when the engine cannot have them, because the process is short of files, say: then it returns
// nil.
func (t *Transport) adopt(netConn net.Conn, early []byte, o offer) door {
	socket, ok := plainSocket(netConn)
	if !ok {
		return nil
	}
	p, err := t.engine.join()
	if err != nil {
		return nil
	}
	fd, err := duplicate(socket)
	if err != nil {
		t.engine.leave()
		return nil
	}
	d := &dense{
		transport: t, poller: p, fd: int32(fd), encoding: o.encoding, nativePing: t.info(o).NativePing,
		opening: &opening{first: o.connect, early: early},
	}
	d.state.Store(stateRunning) // until start: what happens before is only noted
	if err := p.add(d); err != nil {
		_ = syscall.Close(fd)
		t.engine.leave()
		return nil
	}
	_ = netConn.Close() // the socket lives on in its duplicate
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
