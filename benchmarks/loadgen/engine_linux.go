package main

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"strings"
	"syscall"
	"time"
)

// engine drives many WebSocket client connections from one goroutine: raw
// non-blocking sockets, one epoll instance, one shared read buffer. All its
// methods must be called from that goroutine.
type engine struct {
	codec       codec
	addr        syscall.SockaddrInet4
	host        string
	path        string
	sourceIP    [4]byte
	concurrency int

	epfd   int
	conns  []clientConn
	byFD   []int32
	events []syscall.EpollEvent
	buf    []byte
	out    []byte

	queued   []int32 // connections that wait to be opened
	inFlight int     // connections that are being opened

	stats engineStats
	// onSubscribed is called for each successful subscribe reply.
	onSubscribed func(c *clientConn, ev event)
}

type engineStats struct {
	ready int // subscribed connections
	pubs  int
	// Of connections that have stalled: those that the server gave up, apart from closed, and reads after resume.
	stalledClosed int
	stalledReads  int
	outOfOrder    int
	recovered     int
	missed        int // publications that came inside subscribe replies
	frames        int
	reads         int
	closed        int
	failed        int
	firstError    string

	latency histogram
	setup   histogram
}

type connState uint8

const (
	stIdle connState = iota
	stConnecting
	stUpgrading
	stOpen
	stReady
	stClosed
)

type clientConn struct {
	fd      int32
	state   connState
	sub     subscribeArgs
	pending []byte // start of an incomplete frame
	lastSeq uint64
	started time.Time
	stalls  bool // chosen to stop reading one day
	stalled bool // has done so
}

// The key is fixed: the server's answer to it is not checked, as the generator
// measures servers that are known to be correct.
const upgradeRequest = "GET %s HTTP/1.1\r\nHost: %s\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n" +
	"Sec-WebSocket-Key: bG9hZGdlbi1sb2FkZ2VuIQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"

const (
	readBufferSize = 256 << 10
	// stallBufferSize is all that the kernel receives for a connection that will stop reading, so that the server is
	// what has to hold its data.
	stallBufferSize = 4096
)

func newEngine(addr, path string, c codec, concurrency int) (*engine, error) {
	ap, err := netip.ParseAddrPort(addr)
	if err != nil || !ap.Addr().Is4() {
		return nil, fmt.Errorf("address %q must be IPv4:port", addr)
	}
	epfd, err := syscall.EpollCreate1(syscall.EPOLL_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("epoll: %w", err)
	}
	if q := c.query(); q != "" {
		sep := "?"
		if strings.Contains(path, "?") {
			sep = "&"
		}
		path += sep + q
	}
	e := &engine{
		codec:       c,
		addr:        syscall.SockaddrInet4{Port: int(ap.Port()), Addr: ap.Addr().As4()},
		host:        addr,
		path:        path,
		concurrency: concurrency,
		epfd:        epfd,
		events:      make([]syscall.EpollEvent, 1024),
		buf:         make([]byte, readBufferSize),
	}
	if e.addr.Addr[0] == 127 {
		// A fresh loopback source network per run: a port that an earlier run
		// left in TIME_WAIT can not be in the way.
		e.sourceIP = [4]byte{127, byte(1 + rand.IntN(250)), byte(rand.IntN(250)), 1}
	}
	return e, nil
}

// open queues connections, one per given subscription. They are opened as poll
// is called, at most e.concurrency at a time.
func (e *engine) open(subs []subscribeArgs) {
	for _, s := range subs {
		e.conns = append(e.conns, clientConn{fd: -1, sub: s})
		e.queued = append(e.queued, int32(len(e.conns)-1))
	}
}

// reopen queues all closed connections again.
func (e *engine) reopen() {
	for i := range e.conns {
		if c := &e.conns[i]; c.fd < 0 {
			c.state = stIdle
			e.queued = append(e.queued, int32(i))
		}
	}
}

// stall makes the connections that were chosen for it stop reading. They stay open.
func (e *engine) stall() error {
	for i := range e.conns {
		if c := &e.conns[i]; c.stalls && c.state == stReady {
			if err := syscall.EpollCtl(e.epfd, syscall.EPOLL_CTL_DEL, int(c.fd), nil); err != nil {
				return fmt.Errorf("epoll delete: %w", err)
			}
			c.stalled = true
		}
	}
	return nil
}

// resume makes the stalled connections read again: what was sent to them, and whether they were closed.
func (e *engine) resume() error {
	for i := range e.conns {
		if c := &e.conns[i]; c.stalled && c.fd >= 0 {
			ev := syscall.EpollEvent{Events: syscall.EPOLLIN, Fd: c.fd}
			if err := syscall.EpollCtl(e.epfd, syscall.EPOLL_CTL_ADD, int(c.fd), &ev); err != nil {
				return fmt.Errorf("epoll add: %w", err)
			}
		}
	}
	return nil
}

// close lets go of everything.
func (e *engine) close() {
	e.dropAll()
	_ = syscall.Close(e.epfd)
}

// dropAll closes every connection with a reset, as a network loss would.
func (e *engine) dropAll() {
	for i := range e.conns {
		c := &e.conns[i]
		if c.fd >= 0 {
			_ = syscall.SetsockoptLinger(int(c.fd), syscall.SOL_SOCKET, syscall.SO_LINGER, &syscall.Linger{Onoff: 1})
			_ = syscall.Close(int(c.fd))
			c.fd = -1
			c.pending = nil
			c.state = stClosed
		}
	}
	e.stats.ready = 0
}

