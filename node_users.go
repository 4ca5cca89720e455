package fanfare

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/fanfare-go/fanfare/internal/protocol"
)

// Operations on the connections of a user, all or those selected, act on this node before they return, and on the other nodes of the
// broker without waiting for them. The empty user is the anonymous user, never everybody. It is no error if there are no such connections.

// controlMessage carries an operation to the other nodes.
type controlMessage struct {
	Op       string          `json:"op"`
	User     []byte          `json:"user,omitempty"`   // bytes, because ids and channels from Go need not be UTF-8
	Select   *selection      `json:"select,omitempty"` // with an Op that says so: see selectedPrefix
	Channel  []byte          `json:"channel,omitempty"`
	Reply    *SubscribeReply `json:"reply,omitempty"`
	Code     uint32          `json:"code,omitempty"`
	Reason   string          `json:"reason,omitempty"`
	ExpireAt time.Time       `json:"expire_at,omitzero"`

	// Client is the connection that was replaced: see opReplaced.
	Client string `json:"client,omitempty"`

	// For an emulated connection, instead of all the above.
	Session string `json:"session,omitempty"`
	Frame   []byte `json:"frame,omitempty"`

	// With User and Channel, for the operations about users that return.
	Recall *recallMessage `json:"recall,omitempty"`

	// For the operations about surveys, instead of all the above.
	Survey *surveyMessage `json:"survey,omitempty"`
}

// opReceive is the operation that forwards commands to an emulated connection.
const opReceive = "receive"

// Subscribe subscribes every connection of the user to the channel. The channel's options hold, its Subscribe hook is not
// asked. Connections that are subscribed already, or have no room for another channel, stay as they are. It waits for
// connects that are under way, so a hook that runs during one must not call it for the user it is deciding upon.
//
// Here as in the other operations on users the empty user is the anonymous one, never everybody; options select some of the
// connections; it is no error if there are none; and an error that names other nodes means that they may not have heard of it,
// while it was done on this one. It returns [ErrUnknownChannel] for an undeclared channel, [ErrBadPayload] if Info or Data is no
// JSON, and an error if a subscription failed, after trying all.
func (n *Node) Subscribe(ctx context.Context, user, channel string, r SubscribeReply, opts ...SelectOption) error {
	if _, err := n.declared(channel); err != nil {
		return err
	}
	for what, data := range map[string][]byte{"Info": r.Info, "Data": r.Data} {
		if data != nil && !protocol.ValidPayload(data) {
			return fmt.Errorf("%w: SubscribeReply.%s is not JSON", ErrBadPayload, what)
		}
	}
	m := controlMessage{Op: "subscribe", User: []byte(user), Select: selectionOf(opts), Channel: []byte(channel), Reply: &r}
	err := n.subscribeUser(ctx, user, m.Select, channel, r)
	return errors.Join(err, n.tellOthers(ctx, m))
}

// Unsubscribe ends the subscription of every connection of the user to the channel, whoever made it, with code 2000, after
// which clients do not come back to it. The Subscribe hook must refuse those that speak no protocol: an EventSource does. Users,
// options and errors are as in [Node.Subscribe].
func (n *Node) Unsubscribe(ctx context.Context, user, channel string, opts ...SelectOption) error {
	m := controlMessage{Op: "unsubscribe", User: []byte(user), Select: selectionOf(opts), Channel: []byte(channel)}
	err := n.unsubscribeUser(ctx, user, m.Select, channel)
	return errors.Join(err, n.tellOthers(ctx, m))
}

// Disconnect closes every connection of the user, also those whose connect is under way; nil is [DisconnectForce], after
// which clients do not come back, but for those that speak no protocol: an EventSource does, until Authenticate refuses it. Called
// with the context of an Authenticate hook it spares the connection that the hook decides upon. The code must be one that clients
// understand and a close frame carries, 3001 to 4999: any other is an error. Users, options and errors are as in [Node.Subscribe].
func (n *Node) Disconnect(ctx context.Context, user string, d *Disconnect, opts ...SelectOption) error {
	if d == nil {
		d = DisconnectForce
	}
	if !validDisconnect(d.Code) {
		return fmt.Errorf("fanfare: disconnect code %d is not between 3001 and 4999", d.Code)
	}
	m := controlMessage{Op: "disconnect", User: []byte(user), Select: selectionOf(opts), Code: d.Code, Reason: d.Reason}
	n.disconnectUser(user, m.Select, d, n.hookClient(ctx))
	return n.tellOthers(ctx, m)
}

