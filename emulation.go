package fanfare

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"

	"github.com/fanfare-go/fanfare/internal/doctor"
	"github.com/fanfare-go/fanfare/transport"
)

const (
	// maxForwarded bounds what waits for one session beside its command queue, in bytes.
	maxForwarded = 256 << 10
	// forwardedOverhead is what a waiting frame counts beside its bytes.
	forwardedOverhead = 64
)

// emulated is the session of a connection that gets its commands in requests of their own (spec 8.4). These may come all at
// once, and at any node: they are taken in the order of their arrival, one by one, and nobody waits for that.
type emulated struct {
	session

	mu      sync.Mutex // guards below
	waiting [][]byte
	bytes   int
	running bool // a goroutine hands them over
	heard   int  // frames that came, up to 2
	warned  bool // that it has too many
}

var _ transport.Session = (*emulated)(nil)

// Receive takes a frame, also from the transport.
func (e *emulated) Receive(frame []byte) error {
	if e.ctx.Err() != nil {
		return ErrClosed
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.heard = min(e.heard+1, 2)
	size := len(frame) + forwardedOverhead
	if e.bytes > 0 && e.bytes+size > maxForwarded {
		if !e.warned {
			e.warned = true
			e.node.log.Warn("commands of an emulated connection are refused: too many are waiting", slog.String("client", e.id),
				slog.String("user", e.User()))
		}
		return transport.ErrBusy
	}
	e.waiting = append(e.waiting, bytes.Clone(frame))
	e.bytes += size
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
		e.bytes -= len(frame) + forwardedOverhead
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
	if n.practice != nil && e.unanswering() {
		n.practice.tell(e.info.Name, doctor.Silent())
	}
}

// unanswering reports whether the client was given up for saying nothing, and never said more than its first frame.
func (e *emulated) unanswering() bool {
	e.mu.Lock()
	silent := e.heard < 2
	e.mu.Unlock()
	e.Client.mu.Lock()
	defer e.Client.mu.Unlock()
	return silent && e.closing == DisconnectNoPong
}

// Forward implements [transport.Acceptor]. Brokers do not know which nodes there are: with one that serves several, no node is
// unknown if its name could be one.
func (a acceptor) Forward(ctx context.Context, node, session string, frame []byte) error {
	n := a.n
	if node == n.id {
		if e := n.emulatedSession(session); e != nil && errors.Is(e.Receive(frame), transport.ErrBusy) {
			return transport.ErrBusy
		}
		return nil
	}
	if _, ok := n.broker.(ControlBus); !ok || n.ownsBroker || !isID(node) { // an empty name would be every node's
		return transport.ErrUnknownNode
	}
	if err := n.send(ctx, node, &controlMessage{Op: opReceive, Session: session, Frame: frame}); err != nil {
		return fmt.Errorf("fanfare: forward to node %q: %w", node, err)
	}
	return nil
}

// emulatedSession returns a session of this node, or nil.
func (n *Node) emulatedSession(session string) *emulated {
	n.mu.RLock()
	defer n.mu.RUnlock()
	return n.emulated[session]
}

// receiveForwarded takes what another node has accepted already: commands that cannot be taken must not be lost without a
// word, so the client has to come back.
func (n *Node) receiveForwarded(session string, frame []byte) {
	if e := n.emulatedSession(session); e != nil && errors.Is(e.Receive(frame), transport.ErrBusy) {
		e.close(DisconnectTooManyRequests)
	}
}
