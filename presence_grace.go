package fanfare

import (
	"context"
	"log/slog"
	"math"
	"time"
)

// counts reports whether the comings and goings of this user in such a channel are counted.
func (o *ChannelOptions) counts(user string) bool {
	return user != "" && (o.PresenceGrace > 0 || o.JoinLeavePerUser)
}

// sharesUsers reports whether a subscription's coming and going is counted by the presence, on all nodes.
func (n *Node) sharesUsers(s *subscription, user string) bool {
	o := &s.declared.options
	return n.users != nil && o.Presence && o.counts(user)
}

// countsOnly reports whether the comings and goings of the client are told as those of its user. One that an override keeps out
// of a presence that counts is told of by itself.
func (n *Node) countsOnly(s *subscription, user string) bool {
	return s.declared.options.counts(user) && (s.clients > 0 || !n.sharesUsers(s, user))
}

// unknownCount is how many clients a user has of whom it is not known: others at least.
const unknownCount = 2

// addPresence puts a client into the presence.
func (n *Node) addPresence(ctx context.Context, s *subscription, info ClientInfo) error {
	s.clients = unknownCount // after an error it may be there
	if !n.sharesUsers(s, info.User) {
		return n.presence.Add(ctx, n.id, s.channel, info)
	}
	k := presenceKey{s.channel, info.User}
	if !s.declared.options.JoinLeavePerUser {
		n.attendances.enter(k, 1)
		return n.addCounted(ctx, s, info)
	}
	u := n.attendances.hold(k) // so that what is here is known exactly
	defer n.attendances.release(u)
	n.attendances.enter(k, 1)
	err := n.addCounted(ctx, s, info)
	switch {
	case err != nil:
	case s.clients == 1:
		u.told = false
	case int(s.clients) > n.attendances.here(u):
		u.told = true // or will be: the first of those elsewhere sees to that, whatever becomes of it
	}
	return err
}

func (n *Node) addCounted(ctx context.Context, s *subscription, info ClientInfo) error {
	clients, err := n.users.AddCounted(ctx, n.id, s.channel, info)
	if err == nil {
		s.clients = uint8(min(max(clients, 1), math.MaxUint8))
	}
	return err
}

// arrived tells the channel that a client has come. If its user was about to leave, the entry is swapped: leave and join go
// out together, or neither where joins and leaves are per user.
func (n *Node) arrived(s *subscription) {
	o := &s.declared.options
	info := s.client.clientInfo(s.channelInfo)
	s.joined = true
	if !n.countsOnly(s, info.User) {
		if s.announces {
			n.publishMembership(s.channel, Membership{Joined: true, Info: info})
		}
		return
	}
	k := presenceKey{s.channel, info.User}
	shared := n.sharesUsers(s, info.User)
	u := n.attendances.hold(k)
	if shared {
		n.attendances.enter(k, -1)
	}
	back, here := n.attendances.change(u, 1, nil)
	away := 0 // whom the presence counted, too
	if back != nil {
		away = 1
		back.timer.Stop()
		n.removePresence(s.channel, back.info.Client, back.shared)
		if back.announced && !o.JoinLeavePerUser {
			n.publishMembership(s.channel, Membership{Info: back.info})
		}
	}
	join := s.announces && (!o.JoinLeavePerUser || !u.told || u.again)
	u.told, u.again = u.told || join, u.again && !join
	tell := func(inVain bool) {
		if inVain {
			u.inVain = time.Now()
		}
		if join {
			n.publishMembership(s.channel, Membership{Joined: true, Info: info})
		}
		n.attendances.release(u)
	}
	elsewhere := int(s.clients) - here - away
	wait := join && !o.JoinLeavePerUser && (u.inVain.IsZero() || time.Since(u.inVain) > recallPause)
	if shared && o.PresenceGrace > 0 && elsewhere > 0 && n.recalls.from(n, k, elsewhere, wait, tell) {
		return
	}
	tell(false)
}

