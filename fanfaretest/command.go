package fanfaretest

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/fanfare-go/fanfare"
)

// Connect sends the connect command and waits for the answer. It is for clients made by [Dial]. On a unidirectional
// connection the refusal is a *[fanfare.Disconnect].
func (c *Client) Connect() (*ConnectResult, error) {
	var o object
	o.text("token", c.opts.token)
	o.raw("data", c.opts.data)
	o.text("name", "fanfaretest")
	if len(c.opts.subs) > 0 {
		var subs object
		for channel, p := range c.opts.subs {
			var s object
			Recover(p)(&s)
			subs.key(channel)
			subs = append(subs, s.bytes()...)
		}
		o.object("subs", subs)
	}
	if c.opts.unidirectional {
		return c.connectUnidirectional(o)
	}
	if _, err := c.do("connect", "", o); err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.connected, nil
}

func (c *Client) connectUnidirectional(request object) (*ConnectResult, error) {
	ctx, cancel := c.deadline()
	defer cancel()
	c.conn.send(request.bytes())
	err := c.await(ctx, "connect push", func() (bool, error) { return c.connected != nil, c.overUnless(c.connected != nil) })
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.connected, nil
}

// Subscribe subscribes to a channel. A refusal is an *[fanfare.Error].
func (c *Client) Subscribe(channel string, opts ...SubscribeOption) (*SubscribeResult, error) {
	o := onChannel(channel)
	for _, opt := range opts {
		opt(&o)
	}
	r, err := c.do("subscribe", channel, o)
	if err != nil {
		return nil, err
	}
	return r.Subscribe.result(), nil
}

// Unsubscribe ends a subscription. It is no error if there is none.
func (c *Client) Unsubscribe(channel string) error {
	_, err := c.do("unsubscribe", channel, onChannel(channel))
	return err
}

// Publish publishes data, a JSON value, to a channel.
func (c *Client) Publish(channel string, data []byte) error {
	o := onChannel(channel)
	o.raw("data", data)
	_, err := c.do("publish", channel, o)
	return err
}

// Presence returns who is in a channel, by client id.
func (c *Client) Presence(channel string) (map[string]fanfare.ClientInfo, error) {
	r, err := c.do("presence", channel, onChannel(channel))
	if err != nil {
		return nil, err
	}
	members := make(map[string]fanfare.ClientInfo, len(r.Presence.Presence))
	for id, info := range r.Presence.Presence {
		members[id] = info.info()
	}
	return members, nil
}

// PresenceStats returns how many are in a channel.
func (c *Client) PresenceStats(channel string) (fanfare.PresenceStats, error) {
	r, err := c.do("presence_stats", channel, onChannel(channel))
	if err != nil {
		return fanfare.PresenceStats{}, err
	}
	return fanfare.PresenceStats{Clients: *r.PresenceStats.NumClients, Users: *r.PresenceStats.NumUsers}, nil
}

// History reads a channel's history.
func (c *Client) History(channel string, q fanfare.HistoryQuery) (fanfare.HistoryResult, error) {
	o := onChannel(channel)
	o.int("limit", int64(q.Limit))
	if q.Since != nil {
		var since object
		since.uint("offset", q.Since.Offset)
		since.text("epoch", q.Since.Epoch)
		o.object("since", since)
	}
	o.flag("reverse", q.Reverse)
	r, err := c.do("history", channel, o)
	if err != nil {
		return fanfare.HistoryResult{}, err
	}
	h := r.History
	return fanfare.HistoryResult{
		Publications: publications(h.Publications, *h.Epoch),
		Position:     fanfare.Position{Offset: *h.Offset, Epoch: *h.Epoch},
	}, nil
}

// RPC calls a method with data, a JSON value or nil, and returns what it answers, nil if that is nothing.
func (c *Client) RPC(method string, data []byte) ([]byte, error) {
	var o object
	o.raw("data", data)
	o.text("method", method)
	r, err := c.do("rpc", "", o)
	if err != nil {
		return nil, err
	}
	return r.RPC.Data, nil
}

// Send sends data, a JSON value, outside any channel. There is no answer.
func (c *Client) Send(data []byte) error {
	var o, command object
	o.raw("data", data)
	command.object("send", o)
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.over(); err != nil {
		return err
	}
	c.conn.send(command.bytes())
	return nil
}

// Refresh prolongs the connection.
func (c *Client) Refresh(token string) (RefreshResult, error) {
	var o object
	o.text("token", token)
	r, err := c.do("refresh", "", o)
	if err != nil {
		return RefreshResult{}, err
	}
	return RefreshResult{Expires: r.Refresh.Expires, TTL: seconds(r.Refresh.TTL)}, nil
}

// SubRefresh prolongs a subscription.
func (c *Client) SubRefresh(channel, token string) (RefreshResult, error) {
	o := onChannel(channel)
	o.text("token", token)
	r, err := c.do("sub_refresh", channel, o)
	if err != nil {
		return RefreshResult{}, err
	}
	return RefreshResult{Expires: r.SubRefresh.Expires, TTL: seconds(r.SubRefresh.TTL)}, nil
}

func onChannel(channel string) object {
	var o object
	o.text("channel", channel)
	return o
}

func (c *Client) deadline() (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.Background(), c.opts.timeout)
}

// do sends a command and waits for its reply.
func (c *Client) do(method, channel string, request object) (*wireReply, error) {
	if c.opts.unidirectional {
		return nil, fmt.Errorf("fanfaretest: %s on a unidirectional connection", method)
	}
	ctx, cancel := c.deadline()
	defer cancel()
	cl := &call{method: method, channel: channel}
	if err := c.start(cl, request); err != nil {
		return nil, err
	}
	what := "reply to " + method
	if channel != "" {
		what += " " + channel
	}
	err := c.await(ctx, what, func() (bool, error) { return cl.reply != nil, c.overUnless(cl.reply != nil) })
	switch {
	case err != nil:
		return nil, err
	case cl.reply.Error != nil:
		return nil, cl.reply.Error.err()
	}
	return cl.reply, nil
}

func (c *Client) start(cl *call, request object) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.over(); err != nil {
		return err
	}
	c.lastID++
	c.calls[c.lastID] = cl
	var command object
	command.uint("id", uint64(c.lastID))
	command.object(cl.method, request)
	c.conn.send(command.bytes())
	return nil
}

// overUnless is [Client.over] for those who still want what came before the end.
func (c *Client) overUnless(done bool) error {
	if done {
		return nil
	}
	return c.over()
}

// parseCalls finds the commands of a raw frame that want a reply. What it cannot read gets none.
func parseCalls(frame string) map[uint32]*call {
	calls := make(map[uint32]*call)
	for line := range strings.SplitSeq(frame, "\n") {
		var fields map[string]json.RawMessage
		var id uint32
		if json.Unmarshal([]byte(line), &fields) != nil || json.Unmarshal(fields["id"], &id) != nil || id == 0 {
			continue
		}
		for _, method := range methods {
			if fields[method] == nil {
				continue
			}
			var request struct{ Channel string }
			_ = json.Unmarshal(fields[method], &request) // the server is to say what is wrong with it
			calls[id] = &call{method: method, channel: request.Channel}
			break
		}
	}
	return calls
}

// methods are in the order in which the first one counts (spec 3.1).
var methods = []string{
	"connect", "subscribe", "unsubscribe", "publish", "presence", "presence_stats", "history", "rpc", "refresh",
	"sub_refresh",
}
