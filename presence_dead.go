package fanfare

import (
	"context"
	"fmt"
	"log/slog"
	"sync"

	"golang.org/x/sync/errgroup"
)

const (
	// maxGraves bounds the members of dead nodes whose leaves are still to be told.
	maxGraves = 100_000
	// maxBurying is how many of these leaves are told at once.
	maxBurying = 16
)

// graves are members of dead nodes whose leaves this node is to tell.
type graves struct {
	stop func() // ends the watch; nil if there is none

	mu        sync.Mutex // guards below
	byChannel map[string][]ClientInfo
	members   int
	running   bool // a goroutine tells of them
	full      bool // some were left out, and that was logged
}

// watchDead has this node told of members whose node has died, if the presence finds out.
func (n *Node) watchDead() error {
	w, ok := n.presence.(PresenceWatcher)
	if !ok || n.ownsPresence {
		return nil
	}
	stop, err := w.WatchDead(n.id, n.died, n.returned)
	if err != nil {
		return fmt.Errorf("fanfare: watch for dead nodes: %w", err)
	}
	n.graves.stop = stop
	return nil
}

// died takes members whose node has died. It does not block.
func (n *Node) died(channel string, members []ClientInfo) {
	d, _, ok := n.lookup(channel)
	if !ok || !d.options.JoinLeave || len(members) == 0 {
		return
	}
	g := &n.graves
	g.mu.Lock()
	defer g.mu.Unlock()
	if room := maxGraves - g.members; len(members) > room {
		if !g.full {
			n.log.Warn("too many members of dead nodes at once: the leaves of some are not told", slog.String("channel", channel))
		}
		g.full = true
		if members = members[:room]; room == 0 {
			return
		}
	}
	if g.byChannel == nil {
		g.byChannel = make(map[string][]ClientInfo)
	}
	g.byChannel[channel] = append(g.byChannel[channel], members...)
	g.members += len(members)
	if !g.running {
		// Owned by the node: it ends when nothing waits, each leave being bounded in time; and Shutdown stops the watch before.
		g.running = n.goroutines.start(n.bury)
	}
}

// bury tells of the members of dead nodes, channel by channel, until there are none.
func (n *Node) bury() {
	g := &n.graves
	for {
		channel, members, ok := g.next()
		if !ok {
			return
		}
		d, _, declared := n.lookup(channel)
		if !declared {
			continue
		}
		if d.options.JoinLeavePerUser {
			members = n.lastOfUsers(channel, members)
		}
		var group errgroup.Group // waited for below
		group.SetLimit(maxBurying)
		for _, m := range members {
			group.Go(func() error {
				n.publishMembership(channel, Membership{Info: m})
				return nil
			})
		}
		_ = group.Wait()
	}
}

func (g *graves) next() (channel string, members []ClientInfo, ok bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for channel, members = range g.byChannel {
		delete(g.byChannel, channel)
		g.members -= len(members)
		return channel, members, true
	}
	g.running, g.full, g.byChannel = false, false, nil
	return "", nil, false
}

// lastOfUsers leaves out of members those whose users are still in the channel, and all but one of each user. Anonymous ones are
// nobody in particular.
func (n *Node) lastOfUsers(channel string, members []ClientInfo) []ClientInfo {
	var gone []ClientInfo
	users := make(map[string]ClientInfo)
	for _, m := range members {
		if m.User == "" {
			gone = append(gone, m)
		} else {
			users[m.User] = m
		}
	}
	if len(users) > 0 {
		ctx, cancel := context.WithTimeout(n.ctx, n.config.HookTimeout)
		defer cancel()
		for m, err := range n.scanMembers(ctx, channel) {
			if err != nil {
				n.log.Warn("presence not read for users of a dead node: their leaves are told, also if they have other clients",
					slog.String("channel", channel), slog.Any("err", err))
				break
			}
			if delete(users, m.User); len(users) == 0 {
				break
			}
		}
	}
	for _, m := range users {
		gone = append(gone, m)
	}
	return gone
}
