package webhook

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"time"
	"unicode/utf8"

	"github.com/fanfare-go/fanfare"
)

// Hooks asks the app. Its methods are hooks of [fanfare.Config] and [fanfare.ChannelOptions], and safe for concurrent use.
type Hooks struct {
	config    Config
	client    *http.Client
	static    http.Header // with canonical names
	transport *http.Transport
	report    reporter
	places    chan struct{} // one for each call that runs

	connect, refresh, subscribe, subRefresh, publish, rpc *endpoint
}

// New checks the configuration. It does not call the app: that may start later.
func New(c Config) (*Hooks, error) {
	c = c.withDefaults()
	if err := c.validate(); err != nil {
		return nil, err
	}
	h := &Hooks{config: c, report: reporter{log: c.Logger}, places: make(chan struct{}, c.MaxConcurrent), static: make(http.Header, len(c.Static))}
	for name, values := range c.Static {
		for _, v := range values {
			h.static.Add(name, v)
		}
	}
	h.client = &http.Client{}
	if c.Client != nil {
		*h.client = *c.Client
	} else {
		h.transport = newTransport(c.MaxConcurrent)
		h.client.Transport = h.transport
	}
	h.client.Jar = nil // it would give one user's cookies to all
	h.client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }

	for _, e := range []struct {
		at      **endpoint
		hook    string
		url     string
		repeats bool
	}{
		{&h.connect, "Connect", c.Connect, true}, {&h.refresh, "Refresh", c.Refresh, true}, {&h.subscribe, "Subscribe", c.Subscribe, true},
		{&h.subRefresh, "SubRefresh", c.SubRefresh, true}, {&h.publish, "Publish", c.Publish, false}, {&h.rpc, "RPC", c.RPC, false},
	} {
		if e.url != "" {
			*e.at = h.newEndpoint(e.hook, e.url, e.repeats)
		}
	}
	return h, nil
}

// newTransport goes straight to the app: what is between the two would see the cookies.
func newTransport(concurrent int) *http.Transport {
	t := http.DefaultTransport.(*http.Transport).Clone()
	t.Proxy = nil
	t.DisableCompression = true // answers are small, and their bound is that of what comes
	t.MaxIdleConns, t.MaxIdleConnsPerHost = concurrent, concurrent
	// Synchronous servers close idle connections after a few seconds. A call that meets such an end may not be repeated if it
	// publishes, so it is better not to meet it.
	t.IdleConnTimeout = time.Second
	t.MaxResponseHeaderBytes = 64 << 10
	return t
}

// Close closes idle connections to the app. Calls that run go on. It always returns nil.
func (h *Hooks) Close() error {
	if h.transport != nil {
		h.transport.CloseIdleConnections()
	}
	return nil
}

// String hides the static headers, which hold secrets, from logs.
func (h *Hooks) String() string { return "webhook.Hooks" }

// about is what every call says of the connection.
type about struct {
	Client    string `json:"client"`
	Transport string `json:"transport"`
	Protocol  string `json:"protocol"`
	Encoding  string `json:"encoding"`
}

// whose is what every call but the first says of the connection.
type whose struct {
	about
	User    string          `json:"user"`
	Channel string          `json:"channel,omitempty"`
	Token   string          `json:"token,omitempty"`
	Meta    json.RawMessage `json:"meta,omitempty"`
}

// payload is data as JSON, or as base64 what is none.
type payload struct {
	Data    json.RawMessage `json:"data,omitempty"`
	B64Data []byte          `json:"b64data,omitempty"`
}

func payloadOf(data []byte, a *about) payload {
	switch {
	case len(data) == 0:
		return payload{}
	case utf8.Valid(data) && json.Valid(data):
		return payload{Data: data}
	}
	a.Encoding = "binary"
	return payload{B64Data: data}
}

func (s *State) about(client, transport string) about {
	a := about{Client: client, Transport: transport, Protocol: s.protocol, Encoding: "json"}
	if a.Protocol == "" {
		a.Protocol = "json"
	}
	return a
}

func (s *State) whose(c *fanfare.Client) whose {
	return whose{about: s.about(c.ID(), c.Transport()), User: c.User(), Meta: s.Meta()}
}

// Authenticate is a hook for [fanfare.Config.Authenticate]. It asks Connect.
func (h *Hooks) Authenticate(ctx context.Context, r *fanfare.ConnectRequest) (fanfare.Identity, error) {
	s, err := h.NewState(r)
	if err != nil {
		h.report.warn("Connect", kindHeaders, slog.Int("max", maxKept))
		return fanfare.Identity{}, err
	}
	q := struct {
		about
		Name    string `json:"name,omitempty"`
		Version string `json:"version,omitempty"`
		payload
	}{about: s.about(r.ClientID, r.Transport), Name: r.Name, Version: r.Version}
	q.payload = payloadOf(r.Data, &q.about)
	result, err := consult[connectResult](ctx, h, h.connect, s, q)
	if err != nil {
		return fanfare.Identity{}, err
	}
	identity, err := result.identity(s)
	if err != nil {
		return fanfare.Identity{}, h.senseless(h.connect, err)
	}
	return identity, nil
}

