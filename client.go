package fanfare

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
	"unicode/utf8"

	"github.com/fanfare-go/fanfare/internal/protocol"
	"github.com/fanfare-go/fanfare/transport"
)

// Client is one connection. Hooks get it; its methods are safe for concurrent use and never wait for the peer.
//
// Who does what for a client: the transport's reader calls Receive, which answers pongs and fills the command queue; the
// runner, a goroutine that lives while there are commands, runs them in order; subscribes that may have to wait
// run on goroutines of their own, so that they overlap; hooks run on goroutines of their own, so that they can be given up;
// the agenda calls tick. A publication is queued by whoever delivers it, and written by the worker that owns the client.
//
// There are many clients, and most of them are idle: what only busy ones need is made when it is needed.
type Client struct {
	// What a delivery looks at is here and at the beginning of out, together in 64 bytes: one cache line.
	*wireForm
	out outgoing

	node     *Node
	id       string
	worker   *worker
	ctx      lifetime
	listing  listing               // Node.mu guards it
	entered  int32                 // place in the agenda, counted from 1; agenda.mu guards it
	overruns atomic.Int32          // of hooks
	cause    atomic.Pointer[error] // of the connection's end, for the log
	session  string                // of unidirectional and emulated connections: a secret, sent with the connect reply

	identity atomic.Pointer[person] // nil until authenticated
	ready    latch                  // opened when the connect command was answered, well or not

	recovering sync.Mutex // held while a subscribe reply is made; taken before subscription.mu

	// Owned by whoever calls Receive: the transport's reader, or for emulated connections the goroutine that hands frames over.
	greeted  bool // the connect command was received
	poisoned bool // a protocol error was received: nothing behind it is read

	// mu guards these.
	running       bool  // the runner lives
	authenticated bool  // Authenticate returned: Disconnected is owed
	isConnected   bool  // the connect reply was queued
	isRefused     bool  // the connect was answered with an error
	torn          bool  // the session's Closed was called
	hasToken      bool  // it connected with one, and can get others
	subscribing   int32 // subscribes that are running

	mu       sync.Mutex // guards the above, and below
	space    *sync.Cond // on mu, made by who waits: there is space for a command or another subscribe, or the client is closing
	request  *http.Request
	commands *commandQueue // nil if none waits
	closing  *Disconnect
	subs     subscriptionSet
	cutOffs  map[string]cutOff // recent losses of position, by channel
	clock    clientClock
	vigil    *vigil // nil if the client is not re-checked

	meter *meter // of rates, nil until something counts; the runner owns it

	_ [16]byte // up to a multiple of 64, as in subscription
}

// person is what is kept of an [Identity].
type person struct {
	user  string
	info  []byte
	state any
}

// State returns what [Identity.State] was, or nil.
func (c *Client) State() any {
	if id := c.identity.Load(); id != nil {
		return id.state
	}
	return nil
}

// ID returns the connection's id: unique, and visible to others in presence and publications.
func (c *Client) ID() string { return c.id }

// User returns the user's id. It is empty for an anonymous user, and before the connection was authenticated.
func (c *Client) User() string {
	if id := c.identity.Load(); id != nil {
		return id.user
	}
	return ""
}

// Info returns [Identity.Info].
func (c *Client) Info() []byte {
	if id := c.identity.Load(); id != nil {
		return id.info
	}
	return nil
}

// speaks reports whether the peer can answer: to pings, and to the end of a time with a refresh.
func (c *Client) speaks() bool { return !c.info.Unidirectional && !c.info.Plain }

// Context ends when the connection does.
func (c *Client) Context() context.Context { return &c.ctx }

// Transport returns the name of the connection's transport.
func (c *Client) Transport() string { return c.info.Name }

// Send queues a message to this connection, outside any channel. It returns [ErrBadPayload] if the data cannot be sent on
// the connection, because it is no JSON for instance, and [ErrClosed] if the connection is closing or not yet connected.
func (c *Client) Send(data []byte) error {
	if !c.sendable(data) {
		return ErrBadPayload
	}
	if !c.connected() {
		return ErrClosed
	}
	c.pushMessage(&protocol.Push{Message: &protocol.Message{Data: data}})
	return nil
}

// connected reports whether the connect reply was queued, and the connection is not closing.
func (c *Client) connected() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.closing == nil && c.isConnected
}

// Disconnect closes the connection; nil is [DisconnectForce]. It returns at once.
func (c *Client) Disconnect(d *Disconnect) {
	if d == nil {
		d = DisconnectForce
	}
	c.close(d)
}

