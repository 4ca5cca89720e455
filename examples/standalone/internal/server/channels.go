package server

import (
	"context"
	"fmt"
	"time"

	"github.com/fanfare-go/fanfare"
	"github.com/fanfare-go/fanfare/examples/standalone/internal/config"
)

// declare declares the channels of the configuration, and those that personal channels need.
func (s *Server) declare() error {
	for i := range s.config.Channels {
		ch := &s.config.Channels[i]
		if err := s.channel(ch.Pattern, s.options(ch)); err != nil {
			return s.config.Problem(fmt.Sprintf("channels[%q]", ch.Pattern), "%v", err)
		}
	}
	return s.declarePersonal()
}

// channel is [fanfare.Node.Channel] with an error: patterns are data here, not code.
func (s *Server) channel(pattern string, o fanfare.ChannelOptions) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("%v", p)
		}
	}()
	s.node.Channel(pattern, o)
	return nil
}

// options says in the library's words what the file says of a channel.
func (s *Server) options(ch *config.Channel) fanfare.ChannelOptions {
	o := fanfare.ChannelOptions{
		History:        fanfare.History{Size: ch.HistorySize, TTL: ch.HistoryTTL},
		Recovery:       recovery(ch),
		Presence:       ch.Presence,
		JoinLeave:      ch.JoinLeave,
		ForceJoinLeave: ch.ForceJoinLeave,
		Delta:          ch.Delta,
		TagsFilter:     ch.TagsFilter,
		AllowPublish:   access[ch.Publish],
		AllowHistory:   access[ch.History],
		AllowPresence:  access[ch.PresenceRead],
		Subscribe:      s.subscribe(ch),
		SubRefresh:     s.subRefresh(ch),
	}
	if ch.Publish == config.Webhook {
		o.Publish = s.app.Publish
	}
	return o
}

// access leaves out config.Token, which the configuration refuses here, and config.Webhook, which is a hook and no Access.
var access = map[config.Access]fanfare.Access{
	config.Anyone: fanfare.Anyone, config.Users: fanfare.Users, config.Subscribers: fanfare.Subscribers,
}

// recovery: what is not forced is for the clients that ask for it. A cache is forced in so far as clients that come back get
// the newest publication in any case; force_recovery gives it to those that come for the first time, too.
func recovery(ch *config.Channel) fanfare.Recovery {
	switch {
	case ch.Recover == config.Stream && ch.ForceRecovery:
		return fanfare.RecoveryStream
	case ch.Recover == config.Stream:
		return fanfare.RecoveryOnRequest
	case ch.Recover == config.Cache && ch.ForceRecovery:
		return fanfare.RecoveryCacheAlways
	case ch.Recover == config.Cache:
		return fanfare.RecoveryCache
	}
	return fanfare.RecoveryOff
}

// positioned adds to a reply that the position is watched, asked or not, where the channel wants that without recovery for
// everybody. What a token or the app says of it counts more.
func positioned(ch *config.Channel, reply *fanfare.SubscribeReply) {
	if !ch.ForcePositioning || ch.ForceRecovery {
		return
	}
	var o fanfare.Override
	if reply.Override != nil {
		o = *reply.Override
	}
	if o.ForcePositioning == nil {
		o.ForcePositioning = new(true)
	}
	reply.Override = &o
}

type subscribeHook func(context.Context, *fanfare.SubscribeRequest) (fanfare.SubscribeReply, error)

// subscribe is the channel's hook, or nil: then nobody subscribes.
func (s *Server) subscribe(ch *config.Channel) subscribeHook {
	decide := s.decision(ch.Subscribe)
	if decide == nil {
		return nil
	}
	return func(ctx context.Context, r *fanfare.SubscribeRequest) (fanfare.SubscribeReply, error) {
		reply, err := decide(ctx, r)
		if err == nil {
			positioned(ch, &reply)
		}
		return reply, err
	}
}

func (s *Server) decision(a config.Access) subscribeHook {
	switch a {
	case config.Webhook:
		return s.app.Subscribe
	case config.Token:
		return s.tokens.Subscribe
	case config.Users, config.Anyone:
	default:
		return nil
	}
	return func(ctx context.Context, r *fanfare.SubscribeRequest) (fanfare.SubscribeReply, error) {
		switch {
		case r.Token != "" && s.tokens != nil:
			// Nobody needs a token here; but who sends one means what it says, its expiry for instance.
			return s.tokens.Subscribe(ctx, r)
		case a == config.Users && r.Client.User() == "":
			return fanfare.SubscribeReply{}, fanfare.ErrPermissionDenied
		}
		return fanfare.SubscribeReply{}, nil
	}
}

func (s *Server) subRefresh(ch *config.Channel) func(context.Context, *fanfare.SubRefreshRequest) (fanfare.SubRefreshReply, error) {
	switch {
	case ch.Subscribe == config.Webhook && s.config.Webhooks.SubRefresh != "":
		return s.app.SubRefresh
	case ch.Subscribe == config.Webhook || s.tokens == nil:
		return nil
	}
	return func(ctx context.Context, r *fanfare.SubRefreshRequest) (fanfare.SubRefreshReply, error) {
		if r.Token == "" {
			return fanfare.SubRefreshReply{ExpireAt: time.Now()}, nil // it ends; the client subscribes anew with what it has
		}
		return s.tokens.SubRefresh(ctx, r)
	}
}
