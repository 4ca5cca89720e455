package delivery

import (
	"io"
	"math/rand/v2"
	"net"
	"slices"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
)

// Balancer carries each connection to one of some servers, picked at random. It ends with the test.
type Balancer struct {
	listener net.Listener
	running  sync.WaitGroup

	mu      sync.Mutex // guards below
	closed  bool
	servers []string
	conns   map[net.Conn]bool
	carried map[string]int // connections, by server
}

// NewBalancer returns one without servers.
func NewBalancer(t testing.TB) *Balancer {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	b := &Balancer{listener: l, conns: make(map[net.Conn]bool), carried: make(map[string]int)}
	b.running.Go(b.accept)
	t.Cleanup(b.close)
	return b
}

// Address is where clients go.
func (b *Balancer) Address() string { return b.listener.Addr().String() }

// Add makes new connections go to a server, too.
func (b *Balancer) Add(address string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.servers = append(b.servers, address)
}

// Remove makes no new connection go to a server. Those that there are stay.
func (b *Balancer) Remove(address string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.servers = slices.DeleteFunc(b.servers, func(s string) bool { return s == address })
}

// Cut closes one of the connections, picked at random.
func (b *Balancer) Cut() {
	b.mu.Lock()
	defer b.mu.Unlock()
	for c := range b.conns { // in no order
		c.Close()
		return
	}
}

// Carried returns how many connections each server got.
func (b *Balancer) Carried() map[string]int {
	b.mu.Lock()
	defer b.mu.Unlock()
	carried := make(map[string]int)
	for server, n := range b.carried {
		carried[server] = n
	}
	return carried
}

func (b *Balancer) accept() {
	for {
		conn, err := b.listener.Accept()
		if err != nil {
			return
		}
		b.running.Go(func() { b.carry(conn) })
	}
}

func (b *Balancer) carry(from net.Conn) {
	defer from.Close()
	to := b.dial()
	if to == nil {
		return // no server is up
	}
	defer to.Close()
	if !b.note(from, to) {
		return
	}
	defer b.forget(from, to)
	b.running.Go(func() { // ends with either connection
		_, _ = io.Copy(to, from)
		to.Close()
	})
	_, _ = io.Copy(from, to)
}

// dial connects to a server, and if that is down to another.
func (b *Balancer) dial() net.Conn {
	b.mu.Lock()
	servers := slices.Clone(b.servers)
	b.mu.Unlock()
	rand.Shuffle(len(servers), func(i, j int) { servers[i], servers[j] = servers[j], servers[i] })
	for _, server := range servers {
		if conn, err := net.Dial("tcp", server); err == nil {
			b.mu.Lock()
			b.carried[server]++
			b.mu.Unlock()
			return conn
		}
	}
	return nil
}

func (b *Balancer) note(conns ...net.Conn) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return false
	}
	for _, c := range conns {
		b.conns[c] = true
	}
	return true
}

func (b *Balancer) forget(conns ...net.Conn) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, c := range conns {
		delete(b.conns, c)
	}
}

func (b *Balancer) close() {
	b.listener.Close()
	b.mu.Lock()
	b.closed = true
	for c := range b.conns {
		c.Close()
	}
	b.mu.Unlock()
	b.running.Wait()
}
