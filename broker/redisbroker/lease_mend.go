package redisbroker

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/fanfare-go/fanfare"
)

const (
	// mendAtOnce bounds the clients that one script changes.
	mendAtOnce = 100
	// mendWorkers bounds the scripts that are under way while a server is told again what it may have lost.
	mendWorkers = 16
)

// mendAll brings Redis to what the nodes have, whenever the leases were renewed.
func (k *keeper) mendAll() {
	for {
		select {
		case <-k.leases.ctx.Done():
			return
		case <-k.mending:
		}
		k.noteServers()
		k.mu.Lock()
		holdings := slices.Collect(maps.Values(k.holdings))
		k.mu.Unlock()
		for _, h := range holdings {
			if err := errors.Join(k.mend(k.leases.ctx, h), k.tidy(k.leases.ctx, h)); err != nil {
				k.leases.broker.config.Logger.Debug("presence is not told again yet", slog.Any("err", err)) // tried again with the next renewal
			}
		}
	}
}

type repairKey struct {
	key     placeKey
	leaving bool // the clients are to be taken out
}

// repair is a set of clients at one place that are to be told again.
type repair struct {
	repairKey
	clients []string
	entries []*entry
}

// mend tells the server what it may know wrongly of a node, and returns when it knows.
func (k *keeper) mend(ctx context.Context, h *holding) error {
	select {
	case h.mending <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	defer func() { <-h.mending }()
	var group errgroup.Group // a place that fails, on a server of a Cluster that is away for instance, must not keep others waiting
	group.SetLimit(mendWorkers)
	var repairs []repair
	for _, r := range k.dirty(h) {
		for i := 0; i < len(r.clients); i += mendAtOnce {
			end := min(i+mendAtOnce, len(r.clients))
			repairs = append(repairs, repair{r.repairKey, r.clients[i:end], r.entries[i:end]})
		}
	}
	for _, r := range repairs {
		group.Go(func() error { return k.repair(ctx, h, r) })
	}
	return group.Wait()
}

// dirty takes out what is to be told again. Every repair is to be settled.
func (k *keeper) dirty(h *holding) map[repairKey]*repair {
	k.mu.Lock()
	defer k.mu.Unlock()
	repairs := make(map[repairKey]*repair)
	for d := range h.dirty {
		p := h.places[d.place]
		if p == nil || p.entries[d.client] == nil || !p.entries[d.client].dirty {
			continue
		}
		e := p.entries[d.client]
		e.dirty = false
		p.busy++
		delete(h.empty, d.place)
		g := repairKey{d.place, e.leaving}
		r := repairs[g]
		if r == nil {
			r = &repair{repairKey: g}
			repairs[g] = r
		}
		r.clients, r.entries = append(r.clients, d.client), append(r.entries, e)
	}
	clear(h.dirty)
	return repairs
}

// repair tells the server of some clients.
func (k *keeper) repair(ctx context.Context, h *holding, r repair) error {
	err := ctx.Err()
	inc := ""
	if err == nil && !r.leaving {
		inc, err = k.enterAgain(ctx, h, forLink|forMembers, r.key)
	}
	if err == nil {
		err = k.tellAgain(ctx, h, inc, r)
	}
	k.mu.Lock()
	settled := err
	if err == nil && !r.leaving && h.inc != inc {
		settled = errLost
	}
	var back []fanfare.ClientInfo
	for i, e := range r.entries {
		if e.mourned && settled == nil && !r.leaving {
			e.mourned = false
			back = append(back, e.info)
		}
		h.settle(r.key, h.places[r.key], r.clients[i], e, r.leaving, settled)
	}
	k.mu.Unlock()
	if len(back) > 0 {
		k.leases.tellBack(h.node, r.key.name, back)
	}
	return err
}

var errLost = errors.New("the lease was lost")

// tellAgain runs the script for some clients.
func (k *keeper) tellAgain(ctx context.Context, h *holding, inc string, r repair) error {
	if r.key.kind == kindUser {
		return k.connectionsAgain(ctx, h, inc, r)
	}
	return k.membersAgain(ctx, h, inc, r)
}

// noteServers finds out whether one of the servers is another than before, or has been started again: then it may have lost what it
// was told, even if the leases, which are on one of them, are still there.
func (k *keeper) noteServers() {
	ctx, cancel := context.WithTimeout(k.leases.ctx, min(k.leases.broker.config.Timeout, k.lease/3))
	defer cancel()
	masters := k.shard.masters.all()
	lives := make(chan string, len(masters))
	var asked sync.WaitGroup
	for _, m := range masters {
		asked.Go(func() {
			info, err := m.client.Do(ctx, m.client.B().Info().Section("replication").Build()).ToString()
			if err == nil {
				lives <- life(info)
			}
		})
	}
	asked.Wait()
	close(lives)
	seen := make(map[string]bool, len(masters))
	for life := range lives {
		if life != "" {
			seen[life] = true
		}
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.noteLives(seen)
}

// noteLives has everything told again if a life is among these that was not seen before. Then it forgets the lives that are not: most
// of them are over, and whoever merely did not answer just now is taken for another when it does, which costs no more than telling it
// what it knows. The lock is held.
func (k *keeper) noteLives(seen map[string]bool) {
	news := false
	for life := range seen {
		news = news || !k.servers[life]
	}
	if !news {
		return
	}
	if k.servers != nil { // else there is nothing to compare these with
		for _, h := range k.holdings {
			h.soil()
		}
	}
	k.servers = seen
}

// life names one life of a master, of what INFO says; empty for a replica.
func life(info string) string {
	var master bool
	var id string
	for line := range strings.Lines(info) {
		switch name, value, _ := strings.Cut(strings.TrimSpace(line), ":"); name {
		case "role":
			master = value == "master"
		case "master_replid":
			id = value
		}
	}
	if !master {
		return ""
	}
	return id
}
