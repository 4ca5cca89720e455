package fanfare

import (
	"context"

	"github.com/fanfare-go/fanfare/internal/protocol"
	"github.com/fanfare-go/fanfare/transport"
)

func (c *Client) presence(cmd *protocol.Command) outcome {
	channel := cmd.Presence.Channel
	if err := c.mayReadPresence(channel, false); err != nil {
		return refusal(err)
	}
	ctx := c.call()
	defer ctx.end()
	members, err := c.node.members.do(ctx, c.node, channel, func(ctx context.Context) ([]ClientInfo, error) {
		return c.node.presence.Members(ctx, channel)
	})
	if err != nil {
		return refusal(err)
	}
	if size := presenceBytes(members); size > c.node.config.MaxQueueSize/2 {
		return refusal(ErrLimitExceeded) // the reply would throw the client out; it can ask for the counts
	}
	result := &protocol.PresenceResult{Presence: make(map[string]*protocol.ClientInfo, len(members))}
	for i := range members {
		result.Presence[members[i].Client] = wireInfo(&members[i])
	}
	return outcome{reply: &protocol.Reply{Presence: result}}
}

func (c *Client) presenceStats(cmd *protocol.Command) outcome {
	channel := cmd.PresenceStats.Channel
	if err := c.mayReadPresence(channel, true); err != nil {
		return refusal(err)
	}
	ctx := c.call()
	defer ctx.end()
	stats, err := c.node.presence.Stats(ctx, channel)
	if err != nil {
		return refusal(err)
	}
	return outcome{reply: &protocol.Reply{PresenceStats: &protocol.PresenceStatsResult{
		NumClients: uint32(stats.Clients), NumUsers: uint32(stats.Users)}}}
}

func (c *Client) mayReadPresence(channel string, stats bool) error {
	d, p, err := c.target(channel)
	if err != nil {
		return err
	}
	o := &d.options
	if !o.Presence {
		return ErrNotAvailable
	}
	if err := c.admit(channel, o.AllowPresence, o.ReadPresence != nil); err != nil || o.ReadPresence == nil {
		return err
	}
	r := &PresenceRequest{params: p, Client: c, Channel: channel, Stats: stats}
	_, err = callHook(context.Background(), c, "ReadPresence", channel, func(ctx context.Context) (struct{}, error) { return struct{}{}, o.ReadPresence(ctx, r) }, nil)
	return err
}

func presenceBytes(members []ClientInfo) int {
	const overhead = 128 // ids are written twice, and field names
	n := 0
	for i := range members {
		n += len(members[i].User) + len(members[i].ConnInfo) + len(members[i].ChanInfo) + overhead
	}
	return n
}

func (c *Client) history(cmd *protocol.Command) outcome {
	req := cmd.History
	d, p, err := c.target(req.Channel)
	if err != nil {
		return refusal(err)
	}
	o := &d.options
	if !o.keepsHistory() {
		return refusal(ErrNotAvailable)
	}
	q := HistoryQuery{Limit: int(req.Limit), Reverse: req.Reverse}
	if limit := c.node.config.MaxHistoryRead; q.Limit < 0 || q.Limit > limit {
		q.Limit = limit
	}
	if req.Since != nil {
		q.Since = &Position{req.Since.Offset, req.Since.Epoch}
		if req.Reverse && req.Since.Offset == 0 {
			return refusal(ErrBadRequest)
		}
	}
	if err := c.admit(req.Channel, o.AllowHistory, o.ReadHistory != nil); err != nil {
		return refusal(err)
	}
	if o.ReadHistory != nil {
		r := &HistoryRequest{params: p, Client: c, Channel: req.Channel, Query: q}
		_, err := callHook(context.Background(), c, "ReadHistory", req.Channel, func(ctx context.Context) (struct{}, error) { return struct{}{}, o.ReadHistory(ctx, r) }, nil)
		if err != nil {
			return refusal(err)
		}
	}
	if o.Payload == PayloadBinary && c.info.Encoding == transport.JSON {
		return refusal(ErrNotAvailable)
	}
	ctx := c.call()
	defer ctx.end()
	result, err := c.node.broker.History(ctx, req.Channel, q)
	if err != nil {
		return refusal(err)
	}
	if q.Since != nil && q.Since.Epoch != "" && q.Since.Epoch != result.Epoch {
		return refusal(ErrUnrecoverablePosition)
	}
	if sizeOf(result.Publications, c.escapes(o.Payload)) > c.node.config.MaxQueueSize/2 {
		// The reply would throw the client out; a smaller page fits.
		return refusal(ErrLimitExceeded)
	}
	return outcome{reply: &protocol.Reply{History: &protocol.HistoryResult{
		Publications: c.wirePublications(o.Payload, result.Publications), Epoch: result.Epoch, Offset: result.Offset}}}
}