// Refresh changes when the connections of the user expire. The zero time is never; a time in the past closes them with
// 3005. Clients that connected with a token are told. Users, options and errors are as in [Node.Subscribe].
func (n *Node) Refresh(ctx context.Context, user string, expireAt time.Time, opts ...SelectOption) error {
	m := controlMessage{Op: "refresh", User: []byte(user), Select: selectionOf(opts), ExpireAt: expireAt}
	err := n.refreshUser(ctx, user, m.Select, expireAt)
	return errors.Join(err, n.tellOthers(ctx, m))
}

func (n *Node) tellOthers(ctx context.Context, m controlMessage) error {
	op := m.Op
	if m.Select != nil {
		m.Op = selectedPrefix + op
	}
	// The operation holds here already: the others must hear of it even if the caller's time is over.
	err := n.send(context.WithoutCancel(ctx), "", &m)
	if err != nil && !errors.Is(err, errNoBus) {
		return fmt.Errorf("fanfare: %s of user %q on other nodes: %w", op, m.User, err)
	}
	return nil
}

// errNoBus says that the broker cannot reach other nodes.
var errNoBus = errors.New("fanfare: the broker is no ControlBus")

// send sends a message to one node, or to all others if to is empty. It takes at most [Config.HookTimeout].
func (n *Node) send(ctx context.Context, to string, m *controlMessage) error {
	bus, ok := n.broker.(ControlBus)
	if !ok {
		return errNoBus
	}
	data, err := json.Marshal(m)
	if err != nil {
		return fmt.Errorf("fanfare: control message: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, n.config.HookTimeout)
	defer cancel()
	return bus.SendControl(ctx, n.id, to, data)
}

// maxOperations bounds what waits to be done for one user: more than that comes from a loop somewhere.
const maxOperations = 1000

// control takes an operation from another node. The operations on one user are executed one by one in the order of their
// arrival, because a later one may revoke an earlier; not here, because the sink must not block, and a subscribe asks the
// broker. Disconnects do not block, and nothing in front of them can undo them.
func (n *Node) control(data []byte) {
	m, err := decodeControl(data)
	if err != nil {
		n.log.Error("control message not understood", slog.Any("err", err))
		return
	}
	switch m.Op {
	case opReceive:
		n.receiveForwarded(m.Session, m.Frame)
		return
	case opSurvey, opSurveyed, opGone:
		n.surveys.control(n, &m)
		return
	case opReturned, opRecalled:
		n.recalls.control(n, &m)
		return
	}
	user := string(m.User)
	if m.Op == opReplaced {
		n.replaced(user, m.Client)
		return
	}
	if m.Op == "disconnect" && validDisconnect(m.Code) {
		n.disconnectUser(user, m.Select, &Disconnect{Code: m.Code, Reason: m.Reason}, nil)
		return
	}
	n.operationsMu.Lock()
	defer n.operationsMu.Unlock()
	waiting, busy := n.operations[user]
	switch {
	case len(waiting) >= maxOperations:
		n.log.Error("too many operations of other nodes; one is dropped", slog.String("op", m.Op), slog.String("user", user))
		return
	case !busy && !n.goroutines.start(func() { n.operate(user) }):
		return // shutting down: there is nobody left to operate on
	case n.operations == nil:
		n.operations = make(map[string][]controlMessage)
	}
	n.operations[user] = append(waiting, m)
}

// decodeControl parses a control message. An operation on selected connections comes without its prefix.
func decodeControl(data []byte) (m controlMessage, err error) {
	if err = json.Unmarshal(data, &m); err != nil {
		return m, err
	}
	op, selected := strings.CutPrefix(m.Op, selectedPrefix)
	if selected != (m.Select != nil) {
		return m, fmt.Errorf("operation %q without what it is about", m.Op)
	}
	m.Op = op
	return m, nil
}

// operate executes what other nodes sent for a user, until there is nothing.
func (n *Node) operate(user string) {
	for {
		n.operationsMu.Lock()
		waiting := n.operations[user]
		if len(waiting) == 0 {
			delete(n.operations, user)
			n.operationsMu.Unlock()
			return
		}
		m := waiting[0]
		n.operations[user] = waiting[1:]
		n.operationsMu.Unlock()
		ctx, cancel := context.WithTimeout(n.ctx, 2*n.config.HookTimeout)
		if err := n.execute(ctx, user, m); err != nil {
			n.log.Log(n.ctx, troubled(err, slog.LevelError), "operation of another node failed", slog.String("op", m.Op), slog.String("user", user),
				slog.String("channel", string(m.Channel)), slog.Any("err", err))
		}
		cancel()
	}
}

func (n *Node) execute(ctx context.Context, user string, m controlMessage) error {
	switch {
	case m.Op == "subscribe" && m.Reply != nil:
		return n.subscribeUser(ctx, user, m.Select, string(m.Channel), *m.Reply)
	case m.Op == "unsubscribe":
		return n.unsubscribeUser(ctx, user, m.Select, string(m.Channel))
	case m.Op == "refresh":
		return n.refreshUser(ctx, user, m.Select, m.ExpireAt)
	}
	return errors.New("message not understood")
}

func validDisconnect(code uint32) bool { return code > DisconnectClosed.Code && code <= 4999 }

// disconnectUser closes the user's connections, and sees to it that those that are being authenticated, except the one given,
// will be: their hook may still have seen the user logged in.
func (n *Node) disconnectUser(user string, sel *selection, d *Disconnect, spared *Client) {
	n.mu.Lock()
	n.logouts.note(logout{user: user, selection: sel, disconnect: d, spared: spared, at: time.Now()}, 2*n.config.HookTimeout)
	n.mu.Unlock()
	for _, c := range n.userClients(user, sel) {
		c.close(d)
	}
}

// logouts remembers for a while which users were disconnected. The owner's lock guards it.
type logouts struct {
	recent []logout // oldest first
	count  uint64   // of all there ever were
}

type logout struct {
	user       string
	selection  *selection
	disconnect *Disconnect
	spared     *Client // whose Authenticate hook asked for it, if one did
	at         time.Time
	number     uint64
}

// note remembers a logout, and forgets those that are older than keep.
func (l *logouts) note(o logout, keep time.Duration) {
	old := 0
	for old < len(l.recent) && o.at.Sub(l.recent[old].at) > keep {
		old++
	}
	if l.recent = l.recent[old:]; len(l.recent) == 0 {
		l.recent = nil
	}
	l.count++
	o.number = l.count
	l.recent = append(l.recent, o)
}

// after returns why a client's user was disconnected after the first count logouts, or nil.
func (l *logouts) after(count uint64, c *Client, user string) *Disconnect {
	for _, o := range slices.Backward(l.recent) {
		if o.number <= count {
			return nil
		}
		if o.user == user && o.spared != c && o.selection.has(c) {
			return o.disconnect
		}
	}
	return nil
}

func (n *Node) subscribeUser(ctx context.Context, user string, sel *selection, channel string, r SubscribeReply) error {
	return n.forUser(ctx, user, sel, func(c *Client) error {
		err := c.awaitConnected(ctx)
		if err == nil {
			err = c.serverSubscribe(channel, r)
		}
		if errors.Is(err, errGone) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("fanfare: subscribe client %s to %q: %w", c.id, channel, err)
		}
		return nil
	})
}

// forUser does something with the selected connections of a user, several at a time, since each may wait for hooks or the broker.
func (n *Node) forUser(ctx context.Context, user string, sel *selection, do func(c *Client) error) error {
	var (
		group errgroup.Group // waited for below
		mu    sync.Mutex     // guards errs
		errs  error
	)
	group.SetLimit(n.config.Concurrency)
	for _, c := range n.userClients(user, sel) {
		group.Go(func() error {
			if err := do(c); err != nil {
				mu.Lock()
				errs = errors.Join(errs, err)
				mu.Unlock()
			}
			return nil
		})
	}
	_ = group.Wait()
	return errs
}

// awaitConnected waits until a client that was authenticated has its connect reply.
func (c *Client) awaitConnected(ctx context.Context) error {
	if !c.ready.isOpen() {
		select {
		case <-c.ready.opened():
		case <-c.ctx.Done():
			return errGone
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	if !c.connected() {
		return errGone
	}
	return nil
}

// serverSubscribe makes a subscription during the session (spec 14). Its push has no room for publications: what it begins with,
// after a position or in a channel with [RecoveryCacheAlways], follows behind.
func (c *Client) serverSubscribe(channel string, r SubscribeReply) error {
	s, err := c.reserve(channel, true)
	if errors.Is(err, ErrAlreadySubscribed) || errors.Is(err, ErrLimitExceeded) {
		return nil // as documented
	}
	if err != nil {
		return err
	}
	defer s.settled.open()
	o := &opening{s: s, reply: r}
	if err = c.open(o); err == nil {
		err = c.goLive([]*opening{o}, func() error {
			c.pushMessage(o.pushed(c.subscribeResult(o)))
			for _, p := range o.joined.publications {
				c.push(c.publicationFrame(s, p))
			}
			return nil
		})
	}
	if err != nil {
		c.abandon(s, nil)
		return err
	}
	c.announce(s)
	return nil
}

func (n *Node) unsubscribeUser(ctx context.Context, user string, sel *selection, channel string) error {
	return n.forUser(ctx, user, sel, func(c *Client) error {
		c.mu.Lock()
		s := c.subs.get(channel)
		c.mu.Unlock()
		if s == nil {
			return nil
		}
		if !s.settled.wait(ctx) { // its hook may be running, perhaps it is the caller
			return fmt.Errorf("fanfare: unsubscribe client %s from %q: %w", c.id, channel, ctx.Err())
		}
		c.awaitDelivered()
		c.endSubscription(s, unsubscribedByServer, "server unsubscribe")
		return nil
	})
}

func (n *Node) refreshUser(ctx context.Context, user string, sel *selection, expireAt time.Time) error {
	return n.forUser(ctx, user, sel, func(c *Client) error {
		if !expireAt.IsZero() && !expireAt.After(time.Now()) {
			c.close(DisconnectExpired)
			return nil
		}
		if err := c.awaitConnected(ctx); errors.Is(err, errGone) {
			return nil
		} else if err != nil {
			return fmt.Errorf("fanfare: refresh client %s: %w", c.id, err)
		}
		c.setExpiry(expireAt)
		if !c.hasToken {
			return nil // it could do nothing about the time that it would be told of
		}
		push := &protocol.Refresh{}
		if !expireAt.IsZero() {
			push.Expires, push.TTL = true, ttl(expireAt)
		}
		c.pushMessage(&protocol.Push{Refresh: push})
		return nil
	})
}

func (n *Node) userClients(user string, sel *selection) []*Client {
	n.mu.RLock()
	defer n.mu.RUnlock()
	clients := slices.Collect(n.clients.user(user))
	return slices.DeleteFunc(clients, func(c *Client) bool { return !sel.has(c) })
}

// logoutCount is how many logouts there have been: see addClient.
func (n *Node) logoutCount() uint64 {
	n.mu.RLock()
	defer n.mu.RUnlock()
	return n.logouts.count
}

// addClient makes an authenticated client known under its user. It refuses one whose user was disconnected since there had
// been so many logouts, when its connect began: Authenticate may have seen the user still logged in.
func (n *Node) addClient(c *Client, logouts uint64) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if !n.clients.has(c) {
		return errGone
	}
	if d := n.logouts.after(logouts, c, c.User()); d != nil {
		return d
	}
	n.clients.know(c)
	n.strangers--
	n.connected[c.info.Name]++
	return nil
}

// removeClient forgets a client.
func (n *Node) removeClient(c *Client) {
	n.mu.Lock()
	defer n.mu.Unlock()
	switch {
	case !n.clients.has(c):
	case c.listing.known:
		n.connected[c.info.Name]--
	default:
		n.strangers--
	}
	n.clients.remove(c)
}

// newID returns a random UUID (RFC 9562, version 4).
func newID() string {
	var b [16]byte
	rand.Read(b[:]) // never fails
	b[6] = b[6]&0x0f | 0x40
	b[8] = b[8]&0x3f | 0x80
	var s [36]byte
	hex.Encode(s[:8], b[:4])
	hex.Encode(s[9:13], b[4:6])
	hex.Encode(s[14:18], b[6:8])
	hex.Encode(s[19:23], b[8:10])
	hex.Encode(s[24:], b[10:])
	s[8], s[13], s[18], s[23] = '-', '-', '-', '-'
	return string(s[:])
}

// isID reports whether a string looks like what newID returns.
func isID(s string) bool {
	return len(s) == 36 && strings.Trim(s, "0123456789abcdef-") == ""
}
