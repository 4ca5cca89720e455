// Package protocol is the wire form of the Centrifuge client protocol: its messages (spec 3) and their codecs.
//
// Field names, numbers and the fields that are always present come from the specification; section numbers in comments
// refer to it. The package knows nothing of sessions: it turns frames into commands, and replies and pushes into bytes.
package protocol

// Raw is a payload as it stands on the wire: a JSON value on JSON connections. Nil means that there is no payload.
type Raw []byte

// Command is what a client sends (spec 3.1). At most one request is set; with none and ID 0 it is a pong.
type Command struct {
	ID            uint32
	Connect       *ConnectRequest
	Subscribe     *SubscribeRequest
	Unsubscribe   *UnsubscribeRequest
	Publish       *PublishRequest
	Presence      *PresenceRequest
	PresenceStats *PresenceStatsRequest
	History       *HistoryRequest
	RPC           *RPCRequest
	Send          *SendRequest
	Refresh       *RefreshRequest
	SubRefresh    *SubRefreshRequest
}

// Reply answers one command. Exactly one of the results or Error is set.
type Reply struct {
	ID            uint32
	Error         *Error
	Connect       *ConnectResult
	Subscribe     *SubscribeResult
	Unsubscribe   *UnsubscribeResult
	Publish       *PublishResult
	Presence      *PresenceResult
	PresenceStats *PresenceStatsResult
	History       *HistoryResult
	RPC           *RPCResult
	Refresh       *RefreshResult
	SubRefresh    *SubRefreshResult
}

// Push is what the server sends by itself. Exactly one of the bodies is set.
type Push struct {
	Channel     string
	Pub         *Publication
	Join        *ClientInfo
	Leave       *ClientInfo
	Unsubscribe *Unsubscribe
	Message     *Message
	Subscribe   *Subscribe
	Connect     *ConnectResult // unidirectional only; Node and PongRequired are not sent (spec 8.6)
	Disconnect  *Disconnect
	Refresh     *Refresh
}

// Error is a reply error.
type Error struct {
	Code      uint32
	Message   string
	Temporary bool
}

// ClientInfo: user and client are always present (spec 2.1).
type ClientInfo struct {
	User     string
	Client   string
	ConnInfo Raw
	ChanInfo Raw
}

// Publication as the client sees it.
type Publication struct {
	Data   Raw
	Info   *ClientInfo
	Offset uint64
	Tags   map[string]string
	Delta  bool // Data is a delta (spec 11)
}

// StreamPosition is a position in a channel's stream.
type StreamPosition struct {
	Offset uint64
	Epoch  string
}

// ConnectRequest is also the whole request of a unidirectional connection (spec 8.6).
type ConnectRequest struct {
	Token   string
	Data    Raw
	Subs    map[string]*SubscribeRequest
	Name    string
	Version string
	Headers map[string]string
}

// ConnectResult answers a connect, or opens a unidirectional connection as a push.
type ConnectResult struct {
	Client  string
	Version string
	Expires bool
	TTL     uint32 // seconds
	Data    Raw
	Subs    map[string]*SubscribeResult
	Ping    uint32 // seconds
	Pong    bool
	Session string
	Node    string
}

// Flags of a SubscribeRequest.
const (
	FlagCompaction        = 1 << 0 // offered by every client; not used here
	FlagRejectUnrecovered = 1 << 1 // reply 112 when recovery fails (spec 10.4)
)

// SubscribeRequest asks for a subscription. As an entry of ConnectRequest.Subs it is a known server-side one: only the
// position counts there, and the key names the channel.
type SubscribeRequest struct {
	Channel     string
	Token       string
	Recover     bool
	Epoch       string
	Offset      uint64
	Data        Raw
	Positioned  bool
	Recoverable bool
	JoinLeave   bool
	Delta       string
	TagsFilter  *FilterNode // not nil if one was sent
	Flag        int64
	Type        int32
}

// FilterNode is a tags filter or part of one (spec 12): a leaf if Op is empty, else a branch. It is as the client sent it.
type FilterNode struct {
	Op    string
	Key   string
	Cmp   string
	Val   string
	Vals  []string
	Nodes []*FilterNode
}

// maxFilterSize and maxFilterDepth bound what is read of a tags filter: in bytes of the message, and in levels.
const (
	maxFilterSize  = 16 << 10
	maxFilterDepth = 32
)

