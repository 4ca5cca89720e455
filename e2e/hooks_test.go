//go:build unix

package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/fanfare-go/fanfare"
)

// script is what a client's data asks a hook to do.
type script struct {
	Info  json.RawMessage    `json:"info"`
	Reply json.RawMessage    `json:"reply"`
	TTL   int                `json:"ttl"` // milliseconds; 0 is for ever
	Subs  map[string]*script `json:"subs"`
	Fail  *failure           `json:"fail"`
}

// failure is how a hook refuses: as an error, a disconnect, or some other error.
type failure struct {
	Error      uint32 `json:"error"`
	Disconnect uint32 `json:"disconnect"`
	Other      bool   `json:"other"`
	Message    string `json:"message"`
	Temporary  bool   `json:"temporary"`
	Times      int    `json:"times"` // how often; 0 is always
}

func (f *failure) err() error {
	switch {
	case f == nil:
		return nil
	case f.Disconnect != 0:
		return &fanfare.Disconnect{Code: f.Disconnect, Reason: f.Message}
	case f.Other:
		return errors.New("the database is away")
	}
	return &fanfare.Error{Code: f.Error, Message: f.Message, Temporary: f.Temporary}
}

func readScript(data []byte) (script, error) {
	var sc script
	if len(data) == 0 {
		return sc, nil
	}
	return sc, json.Unmarshal(data, &sc)
}

func (sc *script) expireAt() time.Time { return after(sc.TTL) }

func after(ms int) time.Time {
	if ms == 0 {
		return time.Time{}
	}
	return time.Now().Add(time.Duration(ms) * time.Millisecond)
}

// readToken understands "good" with an optional ":" and milliseconds to live, "expired", and nothing else.
func readToken(token string) (time.Time, error) {
	if token == "expired" {
		return time.Time{}, fanfare.ErrTokenExpired
	}
	word, ttl, _ := strings.Cut(token, ":")
	if word != "good" {
		return time.Time{}, fanfare.DisconnectInvalidToken
	}
	ms, _ := strconv.Atoi(ttl)
	return after(ms), nil
}

func (s *server) authenticate(ctx context.Context, r *fanfare.ConnectRequest) (fanfare.Identity, error) {
	// The context of the request, to see that what middleware put there is kept.
	user, _ := r.HTTP.Context().Value(userKey{}).(string)
	sc, err := readScript(r.Data)
	if err != nil {
		return fanfare.Identity{}, err
	}
	if f := sc.Fail; f != nil && (f.Times == 0 || s.diary.attempt("connect "+user) <= f.Times) {
		return fanfare.Identity{}, f.err()
	}
	id := fanfare.Identity{User: user, Info: sc.Info, Data: sc.Reply, State: user, ExpireAt: sc.expireAt()}
	if r.Token != "" {
		if id.ExpireAt, err = readToken(r.Token); err != nil {
			return fanfare.Identity{}, err
		}
	}
	for channel, sub := range sc.Subs {
		if id.Subscriptions == nil {
			id.Subscriptions = make(map[string]fanfare.SubscribeReply)
		}
		id.Subscriptions[channel] = fanfare.SubscribeReply{Info: sub.Info, Data: sub.Reply, ExpireAt: sub.expireAt()}
	}
	return id, nil
}

func (s *server) refresh(ctx context.Context, r *fanfare.RefreshRequest) (fanfare.RefreshReply, error) {
	s.diary.note(r.Client.User(), func(p *page) { p.Refreshes = append(p.Refreshes, r.Token) })
	if r.Token == "past" {
		return fanfare.RefreshReply{ExpireAt: time.Now().Add(-time.Second)}, nil
	}
	at, err := readToken(r.Token)
	return fanfare.RefreshReply{ExpireAt: at}, err
}

func (s *server) message(ctx context.Context, r *fanfare.MessageRequest) error {
	return r.Client.Send(r.Data)
}

func (s *server) disconnected(ctx context.Context, n *fanfare.DisconnectNotice) {
	s.diary.note(n.Client.User(), func(p *page) { p.Disconnects = append(p.Disconnects, n.Disconnect.Code) })
}

