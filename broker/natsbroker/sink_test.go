package natsbroker

import (
	"context"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare"
)

// sink writes down what a node gets.
type sink struct {
	mu           sync.Mutex // guards below
	publications []*fanfare.Publication
	interrupted  [][]string
	block        chan struct{} // Publication waits until it is closed; or nil
}

func (s *sink) Publication(_ string, p *fanfare.Publication) {
	s.mu.Lock()
	s.publications = append(s.publications, p)
	block := s.block
	s.mu.Unlock()
	if block != nil {
		<-block
	}
}

func (s *sink) Membership(string, fanfare.Membership) {}

func (s *sink) Control([]byte) {}

// Interrupted is what tells a node that it may have lost something.
func (s *sink) Interrupted(channels []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.interrupted = append(s.interrupted, channels)
}

func (s *sink) got() []*fanfare.Publication {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.publications)
}

// last returns the position of what came last; the zero one if nothing has come.
func (s *sink) last() fanfare.Position {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.publications) == 0 {
		return fanfare.Position{}
	}
	return s.publications[len(s.publications)-1].Position
}

// interruptions returns how often the sink was told, and the channels of the last time.
func (s *sink) interruptions() (n int, last []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if n = len(s.interrupted); n > 0 {
		last = s.interrupted[n-1]
	}
	return n, last
}

// attach attaches a node that is subscribed to the channels.
func attach(t testing.TB, b *Broker, node string, channels ...string) *sink {
	t.Helper()
	s := &sink{}
	l, err := b.Attach(node, s)
	require.NoError(t, err)
	for _, channel := range channels {
		require.NoError(t, l.Subscribe(context.Background(), channel))
	}
	return s
}

var kept = fanfare.StoreOptions{History: fanfare.History{Size: 1000, TTL: time.Minute}}

func publish(b *Broker, channel, data string) (fanfare.Position, error) {
	return b.Publish(context.Background(), channel, &fanfare.Publication{Data: []byte(data)}, kept)
}

func mustPublish(t testing.TB, b *Broker, channel, data string) fanfare.Position {
	t.Helper()
	at, err := publish(b, channel, data)
	require.NoError(t, err)
	return at
}

// all returns what is kept of a channel.
func all(t testing.TB, b *Broker, channel string) fanfare.HistoryResult {
	t.Helper()
	h, err := b.History(context.Background(), channel, fanfare.HistoryQuery{Limit: -1})
	require.NoError(t, err)
	return h
}

func eventually(t testing.TB, what string, cond func() bool) {
	t.Helper()
	require.Eventually(t, cond, 20*time.Second, 5*time.Millisecond, what)
}
