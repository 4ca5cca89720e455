package fanfaretest

import (
	"context"
	"net/http"
	"time"

	"github.com/fanfare-go/fanfare"
)

type userKey struct{}

// User returns the user that was given to [Connect] or [Dial], from the context of the request that opened the
// connection, or "".
func User(ctx context.Context) string {
	user, _ := ctx.Value(userKey{}).(string)
	return user
}

// Authenticate is a hook for [fanfare.Config] that believes the user given to [Connect] or [Dial].
func Authenticate(_ context.Context, r *fanfare.ConnectRequest) (fanfare.Identity, error) {
	return fanfare.Identity{User: User(r.HTTP.Context())}, nil
}

// Option is a choice for [Connect] and [Dial].
type Option func(*options)

type options struct {
	requests       []func(*http.Request)
	token          string
	data           []byte
	subs           map[string]fanfare.Position
	unidirectional bool
	noPong         bool
	timeout        time.Duration
	writeTimeout   time.Duration
}

func newOptions(opts []Option) options {
	o := options{timeout: 5 * time.Second, writeTimeout: time.Second}
	for _, opt := range opts {
		opt(&o)
	}
	return o
}

// WithRequest changes the HTTP request that opens the connection before the node sees it: its headers, its cookies, or,
// by *r = *r.WithContext(…), its context.
func WithRequest(change func(r *http.Request)) Option {
	return func(o *options) { o.requests = append(o.requests, change) }
}

// WithToken sets the token of the connect command.
func WithToken(token string) Option { return func(o *options) { o.token = token } }

// WithData sets the data of the connect command, a JSON value.
func WithData(data []byte) Option { return func(o *options) { o.data = data } }

// WithSubs names server-side subscriptions that the client had before, each with the position to recover from. A
// unidirectional client names by it the channels that it wants; the zero position is the start of the stream.
func WithSubs(subs map[string]fanfare.Position) Option { return func(o *options) { o.subs = subs } }

// Unidirectional makes a client that sends nothing but its connect request, and receives bare pushes.
func Unidirectional() Option { return func(o *options) { o.unidirectional = true } }

// NoPong makes a client that does not answer pings.
func NoPong() Option { return func(o *options) { o.noPong = true } }

// WithTimeout sets how long commands wait for their reply. Default 5 s.
func WithTimeout(d time.Duration) Option { return func(o *options) { o.timeout = d } }

// WithWriteTimeout sets how long a blocked write to a stalled client waits before it fails. Default 1 s.
func WithWriteTimeout(d time.Duration) Option { return func(o *options) { o.writeTimeout = d } }

// SubscribeOption is a choice for [Client.Subscribe].
type SubscribeOption func(*object)

// Recover asks for what was published after a position: see [Client.Position].
func Recover(p fanfare.Position) SubscribeOption {
	return func(o *object) {
		o.flag("recover", true)
		o.uint("offset", p.Offset)
		o.text("epoch", p.Epoch)
	}
}

// Positioned asks the server to watch that the subscriber misses nothing.
func Positioned() SubscribeOption { return func(o *object) { o.flag("positioned", true) } }

// Recoverable asks for a subscription that can be recovered later.
func Recoverable() SubscribeOption { return func(o *object) { o.flag("recoverable", true) } }

// JoinLeave asks for joins and leaves.
func JoinLeave() SubscribeOption { return func(o *object) { o.flag("join_leave", true) } }

// Token sends a subscription token.
func Token(token string) SubscribeOption { return func(o *object) { o.text("token", token) } }

// Data sends data to the Subscribe hook, a JSON value.
func Data(data []byte) SubscribeOption { return func(o *object) { o.raw("data", data) } }

// RejectUnrecovered asks for [fanfare.ErrUnrecoverablePosition] instead of a subscription when recovery fails.
func RejectUnrecovered() SubscribeOption { return func(o *object) { o.uint("flag", 2) } } // spec 3.3: bit 1
