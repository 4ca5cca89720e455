package fanfare

import (
	"context"
	"fmt"
	"iter"
)

// historyPage is how many publications [Node.Publications] reads at once.
const historyPage = 100

// History reads a channel's stream. The zero query returns only its top, at which a page can begin to follow it. It
// returns [ErrUnknownChannel] for an undeclared channel, [ErrHistoryDisabled] for one without history, and
// [ErrUnrecoverablePosition] if the epoch of q.Since is not that of the stream. Permissions guard clients, not the app.
func (n *Node) History(ctx context.Context, channel string, q HistoryQuery) (HistoryResult, error) {
	d, err := n.declared(channel)
	if err != nil {
		return HistoryResult{}, err
	}
	if !d.options.keepsHistory() {
		return HistoryResult{}, fmt.Errorf("%w: %q", ErrHistoryDisabled, channel)
	}
	result, err := n.broker.History(ctx, channel, q)
	if err != nil {
		return HistoryResult{}, fmt.Errorf("fanfare: history of %q: %w", channel, err)
	}
	if q.Since != nil && q.Since.Epoch != "" && q.Since.Epoch != result.Epoch {
		return HistoryResult{Position: result.Position}, ErrUnrecoverablePosition
	}
	return result, nil
}

// Publications iterates over what a channel's stream holds after the given position, oldest first, in pages. The zero
// position is the beginning. It ends with the error of [Node.History], if there is one.
func (n *Node) Publications(ctx context.Context, channel string, since Position) iter.Seq2[*Publication, error] {
	return func(yield func(*Publication, error) bool) {
		for {
			result, err := n.History(ctx, channel, HistoryQuery{Since: &since, Limit: historyPage})
			if err != nil {
				yield(nil, err)
				return
			}
			for _, p := range result.Publications {
				if !yield(p, nil) {
					return
				}
				since = Position{p.Offset, result.Epoch}
			}
			if len(result.Publications) < historyPage {
				return
			}
		}
	}
}

// RemoveHistory forgets the publications of a channel. Its top stays, so that clients that have seen them go on. Other nodes may
// still send some to clients that come back within a second. It returns [ErrUnknownChannel] for an undeclared channel, and
// [ErrHistoryDisabled] for one without history.
func (n *Node) RemoveHistory(ctx context.Context, channel string) error {
	d, err := n.declared(channel)
	if err != nil {
		return err
	}
	if !d.options.keepsHistory() {
		return fmt.Errorf("%w: %q", ErrHistoryDisabled, channel)
	}
	if err := n.broker.RemoveHistory(ctx, channel); err != nil {
		return fmt.Errorf("fanfare: remove history of %q: %w", channel, err)
	}
	if r, ok := n.hub.Get(channel); ok {
		r.forgetRead()
	}
	return nil
}
