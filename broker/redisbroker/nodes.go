package redisbroker

import (
	"context"
	"errors"
	"maps"
	"slices"

	"github.com/fanfare-go/fanfare"
)

var _ fanfare.NodeLister = (*Broker)(nil)

// Nodes implements [fanfare.NodeLister]: it returns the nodes that have a lease, so also one that is detached and still has members in
// the presence. It asks every server, and fails only if none answers.
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
