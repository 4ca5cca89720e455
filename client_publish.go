package fanfare

import (
	"context"
	"unicode/utf8"

	"github.com/fanfare-go/fanfare/internal/protocol"
	"github.com/fanfare-go/fanfare/transport"
)

func (c *Client) publish(cmd *protocol.Command) outcome {
	req := cmd.Publish
	d, p, err := c.target(req.Channel)
	if err != nil {
		return refusal(err)
	}
	if req.Type != 0 {
		return refusal(ErrNotAvailable)
	}
	o := &d.options
	if err := c.admit(req.Channel, o.AllowPublish, o.Publish != nil); err != nil {
		return refusal(err)
	}
	data, ok := c.decodePayload(o.Payload, req.Data)
	if !ok || len(data) > c.node.config.MaxPublicationSize {
		return refusal(ErrBadRequest)
	}
	if o.Publish != nil {
		r := &PublishRequest{params: p, Client: c, Channel: req.Channel, Data: data}
		reply, err := callHook(context.Background(), c, "Publish", req.Channel, func(ctx context.Context) (PublishReply, error) { return o.Publish(ctx, r) }, nil)
		if err != nil {
			return refusal(err)
		}
		if reply.Data != nil {
			data = reply.Data
		}
		if reply.Handled {
			return outcome{reply: &protocol.Reply{Publish: &protocol.PublishResult{}}}
		}
	}
	var chanInfo []byte
	if s := c.settled(req.Channel); s != nil {
		chanInfo = s.channelInfo
	}
	info := c.clientInfo(chanInfo)
	ctx := c.call()
	defer ctx.end()
	if _, err := c.node.publish(ctx, d, req.Channel, data, publishOptions{info: &info}); err != nil {
		return refusal(err)
	}
	return outcome{reply: &protocol.Reply{Publish: &protocol.PublishResult{}}}
}

// decodePayload turns what a client published into the channel's kind of data.
func (c *Client) decodePayload(kind Payload, raw protocol.Raw) ([]byte, bool) {
	if c.info.Encoding != transport.JSON {
		// What does not fit is the client's mistake, so it is found before a hook sees it.
		ok := kind == PayloadBinary || kind == PayloadJSON && protocol.ValidPayload(raw) || kind == PayloadText && utf8.Valid(raw)
		return raw, ok
	}
	switch kind {
	case PayloadText:
		text, ok := protocol.DecodeString(raw)
		return []byte(text), ok
	case PayloadBinary:
		return nil, false
	}
	return raw, raw != nil
}

func (c *Client) rpc(cmd *protocol.Command) outcome {
	fn, any := c.node.method(cmd.RPC.Method)
	switch {
	case !any:
		return refusal(ErrNotAvailable)
	case fn == nil:
		return refusal(ErrMethodNotFound)
	}
	r := &RPCRequest{Client: c, Method: cmd.RPC.Method, Data: cmd.RPC.Data}
	data, err := callHook(context.Background(), c, "RPC "+cmd.RPC.Method, "", func(ctx context.Context) ([]byte, error) { return fn(ctx, r) }, nil)
	if err == nil {
		err = c.payload("rpc reply", data)
	}
	if err != nil {
		return refusal(err)
	}
	return outcome{reply: &protocol.Reply{RPC: &protocol.RPCResult{Data: data}}}
}

func (c *Client) message(cmd *protocol.Command) outcome {
	fn := c.node.config.Message
	if fn == nil {
		return refusal(DisconnectNotAvailable)
	}
	r := &MessageRequest{Client: c, Data: cmd.Send.Data}
	_, err := callHook(context.Background(), c, "Message", "", func(ctx context.Context) (struct{}, error) { return struct{}{}, fn(ctx, r) }, nil)
	return outcome{err: err}
}
