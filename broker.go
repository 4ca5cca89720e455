package fanfare

import (
	"context"
	"time"
)

// Position is a place in a channel's stream: after the publication with this offset, in this life of the stream.
//
// Offsets are dense and start at 1; offset 0 is the place before the first publication. The epoch is an opaque name
// for one life of the stream: it changes when offsets start over, because the state was lost, removed or evicted. Two
// positions can be compared only if their epochs are equal. For example, a client at {41, "a"} that comes back to a
// stream at {43, "a"} has missed two publications; if the stream is at {43, "b"}, nobody can say what it has missed.
//
// In JSON it is what the SDKs take as "since", and what their "getState" returns.
type Position struct {
	Offset uint64 `json:"offset"`
	Epoch  string `json:"epoch"`
}

// ClientInfo says who is behind a publication or a presence entry.
type ClientInfo struct {
	// User is the user id; empty for an anonymous user.
	User string
	// Client is the id of the connection.
	Client string
	// ConnInfo is [Identity.Info] of the connection. JSON, or nil.
	ConnInfo []byte
	// ChanInfo is [SubscribeReply.Info] of the subscription. JSON, or nil.
	ChanInfo []byte
}

// Publication is one message of a channel. It is immutable once it was handed to a [Broker] or received from one.
type Publication struct {
	// Position of the publication in its stream. Zero in a channel without history.
	Position
	// Data is the payload.
	Data []byte
	// Info is the publisher, when a client published.
	Info *ClientInfo
	// Tags are the publisher's own properties, or nil.
	Tags map[string]string
	// Except is the id of the connection that is left out, or empty: see [WithoutClient].
	Except string
}

// Membership tells that a client came to a channel or left it.
type Membership struct {
	// Joined is true for a join, false for a leave.
	Joined bool
	// Info is the client.
	Info ClientInfo
}

// History is the retention of a channel's stream. Both limits are needed; the zero value keeps no history.
//
// Every publication brings it along, and that of the newest one holds for the whole stream: smaller limits also shorten
// what is kept already, larger ones prolong nothing. What is kept is always the newest part of the stream, without holes.
type History struct {
	// Size is the number of publications kept at most.
	Size int
	// TTL is how long a publication is kept. Nothing older is ever returned.
	TTL time.Duration
}

// StoreOptions says how a [Broker] stores one publication.
type StoreOptions struct {
	// History is the channel's retention. With the zero value the publication is delivered and not stored.
	History History
	// IdempotencyKey, if not empty, makes a repeated publish to the channel return the position of the first one
	// without storing or delivering anything, for IdempotencyTTL. It works without history, too.
	IdempotencyKey string
	// IdempotencyTTL is positive whenever IdempotencyKey is set.
	IdempotencyTTL time.Duration
	// Version, if not 0, is which state of something this publication is. The stream remembers the version and the
	// VersionEpoch of the newest publication that had one. A publication whose version is not above the remembered one is
	// stale, if its VersionEpoch is empty or the remembered one: it is neither stored nor delivered, and Publish returns the
	// top and no error. With another VersionEpoch versions begin anew. They are remembered as long as the stream's top is,
	// so also when its publications are gone. Not without History.
	//
	// An idempotency key is looked at first. It is remembered for a stale publication, too, with the position returned.
	Version uint64
	// VersionEpoch is the life of what Version counts, or empty.
	VersionEpoch string
}

// HistoryQuery selects publications of a stream.
type HistoryQuery struct {
	// Since, if not nil, is the position after which (Reverse: before which) publications are wanted. An empty
	// epoch matches every stream.
	Since *Position
	// Limit is how many publications are wanted at most; 0 asks for the top alone, a negative value for all.
	Limit int
	// Reverse returns the newest first.
	Reverse bool
}

// HistoryResult is one atomic read of a stream.
type HistoryResult struct {
	// Publications in the order asked for. They are shared: do not change them.
	Publications []*Publication
	// Position is the top of the stream at the moment of the read: the newest publication ever made, even if it is
	// no longer kept.
	Position
}

