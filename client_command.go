package fanfare

import (
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/fanfare-go/fanfare/internal/protocol"
)

// queuedCommand is a command that waits for its turn, or, with a problem, the protocol error that ends the connection.
type queuedCommand struct {
	*protocol.Command
	size    int
	problem string
}

// commandQueue holds the commands that wait, in their order.
type commandQueue struct {
	waiting []queuedCommand
	bytes   int
	first   [2]queuedCommand // waiting at the beginning, so that a short queue is a single object
}

// full reports whether there is no room for a command of that size. There is always room for one.
func (q *commandQueue) full(c *Config, size int) bool {
	return q != nil && (len(q.waiting) >= c.maxCommands() || q.bytes > 0 && q.bytes+size > c.maxCommandBytes())
}

// enqueue puts a command into the queue and sees to it that somebody runs it. It waits while the queue is full: the
// transport's reader then stops reading, which is felt by this peer alone.
func (c *Client) enqueue(q queuedCommand) error {
	n := c.node
	c.mu.Lock()
	defer c.mu.Unlock()
	for c.closing == nil && c.commands.full(&n.config, q.size) {
		c.awaitSpace()
	}
	switch {
	case c.closing != nil:
		return ErrClosed
	case c.isRefused:
		return nil // its connect was answered with an error: nothing of it is answered any more (spec 4, rule 9)
	}
	if c.commands == nil {
		c.commands = &commandQueue{}
		c.commands.waiting = c.commands.first[:0]
	}
	c.commands.waiting = append(c.commands.waiting, q)
	c.commands.bytes += q.size
	if !c.running {
		// Owned by the node: it ends when the queue is empty or the client closes, each command being bounded in time.
		c.running = n.goroutines.start(c.run)
	}
	return nil
}

// awaitSpace waits for a change of what spaceFreed tells. client.mu is held.
func (c *Client) awaitSpace() {
	if c.space == nil {
		c.space = sync.NewCond(&c.mu)
	}
	c.space.Wait()
}

// spaceFreed wakes those who wait for space: the transport's reader, and the runner, each for another kind. client.mu is
// held.
func (c *Client) spaceFreed() {
	if c.space != nil {
		c.space.Broadcast()
	}
}

// run executes commands in order while there are any. What commands that wait for nobody are answered is written at once for
// all of them: clients send one for every channel after a reconnect.
func (c *Client) run() {
	for {
		q, ok, more := c.nextCommand()
		switch {
		case !ok:
			c.uncork()
			return
		case !c.answersAtOnce(q.Command):
			c.uncork()
		case more:
			c.out.cork()
		}
		c.dispatch(q)
	}
}

// nextCommand takes a command from the queue, and tells whether there are more. When there is none the runner ends.
func (c *Client) nextCommand() (q queuedCommand, ok, more bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.commands == nil || len(c.commands.waiting) == 0 || c.closing != nil {
		c.running = false
		c.commands = nil
		return queuedCommand{}, false, false
	}
	waiting := c.commands.waiting
	q, waiting[0] = waiting[0], queuedCommand{}
	c.commands.waiting = waiting[1:]
	c.commands.bytes -= q.size
	c.spaceFreed()
	return q, true, len(waiting) > 1
}

// answersAtOnce reports whether a command waits neither for the app nor for anything outside the process, as far as it does
// what clients do in great numbers.
func (c *Client) answersAtOnce(cmd *protocol.Command) bool {
	switch {
	case cmd == nil:
		return false
	case cmd.Connect != nil:
		return c.node.config.Authenticate == nil
	case cmd.Subscribe != nil:
		d, _, known := c.node.lookup(cmd.Subscribe.Channel)
		return known && c.node.opensAtOnce(d)
	}
	return false
}

// dispatch executes one command, or, for a subscribe, starts it.
func (c *Client) dispatch(q queuedCommand) {
	cmd := q.Command
	if q.problem != "" {
		c.closeFor(DisconnectBadRequest, errors.New(q.problem))
		return
	}
	began := time.Now()
	if cmd.ID == 0 && cmd.Send == nil && cmd.Connect == nil || cmd.ID == 0 && cmd.Connect != nil && !c.info.Unidirectional {
		c.fail("unknown", began, cmd.ID, DisconnectBadRequest)
		return
	}
	if err := c.checkRates(cmd, began); err != nil {
		c.fail(methodOf(cmd), began, cmd.ID, err)
		return
	}
	switch {
	case cmd.Connect != nil:
		c.connect(cmd.ID, cmd.Connect, began)
	case cmd.Subscribe != nil:
		c.startSubscribe(cmd.ID, cmd.Subscribe, began)
	case cmd.Unsubscribe != nil:
		c.answer("unsubscribe", began, cmd.ID, c.unsubscribe(cmd))
	case cmd.Publish != nil:
		c.answer("publish", began, cmd.ID, c.publish(cmd))
	case cmd.Presence != nil:
		c.answer("presence", began, cmd.ID, c.presence(cmd))
	case cmd.PresenceStats != nil:
		c.answer("presence_stats", began, cmd.ID, c.presenceStats(cmd))
	case cmd.History != nil:
		c.answer("history", began, cmd.ID, c.history(cmd))
	case cmd.RPC != nil:
		c.answer("rpc", began, cmd.ID, c.rpc(cmd))
	case cmd.Send != nil:
		c.answer("send", began, 0, c.message(cmd))
	case cmd.Refresh != nil:
		c.answer("refresh", began, cmd.ID, c.refresh(cmd))
	case cmd.SubRefresh != nil:
		c.answer("sub_refresh", began, cmd.ID, c.subRefresh(cmd))
	default:
		c.fail("unknown", began, cmd.ID, DisconnectBadRequest)
	}
}