// fail closes a connection because of an error or of a close by the server.
func (e *engine) fail(c *clientConn, reason string) {
	if e.stats.firstError == "" && !c.stalled {
		e.stats.firstError = reason
	}
	switch {
	case c.stalled:
		e.stats.ready--
		e.stats.stalledClosed++
	case c.state == stReady:
		e.stats.ready--
		e.stats.closed++
	default:
		e.inFlight--
		e.stats.failed++
	}
	c.state = stClosed
	if c.fd >= 0 {
		_ = syscall.Close(int(c.fd))
		c.fd = -1
	}
	c.pending = nil
}

// poll opens queued connections and handles socket events, waiting for them at
// most for the given time.
func (e *engine) poll(wait time.Duration) error {
	for len(e.queued) > 0 && e.inFlight < e.concurrency {
		i := e.queued[0]
		e.queued = e.queued[1:]
		if err := e.dial(i); err != nil {
			return err
		}
	}
	ms := int((wait + time.Millisecond - 1) / time.Millisecond)
	n, err := syscall.EpollWait(e.epfd, e.events, ms)
	if err != nil {
		if errors.Is(err, syscall.EINTR) {
			return nil
		}
		return fmt.Errorf("epoll wait: %w", err)
	}
	for _, ev := range e.events[:n] {
		if int(ev.Fd) >= len(e.byFD) {
			continue
		}
		c := &e.conns[e.byFD[ev.Fd]]
		if c.fd != ev.Fd {
			continue
		}
		if c.state == stConnecting {
			e.finishDial(c)
			continue
		}
		e.read(c)
	}
	return nil
}

func (e *engine) dial(i int32) error {
	c := &e.conns[i]
	c.started = time.Now()
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_NONBLOCK|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("socket for connection %d: %w", i, err)
	}
	_ = syscall.SetsockoptInt(fd, syscall.IPPROTO_TCP, syscall.TCP_NODELAY, 1)
	if c.stalls {
		// Before connect: later it no longer bounds the window.
		_ = syscall.SetsockoptInt(fd, syscall.SOL_SOCKET, syscall.SO_RCVBUF, stallBufferSize)
	}
	if e.sourceIP[0] != 0 {
		// Let connect, not bind, choose the port, so that ports are unique per
		// destination and not per host.
		const ipBindAddressNoPort = 24
		_ = syscall.SetsockoptInt(fd, syscall.IPPROTO_IP, ipBindAddressNoPort, 1)
		src := syscall.SockaddrInet4{Addr: e.sourceIP}
		src.Addr[3] = byte(1 + i%8)
		if err := syscall.Bind(fd, &src); err != nil {
			return fmt.Errorf("bind source address: %w", err)
		}
	}
	if err := syscall.Connect(fd, &e.addr); err != nil && !errors.Is(err, syscall.EINPROGRESS) {
		return fmt.Errorf("connect: %w", err)
	}
	for len(e.byFD) <= fd {
		e.byFD = append(e.byFD, -1)
	}
	e.byFD[fd] = i
	c.fd = int32(fd)
	c.state = stConnecting
	c.lastSeq = 0
	e.inFlight++
	ev := syscall.EpollEvent{Events: syscall.EPOLLOUT, Fd: int32(fd)}
	if err := syscall.EpollCtl(e.epfd, syscall.EPOLL_CTL_ADD, fd, &ev); err != nil {
		return fmt.Errorf("epoll add: %w", err)
	}
	return nil
}

func (e *engine) finishDial(c *clientConn) {
	if v, err := syscall.GetsockoptInt(int(c.fd), syscall.SOL_SOCKET, syscall.SO_ERROR); err != nil || v != 0 {
		e.fail(c, fmt.Sprintf("connect: %v", syscall.Errno(v)))
		return
	}
	ev := syscall.EpollEvent{Events: syscall.EPOLLIN, Fd: c.fd}
	if err := syscall.EpollCtl(e.epfd, syscall.EPOLL_CTL_MOD, int(c.fd), &ev); err != nil {
		e.fail(c, "epoll modify: "+err.Error())
		return
	}
	c.state = stUpgrading
	e.out = fmt.Appendf(e.out[:0], upgradeRequest, e.path, e.host)
	e.write(c, e.out)
}

// write sends b in one call. Everything the generator sends is small, so a
// short write means that the peer stopped reading; that fails the connection.
func (e *engine) write(c *clientConn, b []byte) {
	n, err := syscall.Write(int(c.fd), b)
	if err != nil || n != len(b) {
		e.fail(c, fmt.Sprintf("write: %d of %d bytes, %v", n, len(b), err))
	}
}

// writeFrame sends a masked frame. The mask is all zero: valid, and it costs
// the client nothing.
func (e *engine) writeFrame(c *clientConn, opcode byte, payload []byte) {
	b := append(e.out[:0], 0x80|opcode)
	if len(payload) < 126 {
		b = append(b, 0x80|byte(len(payload)))
	} else {
		b = append(b, 0x80|126)
		b = binary.BigEndian.AppendUint16(b, uint16(len(payload)))
	}
	b = append(b, 0, 0, 0, 0)
	e.out = append(b, payload...)
	e.write(c, e.out)
}
