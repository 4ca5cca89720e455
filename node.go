package fanfare

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"
	"unicode/utf8"

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
//	writing a connection      one flusher at a time: the node's flush worker, or a goroutine while the socket is full
//	client state              client.mu; never held across hooks, broker calls or connections
//	order within a channel    room.mu; held to hand one publication to every subscription's queue
//	position and seam buffer  subscription.mu
//	a frame                   whoever encoded it, until it is queued; then it is read-only for ever
//	flush workers, checker    the node; Shutdown ends them
//	all other goroutines      the node's goroutine group and hook tracker; Shutdown waits for them
type Node struct {
	config   Config
	id       string
	log      *slog.Logger
	origins  origins
	broker   Broker
	link     Link
	presence Presence

	ownsBroker, ownsPresence bool

	hub        *hub.Hub[*room]
	channels   pattern.Set[*declaration]
	hooks      hookTracker
	goroutines goroutineGroup
	departures departures

	operationsMu sync.Mutex // guards below
	operations   []controlMessage

	workers    []*flushWorker
	nextWorker atomic.Uint32
	daemons    sync.WaitGroup
	stop       chan struct{} // ends the daemons
	ctx        context.Context
	cancel     context.CancelFunc
	handlers   map[string]http.Handler // by transport name; made once
	draining   atomic.Bool

	mu      sync.RWMutex // guards below
	methods map[string]RPCFunc
	clients map[*Client]struct{}            // every connection, connected or not
	users   map[string]map[*Client]struct{} // authenticated ones
	forms   []wireForm
	done    chan struct{} // not nil once Shutdown was called
}

// wireForm is how frames look on a connection. Connections of one form share frames.
type wireForm struct {
	encoding       transport.Encoding
	unidirectional bool
	framing        transport.Framing
}

