package fanfaretest

import (
	"errors"
	"fmt"
)

// missing returns what a message lacks that clients rely on.
func (r *wireReply) missing() error {
	switch {
	case r.Error != nil && (r.Error.Code < 100 || r.Error.Message == ""):
		return fmt.Errorf("error without a code from 100 or a message")
	case r.Connect != nil:
		return r.Connect.missing()
	case r.Subscribe != nil:
		return r.Subscribe.missing()
	case r.Presence != nil:
		if r.Presence.Presence == nil {
			return errors.New("no presence in presence")
		}
		for id, info := range r.Presence.Presence {
			if err := info.missing(); err != nil {
				return err
			}
			if *info.Client != id {
				return fmt.Errorf("presence of client %q under the key %q", *info.Client, id)
			}
		}
	case r.PresenceStats != nil && (r.PresenceStats.NumClients == nil || r.PresenceStats.NumUsers == nil):
		return errors.New("no num_clients or num_users in presence_stats")
	case r.History != nil:
		if r.History.Publications == nil || r.History.Epoch == nil || r.History.Offset == nil {
			return errors.New("no publications, epoch or offset in history")
		}
		return missingInPublications(r.History.Publications)
	case r.Refresh != nil:
		return r.Refresh.missing()
	case r.SubRefresh != nil:
		return r.SubRefresh.missing()
	}
	return nil
}

func (p *wirePush) missing() error {
	channel := p.Pub != nil || p.Join != nil || p.Leave != nil || p.Unsubscribe != nil || p.Subscribe != nil
	switch {
	case channel != (p.Channel != ""):
		return errors.New("channel missing, or not expected")
	case p.Pub != nil:
		return p.Pub.missing()
	case p.Join != nil:
		return p.Join.Info.missing()
	case p.Leave != nil:
		return p.Leave.Info.missing()
	case p.Unsubscribe != nil && (p.Unsubscribe.Code < 2000 || p.Unsubscribe.Code > 2999 || p.Unsubscribe.Reason == ""):
		return errors.New("unsubscribe without a code from 2000 to 2999 or a reason")
	case p.Subscribe != nil:
		return p.Subscribe.missing()
	case p.Connect != nil:
		return p.Connect.missing()
	case p.Disconnect != nil && (p.Disconnect.Code < 3000 || p.Disconnect.Reason == ""):
		return errors.New("disconnect without a code from 3000 or a reason")
	case p.Refresh != nil:
		return p.Refresh.missing()
	}
	return nil
}

func (c *wireConnect) missing() error {
	if c.Client == "" {
		return errors.New("no client in connect")
	}
	for channel, s := range c.Subs {
		if s == nil {
			return fmt.Errorf("subs has null for %q", channel)
		}
		if err := s.missing(); err != nil {
			return err
		}
	}
	return missingTTL(c.Expires, c.TTL)
}

func (s *wireSubscribe) missing() error {
	switch {
	case s.Recoverable && !s.Positioned:
		return errors.New("recoverable without positioned")
	case s.Positioned && s.Epoch == "":
		return errors.New("positioned without an epoch")
	case s.Recovered && !s.WasRecovering:
		return errors.New("recovered without was_recovering")
	case len(s.Publications) > 0 && !s.Recovered:
		return errors.New("publications without recovered")
	}
	if err := missingInPublications(s.Publications); err != nil {
		return err
	}
	return missingTTL(s.Expires, s.TTL)
}

func missingInPublications(pubs []*wirePub) error {
	for _, p := range pubs {
		if err := p.missing(); err != nil {
			return err
		}
	}
	return nil
}

func (p *wirePub) missing() error {
	if p == nil {
		return errors.New("publication is null")
	}
	if p.Info != nil {
		return p.Info.missing()
	}
	return nil
}

func (i *wireInfo) missing() error {
	if i == nil || i.User == nil || i.Client == nil {
		return errors.New("info without user or client")
	}
	return nil
}

func (r *wireRefresh) missing() error { return missingTTL(r.Expires, r.TTL) }

func missingTTL(expires bool, ttl uint32) error {
	if expires != (ttl > 0) {
		return errors.New("expires and ttl do not go together")
	}
	return nil
}
