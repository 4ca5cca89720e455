package faults

import (
	"bytes"
	"net"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
)

// proxy is what is between a node and Redis. It knows the connections that subscribe, and can fail them.
type proxy struct {
	listener net.Listener
	to       string
	running  sync.WaitGroup

	mu    sync.Mutex // guards below
	lines map[*line]bool
	held  bool // all of them, and those that come
	shut  bool
}

// line is one connection through a proxy.
type line struct {
	from, to net.Conn

	mu          sync.Mutex // guards below
	subscribing bool
	held        bool
	resumed     *sync.Cond // with mu
}

func newProxy(t *testing.T, to string) *proxy {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	p := &proxy{listener: l, to: to, lines: make(map[*line]bool)}
	p.running.Go(p.accept)
	t.Cleanup(p.close)
	return p
}

func (p *proxy) address() string { return p.listener.Addr().String() }

func (p *proxy) accept() {
	for {
		from, err := p.listener.Accept()
		if err != nil {
			return
		}
		to, err := net.Dial("tcp", p.to)
		if err != nil {
			from.Close()
			continue
		}
		l := &line{from: from, to: to}
		l.resumed = sync.NewCond(&l.mu)
		p.mu.Lock()
		shut := p.shut
		l.held = p.held
		p.lines[l] = true
		p.mu.Unlock()
		if shut {
			l.end()
		}
		p.running.Go(func() { l.carry(l.to, l.from, l.watch); p.forget(l) })
		p.running.Go(func() { l.carry(l.from, l.to, func([]byte) {}) })
	}
}

// carry carries one direction until either end is closed. What is held waits, and the sender with it.
func (l *line) carry(to, from net.Conn, watch func([]byte)) {
	defer l.end()
	buf := make([]byte, 64<<10)
	for {
		n, err := from.Read(buf)
		if n > 0 {
			watch(buf[:n])
			l.mu.Lock()
			for l.held {
				l.resumed.Wait()
			}
			l.mu.Unlock()
			if _, err := to.Write(buf[:n]); err != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}

// watch finds out whether the connection subscribes.
func (l *line) watch(commands []byte) {
	if bytes.Contains(bytes.ToUpper(commands), []byte("SUBSCRIBE\r\n")) {
		l.mu.Lock()
		l.subscribing = true
		l.mu.Unlock()
	}
}

func (l *line) end() {
	l.hold(false)
	l.from.Close()
	l.to.Close()
}

func (l *line) hold(held bool) {
	l.mu.Lock()
	l.held = held
	l.mu.Unlock()
	l.resumed.Broadcast()
}

// hold lets nothing through any more, or all again.
func (p *proxy) hold(held bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.held = held
	for l := range p.lines {
		l.hold(held)
	}
}

func (p *proxy) forget(l *line) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.lines, l)
}

// subscriptions are the connections that subscribe.
func (p *proxy) subscriptions() (lines []*line) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for l := range p.lines {
		l.mu.Lock()
		if l.subscribing {
			lines = append(lines, l)
		}
		l.mu.Unlock()
	}
	return lines
}

func (p *proxy) close() {
	p.listener.Close()
	p.mu.Lock()
	p.shut = true
	for l := range p.lines {
		l.end()
	}
	p.mu.Unlock()
	p.running.Wait()
}
