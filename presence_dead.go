package fanfare

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"sync"

	"golang.org/x/sync/errgroup"
)

const (
	// maxTidings bounds the members whose leaves or joins are still to be told.
	maxTidings = 100_000
	// maxTelling is how many of these are told at once.
	maxTelling = 16
)

// tidings are the leaves of members of dead nodes, which this node is to tell, and the joins of its own members if others took it for
// dead and told that they had left.
type tidings struct {
	stop func() // ends the watch; nil if there is none

	mu      sync.Mutex // guards below
	waiting map[tiding][]ClientInfo
	members int
	running bool // a goroutine tells them
	full    bool // some were left out, and that was logged
}

type tiding struct {
	channel string
	joined  bool
}

// watchDead has this node told of members whose node has died, if the presence finds out.
func (n *Node) watchDead() error {
	w, ok := n.presence.(PresenceWatcher)
	if !ok || n.ownsPresence {
		return nil
	}
	gone := func(channel string, members []ClientInfo) { n.hear(tiding{channel, false}, members) }
	back := func(channel string, members []ClientInfo) { n.hear(tiding{channel, true}, members) }
	stop, err := w.WatchDead(n.id, gone, back)
	if err != nil {
		return fmt.Errorf("fanfare: watch for dead nodes: %w", err)
	}
	n.tidings.stop = stop
	return nil
}

// hear takes members of whom others are to be told. It does not block.
func (n *Node) hear(what tiding, members []ClientInfo) {
	d, _, ok := n.lookup(what.channel)
	if !ok || !d.options.JoinLeave || len(members) == 0 {
		return
	}
	t := &n.tidings
	t.mu.Lock()
	defer t.mu.Unlock()
	if room := maxTidings - t.members; len(members) > room {
		if !t.full {
			n.log.Warn("too many members of dead nodes at once: the leaves or joins of some are not told", slog.String("channel", what.channel))
		}
		t.full = true
		members = members[:room]
	}
	if t.waiting == nil {
		t.waiting = make(map[tiding][]ClientInfo)
	}
	t.waiting[what] = append(t.waiting[what], members...)
	t.members += len(members)
	if !t.running {
		// Owned by the node: it ends when nothing waits, each message being bounded in time; and Shutdown stops the watch before.
		t.running = n.goroutines.start(n.tellTidings)
	}
}

// tellTidings tells others, channel by channel, until nothing waits.
func (n *Node) tellTidings() {
	for {
		what, members, ok := n.tidings.next()
		if !ok {
			return
		}
		d, _, declared := n.lookup(what.channel)
		if !declared {
			continue
		}
		if what.joined {
			members = slices.DeleteFunc(members, func(m ClientInfo) bool { return n.announced(what.channel, m) == nil })
		}
		if d.options.JoinLeavePerUser {
			members = n.allOfUsers(what.channel, members)
		}
		var group errgroup.Group // waited for below
		group.SetLimit(maxTelling)
		for _, m := range members {
			group.Go(func() error {
				if what.joined {
					n.tellStillHere(what.channel, m)
				} else {
					n.publishMembership(what.channel, Membership{Info: m})
				}
				return nil
			})
		}
		_ = group.Wait()
	}
}

func (t *tidings) next() (what tiding, members []ClientInfo, ok bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for what, members = range t.waiting {
		delete(t.waiting, what)
		t.members -= len(members)
		return what, members, true
	}
	t.running, t.full, t.waiting = false, false, nil
	return tiding{}, nil, false
}

// tellStillHere tells the channel that a client of this node has come, unless it has gone meanwhile.
func (n *Node) tellStillHere(channel string, m ClientInfo) {
	s := n.announced(channel, m)
	if s == nil {
		return
	}
	if n.countsOnly(s, m.User) {
		u := n.attendances.hold(presenceKey{channel, m.User}) // nobody leaves meanwhile
		defer n.attendances.release(u)
	}
	if s.claimed.Load() {
		return
	}
	n.publishMembership(channel, Membership{Joined: true, Info: m})
	if s.claimed.Load() && !n.countsOnly(s, m.User) {
		n.publishMembership(channel, Membership{Info: m}) // the first may have come before the join
	}
}

// announced returns the subscription of a client whose coming to a channel was told, or nil.
func (n *Node) announced(channel string, m ClientInfo) *subscription {
	c := n.ofUser(m.User, m.Client)
	if c == nil {
		return nil
	}
	c.mu.Lock()
	s := c.subs.get(channel)
	c.mu.Unlock()
	if s == nil || !s.settled.isOpen() || !s.joined || !s.announces {
		return nil
	}
	return s
}

// ofUser returns the connection of a user with an id, or nil.
func (n *Node) ofUser(user, client string) *Client {
	n.mu.RLock()
	defer n.mu.RUnlock()
	for c := range n.clients.user(user) {
		if c.id == client {
			return c
		}
	}
	return nil
}

// allOfUsers leaves out of members those whose users have other clients in the channel, and all but one of each user. Anonymous ones
// are nobody in particular.
func (n *Node) allOfUsers(channel string, members []ClientInfo) []ClientInfo {
	var alone []ClientInfo
	users, clients := make(map[string]ClientInfo), make(map[string]bool)
	for _, m := range members {
		clients[m.Client] = true
		if m.User == "" {
			alone = append(alone, m)
		} else {
			users[m.User] = m
		}
	}
	if len(users) > 0 {
		ctx, cancel := context.WithTimeout(n.ctx, n.config.HookTimeout)
		defer cancel()
		for m, err := range n.scanMembers(ctx, channel) {
			if err != nil {
				n.log.Warn("presence not read for users of a dead node: their leaves or joins are told, also if they have other clients",
					slog.String("channel", channel), slog.Any("err", err))
				break
			}
			if clients[m.Client] {
				continue
			}
			if delete(users, m.User); len(users) == 0 {
				break
			}
		}
	}
	for _, m := range users {
		alone = append(alone, m)
	}
	return alone
}
