package fanfare

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/fanfare-go/fanfare/internal/protocol"
)

// Operations on all connections of a user act on this node before they return, and on the other nodes of the broker
// without waiting for them. The empty user is the anonymous user, never everybody. A user without connections is no error.

// controlMessage carries an operation to the other nodes.
type controlMessage struct {
	Op       string          `json:"op"`
	User     string          `json:"user"`
	Channel  string          `json:"channel,omitempty"`
	Reply    *SubscribeReply `json:"reply,omitempty"`
	Code     uint32          `json:"code,omitempty"`
	Reason   string          `json:"reason,omitempty"`
	ExpireAt time.Time       `json:"expire_at,omitzero"`
}

// Subscribe subscribes every connection of the user to the channel. The channel's options hold, its Subscribe hook is not
// asked. Connections that are subscribed already, or have no room for another channel, stay as they are. It returns
// [ErrUnknownChannel] for an undeclared channel, and an error if a subscription failed, after trying all.
func (n *Node) Subscribe(ctx context.Context, user, channel string, r SubscribeReply) error {
	if _, err := n.declared(channel); err != nil {
		return err
	}
	for what, data := range map[string][]byte{"Info": r.Info, "Data": r.Data} {
		if data != nil && !protocol.ValidPayload(data) {
			return fmt.Errorf("%w: SubscribeReply.%s is not JSON", ErrBadPayload, what)
		}
	}
	err := n.subscribeUser(user, channel, r)
	return errors.Join(err, n.tellOthers(ctx, controlMessage{Op: "subscribe", User: user, Channel: channel, Reply: &r}))
}

// Unsubscribe ends the subscription of every connection of the user to the channel, whoever made it, with code 2000, after
// which clients do not come back to it.
func (n *Node) Unsubscribe(ctx context.Context, user, channel string) error {
	err := n.unsubscribeUser(ctx, user, channel)
	return errors.Join(err, n.tellOthers(ctx, controlMessage{Op: "unsubscribe", User: user, Channel: channel}))
}

// Disconnect closes every connection of the user; nil is [DisconnectForce], after which clients do not come back. The
// code must be one that clients understand: 3000 or more.
func (n *Node) Disconnect(ctx context.Context, user string, d *Disconnect) error {
	if d == nil {
		d = DisconnectForce
	}
	if d.Code < 3000 || d.Code > 4999 {
		return fmt.Errorf("fanfare: disconnect code %d is not between 3000 and 4999", d.Code)
	}
	for _, c := range n.userClients(user) {
		c.close(d)
	}
	return n.tellOthers(ctx, controlMessage{Op: "disconnect", User: user, Code: d.Code, Reason: d.Reason})
}

// Refresh changes when the connections of the user expire. The zero time is never; a time in the past closes them with
// 3005.
func (n *Node) Refresh(ctx context.Context, user string, expireAt time.Time) error {
	n.refreshUser(user, expireAt)
	return n.tellOthers(ctx, controlMessage{Op: "refresh", User: user, ExpireAt: expireAt})
}

func (n *Node) tellOthers(ctx context.Context, m controlMessage) error {
	bus, ok := n.broker.(ControlBus)
	if !ok {
		return nil
	}
	data, err := json.Marshal(m)
	if err != nil {
		return fmt.Errorf("fanfare: control message: %w", err)
	}
	if err := bus.SendControl(ctx, n.id, "", data); err != nil {
		return fmt.Errorf("fanfare: %s of user %q on other nodes: %w", m.Op, m.User, err)
	}
	return nil
}

