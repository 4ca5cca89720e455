//go:build unix

package e2e

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"path"
	"sync"
	"testing"
	"time"

	"github.com/fanfare-go/fanfare"
	"github.com/stretchr/testify/require"
)

// server is an app as people have it, with a login (the query parameter "user"), several nodes with different
// configurations, hooks that do what the client's data asks for, and a control endpoint for the scenarios.
type server struct {
	*httptest.Server
	t       *testing.T
	logger  *slog.Logger
	losses  []*lossyBroker // the first two are those of the nodes "main" and "trusting" without Redis
	network *network
	diary   *diary
	gate    *gate

	sessions sessionTable

	portableIO bool   // of the nodes
	redis      string // the address of a server, or empty: then each node is alone

	mu     sync.Mutex // guards below
	nodes  map[string][]*fanfare.Node
	epochs int // how many clusters were made
}

// userKey is where the login middleware puts the user.
type userKey struct{}

func newServer(t *testing.T, portableIO bool) *server {
	t.Helper()
	return startServer(t, portableIO, "")
}

// newClusterServer is a server of which every node is two over Redis. Each request goes to one of them at random, and so does
// what the scenarios order.
func newClusterServer(t *testing.T) *server {
	t.Helper()
	return startServer(t, false, startRedis(t))
}

func startServer(t *testing.T, portableIO bool, redis string) *server {
	t.Helper()
	s := &server{
		t:          t,
		logger:     slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelWarn})),
		losses:     []*lossyBroker{newLossyMemory(), newLossyMemory()},
		diary:      newDiary(),
		gate:       newGate(),
		portableIO: portableIO,
		redis:      redis,
		nodes:      make(map[string][]*fanfare.Node),
	}
	require.NoError(t, s.start("main", s.mainConfig()))
	require.NoError(t, s.start("trusting", s.trustingConfig()))
	require.NoError(t, s.start("fast", s.fastConfig()))
	require.NoError(t, s.start("limited", s.limitedConfig()))
	require.NoError(t, s.start("life", s.lifeConfig()))
	require.NoError(t, s.start("session", s.sessionConfig()))
	require.NoError(t, s.start("packed", fanfare.Config{Authenticate: s.authenticate, Logger: s.logger, Compression: true, DrainWindow: -1}))

	mux := http.NewServeMux()
	mux.Handle("/realtime/{node}/", s.login(http.HandlerFunc(s.serveNode)))
	mux.HandleFunc("POST /control/login", s.serveLogin)
	mux.HandleFunc("POST /control/{operation}", s.serveControl)
	mux.Handle("/js/", http.StripPrefix("/js/", http.FileServer(http.Dir("js"))))
	mux.Handle("/sdk/", http.StripPrefix("/sdk/", http.FileServer(http.Dir("node_modules/centrifuge/dist"))))

	s.Server = httptest.NewUnstartedServer(mux)
	// A connection carries one request, so that a cut hits the user it is meant for and nobody else.
	s.Config.SetKeepAlivesEnabled(false)
	s.network = newNetwork(t, s.Listener.Addr().String())
	s.Start()
	s.URL = "http://" + s.network.listener.Addr().String()
	t.Cleanup(s.close)
	return s
}

// close ends the nodes before the HTTP server, which knows nothing of hijacked connections.
func (s *server) close() {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	s.mu.Lock()
	defer s.mu.Unlock()
	for name, replicas := range s.nodes {
		for _, n := range replicas {
			require.NoError(s.t, n.Shutdown(ctx), "shutdown of %s", name)
		}
	}
	for _, b := range s.losses {
		require.NoError(s.t, b.Close())
	}
	s.network.close()
	s.Close()
}