// New makes a node and starts its workers. [Node.Shutdown] ends them. A wrong configuration is an error that names the
// field.
func New(c Config) (*Node, error) {
	c = c.withDefaults()
	if err := c.validate(); err != nil {
		return nil, err
	}
	n := &Node{
		config:   c,
		id:       newID(),
		log:      c.Logger,
		broker:   c.Broker,
		presence: c.Presence,
		methods:  make(map[string]RPCFunc),
		clients:  make(map[*Client]struct{}),
		users:    make(map[string]map[*Client]struct{}),
		stop:     make(chan struct{}),
	}
	n.origins, _ = newOrigins(c.AllowedOrigins)
	n.hooks.max = c.MaxRunningHooks
	n.hub = hub.New(n.newRoom)
	n.ctx, n.cancel = context.WithCancel(context.Background())
	if n.broker == nil {
		n.broker, n.ownsBroker = NewMemoryBroker(MemoryBrokerConfig{MaxIdleStreams: c.MaxIdleStreams}), true
	}
	if n.presence == nil {
		n.presence, n.ownsPresence = NewMemoryPresence(), true
	}
	var err error
	if n.link, err = n.broker.Attach(n.id, sink{n}); err != nil {
		n.cancel()
		return nil, fmt.Errorf("fanfare: attach to the broker: %w", err)
	}
	n.handlers = n.defaultHandlers()
	for range runtime.GOMAXPROCS(0) {
		w := newFlushWorker()
		n.workers = append(n.workers, w)
		n.daemons.Go(func() { w.run(n.stop) })
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
// It may be called at any time, and affects later subscribes. It panics, naming the pattern and what is wrong, if the
// pattern is malformed, has the same shape as another, or its options contradict each other.
func (n *Node) Channel(pattern string, o ChannelOptions) {
	o, err := o.resolve()
	if err != nil {
		panic(fmt.Sprintf("fanfare: channel %q: %v", pattern, err))
	}
	if err := n.channels.Add(pattern, &declaration{pattern: pattern, options: o}); err != nil {
		panic(fmt.Sprintf("fanfare: channel %q: %v", pattern, err))
	}
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

// method finds a declared method; any reports whether there are methods at all.
func (n *Node) method(name string) (fn RPCFunc, any bool) {
	n.mu.RLock()
	defer n.mu.RUnlock()
	return n.methods[name], len(n.methods) > 0
}

// lookup finds the declaration of a channel, and what its pattern's wildcards took.
func (n *Node) lookup(channel string) (*declaration, params, bool) {
	d, names, values, ok := n.channels.Lookup(channel)
	return d, params{names, values}, ok
}

// declared is lookup for callers from Go.
func (n *Node) declared(channel string) (*declaration, error) {
	d, _, ok := n.lookup(channel)
	if !ok {
		return nil, fmt.Errorf("fanfare: %w: %q", ErrUnknownChannel, channel)
	}
	return d, nil
}

type publishOptions struct {
	info           *ClientInfo
	tags           map[string]string
	idempotencyKey string
}

// PublishOption is a choice for one [Node.Publish].
type PublishOption func(*publishOptions)

// WithIdempotencyKey makes a repeated publish to the channel return the position of the first one, without storing or
// sending anything, for [Config.IdempotencyTTL]: a publish whose outcome is not known can be repeated.
func WithIdempotencyKey(key string) PublishOption {
	return func(o *publishOptions) { o.idempotencyKey = key }
}

// WithTags adds properties to a publication. The map must not be changed afterwards.
func WithTags(tags map[string]string) PublishOption {
	return func(o *publishOptions) { o.tags = tags }
}

// Publish sends data to everybody who watches the channel, and stores it if the channel has history. It returns when the
// broker has it, with its position; it never waits for readers. The data must not be changed afterwards.
//
// It returns [ErrUnknownChannel] for an undeclared channel, [ErrBadPayload] for data that is not of the channel's kind,
// [ErrTooLarge] over [Config.MaxPublicationSize], and [ErrClosed] after [Node.Shutdown]. Permissions guard clients, not
// the app. After another error the publication may have been stored all the same: use [WithIdempotencyKey] to repeat.
func (n *Node) Publish(ctx context.Context, channel string, data []byte, opts ...PublishOption) (Position, error) {
	d, err := n.declared(channel)
	if err != nil {
		return Position{}, err
	}
	var o publishOptions
	for _, opt := range opts {
		opt(&o)
	}
	p, err := n.publish(ctx, d, channel, data, o)
	if err != nil {
		if _, told := errors.AsType[*Error](err); !told && !errors.Is(err, ErrBadPayload) && !errors.Is(err, ErrTooLarge) {
			err = fmt.Errorf("fanfare: publish to %q: %w", channel, err)
		}
	}
	return p, err
}

func (n *Node) publish(ctx context.Context, d *declaration, channel string, data []byte, o publishOptions) (Position, error) {
	if n.ctx.Err() != nil {
		return Position{}, ErrClosed
	}
	if len(channel) > n.config.MaxChannelLength {
		return Position{}, fmt.Errorf("fanfare: channel name of %d bytes: %w", len(channel), ErrBadRequest)
	}
	if len(data) > n.config.MaxPublicationSize {
		return Position{}, fmt.Errorf("%w: %d bytes for channel %q", ErrTooLarge, len(data), channel)
	}
	switch {
	case d.options.Payload == PayloadJSON && !protocol.ValidPayload(data):
		return Position{}, fmt.Errorf("%w: not JSON, for channel %q", ErrBadPayload, channel)
	case d.options.Payload == PayloadText && !utf8.Valid(data):
		return Position{}, fmt.Errorf("%w: not UTF-8, for channel %q", ErrBadPayload, channel)
	}
	store := StoreOptions{History: d.options.History}
	if o.idempotencyKey != "" {
		store.IdempotencyKey, store.IdempotencyTTL = o.idempotencyKey, n.config.IdempotencyTTL
	}
	return n.broker.Publish(ctx, channel, &Publication{Data: data, Info: o.info, Tags: o.tags}, store)
}

// publishMembership sends a join or leave. It may be lost (spec 13), so errors are only logged.
func (n *Node) publishMembership(channel string, m Membership) {
	ctx, cancel := context.WithTimeout(context.Background(), n.config.HookTimeout)
	defer cancel()
	if err := n.broker.PublishMembership(ctx, channel, m); err != nil {
		n.log.Warn("join or leave not published", slog.String("channel", channel), slog.Any("err", err))
	}
}

// Presence returns who is subscribed to the channel now, in no particular order. It returns [ErrUnknownChannel] for an
// undeclared channel, and [ErrPresenceDisabled] for one that does not keep it.
func (n *Node) Presence(ctx context.Context, channel string) ([]ClientInfo, error) {
	if err := n.keepsPresence(channel); err != nil {
		return nil, err
	}
	members, err := n.presence.Members(ctx, channel)
	if err != nil {
		return nil, fmt.Errorf("fanfare: presence of %q: %w", channel, err)
	}
	return members, nil
}

// PresenceStats returns how many are subscribed to the channel now. Errors are those of [Node.Presence].
func (n *Node) PresenceStats(ctx context.Context, channel string) (PresenceStats, error) {
	if err := n.keepsPresence(channel); err != nil {
		return PresenceStats{}, err
	}
	stats, err := n.presence.Stats(ctx, channel)
	if err != nil {
		return PresenceStats{}, fmt.Errorf("fanfare: presence stats of %q: %w", channel, err)
	}
	return stats, nil
}

func (n *Node) keepsPresence(channel string) error {
	d, err := n.declared(channel)
	if err != nil {
		return err
	}
	if !d.options.Presence {
		return fmt.Errorf("%w: %q", ErrPresenceDisabled, channel)
	}
	return nil
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
	}
}

func (s sink) Control(data []byte) { s.n.control(data) }

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

// Shutdown ends the node: no connection is accepted any more, those that there are get 3001 "shutdown", spread over
// [Config.DrainWindow], with what is queued for them; leaves are published and presence is removed. It closes the broker
// and presence if it made them itself; those that it was given it only detaches from.
//
// It returns when everything the node started has ended, or with the context's error. Hooks that do not return are waited
// for at most [Config.HookTimeout], and named in the error. Called with the context of a hook it returns [ErrInHook],
// because it would wait for itself. A second call waits for the first one. Call it before [http.Server.Shutdown], which
// does not know hijacked connections.
func (n *Node) Shutdown(ctx context.Context) error {
	if ctx.Value(hookKey{}) == n {
		return ErrInHook
	}
	n.draining.Store(true)
	n.mu.Lock()
	if done := n.done; done != nil {
		n.mu.Unlock()
		select {
		case <-done:
		case <-ctx.Done():
			return ctx.Err()
		}
		// The first call may have given up.
		return errors.Join(n.goroutines.wait(ctx), n.hooks.wait(ctx))
	}
	n.done = make(chan struct{})
	clients := slices.Collect(maps.Keys(n.clients))
	n.mu.Unlock()

	err := n.drain(ctx, clients)
	if err == nil {
		err = n.goroutines.wait(ctx)
	}
	// From here on whoever is late finds the context cancelled and the workers gone, and gives up.
	n.cancel()
	close(n.stop)
	hookCtx, cancel := context.WithTimeout(ctx, n.config.HookTimeout)
	err = errors.Join(err, n.hooks.wait(hookCtx))
	cancel()
	return errors.Join(err, n.detach(ctx))
}

// drain closes the connections, evenly over the window.
func (n *Node) drain(ctx context.Context, clients []*Client) error {
	window := min(max(n.config.DrainWindow, 0), time.Duration(len(clients))*time.Millisecond)
	began := time.Now()
	for i, c := range clients {
		due := began.Add(window * time.Duration(i) / time.Duration(len(clients)))
		if wait := time.Until(due); wait > time.Millisecond {
			timer := time.NewTimer(wait)
			select {
			case <-timer.C:
			case <-ctx.Done():
				timer.Stop() // close the rest at once
			}
		}
		c.close(DisconnectShutdown)
	}
	return ctx.Err()
}

// detach lets go of broker and presence, and waits for the daemons.
func (n *Node) detach(ctx context.Context) error {
	for k, p := range n.departures.takeAll() {
		n.departed(k, p)
	}
	err := n.link.Close()
	err = errors.Join(err, n.presence.RemoveNode(context.WithoutCancel(ctx), n.id))
	if n.ownsPresence {
		err = errors.Join(err, n.presence.Close())
	}
	if n.ownsBroker {
		err = errors.Join(err, n.broker.Close())
	}
	n.daemons.Wait()
	n.mu.Lock()
	close(n.done)
	n.mu.Unlock()
	return err
}
