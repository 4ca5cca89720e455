package jwtauth

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/fanfare-go/fanfare"
)

// Meta is the claim meta of a connection's token, JSON: what the issuer says to the app, and clients are never told. It is the
// connection's [fanfare.Identity.State] if there is any.
type Meta json.RawMessage

// MetaOf returns the meta of a client's connection token, or nil.
func MetaOf(c *fanfare.Client) Meta {
	m, _ := c.State().(Meta)
	return m
}

// Authenticate is a [fanfare.Config.Authenticate] by the connection token: see docs/tokens.md for its claims. A token that has
// expired, or is not good yet, is refused with [fanfare.ErrTokenExpired], so that the client gets another one; any other with
// [fanfare.DisconnectInvalidToken]. Without a token, or a user in it, the client is anonymous if [Config.Anonymous]; otherwise it is
// refused with [fanfare.ErrUnauthorized], or [fanfare.DisconnectPermissionDenied]. If the key cannot be got, it tries again.
func (v *Verifier) Authenticate(ctx context.Context, r *fanfare.ConnectRequest) (fanfare.Identity, error) {
	if r.Token == "" {
		if v.config.Anonymous {
			return fanfare.Identity{}, nil
		}
		return fanfare.Identity{}, fanfare.ErrUnauthorized
	}
	t, err := v.connectionToken(ctx, r.Token)
	switch {
	case err != nil:
		return fanfare.Identity{}, v.refusal(ctx, "connect", err, fanfare.DisconnectInvalidToken)
	case t.user == "" && !v.config.Anonymous:
		return fanfare.Identity{}, fanfare.DisconnectPermissionDenied
	}
	id := fanfare.Identity{User: t.user, Info: t.info, ExpireAt: t.endsAt(), Subscriptions: t.subs}
	if t.meta != nil {
		id.State = Meta(t.meta)
	}
	return id, nil
}

// Refresh is a [fanfare.Config.Refresh] by a new connection token of the same user. What else the token says does not count. An
// expired one closes the connection with 3005, so that the client connects anew; any other that is not good with 3500. Who came
// without a token is not prolonged: see [fanfare.RefreshRequest.Token].
func (v *Verifier) Refresh(ctx context.Context, r *fanfare.RefreshRequest) (fanfare.RefreshReply, error) {
	if r.Token == "" {
		return fanfare.RefreshReply{}, fanfare.ErrExpired // the node asks: nobody sent anything that is no good
	}
	t, err := v.connectionToken(ctx, r.Token)
	if err == nil && t.user != r.Client.User() {
		err = fmt.Errorf("%w: it is another user's", errInvalid)
	}
	if err != nil {
		return fanfare.RefreshReply{}, v.refusal(ctx, "refresh", err, fanfare.DisconnectInvalidToken)
	}
	return fanfare.RefreshReply{ExpireAt: t.endsAt()}, nil
}

// Subscribe is a [fanfare.ChannelOptions.Subscribe] by a subscription token for this user and channel. Without one, or with one that
// is not good, the subscription is refused with [fanfare.ErrPermissionDenied]; with [fanfare.ErrTokenExpired] if it has expired. A good
// token for somebody or something else closes the connection with 3500: no honest client has it.
func (v *Verifier) Subscribe(ctx context.Context, r *fanfare.SubscribeRequest) (fanfare.SubscribeReply, error) {
	if r.Token == "" {
		return fanfare.SubscribeReply{}, fanfare.ErrPermissionDenied
	}
	t, err := v.subscriptionToken(ctx, r.Token)
	if err != nil {
		return fanfare.SubscribeReply{}, v.refusal(ctx, "subscribe", err, fanfare.ErrPermissionDenied)
	}
	if err := t.isFor(r.Client, r.Channel); err != nil {
		return fanfare.SubscribeReply{}, v.refusal(ctx, "subscribe", err, fanfare.DisconnectInvalidToken)
	}
	return t.reply, nil
}

// SubRefresh is a [fanfare.ChannelOptions.SubRefresh] by a new token of the same subscription. An expired one ends the subscription, so
// that the client subscribes anew; any other that is not good closes the connection with 3500. A subscription that was made without a
// token, by the server for instance, is not prolonged: it expires.
func (v *Verifier) SubRefresh(ctx context.Context, r *fanfare.SubRefreshRequest) (fanfare.SubRefreshReply, error) {
	if r.Token == "" {
		return fanfare.SubRefreshReply{}, fanfare.ErrExpired
	}
	t, err := v.subscriptionToken(ctx, r.Token)
	if err == nil {
		err = t.isFor(r.Client, r.Channel)
	}
	if err != nil {
		return fanfare.SubRefreshReply{}, v.refusal(ctx, "sub_refresh", err, fanfare.DisconnectInvalidToken)
	}
	return fanfare.SubRefreshReply{ExpireAt: t.reply.ExpireAt}, nil
}

// isFor compares a token with who sends it, and for what.
func (t *subscription) isFor(c *fanfare.Client, channel string) error {
	switch {
	case t.channel != channel:
		return fmt.Errorf("%w: it is for another channel", errInvalid)
	case t.user != c.User():
		return fmt.Errorf("%w: it is another user's", errInvalid)
	case t.client != "" && t.client != c.ID():
		return fmt.Errorf("%w: it is for another connection", errInvalid)
	}
	return nil
}
