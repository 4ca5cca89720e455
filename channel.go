package fanfare

import (
	"context"
	"errors"
	"sync/atomic"
	"time"
)

// Payload is the kind of data that a channel carries.
type Payload uint8

const (
	// PayloadJSON carries JSON values, checked once per publication.
	PayloadJSON Payload = iota
	// PayloadText carries UTF-8 text, HTML fragments for instance. JSON clients get and publish one JSON string.
	PayloadText
	// PayloadBinary carries any bytes. Only Protobuf clients can subscribe; others are refused with [ErrNotAvailable].
	PayloadBinary

	payloadKinds // their number
)

// Recovery says how a client that comes back gets what it missed.
type Recovery uint8

const (
	// RecoveryAuto is [RecoveryStream] when the channel has history, and [RecoveryOff] otherwise.
	RecoveryAuto Recovery = iota
	// RecoveryStream sends everything missed: every subscription is positioned and recoverable, asked or not.
	RecoveryStream
	// RecoveryCache sends only the newest publication, to a client that comes back.
	RecoveryCache
	// RecoveryCacheAlways is RecoveryCache for everybody: each subscription, also one that the server makes, begins with the
	// newest publication.
	RecoveryCacheAlways
	// RecoveryOnRequest is RecoveryStream for the subscriptions that ask for it. Those that the server makes cannot ask.
	RecoveryOnRequest
	// RecoveryOff never recovers.
	RecoveryOff
)

// SlowReader says what happens when a client does not read what a channel sends. The publisher never waits.
type SlowReader uint8

const (
	// SlowReaderDisconnect closes the connection with 3008 when its queue is full; the client comes back and recovers.
	SlowReaderDisconnect SlowReader = iota
	// SlowReaderDropOldest drops the channel's oldest queued publications when half of the queue is taken, so that the other
	// half remains for what must not be dropped. Where subscriptions have positions nothing is lost in silence: when the
	// queue is full, all the channel's queued publications are dropped and, when it has drained, the subscription is ended
	// with 2500, so that the client comes back and recovers at its own pace. A third time within ten seconds the connection
	// is closed with 3010, which makes the client back off.
	SlowReaderDropOldest
	// SlowReaderKeepLatest keeps, while the connection does not take data, only the channel's newest publication. Only
	// for channels without history or with [RecoveryCache] or [RecoveryCacheAlways].
	SlowReaderKeepLatest
)

// Access says which clients may do something, where no hook is needed to decide.
type Access uint8

const (
	// Nobody is the default. Together with a hook it leaves the decision to the hook.
	Nobody Access = iota
	// Anyone admits every client.
	Anyone
	// Users admits clients whose user id is not empty.
	Users
	// Subscribers admits clients that are subscribed to the channel.
	Subscribers
)

// ChannelOptions is everything about the channels of one pattern. The zero value is a channel that only the app
// publishes to and that nobody may subscribe to: permissions are closed until said otherwise.
//
// On the hooks: see [Config.HookTimeout] for how they run. Return an *[Error] or *[Disconnect] to refuse; any other error
// is logged and reaches the client as [ErrInternal], so that it tries again.
type ChannelOptions struct {
	// Public lets every client subscribe. A Subscribe hook, if set as well, still decides.
	Public bool
	// Subscribe decides whether a client may watch the channel. Calls for different channels of one client may
	// overlap, up to [Config.Concurrency]. If nil, and the channel is not Public, every subscription is refused.
	Subscribe func(ctx context.Context, r *SubscribeRequest) (SubscribeReply, error)
	// SubRefresh prolongs subscriptions that have an expiry. If nil, they just end with 2501. For those that were made without a
	// token, or by the server, the node asks by itself, as it does by [Config.Refresh].
	SubRefresh func(ctx context.Context, r *SubRefreshRequest) (SubRefreshReply, error)
	// Unsubscribed is told once about the end of every subscription that Subscribe (or, without it, the node) accepted,
	// never before Subscribe returned. It runs on a goroutine of its own with a fresh context.
	Unsubscribed func(ctx context.Context, n *UnsubscribeNotice)

	// AllowPublish says which clients may publish; Publish, if set, decides about each publication of those (of all
	// clients, if AllowPublish is Nobody). Commands of one client come in order.
	AllowPublish Access
	Publish      func(ctx context.Context, r *PublishRequest) (PublishReply, error)

	// AllowHistory says which clients may read history; ReadHistory, if set, decides like Publish.
	AllowHistory Access
	ReadHistory  func(ctx context.Context, r *HistoryRequest) error

	// AllowPresence says which clients may read presence; ReadPresence, if set, decides like Publish.
	AllowPresence Access
	ReadPresence  func(ctx context.Context, r *PresenceRequest) error

	// History is the retention of publications. Size and TTL need each other.
	History History
	// Recovery says how clients get what they missed.
	Recovery Recovery
	// Presence keeps who is subscribed.
	Presence bool
	// JoinLeave tells who comes and goes: to those subscribers that ask for it.
	JoinLeave bool
	// ForceJoinLeave tells all subscribers, asked or not. Implies JoinLeave.
	ForceJoinLeave bool
	// JoinLeavePerUser tells of a user's first client that comes and of the last one that goes, instead of every client.
	// Anonymous clients are told of one by one. Users are counted on all nodes, if Presence is set and [Config.Presence] is a
	// [UserPresence]; else on each node for itself. What several nodes tell in the same moment may arrive in any order. An
	// [Override.JoinLeave] should be the same for all clients of a user.
	JoinLeavePerUser bool
	// PresenceGrace is how long a user whose last connection ended is still held to be present, so that a page reload is
	// no leave. If the user is back in time, presence goes over to the new client. Default 0: no grace. It needs Presence. Users are
	// counted on each node for itself.
	PresenceGrace time.Duration
	// MaxSubscribers limits the subscribers on one node; further ones are refused with [ErrLimitExceeded]. 0 is no limit.
	MaxSubscribers int
	// Payload is the kind of data.
	Payload Payload
	// SlowReader says what happens when a client does not read.
	SlowReader SlowReader
	// Delta lets clients have publications as what has changed since the one before, where that is shorter: for channels that
	// carry one document, state or list after the other. Of clients, those take part that ask for it (delta "fossil"); all others
	// get everything in full, as do subscriptions that the server makes. It needs no History. The difference is worked out once per
	// publication, if anybody takes it. Not with SlowReaderKeepLatest, nor with SlowReaderDropOldest for subscriptions without
	// positions: they drop what the next difference is to.
	Delta bool
	// TagsFilter lets clients choose by [WithTags] which publications they get. Those that they do not get still count for recovery; a
	// cache sends the newest that passes, of the [Config.MaxRecovered] newest ones. What a filter costs is bounded: it may have 100
	// nodes, 16 levels and 1000 values in lists; numbers are compared as decimals, exactly, and have no exponents. If false, a
	// subscription with a filter is refused with [ErrBadRequest]. To a client that asks for both, Delta is declined. A client knows the
	// position of what it got: if that is little, and much else was published since, it may be told of a gap when it comes back.
	TagsFilter bool
}

