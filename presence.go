package fanfare

import (
	"context"
	"fmt"
)

// PresenceStats are the counts of a channel's presence.
type PresenceStats struct {
	// Clients is the number of connections.
	Clients int
	// Users is the number of different user ids among them; all anonymous connections count as one user.
	Users int
}

// Presence knows who is in which channel. All methods are safe for concurrent use. Its sentences are subtests of
// package brokertest.
type Presence interface {
	// Add puts a client into a channel, or replaces its entry. The member belongs to the node.
	Add(ctx context.Context, node, channel string, m ClientInfo) error
	// Remove takes a client out of a channel. It is not an error if the client is not there, or by now is the member of
	// another node, which it then remains.
	Remove(ctx context.Context, node, channel, client string) error
	// Members returns the channel's members in no particular order. The slice belongs to the caller.
	Members(ctx context.Context, channel string) ([]ClientInfo, error)
	// Stats returns the counts of a channel without reading its members.
	Stats(ctx context.Context, channel string) (PresenceStats, error)
	// RemoveNode takes out all members of a node: it is shutting down.
	RemoveNode(ctx context.Context, node string) error
	// Close releases resources. It may be called twice. Later calls return [ErrClosed].
	Close() error
}

// Presence returns who is subscribed to the channel now, in no particular order. It returns [ErrUnknownChannel] for an
// undeclared channel, and [ErrPresenceDisabled] for one that does not keep it.
func (n *Node) Presence(ctx context.Context, channel string) ([]ClientInfo, error) {
	if err := n.keepsPresence(channel); err != nil {
		return nil, err
	}
	members, err := n.presence.Members(ctx, channel)
	if err != nil {
		return nil, fmt.Errorf("fanfare: presence of %q: %w", channel, err)
	}
	return members, nil
}

// PresenceStats returns how many are subscribed to the channel now. Errors are those of [Node.Presence].
func (n *Node) PresenceStats(ctx context.Context, channel string) (PresenceStats, error) {
	if err := n.keepsPresence(channel); err != nil {
		return PresenceStats{}, err
	}
	stats, err := n.presence.Stats(ctx, channel)
	if err != nil {
		return PresenceStats{}, fmt.Errorf("fanfare: presence stats of %q: %w", channel, err)
	}
	return stats, nil
}

func (n *Node) keepsPresence(channel string) error {
	d, err := n.declared(channel)
	if err != nil {
		return err
	}
	if !d.options.Presence {
		return fmt.Errorf("%w: %q", ErrPresenceDisabled, channel)
	}
	return nil
}
