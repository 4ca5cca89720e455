package fanfaretest

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"unicode/utf8"
)

// The messages of the server, written down from the specification (spec 3) and not from the server's encoder, so that
// each checks the other. Pointers mark what has to be there even when it is empty (spec 2.1, 18).

type wireReply struct {
	ID            uint32             `json:"id"`
	Error         *wireError         `json:"error"`
	Push          *wirePush          `json:"push"`
	Connect       *wireConnect       `json:"connect"`
	Subscribe     *wireSubscribe     `json:"subscribe"`
	Unsubscribe   *struct{}          `json:"unsubscribe"`
	Publish       *struct{}          `json:"publish"`
	Presence      *wirePresence      `json:"presence"`
	PresenceStats *wirePresenceStats `json:"presence_stats"`
	History       *wireHistory       `json:"history"`
	RPC           *wireData          `json:"rpc"`
	Refresh       *wireRefresh       `json:"refresh"`
	SubRefresh    *wireRefresh       `json:"sub_refresh"`
}

// results names what a reply holds.
func (r *wireReply) results() []string {
	var names []string
	for _, f := range []struct {
		name string
		set  bool
	}{
		{"error", r.Error != nil},
		{"push", r.Push != nil},
		{"connect", r.Connect != nil},
		{"subscribe", r.Subscribe != nil},
		{"unsubscribe", r.Unsubscribe != nil},
		{"publish", r.Publish != nil},
		{"presence", r.Presence != nil},
		{"presence_stats", r.PresenceStats != nil},
		{"history", r.History != nil},
		{"rpc", r.RPC != nil},
		{"refresh", r.Refresh != nil},
		{"sub_refresh", r.SubRefresh != nil},
	} {
		if f.set {
			names = append(names, f.name)
		}
	}
	return names
}

type wirePush struct {
	Channel     string         `json:"channel"`
	Pub         *wirePub       `json:"pub"`
	Join        *wireMember    `json:"join"`
	Leave       *wireMember    `json:"leave"`
	Unsubscribe *wireEnd       `json:"unsubscribe"`
	Message     *wireData      `json:"message"`
	Subscribe   *wireSubscribe `json:"subscribe"`
	Connect     *wireConnect   `json:"connect"`
	Disconnect  *wireEnd       `json:"disconnect"`
	Refresh     *wireRefresh   `json:"refresh"`
}

// kinds names what a push holds.
func (p *wirePush) kinds() []Kind {
	var kinds []Kind
	for _, f := range []struct {
		kind Kind
		set  bool
	}{
		{KindPublication, p.Pub != nil},
		{KindJoin, p.Join != nil},
		{KindLeave, p.Leave != nil},
		{KindUnsubscribe, p.Unsubscribe != nil},
		{KindMessage, p.Message != nil},
		{KindSubscribe, p.Subscribe != nil},
		{kindConnect, p.Connect != nil},
		{KindDisconnect, p.Disconnect != nil},
		{KindRefresh, p.Refresh != nil},
	} {
		if f.set {
			kinds = append(kinds, f.kind)
		}
	}
	return kinds
}

type wireError struct {
	Code      uint32 `json:"code"`
	Message   string `json:"message"`
	Temporary bool   `json:"temporary"`
}

type wireConnect struct {
	Client  string                    `json:"client"`
	Version string                    `json:"version"`
	Expires bool                      `json:"expires"`
	TTL     uint32                    `json:"ttl"`
	Data    json.RawMessage           `json:"data"`
	Subs    map[string]*wireSubscribe `json:"subs"`
	Ping    uint32                    `json:"ping"`
	Pong    bool                      `json:"pong"`
	Session string                    `json:"session"`
	Node    string                    `json:"node"`
	Time    int64                     `json:"time"`
}

type wireSubscribe struct {
	Expires       bool            `json:"expires"`
	TTL           uint32          `json:"ttl"`
	Recoverable   bool            `json:"recoverable"`
	Epoch         string          `json:"epoch"`
	Publications  []*wirePub      `json:"publications"`
	Recovered     bool            `json:"recovered"`
	Offset        uint64          `json:"offset"`
	Positioned    bool            `json:"positioned"`
	Data          json.RawMessage `json:"data"`
	WasRecovering bool            `json:"was_recovering"`
}

type wirePub struct {
	Data   json.RawMessage   `json:"data"`
	Info   *wireInfo         `json:"info"`
	Offset uint64            `json:"offset"`
	Tags   map[string]string `json:"tags"`
	Time   int64             `json:"time"`
	Epoch  string            `json:"epoch"`
}

type wireInfo struct {
	User     *string         `json:"user"`
	Client   *string         `json:"client"`
	ConnInfo json.RawMessage `json:"conn_info"`
	ChanInfo json.RawMessage `json:"chan_info"`
}

type wireMember struct {
	Info *wireInfo `json:"info"`
}

type wireEnd struct {
	Code   uint32 `json:"code"`
	Reason string `json:"reason"`
}

type wireData struct {
	Data json.RawMessage `json:"data"`
}

type wireRefresh struct {
	Client  string `json:"client"`
	Version string `json:"version"`
	Expires bool   `json:"expires"`
	TTL     uint32 `json:"ttl"`
}

type wirePresence struct {
	Presence map[string]*wireInfo `json:"presence"`
}

type wirePresenceStats struct {
	NumClients *int `json:"num_clients"`
	NumUsers   *int `json:"num_users"`
}

type wireHistory struct {
	Publications []*wirePub `json:"publications"`
	Epoch        *string    `json:"epoch"`
	Offset       *uint64    `json:"offset"`
}

// decode reads one message. A real client ignores fields that it does not know; here they are an encoder's mistake.
func decode(line string, v any) error {
	if line == "" {
		return errors.New("empty message")
	}
	if !utf8.ValidString(line) {
		return errors.New("not UTF-8")
	}
	d := json.NewDecoder(bytes.NewReader([]byte(line)))
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		return err
	}
	if _, err := d.Token(); err != io.EOF {
		return errors.New("more than one value on a line")
	}
	return nil
}