// sendable reports whether the app's data can travel on the connection.
func (c *Client) sendable(data []byte) bool {
	switch {
	case len(data) == 0:
		return true
	case c.info.Encoding == transport.JSON:
		return protocol.ValidPayload(data)
	}
	return !c.info.Plain || utf8.Valid(data)
}

// clientInfo is how others see the client in a channel.
func (c *Client) clientInfo(channelInfo []byte) ClientInfo {
	return ClientInfo{User: c.User(), Client: c.id, ConnInfo: c.Info(), ChanInfo: channelInfo}
}

// Receive takes a frame from the transport's reader.
func (s session) Receive(frame []byte) error {
	c := s.Client
	if c.ctx.Err() != nil {
		return ErrClosed
	}
	if c.poisoned {
		return nil // the close is under way behind the commands that came before
	}
	if c.info.Unidirectional {
		return c.receiveConnect(frame)
	}
	if len(frame) == 0 {
		return c.poison("empty frame")
	}
	for len(frame) > 0 {
		cmd, rest, err := c.codec.NextCommand(frame)
		if err != nil {
			return c.poison(err.Error())
		}
		size := len(frame) - len(rest)
		frame = rest
		switch pong := isPong(cmd); {
		case pong && c.greeted:
			if !c.pong() {
				return c.poison("pong without ping")
			}
			continue
		case !c.greeted && cmd.Connect == nil:
			return c.poison("first command is not connect")
		case c.greeted && cmd.Connect != nil:
			return c.poison("second connect")
		}
		c.greeted = true
		if err := c.enqueue(queuedCommand{Command: cmd, size: size}); err != nil {
			return err
		}
	}
	return nil
}

// isPong recognises the empty command (spec 5.11).
func isPong(cmd *protocol.Command) bool { return *cmd == protocol.Command{} }

// receiveConnect takes the only frame that means something on a unidirectional connection.
func (c *Client) receiveConnect(frame []byte) error {
	if c.greeted {
		return nil
	}
	c.greeted = true
	req, err := c.codec.DecodeConnect(frame)
	if err != nil {
		return c.poison(err.Error())
	}
	return c.enqueue(queuedCommand{Command: &protocol.Command{Connect: req}, size: len(frame)})
}

// poison closes the client for a protocol error once the commands before it have been executed (spec 2.2).
func (c *Client) poison(problem string) error {
	c.poisoned = true
	return c.enqueue(queuedCommand{problem: problem})
}

// Pong takes the answer to a ping of the transport's own kind.
func (s session) Pong() { s.Client.pong() }

// Closed is called once by the transport, when the connection is gone.
func (s session) Closed(err error) {
	c := s.Client
	if err != nil {
		c.cause.CompareAndSwap(nil, &err)
	}
	c.mu.Lock()
	c.torn = true
	c.mu.Unlock()
	if errors.Is(err, transport.ErrWrite) {
		c.close(DisconnectWriteError)
	} else {
		c.close(DisconnectClosed)
	}
	c.node.goroutines.done()
}

// session is a client as its transport sees it: these methods are not for the app.
type session struct{ *Client }

var _ transport.Session = session{}

// closeFor is close with a cause for the log.
func (c *Client) closeFor(d *Disconnect, cause error) {
	c.cause.CompareAndSwap(nil, &cause)
	c.close(d)
}

// close begins the end of the connection, once; later calls do nothing. It returns at once and may be called with any of
// the client's locks held but client.mu.
func (c *Client) close(d *Disconnect) {
	c.mu.Lock()
	if c.closing != nil {
		c.mu.Unlock()
		return
	}
	c.closing = d
	c.request = nil
	c.commands = nil
	c.agenda().leave(c)
	c.spaceFreed()
	gone := c.torn
	// In one step with closing: who finds the client closing may give back the session's hold, and then Shutdown would not
	// wait for the goroutine. As long as the session holds the group it is open.
	c.node.goroutines.hold()
	c.mu.Unlock()
	c.ctx.end()
	c.node.goroutines.run(func() { c.tearDown(d, gone) })
}

