package fanfare

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/fanfare-go/fanfare/internal/hub"
	"github.com/fanfare-go/fanfare/internal/pattern"
	"github.com/fanfare-go/fanfare/internal/protocol"
	"github.com/fanfare-go/fanfare/transport"
)

// Version is the version that clients are told at connect.
const Version = "0.1.0"

// Node serves connections, and carries publications to them. Make one with [New], declare channels, mount it as an
// [http.Handler], and call [Node.Publish] from anywhere. All methods are safe for concurrent use.
//
// Who owns what:
//
//	reading a connection      the transport's goroutine; it never runs app code
//	writing a connection      one flusher at a time: the node's worker, or a goroutine while the socket is full
//	client state              client.mu; never held across hooks, broker calls or connections
//	order within a channel    room.mu; held to put one publication into every worker's inbox
//	position and seam buffer  subscription.mu
//	a frame                   whoever encoded it, until it is queued; then it is read-only for ever
//	workers, checkers         the node; Shutdown ends them
//	what is due for clients   the worker's agenda, whose timer calls Client.tick; Shutdown ends it
//	all other goroutines      the node's goroutine group and hook tracker; Shutdown waits for them
type Node struct {
	config   Config
	id       string
	began    time.Time
	log      *slog.Logger
	origins  origins
	broker   Broker
	link     Link
	presence Presence
	users    UserPresence // the presence, if it counts users on all nodes

	ownsBroker, ownsPresence bool

	connectionCount *connectionCount // nil unless Config.MaxUserConnections

	hub         *hub.Hub[*room]
	channels    pattern.Set[*declaration]
	hooks       hookTracker
	goroutines  goroutineGroup
	scratch     sync.Pool // of *[]byte: messages on their way into a frame
	attendances attendances
	members     sharedReads[[]ClientInfo]  // of presence, for clients
	histories   sharedReads[HistoryResult] // for subscriptions
	doubts      *doubts                    // about rooms, after an interruption
	connecting  chan struct{}              // a slot for each Authenticate hook that may run at once
	checks      checks                     // of connections, by Config.Revalidate
	prolongings checks                     // of connections and subscriptions that expire

	surveys surveys
	recalls recalls
	graves  graves  // of the members of dead nodes
	returns returns // of members that others took for dead

	operationsMu sync.Mutex                  // guards below
	operations   map[string][]controlMessage // of other nodes, by user; an entry is there while somebody executes them

	workers    []*worker
	nextWorker atomic.Uint32
	agendas    []*agenda // by worker
	daemons    sync.WaitGroup
	stop       chan struct{} // ends the daemons
	ctx        context.Context
	cancel     context.CancelFunc
	handlers   map[string]http.Handler // by transport name; made once
	anonymous  person                  // whom nothing is known of
	crowd      *crowd
	practice   *practice // nil unless Config.Development
	rates      *rates
	offenders  offenders
	draining   atomic.Bool

	mu      sync.RWMutex // guards below
	methods map[string]RPCFunc
	clients registry // every connection, connected or not
	// How many of them have a user, by transport, and how many have not.
	connected map[string]int
	strangers int
	logouts   logouts
	forms     []*wireForm
	emulated  map[string]*emulated // by session
	done      chan struct{}        // not nil once Shutdown was called

	declarations []*declaration // in the order of Channel
}

// wireForm is what connections of one kind have in common.
type wireForm struct {
	info  transport.Info
	codec protocol.Codec
	form  int // numbers the ways in which frames look: connections of one number share frames
}

// New makes a node and starts its workers. [Node.Shutdown] ends them. A wrong configuration is an error that names the
// field.
func New(c Config) (*Node, error) {
	c = c.withDefaults()
	if err := c.validate(); err != nil {
		return nil, err
	}
	n := &Node{
		config:     c,
		id:         newID(),
		began:      time.Now(),
		log:        c.Logger,
		broker:     c.Broker,
		presence:   c.Presence,
		methods:    make(map[string]RPCFunc),
		connected:  make(map[string]int),
		stop:       make(chan struct{}),
		connecting: make(chan struct{}, c.MaxConnecting),
		crowd:      newCrowd(),
		practice:   newPractice(&c),
		rates:      newRates(&c),
	}
	n.origins, _ = newOrigins(c.AllowedOrigins)
	n.hooks.max = c.MaxRunningHooks
	n.checks = checks{start: n.goroutines.start, log: n.log, max: maxChecks}
	n.prolongings = checks{start: n.goroutines.start, log: n.log, max: maxChecks}
	n.hub = hub.New(n.newRoom)
	n.doubts = newDoubts(n)
	n.ctx, n.cancel = context.WithCancel(context.Background())
	if n.broker == nil {
		n.broker, n.ownsBroker = NewMemoryBroker(MemoryBrokerConfig{MaxIdleStreams: c.MaxIdleStreams}), true
	}
	if n.presence == nil {
		n.presence, n.ownsPresence = NewMemoryPresence(), true
	}
	if !n.ownsPresence { // else there are no other nodes
		n.users, _ = n.presence.(UserPresence)
	}
	n.surveys.crew = crew{start: n.goroutines.start, workers: maxAnswering, places: maxUnanswered}
	n.recalls.crew = crew{start: n.goroutines.start, workers: maxRecalling, places: maxRecallsHeld}
	n.connectionCount = n.newConnectionCount()
	var err error
	if n.link, err = n.broker.Attach(n.id, sink{n}); err != nil {
		n.cancel()
		return nil, fmt.Errorf("fanfare: attach to the broker: %w", err)
	}
	if err = n.watchDead(); err != nil {
		n.cancel()
		return nil, errors.Join(err, n.link.Close())
	}
	n.handlers = n.defaultHandlers()
	for i := range runtime.GOMAXPROCS(0) {
		w := newWorker(i, c.LatencyBudget)
		n.workers = append(n.workers, w)
		n.daemons.Go(func() { w.run(n.stop) })
		n.agendas = append(n.agendas, newAgenda((*Client).tick))
	}
	n.daemons.Go(n.doubts.work)
	if k := n.connectionCount; k != nil && k.counter != nil {
		n.daemons.Go(n.payDebts)
	}
	if o, ok := c.Observer.(NodeObserver); ok {
		o.Attach(n)
	}
	if c.PositionCheck > 0 {
		n.daemons.Go(n.checkPositions)
	}
	return n, nil
}

