package websocket

import (
	"os"
	"sync"
	"syscall"
)

const (
	// edge is EPOLLET: a socket is reported when something happens to it, not while it is so.
	edge = 1 << 31

	eventsIn   = syscall.EPOLLIN | syscall.EPOLLRDHUP | edge
	eventsOver = syscall.EPOLLRDHUP | syscall.EPOLLHUP | syscall.EPOLLERR
)

// poller watches the sockets of dense connections. It is an epoll instance that the runtime's own poller watches, so
// that waiting keeps no thread.
//
// Events carry a slot and its generation instead of a file number: what is reported late about a connection that has
// ended never reaches the one that got its file number, or its slot.
type poller struct {
	file *os.File
	raw  syscall.RawConn
	fd   int
	pool pool

	mu    sync.Mutex // guards below, and waiter of all connections; taken with dense.mu held
	slots []slot
	free  []int32
}

type slot struct {
	conn       *dense // nil if free
	generation int32
}

func newPoller() (*poller, error) {
	fd, err := syscall.EpollCreate1(syscall.EPOLL_CLOEXEC)
	if err != nil {
		return nil, os.NewSyscallError("epoll_create1", err)
	}
	if err := syscall.SetNonblock(fd, true); err != nil { // which makes os.NewFile hand it to the runtime's poller
		_ = syscall.Close(fd)
		return nil, os.NewSyscallError("fcntl", err)
	}
	p := &poller{file: os.NewFile(uintptr(fd), "epoll"), fd: fd}
	if p.raw, err = p.file.SyscallConn(); err != nil {
		_ = p.file.Close()
		return nil, err
	}
	p.pool.init()
	go p.run() // ends with close
	return p, nil
}

// close ends all goroutines. There are no connections left.
func (p *poller) close() {
	_ = p.file.Close()
	p.pool.close()
}

func (p *poller) run() {
	events := make([]syscall.EpollEvent, 256)
	ready := make([]*dense, 0, len(events))
	for {
		n := 0
		err := p.raw.Read(func(fd uintptr) bool {
			var err error
			n, err = syscall.EpollWait(int(fd), events, 0)
			return n > 0 || err != nil
		})
		if err != nil {
			return
		}
		ready = p.dispatch(events[:max(n, 0)], ready[:0])
		p.pool.submit(ready...)
		clear(ready)
	}
}

// dispatch wakes writers, and adds to ready the connections that have something to read and that no worker has.
func (p *poller) dispatch(events []syscall.EpollEvent, ready []*dense) []*dense {
	p.mu.Lock()
	defer p.mu.Unlock()
	for i := range events {
		e := &events[i]
		s := &p.slots[e.Fd]
		if s.conn == nil || s.generation != e.Pad {
			continue
		}
		if e.Events&(syscall.EPOLLOUT|eventsOver) != 0 {
			s.conn.wake()
		}
		marks := uint32(stateAgain)
		if e.Events&eventsOver != 0 {
			marks |= stateOver
		}
		if e.Events&^syscall.EPOLLOUT != 0 && s.conn.mark(marks) {
			ready = append(ready, s.conn)
		}
	}
	return ready
}

// add begins to watch the connection's socket.
func (p *poller) add(c *dense) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if n := len(p.free); n > 0 {
		c.slot = p.free[n-1]
		p.free = p.free[:n-1]
	} else {
		c.slot = int32(len(p.slots))
		p.slots = append(p.slots, slot{})
	}
	s := &p.slots[c.slot]
	s.conn = c
	if err := p.control(syscall.EPOLL_CTL_ADD, c, eventsIn); err != nil {
		p.release(c)
		return err
	}
	return nil
}

// remove ends it, before the socket is closed.
func (p *poller) remove(c *dense) {
	p.mu.Lock()
	defer p.mu.Unlock()
	_ = p.control(syscall.EPOLL_CTL_DEL, c, 0)
	c.wake()
	p.release(c)
}

// release gives the slot back. The caller holds mu.
func (p *poller) release(c *dense) {
	s := &p.slots[c.slot]
	s.conn = nil
	s.generation++
	p.free = append(p.free, c.slot)
}

// writable returns a channel that is closed when the socket takes more, or nothing any more. The caller holds c.mu, and
// c has an open socket.
func (p *poller) writable(c *dense) (<-chan struct{}, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if c.waiter == nil {
		c.waiter = make(chan struct{})
	}
	// Repeated even if the socket is watched for it: what has become true since the failed write is reported again.
	return c.waiter, p.control(syscall.EPOLL_CTL_MOD, c, eventsIn|syscall.EPOLLOUT)
}

// control changes how a socket is watched. The caller holds mu.
func (p *poller) control(op int, c *dense, events uint32) error {
	e := syscall.EpollEvent{Events: events, Fd: c.slot, Pad: p.slots[c.slot].generation}
	return os.NewSyscallError("epoll_ctl", syscall.EpollCtl(p.fd, op, int(c.fd), &e))
}