// outcome is what a command leads to: a reply, or an error.
type outcome struct {
	reply *protocol.Reply
	err   error
}

func refusal(err error) outcome { return outcome{err: err} }

// answer sends the outcome of a command. A send has no reply, whatever its outcome.
func (c *Client) answer(method string, began time.Time, id uint32, o outcome) {
	if o.err != nil {
		c.fail(method, began, id, o.err)
		return
	}
	if o.reply != nil {
		o.reply.ID = id
		c.reply(o.reply)
	}
	c.observe(method, began, 0)
}

// fail answers a command with an error or ends the connection, as the error says.
func (c *Client) fail(method string, began time.Time, id uint32, err error) {
	if errors.Is(err, errGone) || errors.Is(err, errAnswered) || c.ctx.Err() != nil {
		return // there is nobody to answer
	}
	if d := asDisconnect(err); d != nil {
		c.observe(method, began, d.Code)
		c.closeFor(d, fmt.Errorf("answer to command %s", method))
		return
	}
	e := c.clientError(method, err)
	c.observe(method, began, e.Code)
	if id != 0 {
		c.reply(&protocol.Reply{ID: id, Error: &protocol.Error{Code: e.Code, Message: e.Message, Temporary: e.Temporary}})
	}
}

// clientError is what the client is told of an error. What is not the client's business is logged, not told.
func (c *Client) clientError(method string, err error) *Error {
	e, ok := errors.AsType[*Error](err)
	switch {
	case !ok:
		c.node.log.Log(c.node.ctx, troubled(err, slog.LevelError), "command failed", slog.String("command", method), slog.String("client", c.id),
			slog.String("user", c.User()), slog.Any("err", err))
		return ErrInternal
	case e.Code < 100 || e.Code >= 2000:
		c.node.log.Error("error code must be between 100 and 1999", slog.String("command", method), slog.Any("err", err))
		return ErrInternal
	case e.Message == "":
		// Python clients read the message without a default (spec 18).
		e = &Error{Code: e.Code, Message: "error", Temporary: e.Temporary}
	}
	if e != ErrInternal { // which was logged with its cause
		c.node.log.Debug("command refused", slog.String("command", method), slog.String("client", c.id),
			slog.String("user", c.User()), slog.Any("err", e))
	}
	return e
}

func (c *Client) observe(method string, began time.Time, code uint32) {
	if o := c.node.config.Observer; o != nil {
		o.Command(method, time.Since(began), code)
	}
}

// payload checks data of the app that is to be sent on this connection.
func (c *Client) payload(what string, data []byte) error {
	if c.sendable(data) {
		return nil
	}
	c.node.log.Error("not valid JSON on a JSON connection", slog.String("what", what), slog.String("client", c.id), slog.String("user", c.User()))
	return DisconnectInappropriate
}

// target finds the declaration of a command's channel.
func (c *Client) target(channel string) (*declaration, params, error) {
	if channel == "" {
		return nil, params{}, DisconnectBadRequest
	}
	if len(channel) > c.node.config.MaxChannelLength {
		return nil, params{}, ErrBadRequest
	}
	d, p, ok := c.node.lookup(channel)
	if !ok {
		return nil, params{}, ErrUnknownChannel
	}
	return d, p, nil
}

// admit decides what the declaration says without asking the app.
func (c *Client) admit(channel string, a Access, hook bool) error {
	switch a {
	case Anyone:
		return nil
	case Users:
		if c.User() != "" {
			return nil
		}
	case Subscribers:
		if s := c.settled(channel); s != nil {
			return nil
		}
	case Nobody:
		if hook {
			return nil
		}
	}
	return ErrPermissionDenied
}

// settled returns the subscription to a channel, if there is one, after waiting for one that is being made.
func (c *Client) settled(channel string) *subscription {
	c.mu.Lock()
	s := c.subs.get(channel)
	c.mu.Unlock()
	if s == nil {
		return nil
	}
	if !s.settled.wait(&c.ctx) || !s.live() {
		return nil
	}
	return s
}