func (s *server) start(name string, c fanfare.Config) error {
	c.PortableIO = s.portableIO
	configs := []fanfare.Config{c}
	if s.redis != "" {
		var err error
		if configs, err = s.clustered(c); err != nil {
			return err
		}
	}
	var replicas []*fanfare.Node
	for _, c := range configs {
		n, err := fanfare.New(c)
		if err != nil {
			return err
		}
		s.declare(n)
		replicas = append(replicas, n)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.nodes[name] = replicas
	return nil
}

// node returns one of the nodes of a name, at random, or nil.
func (s *server) node(name string) *fanfare.Node {
	s.mu.Lock()
	defer s.mu.Unlock()
	replicas := s.nodes[name]
	if len(replicas) == 0 {
		return nil
	}
	return replicas[rand.IntN(len(replicas))]
}

// expiryGrace is the time that a client has to refresh; as much as a busy machine needs. scenarios/refreshing.mjs knows it.
const expiryGrace = 3 * time.Second

// mainConfig is a node with every hook. Its short delays make what waits for them testable.
func (s *server) mainConfig() fanfare.Config {
	return fanfare.Config{
		Authenticate:  s.authenticate,
		Refresh:       s.refresh,
		Message:       s.message,
		Disconnected:  s.disconnected,
		Broker:        s.losses[0],
		Logger:        s.logger,
		ExpiryGrace:   expiryGrace,
		PositionCheck: time.Second,
		DrainWindow:   -1,
	}
}

// trustingConfig is a node that only a later publication tells of a lost one: for as long as a scenario takes it does not ask.
func (s *server) trustingConfig() fanfare.Config {
	c := s.mainConfig()
	c.Broker, c.PositionCheck = s.losses[1], time.Hour
	return c
}

// fastConfig is a node that pings often, recovers little, and lacks the optional hooks.
func (s *server) fastConfig() fanfare.Config {
	return fanfare.Config{
		Authenticate: s.authenticate,
		Logger:       s.logger,
		PingInterval: 2 * time.Second,
		PongTimeout:  1800 * time.Millisecond, // a busy machine answers late
		MaxRecovered: 20,
		DrainWindow:  -1,
	}
}

// limitedConfig is a node that allows little.
func (s *server) limitedConfig() fanfare.Config {
	return fanfare.Config{
		Authenticate:       s.authenticate,
		CommandRate:        fanfare.Rate{Every: time.Second, Burst: 40},
		SubscribeRate:      fanfare.Rate{Every: 100 * time.Millisecond, Burst: 6},
		MaxUserConnections: 2,
		DrainWindow:        -1, // without a log: what it would say is what the scenarios are about
	}
}

// lifeConfig is a node with a memory of its own, to be shut down and started again.
func (s *server) lifeConfig() fanfare.Config {
	return fanfare.Config{Authenticate: s.authenticate, Logger: s.logger, DrainWindow: -1}
}

// login stands for the app's session middleware. While the gate is closed for a user it is a server that is down.
func (s *server) login(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		user := r.URL.Query().Get("user")
		if s.gate.closed(user) {
			if path.Base(r.URL.Path) == "events" {
				panic(http.ErrAbortHandler) // any answer that is not 200 would end an EventSource for good
			}
			http.Error(w, "closed by the test", http.StatusServiceUnavailable)
			return
		}
		s.network.claim(user, r.RemoteAddr)
		next.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), userKey{}, user)))
	})
}

func (s *server) serveNode(w http.ResponseWriter, r *http.Request) {
	n := s.node(r.PathValue("node"))
	if n == nil {
		http.NotFound(w, r)
		return
	}
	n.ServeHTTP(w, r)
}

// network can cut the TCP connections of a user, as a train in a tunnel does.
type network struct {
	*wire

	mu    sync.Mutex          // guards below
	users map[string][]string // the addresses that the server sees, by user
}

func newNetwork(t *testing.T, to string) *network {
	t.Helper()
	w, err := newWire(to)
	require.NoError(t, err)
	return &network{wire: w, users: make(map[string][]string)}
}

func (n *network) claim(user, remote string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.users[user] = append(n.users[user], remote)
}

// requests is how many a user has made since the last cut.
func (n *network) requests(user string) int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return len(n.users[user])
}

// cut closes all connections that a user ever had.
func (n *network) cut(user string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, remote := range n.users[user] {
		n.drop(remote)
	}
	delete(n.users, user)
}

// gate keeps users out.
type gate struct {
	mu   sync.Mutex // guards below
	shut map[string]bool
}

func newGate() *gate { return &gate{shut: make(map[string]bool)} }

func (g *gate) closed(user string) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.shut[user]
}

func (g *gate) set(user string, shut bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.shut[user] = shut
}

// lossyBroker loses chosen deliveries on the way to the node, as a broker with a hiccup does. Its history has them.
type lossyBroker struct {
	wholeBroker
	mu     sync.Mutex // guards below
	lose   map[string]int
	handed map[string]int // to the node, by channel
}

// wholeBroker is a broker of several nodes with everything that they use.
type wholeBroker interface {
	fanfare.Broker
	fanfare.ControlBus
	fanfare.ConnectionCounter
}

func newLossyBroker(b wholeBroker) *lossyBroker {
	return &lossyBroker{wholeBroker: b, lose: make(map[string]int), handed: make(map[string]int)}
}

func newLossyMemory() *lossyBroker {
	return newLossyBroker(fanfare.NewMemoryBroker(fanfare.MemoryBrokerConfig{}))
}

func (b *lossyBroker) Attach(node string, sink fanfare.Sink) (fanfare.Link, error) {
	return b.wholeBroker.Attach(node, &lossySink{sink, b})
}

// loseNext makes the next count publications of a channel vanish.
func (b *lossyBroker) loseNext(channel string, count int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.lose[channel] = count
}

func (b *lossyBroker) loses(channel string) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.lose[channel] == 0 {
		return false
	}
	b.lose[channel]--
	return true
}

// handedOver is how many publications of a channel the node has got.
func (b *lossyBroker) handedOver(channel string) int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.handed[channel]
}

type lossySink struct {
	fanfare.Sink
	broker *lossyBroker
}

func (s *lossySink) Publication(channel string, p *fanfare.Publication) {
	if s.broker.loses(channel) {
		return
	}
	s.Sink.Publication(channel, p)
	s.broker.mu.Lock()
	defer s.broker.mu.Unlock()
	s.broker.handed[channel]++
}
