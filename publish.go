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
	for _, opt := range opts {
		opt(&o)
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
	store := StoreOptions{History: d.options.History}
	if o.idempotencyKey != "" {
		store.IdempotencyKey, store.IdempotencyTTL = o.idempotencyKey, n.config.IdempotencyTTL
	}
	p := &Publication{Data: data, Info: o.info, Tags: o.tags}
	size := p.size(false) + broadcastOverhead
	var few [4]*worker
	kept, err := n.reserve(ctx, channel, size, few[:0])
	if err != nil {
		return Position{}, err
	}
	defer unreserve(kept, size)
	return n.broker.Publish(ctx, channel, p, store)
}

// publishMembership sends a join or leave. It may be lost (spec 13), so errors are only logged.
func (n *Node) publishMembership(channel string, m Membership) {
	ctx, cancel := context.WithTimeout(context.Background(), n.config.HookTimeout)
	defer cancel()
	if err := n.broker.PublishMembership(ctx, channel, m); err != nil {
		n.log.Warn("join or leave not published", slog.String("channel", channel), slog.Any("err", err))
	}
}
