package fanfare

import (
	"context"
	"fmt"
	"iter"
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

// PresenceScanner is a [Presence] that can be read in pages, for channels with so many members that nobody wants them at
// once.
type PresenceScanner interface {
	// ScanMembers returns some of a channel's members, and the cursor of the next page. The empty cursor begins, an empty next
	// one ends. The limit, which is positive, says how many are wanted; a page may hold somewhat more or less, also none.
	// Pages are read one after the other: a member that is there all the time comes at least once; one that comes or goes
	// meanwhile may come or not. The slice belongs to the caller.
	ScanMembers(ctx context.Context, channel, cursor string, limit int) (members []ClientInfo, next string, err error)
}

// PresenceWatcher is a [Presence] that finds out that a node has died, and takes its members out. Somebody has to tell the
// others in the channels of that.
type PresenceWatcher interface {
	// WatchDead makes the living node one of those that are told. When a dead node's members are taken out, gone is called
	// with them: of each member exactly one watcher is told, by one call. If the node itself was taken for dead, because it could
	// not reach the presence for a while, back is called with those of its members that others may have been told are gone, when
	// they are in again; in any number of calls. Both are called from goroutines of the presence, never by two at once for one
	// watcher, and must not block for long. They are not called any more after stop returned, which may be called twice, but not
	// by them.
	WatchDead(node string, gone, back func(channel string, members []ClientInfo)) (stop func(), err error)
}

// UserPresence is a [Presence] that counts the clients of a user in one step with their coming and going. With it
// [ChannelOptions.PresenceGrace] and [ChannelOptions.JoinLeavePerUser] hold across nodes.
type UserPresence interface {
	// AddCounted is Add, and returns how many clients the member's user has in the channel then, on all nodes.
	AddCounted(ctx context.Context, node, channel string, m ClientInfo) (clients int, err error)
	// RemoveCounted is Remove, and returns how many clients the user of the removed client still has in the channel, on all
	// nodes; -1 if it removed nothing, because the client is not there or is the member of another node. Of several clients
	// of a user that are removed at once, exactly one removal returns 0.
	RemoveCounted(ctx context.Context, node, channel, client string) (clients int, err error)
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

// presencePage is how many members are read at once.
const presencePage = 1000

// PresenceSeq is [Node.Presence] for channels with so many members that they should not be in memory at once: they are read in
// pages, if the presence is a [PresenceScanner], while the loop runs. Who is there all the time comes at least once; hardly
// ever, and never within a page, twice. After an error, which comes with no member, there is nothing more.
func (n *Node) PresenceSeq(ctx context.Context, channel string) iter.Seq2[ClientInfo, error] {
	return func(yield func(ClientInfo, error) bool) {
		if err := n.keepsPresence(channel); err != nil {
			yield(ClientInfo{}, err)
			return
		}
		for m, err := range n.scanMembers(ctx, channel) {
			if err != nil {
				err = fmt.Errorf("fanfare: presence of %q: %w", channel, err)
			}
			if !yield(m, err) {
				return
			}
		}
	}
}

// scanMembers reads the members of a channel in pages, if that is possible.
func (n *Node) scanMembers(ctx context.Context, channel string) iter.Seq2[ClientInfo, error] {
	scanner, ok := n.presence.(PresenceScanner)
	if !ok {
		scanner = wholePresence{n.presence}
	}
	return func(yield func(ClientInfo, error) bool) {
		cursor := ""
		seen := make(map[string]bool) // the clients of a page
		for {
			members, next, err := scanner.ScanMembers(ctx, channel, cursor, presencePage)
			if err != nil {
				yield(ClientInfo{}, err)
				return
			}
			clear(seen)
			for _, m := range members {
				if seen[m.Client] {
					continue
				}
				seen[m.Client] = true
				if !yield(m, nil) {
					return
				}
			}
			if next == "" {
				return
			}
			cursor = next
		}
	}
}

// wholePresence reads everything as one page.
type wholePresence struct{ Presence }

func (p wholePresence) ScanMembers(ctx context.Context, channel, _ string, _ int) ([]ClientInfo, string, error) {
	members, err := p.Members(ctx, channel)
	return members, "", err
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
