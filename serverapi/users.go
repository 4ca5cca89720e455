package serverapi

import (
	"context"
	"encoding/json"
	"time"

	"github.com/fanfare-go/fanfare"
)

// selector says which connections of a user are meant. The empty user is the anonymous one, never everybody.
type selector struct {
	User    string `json:"user"`
	Client  string `json:"client"`
	Session string `json:"session"`
}

func (s *selector) options() (opts []fanfare.SelectOption) {
	if s.Client != "" {
		opts = append(opts, fanfare.OnlyClient(s.Client))
	}
	if s.Session != "" {
		opts = append(opts, fanfare.OnlySession(s.Session))
	}
	return opts
}

// choice is a bool that may be left open: {"value":true}.
type choice struct {
	Value bool `json:"value"`
}

func (c *choice) bool() *bool {
	if c == nil {
		return nil
	}
	return &c.Value
}

type override struct {
	Presence           *choice `json:"presence"`
	JoinLeave          *choice `json:"join_leave"`
	ForceRecovery      *choice `json:"force_recovery"`
	ForcePositioning   *choice `json:"force_positioning"`
	ForcePushJoinLeave *choice `json:"force_push_join_leave"`
}

func (o *override) override() *fanfare.Override {
	if o == nil {
		return nil
	}
	return &fanfare.Override{Presence: o.Presence.bool(), JoinLeave: o.JoinLeave.bool(), ForceRecovery: o.ForceRecovery.bool(),
		ForcePositioning: o.ForcePositioning.bool(), ForceJoinLeave: o.ForcePushJoinLeave.bool()}
}

type subscribeRequest struct {
	Channel string `json:"channel"`
	selector
	Info         json.RawMessage `json:"info"`
	B64Info      string          `json:"b64info"`
	Data         json.RawMessage `json:"data"`
	B64Data      string          `json:"b64data"`
	ExpireAt     int64           `json:"expire_at"`
	RecoverSince *position       `json:"recover_since"`
	Override     *override       `json:"override"`
}

func (a *api) subscribe(ctx context.Context, r *subscribeRequest) (empty, error) {
	if r.Channel == "" {
		return empty{}, errBadRequest
	}
	reply := fanfare.SubscribeReply{ExpireAt: unixTime(r.ExpireAt), Override: r.Override.override(), Since: r.RecoverSince.position()}
	var err error
	if reply.Info, _, err = either(r.Info, r.B64Info); err != nil {
		return empty{}, err
	}
	if reply.Data, _, err = either(r.Data, r.B64Data); err != nil {
		return empty{}, err
	}
	return empty{}, a.node.Subscribe(ctx, r.User, r.Channel, reply, r.options()...)
}

type unsubscribeRequest struct {
	Channel string `json:"channel"`
	selector
}

func (a *api) unsubscribe(ctx context.Context, r *unsubscribeRequest) (empty, error) {
	if r.Channel == "" {
		return empty{}, errBadRequest
	}
	if _, err := a.node.Payload(r.Channel); err != nil {
		return empty{}, err
	}
	return empty{}, a.node.Unsubscribe(ctx, r.User, r.Channel, r.options()...)
}

type disconnectRequest struct {
	selector
	Whitelist  []string `json:"whitelist"`
	Disconnect *struct {
		Code   uint32 `json:"code"`
		Reason string `json:"reason"`
	} `json:"disconnect"`
}

func (a *api) disconnect(ctx context.Context, r *disconnectRequest) (empty, error) {
	opts := r.options()
	if len(r.Whitelist) > 0 {
		opts = append(opts, fanfare.ExceptClients(r.Whitelist...))
	}
	var d *fanfare.Disconnect
	if r.Disconnect != nil && r.Disconnect.Code != 0 {
		if r.Disconnect.Code <= fanfare.DisconnectClosed.Code || r.Disconnect.Code > 4999 {
			return empty{}, errBadRequest // no close frame carries it
		}
		d = &fanfare.Disconnect{Code: r.Disconnect.Code, Reason: r.Disconnect.Reason}
	}
	return empty{}, a.node.Disconnect(ctx, r.User, d, opts...)
}

type refreshRequest struct {
	selector
	Expired  bool  `json:"expired"`
	ExpireAt int64 `json:"expire_at"`
}

func (a *api) refresh(ctx context.Context, r *refreshRequest) (empty, error) {
	at := unixTime(r.ExpireAt)
	switch {
	case r.Expired:
		at = time.Now().Add(-time.Second)
	case at.IsZero():
		return empty{}, errBadRequest // a connection must not last for ever because somebody forgot a field
	}
	return empty{}, a.node.Refresh(ctx, r.User, at, r.options()...)
}
