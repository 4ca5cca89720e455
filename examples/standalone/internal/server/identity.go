package server

import (
	"context"
	"errors"
	"slices"

	"github.com/fanfare-go/fanfare"
	"github.com/fanfare-go/fanfare/examples/standalone/internal/config"
)

// tokens are the hooks that tokens answer.
type tokens interface {
	Authenticate(context.Context, *fanfare.ConnectRequest) (fanfare.Identity, error)
	Refresh(context.Context, *fanfare.RefreshRequest) (fanfare.RefreshReply, error)
	Subscribe(context.Context, *fanfare.SubscribeRequest) (fanfare.SubscribeReply, error)
	SubRefresh(context.Context, *fanfare.SubRefreshRequest) (fanfare.SubRefreshReply, error)
}

// authenticate: a token counts if there is one and tokens are known; else the app is asked; else the client is anonymous, if
// it may be.
func (s *Server) authenticate(ctx context.Context, r *fanfare.ConnectRequest) (fanfare.Identity, error) {
	var id fanfare.Identity
	var err error
	switch {
	case r.Token != "" && s.tokens != nil:
		if id, err = s.tokens.Authenticate(ctx, r); err == nil {
			err = s.remember(r, &id)
		}
	case s.config.Webhooks.Connect != "":
		id, err = s.app.Authenticate(ctx, r)
	case r.Token != "":
		err = fanfare.DisconnectInvalidToken // nobody here can tell whose it is
	case !s.config.Anonymous:
		err = fanfare.ErrUnauthorized
	default:
		err = s.remember(r, &id)
	}
	if err != nil {
		return fanfare.Identity{}, err
	}
	s.addPersonal(&id)
	return id, nil
}

// refresh: who came by a token prolongs by a token, and for those that the app let in the app is asked. Where neither can be
// done the connection ends, and the client comes back as somebody whom the app, or a token, lets in anew.
func (s *Server) refresh(ctx context.Context, r *fanfare.RefreshRequest) (fanfare.RefreshReply, error) {
	switch {
	case cameByApp(r.Client) && s.config.Webhooks.Refresh != "":
		return s.app.Refresh(ctx, r)
	case !cameByApp(r.Client) && s.tokens != nil && r.Token != "":
		return s.tokens.Refresh(ctx, r)
	}
	return fanfare.RefreshReply{}, fanfare.DisconnectExpired
}

// personal returns the user's own channel.
func (s *Server) personal(user string) string { return s.config.PersonalChannelPrefix + user }

func (s *Server) addPersonal(id *fanfare.Identity) {
	if s.config.PersonalChannelPrefix == "" || id.User == "" {
		return
	}
	channel := s.personal(id.User)
	if _, there := id.Subscriptions[channel]; there {
		return
	}
	if id.Subscriptions == nil {
		id.Subscriptions = make(map[string]fanfare.SubscribeReply)
	}
	var reply fanfare.SubscribeReply
	if s.personalChannel != nil {
		positioned(s.personalChannel, &reply)
	}
	id.Subscriptions[channel] = reply
}

// declarePersonal makes sure that personal channels exist: without a pattern of the file's they are channels that only the
// server subscribes users to, without history.
func (s *Server) declarePersonal() error {
	if s.config.PersonalChannelPrefix == "" {
		return nil
	}
	const somebody = "x"
	_, err := s.node.PresenceStats(context.Background(), s.personal(somebody))
	if !errors.Is(err, fanfare.ErrUnknownChannel) {
		s.personalChannel = s.patternOf(s.config.PersonalChannelPrefix)
		return nil
	}
	pattern := s.config.PersonalChannelPrefix + "{user...}"
	if err := s.channel(pattern, fanfare.ChannelOptions{}); err != nil {
		return s.config.Problem("personal_channel_prefix", "%v", err)
	}
	return nil
}

// patternOf finds what the file says of personal channels: the pattern is the prefix and one wildcard.
func (s *Server) patternOf(prefix string) *config.Channel {
	i := slices.IndexFunc(s.config.Channels, func(ch config.Channel) bool {
		return len(ch.Pattern) > len(prefix) && ch.Pattern[:len(prefix)+1] == prefix+"{"
	})
	if i < 0 {
		return nil
	}
	return &s.config.Channels[i]
}
