package websocket

import (
	"crypto/tls"
	"net"
	"net/http"
	"os"
	"syscall"
	"testing"
	"unsafe"

	"github.com/stretchr/testify/require"
)

// watched returns a connection that a poller without goroutines watches, and the other end of its socket.
func watched(t *testing.T, p *poller) (*dense, *os.File) {
	t.Helper()
	fds, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_NONBLOCK|syscall.SOCK_CLOEXEC, 0)
	require.NoError(t, err)
	peer := os.NewFile(uintptr(fds[1]), "peer")
	t.Cleanup(func() { _ = peer.Close() })
	c := &dense{poller: p, fd: int32(fds[0])}
	require.NoError(t, p.add(c))
	return c, peer
}

func idlePoller(t *testing.T) *poller {
	t.Helper()
	fd, err := syscall.EpollCreate1(syscall.EPOLL_CLOEXEC)
	require.NoError(t, err)
	t.Cleanup(func() { _ = syscall.Close(fd) })
	return &poller{fd: fd}
}

func TestPoller_ALateEventReachesNobodyElse(t *testing.T) {
	t.Parallel()
	p := idlePoller(t)
	old, peer := watched(t, p)
	_, err := peer.WriteString("x")
	require.NoError(t, err)
	events := make([]syscall.EpollEvent, 8)
	n, err := syscall.EpollWait(p.fd, events, 1000)
	require.NoError(t, err)
	require.Equal(t, 1, n)

	// The event has been fetched; its connection ends, and the next gets both its file number and its slot.
	number, place := old.fd, old.slot
	p.remove(old)
	require.NoError(t, syscall.Close(int(old.fd)))
	next, _ := watched(t, p)
	require.Equal(t, number, next.fd)
	require.Equal(t, place, next.slot)
	require.Empty(t, p.dispatch(events[:n], nil))
	require.Zero(t, next.state.Load())

	p.remove(next)
	require.NoError(t, syscall.Close(int(next.fd)))
	require.Empty(t, p.dispatch(events[:n], nil))
}

func TestPoller_ReportsAConnectionOnceUntilAWorkerGivesItBack(t *testing.T) {
	t.Parallel()
	p := idlePoller(t)
	c, _ := watched(t, p)
	defer syscall.Close(int(c.fd))
	event := []syscall.EpollEvent{{Events: syscall.EPOLLIN, Fd: c.slot}}
	require.Len(t, p.dispatch(event, nil), 1)
	require.Empty(t, p.dispatch(event, nil))
	require.EqualValues(t, stateRunning|stateAgain, c.state.Load())
}

func TestDense_IsSmall(t *testing.T) {
	t.Parallel()
	require.LessOrEqual(t, unsafe.Sizeof(dense{}), uintptr(192))
}

func TestAdopt_TakesPlainSocketsOnly(t *testing.T) {
	t.Parallel()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer listener.Close()
	peer, err := net.Dial("tcp", listener.Addr().String())
	require.NoError(t, err)
	defer peer.Close()
	socket, err := listener.Accept()
	require.NoError(t, err)
	defer socket.Close()
	for name, test := range map[string]net.Conn{
		"wrapped": struct{ net.Conn }{socket},
		"closed":  &net.TCPConn{},
	} {
		transport := New(Options{})
		require.Nil(t, transport.adopt(test, nil, offer{}), name)
		require.Zero(t, transport.engine.conns, name)
		require.Nil(t, transport.engine.poller, name)
	}

	asks := func(header http.Header, secure *tls.ConnectionState) *http.Request {
		return &http.Request{Header: header, TLS: secure}
	}
	deflate := http.Header{"Sec-Websocket-Extensions": {"permessage-deflate"}}
	require.True(t, New(Options{}).mayAdopt(asks(nil, nil)))
	require.True(t, New(Options{}).mayAdopt(asks(deflate, nil)))
	require.True(t, New(Options{Compression: true}).mayAdopt(asks(nil, nil)))
	require.False(t, New(Options{Compression: true}).mayAdopt(asks(deflate, nil)))
	require.False(t, New(Options{PortableIO: true}).mayAdopt(asks(nil, nil)))
	require.False(t, New(Options{}).mayAdopt(asks(nil, &tls.ConnectionState{})))
}
