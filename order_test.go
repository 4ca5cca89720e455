package fanfare_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/http/httptest"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/fanfare-go/fanfare"
	"github.com/fanfare-go/fanfare/fanfaretest"
)

// stormSeed, an environment variable, repeats what the actors of a storm did; the scheduler is free all the same.
const stormSeed = "FANFARE_STORM_SEED"

const (
	stormActors  = 100 // publishers, and as many subscribers
	stormEach    = 3   // publications of each publisher
	stormHistory = 100 // publications kept
)

// stormPlan is what differs between storms.
type stormPlan struct {
	slow        fanfare.SlowReader
	queue       int           // Config.MaxQueueSize; 0 is the default
	tick        time.Duration // the unit of all pauses
	check       time.Duration // Config.PositionCheck
	slowReaders bool          // every fifth subscriber does not read now and then
	outages     bool          // history cannot be read for a while after every third loss
	restart     bool          // the broker forgets everything once
	sockets     bool          // real ones
}

// storm is many publishers and subscribers on one channel, whose broker loses and repeats deliveries and whose
// connections break.
type storm struct {
	*fanfare.Node
	t      *testing.T
	plan   stormPlan
	seed   uint64
	broker *ledgerBroker
	url    string

	begun   chan struct{} // closed when all subscribers have begun
	quiet   sync.RWMutex  // held for reading while publishing
	restart sync.Once
	over    chan struct{} // closed when everything was published
	during  context.Context
	final   fanfare.Position // the end of the stream; readable then

	mu     sync.Mutex // guards below
	counts map[string]int
	outage time.Time // when the last one began
	reads  int       // of history
}

// weather counts what an observer sees of a storm.
type weather struct {
	fanfare.NopObserver
	storm *storm
}

func (w weather) Repaired(_ string, ok bool, _ int) {
	if ok {
		w.storm.note("repaired", 1)
	} else {
		w.storm.note("not repaired", 1)
	}
}

// note counts, and returns the count.
func (s *storm) note(what string, n int) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.counts[what] += n
	return s.counts[what]
}

// rand returns the source of one actor's choices.
func (s *storm) rand(actor string, i int) *rand.Rand {
	return rand.New(rand.NewPCG(s.seed, uint64(len(actor)*stormActors+i)))
}

// linger paces the storm: nothing depends on it.
func (s *storm) linger(ticks int) { time.Sleep(time.Duration(ticks) * s.plan.tick) }

// rage lets a storm pass, checks every subscriber's tale, and returns the subscribers and what was counted.
func rage(t *testing.T, plan stormPlan) (subs []*stormSubscriber, counts map[string]int) {
	t.Helper()
	s := startStorm(t, plan)
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	during, calm := context.WithCancel(ctx)
	defer calm()
	s.during = during

	actors, ctx := errgroup.WithContext(ctx)
	publishers, publishing := errgroup.WithContext(ctx)
	for i := range stormActors {
		sub := s.subscriber(i)
		subs = append(subs, sub)
		actors.Go(func() error { return sub.run(ctx) })
		publishers.Go(func() error { return s.publish(publishing, i) })
	}
	actors.Go(func() error { return s.kick(ctx, subs) })
	actors.Go(func() error {
		err := publishers.Wait()
		s.broker.set(func() { s.broker.onHistory = nil })
		s.final = s.broker.ledger.end()
		close(s.over)
		calm()
		return err
	})
	require.NoError(t, actors.Wait())

	require.NoError(t, s.broker.ledger.check())
	require.Equal(t, stormActors*stormEach, s.broker.ledger.size())
	for _, sub := range subs {
		require.NoError(t, sub.tale.check(s.broker.ledger), sub.user)
	}
	s.mu.Lock()
	counts = maps.Clone(s.counts)
	s.mu.Unlock()
	t.Logf("%v", counts)
	require.NotZero(t, counts["lost"])
	require.NotZero(t, counts["repeated"])
	require.NotZero(t, counts["recovered"])
	return subs, counts
}

