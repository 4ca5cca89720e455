package redistest

import (
	"fmt"
	"math/rand/v2"
	"net"
	"sync"
)

// Ports below those that systems give to outgoing connections, so that a server that was killed finds its own free again.
const (
	lowestPort  = 12000
	highestPort = 32000
)

// handedOut are the ports of servers of this process, which may be stopped just now.
var handedOut sync.Map

// freePort returns a port that nothing listens at. Another process may still be faster to take it.
func freePort() (int, error) {
	var err error
	for range 1000 {
		port := lowestPort + rand.N(highestPort-lowestPort)
		if _, taken := handedOut.LoadOrStore(port, nil); taken {
			continue
		}
		var l net.Listener
		if l, err = net.Listen("tcp", address(port)); err == nil {
			return port, l.Close()
		}
		handedOut.Delete(port)
	}
	return 0, fmt.Errorf("no port is free: %w", err)
}

func address(port int) string { return fmt.Sprintf("127.0.0.1:%d", port) }
