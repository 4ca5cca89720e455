package fanfare_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
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

func TestPresence_NodeTakenForDead(t *testing.T) {
	// start returns the members of two users, of whom one has two clients, and a watcher at the same node.
	start := func(t *testing.T, o fanfare.ChannelOptions) (p *mortalPresence, node *fanfare.Node, clients []*fanfaretest.Client, members []fanfare.ClientInfo) {
		p = &mortalPresence{MemoryPresence: fanfare.NewMemoryPresence()}
		node = startNode(t, func(c *fanfare.Config) { c.Presence = p })
		o.Public, o.Presence = true, true
		node.Channel("room", o)
		for _, user := range []string{"ann", "ben", "ben", "watcher"} {
			clients = append(clients, enter(t, node, user))
		}
		members, err := node.Presence(t.Context(), "room")
		require.NoError(t, err)
		events(clients[3])
		return p, node, clients, members
	}
	inBubble(t, "its members come again", func(t *testing.T) {
		p, node, clients, members := start(t, fanfare.ChannelOptions{ForceJoinLeave: true})
		p.revive(node.ID(), "room", members...)
		require.ElementsMatch(t, []string{"room join ann", "room join ben", "room join ben", "room join watcher"}, events(clients[3]))
	})
	inBubble(t, "per user once, if no other client is elsewhere", func(t *testing.T) {
		p, node, clients, members := start(t, fanfare.ChannelOptions{ForceJoinLeave: true, JoinLeavePerUser: true})
		require.NoError(t, p.Add(t.Context(), "another node", "room", fanfare.ClientInfo{User: "ann", Client: "elsewhere"}))
		p.revive(node.ID(), "room", members...)
		require.ElementsMatch(t, []string{"room join ben", "room join watcher"}, events(clients[3]))
		require.NoError(t, p.RemoveNode(t.Context(), "another node"))
	})
	inBubble(t, "but not those that have gone", func(t *testing.T) {
		for _, o := range []fanfare.ChannelOptions{{ForceJoinLeave: true}, {ForceJoinLeave: true, JoinLeavePerUser: true}, {ForceJoinLeave: true, PresenceGrace: time.Second}} {
			p, node, clients, members := start(t, o)
			clients[0].Close()
			clients[1].Close()
			time.Sleep(time.Minute)
			events(clients[3])
			p.revive(node.ID(), "room", members...)
			require.ElementsMatch(t, []string{"room join ben", "room join watcher"}, events(clients[3]))
		}
	})
	inBubble(t, "nor in a channel that tells nobody", func(t *testing.T) {
		p, node, clients, members := start(t, fanfare.ChannelOptions{})
		p.revive(node.ID(), "room", members...)
		p.revive(node.ID(), "undeclared", members...)
		require.Empty(t, events(clients[3]))
	})
	inBubble(t, "a client that goes while its join is told has left", func(t *testing.T) {
		broker := newFaultBroker(t)
		p := &mortalPresence{MemoryPresence: fanfare.NewMemoryPresence()}
		node := startNode(t, broker.config, func(c *fanfare.Config) { c.Presence = p })
		node.Channel("room", fanfare.ChannelOptions{Public: true, Presence: true, ForceJoinLeave: true})
		ann, observer := enter(t, node, "ann"), enter(t, node, "watcher")
		members, err := node.Presence(t.Context(), "room")
		require.NoError(t, err)
		events(observer)
		first, gate := true, make(chan struct{})
		broker.set(func() {
			broker.onMembership = func() {
				if first { // the join; what comes behind it does not wait
					first = false
					<-gate
				}
			}
		})
		p.revive(node.ID(), "room", members[slices.IndexFunc(members, func(m fanfare.ClientInfo) bool { return m.User == "ann" })])
		synctest.Wait()
		ann.Close()
		synctest.Wait()
		require.Equal(t, []string{"room leave ann"}, events(observer))
		close(gate)
		require.Equal(t, []string{"room join ann", "room leave ann"}, events(observer))
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
