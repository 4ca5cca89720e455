//go:build unix

package websocket

import (
	"net"
	"syscall"
)

// plainSocket tells whether bytes may go past the connection to its socket: not behind TLS or a wrapper of unknown purpose.
func plainSocket(c net.Conn) (syscall.Conn, bool) {
	switch s := c.(type) {
	case *net.TCPConn:
		return s, true
	case *net.UnixConn:
		return s, true
	}
	return nil, false
}

// await waits until there is something to read, or the connection or its deadline ends the wait. A buffer is borrowed
// for what there is, not for the wait.
func (w *wire) await() {
	if w.raw.Read(w.readAhead) != nil || len(w.early) == 0 {
		w.over = true // the library's own read shows what it is
	}
}

func (w *wire) readAhead(fd uintptr) bool {
	b := aheadBuffers.Get().(*[]byte)
	n, err := syscall.Read(int(fd), *b)
	if n > 0 {
		w.early, w.lent = (*b)[:n], b
		return true
	}
	aheadBuffers.Put(b)
	return err != syscall.EAGAIN
}
