package fanfare

import (
	"context"
	"net/http"
	"time"

	"github.com/fanfare-go/fanfare/internal/pattern"
)

// ConnectRequest is what [Config.Authenticate] decides upon.
type ConnectRequest struct {
	// HTTP is a shallow clone of the request that opened the connection: cookies, headers, URL. Its context keeps the
	// values that middleware put there; its cancellation is the hook's. It is valid only during the hook: what later
	// hooks need goes into [Identity.State]. The handler may have returned: do not use values that middleware takes
	// back for other requests then.
	HTTP *http.Request
	// ClientID is the id that the connection has, or will have if it is accepted.
	ClientID string
	// Token, Data, Name, Version and Headers are what the client sent with its connect command. Headers are the
	// client's own claim, not HTTP headers: do not trust them more than Data. That is, as in all requests, JSON from JSON clients
	// and any bytes from Protobuf clients, or nil; a hook may keep it.
	Token   string
	Data    []byte
	Name    string
	Version string
	Headers map[string]string
	// Transport is the name of the transport: "websocket", "uni_websocket", …
	Transport string
}

// Identity says who a connection belongs to.
type Identity struct {
	// User is the user id. Empty is the anonymous user.
	User string
	// Info is shown to others in presence, joins and publications. JSON, or nil.
	Info []byte
	// Data is returned to the client in the connect reply. JSON for JSON clients, or nil.
	Data []byte
	// State is the app's own; fanfare only keeps it, for [Client.State].
	State any
	// ExpireAt is when the connection ends unless it is refreshed; zero is never. With [Config.Refresh] set a client that
	// connected with a token is asked to refresh in time, and for others the hook is asked at ExpireAt; without it the connection
	// is simply closed with 3005.
	ExpireAt time.Time
	// Subscriptions are made by the server for this connection, by channel. They follow the channels' options but not
	// their Subscribe hooks. An undeclared channel fails the connect with [ErrUnknownChannel].
	Subscriptions map[string]SubscribeReply
}

// RefreshRequest is the question whether a connection may go on.
type RefreshRequest struct {
	Client *Client
	// Token is what the client sent. It is empty when the node asks by itself, because the client connected without a token: see
	// [Client.State] for what was known of it then.
	Token string
}

// RefreshReply says until when. The zero time is never; a time in the past closes the connection with 3005.
type RefreshReply struct {
	ExpireAt time.Time
}

// MessageRequest is a message that a client sent outside any channel.
type MessageRequest struct {
	Client *Client
	// Data is what the client sent: JSON from JSON clients, or nil.
	Data []byte
}

// DisconnectNotice tells that a connection ended.
type DisconnectNotice struct {
	Client *Client
	// Disconnect is why. [DisconnectClosed] means that the peer went away. Code 0, "connect refused", means that the
	// connection was never there for the client: after Authenticate had accepted it the connect failed, on a
	// subscription that the server was to make for instance.
	Disconnect *Disconnect
}

// RPCRequest is a call of a method declared by [Node.RPC], or of any other, for [Config.RPC].
type RPCRequest struct {
	Client *Client
	Method string
	// Data are the client's parameters: JSON from JSON clients, or nil.
	Data []byte
}

// params are a channel's name, and the wildcards of the pattern that it matches.
type params struct {
	channel   string
	wildcards *pattern.Wildcards
}

// Param returns what the pattern's wildcard took from the channel name, or "" if the pattern has no such wildcard.
func (p params) Param(name string) string {
	if p.wildcards == nil {
		return ""
	}
	return p.wildcards.Value(p.channel, name)
}

// SubscribeRequest is what [ChannelOptions.Subscribe] decides upon.
type SubscribeRequest struct {
	params
	Client  *Client
	Channel string
	// Token and Data are what the client sent with its subscribe command, or empty. Data is JSON from JSON clients.
	Token string
	Data  []byte
}

// SubscribeReply describes an accepted subscription.
type SubscribeReply struct {
	// Info is shown to others beside the connection's own, in presence, joins and publications. JSON, or nil.
	Info []byte
	// Data is returned to the client in the reply. JSON for JSON clients, or nil.
	Data []byte
	// ExpireAt is when the subscription ends unless it is refreshed; zero is never. With [ChannelOptions.SubRefresh] set
	// a client that subscribed with a token is asked to refresh in time, and for others the hook is asked at ExpireAt.
	ExpireAt time.Time
	// Override, if not nil, replaces options of the channel for this subscription.
	Override *Override
	// Since, if not nil, is the position after which the subscription begins: the client gets what was published since then, as
	// if it had asked for it, where the subscription is recoverable. A position of the client's own counts instead. If the stream
	// no longer holds what follows, the subscription begins at its top, and the client is told so where the protocol has room
	// for that: in the replies to connect and subscribe.
	Since *Position
}

// SubRefreshRequest is the question whether a subscription may go on.
type SubRefreshRequest struct {
	params
	Client  *Client
	Channel string
	// Token is what the client sent. It is empty when the node asks by itself, because the subscription was made without a token,
	// or by the server.
	Token string
}

// SubRefreshReply says until when. The zero time is never; a time in the past ends the subscription with 2501.
type SubRefreshReply struct {
	ExpireAt time.Time
}

// PublishRequest is what [ChannelOptions.Publish] decides upon.
type PublishRequest struct {
	params
	Client  *Client
	Channel string
	// Data is the payload: for a Text channel the text itself, whatever the client's encoding. It fits the channel's [Payload],
	// and must not be changed: it is what will be published, unless the reply says otherwise.
	Data []byte
}

// PublishReply describes an accepted publish.
type PublishReply struct {
	// Data, if not nil, is published instead of what the client sent.
	Data []byte
	// Handled means that the hook has done what there was to do, published by itself for instance: nothing more is
	// published, and the client is told that all went well.
	Handled bool
}

// HistoryRequest is what [ChannelOptions.ReadHistory] decides upon.
type HistoryRequest struct {
	params
	Client  *Client
	Channel string
	Query   HistoryQuery
}

// PresenceRequest is what [ChannelOptions.ReadPresence] decides upon.
type PresenceRequest struct {
	params
	Client  *Client
	Channel string
	// Stats is true when only the counts are asked for.
	Stats bool
}

// UnsubscribeNotice tells that a subscription ended.
type UnsubscribeNotice struct {
	params
	Client  *Client
	Channel string
	// Code and Reason say why: 0 the client unsubscribed, 1 the connection ended, others as sent (spec 9.2).
	Code   uint32
	Reason string
}

// RPCFunc answers a remote procedure call. The reply is JSON for JSON clients, or nil. It runs like every command hook:
// see [Config.HookTimeout].
type RPCFunc func(ctx context.Context, r *RPCRequest) ([]byte, error)
