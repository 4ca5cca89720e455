package natsbroker

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/fanfare-go/fanfare"
)

// ErrUnavailable is returned while the server is away.
var ErrUnavailable = fmt.Errorf("natsbroker: NATS is not available: %w", fanfare.ErrUnavailable)

// Broker is a [fanfare.Broker] over NATS JetStream. It may serve several nodes of a process at once.
//
// Publications are delivered by a few goroutines, each of which owns some of the channels, under the lock of the channel: a sink must
// not call [fanfare.Link.Close]. At most 32,768 messages wait for them; what comes then is lost, and the node is told.
type Broker struct {
	config Config
	nc     *nats.Conn
	own    bool // the connection is the broker's
	js     jetstream.JetStream
	api    string // begins the subjects of JetStream's API
	stream atomic.Pointer[jetstream.Stream]

	clock      clock
	lanes      lanes
	incarnated atomic.Int64  // when the stream was made, in nanoseconds since 1970
	seen       atomic.Uint64 // the highest sequence number of the stream that was heard of
	recovered  atomic.Uint64 // how often the connection was back when the stream was last looked at
	replicated atomic.Bool   // the stream is kept on several servers

	mending chan struct{}     // wakes watch; holds one
	purges  chan purge        // for housekeeping
	batches chan struct{}     // as many as may be under way
	inbound [4]chan *nats.Msg // for deliver

	closing sync.Once
	closed  chan struct{}
	ctx     context.Context // ends with closed
	cancel  context.CancelFunc
	running sync.WaitGroup

	// Lock order: slots, link.mu, subscription.mu, link.calls. The others are held only for a moment, none within another.
	mu            sync.Mutex // guards below
	links         map[string]*link
	subscriptions map[string]*subscription // by token
}

var (
	_ fanfare.Broker     = (*Broker)(nil)
	_ fanfare.ControlBus = (*Broker)(nil)
	_ fanfare.NodeLister = (*Broker)(nil)
)

// inboundMax is how many messages wait for one of the goroutines that deliver.
const inboundMax = 8192

// New connects to the server, and makes the stream if there is none. It returns an error if that cannot be done now; later the server
// may go and come back.
func New(ctx context.Context, c Config) (*Broker, error) {
	c, err := c.withDefaults()
	if err != nil {
		return nil, err
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	nc, own, err := c.connect()
	if err != nil {
		return nil, fmt.Errorf("natsbroker: %w", err)
	}
	b := &Broker{
		config: c, nc: nc, own: own, api: jetstream.DefaultAPIPrefix,
		mending: make(chan struct{}, 1), purges: make(chan purge, 1024), batches: make(chan struct{}, maxBatches),
		closed: make(chan struct{}), links: make(map[string]*link), subscriptions: make(map[string]*subscription),
	}
	b.ctx, b.cancel = context.WithCancel(context.Background())
	// Registered first, so that no change of the connection is missed.
	statuses := nc.StatusChanged(nats.CONNECTED, nats.RECONNECTING, nats.CLOSED)
	b.recovered.Store(nc.Stats().Reconnects)
	if b.js, err = jetstream.New(nc); err == nil {
		timed, cancel := context.WithTimeout(ctx, c.Timeout)
		defer cancel()
		_, err = b.ensure(timed)
	}
	if err != nil {
		nc.RemoveStatusListener(statuses)
		_ = b.Close()
		return nil, fmt.Errorf("natsbroker: %w", err)
	}
	b.running.Go(func() { b.watch(statuses) })
	b.running.Go(b.housekeep)
	for i := range b.inbound {
		b.inbound[i] = make(chan *nats.Msg, inboundMax)
		b.running.Go(func() { b.deliver(b.inbound[i]) })
	}
	return b, nil
}

// Close implements [fanfare.Broker].
func (b *Broker) Close() error {
	b.closing.Do(func() {
		b.mu.Lock()
		close(b.closed)
		links := make([]*link, 0, len(b.links))
		for _, l := range b.links {
			links = append(links, l)
		}
		b.mu.Unlock()
		for _, l := range links {
			_ = l.Close() // always nil
		}
		b.cancel()
		b.running.Wait()
		if b.own {
			b.nc.Close()
		}
	})
	return nil
}

func (b *Broker) isClosed() bool {
	select {
	case <-b.closed:
		return true
	default:
		return false
	}
}

// begin checks that an operation may begin, and bounds its time.
func (b *Broker) begin(ctx context.Context) (context.Context, context.CancelFunc, error) {
	switch {
	case ctx.Err() != nil:
		return nil, nil, ctx.Err()
	case b.isClosed():
		return nil, nil, fanfare.ErrClosed
	case !b.nc.IsConnected() || b.nc.Stats().Reconnects != b.recovered.Load():
		// What is known of the stream holds only when recover has looked whether it is the same one.
		return nil, nil, ErrUnavailable
	}
	timed, cancel := context.WithTimeout(ctx, b.config.Timeout)
	return timed, cancel, nil
}

// failed translates an error of an operation that ran under ctx.
func (b *Broker) failed(ctx context.Context, err error) error {
	var refused *jetstream.APIError
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return ctx.Err()
	case b.isClosed():
		return fanfare.ErrClosed
	case errors.Is(err, nats.ErrMaxPayload), errors.Is(err, nats.ErrBadSubject), errors.Is(err, errMalformed),
		errors.As(err, &refused) && refused.Code < 500:
		return fmt.Errorf("natsbroker: %w", err)
	}
	return fmt.Errorf("%w: %w", ErrUnavailable, err)
}

// saw takes note of a sequence number.
func (b *Broker) saw(seq uint64) {
	for {
		seen := b.seen.Load()
		if seq <= seen || b.seen.CompareAndSwap(seen, seq) {
			return
		}
	}
}

// clock tells the time of the server.
type clock struct{ synced atomic.Pointer[reading] }

// reading is what the server's clock showed at a moment of this process.
type reading struct{ server, here time.Time }

// set says that the server's clock showed a time between two moments.
func (c *clock) set(server, before, after time.Time) {
	if !server.IsZero() {
		c.synced.Store(&reading{server, before.Add(after.Sub(before) / 2)})
	}
}

// now returns the time in microseconds since 1970.
func (c *clock) now() int64 {
	now := time.Now()
	if r := c.synced.Load(); r != nil {
		now = r.server.Add(now.Sub(r.here))
	}
	return now.UnixMicro()
}