// ID returns the node's id, unique among the nodes of a broker.
func (n *Node) ID() string { return n.id }

// Channel declares the channels that match a pattern, as routes are declared. A pattern is segments separated by ":".
// "{name}" takes the rest of its segment, which must not be empty, and may follow a literal prefix ("#{id}", "user-{id}");
// "{name...}" stands at the end and takes one or more characters of anything. The most specific pattern wins, compared
// segment by segment: a literal, then the longer prefix, then {x}, then {x...}.
//
// It may be called at any time, and affects later subscribes; publishing follows it at once, so do not give a channel that is
// watched another Payload. It panics, naming the pattern and what is wrong, if the
// pattern is malformed, has the same shape as another, or its options contradict each other.
func (n *Node) Channel(pattern string, o ChannelOptions) {
	o, err := o.resolve()
	if err != nil {
		panic(fmt.Sprintf("fanfare: channel %q: %v", pattern, err))
	}
	d := &declaration{pattern: pattern, options: o}
	if err := n.channels.Add(pattern, d); err != nil {
		panic(fmt.Sprintf("fanfare: channel %q: %v", pattern, err))
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.declarations = append(n.declarations, d)
}

// declarationOf returns what was declared by a pattern, or nil.
func (n *Node) declarationOf(pattern string) *declaration {
	n.mu.RLock()
	defer n.mu.RUnlock()
	if i := slices.IndexFunc(n.declarations, func(d *declaration) bool { return d.pattern == pattern }); i >= 0 {
		return n.declarations[i]
	}
	return nil
}

// RPC declares a method that clients may call. It panics if the method is empty, fn is nil, or the method is declared
// already.
func (n *Node) RPC(method string, fn RPCFunc) {
	n.mu.Lock()
	defer n.mu.Unlock()
	switch {
	case method == "":
		panic("fanfare: RPC: empty method")
	case fn == nil:
		panic(fmt.Sprintf("fanfare: RPC %q: nil function", method))
	case n.methods[method] != nil:
		panic(fmt.Sprintf("fanfare: RPC %q is declared already", method))
	}
	n.methods[method] = fn
}

// method finds a declared method, or what answers all others; any reports whether there are methods at all.
func (n *Node) method(name string) (fn RPCFunc, any bool) {
	n.mu.RLock()
	defer n.mu.RUnlock()
	if fn = n.methods[name]; fn == nil {
		fn = n.config.RPC
	}
	return fn, fn != nil || len(n.methods) > 0
}

// lookup finds the declaration of a channel, and what its pattern's wildcards took.
func (n *Node) lookup(channel string) (*declaration, params, bool) {
	d, w, ok := n.channels.Lookup(channel)
	return d, params{channel, w}, ok
}

// declared is lookup for callers from Go.
func (n *Node) declared(channel string) (*declaration, error) {
	d, _, ok := n.lookup(channel)
	if !ok {
		return nil, fmt.Errorf("fanfare: %w: %q", ErrUnknownChannel, channel)
	}
	return d, nil
}

// sink receives from the broker.
type sink struct{ n *Node }

var _ Sink = sink{}

func (s sink) Publication(channel string, p *Publication) {
	if r, ok := s.n.hub.Get(channel); ok {
		r.publication(p)
	}
}

func (s sink) Membership(channel string, m Membership) {
	if r, ok := s.n.hub.Get(channel); ok {
		r.membership(m)
		s.n.contradict(channel, m)
	}
}

func (s sink) Control(data []byte) { s.n.control(data) }

func (s sink) Interrupted(channels []string) {
	s.n.doubts.interrupted(channels)
	s.n.unheard(channels)
}

// checkPositions looks for messages that were lost at the end of a channel, where no later one reveals it.
func (n *Node) checkPositions() {
	every := max(n.config.PositionCheck/4, time.Millisecond)
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
		case <-n.stop:
			return
		}
		for r := range n.hub.All() {
			ctx, cancel := context.WithTimeout(n.ctx, n.config.HookTimeout)
			r.check(ctx, n.config.PositionCheck)
			cancel()
			if n.ctx.Err() != nil {
				return
			}
		}
	}
}
