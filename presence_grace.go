package fanfare

import (
	"context"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"
)

// attendances count the clients that each user has in a channel, and hold back the leaves of users that may be back in a
// moment: for channels with [ChannelOptions.PresenceGrace] or [ChannelOptions.JoinLeavePerUser].
//
// Counts are those of this node. Anonymous clients are nobody in particular: they come and go at once.
type attendances struct {
	mu     sync.Mutex // guards below
	byUser map[presenceKey]*attendance
}

type presenceKey struct{ channel, user string }

// attendance is what is known of one user in one channel. Whoever changes it holds it until the others were told, or they
// could hear of a leave and a join in the wrong order.
type attendance struct {
	key   presenceKey
	users int // that hold it or wait to; attendances.mu guards it

	lock    chan struct{} // of one slot: held across calls of presence and broker, each of which is bounded; guards below
	clients int
	told    bool       // where joins and leaves are per user: others know that the user is there
	away    *departure // held back
}

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

// hold returns a user's attendance, locked; release gives it back.
func (a *attendances) hold(k presenceKey) *attendance {
	a.mu.Lock()
	u := a.byUser[k]
	if u == nil {
		u = &attendance{key: k, lock: make(chan struct{}, 1)}
		if a.byUser == nil {
			a.byUser = make(map[presenceKey]*attendance)
		}
		a.byUser[k] = u
	}
	u.users++
	a.mu.Unlock()
	u.lock <- struct{}{}
	return u
}

func (a *attendances) release(u *attendance) {
	<-u.lock
	a.mu.Lock()
	defer a.mu.Unlock()
	u.users--
	if u.users == 0 && u.clients == 0 && u.away == nil { // nobody holds it now
		delete(a.byUser, u.key)
	}
}

// keys returns whom it knows.
func (a *attendances) keys() []presenceKey {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.Collect(maps.Keys(a.byUser))
}

// arrived tells the channel that a client has come. If its user was about to leave, the entry is swapped: leave and join go
// out together, or neither where joins and leaves are per user.
func (n *Node) arrived(s *subscription) {
	o := &s.declared.options
	info := s.client.clientInfo(s.channelInfo)
	s.joined = true
	if !o.counts(info.User) {
		if s.announces {
			n.publishMembership(s.channel, Membership{Joined: true, Info: info})
		}
		return
	}
	u := n.attendances.hold(presenceKey{s.channel, info.User})
	defer n.attendances.release(u)
	u.clients++
	if back := u.away; back != nil {
		back.timer.Stop()
		u.away = nil
		n.removePresence(s.channel, back.info.Client)
		if back.announced && !o.JoinLeavePerUser {
			n.publishMembership(s.channel, Membership{Info: back.info})
		}
	}
	if s.announces && (!o.JoinLeavePerUser || !u.told) {
		u.told = true
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
		if s.joined && s.announces {
			n.publishMembership(s.channel, Membership{Info: info})
		}
		return
	}
	k := presenceKey{s.channel, info.User}
	u := n.attendances.hold(k)
	defer n.attendances.release(u)
	u.clients--
	last := u.clients == 0
	if last && o.PresenceGrace > 0 && code == unsubscribedByDisconnect && n.Ready() == nil {
		p := &departure{info: info, announced: s.announces}
		if o.JoinLeavePerUser {
			p.announced = u.told
		}
		p.timer = time.AfterFunc(o.PresenceGrace, func() { n.goroutines.start(func() { n.depart(k, p) }) })
		u.away = p
		return
	}
	if s.present {
		n.removePresence(s.channel, info.Client)
	}
	if o.JoinLeavePerUser && last && u.told || !o.JoinLeavePerUser && s.announces {
		u.told = false
		n.publishMembership(s.channel, Membership{Info: info})
	}
}

// depart carries out a departure whose time has come, unless the user is back; nil is whatever departure there is.
func (n *Node) depart(k presenceKey, p *departure) {
	u := n.attendances.hold(k)
	defer n.attendances.release(u)
	if u.away == nil || p != nil && u.away != p {
		return
	}
	p = u.away
	u.away = nil
	p.timer.Stop()
	n.removePresence(k.channel, p.info.Client)
	if p.announced {
		u.told = false
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
