package fanfare

import (
	"context"
	"maps"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
)

const (
	// maxTelling is how many joins of returned members are told at once.
	maxTelling = 16
	// lateLeaves is how long after a return somebody may still be telling that its members have left.
	lateLeaves = time.Minute
)

// returns are members of this node that others were told have left, because they took the node for dead. Their joins are told when
// they are in the presence again, and once more if a leave comes after that. A join that is told twice does no harm.
type returns struct {
	mu      sync.Mutex       // guards below; a leaf but for goroutineGroup.mu
	recent  membersByChannel // about whom late leaves may come
	forget  *time.Timer      // clears recent
	waiting membersByChannel // whose joins are to be told
	running bool             // a goroutine tells them
}

// membersByChannel are the users of clients, by channel and client.
type membersByChannel map[string]map[string]string

func (b membersByChannel) add(channel string, m ClientInfo) {
	if b[channel] == nil {
		b[channel] = make(map[string]string)
	}
	b[channel][m.Client] = m.User
}

// returned takes members that are in the presence again. It does not block.
func (n *Node) returned(channel string, members []ClientInfo) {
	d, _, ok := n.lookup(channel)
	if !ok || !d.options.JoinLeave {
		return
	}
	v := &n.returns
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.recent == nil {
		v.recent = make(membersByChannel)
		v.forget = time.AfterFunc(lateLeaves, v.forgetRecent)
	} else {
		v.forget.Reset(lateLeaves)
	}
	for _, m := range members {
		v.recent.add(channel, m)
		n.tellAgain(channel, m)
	}
}

// contradict looks at a join or leave from the broker: a leave of a member that has just returned is late.
func (n *Node) contradict(channel string, m Membership) {
	if m.Joined {
		return
	}
	v := &n.returns
	v.mu.Lock()
	defer v.mu.Unlock()
	if _, ok := v.recent[channel][m.Info.Client]; ok {
		n.tellAgain(channel, m.Info)
	}
}

func (v *returns) forgetRecent() {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.recent = nil
}

// tellAgain has a join told, if the client is still there by then. returns.mu is held.
func (n *Node) tellAgain(channel string, m ClientInfo) {
	v := &n.returns
	if v.waiting == nil {
		v.waiting = make(membersByChannel)
	}
	v.waiting.add(channel, m)
	if !v.running {
		// Owned by the node: it ends when nothing waits, each join being bounded in time.
		v.running = n.goroutines.start(n.tellReturned)
	}
}

// tellReturned tells joins, channel by channel, until nothing waits.
func (n *Node) tellReturned() {
	for {
		channel, clients, ok := n.returns.next()
		if !ok {
			return
		}
		d, _, declared := n.lookup(channel)
		if !declared {
			continue
		}
		var group errgroup.Group // waited for below
		group.SetLimit(maxTelling)
		if d.options.JoinLeavePerUser {
			users := make(map[string]bool)
			for _, user := range clients {
				users[user] = true
			}
			delete(users, "") // who is nobody in particular comes as a client
			for user := range users {
				group.Go(func() error { n.userIsHere(channel, user); return nil })
			}
			maps.DeleteFunc(clients, func(_, user string) bool { return user != "" })
		}
		here := n.subscribers(channel, clients)
		for client, user := range clients {
			group.Go(func() error { n.clientIsHere(channel, client, user, here[client]); return nil })
		}
		_ = group.Wait()
	}
}

func (v *returns) next() (channel string, clients map[string]string, ok bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	for channel, clients = range v.waiting {
		delete(v.waiting, channel)
		return channel, clients, true
	}
	v.running, v.waiting = false, nil
	return "", nil, false
}

// subscribers returns the subscriptions of some clients to a channel.
func (n *Node) subscribers(channel string, clients map[string]string) map[string]*subscription {
	found := make(map[string]*subscription, len(clients))
	r, ok := n.hub.Get(channel)
	if !ok || len(clients) == 0 {
		return found
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, a := range r.audiences {
		if a == nil {
			continue
		}
		a.mu.Lock()
		for _, s := range a.subs {
			if _, wanted := clients[s.client.id]; wanted {
				found[s.client.id] = s
			}
		}
		a.mu.Unlock()
	}
	return found
}

// announced reports whether the channel was told that the client has come, and not yet that it goes.
func (s *subscription) announced() bool {
	return s != nil && s.settled.isOpen() && s.joined && s.announces && !s.claimed.Load()
}

// clientIsHere tells a channel that a client has come, where each client is told of. Its subscription is nil if it has none.
func (n *Node) clientIsHere(channel, client, user string, s *subscription) {
	d, _, ok := n.lookup(channel)
	if !ok {
		return
	}
	counted := d.options.counts(user)
	if counted {
		u := n.attendances.hold(presenceKey{channel, user}) // nobody leaves meanwhile
		defer n.attendances.release(u)
		if u.away != nil && u.away.info.Client == client {
			u.away.announced = false // it has left for the others already
		}
	}
	if !s.announced() {
		return
	}
	info := s.client.clientInfo(s.channelInfo)
	n.publishMembership(channel, Membership{Joined: true, Info: info})
	if counted || !s.claimed.Load() {
		return
	}
	// Its leave may have come before the join. If it has come again, so has its own join, or will.
	s.client.mu.Lock()
	now := s.client.subs.get(channel)
	s.client.mu.Unlock()
	if now == nil || now == s {
		n.publishMembership(channel, Membership{Info: info})
	}
}

// userIsHere tells a channel that a user has come, where users are told of. A user who has clients at other nodes, too, may be told
// of though nobody said that the user had left: two nodes that return at once must not leave it to each other.
func (n *Node) userIsHere(channel, user string) {
	ctx, cancel := context.WithTimeout(n.ctx, n.config.HookTimeout)
	defer cancel()
	for coming := n.tellUser(channel, user); coming != nil && coming.settled.wait(ctx); {
		coming = n.tellUser(channel, user)
	}
}

// tellUser tells of a user who has a client in the channel. If none is known to be, it returns one that may be in a moment.
func (n *Node) tellUser(channel, user string) (coming *subscription) {
	u := n.attendances.hold(presenceKey{channel, user}) // nobody leaves meanwhile
	defer n.attendances.release(u)
	for _, c := range n.clientsOf(user) {
		c.mu.Lock()
		s := c.subs.get(channel)
		c.mu.Unlock()
		switch {
		case s == nil:
		case s.announced():
			u.told = true
			n.publishMembership(channel, Membership{Joined: true, Info: c.clientInfo(s.channelInfo)})
			return nil
		case !s.settled.isOpen():
			coming = s
		}
	}
	if coming == nil { // away, or about to go: the next who comes is told of, and no leave
		u.told = false
		if u.away != nil {
			u.away.announced = false
		}
	}
	return coming
}

// clientsOf returns the connections of a user.
func (n *Node) clientsOf(user string) []*Client {
	n.mu.RLock()
	defer n.mu.RUnlock()
	return slices.Collect(n.clients.user(user))
}

// end forgets what is not needed any more when the node shuts down.
func (v *returns) end() {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.forget != nil {
		v.forget.Stop()
	}
	v.recent = nil
}
