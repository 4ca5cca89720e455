package websocket

import (
	"errors"
	"fmt"
	"io"
	"os"
	"runtime/debug"
	"syscall"
	"unicode/utf8"

	"github.com/fanfare-go/fanfare/transport"
)

// readsAtOnce is how often a connection is read before others get their turn.
const readsAtOnce = 16

// worker is what a goroutine of the pool brings to the connection that it reads.
type worker struct {
	buffer []byte
	parser *parser // nil while it is with a connection whose message is not complete
}

var (
	errDropped = errors.New("connection was dropped")
	errGoexit  = errors.New("session ended the goroutine")
)

// run reads what there is. It turns a panic of the session into the end of this one connection, as [net/http] does for
// handlers.
func (c *dense) run(w *worker) {
	err := errGoexit
	defer func() {
		if err == nil {
			return
		}
		if p := recover(); p != nil {
			c.finish(fmt.Errorf("websocket: panic in session: %v\n%s", p, debug.Stack()))
			return
		}
		c.finish(c.ending(err))
	}()
	err = c.read(w)
}

// read returns nil when it has given the connection back, and an error when that has ended.
func (c *dense) read(w *worker) error {
	if err := c.open(w); err != nil {
		return err
	}
	for {
		state := c.state.And(^uint32(stateAgain))
		switch {
		case state&stateDropped != 0:
			return errDropped
		case c.parted && !c.sealing():
			return errLeft
		}
		if drained, err := c.drainSocket(w, state&stateOver != 0); err != nil {
			return err
		} else if !drained {
			c.poller.pool.submit(c)
			return nil
		}
		for {
			state = c.state.Load()
			if state&stateAgain != 0 {
				break
			}
			if c.state.CompareAndSwap(state, state&^stateRunning) {
				return nil
			}
		}
	}
}

// open passes on what came with the request, once.
func (c *dense) open(w *worker) error {
	o := c.opening
	if o == nil {
		return nil
	}
	c.opening = nil
	if o.first != nil && c.session != nil {
		c.connected = true
		if c.session.Receive(o.first) != nil {
			c.endSession(c.borrow(w))
		}
	}
	return c.consume(w, o.early)
}

// drainSocket reads until there is nothing left, or for as long as is fair. A short read means that there is nothing left,
// unless the peer has ended its half: that is only reported once.
func (c *dense) drainSocket(w *worker, over bool) (drained bool, err error) {
	for range readsAtOnce {
		n, err := syscall.Read(int(c.fd), w.buffer)
		switch {
		case err == syscall.EAGAIN:
			return true, nil
		case err == syscall.EINTR:
			continue
		case err != nil:
			return false, os.NewSyscallError("read", err)
		case n == 0:
			return false, io.EOF
		}
		if err := c.consume(w, w.buffer[:n]); err != nil {
			return false, err
		}
		if n < len(w.buffer) && !over {
			return true, nil
		}
	}
	return false, nil
}

// borrow returns the parser of the message that is under way, or a fresh one.
func (c *dense) borrow(w *worker) *parser {
	if c.parser == nil {
		if c.parser, w.parser = w.parser, nil; c.parser == nil {
			c.parser = new(parser)
		}
		c.parser.reset(c.transport.options.MaxFrameSize)
	}
	return c.parser
}

// consume handles the frames in data. The parser stays with the connection only while it holds something.
func (c *dense) consume(w *worker, data []byte) error {
	p := c.borrow(w)
	for len(data) > 0 {
		op, payload, rest, err := p.next(data)
		if err == nil && op != 0 {
			err = c.handle(op, payload)
		}
		if err != nil {
			if err = c.fail(p, err); err != nil {
				return err
			}
		}
		data = rest
	}
	if p.idle() {
		c.parser, w.parser = nil, p
	}
	return nil
}

func (c *dense) handle(op byte, payload []byte) error {
	switch op {
	case opPing:
		return c.writeControl(appendControl(nil, finPong, payload))
	case opPong:
		if c.nativePing && string(payload) == pingPayload && c.session != nil && !c.closing.Load() && !c.ended {
			c.session.Pong()
		}
		return nil
	case opClose:
		return c.left(payload)
	}
	// Unidirectional clients have nothing to say after their connect request.
	ignore := c.ended || c.transport.uni && c.connected || c.closing.Load()
	switch {
	case op == opText && !utf8.Valid(payload):
		return errNotText
	case ignore:
		return nil
	}
	c.connected = true
	if c.session.Receive(payload) != nil {
		return errEnded
	}
	return nil
}

// fail ends the connection for a reason of its own. It returns nil if the peer's part of the closing handshake is still
// to be read.
func (c *dense) fail(p *parser, err error) error {
	if errors.Is(err, errEnded) {
		c.endSession(p)
		return nil
	}
	var code uint16
	switch v := new(violation); {
	case errors.Is(err, transport.ErrTooLarge):
		code = 1009
	case errors.Is(err, errNotText):
		code = 1007
	case errors.As(err, &v):
		if c.closing.CompareAndSwap(false, true) {
			c.cause = fmt.Errorf("websocket: read: %w", err)
			_ = c.seal(appendClose(nil, v.code, v.text))
		}
		return err
	default:
		return err
	}
	p.discard = true
	if !c.closing.CompareAndSwap(false, true) {
		return nil
	}
	c.cause = err
	// Clients expect no reason (spec 2.4).
	return c.shut(code, "", closeWait+2*c.transport.options.WriteTimeout)
}

// endSession reads on without a session, because the core is about to call Close, and the peer's part of the closing
// handshake has to be read. It does not wait for that for ever.
func (c *dense) endSession(p *parser) {
	c.ended = true
	p.discard = true
	if !c.closing.Load() {
		c.dropAfter(2*closeWait + 2*c.transport.options.WriteTimeout)
	}
}

// left answers the peer's close frame. If ours is still on its way, the connection lasts until that is written.
func (c *dense) left(payload []byte) error {
	code, reason, err := closePayload(payload)
	if err != nil {
		return err
	}
	err = c.seal(appendControl(nil, finClose, payload))
	if errors.Is(err, errSealed) && c.sealing() {
		c.parted = true
		return nil
	}
	switch {
	case code == 1000, code == 1001, code == 1005, code >= 3000:
		return errLeft
	}
	return fmt.Errorf("received close frame: code %d, reason %q", code, reason)
}
