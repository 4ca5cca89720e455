package redisbroker

import (
	"context"
	"errors"
	"maps"
	"slices"
)

// Nodes returns the ids of all nodes that have a lease, in no particular order: of those that are attached, or have members in the
// presence. One that died is among them until its lease is over. It asks every server, and fails only if none answers.
func (b *Broker) Nodes(ctx context.Context) ([]string, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	nodes := make(map[string]bool)
	var errs []error
	for _, s := range b.shards {
		v, err := s.keeper.refresh(ctx)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		for inc := range v.ends {
			if v.alive(inc) {
				nodes[nodeOf(inc)] = true
			}
		}
	}
	if len(errs) == len(b.shards) {
		return nil, errors.Join(errs...)
	}
	return slices.Collect(maps.Keys(nodes)), nil
}