// control executes an operation that another node sent.
func (n *Node) control(data []byte) {
	var m controlMessage
	if err := json.Unmarshal(data, &m); err != nil {
		n.log.Error("control message not understood", slog.Any("err", err))
		return
	}
	// The sink must not block; a subscribe asks the broker.
	n.goroutines.start(func() {
		switch m.Op {
		case "subscribe":
			if err := n.subscribeUser(m.User, m.Channel, *m.Reply); err != nil {
				n.log.Error("subscribe of a user failed", slog.String("user", m.User), slog.String("channel", m.Channel), slog.Any("err", err))
			}
		case "unsubscribe":
			ctx, cancel := context.WithTimeout(n.ctx, 2*n.config.HookTimeout)
			defer cancel()
			if err := n.unsubscribeUser(ctx, m.User, m.Channel); err != nil {
				n.log.Error("unsubscribe of a user failed", slog.String("user", m.User), slog.String("channel", m.Channel), slog.Any("err", err))
			}
		case "disconnect":
			for _, c := range n.userClients(m.User) {
				c.close(&Disconnect{Code: m.Code, Reason: m.Reason})
			}
		case "refresh":
			n.refreshUser(m.User, m.ExpireAt)
		default:
			n.log.Error("control message not understood", slog.String("op", m.Op))
		}
	})
}

func (n *Node) subscribeUser(user, channel string, r SubscribeReply) error {
	var errs error
	for _, c := range n.userClients(user) {
		err := c.serverSubscribe(channel, r)
		if err != nil && !errors.Is(err, ErrAlreadySubscribed) && !errors.Is(err, errGone) {
			errs = errors.Join(errs, fmt.Errorf("fanfare: subscribe client %s to %q: %w", c.id, channel, err))
		}
	}
	return errs
}

// serverSubscribe makes a subscription during the session (spec 14). It cannot recover anything.
func (c *Client) serverSubscribe(channel string, r SubscribeReply) error {
	s, err := c.reserve(channel, true)
	if err != nil {
		return err
	}
	defer close(s.settled)
	o := &opening{s: s, reply: r}
	if err = c.open(o); err == nil {
		err = c.goLive([]*opening{o}, func() error {
			told := c.subscribeResult(o)
			c.pushMessage(&protocol.Push{Channel: channel, Subscribe: &protocol.Subscribe{Recoverable: told.Recoverable,
				Positioned: told.Positioned, Epoch: told.Epoch, Offset: told.Offset, Data: told.Data}})
			return nil
		})
	}
	if err != nil {
		c.abandon(s)
		return err
	}
	c.announce(s)
	return nil
}

func (n *Node) unsubscribeUser(ctx context.Context, user, channel string) error {
	for _, c := range n.userClients(user) {
		c.mu.Lock()
		s := c.subs[channel]
		c.mu.Unlock()
		if s == nil {
			continue
		}
		select {
		case <-s.settled: // its hook may be running, perhaps it is the caller
		case <-ctx.Done():
			return fmt.Errorf("fanfare: unsubscribe user %q from %q: %w", user, channel, ctx.Err())
		}
		if c.endSubscription(s, unsubscribedByServer, "server unsubscribe") {
			c.pushUnsubscribe(channel, unsubscribedByServer, "server unsubscribe")
		}
	}
	return nil
}

func (n *Node) refreshUser(user string, expireAt time.Time) {
	for _, c := range n.userClients(user) {
		if !expireAt.IsZero() && !expireAt.After(time.Now()) {
			c.close(DisconnectExpired)
			continue
		}
		c.setExpiry(expireAt)
		push := &protocol.Refresh{}
		if !expireAt.IsZero() {
			push.Expires, push.TTL = true, ttl(expireAt)
		}
		c.pushMessage(&protocol.Push{Refresh: push})
	}
}

func (n *Node) userClients(user string) []*Client {
	n.mu.RLock()
	defer n.mu.RUnlock()
	clients := make([]*Client, 0, len(n.users[user]))
	for c := range n.users[user] {
		clients = append(clients, c)
	}
	return clients
}

// addClient makes a connected client known under its user.
func (n *Node) addClient(c *Client) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if _, ok := n.clients[c]; !ok {
		return errGone
	}
	user := c.User()
	if n.users[user] == nil {
		n.users[user] = make(map[*Client]struct{})
	}
	n.users[user][c] = struct{}{}
	return nil
}

// removeClient forgets a client.
func (n *Node) removeClient(c *Client) {
	n.mu.Lock()
	defer n.mu.Unlock()
	delete(n.clients, c)
	user := c.User()
	if set := n.users[user]; set != nil {
		delete(set, c)
		if len(set) == 0 {
			delete(n.users, user)
		}
	}
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
