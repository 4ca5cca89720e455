package fanfare

import (
	"context"
	"fmt"
	"maps"
	"slices"

	"github.com/fanfare-go/fanfare/internal/cursor"
)

// Cursor returns where some channels stand now, as the transports "events" and "poll" read it from their query: see
// [Node.Positions], and [Snapshot], which takes it at the right moment.
func (n *Node) Cursor(ctx context.Context, channels ...string) (string, error) {
	positions, err := n.Positions(ctx, channels...)
	if err != nil {
		return "", err
	}
	return positions.Cursor(), nil
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
