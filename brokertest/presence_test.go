package brokertest

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare"
)

func TestRunPresence_Shared(t *testing.T) {
	var shared sync.Map
	RunPresence(t, PresenceOptions{
		Shared: true,
		New: func(t testing.TB) fanfare.Presence {
			p, known := shared.LoadOrStore(t, fanfare.NewMemoryPresence())
			if !known {
				t.Cleanup(func() { require.NoError(t, p.(*fanfare.MemoryPresence).Close()) })
			}
			return &presenceView{MemoryPresence: p.(*fanfare.MemoryPresence)}
		},
	})
}

// presenceView is a connection to a presence: closing it leaves the others alone.
type presenceView struct {
	*fanfare.MemoryPresence
	mu     sync.Mutex // guards below
	closed bool
}

func (v *presenceView) open() error {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.closed {
		return fanfare.ErrClosed
	}
	return nil
}

func (v *presenceView) Add(ctx context.Context, node, channel string, m fanfare.ClientInfo) error {
	if err := v.open(); err != nil {
		return err
	}
	return v.MemoryPresence.Add(ctx, node, channel, m)
}

func (v *presenceView) Remove(ctx context.Context, node, channel, client string) error {
	if err := v.open(); err != nil {
		return err
	}
	return v.MemoryPresence.Remove(ctx, node, channel, client)
}

func (v *presenceView) Members(ctx context.Context, channel string) ([]fanfare.ClientInfo, error) {
	if err := v.open(); err != nil {
		return nil, err
	}
	return v.MemoryPresence.Members(ctx, channel)
}

func (v *presenceView) Stats(ctx context.Context, channel string) (fanfare.PresenceStats, error) {
	if err := v.open(); err != nil {
		return fanfare.PresenceStats{}, err
	}
	return v.MemoryPresence.Stats(ctx, channel)
}

func (v *presenceView) RemoveNode(ctx context.Context, node string) error {
	if err := v.open(); err != nil {
		return err
	}
	return v.MemoryPresence.RemoveNode(ctx, node)
}

func (v *presenceView) ScanMembers(ctx context.Context, channel, cursor string, limit int) ([]fanfare.ClientInfo, string, error) {
	if err := v.open(); err != nil {
		return nil, "", err
	}
	return v.MemoryPresence.ScanMembers(ctx, channel, cursor, limit)
}

func (v *presenceView) AddCounted(ctx context.Context, node, channel string, m fanfare.ClientInfo) (int, error) {
	if err := v.open(); err != nil {
		return 0, err
	}
	return v.MemoryPresence.AddCounted(ctx, node, channel, m)
}

func (v *presenceView) RemoveCounted(ctx context.Context, node, channel, client string) (int, error) {
	if err := v.open(); err != nil {
		return 0, err
	}
	return v.MemoryPresence.RemoveCounted(ctx, node, channel, client)
}

func (v *presenceView) Close() error {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.closed = true
	return nil
}

type presence = *fanfare.MemoryPresence

// faultyPresence is a good presence with one method that is not. A nil function is the good presence's own.
type faultyPresence struct {
	*fanfare.MemoryPresence
	add        func(p *fanfare.MemoryPresence, ctx context.Context, node, channel string, m fanfare.ClientInfo) error
	remove     func(p *fanfare.MemoryPresence, ctx context.Context, node, channel, client string) error
	members    func(p *fanfare.MemoryPresence, ctx context.Context, channel string) ([]fanfare.ClientInfo, error)
	stats      func(p *fanfare.MemoryPresence, ctx context.Context, channel string) (fanfare.PresenceStats, error)
	removeNode func(p *fanfare.MemoryPresence, ctx context.Context, node string) error
	closing    func(p *fanfare.MemoryPresence) error

	scan          func(p *fanfare.MemoryPresence, ctx context.Context, channel, cursor string, limit int) ([]fanfare.ClientInfo, string, error)
	addCounted    func(p *fanfare.MemoryPresence, ctx context.Context, node, channel string, m fanfare.ClientInfo) (int, error)
	removeCounted func(p *fanfare.MemoryPresence, ctx context.Context, node, channel, client string) (int, error)
}

func (f faultyPresence) on() fanfare.Presence {
	f.MemoryPresence = fanfare.NewMemoryPresence()
	return &f
}

func (f *faultyPresence) Add(ctx context.Context, node, channel string, m fanfare.ClientInfo) error {
	if f.add != nil {
		return f.add(f.MemoryPresence, ctx, node, channel, m)
	}
	return f.MemoryPresence.Add(ctx, node, channel, m)
}

func (f *faultyPresence) Remove(ctx context.Context, node, channel, client string) error {
	if f.remove != nil {
		return f.remove(f.MemoryPresence, ctx, node, channel, client)
	}
	return f.MemoryPresence.Remove(ctx, node, channel, client)
}

func (f *faultyPresence) Members(ctx context.Context, channel string) ([]fanfare.ClientInfo, error) {
	if f.members != nil {
		return f.members(f.MemoryPresence, ctx, channel)
	}
	return f.MemoryPresence.Members(ctx, channel)
}

func (f *faultyPresence) Stats(ctx context.Context, channel string) (fanfare.PresenceStats, error) {
	if f.stats != nil {
		return f.stats(f.MemoryPresence, ctx, channel)
	}
	return f.MemoryPresence.Stats(ctx, channel)
}

func (f *faultyPresence) RemoveNode(ctx context.Context, node string) error {
	if f.removeNode != nil {
		return f.removeNode(f.MemoryPresence, ctx, node)
	}
	return f.MemoryPresence.RemoveNode(ctx, node)
}

func (f *faultyPresence) Close() error {
	if f.closing != nil {
		return f.closing(f.MemoryPresence)
	}
	return f.MemoryPresence.Close()
}

