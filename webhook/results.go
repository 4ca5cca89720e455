package webhook

import (
	"encoding/json"
	"time"

	"github.com/fanfare-go/fanfare"
)

type connectResult struct {
	User     string                     `json:"user"`
	ExpireAt int64                      `json:"expire_at"`
	Info     json.RawMessage            `json:"info"`
	B64Info  string                     `json:"b64info"`
	Data     json.RawMessage            `json:"data"`
	B64Data  string                     `json:"b64data"`
	Channels []string                   `json:"channels"`
	Subs     map[string]subscribeResult `json:"subs"`
	Meta     json.RawMessage            `json:"meta"`
}

type subscribeResult struct {
	Info     json.RawMessage `json:"info"`
	B64Info  string          `json:"b64info"`
	Data     json.RawMessage `json:"data"`
	B64Data  string          `json:"b64data"`
	ExpireAt int64           `json:"expire_at"`
	Override *override       `json:"override"`
	Since    *position       `json:"recover_since"`
}

type position struct {
	Offset uint64 `json:"offset"`
	Epoch  string `json:"epoch"`
}

type boolValue struct {
	Value bool `json:"value"`
}

type override struct {
	Presence         *boolValue `json:"presence"`
	JoinLeave        *boolValue `json:"join_leave"`
	ForceRecovery    *boolValue `json:"force_recovery"`
	ForcePositioning *boolValue `json:"force_positioning"`
	ForceJoinLeave   *boolValue `json:"force_push_join_leave"`
}

type refreshResult struct {
	Expired  bool            `json:"expired"`
	ExpireAt int64           `json:"expire_at"`
	Meta     json.RawMessage `json:"meta"`
}

type publishResult struct {
	Data        json.RawMessage `json:"data"`
	B64Data     string          `json:"b64data"`
	SkipHistory bool            `json:"skip_history"`
}

type rpcResult struct {
	Data    json.RawMessage `json:"data"`
	B64Data string          `json:"b64data"`
}

// identity makes of the result what the node wants to know, and keeps meta in the state.
func (r *connectResult) identity(s *State) (fanfare.Identity, error) {
	i := fanfare.Identity{User: r.User, State: s}
	var err error
	if i.Info, err = jsonOf("info", r.Info, r.B64Info); err != nil {
		return fanfare.Identity{}, err
	}
	if i.Data, err = bytesOf("data", r.Data, r.B64Data); err != nil {
		return fanfare.Identity{}, err
	}
	if i.ExpireAt, err = timeOf(r.ExpireAt); err != nil {
		return fanfare.Identity{}, err
	}
	if n := len(r.Channels) + len(r.Subs); n > 0 {
		i.Subscriptions = make(map[string]fanfare.SubscribeReply, n)
	}
	for _, channel := range r.Channels {
		i.Subscriptions[channel] = fanfare.SubscribeReply{}
	}
	for channel, sub := range r.Subs {
		if i.Subscriptions[channel], err = sub.reply(); err != nil {
			return fanfare.Identity{}, err
		}
	}
	return i, s.setMeta(r.Meta)
}

// setMeta keeps what the app wants back with later calls. Without any the state stays as it is.
func (s *State) setMeta(meta json.RawMessage) error {
	if !present(meta) || s == stateless {
		return nil
	}
	if len(meta) > maxKept {
		return senseless("meta is longer than %d bytes", maxKept)
	}
	s.meta.Store(&meta)
	return nil
}

func (r *subscribeResult) reply() (fanfare.SubscribeReply, error) {
	s := fanfare.SubscribeReply{Override: r.Override.options()}
	if r.Since != nil {
		s.Since = &fanfare.Position{Offset: r.Since.Offset, Epoch: r.Since.Epoch}
	}
	var err error
	if s.Info, err = jsonOf("info", r.Info, r.B64Info); err != nil {
		return fanfare.SubscribeReply{}, err
	}
	if s.Data, err = bytesOf("data", r.Data, r.B64Data); err != nil {
		return fanfare.SubscribeReply{}, err
	}
	if s.ExpireAt, err = timeOf(r.ExpireAt); err != nil {
		return fanfare.SubscribeReply{}, err
	}
	return s, nil
}

func (o *override) options() *fanfare.Override {
	if o == nil {
		return nil
	}
	value := func(v *boolValue) *bool {
		if v == nil {
			return nil
		}
		return &v.Value
	}
	return &fanfare.Override{Presence: value(o.Presence), JoinLeave: value(o.JoinLeave), ForceRecovery: value(o.ForceRecovery),
		ForcePositioning: value(o.ForcePositioning), ForceJoinLeave: value(o.ForceJoinLeave)}
}

// until is when what is refreshed ends.
func (r *refreshResult) until() (time.Time, error) {
	if r.Expired {
		return time.Time{}, fanfare.ErrExpired
	}
	return timeOf(r.ExpireAt)
}
