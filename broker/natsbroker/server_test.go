package natsbroker

import (
	"context"
	"io"
	"log/slog"
	"os"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare"
)

// natsServer is a server with JetStream in the process of the test. It keeps its port when it is stopped and started again.
type natsServer struct {
	dir  string
	port int

	mu      sync.Mutex // guards below
	running *server.Server
}

func startServer(t testing.TB) *natsServer {
	s := &natsServer{dir: t.TempDir(), port: server.RANDOM_PORT}
	s.start(t)
	t.Cleanup(s.stop)
	return s
}

func (s *natsServer) start(t testing.TB) {
	srv, err := server.NewServer(&server.Options{
		Host: "127.0.0.1", Port: s.port, JetStream: true, StoreDir: s.dir, NoLog: true, NoSigs: true,
	})
	require.NoError(t, err)
	srv.Start()
	require.True(t, srv.ReadyForConnections(10*time.Second), "the server does not start")
	s.mu.Lock()
	defer s.mu.Unlock()
	s.running = srv
	if s.port == server.RANDOM_PORT {
		_, port, _ := splitPort(srv.Addr().String())
		s.port = port
	}
}

func splitPort(addr string) (host string, port int, err error) {
	for i := len(addr) - 1; i >= 0; i-- {
		if addr[i] == ':' {
			port, err = strconv.Atoi(addr[i+1:])
			return addr[:i], port, err
		}
	}
	return addr, 0, io.ErrUnexpectedEOF
}

func (s *natsServer) stop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.running != nil {
		s.running.Shutdown()
		s.running.WaitForShutdown()
		s.running = nil
	}
}

// restart stops the server and starts it again, with what it has stored or without.
func (s *natsServer) restart(t testing.TB, keep bool) {
	s.stop()
	if !keep {
		require.NoError(t, os.RemoveAll(s.dir))
	}
	s.start(t)
}

func (s *natsServer) url() string { return "nats://127.0.0.1:" + strconv.Itoa(s.port) }

// broker returns a broker of the server that is closed with the test. Change may be nil.
func (s *natsServer) broker(t testing.TB, change func(*Config)) *Broker {
	c := Config{URL: s.url(), Logger: slog.New(slog.NewTextHandler(io.Discard, nil))}
	if change != nil {
		change(&c)
	}
	b, err := New(context.Background(), c)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, b.Close()) })
	return b
}

var _ fanfare.Broker = (*Broker)(nil)
