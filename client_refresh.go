package fanfare

import (
	"context"
	"errors"
	"time"

	"github.com/fanfare-go/fanfare/internal/protocol"
)

// refresh executes the refresh command (spec 5.9).
func (c *Client) refresh(cmd *protocol.Command) outcome {
	fn := c.node.config.Refresh
	c.mu.Lock()
	expires, by := c.clock.expireAt > 0, c.refreshedBy()
	c.mu.Unlock()
	switch {
	case cmd.Refresh.Token == "":
		return refusal(DisconnectBadRequest)
	case expires && by != theClient:
		return refusal(DisconnectBadRequest)
	case fn == nil:
		return refusal(ErrNotAvailable)
	}
	r := &RefreshRequest{Client: c, Token: cmd.Refresh.Token}
	reply, err := callHook(context.Background(), c, "Refresh", "", func(ctx context.Context) (RefreshReply, error) { return fn(ctx, r) }, nil)
	switch {
	case err != nil && isExpiry(err):
		return refusal(DisconnectExpired)
	case err != nil:
		return refusal(err)
	case !reply.ExpireAt.IsZero() && !reply.ExpireAt.After(time.Now()):
		return refusal(DisconnectExpired)
	}
	c.setExpiry(reply.ExpireAt)
	result := &protocol.RefreshResult{}
	if !reply.ExpireAt.IsZero() {
		result.Expires, result.TTL = true, ttl(reply.ExpireAt)
	}
	return outcome{reply: &protocol.Reply{Refresh: result}}
}

// subRefresh executes the sub_refresh command (spec 5.10).
func (c *Client) subRefresh(cmd *protocol.Command) outcome {
	req := cmd.SubRefresh
	if req.Channel == "" {
		return refusal(DisconnectBadRequest)
	}
	s := c.settled(req.Channel)
	if s == nil {
		return refusal(ErrPermissionDenied)
	}
	fn := s.declared.options.SubRefresh
	c.mu.Lock()
	expires := s.expireAt > 0
	c.mu.Unlock()
	switch {
	case req.Type != 0:
		return refusal(ErrNotAvailable)
	case req.Token == "":
		return refusal(ErrBadRequest)
	case s.refreshedBy() != theClient || !expires:
		return refusal(DisconnectBadRequest)
	}
	r := &SubRefreshRequest{params: s.params, Client: c, Channel: req.Channel, Token: req.Token}
	reply, err := callHook(context.Background(), c, "SubRefresh", req.Channel, func(ctx context.Context) (SubRefreshReply, error) { return fn(ctx, r) }, nil)
	if err != nil && isExpiry(err) || err == nil && !reply.ExpireAt.IsZero() && !reply.ExpireAt.After(time.Now()) {
		// First the end, then the error: the client subscribes again, learns that its token has expired, and gets a new
		// one. The error alone would end the subscription for good; no error would make it unlimited.
		c.expireSubscription(s)
		return refusal(ErrTokenExpired)
	}
	if err != nil {
		return refusal(err)
	}
	c.setSubscriptionExpiry(s, reply.ExpireAt)
	result := &protocol.SubRefreshResult{}
	if !reply.ExpireAt.IsZero() {
		result.Expires, result.TTL = true, ttl(reply.ExpireAt)
	}
	return outcome{reply: &protocol.Reply{SubRefresh: result}}
}

func isExpiry(err error) bool {
	e, ok := errors.AsType[*Error](err)
	return ok && (e.Code == ErrTokenExpired.Code || e.Code == ErrExpired.Code)
}

// maxTTL is the longest time to live that clients are told (spec 15.2).
const maxTTL = 365 * 24 * time.Hour

// ttl is the time until at in seconds, as clients are told it: at least 1, or Python clients fail (spec 18).
func ttl(at time.Time) uint32 {
	return uint32(max(1, min(time.Until(at), maxTTL)/time.Second))
}
