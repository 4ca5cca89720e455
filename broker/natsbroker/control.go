package natsbroker

import (
	"context"

	"github.com/nats-io/nats.go"
)

// fromHeader names the node that has sent a control message to all, which does not get it itself.
const fromHeader = "Fanfare-From"

// SendControl implements [fanfare.ControlBus]. What is sent while a node is not connected, or faster than it takes it, is lost.
func (b *Broker) SendControl(ctx context.Context, from, to string, data []byte) error {
	_, cancel, err := b.begin(ctx)
	if err != nil {
		return err
	}
	defer cancel()
	m := nats.NewMsg(b.everybodySubject())
	if to != "" {
		m.Subject = b.controlSubject(to)
	} else {
		m.Header.Set(fromHeader, token(from))
	}
	m.Data = data
	return b.failed(ctx, b.nc.PublishMsg(m))
}

// listen hands control messages to the sink until the link is closed.
func (l *link) listen() {
	self := token(l.node)
	for {
		select {
		case <-l.closed:
			return
		case m := <-l.inbox:
			if m.Header.Get(fromHeader) == self {
				continue
			}
			l.calls.Lock()
			if !l.detached {
				l.sink.Control(m.Data)
			}
			l.calls.Unlock()
		}
	}
}
