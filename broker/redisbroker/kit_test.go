package redisbroker_test

import (
	"bytes"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare"
	"github.com/fanfare-go/fanfare/broker/redisbroker"
)

// patience is how long a test waits for what should happen soon.
const patience = 20 * time.Second

var history = fanfare.History{Size: 1000, TTL: time.Minute}

// connect returns a broker over the servers, which is closed with the test.
func connect(t testing.TB, servers ...redisbroker.Server) *redisbroker.Broker {
	t.Helper()
	return configured(t, redisbroker.Config{Servers: servers, Timeout: 5 * time.Second})
}

func configured(t testing.TB, c redisbroker.Config) *redisbroker.Broker {
	t.Helper()
	b, err := redisbroker.New(t.Context(), c)
	require.NoError(t, err)
	t.Cleanup(func() { _ = b.Close() })
	return b
}

func at(addresses ...string) redisbroker.Server {
	return redisbroker.Server{Addresses: addresses}
}

func publish(t testing.TB, b *redisbroker.Broker, channel, data string) fanfare.Position {
	t.Helper()
	pos, err := b.Publish(t.Context(), channel, &fanfare.Publication{Data: []byte(data)}, fanfare.StoreOptions{History: history})
	require.NoError(t, err)
	return pos
}

func read(t testing.TB, b *redisbroker.Broker, channel string) fanfare.HistoryResult {
	t.Helper()
	h, err := b.History(t.Context(), channel, fanfare.HistoryQuery{Limit: -1})
	require.NoError(t, err)
	return h
}

// kept returns the payloads of a stream.
func kept(t testing.TB, b *redisbroker.Broker, channel string) (all []string) {
	t.Helper()
	for _, p := range read(t, b, channel).Publications {
		all = append(all, string(p.Data))
	}
	return all
}

// node is a sink that writes down what it gets.
type node struct {
	mu           sync.Mutex // guards below
	publications map[string][]string
	controls     []string
	interrupted  [][]string
}

func attach(t testing.TB, b *redisbroker.Broker, id string, channels ...string) (fanfare.Link, *node) {
	t.Helper()
	n := &node{publications: make(map[string][]string)}
	l, err := b.Attach(id, n)
	require.NoError(t, err)
	for _, c := range channels {
		require.NoError(t, l.Subscribe(t.Context(), c))
	}
	return l, n
}

func (n *node) Publication(channel string, p *fanfare.Publication) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.publications[channel] = append(n.publications[channel], string(p.Data))
}

func (n *node) Membership(string, fanfare.Membership) {}

func (n *node) Control(data []byte) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.controls = append(n.controls, string(data))
}

func (n *node) Interrupted(channels []string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.interrupted = append(n.interrupted, channels)
}

func (n *node) got(channel string) []string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return append([]string(nil), n.publications[channel]...)
}

func (n *node) interruptions() [][]string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return append([][]string(nil), n.interrupted...)
}

// eventually waits for a condition.
func eventually(t testing.TB, what string, condition func() bool) {
	t.Helper()
	require.Eventually(t, condition, patience, 5*time.Millisecond, what)
}

// lines is a log that tests read.
type lines struct {
	mu   sync.Mutex // guards below
	text bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *lines) logger() *slog.Logger { return slog.New(slog.NewTextHandler(l, nil)) }

func (l *lines) count(text string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Count(l.text.String(), text)
}