func (s *server) unsubscribed(ctx context.Context, n *fanfare.UnsubscribeNotice) {
	s.diary.note(n.Client.User(), func(p *page) { p.Unsubscribes = append(p.Unsubscribes, n.Code) })
}

// subscribeByScript permits what the client's data says.
func (s *server) subscribeByScript(ctx context.Context, r *fanfare.SubscribeRequest) (fanfare.SubscribeReply, error) {
	sc, err := readScript(r.Data)
	if err != nil {
		return fanfare.SubscribeReply{}, err
	}
	if f := sc.Fail; f != nil && (f.Times == 0 || s.diary.attempt("subscribe "+r.Channel) <= f.Times) {
		return fanfare.SubscribeReply{}, f.err()
	}
	if sc.Reply == nil {
		sc.Reply, _ = json.Marshal(map[string]string{"id": r.Param("id"), "state": r.Client.State().(string)})
	}
	return fanfare.SubscribeReply{Info: sc.Info, Data: sc.Reply, ExpireAt: sc.expireAt()}, nil
}

func (s *server) subscribeByToken(ctx context.Context, r *fanfare.SubscribeRequest) (fanfare.SubscribeReply, error) {
	at, err := readToken(r.Token)
	return fanfare.SubscribeReply{ExpireAt: at}, err
}

func (s *server) subRefresh(ctx context.Context, r *fanfare.SubRefreshRequest) (fanfare.SubRefreshReply, error) {
	s.diary.note(r.Client.User(), func(p *page) { p.SubRefreshes = append(p.SubRefreshes, r.Token) })
	at, err := readToken(r.Token)
	return fanfare.SubRefreshReply{ExpireAt: at}, err
}

// guardPublish does what the published data asks for.
func (s *server) guardPublish(ctx context.Context, r *fanfare.PublishRequest) (fanfare.PublishReply, error) {
	var ask struct {
		Fail    *failure        `json:"fail"`
		Replace json.RawMessage `json:"replace"`
		Handle  bool            `json:"handle"`
	}
	if err := json.Unmarshal(r.Data, &ask); err != nil {
		return fanfare.PublishReply{}, err
	}
	return fanfare.PublishReply{Data: ask.Replace, Handled: ask.Handle}, ask.Fail.err()
}

// staffOnly permits reads to users whose name begins with "staff".
func staffOnly(c *fanfare.Client) error {
	if strings.HasPrefix(c.User(), "staff") {
		return nil
	}
	return fanfare.ErrPermissionDenied
}

