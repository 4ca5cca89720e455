package fanfaretest

import (
	"context"
	"time"

	"github.com/fanfare-go/fanfare"
)

// Kind is the kind of a push.
type Kind string

// The kinds of pushes, by their names in the protocol.
const (
	KindPublication Kind = "pub"
	KindJoin        Kind = "join"
	KindLeave       Kind = "leave"
	KindUnsubscribe Kind = "unsubscribe"
	KindSubscribe   Kind = "subscribe"
	KindMessage     Kind = "message"
	KindRefresh     Kind = "refresh"
	KindDisconnect  Kind = "disconnect"

	kindConnect Kind = "connect" // never an event: it is the answer to Connect
)

// Event is a push from the server. Which fields are set depends on its Kind.
type Event struct {
	Kind Kind
	// Channel is set but for messages, refreshes and disconnects.
	Channel string
	// Publication of KindPublication. Its epoch is that of the subscription.
	Publication *fanfare.Publication
	// Info says who joined or left.
	Info fanfare.ClientInfo
	// Subscription of KindSubscribe, which the server made.
	Subscription *SubscribeResult
	// Code and Reason of KindUnsubscribe and KindDisconnect.
	Code   uint32
	Reason string
	// Data of KindMessage.
	Data []byte
	// Expires and TTL of KindRefresh.
	Expires bool
	TTL     time.Duration
	// Raw is the message as it came.
	Raw string
}

// String returns the message as it came.
func (e Event) String() string { return e.Raw }

// Next waits for the next push, in the order in which they came. After the last one it returns the *[fanfare.Disconnect]
// that ended the connection.
func (c *Client) Next(ctx context.Context) (Event, error) {
	var e Event
	err := c.await(ctx, "push", func() (bool, error) {
		if len(c.events) == 0 {
			return false, c.over()
		}
		e, c.events = c.events[0], c.events[1:]
		return true, nil
	})
	return e, err
}

// Events returns the pushes that have come and were not returned yet, without waiting.
func (c *Client) Events() []Event {
	c.mu.Lock()
	defer c.mu.Unlock()
	events := c.events
	c.events = nil
	return events
}

func (p *wirePush) event(kind Kind, epoch, line string) Event {
	e := Event{Kind: kind, Channel: p.Channel, Raw: line}
	switch kind {
	case KindPublication:
		e.Publication = p.Pub.publication(epoch)
	case KindJoin:
		e.Info = p.Join.Info.info()
	case KindLeave:
		e.Info = p.Leave.Info.info()
	case KindUnsubscribe:
		e.Code, e.Reason = p.Unsubscribe.Code, p.Unsubscribe.Reason
	case KindSubscribe:
		e.Subscription = p.Subscribe.result()
	case KindMessage:
		e.Data = p.Message.Data
	case KindRefresh:
		e.Expires, e.TTL = p.Refresh.Expires, seconds(p.Refresh.TTL)
	case KindDisconnect:
		e.Code, e.Reason = p.Disconnect.Code, p.Disconnect.Reason
	}
	return e
}
