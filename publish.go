package fanfare

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"unicode/utf8"

	"github.com/fanfare-go/fanfare/internal/protocol"
)

type publishOptions struct {
	info           *ClientInfo
	tags           map[string]string
	idempotencyKey string
	version        uint64
	versionEpoch   string
	withoutHistory bool
	except         string // id of a client
}

// PublishOption is a choice for one [Node.Publish].
type PublishOption func(*publishOptions)

// WithIdempotencyKey makes a repeated publish to the channel return the position of the first one, without storing or
// sending anything, for [Config.IdempotencyTTL]: a publish whose outcome is not known can be repeated.
func WithIdempotencyKey(key string) PublishOption {
	return func(o *publishOptions) { o.idempotencyKey = key }
}

// WithTags adds properties to a publication, by which clients may choose: see [ChannelOptions.TagsFilter]. The map must not be
// changed afterwards.
func WithTags(tags map[string]string) PublishOption {
	return func(o *publishOptions) { o.tags = tags }
}

// WithVersion says which state of something the publication carries, for states that may come late or twice: from several
// processes, or from a queue. A publication whose version is not above that of the newest one with a version in the channel's
// stream is stale: it is dropped, and Publish returns the stream's top and no error. The epoch, which may be empty, is the life of
// what version counts: with another one than the newest's, versions begin anew. An empty epoch matches every one. Version 0 is no
// version; publications without one are never stale.
//
// The version is remembered as long as the stream's top is: see [Broker]. It needs a channel with history, and excludes
// [WithoutHistory]: otherwise Publish returns an error that wraps [ErrBadRequest]. An idempotency key is looked at first.
func WithVersion(version uint64, epoch string) PublishOption {
	return func(o *publishOptions) { o.version, o.versionEpoch = version, epoch }
}

// WithoutHistory sends a publication to whoever watches the channel now, and stores nothing: "somebody is typing", in a channel of
// messages. Publish returns the zero position, and no position moves, of the stream or of a client. Nobody recovers such a
// publication, a cache stays what it was, "poll" brings it only to whoever waits at that moment, and where a client is too slow it
// is dropped rather than anything stored. Among those that are stored it comes in no particular order. Without a history it changes
// nothing.
func WithoutHistory() PublishOption {
	return func(o *publishOptions) { o.withoutHistory = true }
}

// WithoutClient leaves out the connection with this id ([Client.ID]; in the SDKs what the client was told at connect), on whatever
// node it is: the page that has caused the publication, and shows it already. Its position moves as if it had got it. An empty id
// leaves out nobody.
//
// Only that connection is left out, as long as it lasts, also when it subscribes again and recovers. After a reconnect, which gives
// a new id, the client may recover the publication: know it by an id of its own. It is in history for everybody who reads that, and
// in a cache for a connection that begins with it.
func WithoutClient(clientID string) PublishOption {
	return func(o *publishOptions) { o.except = clientID }
}

// store is how the broker is to keep the publication.
func (o *publishOptions) store(n *Node, channel string, h History) (StoreOptions, error) {
	s := StoreOptions{History: h}
	if o.withoutHistory {
		s.History = History{}
	}
	if o.idempotencyKey != "" {
		s.IdempotencyKey, s.IdempotencyTTL = o.idempotencyKey, n.config.IdempotencyTTL
	}
	if o.version > 0 {
		if s.History.Size == 0 {
			return s, fmt.Errorf("fanfare: publish to %q: a version needs history: %w", channel, ErrBadRequest)
		}
		s.Version, s.VersionEpoch = o.version, o.versionEpoch
	}
	return s, nil
}

// apply makes the options, on the heap: those of a publish without any need not be there.
func apply(opts []PublishOption) publishOptions {
	var o publishOptions
	for _, opt := range opts {
		opt(&o)
	}
	return o
}

// Publish sends data to everybody who watches the channel, and stores it if the channel has history. It returns when the
// broker has it, with its position; it never waits for readers, only, within its context, while the node is behind with what
// others have published. The data must not be changed afterwards.
//
// It returns [ErrUnknownChannel] for an undeclared channel, [ErrBadPayload] for data that is not of the channel's kind,
// [ErrTooLarge] over [Config.MaxPublicationSize], and [ErrClosed] after [Node.Shutdown]. Permissions guard clients, not
// the app. After another error the publication may have been stored all the same: use [WithIdempotencyKey] to repeat.
func (n *Node) Publish(ctx context.Context, channel string, data []byte, opts ...PublishOption) (Position, error) {
	d, err := n.declared(channel)
	if err != nil {
		return Position{}, err
	}
	var o publishOptions
	if len(opts) > 0 {
		o = apply(opts)
	}
	p, err := n.publish(ctx, d, channel, data, o)
	if err != nil {
		if _, told := errors.AsType[*Error](err); !told && !errors.Is(err, ErrBadPayload) && !errors.Is(err, ErrTooLarge) {
			err = fmt.Errorf("fanfare: publish to %q: %w", channel, err)
		}
	}
	return p, err
}

func (n *Node) publish(ctx context.Context, d *declaration, channel string, data []byte, o publishOptions) (Position, error) {
	if n.ctx.Err() != nil {
		return Position{}, ErrClosed
	}
	if len(channel) > n.config.MaxChannelLength {
		return Position{}, fmt.Errorf("fanfare: channel name of %d bytes: %w", len(channel), ErrBadRequest)
	}
	if len(data)+tagsSize(o.tags) > n.config.MaxPublicationSize {
		return Position{}, fmt.Errorf("%w: %d bytes for channel %q", ErrTooLarge, len(data)+tagsSize(o.tags), channel)
	}
	switch {
	case d.options.Payload == PayloadJSON && !protocol.ValidPayload(data):
		return Position{}, fmt.Errorf("%w: not JSON, for channel %q", ErrBadPayload, channel)
	case d.options.Payload == PayloadText && !utf8.Valid(data):
		return Position{}, fmt.Errorf("%w: not UTF-8, for channel %q", ErrBadPayload, channel)
	}
	store, err := o.store(n, channel, d.options.History)
	if err != nil {
		return Position{}, err
	}
	p := &Publication{Data: data, Info: o.info, Tags: o.tags, Except: o.except}
	size := p.size(false) + broadcastOverhead
	var few [4]*worker
	kept, err := n.reserve(ctx, channel, size, few[:0])
	if err != nil {
		return Position{}, err
	}
	defer unreserve(kept, size)
	return n.broker.Publish(ctx, channel, p, store)
}

// publishMembership sends a join or leave. It may be lost (spec 13), so errors are logged, and most callers let them be.
func (n *Node) publishMembership(channel string, m Membership) error {
	ctx, cancel := context.WithTimeout(context.Background(), n.config.HookTimeout)
	defer cancel()
	err := n.broker.PublishMembership(ctx, channel, m)
	if err != nil {
		n.log.Log(ctx, troubled(err, slog.LevelWarn), "join or leave not published", slog.String("channel", channel), slog.Any("err", err))
	}
	return err
}