func (s *server) declare(n *fanfare.Node) {
	history := fanfare.History{Size: 1000, TTL: time.Hour}
	for pattern, o := range map[string]fanfare.ChannelOptions{
		"public:{id}":    {Public: true, Unsubscribed: s.unsubscribed},
		"closed:{id}":    {},
		"hook:{id}":      {Subscribe: s.subscribeByScript, Presence: true, AllowPresence: fanfare.Anyone},
		"prolonged:{id}": {Subscribe: s.subscribeByScript, SubRefresh: s.prolong},
		"token:{id}":     {Subscribe: s.subscribeByToken, SubRefresh: s.subRefresh},
		"stream:{id}": {
			Public: true, History: history, Presence: true, JoinLeave: true, Unsubscribed: s.unsubscribed,
			AllowPublish: fanfare.Anyone, AllowHistory: fanfare.Anyone, AllowPresence: fanfare.Anyone,
		},
		"small:{id}":    {Public: true, History: fanfare.History{Size: 5, TTL: time.Hour}},
		"doc:{id}":      {Public: true, History: history, Delta: true},
		"shortdoc:{id}": {Public: true, History: fanfare.History{Size: 5, TTL: time.Hour}, Delta: true},
		"livedoc:{id}":  {Public: true, Delta: true, Unsubscribed: s.unsubscribed},
		"textdoc:{id}":  {Public: true, History: history, Delta: true, Payload: fanfare.PayloadText},
		"cachedoc:{id}": {Public: true, History: history, Delta: true, Recovery: fanfare.RecoveryCacheAlways},
		"tagged:{id}":   {Public: true, History: history, TagsFilter: true, Unsubscribed: s.unsubscribed},
		"cache:{id}":    {Public: true, History: history, Recovery: fanfare.RecoveryCache},
		"request:{id}":  {Public: true, History: history, Recovery: fanfare.RecoveryOnRequest},
		"off:{id}":      {Public: true, History: history, Recovery: fanfare.RecoveryOff},
		"force:{id}":    {Public: true, Presence: true, ForceJoinLeave: true},
		"members:{id}":  {Public: true, AllowPublish: fanfare.Subscribers},
		"users:{id}":    {Public: true, AllowPublish: fanfare.Users},
		"single:{id}":   {Public: true, MaxSubscribers: 1, Unsubscribed: s.unsubscribed},
		"text:{id}":     {Public: true, Payload: fanfare.PayloadText, AllowPublish: fanfare.Anyone},
		"html:{id}":     {Public: true, Payload: fanfare.PayloadText, History: history},
		"binary:{id}":   {Public: true, Payload: fanfare.PayloadBinary},
		"guard:{id}": {
			Public: true, History: history, Presence: true, Publish: s.guardPublish,
			ReadHistory:  func(_ context.Context, r *fanfare.HistoryRequest) error { return staffOnly(r.Client) },
			ReadPresence: func(_ context.Context, r *fanfare.PresenceRequest) error { return staffOnly(r.Client) },
		},
	} {
		n.Channel(pattern, o)
	}
	s.declareMethods(n)
}

func (s *server) declareMethods(n *fanfare.Node) {
	n.RPC("echo", func(_ context.Context, r *fanfare.RPCRequest) ([]byte, error) { return r.Data, nil })
	n.RPC("nothing", func(context.Context, *fanfare.RPCRequest) ([]byte, error) { return nil, nil })
	n.RPC("whoami", func(_ context.Context, r *fanfare.RPCRequest) ([]byte, error) {
		c := r.Client
		return json.Marshal(map[string]any{
			"user": c.User(), "client": c.ID(), "transport": c.Transport(), "state": c.State(), "info": json.RawMessage(c.Info()),
		})
	})
	n.RPC("fail", func(_ context.Context, r *fanfare.RPCRequest) ([]byte, error) {
		var f failure
		if err := json.Unmarshal(r.Data, &f); err != nil {
			return nil, err
		}
		return nil, f.err()
	})
	n.RPC("panic", func(context.Context, *fanfare.RPCRequest) ([]byte, error) { panic("on purpose") })
	n.RPC("hang", func(ctx context.Context, _ *fanfare.RPCRequest) ([]byte, error) {
		<-ctx.Done()
		return nil, ctx.Err()
	})
}

// diary is what the hooks saw, by user.
type diary struct {
	mu       sync.Mutex // guards below
	pages    map[string]*page
	attempts map[string]int
}

type page struct {
	Refreshes    []string `json:"refreshes"`
	SubRefreshes []string `json:"subRefreshes"`
	Disconnects  []uint32 `json:"disconnects"`
	Unsubscribes []uint32 `json:"unsubscribes"`
	Connects     []bool   `json:"connects"` // of the node "session": by cookie or not
	Checks       []bool   `json:"checks"`
}

func newDiary() *diary {
	return &diary{pages: make(map[string]*page), attempts: make(map[string]int)}
}

func (d *diary) note(user string, write func(*page)) {
	d.mu.Lock()
	defer d.mu.Unlock()
	p := d.pages[user]
	if p == nil {
		p = new(page)
		d.pages[user] = p
	}
	write(p)
}

// marshal returns a user's page as JSON, while nobody writes to it.
func (d *diary) marshal(user string) (out json.RawMessage, err error) {
	d.note(user, func(p *page) { out, err = json.Marshal(p) })
	return out, err
}

// attempt counts, from 1.
func (d *diary) attempt(what string) int {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.attempts[what]++
	return d.attempts[what]
}
