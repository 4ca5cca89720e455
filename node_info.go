package fanfare

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/fanfare-go/fanfare/internal/glob"
)

// maxSurveyedChannels bounds the channels that one node tells of.
const maxSurveyedChannels = 10_000

// Info is what the nodes of a broker are doing.
type Info struct {
	// Nodes are this node, and then the others by their ids.
	Nodes []NodeInfo
}

// NodeInfo is what one node is doing. The counts are those of the node alone.
type NodeInfo struct {
	// ID is [Node.ID], Name is [Config.Name], Version is that of fanfare.
	ID, Name, Version string
	// Clients are the connections that were authenticated, Users the different user ids among them: all anonymous connections
	// count as one user.
	Clients, Users int
	// Subscriptions are those of all clients, Channels are those that have any.
	Subscriptions, Channels int
	// Uptime is how long ago the node was made.
	Uptime time.Duration
}

// ChannelInfo is about a channel that is watched.
type ChannelInfo struct {
	// Clients is the number of subscriptions to it on all nodes.
	Clients int
}

// Info asks all nodes of the broker what they are doing. It waits for those that the broker lists, if it is a [NodeLister], or else
// for those that it has heard of, and for others for a quarter of a second; until the context ends, or for [Config.HookTimeout]. With
// the node's own broker there is nobody to ask. If nodes do not answer it returns what the others said, and a [*SurveyError].
func (n *Node) Info(ctx context.Context) (Info, error) {
	answers, err := n.surveys.ask(ctx, n, surveyMessage{Ask: askInfo})
	if _, some := errors.AsType[*SurveyError](err); err != nil && !some {
		return Info{}, err
	}
	var others []NodeInfo
	for _, a := range answers {
		if a.Info != nil {
			others = append(others, *a.Info)
		}
	}
	slices.SortFunc(others, func(a, b NodeInfo) int { return cmp.Compare(a.ID, b.ID) })
	return Info{Nodes: append([]NodeInfo{n.info()}, others...)}, err
}

// Channels asks all nodes which channels have subscribers now, and how many. A pattern selects some of them: "*" is any text,
// "?" one character, "[a-z]" one of a class, "{a,b}" one of several; the empty one selects all. It is expensive where there are many
// channels. Whom it waits for is as in [Node.Info]. A node tells of 10,000 channels at most: if there are more, or nodes do not
// answer, it returns what there is, and a [*SurveyError]. A malformed pattern is [ErrBadRequest].
func (n *Node) Channels(ctx context.Context, pattern string) (map[string]ChannelInfo, error) {
	if _, err := glob.Compile(pattern); err != nil {
		return nil, fmt.Errorf("fanfare: channels: %w: %w", ErrBadRequest, err)
	}
	answers, err := n.surveys.ask(ctx, n, surveyMessage{Ask: askChannels, Pattern: pattern})
	if _, some := errors.AsType[*SurveyError](err); err != nil && !some {
		return nil, err
	}
	own, more := n.watchedChannels(pattern)
	var incomplete []string
	channels := make(map[string]ChannelInfo, len(own))
	add := func(node string, list []surveyedChannel, more bool) {
		if more {
			incomplete = append(incomplete, node)
		}
		for _, c := range list {
			info := channels[string(c.Name)]
			info.Clients += c.Clients
			channels[string(c.Name)] = info
		}
	}
	add(n.id, own, more)
	for node, a := range answers {
		add(node, a.Channels, a.More)
	}
	return channels, partial(err, incomplete)
}

// info is what this node is doing.
func (n *Node) info() NodeInfo {
	i := NodeInfo{ID: n.id, Name: n.config.Name, Version: Version, Uptime: time.Since(n.began)}
	n.mu.RLock()
	i.Users = len(n.clients.users)
	for _, connections := range n.connected {
		i.Clients += connections
	}
	n.mu.RUnlock()
	for r := range n.hub.All() {
		if watching := r.watching(); watching > 0 {
			i.Channels++
			i.Subscriptions += watching
		}
	}
	return i
}

// watchedChannels returns the channels on this node that have subscribers and match, and whether there are more.
func (n *Node) watchedChannels(pattern string) (list []surveyedChannel, more bool) {
	g, err := glob.Compile(pattern)
	if err != nil {
		return nil, false // of a node that knows other patterns
	}
	for r := range n.hub.All() {
		if !g.Match(r.channel) {
			continue
		}
		watching := r.watching()
		switch {
		case watching == 0:
		case len(list) == maxSurveyedChannels:
			return list, true
		default:
			list = append(list, surveyedChannel{[]byte(r.channel), watching})
		}
	}
	return list, false
}

// watching is the number of subscribers.
func (r *room) watching() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.subscribers
}

// Payload returns the kind of data that a channel carries, or [ErrUnknownChannel].
func (n *Node) Payload(channel string) (Payload, error) {
	d, err := n.declared(channel)
	if err != nil {
		return 0, err
	}
	return d.options.Payload, nil
}