func (f *faultyPresence) ScanMembers(ctx context.Context, channel, cursor string, limit int) ([]fanfare.ClientInfo, string, error) {
	if f.scan != nil {
		return f.scan(f.MemoryPresence, ctx, channel, cursor, limit)
	}
	return f.MemoryPresence.ScanMembers(ctx, channel, cursor, limit)
}

func (f *faultyPresence) AddCounted(ctx context.Context, node, channel string, m fanfare.ClientInfo) (int, error) {
	if f.addCounted != nil {
		return f.addCounted(f.MemoryPresence, ctx, node, channel, m)
	}
	return f.MemoryPresence.AddCounted(ctx, node, channel, m)
}

func (f *faultyPresence) RemoveCounted(ctx context.Context, node, channel, client string) (int, error) {
	if f.removeCounted != nil {
		return f.removeCounted(f.MemoryPresence, ctx, node, channel, client)
	}
	return f.MemoryPresence.RemoveCounted(ctx, node, channel, client)
}

// presenceFaults break one sentence each, by its name.
var presenceFaults = map[string]faultyPresence{
	"AddPutsAClientIn": {add: func(p presence, ctx context.Context, node, channel string, m fanfare.ClientInfo) error {
		m.ChanInfo = nil
		return p.Add(ctx, node, channel, m)
	}},
	"AddReplaces": {add: func(p presence, ctx context.Context, node, channel string, m fanfare.ClientInfo) error {
		if members, err := p.Members(ctx, channel); err != nil || len(members) > 0 {
			return err
		}
		return p.Add(ctx, node, channel, m)
	}},
	"RemoveTakesAClientOut": {remove: func(p presence, ctx context.Context, node, channel, client string) error {
		if stats, err := p.Stats(ctx, channel); err != nil || stats.Clients == 0 {
			return errors.New("no such channel")
		}
		return p.Remove(ctx, node, channel, client)
	}},
	"RemoveIsTheOwners": {remove: func(p presence, ctx context.Context, _, channel, client string) error {
		for _, suffix := range []string{"one", "two"} {
			prefix, _, _ := strings.Cut(channel, ":")
			if err := p.Remove(ctx, prefix+":"+suffix, channel, client); err != nil {
				return err
			}
		}
		return nil
	}},
	"StatsCountUsers": {stats: func(p presence, ctx context.Context, channel string) (fanfare.PresenceStats, error) {
		stats, err := p.Stats(ctx, channel)
		stats.Users = stats.Clients
		return stats, err
	}},
	"RemoveNodeTakesAllItsMembers": {removeNode: func(presence, context.Context, string) error { return nil }},
	"MembersAreTheCallers": {members: func() func(p presence, ctx context.Context, channel string) ([]fanfare.ClientInfo, error) {
		var first []fanfare.ClientInfo
		return func(p presence, ctx context.Context, channel string) ([]fanfare.ClientInfo, error) {
			var err error
			if first == nil {
				first, err = p.Members(ctx, channel)
			}
			return first, err
		}
	}()},
	"AnyName": {add: func(p presence, ctx context.Context, node, channel string, m fanfare.ClientInfo) error {
		return p.Add(ctx, node, strings.ReplaceAll(channel, "*", "x"), m)
	}},
	"ConcurrentUse": {stats: func(p presence, ctx context.Context, channel string) (fanfare.PresenceStats, error) {
		_, err := p.Stats(ctx, channel)
		return fanfare.PresenceStats{}, err
	}},
	"ScanReadsEverybody": {scan: func(p presence, ctx context.Context, channel, cursor string, limit int) ([]fanfare.ClientInfo, string, error) {
		members, _, err := p.ScanMembers(ctx, channel, cursor, limit)
		return members, "", err // the first page is the last
	}},
	"ScanBesideOthers": {scan: func(p presence, ctx context.Context, channel, cursor string, limit int) ([]fanfare.ClientInfo, string, error) {
		members, err := p.Members(ctx, channel) // the cursor is an index
		slices.SortFunc(members, func(a, b fanfare.ClientInfo) int { return strings.Compare(a.Client, b.Client) })
		from, _ := strconv.Atoi(cursor)
		to := min(from+limit, len(members))
		if to == len(members) {
			return members[min(from, to):], "", err
		}
		return members[from:to], strconv.Itoa(to), err
	}},
	"CountedOnAllNodes": {removeCounted: func(p presence, ctx context.Context, node, channel, client string) (int, error) {
		n, err := p.RemoveCounted(ctx, node, channel, client)
		return max(n, 0), err
	}},
	"CountedAtOnce": {removeCounted: func(p presence, ctx context.Context, node, channel, client string) (int, error) {
		members, err := p.Members(ctx, channel) // in two steps
		if err != nil {
			return 0, err
		}
		time.Sleep(time.Millisecond)
		return len(members) - 1, p.Remove(ctx, node, channel, client)
	}},
	"CancelledContext": {removeNode: func(p presence, ctx context.Context, node string) error {
		return p.RemoveNode(context.WithoutCancel(ctx), node)
	}},
	"CloseTwice": {closing: func(presence) error { return nil }},
}

func TestRunPresence_FindsFaults(t *testing.T) {
	if inChild() {
		for _, s := range presenceSentences {
			t.Run(s.name, func(t *testing.T) {
				s.check(t, PresenceOptions{New: func(testing.TB) fanfare.Presence { return presenceFaults[s.name].on() }})
			})
		}
		return
	}
	texts := make(map[string]string)
	for _, s := range presenceSentences {
		require.Contains(t, presenceFaults, s.name, "no presence breaks this sentence")
		texts[s.name] = s.text
	}
	require.Len(t, presenceFaults, len(texts))
	requireFaultsFound(t, texts)
}
