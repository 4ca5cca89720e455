package redisbroker

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/fanfare-go/fanfare"
)

// memberPage bounds the members that Redis reads at once.
const memberPage = 1000

var errCursor = errors.New("redisbroker: malformed cursor")

// ScanMembers implements [fanfare.PresenceScanner]. A page has at most limit members, and never more than 1000. Redis reads one page
// at a time, in the order of nodes and clients, and serves others between two.
func (p *Presence) ScanMembers(ctx context.Context, channel, cursor string, limit int) (members []fanfare.ClientInfo, next string, err error) {
	k, err := p.keeper(ctx, channel)
	if err != nil {
		return nil, "", err
	}
	if limit <= 0 || limit > memberPage {
		limit = memberPage
	}
	for {
		members, cursor, err = k.memberPage(ctx, channel, cursor, limit)
		if err != nil || len(members) > 0 || cursor == "" {
			return members, cursor, err
		}
	}
}

// memberPage returns those of a page that are of living nodes.
func (k *keeper) memberPage(ctx context.Context, channel, cursor string, limit int) ([]fanfare.ClientInfo, string, error) {
	from, after, ok := strings.Cut(cursor, ":")
	if _, err := strconv.ParseUint(from, 10, 64); cursor != "" && (!ok || err != nil) {
		return nil, "", fmt.Errorf("%w %q", errCursor, cursor)
	}
	result, err := k.shard.run(ctx, presencePage, k.presenceKeys(channel), []string{from, after, strconv.Itoa(limit)})
	if err != nil {
		return nil, "", err
	}
	answer, err := result.ToArray()
	if err != nil {
		return nil, "", unexpected(err)
	}
	var lists [3][]string
	for i := range lists {
		if lists[i], err = answer[i].AsStrSlice(); err != nil {
			return nil, "", unexpected(err)
		}
	}
	holders, clients, values := lists[0], lists[1], lists[2]
	alive, err := k.aliveNumbers(ctx, channel, holders)
	if err != nil {
		return nil, "", err
	}
	members := make([]fanfare.ClientInfo, 0, len(values))
	for i, value := range values {
		if !alive[clients[2*i+1]] {
			continue
		}
		if m, err := parseMember(clients[2*i], value); err == nil {
			members = append(members, m)
		}
	}
	if len(values) < limit {
		return members, "", nil
	}
	return members, clients[len(clients)-1] + ":" + clients[len(clients)-2], nil
}

// aliveNumbers returns which of a channel's incarnations live, by their numbers there.
func (k *keeper) aliveNumbers(ctx context.Context, channel string, holders []string) (map[string]bool, error) {
	incs := make([]string, 0, len(holders)/2)
	for i := 0; i+1 < len(holders); i += 2 {
		incs = append(incs, holders[i])
	}
	v, err := k.judgeChannel(ctx, channel, incs)
	if err != nil {
		return nil, err
	}
	alive := make(map[string]bool, len(incs))
	for i, inc := range incs {
		alive[holders[2*i+1]] = v.alive(inc)
	}
	return alive, nil
}

// judgeChannel is judge, for incarnations that have members in a channel. One that lost its lease without anybody sweeping it is
// handed to those who sweep, after the time of a lease in which its node may come back.
func (k *keeper) judgeChannel(ctx context.Context, channel string, incs []string) (*view, error) {
	v, err := k.judge(ctx, incs)
	if err != nil {
		return nil, err
	}
	for _, inc := range incs {
		if _, ok := v.ends[inc]; ok || v.dying[inc] || !k.orphan(channel, inc) {
			continue
		}
		place := placeKey{kindMembers, channel}.indexed()
		if _, err := k.shard.run(ctx, leaseIndex, []string{k.index(inc)}, []string{"ZADD", "0", place}); err != nil {
			return nil, err
		}
		if _, err := k.shard.run(ctx, leaseEnd, k.keys, []string{milliseconds(k.lease), "0", inc}); err != nil {
			return nil, err
		}
	}
	return v, nil
}

// orphan reports whether nobody has been told yet of a dead incarnation in a channel.
func (k *keeper) orphan(channel, inc string) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	d := debt{placeKey{kindMembers, channel}, inc}
	if len(k.orphans) > 10_000 {
		clear(k.orphans)
	}
	first := !k.orphans[d]
	k.orphans[d] = true
	return first
}

// Members implements [fanfare.Presence]. It reads page after page.
func (p *Presence) Members(ctx context.Context, channel string) ([]fanfare.ClientInfo, error) {
	all, cursor, err := p.ScanMembers(ctx, channel, "", memberPage)
	if err != nil || cursor == "" {
		return all, err
	}
	for cursor != "" {
		var page []fanfare.ClientInfo
		if page, cursor, err = p.ScanMembers(ctx, channel, cursor, memberPage); err != nil {
			return nil, err
		}
		all = append(all, page...)
	}
	// One whose node had to begin anew meanwhile may have come twice.
	slices.SortStableFunc(all, func(a, b fanfare.ClientInfo) int { return strings.Compare(a.Client, b.Client) })
	return slices.CompactFunc(all, func(a, b fanfare.ClientInfo) bool { return a.Client == b.Client }), nil
}
