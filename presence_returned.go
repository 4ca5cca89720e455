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
	// retellPause is the pause after joins that could not be published.
	retellPause = time.Second
)

// returns are members of this node that others may have been told are gone, because they took the node for dead. Their joins are told
// when they are in the presence again, and once more if a leave comes after that. A join or leave that is told twice does no harm,
// one that is never told does: nothing here keeps one back.
type returns struct {
	mu      sync.Mutex       // guards below; before attendances.mu and goroutineGroup.mu, else a leaf
	recent  membersByChannel // about whom late leaves may come: at most all that this node has, for as long as they may come
	until   time.Time        // when recent is forgotten
	forget  *time.Timer      // does that
	waiting membersByChannel // whose joins are to be told
	running bool             // a goroutine tells them
}

// membersByChannel are the users of clients, by channel and client.
type membersByChannel map[string]map[string]string

func (b membersByChannel) add(channel, client, user string) {
	if b[channel] == nil {
		b[channel] = make(map[string]string)
	}
	b[channel][client] = user
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
	}
	v.until = time.Now().Add(lateLeaves)
	for _, m := range members {
		v.recent.add(channel, m.Client, m.User)
		n.tellAgain(channel, m.Client, m.User)
	}
}

func (v *returns) forgetRecent() {
	v.mu.Lock()
	defer v.mu.Unlock()
	if left := time.Until(v.until); left > 0 && v.recent != nil {
		v.forget.Reset(left)
		return
	}
	v.recent = nil
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

// contradict looks at a join or leave from the broker: a leave of a member that has just returned is late. Where users are told of, it
// may name any client of a user who is here.
func (n *Node) contradict(channel string, m Membership) {
	if m.Joined || n.graves.stop == nil { // nobody takes this node for dead
		return
	}
	v := &n.returns
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.recent == nil {
		return
	}
	_, late := v.recent[channel][m.Info.Client]
	if d, _, ok := n.lookup(channel); ok && d.options.JoinLeavePerUser && m.Info.User != "" {
		clients, _ := n.attendances.look(presenceKey{channel, m.Info.User})
		late = clients > 0
	}
	if late {
		n.tellAgain(channel, m.Info.Client, m.Info.User)
	}
}

// unheard tells again of those who have just returned to channels in which leaves may have been missed; nil is all channels.
func (n *Node) unheard(channels []string) {
	v := &n.returns
	v.mu.Lock()
	defer v.mu.Unlock()
	if channels == nil {
		channels = slices.Collect(maps.Keys(v.recent))
	}
	for _, channel := range channels {
		for client, user := range v.recent[channel] {
			n.tellAgain(channel, client, user)
		}
	}
}

// tellAgain has a join told, if the client is still there by then. returns.mu is held.
func (n *Node) tellAgain(channel, client, user string) {
	v := &n.returns
	if v.waiting == nil {
		v.waiting = make(membersByChannel)
	}
	v.waiting.add(channel, client, user)
	if !v.running {
		// Owned by the node: it ends when nothing waits, each join being bounded in time.
		v.running = n.goroutines.start(n.tellReturned)
	}
}

// failed notes joins that could not be told. They are told later, for as long as late leaves may come.
func (n *Node) failed(channel, client, user string) {
	v := &n.returns
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.recent != nil {
		v.waiting.add(channel, client, user)
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

// gone drops a client of whom nobody needs to be told again.
func (v *returns) gone(channel, client string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	delete(v.recent[channel], client)
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
			users := make(map[string]string) // with any of the clients
			for client, user := range clients {
				users[user] = client
			}
			delete(users, "") // who is nobody in particular comes as a client
			for user, client := range users {
				group.Go(func() error {
					err := n.userIsHere(channel, user)
					if err != nil {
						n.failed(channel, client, user)
					}
					return err
				})
			}
			maps.DeleteFunc(clients, func(_, user string) bool { return user != "" })
		}
		here := n.subscribers(channel, clients)
		for client, user := range clients {
			s := here[client]
			if s == nil { // or about to come, and told of by then
				n.returns.gone(channel, client)
				continue
			}
			group.Go(func() error {
				err := n.clientIsHere(s, d.options.counts(user))
				if err != nil {
					n.failed(channel, client, user)
				}
				return err
			})
		}
		if group.Wait() != nil {
			select {
			case <-time.After(retellPause):
			case <-n.ctx.Done():
			}
		}
	}
}

// subscribers returns the subscriptions of some clients to a channel.
func (n *Node) subscribers(channel string, clients map[string]string) map[string]*subscription {
	found := make(map[string]*subscription, len(clients))
	r, ok := n.hub.Get(channel)
	if !ok || len(clients) == 0 {
		return found
	}
	r.mu.Lock()
	audiences := slices.Clone(r.audiences)
	r.mu.Unlock() // there may be 100,000, and nobody who publishes is to wait for this
	for _, a := range audiences {
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
	return s.settled.isOpen() && s.joined && s.announces && !s.claimed.Load()
}

// clientIsHere tells a channel that a client has come, where each client is told of.
func (n *Node) clientIsHere(s *subscription, counted bool) error {
	ctx, cancel := context.WithTimeout(n.ctx, n.config.HookTimeout)
	defer cancel()
	c, channel, info := s.client, s.channel, ClientInfo{}
	if counted {
		s.settled.wait(ctx)
		u := n.attendances.hold(presenceKey{channel, c.User()}) // nobody leaves meanwhile
		defer n.attendances.release(u)
		if !s.announced() {
			return nil
		}
		return n.publishMembership(channel, Membership{Joined: true, Info: c.clientInfo(s.channelInfo)})
	}
	// It may leave meanwhile, and come again: what is told last must be what was seen behind it.
	for told := false; ; {
		if s != nil && !s.settled.wait(ctx) {
			return nil
		}
		here := s != nil && s.announced()
		if here == told {
			return nil
		}
		if here {
			info = c.clientInfo(s.channelInfo)
		}
		if err := n.publishMembership(channel, Membership{Joined: here, Info: info}); err != nil {
			return err
		}
		told, s = here, c.subscription(channel)
	}
}

// subscription returns the client's subscription to a channel, which may be about to begin or to end, or nil.
func (c *Client) subscription(channel string) *subscription {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.subs.get(channel)
}

// userIsHere tells a channel that a user has come, where users are told of. A user who has clients at other nodes, too, may be told
// of though nobody said that the user had left: two nodes that return at once must not leave it to each other.
func (n *Node) userIsHere(channel, user string) error {
	ctx, cancel := context.WithTimeout(n.ctx, n.config.HookTimeout)
	defer cancel()
	u := n.attendances.hold(presenceKey{channel, user}) // nobody comes or leaves meanwhile
	defer func() { n.attendances.release(u) }()
	for {
		here, coming := n.hereOf(channel, user)
		switch {
		case here != nil:
			u.told, u.again = true, false
			return n.publishMembership(channel, Membership{Joined: true, Info: here.client.clientInfo(here.channelInfo)})
		case coming == nil:
			return n.userIsAway(u)
		}
		u.again = true // in case it comes too late for this
		n.attendances.release(u)
		settled := coming.settled.wait(ctx)
		u = n.attendances.hold(u.key)
		if !settled {
			return nil
		}
	}
}

// hereOf returns a subscription of a user whose coming was told to a channel, or else one that is about to begin, or neither.
func (n *Node) hereOf(channel, user string) (here, coming *subscription) {
	for _, c := range n.clientsOf(user) {
		switch s := c.subscription(channel); {
		case s == nil:
		case s.announced():
			return s, nil
		case !s.settled.isOpen():
			coming = s
		}
	}
	return nil, coming
}

// userIsAway sees to a user of whom no client is here any more. One who may be back in a moment has left: clients that have come at other
// nodes meanwhile have left the join to this one. The attendance is held.
func (n *Node) userIsAway(u *attendance) error {
	u.again = true // whatever others know, the next who comes is told of
	if u.away == nil {
		return nil
	}
	p, _ := n.attendances.change(u, 0, nil)
	p.timer.Stop()
	remain := n.removePresence(u.key.channel, p.info.Client, p.shared)
	if remain > 0 && p.announced {
		return n.publishMembership(u.key.channel, Membership{Joined: true, Info: p.info})
	}
	n.tellLeave(u, Membership{Info: p.info}, p.announced, p.perUser, remain)
	return nil
}

// clientsOf returns the connections of a user.
func (n *Node) clientsOf(user string) []*Client {
	n.mu.RLock()
	defer n.mu.RUnlock()
	return slices.Collect(n.clients.user(user))
}
