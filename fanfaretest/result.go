package fanfaretest

import (
	"time"

	"github.com/fanfare-go/fanfare"
)

// ConnectResult is the server's answer to a connect.
type ConnectResult struct {
	// Client is the id of the connection.
	Client string
	// Version is the server's.
	Version string
	// Data is what [fanfare.Identity] gave.
	Data []byte
	// Subs are the server-side subscriptions by channel.
	Subs map[string]*SubscribeResult
	// Ping is the time between pings; 0 is none. Pong tells whether they want an answer.
	Ping time.Duration
	Pong bool
	// Expires tells that the client is to refresh the connection within TTL.
	Expires bool
	TTL     time.Duration
	// Session and Node are what emulated and unidirectional connections get.
	Session string
	Node    string
}

// SubscribeResult is the server's answer to a subscribe.
type SubscribeResult struct {
	// Position is where the subscription begins, before Publications.
	fanfare.Position
	// Positioned subscriptions are watched by the server, so that nothing is missed; Recoverable ones can use [Recover].
	Positioned  bool
	Recoverable bool
	// WasRecovering tells that recovery was tried, Recovered that it succeeded with Publications.
	WasRecovering bool
	Recovered     bool
	Publications  []*fanfare.Publication
	// Data is what [fanfare.SubscribeReply] gave.
	Data []byte
	// Expires tells that the client is to refresh the subscription within TTL.
	Expires bool
	TTL     time.Duration
}

// RefreshResult is the server's answer to a refresh of a connection or subscription.
type RefreshResult struct {
	// Expires tells that the client is to refresh again within TTL.
	Expires bool
	TTL     time.Duration
}

func (e *wireError) err() *fanfare.Error {
	return &fanfare.Error{Code: e.Code, Message: e.Message, Temporary: e.Temporary}
}

func (i *wireInfo) info() fanfare.ClientInfo {
	return fanfare.ClientInfo{User: *i.User, Client: *i.Client, ConnInfo: i.ConnInfo, ChanInfo: i.ChanInfo}
}

func (p *wirePub) publication(epoch string) *fanfare.Publication {
	pub := &fanfare.Publication{Data: p.Data, Tags: p.Tags}
	if p.Offset > 0 {
		pub.Position = fanfare.Position{Offset: p.Offset, Epoch: epoch}
	}
	if p.Info != nil {
		info := p.Info.info()
		pub.Info = &info
	}
	return pub
}

func publications(pubs []*wirePub, epoch string) []*fanfare.Publication {
	var out []*fanfare.Publication
	for _, p := range pubs {
		out = append(out, p.publication(epoch))
	}
	return out
}

func (s *wireSubscribe) result() *SubscribeResult {
	return &SubscribeResult{
		Position:      fanfare.Position{Offset: s.Offset, Epoch: s.Epoch},
		Positioned:    s.Positioned,
		Recoverable:   s.Recoverable,
		WasRecovering: s.WasRecovering,
		Recovered:     s.Recovered,
		Publications:  publications(s.Publications, s.Epoch),
		Data:          s.Data,
		Expires:       s.Expires,
		TTL:           seconds(s.TTL),
	}
}

func (c *wireConnect) result() *ConnectResult {
	r := &ConnectResult{
		Client:  c.Client,
		Version: c.Version,
		Data:    c.Data,
		Ping:    seconds(c.Ping),
		Pong:    c.Pong,
		Expires: c.Expires,
		TTL:     seconds(c.TTL),
		Session: c.Session,
		Node:    c.Node,
		Subs:    make(map[string]*SubscribeResult, len(c.Subs)),
	}
	for channel, s := range c.Subs {
		r.Subs[channel] = s.result()
	}
	return r
}

func seconds(n uint32) time.Duration { return time.Duration(n) * time.Second }