// left takes a client out of the channel's presence and tells the others, now or, if its user may be back, later. A client
// that unsubscribed, or was unsubscribed, has left for good.
func (n *Node) left(s *subscription, code uint32) {
	o := &s.declared.options
	info := s.client.clientInfo(s.channelInfo)
	switch {
	case !s.joined:
		n.leftEarly(s, info)
		return
	case !n.countsOnly(s, info.User):
		if s.clients > 0 {
			n.removePresence(s.channel, info.Client, false)
		}
		if s.announces {
			n.publishMembership(s.channel, Membership{Info: info})
		}
		return
	}
	k := presenceKey{s.channel, info.User}
	u := n.attendances.hold(k)
	defer n.attendances.release(u)
	shared, last := n.sharesUsers(s, info.User), u.clients == 1
	if last && o.PresenceGrace > 0 && code == unsubscribedByDisconnect && n.Ready() == nil {
		p := &departure{info: info, announced: s.announces, perUser: o.JoinLeavePerUser, shared: shared}
		if p.perUser {
			p.announced = u.told
		}
		p.timer = time.AfterFunc(o.PresenceGrace, func() { n.goroutines.start(func() { n.depart(k, p) }) })
		n.attendances.change(u, -1, p)
		return
	}
	n.attendances.change(u, -1, u.away)
	remain := -1
	if s.clients > 0 {
		remain = n.removePresence(s.channel, info.Client, shared)
	}
	announced := s.announces
	if o.JoinLeavePerUser {
		announced = u.told
	}
	n.tellLeave(u, Membership{Info: info}, announced, o.JoinLeavePerUser, remain)
}

// leftEarly takes out a client whose coming nobody was told of. Where joins and leaves are per user it counted all the same: those
// that came meanwhile may have left the join to it, and those that went the leave.
func (n *Node) leftEarly(s *subscription, info ClientInfo) {
	if s.clients == 0 {
		return
	}
	if !n.sharesUsers(s, info.User) {
		n.removePresence(s.channel, info.Client, false)
		return
	}
	k := presenceKey{s.channel, info.User}
	u := n.attendances.hold(k)
	defer n.attendances.release(u)
	n.attendances.enter(k, -1)
	remain := n.removePresence(s.channel, info.Client, true)
	switch {
	case !s.declared.options.JoinLeavePerUser || !s.announces:
	case remain > 0 && !u.told && n.attendances.here(u) == 0:
		n.publishMembership(s.channel, Membership{Joined: true, Info: info})
	case remain == 0 && u.told:
		u.told = false
		n.publishMembership(s.channel, Membership{Info: info})
	}
}

// tellLeave tells of a client that has gone; where leaves are per user, if it was the last. How many remain on all nodes may not be
// known, which is -1: then those of this node count. The attendance is held.
func (n *Node) tellLeave(u *attendance, m Membership, announced, perUser bool, remain int) {
	if remain < 0 {
		remain = u.clients
	}
	if announced && (!perUser || remain == 0) {
		n.publishMembership(u.key.channel, m)
	}
	if remain == 0 || n.attendances.here(u) == 0 {
		u.told = false
	}
}

// depart carries out a departure whose time has come, unless the user is back; nil is whatever departure there is.
func (n *Node) depart(k presenceKey, p *departure) {
	u := n.attendances.hold(k)
	defer n.attendances.release(u)
	if u.away == nil || p != nil && u.away != p {
		return
	}
	p, _ = n.attendances.change(u, 0, nil)
	p.timer.Stop()
	remain := n.removePresence(k.channel, p.info.Client, p.shared)
	n.tellLeave(u, Membership{Info: p.info}, p.announced, p.perUser, remain)
}

// removePresence takes a client out of a channel's presence. Its own context is over when it left, so this takes another. If it
// is counted, it returns how many clients of the user remain; -1 if that is not known.
func (n *Node) removePresence(channel, client string, counted bool) int {
	ctx, cancel := context.WithTimeout(context.Background(), n.config.HookTimeout)
	defer cancel()
	remain, err := -1, error(nil)
	if counted {
		remain, err = n.users.RemoveCounted(ctx, n.id, channel, client)
	} else {
		err = n.presence.Remove(ctx, n.id, channel, client)
	}
	if err != nil {
		n.log.Log(ctx, troubled(err, slog.LevelError), "presence not removed", slog.String("channel", channel), slog.String("client", client), slog.Any("err", err))
		return -1
	}
	return remain
}
