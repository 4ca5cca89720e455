package fanfare

import "context"

// Positions are where some channels stand, by their names. In JSON they are an object whose values the SDKs take as "since".
type Positions map[string]Position

// Cursor returns the positions as the transports "events" and "poll" read them from their query.
func (p Positions) Cursor() string { return EncodeCursor(p) }

// Positions returns where some channels stand now. An app that takes them before it reads its own data loses nothing between the
// two, since pages ask for what came after: that is what [Snapshot] does.
//
// Channels whose subscribers have no positions, because they have no history or [RecoveryOff], are left out. The errors are
// those of [Node.History].
func (n *Node) Positions(ctx context.Context, channels ...string) (Positions, error) {
	positions := make(Positions, len(channels))
	for _, channel := range channels {
		d, err := n.declared(channel)
		if err != nil {
			return nil, err
		}
		if !d.options.keepsHistory() || d.options.Recovery == RecoveryOff {
			continue
		}
		h, err := n.History(ctx, channel, HistoryQuery{})
		if err != nil {
			return nil, err
		}
		positions[channel] = h.Position
	}
	return positions, nil
}

// Snapshot runs the app's query, and returns what it found together with the positions of some channels from before the query
// began. A page that shows the one and subscribes from the other loses nothing: with an SDK by "since" or "getState", over "events"
// and "poll" by the cursor.
//
// That holds if whoever writes publishes after the write can be read: after the commit. What was written before the query, and
// published after the positions were taken, is in both: let the page know entries by their ids, or make publications of whole
// states, of which the last one counts. If a query takes so long that more is published meanwhile than the channel keeps, or than
// [Config.MaxRecovered], the page is told that it is not recovered (over "events", of a gap), and asks anew.
//
// The errors are those of [Node.Positions], or the query's own, as it is.
func Snapshot[T any](ctx context.Context, n *Node, query func(context.Context) (T, error), channels ...string) (T, Positions, error) {
	var none T
	positions, err := n.Positions(ctx, channels...)
	if err != nil {
		return none, nil, err
	}
	state, err := query(ctx)
	if err != nil {
		return none, nil, err
	}
	return state, positions, nil
}