func startStorm(t *testing.T, plan stormPlan) *storm {
	s := &storm{t: t, plan: plan, seed: rand.Uint64(), begun: make(chan struct{}), over: make(chan struct{}), counts: make(map[string]int)}
	if text := os.Getenv(stormSeed); text != "" {
		var err error
		s.seed, err = strconv.ParseUint(text, 10, 64)
		require.NoError(t, err)
	}
	t.Logf("%s=%d", stormSeed, s.seed)
	s.broker = &ledgerBroker{faultBroker: newFaultBroker(t), ledger: newLedger()}
	s.broker.onDelivery = s.deliver
	s.broker.onHistory = s.readHistory
	s.Node = startNode(t, func(c *fanfare.Config) {
		c.Broker, c.Observer = s.broker, weather{storm: s}
		c.MaxQueueSize, c.PositionCheck = plan.queue, plan.check
		c.Authenticate = func(_ context.Context, r *fanfare.ConnectRequest) (fanfare.Identity, error) {
			id := fanfare.Identity{User: r.Token}
			if strings.HasPrefix(r.Token, "led") {
				id.Subscriptions = map[string]fanfare.SubscribeReply{"x": {}}
			}
			return id, nil
		}
	})
	s.Channel("x", fanfare.ChannelOptions{
		Public: true, AllowPublish: fanfare.Anyone, SlowReader: plan.slow,
		History: fanfare.History{Size: stormHistory, TTL: time.Hour},
	})
	if plan.sockets {
		server := httptest.NewServer(s.Node)
		t.Cleanup(server.Close)
		s.url = server.URL + "/websocket"
	}
	return s
}

// deliver loses some publications and repeats others. It always loses the last one, which no later one reveals.
func (s *storm) deliver(p *fanfare.Publication, deliver func(*fanfare.Publication)) {
	fate := rand.New(rand.NewPCG(s.seed, p.Offset)).IntN(15)
	if p.Offset == stormActors*stormEach {
		fate = 0
	}
	switch fate {
	case 0:
		s.lose()
	case 1:
		s.note("repeated", 1)
		deliver(p)
		deliver(p)
	default:
		deliver(p)
	}
}

func (s *storm) lose() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.counts["lost"]++
	if s.plan.outages && s.counts["lost"]%3 == 0 {
		s.outage = time.Now()
	}
}

// readHistory takes its time before and after the read, so that live publications come meanwhile.
func (s *storm) readHistory(_ context.Context, read func()) error {
	s.mu.Lock()
	s.reads++
	before, after := s.reads%2, s.reads%3
	out := time.Since(s.outage) < 8*s.plan.tick
	s.mu.Unlock()
	if out {
		return errors.New("history is not to be had")
	}
	s.linger(before)
	read()
	s.linger(after)
	return nil
}

