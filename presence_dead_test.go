package fanfare_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare"
	"github.com/fanfare-go/fanfare/fanfaretest"
)

// mortalPresence is a presence that finds nodes dead when the test says so.
type mortalPresence struct {
	*fanfare.MemoryPresence
	err error

	mu       sync.Mutex // guards below
	watchers map[string]watcher
	removed  []string // nodes that are not watched when their members were taken out
}

type watcher struct {
	gone, back func(channel string, members []fanfare.ClientInfo)
}

func (p *mortalPresence) WatchDead(node string, gone, back func(string, []fanfare.ClientInfo)) (stop func(), err error) {
	if p.err != nil {
		return nil, p.err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.watchers == nil {
		p.watchers = make(map[string]watcher)
	}
	p.watchers[node] = watcher{gone, back}
	return func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		delete(p.watchers, node)
	}, nil
}

func (p *mortalPresence) RemoveNode(ctx context.Context, node string) error {
	p.mu.Lock()
	if _, ok := p.watchers[node]; !ok {
		p.removed = append(p.removed, node)
	}
	p.mu.Unlock()
	return p.MemoryPresence.RemoveNode(ctx, node)
}

// bury takes out the members of a dead node, and tells one watcher.
func (p *mortalPresence) bury(t *testing.T, node, channel string, members ...fanfare.ClientInfo) {
	for _, m := range members {
		require.NoError(t, p.Remove(t.Context(), node, channel, m.Client))
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, w := range p.watchers {
		w.gone(channel, members)
		return
	}
}

// revive tells a node that its members are in again.
func (p *mortalPresence) revive(node, channel string, members ...fanfare.ClientInfo) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.watchers[node].back(channel, members)
}

func TestPresence_DeadNode(t *testing.T) {
	const dead = "dead node"
	member := func(user, client string) fanfare.ClientInfo { return fanfare.ClientInfo{User: user, Client: client} }
	start := func(t *testing.T, perUser bool) (p *mortalPresence, node *fanfare.Node, watcher *fanfaretest.Client) {
		p = &mortalPresence{MemoryPresence: fanfare.NewMemoryPresence()}
		node = startNode(t, func(c *fanfare.Config) { c.Presence = p })
		node.Channel("room", fanfare.ChannelOptions{Public: true, Presence: true, ForceJoinLeave: true, JoinLeavePerUser: perUser})
		node.Channel("quiet", fanfare.ChannelOptions{Public: true, Presence: true})
		watcher = enter(t, node, "watcher")
		requireSubscribe(t, watcher, "quiet")
		events(watcher)
		return p, node, watcher
	}
	inBubble(t, "its members leave", func(t *testing.T) {
		p, _, watcher := start(t, false)
		var members []fanfare.ClientInfo
		var want []string
		for i := range 1000 {
			user := fmt.Sprint("user", i/2)
			members = append(members, member(user, fmt.Sprint(i)))
			want = append(want, "room leave "+user)
		}
		p.bury(t, dead, "room", members[:500]...)
		p.bury(t, dead, "room", members[500:]...)
		p.bury(t, dead, "quiet", members...)
		p.bury(t, dead, "undeclared", members...)
		p.bury(t, dead, "room")
		require.ElementsMatch(t, want, events(watcher))
	})
	inBubble(t, "per user, if no other client is left", func(t *testing.T) {
		p, node, watcher := start(t, true)
		enter(t, node, "ann")
		require.NoError(t, p.Add(t.Context(), "another node", "room", member("ben", "b2")))
		events(watcher)
		p.bury(t, dead, "room", member("ann", "a1"), member("ben", "b1"), member("cat", "c1"), member("cat", "c2"), member("", "x"), member("", "y"))
		require.ElementsMatch(t, []string{"room leave cat", "room leave ", "room leave "}, events(watcher))
		require.NoError(t, p.RemoveNode(t.Context(), "another node"))
	})
	inBubble(t, "at the end the watch is over before the node goes", func(t *testing.T) {
		p, node, _ := start(t, false)
		require.Len(t, p.watchers, 1)
		require.NoError(t, node.Shutdown(t.Context()))
		require.Empty(t, p.watchers)
		require.Equal(t, []string{node.ID()}, p.removed)
	})
	t.Run("a presence that cannot watch", func(t *testing.T) {
		p := &mortalPresence{MemoryPresence: fanfare.NewMemoryPresence(), err: errors.New("no lease")}
		_, err := fanfare.New(fanfare.Config{Presence: p})
		require.ErrorIs(t, err, p.err)
	})
	inBubble(t, "the broker hangs: the presence does not wait", func(t *testing.T) {
		broker := newFaultBroker(t)
		p := &mortalPresence{MemoryPresence: fanfare.NewMemoryPresence()}
		node := startNode(t, broker.config, func(c *fanfare.Config) { c.Presence = p })
		node.Channel("room", fanfare.ChannelOptions{Public: true, Presence: true, ForceJoinLeave: true})
		watcher := enter(t, node, "watcher")
		events(watcher)
		gate := make(chan struct{})
		broker.set(func() { broker.onMembership = func() { <-gate } })
		began := time.Now()
		for i := range 100 {
			p.bury(t, dead, "room", member("ann", fmt.Sprint(i)))
		}
		synctest.Wait()
		require.Zero(t, time.Since(began))
		broker.set(func() { broker.onMembership = nil })
		close(gate)
		require.Len(t, events(watcher), 100)
	})
}

func TestNode_PresenceSeq(t *testing.T) {
	for name, presence := range map[string]func(p *fanfare.MemoryPresence) fanfare.Presence{
		"in pages": func(p *fanfare.MemoryPresence) fanfare.Presence { return p },
		"at once":  func(p *fanfare.MemoryPresence) fanfare.Presence { return plainPresence{p} },
	} {
		t.Run(name, func(t *testing.T) {
			memory := fanfare.NewMemoryPresence()
			node := startNode(t, func(c *fanfare.Config) { c.Presence = presence(memory) })
			node.Channel("room", fanfare.ChannelOptions{Public: true, Presence: true})
			node.Channel("none", fanfare.ChannelOptions{Public: true})
			for i := range 2500 {
				require.NoError(t, memory.Add(t.Context(), "one", "room", fanfare.ClientInfo{User: "u", Client: fmt.Sprint(i)}))
			}
			seen := make(map[string]bool)
			for m, err := range node.PresenceSeq(t.Context(), "room") {
				require.NoError(t, err)
				require.Equal(t, "u", m.User)
				require.False(t, seen[m.Client])
				seen[m.Client] = true
			}
			require.Len(t, seen, 2500)
			for range node.PresenceSeq(t.Context(), "room") {
				break
			}
			failed := func(ctx context.Context, channel string) (err error) {
				for _, err = range node.PresenceSeq(ctx, channel) {
					require.Error(t, err)
				}
				return err
			}
			require.ErrorIs(t, failed(t.Context(), "none"), fanfare.ErrPresenceDisabled)
			require.ErrorIs(t, failed(t.Context(), "undeclared"), fanfare.ErrUnknownChannel)
			ended, cancel := context.WithCancel(t.Context())
			cancel()
			require.ErrorIs(t, failed(ended, "room"), context.Canceled)
			require.NoError(t, memory.RemoveNode(t.Context(), "one"))
		})
	}
}
