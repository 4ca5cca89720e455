package websocket

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"syscall"
	"time"
)

var errSealed = errors.New("websocket: a close frame was written before")

// pending is what a connection has to write that its socket did not take. It exists only then.
type pending struct {
	begun []byte // the rest of a control frame, or the end of the connection: goes first
	rest  []byte // what is missing of the frames that are being written, or that TryWrite had to cut; shared, read-only
	held  []byte // whole control frames that wait for rest
}

// TryWrite implements [transport.TryWriter]. It writes nothing while another write is under way.
func (c *dense) TryWrite(frames []byte) (int, error) {
	if !c.mu.TryLock() {
		return 0, nil
	}
	defer c.mu.Unlock()
	if err := c.unwritable(); err != nil {
		return 0, fmt.Errorf("websocket: write: %w", err)
	}
	if c.pending != nil {
		return 0, nil
	}
	n, err := c.attempt(frames)
	if err != nil {
		return n, fmt.Errorf("websocket: write: %w", err)
	}
	if n < len(frames) {
		// A copy, for frames belong to the core, and Close may have to finish this one.
		if rest := bytes.Clone(cutFrame(frames, n)); len(rest) > 0 {
			c.pending = &pending{rest: rest}
		}
	}
	return n, nil
}

// Write implements [transport.Conn].
func (c *dense) Write(frames []byte) error {
	if err := c.send(frames); err != nil {
		return fmt.Errorf("websocket: write: %w", err)
	}
	return nil
}

func (c *dense) send(frames []byte) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.unwritable(); err != nil {
		return err
	}
	if c.pending == nil {
		n, err := c.attempt(frames)
		if err != nil || n == len(frames) {
			return err
		}
		frames = frames[n:]
		c.pending = new(pending)
	}
	c.pending.rest = frames // which begin with what TryWrite had to cut
	return c.flush(false, func() bool { return c.pending == nil })
}

// writeControl answers the peer. An answer that would cut into a data frame waits; others are worth waiting for, until the
// timeout, because who asks and does not listen shall not ask on.
func (c *dense) writeControl(frame []byte) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.unwritable() != nil {
		return nil // reading shows how it ended
	}
	if c.pending == nil {
		n, err := c.attempt(frame)
		if err != nil || n == len(frame) {
			return err
		}
		c.pending = &pending{begun: frame[n:]}
	} else if p := c.pending; len(p.rest) > 0 {
		if len(p.held)+len(frame) > maxHeld {
			p.held = nil
		}
		p.held = append(p.held, frame...)
		return nil
	} else {
		p.begun = append(p.begun, frame...)
	}
	err := c.flush(false, func() bool { return c.pending == nil || len(c.pending.begun) == 0 })
	if c.sealed {
		return nil
	}
	return err
}

// seal writes a close frame as the last one, after what is missing of a cut frame. It takes that over from a Write that
// waits, which fails. Only the first call does anything.
func (c *dense) seal(frame []byte) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.sealed {
		return errSealed
	}
	if c.broken != nil {
		return c.broken
	}
	c.sealed = true
	if c.pending == nil {
		c.pending = new(pending)
	}
	c.pending = &pending{begun: slices.Concat(c.pending.begun, c.pending.rest, frame)}
	c.awaken()
	return c.flush(true, func() bool { return c.pending == nil })
}

// sealing reports whether a close frame is on its way, and still might get through.
func (c *dense) sealing() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.sealed && c.pending != nil && c.broken == nil
}

// flush writes what is pending, waiting for the socket, until done says that it was enough. Without progress by a piece it
// gives up after the timeout, and the connection is broken: the peer may have got half a frame. The caller holds mu, which
// is released while waiting.
func (c *dense) flush(sealing bool, done func() bool) error {
	timeout := c.transport.options.WriteTimeout
	deadline, progress := time.Now().Add(timeout), 0
	for {
		if c.sealed && !sealing {
			return net.ErrClosed
		}
		if c.broken != nil {
			return c.broken
		}
		n, err := c.push()
		if err != nil || done() {
			return err
		}
		if progress += n; progress >= maxPiece && !sealing {
			deadline, progress = time.Now().Add(timeout), 0
		}
		if err := c.await(deadline); err != nil && c.broken == nil && c.sealed == sealing {
			c.fault(err)
		}
	}
}

// push writes what is pending, in order, as far as the socket takes it. The caller holds mu.
func (c *dense) push() (written int, err error) {
	for c.pending != nil {
		p := c.pending
		part := &p.begun
		if len(*part) == 0 {
			part = &p.rest
		}
		if len(*part) == 0 {
			if len(p.held) == 0 {
				c.pending = nil
				break
			}
			p.begun, p.held = p.held, nil
			continue
		}
		n, err := c.attempt(*part)
		if err != nil || n == 0 {
			return written, err
		}
		*part = (*part)[n:]
		written += n
	}
	return written, nil
}

// await waits until the socket takes more, or the connection ends. The caller holds mu, which is released meanwhile.
func (c *dense) await(deadline time.Time) error {
	writable, err := c.poller.writable(c)
	if err != nil {
		return err
	}
	c.mu.Unlock()
	defer c.mu.Lock()
	timer := time.NewTimer(time.Until(deadline))
	defer timer.Stop()
	select {
	case <-writable:
		return nil
	case <-timer.C:
		return os.ErrDeadlineExceeded
	}
}

// attempt makes one system call. The caller holds mu, and has found the connection writable.
func (c *dense) attempt(p []byte) (int, error) {
	for {
		n, err := syscall.Write(int(c.fd), p)
		switch err {
		case nil:
			return n, nil
		case syscall.EINTR:
		case syscall.EAGAIN:
			return 0, nil
		default:
			c.fault(os.NewSyscallError("write", err))
			return 0, c.broken
		}
	}
}

// fault makes sure that nothing else is written. The caller holds mu.
func (c *dense) fault(err error) {
	c.broken = err
	c.pending = nil // which may be the core's memory
	c.awaken()
}

func (c *dense) unwritable() error {
	if c.sealed {
		return net.ErrClosed
	}
	return c.broken
}

// awaken lets everybody who waits to write look again.
func (c *dense) awaken() {
	c.poller.mu.Lock()
	defer c.poller.mu.Unlock()
	c.wake()
}

// wake is awaken for those who hold poller.mu.
func (c *dense) wake() {
	if c.waiter != nil {
		close(c.waiter)
		c.waiter = nil
	}
}
