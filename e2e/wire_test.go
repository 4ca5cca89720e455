package e2e

import (
	"context"
	"io"
	"net"
	"sync"
)

// wire carries connections, one browser's for instance, to a server, until it is cut.
type wire struct {
	listener net.Listener
	to       string
	running  sync.WaitGroup

	mu    sync.Mutex // guards below
	isCut bool
	conns map[net.Conn]bool
}

func newWire(to string) (*wire, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	w := &wire{listener: l, to: to, conns: make(map[net.Conn]bool)}
	// Owned by the wire; close ends them and waits.
	w.running.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			w.running.Go(func() { w.carry(conn) })
		}
	})
	return w, nil
}

func (w *wire) carry(from net.Conn) {
	defer from.Close()
	to, err := new(net.Dialer).DialContext(context.Background(), "tcp", w.to)
	if err != nil {
		return // the server is down: so is the connection
	}
	defer to.Close()
	if !w.add(from, to) {
		return
	}
	defer w.remove(from, to)
	done := make(chan struct{})
	go func() { // ends with either connection, and carry waits for it
		defer close(done)
		_, _ = io.Copy(to, from)
		to.Close()
	}()
	_, _ = io.Copy(from, to)
	from.Close()
	<-done
}

func (w *wire) add(conns ...net.Conn) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.isCut {
		return false
	}
	for _, c := range conns {
		w.conns[c] = true
	}
	return true
}

func (w *wire) remove(conns ...net.Conn) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, c := range conns {
		delete(w.conns, c)
	}
}

func (w *wire) set(cut bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.isCut = cut
	if !cut {
		return
	}
	for c := range w.conns {
		c.Close()
	}
}

// drop closes the connection that the other side sees come from an address.
func (w *wire) drop(from string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for c := range w.conns {
		if c.LocalAddr().String() == from {
			c.Close()
		}
	}
}

func (w *wire) close() {
	w.listener.Close()
	w.set(true)
	w.running.Wait()
}
