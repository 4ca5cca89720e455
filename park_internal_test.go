package fanfare

import (
	"net"
	"runtime"
	"testing"

	"github.com/stretchr/testify/require"
)

// Whoever waits for the network gets its turn while a parker is busy on the only core.
func TestParker_LetsTheNetworkIn(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer ln.Close()
	echoed := make(chan error, 1)
	go func() {
		c, err := ln.Accept()
		if err == nil {
			_, err = c.Read(make([]byte, 1))
			_ = c.Close()
		}
		echoed <- err
	}()
	c, err := net.Dial("tcp", ln.Addr().String())
	require.NoError(t, err)
	defer c.Close()
	_, err = c.Write([]byte{1})
	require.NoError(t, err)

	var p parker
	defer p.close()
	for range 10_000 {
		p.park()
		if len(echoed) > 0 {
			require.NoError(t, <-echoed)
			return
		}
	}
	t.Fatal("nobody else had a turn")
}

func TestParker_Close(t *testing.T) {
	var unused, used parker
	unused.close()
	used.park()
	used.park()
	used.close() // goleak finds what is left
}