// declaration is a pattern with its options, as given to [Node.Channel].
type declaration struct {
	pattern string
	options ChannelOptions

	_             [64]byte // deliveries read the above: it shall share no line of the cache with what changes
	subscriptions atomic.Int64
	_             [56]byte
}

// resolve fills in what options imply, and refuses those that contradict each other. Errors name the field.
func (o ChannelOptions) resolve() (ChannelOptions, error) {
	switch {
	case o.History.Size < 0:
		return o, errors.New("History.Size is negative")
	case o.History.TTL < 0:
		return o, errors.New("History.TTL is negative")
	case o.History.Size > 0 && o.History.TTL == 0:
		return o, errors.New("History.Size needs History.TTL")
	case o.History.TTL > 0 && o.History.Size == 0:
		return o, errors.New("History.TTL needs History.Size")
	case o.MaxSubscribers < 0:
		return o, errors.New("MaxSubscribers is negative")
	case o.Payload > PayloadBinary:
		return o, errors.New("Payload is unknown")
	case o.Recovery > RecoveryOff:
		return o, errors.New("Recovery is unknown")
	case o.SlowReader > SlowReaderKeepLatest:
		return o, errors.New("SlowReader is unknown")
	case max(o.AllowPublish, o.AllowHistory, o.AllowPresence) > Subscribers:
		return o, errors.New("AllowPublish, AllowHistory or AllowPresence is unknown")
	}
	if o.Recovery == RecoveryAuto {
		o.Recovery = RecoveryOff
		if o.keepsHistory() {
			o.Recovery = RecoveryStream
		}
	}
	switch {
	case o.Recovery != RecoveryOff && !o.keepsHistory():
		return o, errors.New("Recovery needs History")
	case o.SlowReader == SlowReaderKeepLatest && o.keepsHistory() && !o.caches():
		return o, errors.New("SlowReader: SlowReaderKeepLatest is for channels without History or with RecoveryCache")
	case o.Delta && o.SlowReader == SlowReaderKeepLatest:
		return o, errors.New("SlowReader: SlowReaderKeepLatest drops what Delta builds on")
	case o.Delta && o.SlowReader == SlowReaderDropOldest && !o.alwaysPositioned():
		return o, errors.New("SlowReader: SlowReaderDropOldest drops what Delta builds on where subscriptions have no positions: " +
			"it needs History, and Recovery neither RecoveryOnRequest nor RecoveryOff")
	case (o.AllowHistory != Nobody || o.ReadHistory != nil) && !o.keepsHistory():
		return o, errors.New("AllowHistory and ReadHistory need History")
	case o.PresenceGrace < 0:
		return o, errors.New("PresenceGrace is negative")
	case o.PresenceGrace > 0 && !o.Presence:
		return o, errors.New("PresenceGrace needs Presence")
	case (o.AllowPresence != Nobody || o.ReadPresence != nil) && !o.Presence:
		return o, errors.New("AllowPresence and ReadPresence need Presence")
	}
	o.JoinLeave = o.JoinLeave || o.ForceJoinLeave || o.JoinLeavePerUser
	return o, nil
}

func (o *ChannelOptions) caches() bool {
	return o.Recovery == RecoveryCache || o.Recovery == RecoveryCacheAlways
}

func (o *ChannelOptions) keepsHistory() bool { return o.History.Size > 0 }

// alwaysPositioned reports whether a subscription has positions that does not ask for them.
func (o *ChannelOptions) alwaysPositioned() bool {
	positioned, _ := o.positions(recoverWish{})
	return positioned
}

// positions says what a subscription is granted. Recoverable implies positioned (spec 5.2).
func (o *ChannelOptions) positions(w recoverWish) (positioned, recoverable bool) {
	switch o.Recovery {
	case RecoveryStream, RecoveryCache, RecoveryCacheAlways:
		return true, true
	case RecoveryOnRequest:
		recoverable = w.recoverable || w.recover
		return w.positioned || recoverable, recoverable
	}
	return false, false
}