// tearDown takes the client out of everything, says goodbye to the peer, and tells the app.
func (c *Client) tearDown(d *Disconnect, gone bool) {
	c.logEnd(d)
	var goodbye sync.WaitGroup
	if tell := c.countOut(); tell != nil {
		goodbye.Go(tell) // first of all: the user may be back already
	}
	if !gone && !d.discards() {
		c.awaitDelivered()
	}
	goodbye.Go(func() { c.sayGoodbye(d, gone) })

	for _, s := range c.subscriptions() {
		c.endSubscription(s, unsubscribedByDisconnect, d.Reason)
	}
	n := c.node
	n.removeClient(c)
	goodbye.Wait()
	c.mu.Lock()
	authenticated := c.authenticated
	c.mu.Unlock()
	if authenticated {
		c.observeEnd(d)
	}
	if fn := n.config.Disconnected; fn != nil && authenticated {
		n.notify(c, "Disconnected", "", func(ctx context.Context) { fn(ctx, &DisconnectNotice{Client: c, Disconnect: d}) })
	}
}

// observeEnd tells the observer of the end, if the connect succeeded. The peer may leave on its reply, before the connect
// is through.
func (c *Client) observeEnd(d *Disconnect) {
	o := c.node.config.Observer
	if o == nil {
		return
	}
	c.ready.wait(context.Background())
	c.mu.Lock()
	connected := c.isConnected
	c.mu.Unlock()
	if connected {
		o.Disconnected(c.info.Name, d.Code)
	}
}

// discards reports whether what is queued is thrown away, because the peer does not take it.
func (d *Disconnect) discards() bool {
	return d.Code == DisconnectSlow.Code || d.Code == DisconnectWriteError.Code
}

// awaitDelivered waits until what was published before reached the queue, but not for long.
func (c *Client) awaitDelivered() {
	if c.worker.bytes.Load() == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), 4*max(c.node.config.LatencyBudget, 25*time.Millisecond))
	defer cancel()
	c.worker.awaitEmpty(ctx)
}

// logEnd logs the end of the connection: quietly, unless the client did what it should not.
func (c *Client) logEnd(d *Disconnect) {
	level := slog.LevelDebug
	switch d.Code {
	case DisconnectSlow.Code, DisconnectInsufficient.Code, DisconnectBadRequest.Code, DisconnectStale.Code,
		DisconnectChannelLimit.Code, DisconnectNotAvailable.Code:
		level = slog.LevelInfo
	}
	cause := c.cause.Load()
	if cause != nil && errors.Is(*cause, transport.ErrTooLarge) {
		level = slog.LevelInfo
	}
	log := c.node.log
	if !log.Enabled(&c.ctx, level) {
		return
	}
	attrs := []slog.Attr{slog.String("client", c.id), slog.String("user", c.User()), slog.String("transport", c.info.Name),
		slog.Uint64("code", uint64(d.Code)), slog.String("reason", d.Reason)}
	if cause != nil {
		attrs = append(attrs, slog.Any("err", *cause))
	}
	log.LogAttrs(&c.ctx, level, "connection ended", attrs...)
}

// sayGoodbye writes what is queued and closes the connection with code and reason.
func (c *Client) sayGoodbye(d *Disconnect, gone bool) {
	discard := gone || d.discards()
	code, reason := d.Code, ""
	if !gone {
		reason = transport.CloseReason(d.Reason)
	}
	if code != 0 && !validDisconnect(code) && !(gone && code == DisconnectClosed.Code) {
		c.node.log.Error("disconnect code is not between 3001 and 4999", slog.Uint64("code", uint64(code)), slog.String("client", c.id))
		code, reason = DisconnectInternal.Code, DisconnectInternal.Reason
	}
	if code == 0 {
		reason = ""
	}
	if discard {
		c.discardQueue()
	} else {
		var last []byte
		if c.info.ClosePush && code != 0 {
			last = c.encodePush(&protocol.Push{Disconnect: &protocol.Disconnect{Code: code, Reason: reason}})
		}
		written := c.closeQueue(last)
		timeout := time.NewTimer(2 * c.node.config.WriteTimeout)
		select {
		case <-written:
		case <-timeout.C:
			c.discardQueue()
		}
		timeout.Stop()
	}
	if gone || d.Code == DisconnectWriteError.Code {
		code, reason = 0, "" // there is nobody to tell
	}
	if err := c.out.conn.Close(code, reason); err != nil {
		c.node.log.Debug("close failed", slog.String("client", c.id), slog.Any("err", err))
	}
}

// asDisconnect returns the disconnect in err, if there is one.
func asDisconnect(err error) *Disconnect {
	if d, ok := errors.AsType[*Disconnect](err); ok {
		return d
	}
	return nil
}