func (s *storm) awaitSubscribers(ctx context.Context) error {
	select {
	case <-s.begun:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// publish is one publisher: every second is the app, the others are clients.
func (s *storm) publish(ctx context.Context, i int) error {
	if err := s.awaitSubscribers(ctx); err != nil {
		return err
	}
	var w wire
	if i%2 > 0 {
		var err error
		if w, err = s.dial(ctx, "publisher"); err != nil {
			return err
		}
		defer w.hangUp()
		if err := askWire(ctx, w, 1, `"connect":{}`); err != nil {
			return err
		}
	}
	rng := s.rand("publisher", i)
	for k := range stormEach {
		s.linger(rng.IntN(40))
		if s.plan.restart && s.broker.ledger.size() >= stormHistory/2 {
			s.restart.Do(s.forget)
		}
		if err := s.publishOne(ctx, w, k+2, fmt.Sprintf(`"%d of %d"`, k, i)); err != nil {
			return fmt.Errorf("publisher %d: %w", i, err)
		}
	}
	return nil
}

// forget makes the broker start over. Nobody publishes meanwhile, or the ledger could not tell in which life.
func (s *storm) forget() {
	s.quiet.Lock()
	defer s.quiet.Unlock()
	s.broker.restart(s.t)
}

func (s *storm) publishOne(ctx context.Context, w wire, id int, data string) error {
	s.quiet.RLock()
	defer s.quiet.RUnlock()
	if w != nil {
		return askWire(ctx, w, id, `"publish":{"channel":"x","data":`+data+`}`)
	}
	_, err := s.Publish(ctx, "x", []byte(data))
	return err
}

// kick makes subscribers come back.
func (s *storm) kick(ctx context.Context, subs []*stormSubscriber) error {
	if err := s.awaitSubscribers(ctx); err != nil {
		return err
	}
	rng := s.rand("kicker", 0)
	for {
		s.linger(5)
		select {
		case <-s.over:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		default:
		}
		if err := s.Disconnect(ctx, subs[rng.IntN(len(subs))].user, fanfare.DisconnectForceReconnect); err != nil {
			return err
		}
	}
}

func (s *storm) dial(ctx context.Context, user string) (wire, error) {
	if s.plan.sockets {
		return dialSocket(ctx, s.url)
	}
	return memoryWire{fanfaretest.Dial(s.t, s.Node, user)}, nil
}

// TestOrder is the promise to subscribers: all see one order, nothing is lost, nothing comes twice, or they are told
// before they see anything newer.
func TestOrder(t *testing.T) {
	plan := stormPlan{tick: 10 * time.Millisecond, check: 10 * time.Second}

	inBubble(t, "lost deliveries are nobody's business but the node's", func(t *testing.T) {
		subs, counts := rage(t, plan)
		for _, sub := range subs {
			want := 0
			if sub.truant {
				want = 1
			}
			require.Equal(t, want, sub.tale.gaps(), sub.user)
		}
		require.NotZero(t, counts["repaired"])
		require.Zero(t, counts["not repaired"])
		require.Zero(t, counts["unsubscribe 2500"])
		require.Zero(t, counts["disconnect 3010"])
	})
	inBubble(t, "what cannot be repaired is told", func(t *testing.T) {
		plan := plan
		plan.outages, plan.tick = true, 50*time.Millisecond // an outage outlasts the attempts of a repair
		_, counts := rage(t, plan)
		require.NotZero(t, counts["not repaired"])
		require.NotZero(t, counts["unsubscribe 2500"])
		require.NotZero(t, counts["disconnect 3010"])
	})
	inBubble(t, "a stream that begins anew is told", func(t *testing.T) {
		plan := plan
		plan.restart = true
		subs, counts := rage(t, plan)
		for _, sub := range subs {
			require.NotZero(t, sub.tale.gaps(), sub.user)
		}
		require.NotZero(t, counts["unsubscribe 2500"])
	})
	inBubble(t, "slow readers are told what was dropped", func(t *testing.T) {
		plan := plan
		plan.slow, plan.queue, plan.slowReaders = fanfare.SlowReaderDropOldest, 2<<10, true
		_, counts := rage(t, plan)
		require.NotZero(t, counts["unsubscribe 2500"])
		require.NotZero(t, counts["disconnect 3010"])
	})
	inBubble(t, "slow readers are disconnected", func(t *testing.T) {
		plan := plan
		plan.slow, plan.queue, plan.slowReaders = fanfare.SlowReaderDisconnect, 2<<10, true
		_, counts := rage(t, plan)
		require.NotZero(t, counts["disconnect 3008"])
	})
	t.Run("over real sockets", func(t *testing.T) {
		plan := stormPlan{tick: 5 * time.Millisecond, check: 200 * time.Millisecond, sockets: true}
		_, counts := rage(t, plan)
		require.NotZero(t, counts["repaired"])
		require.NotZero(t, counts["told"])
	})
}