// Broker stores publications, numbers them, and carries them to the nodes that want them. All methods are safe for
// concurrent use, and return soon after their context ends. A Broker may serve several nodes at once.
//
// A stream keeps its epoch and its top while it has publications or subscribers. After that a broker may forget it, the
// one that was idle longest first, and when the channel is used again it has a new epoch.
//
// The sentences of this contract are the subtests of package brokertest.
type Broker interface {
	// Attach introduces a node. From then on the sink gets the publications and memberships of every channel that
	// the node subscribes to through the returned [Link]. The node id is unique among the nodes of a broker.
	Attach(node string, sink Sink) (Link, error)

	// Publish stores p in the channel's stream, assigns its position and starts its delivery, as one atomic step:
	// no two publications get the same offset, and every sink sees the publications of a channel in the order of
	// their offsets. Without history the position is zero and the publication is only delivered. The broker sets
	// p.Position and keeps p, which must not be changed afterwards.
	//
	// After an error the publication may or may not have been stored; an idempotency key makes a retry safe.
	Publish(ctx context.Context, channel string, p *Publication, o StoreOptions) (Position, error)

	// PublishMembership delivers a join or leave to the nodes that subscribe to the channel, in the order of the
	// calls from one node. It is not stored and may be lost.
	PublishMembership(ctx context.Context, channel string, m Membership) error

	// History reads publications and the top of the stream in one atomic step. The epoch of q.Since is not
	// compared: the caller compares it with that of the result. A channel never used before gets its epoch by
	// being read. Forward from a position whose next entries were trimmed, the oldest kept entry comes first;
	// beyond the top, nothing.
	History(ctx context.Context, channel string, q HistoryQuery) (HistoryResult, error)

	// RemoveHistory forgets the publications of a stream. The top stays. It is not an error if there are none.
	RemoveHistory(ctx context.Context, channel string) error

	// Close detaches all nodes, as [Link.Close] does, and releases the broker's resources. It may be called twice. Later
	// calls return [ErrClosed].
	Close() error
}

// Link is a node's connection to a [Broker].
type Link interface {
	// Subscribe makes the sink receive the channel. It returns when every later publication will be delivered. A second
	// one changes nothing: one Unsubscribe ends it.
	Subscribe(ctx context.Context, channel string) error
	// Unsubscribe ends it. A publication under way may still arrive. It is not an error if there is nothing to end.
	Unsubscribe(ctx context.Context, channel string) error
	// Close detaches the node. No sink method is called after it returned; a sink must not call it. It may be called
	// twice. Later calls return [ErrClosed].
	Close() error
}

// Sink is where a [Broker] delivers. Calls for one channel do not overlap and come in the order of the stream; calls
// for different channels may overlap. The methods never block on a client and never call back into the broker.
type Sink interface {
	// Publication delivers one publication. It is shared by all sinks and must not be changed.
	Publication(channel string, p *Publication)
	// Membership delivers a join or leave.
	Membership(channel string, m Membership)
	// Control delivers a message of a [ControlBus].
	Control(data []byte)
	// Interrupted tells that messages of these channels may have been lost, because a connection of the broker was
	// interrupted; nil are all channels that the node subscribes to. It is called when the subscriptions stand again: every
	// publication from then on is delivered, and one that was lost is found by reading the stream. It returns at once: the
	// node reads later, and slowly enough for a broker that has just come back.
	Interrupted(channels []string)
}

// ControlBus is a [Broker] that carries messages between nodes: operations on a user's connections, for example. A
// broker without it serves single nodes only.
type ControlBus interface {
	// SendControl delivers data to the sink of one node, or of every attached node but the sender if to is empty.
	// It does not wait for the receivers, and does not know whether there are any.
	SendControl(ctx context.Context, from, to string, data []byte) error
}

// NodeLister is a [Broker] that knows which nodes there are. Then a question to all nodes, as that of [Node.Info], waits for
// exactly these, and needs no time for nodes that nobody has heard of. What a list says is one moment's truth.
type NodeLister interface {
	// Nodes returns the ids of all nodes that are attached, in no particular order. One that died without a word is among
	// them until the broker finds it dead. The slice belongs to the caller.
	Nodes(ctx context.Context) ([]string, error)
}

// ConnectionCounter is a [Broker] that counts the connections of users on all its nodes, for [Config.MaxUserConnections].
// With a broker without it each node counts its own. What is counted belongs to a node: it is gone when the node was
// detached, by [Link.Close] or by a broker that found it dead. Nodes that are not attached get [ErrClosed].
type ConnectionCounter interface {
	// AddConnection counts a connection in, if fewer than limit of its user are counted. If not, it refuses, or, with
	// replace, lets the connection take the place of the one that was counted first. Each is one atomic step: however many
	// come at once, at however many nodes, limit is never exceeded. One that is counted already is admitted and stays where
	// it is. After an error the connection may or may not be counted: whoever called removes it in the end.
	AddConnection(ctx context.Context, c UserConnection, limit int, replace bool) (Admission, error)

	// RemoveConnection ends the counting of a connection. It is not an error if it is not counted.
	RemoveConnection(ctx context.Context, c UserConnection) error
}

// UserConnection is a connection to a [ConnectionCounter].
type UserConnection struct {
	// Node is the id of the node that holds the connection.
	Node string
	// User is whose connection it is; never empty.
	User string
	// Client is the id of the connection, unique among all of the broker.
	Client string
}

// Admission is the answer of a [ConnectionCounter].
type Admission struct {
	// Admitted is false if the connection was refused.
	Admitted bool
	// Replaced is the connection whose place was taken: it is for the caller to close it. Zero if there was room.
	Replaced UserConnection
}
