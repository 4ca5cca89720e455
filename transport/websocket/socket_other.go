//go:build !unix

package websocket

import (
	"net"
	"syscall"
)

// plainSocket says no: readers wait in the library, and writers write through the runtime.
func plainSocket(net.Conn) (syscall.Conn, bool) { return nil, false }

func (*wire) await() {}
