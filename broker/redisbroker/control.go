package redisbroker

import (
	"context"

	"github.com/fanfare-go/fanfare"
)

var _ fanfare.ControlBus = (*Broker)(nil)

// SendControl implements [fanfare.ControlBus]: by a channel in Redis for each node, and one for all. What is under way when a
// connection breaks is lost.
func (b *Broker) SendControl(ctx context.Context, from, to string, data []byte) error {
	name := b.key(kindControl, to) // of nobody is that of all: no node has an empty id
	return b.send(ctx, b.shard(to), name, appendControl(nil, from, data))
}
