package brokertest

import (
	"context"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare"
)

// server is what stands behind a shared broker: one process that everybody reaches through a connection.
type server struct {
	mu     sync.RWMutex // held for reading around every call; a restart waits for them. Guards below
	broker *fanfare.MemoryBroker
	links  []*remoteLink
}

// servers are those of the subtests that run.
type servers struct{ byTest sync.Map }

func (s *servers) of(t testing.TB) *server {
	if known, ok := s.byTest.Load(t); ok {
		return known.(*server)
	}
	srv := &server{broker: fanfare.NewMemoryBroker(fanfare.MemoryBrokerConfig{})}
	s.byTest.Store(t, srv)
	t.Cleanup(func() {
		s.byTest.Delete(t)
		require.NoError(t, srv.broker.Close())
	})
	return srv
}

// connect returns a broker that is a connection to the server.
func (s *server) connect() fanfare.Broker { return &remote{server: s} }

// restart loses all data, and brings the connections back.
func (s *server) restart(t testing.TB) {
	s.mu.Lock()
	defer s.mu.Unlock()
	require.NoError(t, s.broker.Close())
	s.broker = fanfare.NewMemoryBroker(fanfare.MemoryBrokerConfig{})
	s.reattach(t)
}

// blink loses the connections only, and brings them back.
func (s *server) blink(t testing.TB) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, l := range s.links {
		require.NoError(t, l.link.Close())
	}
	s.reattach(t)
}

func (s *server) reattach(t testing.TB) {
	for _, l := range s.links {
		if l.closed {
			continue
		}
		var err error
		l.link, err = s.broker.Attach(l.node, l.sink)
		require.NoError(t, err)
		for channel := range l.channels {
			require.NoError(t, l.link.Subscribe(context.Background(), channel))
		}
		l.sink.Interrupted(nil)
	}
}

// remote is a connection to a server.
type remote struct {
	server *server
	mu     sync.Mutex // guards below
	links  []*remoteLink
	closed bool
}

var (
	_ fanfare.Broker     = (*remote)(nil)
	_ fanfare.ControlBus = (*remote)(nil)
	_ fanfare.NodeLister = (*remote)(nil)
)

// call runs f with the server's broker, unless the connection is closed.
func (r *remote) call(f func(b *fanfare.MemoryBroker) error) error {
	r.server.mu.RLock()
	defer r.server.mu.RUnlock()
	r.mu.Lock()
	closed := r.closed
	r.mu.Unlock()
	if closed {
		return fanfare.ErrClosed
	}
	return f(r.server.broker)
}

func (r *remote) Attach(node string, sink fanfare.Sink) (fanfare.Link, error) {
	r.server.mu.Lock()
	defer r.server.mu.Unlock()
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return nil, fanfare.ErrClosed
	}
	link, err := r.server.broker.Attach(node, sink)
	if err != nil {
		return nil, err
	}
	l := &remoteLink{server: r.server, node: node, sink: sink, link: link, channels: make(map[string]bool)}
	r.links = append(r.links, l)
	r.server.links = append(r.server.links, l)
	return l, nil
}

func (r *remote) Publish(ctx context.Context, channel string, p *fanfare.Publication, o fanfare.StoreOptions) (position fanfare.Position, err error) {
	err = r.call(func(b *fanfare.MemoryBroker) (err error) { position, err = b.Publish(ctx, channel, p, o); return err })
	return position, err
}

func (r *remote) PublishMembership(ctx context.Context, channel string, m fanfare.Membership) error {
	return r.call(func(b *fanfare.MemoryBroker) error { return b.PublishMembership(ctx, channel, m) })
}

func (r *remote) History(ctx context.Context, channel string, q fanfare.HistoryQuery) (result fanfare.HistoryResult, err error) {
	err = r.call(func(b *fanfare.MemoryBroker) (err error) { result, err = b.History(ctx, channel, q); return err })
	return result, err
}

func (r *remote) RemoveHistory(ctx context.Context, channel string) error {
	return r.call(func(b *fanfare.MemoryBroker) error { return b.RemoveHistory(ctx, channel) })
}

func (r *remote) SendControl(ctx context.Context, from, to string, data []byte) error {
	return r.call(func(b *fanfare.MemoryBroker) error { return b.SendControl(ctx, from, to, data) })
}

func (r *remote) Nodes(ctx context.Context) (nodes []string, err error) {
	err = r.call(func(b *fanfare.MemoryBroker) (err error) { nodes, err = b.Nodes(ctx); return err })
	return nodes, err
}

func (r *remote) Close() error {
	r.mu.Lock()
	r.closed = true
	links := r.links
	r.mu.Unlock()
	for _, l := range links {
		if err := l.Close(); err != nil {
			return err
		}
	}
	return nil
}

// remoteLink remembers what a restart must bring back.
type remoteLink struct {
	server *server
	node   string
	sink   fanfare.Sink
	link   fanfare.Link // server.mu guards it

	mu       sync.Mutex // guards below
	channels map[string]bool
	closed   bool
}

func (l *remoteLink) Subscribe(ctx context.Context, channel string) error {
	return l.change(func() error { return l.link.Subscribe(ctx, channel) }, func() { l.channels[channel] = true })
}

func (l *remoteLink) Unsubscribe(ctx context.Context, channel string) error {
	return l.change(func() error { return l.link.Unsubscribe(ctx, channel) }, func() { delete(l.channels, channel) })
}

func (l *remoteLink) change(call func() error, remember func()) error {
	l.server.mu.RLock()
	defer l.server.mu.RUnlock()
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := call(); err != nil {
		return err
	}
	remember()
	return nil
}

func (l *remoteLink) Close() error {
	l.server.mu.RLock()
	defer l.server.mu.RUnlock()
	l.mu.Lock()
	l.closed = true
	l.mu.Unlock()
	return l.link.Close()
}

func TestRun_Shared(t *testing.T) {
	for name, restart := range map[string]func(s *server, t testing.TB){
		"a restart loses everything":       (*server).restart,
		"a restart loses only connections": (*server).blink,
	} {
		t.Run(name, func(t *testing.T) {
			var all servers
			Run(t, Options{
				New:     func(t testing.TB) fanfare.Broker { return all.of(t).connect() },
				Restart: func(t testing.TB) { restart(all.of(t), t) },
				Cut:     func(t testing.TB) { all.of(t).blink(t) },
				Shared:  true,
				Bubble:  true,
			})
		})
	}
}
