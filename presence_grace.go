package fanfare

import (
	"context"
	"log/slog"
	"sync"
	"time"
)

// departures holds back the leaves of users that may be back in a moment, and counts the clients that each user has in a
// channel: for channels with [ChannelOptions.PresenceGrace] or [ChannelOptions.JoinLeavePerUser].
//
// Counts are those of this node. Anonymous clients are nobody in particular: they come and go at once.
type departures struct {
	mu      sync.Mutex // guards below
	clients map[presenceKey]int
	held    map[presenceKey]*departure
}

type presenceKey struct{ channel, user string }

// departure is a leave that is held back: the presence entry stays until the timer fires.
type departure struct {
	info      ClientInfo
	announced bool // others were told of the join
	timer     *time.Timer
}

// counts reports whether the comings and goings of this user in such a channel are counted.
func (o *ChannelOptions) counts(user string) bool {
	return user != "" && (o.PresenceGrace > 0 || o.JoinLeavePerUser)
}

// arrive counts a client. It returns the held departure that it ends, if there is one, and whether the user had no other
// client here.
func (d *departures) arrive(k presenceKey) (back *departure, first bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.clients == nil {
		d.clients = make(map[presenceKey]int)
	}
	d.clients[k]++
	if back = d.held[k]; back != nil {
		back.timer.Stop()
		delete(d.held, k)
	}
	return back, back == nil && d.clients[k] == 1
}

// depart counts a client out, and reports whether it was the user's last one. With a grace the departure of the last one is
// held for that long; then expired is called on a timer's goroutine. It is one step with the counting, or the user could
// come back in between and come twice.
func (d *departures) depart(k presenceKey, p *departure, grace time.Duration, expired func()) (last, held bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.clients[k]--
	if d.clients[k] > 0 {
		return false, false
	}
	delete(d.clients, k)
	if grace <= 0 {
		return true, false
	}
	if d.held == nil {
		d.held = make(map[presenceKey]*departure)
	}
	d.held[k] = p
	p.timer = time.AfterFunc(grace, expired)
	return true, true
}

// take removes a departure, if it is still held.
func (d *departures) take(k presenceKey, p *departure) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.held[k] != p {
		return false
	}
	delete(d.held, k)
	return true
}

// takeAll removes all departures: the node is shutting down.
func (d *departures) takeAll() map[presenceKey]*departure {
	d.mu.Lock()
	defer d.mu.Unlock()
	all := d.held
	d.held = nil
	for _, p := range all {
		p.timer.Stop()
	}
	return all
}

// arrived tells the channel that a client has come. If its user was about to leave, the entry is swapped: leave and join go
// out together, or neither where joins and leaves are per user.
func (n *Node) arrived(s *subscription) {
	o := &s.declared.options
	info := s.client.clientInfo(s.channelInfo)
	s.joined = true
	if !o.counts(info.User) {
		if o.JoinLeave {
			n.publishMembership(s.channel, Membership{Joined: true, Info: info})
		}
		return
	}
	back, first := n.departures.arrive(presenceKey{s.channel, info.User})
	if back != nil {
		n.removePresence(s.channel, back.info.Client)
		if o.JoinLeave && back.announced && !o.JoinLeavePerUser {
			n.publishMembership(s.channel, Membership{Info: back.info})
		}
	}
	if o.JoinLeave && (!o.JoinLeavePerUser || first) {
		n.publishMembership(s.channel, Membership{Joined: true, Info: info})
	}
}

// left takes a client out of the channel's presence and tells the others, now or, if its user may be back, later. A client
// that unsubscribed, or was unsubscribed, has left for good.
func (n *Node) left(s *subscription, code uint32) {
	o := &s.declared.options
	info := s.client.clientInfo(s.channelInfo)
	if !s.joined || !o.counts(info.User) {
		if s.present {
			n.removePresence(s.channel, info.Client)
		}
		if s.joined && o.JoinLeave {
			n.publishMembership(s.channel, Membership{Info: info})
		}
		return
	}
	k := presenceKey{s.channel, info.User}
	grace := o.PresenceGrace
	if code != unsubscribedByDisconnect || n.Ready() != nil {
		grace = 0
	}
	p := &departure{info: info, announced: o.JoinLeave}
	last, held := n.departures.depart(k, p, grace, func() { n.goroutines.start(func() { n.depart(k, p) }) })
	if held {
		return
	}
	if s.present {
		n.removePresence(s.channel, info.Client)
	}
	if o.JoinLeave && (!o.JoinLeavePerUser || last) {
		n.publishMembership(s.channel, Membership{Info: info})
	}
}

// depart carries out a departure whose time has come.
func (n *Node) depart(k presenceKey, p *departure) {
	if n.departures.take(k, p) {
		n.departed(k, p)
	}
}

func (n *Node) departed(k presenceKey, p *departure) {
	n.removePresence(k.channel, p.info.Client)
	if p.announced {
		n.publishMembership(k.channel, Membership{Info: p.info})
	}
}

// removePresence takes a client out of a channel's presence. Its own context is over when it left, so this takes another.
func (n *Node) removePresence(channel, client string) {
	ctx, cancel := context.WithTimeout(context.Background(), n.config.HookTimeout)
	defer cancel()
	if err := n.presence.Remove(ctx, n.id, channel, client); err != nil {
		n.log.Error("presence not removed", slog.String("channel", channel), slog.String("client", client), slog.Any("err", err))
	}
}
