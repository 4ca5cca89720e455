package fanfare

import (
	"context"
	"encoding/json"
	"fmt"
	"iter"
)

// TypedChannels are the channels of one pattern whose publications are values of type T, in JSON: a thin layer over [Node.Publish]
// and [Node.History]. It is safe for concurrent use.
type TypedChannels[T any] struct {
	node     *Node
	declared *declaration
}

// TypedPublication is a [Publication] with its data decoded.
type TypedPublication[T any] struct {
	// Position of the publication in its stream. Zero if it was published without history.
	Position
	// Value is the data.
	Value T
	// Info is the publisher, when a client published.
	Info *ClientInfo
	// Tags are the publisher's own properties, or nil.
	Tags map[string]string
}

// TypedHistory is a [HistoryResult] with its publications decoded.
type TypedHistory[T any] struct {
	// Publications in the order asked for.
	Publications []TypedPublication[T]
	// Position is the top of the stream at the moment of the read.
	Position
}

// DecodeError says which publication of a channel is no value of the type that was asked for.
type DecodeError struct {
	Channel string
	// Position of the publication, so that a reader can go on behind it.
	Position Position
	// Err is the decoder's.
	Err error
}

// Error names the channel and the offset.
func (e *DecodeError) Error() string {
	return fmt.Sprintf("fanfare: publication %d in %q: %v", e.Position.Offset, e.Channel, e.Err)
}

// Unwrap returns Err.
func (e *DecodeError) Unwrap() error { return e.Err }

// Typed returns the channels of a pattern, as given to [Node.Channel], as channels of T. It panics, as that does, if the pattern is
// not declared, or its Payload is not [PayloadJSON]: both are mistakes in the program.
//
// What others publish to the channels, clients that are allowed to for instance, is checked when it is read, not when it is
// published: that is for a Publish hook to do.
func Typed[T any](n *Node, pattern string) *TypedChannels[T] {
	d := n.declarationOf(pattern)
	switch {
	case d == nil:
		panic(fmt.Sprintf("fanfare: typed: channel pattern %q is not declared", pattern))
	case d.options.Payload != PayloadJSON:
		panic(fmt.Sprintf("fanfare: typed: channels %q do not carry JSON", pattern))
	}
	return &TypedChannels[T]{node: n, declared: d}
}

// Publish publishes a value, as [Node.Publish] does. It returns an error that wraps [ErrBadPayload] if the value has no JSON form,
// and [ErrUnknownChannel] for a channel of another pattern.
func (c *TypedChannels[T]) Publish(ctx context.Context, channel string, value T, opts ...PublishOption) (Position, error) {
	if err := c.check(channel); err != nil {
		return Position{}, err
	}
	data, err := json.Marshal(value)
	if err != nil {
		return Position{}, fmt.Errorf("%w: for channel %q: %w", ErrBadPayload, channel, err)
	}
	return c.node.Publish(ctx, channel, data, opts...)
}

// History reads a channel's stream, as [Node.History] does. At a publication that is no T it stops, and returns those before it
// with a *[DecodeError].
func (c *TypedChannels[T]) History(ctx context.Context, channel string, q HistoryQuery) (TypedHistory[T], error) {
	if err := c.check(channel); err != nil {
		return TypedHistory[T]{}, err
	}
	result, err := c.node.History(ctx, channel, q)
	h := TypedHistory[T]{Position: result.Position}
	if err != nil {
		return h, err
	}
	for _, p := range result.Publications {
		typed, err := c.Decode(channel, p)
		if err != nil {
			return h, err
		}
		h.Publications = append(h.Publications, typed)
	}
	return h, nil
}

// Publications iterates over what a channel's stream holds after a position, as [Node.Publications] does. For a publication that
// is no T it yields a *[DecodeError], with the publication but for its value, and goes on if the caller does; every other error
// ends it.
func (c *TypedChannels[T]) Publications(ctx context.Context, channel string, since Position) iter.Seq2[TypedPublication[T], error] {
	return func(yield func(TypedPublication[T], error) bool) {
		if err := c.check(channel); err != nil {
			yield(TypedPublication[T]{}, err)
			return
		}
		for p, err := range c.node.Publications(ctx, channel, since) {
			if err != nil {
				yield(TypedPublication[T]{}, err)
				return
			}
			if !yield(c.Decode(channel, p)) {
				return
			}
		}
	}
}

// Decode decodes a publication of a channel. Its error is a *[DecodeError].
func (c *TypedChannels[T]) Decode(channel string, p *Publication) (TypedPublication[T], error) {
	typed := TypedPublication[T]{Position: p.Position, Info: p.Info, Tags: p.Tags}
	if err := json.Unmarshal(p.Data, &typed.Value); err != nil {
		var none T
		typed.Value = none // not half of it
		return typed, &DecodeError{Channel: channel, Position: p.Position, Err: err}
	}
	return typed, nil
}

// check refuses channels of other patterns, which may carry something else.
func (c *TypedChannels[T]) check(channel string) error {
	d, err := c.node.declared(channel)
	if err != nil {
		return err
	}
	if d != c.declared {
		return fmt.Errorf("fanfare: channel %q is one of %q, not of %q: %w", channel, d.pattern, c.declared.pattern, ErrUnknownChannel)
	}
	return nil
}
