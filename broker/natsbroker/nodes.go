package natsbroker

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// A lease is a message that the server deletes when it is over. Whoever has one is in the list of nodes.

// lease makes a node known for the time of a lease.
func (b *Broker) lease(ctx context.Context, node string) error {
	m := nats.NewMsg(b.leaseSubject(node))
	m.Header.Set(jetstream.MsgTTLHeader, b.config.Lease.Round(time.Second).String())
	_, err := b.stored(b.js.PublishMsg(ctx, m, jetstream.WithRetryAttempts(0)))
	return err
}

// renew prolongs the leases of the nodes of this broker. What fails is tried again the next time.
func (b *Broker) renew(ctx context.Context) {
	for _, l := range b.attached() {
		if !l.isClosed() {
			_ = b.lease(ctx, l.node)
		}
	}
}

// release ends the lease of a node. If the server is away it ends by itself.
func (b *Broker) release(node string) {
	if !b.nc.IsConnected() {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), b.config.Timeout)
	defer cancel()
	_ = b.purge(ctx, b.leaseSubject(node), 0)
}

// Nodes implements [fanfare.NodeLister]. A node that died without a word is in the list until its lease is over.
func (b *Broker) Nodes(ctx context.Context) ([]string, error) {
	timed, cancel, err := b.begin(ctx)
	if err != nil {
		return nil, err
	}
	defer cancel()
	info, err := (*b.stream.Load()).Info(timed, jetstream.WithSubjectFilter(b.config.Prefix+".n.*"))
	if err != nil {
		if errors.Is(err, jetstream.ErrStreamNotFound) {
			b.mend()
		}
		return nil, b.failed(ctx, err)
	}
	nodes := make([]string, 0, len(info.State.Subjects))
	for subject := range info.State.Subjects {
		if node, err := untoken(subject[strings.LastIndexByte(subject, '.')+1:]); err == nil {
			nodes = append(nodes, node)
		}
	}
	return nodes, nil
}
