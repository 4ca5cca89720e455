package fanfare

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"sync"

	"github.com/fanfare-go/fanfare/transport"
)

// maxForwarded bounds what waits for one session beside its command queue, in bytes.
const maxForwarded = 256 << 10

// emulated is the session of a connection that gets its commands in requests of their own (spec 8.4). These may come all at
// once, and at any node: they are taken in the order of their arrival, one by one, and nobody waits for that.
type emulated struct {
	session

	mu      sync.Mutex // guards below
	waiting [][]byte
	bytes   int
	running bool // a goroutine hands them over
}

var _ transport.Session = (*emulated)(nil)

// Receive takes a frame, also from the transport.
func (e *emulated) Receive(frame []byte) error {
	if e.ctx.Err() != nil {
		return ErrClosed
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.bytes > 0 && e.bytes+len(frame) > maxForwarded {
		return transport.ErrBusy
	}
	e.waiting = append(e.waiting, bytes.Clone(frame))
	e.bytes += len(frame)
	if !e.running {
		// Owned by the node: it ends when nothing waits, or with the client.
		e.running = e.node.goroutines.start(e.handOver)
	}
	return nil
}

func (e *emulated) handOver() {
	for {
		e.mu.Lock()
		if len(e.waiting) == 0 || e.ctx.Err() != nil {
			e.running, e.waiting, e.bytes = false, nil, 0
			e.mu.Unlock()
			return
		}
		frame := e.waiting[0]
		e.waiting[0] = nil
		e.waiting = e.waiting[1:]
		e.bytes -= len(frame)
		e.mu.Unlock()
		_ = e.session.Receive(frame) // an error says that the client is closing: seen above
	}
}

// Closed implements [transport.Session].
func (e *emulated) Closed(err error) {
	n := e.node
	n.mu.Lock()
	delete(n.emulated, e.Client.session)
	n.mu.Unlock()
	e.session.Closed(err)
}

// Forward implements [transport.Acceptor].
func (a acceptor) Forward(ctx context.Context, node, session string, frame []byte) error {
	n := a.n
	if node == n.id {
		return n.receive(session, frame)
	}
	bus, ok := n.broker.(ControlBus)
	if !ok || n.ownsBroker {
		return transport.ErrUnknownNode
	}
	data, err := json.Marshal(controlMessage{Op: opReceive, Session: session, Frame: frame})
	if err != nil {
		return fmt.Errorf("fanfare: control message: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, n.config.HookTimeout)
	defer cancel()
	if err := bus.SendControl(ctx, n.id, node, data); err != nil {
		return fmt.Errorf("fanfare: forward to node %q: %w", node, err)
	}
	return nil
}

// receive gives a frame to a session of this node, if it is still there.
func (n *Node) receive(session string, frame []byte) error {
	n.mu.RLock()
	e := n.emulated[session]
	n.mu.RUnlock()
	if e == nil {
		return nil
	}
	if err := e.Receive(frame); err == transport.ErrBusy {
		n.log.Warn("commands of an emulated connection are refused: too many are waiting", slog.String("client", e.id), slog.String("user", e.User()))
		return err
	}
	return nil
}
