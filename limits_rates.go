package fanfare

import (
	"hash/maphash"
	"sync"
	"time"

	"github.com/fanfare-go/fanfare/internal/protocol"
	"github.com/fanfare-go/fanfare/internal/rate"
)

// rates are the limits of a node on how often clients do things.
type rates struct {
	began                time.Time // times count from here
	commands, subscribes rate.Limit
	userCommands         *userRates // nil is no limit, as below
	connects             *userRates
}

func newRates(c *Config) *rates {
	return &rates{
		began:        time.Now(),
		commands:     c.CommandRate.limit(),
		subscribes:   c.SubscribeRate.limit(),
		userCommands: newUserRates(c.UserCommandRate.limit()),
		connects:     newUserRates(c.ConnectRate.limit()),
	}
}

// meter is what a connection has done lately. The client's runner owns it: commands are begun one by one. It is made with the
// first command that counts.
type meter struct {
	commands, subscribes allowance
}

// allowance is what is left of a rate, and of the patience with who does not keep to it.
type allowance struct {
	taken, refused rate.Bucket
}

// standing is what becomes of something that is counted.
type standing int

const (
	withinRate  standing = iota
	overRate             // it is refused
	wayOverRate          // whoever did it is sent away
)

// take counts something in. Patience is as large as the rate, so who sends twice of what is allowed is told so for ever.
func (a *allowance) take(now time.Duration, l rate.Limit) standing {
	switch {
	case a.taken.Take(now, l):
		return withinRate
	case a.refused.Take(now, l):
		return overRate
	}
	return wayOverRate
}

// checkRates counts a command in. It returns an error if the command is not to be executed.
func (c *Client) checkRates(cmd *protocol.Command, began time.Time) error {
	r := c.node.rates
	if cmd.Connect != nil {
		return nil // the connect has a rate of its own, once it is known whose it is
	}
	now := began.Sub(r.began)
	if r.commands.Limits() {
		if err := c.judge("CommandRate", cmd, c.metered().commands.take(now, r.commands)); err != nil {
			return err
		}
	}
	if cmd.Subscribe != nil && r.subscribes.Limits() {
		if err := c.judge("SubscribeRate", cmd, c.metered().subscribes.take(now, r.subscribes)); err != nil {
			return err
		}
	}
	if user := c.User(); user != "" && r.userCommands != nil {
		return c.judge("UserCommandRate", cmd, r.userCommands.take(user, now))
	}
	return nil
}

func (c *Client) metered() *meter {
	if c.meter == nil {
		c.meter = &meter{}
	}
	return c.meter
}

// judge turns a standing into an answer. An unsubscribe is never refused: SDKs take an error for the end of the world and
// reconnect, and what it ends costs more than it does.
func (c *Client) judge(limit string, cmd *protocol.Command, v standing) error {
	if v == withinRate {
		return nil
	}
	c.node.offenders.note(c.node.log, limit, c.User(), c.id)
	switch {
	case v == wayOverRate:
		return DisconnectTooManyRequests
	case cmd.Unsubscribe != nil:
		return nil
	}
	return ErrTooManyRequests
}

// checkConnectRate counts a connect in.
func (c *Client) checkConnectRate() error {
	r, user := c.node.rates, c.User()
	if user == "" || r.connects == nil || r.connects.take(user, time.Since(r.began)) == withinRate {
		return nil
	}
	c.node.offenders.note(c.node.log, "ConnectRate", user, c.id)
	return ErrTooManyRequests
}

// methodOf names a command for those who observe.
func methodOf(cmd *protocol.Command) string {
	switch {
	case cmd.Connect != nil:
		return "connect"
	case cmd.Subscribe != nil:
		return "subscribe"
	case cmd.Unsubscribe != nil:
		return "unsubscribe"
	case cmd.Publish != nil:
		return "publish"
	case cmd.Presence != nil:
		return "presence"
	case cmd.PresenceStats != nil:
		return "presence_stats"
	case cmd.History != nil:
		return "history"
	case cmd.RPC != nil:
		return "rpc"
	case cmd.Send != nil:
		return "send"
	case cmd.Refresh != nil:
		return "refresh"
	case cmd.SubRefresh != nil:
		return "sub_refresh"
	}
	return "unknown"
}

// userShards spreads users over several locks.
const userShards = 16

// userRates is a rate per user. What it keeps of a user is forgotten when it says nothing any more: after the time in which an
// empty bucket fills it is full, as that of a user who was never seen. So there are no more than were busy in the last two of
// these times.
type userRates struct {
	limit  rate.Limit
	seed   maphash.Seed
	shards [userShards]userShard
}

type userShard struct {
	mu         sync.Mutex // guards below
	young, old map[string]allowance
	turn       time.Duration // when the old are forgotten, and the young grow old
}

// newUserRates returns nil for no limit.
func newUserRates(l rate.Limit) *userRates {
	if !l.Limits() {
		return nil
	}
	return &userRates{limit: l, seed: maphash.MakeSeed()}
}

// take counts something in that a user does.
func (r *userRates) take(user string, now time.Duration) standing {
	s := &r.shards[maphash.String(r.seed, user)%userShards]
	s.mu.Lock()
	defer s.mu.Unlock()
	if refill := r.limit.Refill(); s.young == nil || now >= s.turn {
		if s.old = s.young; now >= s.turn+refill {
			s.old = nil // nobody was here for that long
		}
		s.young, s.turn = make(map[string]allowance), now+refill
	}
	a, ok := s.young[user]
	if !ok {
		a = s.old[user]
	}
	v := a.take(now, r.limit)
	s.young[user] = a
	return v
}
