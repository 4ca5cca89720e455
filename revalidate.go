package fanfare

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/textproto"
	"net/url"
	"slices"
	"strings"
	"time"
)

// Revalidate re-checks live connections, so that a session that ends elsewhere ends its sockets, too: see
// [Config.Revalidate]. The zero value re-checks nothing.
type Revalidate struct {
	// Interval is the time between two checks of one connection. The first one comes at a random time within an interval of
	// the connect, so that clients that came together are not checked together: an ended session loses its connections within
	// one Interval, as far as Check keeps up. Default 1 min.
	Interval time.Duration

	// Check tells whether the connection is still welcome: nil keeps it. A refusal ends it for good: an *[Error] with code 3500,
	// "invalid token", after which SDKs do not come back, but [ErrPermissionDenied] with 3507, and [ErrTokenExpired] with 3005,
	// after which they come back with a new token if they can get one. A *[Disconnect] ends it as it says. An
	// EventSource comes back whatever it is told, until Authenticate refuses it.
	//
	// Any other error, a refusal that is Temporary, or no answer within HookTimeout, keeps the connection until it is asked
	// again an Interval later: a database that is away logs nobody out. The log gets one line per trouble, not one per
	// connection. A panic ends the connection with 3004, like in any hook.
	//
	// 64 calls run at once on a node, at most, and they count towards MaxRunningHooks; others wait for their turn.
	Check func(ctx context.Context, r *RevalidateRequest) error

	// Headers names the headers of the connecting request that are kept for Check. Default: Cookie and Authorization. "Host"
	// keeps the request's host.
	Headers []string
}

// RevalidateRequest is what [Revalidate.Check] decides upon.
type RevalidateRequest struct {
	// Client is the connection: see [Client.User] and [Client.State].
	Client *Client
	// HTTP stands for the request that opened the connection, for session libraries that want one: a GET of the same path with the
	// headers that were kept, and the hook's context. All else is gone, also what middleware had put into the context.
	HTTP *http.Request
}

// maxChecks bounds the calls of Check at once, and those of Refresh and SubRefresh that the server makes by itself.
const maxChecks = 64

func (r *Revalidate) setDefaults() {
	if r.Check == nil {
		return
	}
	if r.Interval == 0 {
		r.Interval = time.Minute
	}
	if r.Headers == nil {
		r.Headers = []string{"Cookie", "Authorization"}
	}
	names := make([]string, 0, len(r.Headers))
	for _, name := range r.Headers {
		names = append(names, http.CanonicalHeaderKey(name))
	}
	slices.Sort(names)
	r.Headers = slices.Compact(names)
}

func (r *Revalidate) validate() error {
	switch {
	case r.Check == nil && (r.Interval != 0 || r.Headers != nil):
		return errors.New("fanfare: Config.Revalidate needs a Check")
	case r.Interval < 0:
		return errors.New("fanfare: Config.Revalidate.Interval must not be negative")
	case r.Interval > maxDuration:
		return fmt.Errorf("fanfare: Config.Revalidate.Interval of %v is more than a year", r.Interval)
	case slices.ContainsFunc(r.Headers, func(name string) bool { return textproto.TrimString(name) == "" }):
		return errors.New("fanfare: Config.Revalidate.Headers has an empty name")
	}
	return nil
}

// vigil is what a client is checked with again and again. client.mu guards dueAt, the rest is constant.
type vigil struct {
	path  string
	kept  []keptHeader
	dueAt moment // 0 while it is being checked
}

// keptHeader is one line of a request's header.
type keptHeader struct{ name, value string }

// vigilOf keeps of a request what Check will want, and nothing that holds the rest of it in memory. It returns nil if the
// connection is not to be checked: long polls are over before their turn comes.
func (n *Node) vigilOf(c *Client, r *http.Request) *vigil {
	if n.config.Revalidate.Check == nil || c.info.Brief || r == nil {
		return nil
	}
	v := &vigil{}
	if r.URL != nil {
		v.path = strings.Clone(r.URL.Path)
	}
	for _, name := range n.config.Revalidate.Headers {
		if name == "Host" {
			v.kept = append(v.kept, keptHeader{name, strings.Clone(r.Host)})
			continue
		}
		for _, value := range r.Header[name] {
			v.kept = append(v.kept, keptHeader{name, strings.Clone(value)})
		}
	}
	v.kept = slices.Clip(v.kept)
	return v
}

// request makes a request of what was kept.
func (v *vigil) request(ctx context.Context) *http.Request {
	r := &http.Request{Method: http.MethodGet, URL: &url.URL{Path: v.path}, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: make(http.Header), Body: http.NoBody, RequestURI: v.path}
	for _, h := range v.kept {
		if h.name == "Host" {
			r.Host = h.value
			continue
		}
		r.Header[h.name] = append(r.Header[h.name], h.value)
	}
	return r.WithContext(ctx)
}

// startVigil sets the first check, at any time of the interval. client.mu is held.
func (c *Client) startVigil(now time.Time) {
	if c.vigil != nil {
		every := c.node.config.Revalidate.Interval
		c.vigil.dueAt = c.agenda().moment(now.Add(1 + rand.N(every)))
	}
}

// dueCheck is when the client is to be checked. client.mu is held.
func (c *Client) dueCheck() moment {
	if c.vigil == nil {
		return 0
	}
	return c.vigil.dueAt
}

// revalidate asks the app whether the client is still welcome. It is called when the time has come for which dueAt stood.
func (c *Client) revalidate(p *place, due moment) {
	n, every := c.node, c.node.config.Revalidate.Interval
	r := &RevalidateRequest{Client: c}
	answer, err := ask(p, c, hookRevalidate, "", func(ctx context.Context) (struct{}, error) {
		r.HTTP = c.vigil.request(ctx)
		return struct{}{}, n.config.Revalidate.Check(ctx, r)
	})
	switch {
	case err != nil && (errors.Is(err, errGone) || errors.Is(err, errAnswered)):
		return
	case err != nil && !errors.Is(err, ErrTooManyRequests): // which was logged
		n.checks.trouble(c, hookRevalidate, every, errNoAnswer)
	case err == nil && answer.err != nil:
		if d := ending(answer.err); d != nil {
			c.closeFor(d, fmt.Errorf("revalidation: %w", answer.err))
			return
		}
		n.checks.trouble(c, hookRevalidate, every, answer.err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	now := time.Now()
	// In step with the time before, so that the spreading stays, unless it was late by more than that.
	next, latest := due+moment(every), c.agenda().moment(now)
	if next <= latest {
		next = latest + 1 + moment(rand.N(every))
	}
	c.vigil.dueAt = next
	c.setClock(now)
}

// ending is how a connection ends whose identity the app refuses, or nil if it does not: the error says nothing about the
// identity then, or only for now.
//
// 3500 is what the protocol answers to credentials that are no good, also during a session (spec 5.9), and a code after
// which no client comes back by itself (spec 9.3). It tells pages apart a session that is over from a kick by [Node.Disconnect].
func ending(err error) *Disconnect {
	if d := asDisconnect(err); d != nil {
		return d
	}
	e, ok := errors.AsType[*Error](err)
	switch {
	case !ok || e.Temporary:
		return nil
	case e.Code == ErrTokenExpired.Code:
		return DisconnectExpired
	case e.Code == ErrPermissionDenied.Code:
		return DisconnectPermissionDenied
	}
	return DisconnectInvalidToken
}