// Refresh is a hook for [fanfare.Config.Refresh]. While the app is down its errors are temporary: the connection lives on, until
// its expiry and [fanfare.Config.ExpiryGrace] are over. When the app answers 401 or 403, the connection has expired.
func (h *Hooks) Refresh(ctx context.Context, r *fanfare.RefreshRequest) (fanfare.RefreshReply, error) {
	s := stateOf(r.Client)
	q := s.whose(r.Client)
	q.Token = r.Token
	until, err := h.refreshed(ctx, h.refresh, s, q)
	return fanfare.RefreshReply{ExpireAt: until}, err
}

// SubRefresh is a hook for [fanfare.ChannelOptions.SubRefresh]. It asks SubRefresh, otherwise like [Hooks.Refresh].
func (h *Hooks) SubRefresh(ctx context.Context, r *fanfare.SubRefreshRequest) (fanfare.SubRefreshReply, error) {
	s := stateOf(r.Client)
	q := s.whose(r.Client)
	q.Channel, q.Token = r.Channel, r.Token
	until, err := h.refreshed(ctx, h.subRefresh, s, q)
	return fanfare.SubRefreshReply{ExpireAt: until}, err
}

func (h *Hooks) refreshed(ctx context.Context, e *endpoint, s *State, q whose) (time.Time, error) {
	if e == nil && q.Token == "" {
		return time.Time{}, fanfare.ErrExpired // the node asks, and there is nobody to ask: it ends as it would without this hook
	}
	result, err := consult[refreshResult](ctx, h, e, s, q)
	if errors.Is(err, fanfare.ErrUnauthorized) || errors.Is(err, fanfare.ErrPermissionDenied) {
		return time.Time{}, fanfare.ErrExpired
	}
	if err != nil {
		return time.Time{}, err
	}
	until, err := result.until()
	if err == nil {
		err = s.setMeta(result.Meta)
	}
	if err != nil {
		return time.Time{}, h.senseless(e, err)
	}
	return until, nil
}

// Subscribe is a hook for [fanfare.ChannelOptions.Subscribe]. It asks Subscribe.
func (h *Hooks) Subscribe(ctx context.Context, r *fanfare.SubscribeRequest) (fanfare.SubscribeReply, error) {
	s := stateOf(r.Client)
	q := struct {
		whose
		payload
	}{whose: s.whose(r.Client)}
	q.Channel, q.Token = r.Channel, r.Token
	q.payload = payloadOf(r.Data, &q.about)
	result, err := consult[subscribeResult](ctx, h, h.subscribe, s, q)
	if err != nil {
		return fanfare.SubscribeReply{}, err
	}
	reply, err := result.reply()
	if err != nil {
		return fanfare.SubscribeReply{}, h.senseless(h.subscribe, err)
	}
	return reply, nil
}

// Publish is a hook for [fanfare.ChannelOptions.Publish]. It asks Publish.
func (h *Hooks) Publish(ctx context.Context, r *fanfare.PublishRequest) (fanfare.PublishReply, error) {
	s := stateOf(r.Client)
	q := struct {
		whose
		payload
	}{whose: s.whose(r.Client)}
	q.Channel = r.Channel
	q.payload = payloadOf(r.Data, &q.about)
	result, err := consult[publishResult](ctx, h, h.publish, s, q)
	if err != nil {
		return fanfare.PublishReply{}, err
	}
	data, err := bytesOf("data", result.Data, result.B64Data)
	if err != nil {
		return fanfare.PublishReply{}, h.senseless(h.publish, err)
	}
	return fanfare.PublishReply{Data: data}, nil
}

// RPC is a [fanfare.RPCFunc]. It asks RPC.
func (h *Hooks) RPC(ctx context.Context, r *fanfare.RPCRequest) ([]byte, error) {
	s := stateOf(r.Client)
	q := struct {
		whose
		Method string `json:"method"`
		payload
	}{whose: s.whose(r.Client), Method: r.Method}
	q.payload = payloadOf(r.Data, &q.about)
	result, err := consult[rpcResult](ctx, h, h.rpc, s, q)
	if err != nil {
		return nil, err
	}
	data, err := bytesOf("data", result.Data, result.B64Data)
	if err != nil {
		return nil, h.senseless(h.rpc, err)
	}
	return data, nil
}

// consult asks the app and reads its answer.
func consult[T any](ctx context.Context, h *Hooks, e *endpoint, s *State, question any) (*T, error) {
	body, err := h.call(ctx, e, s, question)
	if err != nil {
		return nil, err
	}
	result, err := decodeAnswer[T](body)
	if err != nil {
		return nil, h.senseless(e, err)
	}
	return result, nil
}

// senseless logs an answer that makes no sense, and returns what the client is told. Refusals pass.
func (h *Hooks) senseless(e *endpoint, err error) error {
	if !errors.Is(err, errSense) {
		return err
	}
	h.report.warn(e.hook, kindSense, slog.Any("err", err))
	return fanfare.ErrInternal
}
