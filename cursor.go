package fanfare

import (
	"context"
	"fmt"
	"maps"
	"slices"

	"github.com/fanfare-go/fanfare/internal/cursor"
)

// Cursor returns where some channels stand now, as the transports "events" and "poll" read it from their query. An app that takes
// it before it reads its own data loses nothing between the two: the page asks for what came after it.
//
// Channels whose subscribers have no positions, because they have no history or [RecoveryOff], are left out. The errors are
// those of [Node.History]. What is stored after the cursor was taken and published before the app reads its data is in both: let
// the page know entries by their ids, or keep the two in step by a lock.
func (n *Node) Cursor(ctx context.Context, channels ...string) (string, error) {
	positions := make(map[string]Position, len(channels))
	for _, channel := range channels {
		d, err := n.declared(channel)
		if err != nil {
			return "", err
		}
		if !d.options.keepsHistory() || d.options.Recovery == RecoveryOff {
			continue
		}
		h, err := n.History(ctx, channel, HistoryQuery{})
		if err != nil {
			return "", err
		}
		positions[channel] = h.Position
	}
	return EncodeCursor(positions), nil
}

// EncodeCursor makes a cursor of positions that are known already: for a reader that comes from a client with an SDK, say.
func EncodeCursor(positions map[string]Position) string {
	entries := make([]cursor.Entry, 0, len(positions))
	for _, channel := range slices.Sorted(maps.Keys(positions)) {
		p := positions[channel]
		entries = append(entries, cursor.Entry{Channel: channel, Offset: p.Offset, Epoch: p.Epoch})
	}
	var e cursor.Encoder
	return string(e.Append(nil, entries))
}

// DecodeCursor returns the positions that a cursor holds in some channels: for a reader that goes on with an SDK. It returns an
// error that wraps [ErrBadRequest] if the text is no cursor.
func DecodeCursor(text string, channels ...string) (map[string]Position, error) {
	c, err := cursor.Parse(text)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrBadRequest, err)
	}
	positions := make(map[string]Position)
	for _, channel := range channels {
		if e, ok := c.Lookup(channel); ok {
			positions[channel] = Position{e.Offset, e.Epoch}
		}
	}
	return positions, nil
}