// overlongFilter stands for what is not read: a filter that nobody can mean.
func overlongFilter() *FilterNode { return &FilterNode{Op: "overlong"} }

// SubscribeResult answers a subscribe. TTL must be at least 1 when Expires is set (spec 3.3).
type SubscribeResult struct {
	Expires       bool
	TTL           uint32 // seconds
	Recoverable   bool
	Epoch         string
	Publications  []*Publication
	Recovered     bool
	Offset        uint64
	Positioned    bool
	Data          Raw
	WasRecovering bool
	Delta         bool
}

// UnsubscribeRequest ends a subscription.
type UnsubscribeRequest struct{ Channel string }

// UnsubscribeResult is empty; its key must be in the reply all the same (spec 2.1).
type UnsubscribeResult struct{}

// PublishRequest publishes Data. Type is 0 but for map publications, which are not supported.
type PublishRequest struct {
	Channel string
	Data    Raw
	Type    int32
}

// PublishResult is empty; its key must be in the reply all the same (spec 2.1).
type PublishResult struct{}

// PresenceRequest asks who is in a channel.
type PresenceRequest struct{ Channel string }

// PresenceResult: presence is always present, {} when empty.
type PresenceResult struct{ Presence map[string]*ClientInfo }

// PresenceStatsRequest asks how many are in a channel.
type PresenceStatsRequest struct{ Channel string }

// PresenceStatsResult: both numbers are always present.
type PresenceStatsResult struct{ NumClients, NumUsers uint32 }

// HistoryRequest reads a channel's stream: only the position with Limit 0, everything with a negative one (spec 5.6).
type HistoryRequest struct {
	Channel string
	Limit   int32
	Since   *StreamPosition
	Reverse bool
}

// HistoryResult: all three are always present, publications as [] when empty.
type HistoryResult struct {
	Publications []*Publication
	Epoch        string
	Offset       uint64
}

// SendRequest is a message to the server that has no reply.
type SendRequest struct{ Data Raw }

// RPCRequest calls a method of the server; Method may be empty.
type RPCRequest struct {
	Data   Raw
	Method string
}

// RPCResult is what the method returned.
type RPCResult struct{ Data Raw }

// RefreshRequest brings a new connection token.
type RefreshRequest struct{ Token string }

// RefreshResult: the reference sends only these (spec 3.3).
type RefreshResult struct {
	Expires bool
	TTL     uint32 // seconds
}

// SubRefreshRequest brings a new subscription token. Type is 0 but for shared poll, which is not supported.
type SubRefreshRequest struct {
	Channel string
	Token   string
	Type    int32
}

// SubRefreshResult answers a SubRefreshRequest.
type SubRefreshResult struct {
	Expires bool
	TTL     uint32 // seconds
}

// Unsubscribe ends a subscription from the server's side. Code is never 0: clients resubscribe then (spec 18).
type Unsubscribe struct {
	Code   uint32
	Reason string
}

// Subscribe starts a server-side subscription.
type Subscribe struct {
	Recoverable bool
	Epoch       string
	Offset      uint64
	Positioned  bool
	Data        Raw
}

// Message is a payload outside of any channel.
type Message struct{ Data Raw }

// Disconnect announces the end of the connection; clients decide by Code whether to come back (spec 9.3).
type Disconnect struct {
	Code   uint32
	Reason string
}

// Refresh tells a unidirectional client of its new expiry.
type Refresh struct {
	Expires bool
	TTL     uint32 // seconds
}

// Codec is one encoding. Its methods are pure and safe for concurrent use; Append methods return the extended buffer.
type Codec interface {
	// NextCommand decodes the first command of a frame and returns what follows it; rest is empty after the last one.
	// The command does not share memory with the frame. An empty frame, and an empty line between commands, is an error
	// (spec 2.2).
	NextCommand(frame []byte) (cmd *Command, rest []byte, err error)
	// DecodeConnect decodes the bare connect request of a unidirectional connection.
	DecodeConnect(frame []byte) (*ConnectRequest, error)
	// AppendReply appends a reply, without delimiter.
	AppendReply(dst []byte, r *Reply) []byte
	// AppendPush appends a push wrapped in a reply, as bidirectional connections get it, without delimiter.
	AppendPush(dst []byte, p *Push) []byte
	// AppendBarePush appends a push alone, as unidirectional connections get it.
	AppendBarePush(dst []byte, p *Push) []byte
	// AppendPing appends the ping: an empty reply or push.
	AppendPing(dst []byte) []byte
}
