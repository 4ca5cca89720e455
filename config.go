package fanfare

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"time"
)

// Config configures a [Node]. The zero value works: anonymous clients, one process, limits as below. Where a negative
// value is allowed it switches the thing off.
//
// # Hooks
//
// Hooks are ordinary functions; they may block, use a database, and return when they are done. Their context ends when
// the client leaves or after HookTimeout. A hook runs on a goroutine of its own, never with a lock held, and delays only
// commands of its own client. After HookTimeout the command is answered "internal, temporary", a late result is
// discarded, and the client's other commands go on; a client whose hooks overrun twice is closed with 3004. A panic is
// recovered, logged with its stack, and closes that one connection with 3004.
//
// A refusal is an *[Error] or *[Disconnect]; any other error is logged and reaches the client as [ErrInternal].
type Config struct {
	// AllowedOrigins are origins, beside the node's own host, from which browsers may connect: "https://example.com",
	// or "https://*.example.com", where "*" stands for one label or more. "*" alone allows every origin, which lets any page
	// use your users' cookies. Browsers leave out a default port, so ":443" never matches; for the node's own host the scheme
	// is not compared, because a proxy in front may end TLS. A proxy that does not pass on the Host header, as nginx does not by
	// itself, hides the node's own host: then it belongs here.
	AllowedOrigins []string

	// Authenticate decides who a connection belongs to. It runs once per connection, before anything else. If nil,
	// every client is anonymous.
	Authenticate func(ctx context.Context, r *ConnectRequest) (Identity, error)

	// Broker stores and carries publications. Default: a [MemoryBroker] of the node's own.
	Broker Broker

	// CommandRate bounds the commands of one connection. One beyond it is answered 111, try again; see [Rate]. Default none, with a
	// Burst of 2 × (MaxChannels + 32), which is what a client sends when it comes back.
	CommandRate Rate

	// Compression offers permessage-deflate on WebSockets. It costs memory and CPU per connection. Default false.
	Compression bool

	// Concurrency is how many subscribe hooks of one client may overlap. Default 8.
	Concurrency int

	// ConnectRate bounds the connects of one user on this node, after Authenticate said who it is; a poll counts as one. One
	// beyond it is answered 111, try again. Anonymous clients are not counted. Default none, with a Burst of 30.
	ConnectRate Rate

	// ConnectTimeout is how long a connection may take to send its connect command before it is closed with 3502.
	// Default 15 s.
	ConnectTimeout time.Duration

	// Development makes the node examine the requests of every door, and say in the log, once each and in words, what
	// middleware or a proxy broke: a writer that hides Hijack or Flush or holds back what is flushed, timeouts that will cut
	// streams, origins that are refused, headers that a proxy dropped. A door that nothing is wrong with gets one line too.
	// It costs some time per request; clients notice nothing of it. docs/when-nothing-arrives.md lists what is found. Default
	// false.
	Development bool

	// Disconnected is told once about the end of every connection that Authenticate (or, without it, the node)
	// accepted, never before Authenticate returned. It runs on a goroutine of its own with a fresh context.
	Disconnected func(ctx context.Context, n *DisconnectNotice)

	// DrainWindow is the time over which [Node.Shutdown] spreads the closing of connections, at most; it takes a
	// millisecond per connection if that is less. Default 5 s; negative closes all at once.
	DrainWindow time.Duration

	// ExpiryGrace is how long after its expiry a connection or subscription is kept that can be refreshed.
	// Default 25 s.
	ExpiryGrace time.Duration

	// HookTimeout bounds every hook. Default 4 s: clients give up on a command after 5.
	HookTimeout time.Duration

	// IdempotencyTTL is how long [WithIdempotencyKey] remembers. Default 5 min.
	IdempotencyTTL time.Duration

	// LatencyBudget is the longest that publications of a busy channel wait to be written together with those behind them.
	// Channels that are quiet or small, replies and pings do not wait for it. Default 25 ms; negative writes each at once.
	LatencyBudget time.Duration

	// Logger gets everything the node has to say. Default: nothing is logged.
	Logger *slog.Logger

	// MaxChannelLength bounds channel names, in bytes. Default 255.
	MaxChannelLength int

	// MaxChannels bounds the subscriptions of one connection. Default 128.
	MaxChannels int

	// MaxConnecting bounds the Authenticate hooks that are waited for at once on the node: when a server comes back, so do all
	// its clients, and what Authenticate asks should survive that. Further connects wait for their turn. Default 256.
	MaxConnecting int

	// MaxFrameSize bounds what a client sends at once, a WebSocket message or the body of a request, in bytes. Default 64 KiB.
	MaxFrameSize int

	// MaxHistoryRead bounds the publications of one history reply to a client. Default 300.
	MaxHistoryRead int

	// MaxIdleStreams bounds the streams without publications and subscribers that the default broker remembers.
	// Default 100,000.
	MaxIdleStreams int

	// MaxPublicationSize bounds the payload of a publication together with its tags, in bytes, to half of MaxQueueSize at
	// most. Default 256 KiB, or that half if it is less.
	MaxPublicationSize int

	// MaxQueueSize bounds what is queued for one connection, in bytes, 512 at least. Default 1 MiB. Beyond it the channel's
	// [SlowReader] policy applies.
	MaxQueueSize int

	// MaxRecovered bounds the publications of one recovery: a client that missed more is not recovered. Default 300.
	MaxRecovered int

	// MaxRunningHooks bounds the hooks running at once on the node. Beyond it commands are answered 111, try again.
	// Default 10,000.
	MaxRunningHooks int

	// MaxUserConnections bounds the connections of one user, on all nodes of a broker that is a [ConnectionCounter], or else on
	// this node. One beyond it is refused with 3504, after which clients do not come back; see ReplaceOldest. It is not meant to
	// be tight: tabs, devices, and for up to PingInterval + PongTimeout those that have gone without a word all count.
	// Anonymous clients are not counted. If the broker fails, the node counts its own. Default 0, no limit.
	MaxUserConnections int

	// Message gets what clients send outside any channel. If nil, a client that sends is closed with 3508.
	Message func(ctx context.Context, r *MessageRequest) error

	// Name is what [Node.Info] calls the node, for people. Default: the name of the host.
	Name string

	// Observer sees what happens, for metrics and tracing. If nil, nothing is measured.
	Observer Observer

	// PingInterval is the time between pings, a second or more. Default 25 s; negative sends none, and then dead peers are found
	// only by failing writes.
	PingInterval time.Duration

	// PongTimeout is how long a client may take to answer a ping. Default 10 s, and always less than PingInterval:
	// for a short PingInterval the default is a third of it.
	PongTimeout time.Duration

	// PortableIO spends a goroutine on each WebSocket on every system. Without it, those of plain TCP on Linux share a few,
	// and an idle one costs less memory; nothing else differs. Default false.
	PortableIO bool

	// PositionCheck is how long a channel with positions may be silent before the node compares its top with the
	// broker's, to find publications that were lost on the way. Default 40 s; negative never compares.
	PositionCheck time.Duration

	// Presence keeps who is in which channel. Default: a [MemoryPresence] of the node's own.
	Presence Presence

	// Refresh prolongs connections that have an expiry. If nil, they just end with 3005. Clients that connected with a token are
	// told to send a new one in time. Of the others, who are logged in by a cookie for instance, the node asks by itself when they
	// expire, with an empty token, and they hear nothing of it; if the answer is no refusal but an error, again every few seconds
	// until ExpiryGrace is over.
	Refresh func(ctx context.Context, r *RefreshRequest) (RefreshReply, error)

	// ReplaceOldest closes the oldest connection of a user with 3504 when a new one is over MaxUserConnections, instead of refusing
	// the new one. Then nobody is locked out by a connection that is dead and not yet found. Default false.
	ReplaceOldest bool

	// Revalidate re-checks live connections at an interval, by the headers that they came with. Default: never.
	Revalidate Revalidate

	// RPC answers the methods that no [Node.RPC] declared. If nil, they are answered with [ErrMethodNotFound], or with
	// [ErrNotAvailable] if no method is declared at all.
	RPC RPCFunc

	// SlowHook is the duration from which a hook is named in a warning. Default 1 s; negative never.
	SlowHook time.Duration

	// SubscribeRate bounds the subscribes of one connection, which count as commands too: each may cost a hook, a read of
	// history, and a join that everybody in the channel gets. One beyond it is answered 111, and the client tries again, later
	// each time. Default 20 a second, with a Burst of 4 × (MaxChannels + 32). A negative Every is no limit.
	SubscribeRate Rate

	// UserCommandRate bounds the commands of all connections of one user on this node together. Anonymous clients are not
	// counted. Default none, with a Burst of 16 × (MaxChannels + 32).
	UserCommandRate Rate

	// WriteTimeout bounds one write to a connection, after which it is closed with 3009. Default 1 s.
	WriteTimeout time.Duration
}

func (c Config) withDefaults() Config {
	def := func(v *int, d int) {
		if *v == 0 {
			*v = d
		}
	}
	dur := func(v *time.Duration, d time.Duration) {
		if *v == 0 {
			*v = d
		}
	}
	def(&c.Concurrency, 8)
	def(&c.MaxChannelLength, 255)
	def(&c.MaxChannels, 128)
	def(&c.MaxConnecting, 256)
	def(&c.MaxFrameSize, 64<<10)
	def(&c.MaxHistoryRead, 300)
	def(&c.MaxIdleStreams, 100_000)
	def(&c.MaxQueueSize, 1<<20)
	def(&c.MaxPublicationSize, min(256<<10, c.MaxQueueSize/2))
	def(&c.MaxRecovered, 300)
	def(&c.MaxRunningHooks, 10_000)
	dur(&c.ConnectTimeout, 15*time.Second)
	dur(&c.DrainWindow, 5*time.Second)
	dur(&c.ExpiryGrace, 25*time.Second)
	dur(&c.HookTimeout, 4*time.Second)
	dur(&c.IdempotencyTTL, 5*time.Minute)
	dur(&c.LatencyBudget, 25*time.Millisecond)
	dur(&c.PingInterval, 25*time.Second)
	dur(&c.PositionCheck, 40*time.Second)
	dur(&c.SlowHook, time.Second)
	dur(&c.WriteTimeout, time.Second)
	if c.PongTimeout == 0 {
		c.PongTimeout = 10 * time.Second
		if c.PingInterval > 0 && c.PongTimeout >= c.PingInterval {
			c.PongTimeout = c.PingInterval / 3
		}
	}
	if c.Name == "" {
		c.Name, _ = os.Hostname() // or none
	}
	c.CommandRate = c.CommandRate.withDefaults(Rate{}, 2*c.maxCommands())
	c.ConnectRate = c.ConnectRate.withDefaults(Rate{}, 30)
	c.SubscribeRate = c.SubscribeRate.withDefaults(Rate{Every: time.Second / 20}, 4*c.maxCommands())
	c.UserCommandRate = c.UserCommandRate.withDefaults(Rate{}, 16*c.maxCommands())
	c.Revalidate.setDefaults()
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return c
}

const (
	// maxNumber and maxDuration leave room for the arithmetic that is done with settings. Nobody needs as much.
	maxNumber   = 1 << 30
	maxDuration = 365 * 24 * time.Hour
	// minQueueSize holds the reply to a connect.
	minQueueSize = 512
)

func (c *Config) validate() error {
	for name, v := range map[string]int{
		"Concurrency": c.Concurrency, "MaxChannelLength": c.MaxChannelLength, "MaxChannels": c.MaxChannels,
		"MaxConnecting": c.MaxConnecting, "MaxFrameSize": c.MaxFrameSize, "MaxHistoryRead": c.MaxHistoryRead, "MaxIdleStreams": c.MaxIdleStreams,
		"MaxPublicationSize": c.MaxPublicationSize, "MaxQueueSize": c.MaxQueueSize, "MaxRecovered": c.MaxRecovered,
		"MaxRunningHooks": c.MaxRunningHooks, "MaxUserConnections": c.MaxUserConnections,
	} {
		if v < 0 || v > maxNumber {
			return fmt.Errorf("fanfare: Config.%s of %d must not be negative or over %d", name, v, maxNumber)
		}
	}
	for name, v := range map[string]time.Duration{
		"ConnectTimeout": c.ConnectTimeout, "ExpiryGrace": c.ExpiryGrace, "HookTimeout": c.HookTimeout,
		"IdempotencyTTL": c.IdempotencyTTL, "PongTimeout": c.PongTimeout, "WriteTimeout": c.WriteTimeout,
	} {
		if v < 0 {
			return fmt.Errorf("fanfare: Config.%s must not be negative", name)
		}
	}
	for name, v := range map[string]time.Duration{
		"ConnectTimeout": c.ConnectTimeout, "DrainWindow": c.DrainWindow, "ExpiryGrace": c.ExpiryGrace,
		"HookTimeout": c.HookTimeout, "IdempotencyTTL": c.IdempotencyTTL, "LatencyBudget": c.LatencyBudget, "PingInterval": c.PingInterval,
		"PongTimeout": c.PongTimeout, "PositionCheck": c.PositionCheck, "SlowHook": c.SlowHook, "WriteTimeout": c.WriteTimeout,
	} {
		if v > maxDuration {
			return fmt.Errorf("fanfare: Config.%s of %v is more than a year", name, v)
		}
	}
	if c.MaxQueueSize < minQueueSize {
		return fmt.Errorf("fanfare: Config.MaxQueueSize of %d is less than %d", c.MaxQueueSize, minQueueSize)
	}
	if c.PingInterval > 0 && c.PingInterval < time.Second {
		// Clients are told the interval in whole seconds.
		return fmt.Errorf("fanfare: Config.PingInterval of %v is less than a second", c.PingInterval)
	}
	if c.PingInterval > 0 && c.PongTimeout >= c.PingInterval {
		return fmt.Errorf("fanfare: Config.PongTimeout of %v must be less than PingInterval of %v", c.PongTimeout, c.PingInterval)
	}
	if c.MaxPublicationSize > c.MaxQueueSize/2 {
		return fmt.Errorf("fanfare: Config.MaxPublicationSize of %d must not exceed half of MaxQueueSize, %d", c.MaxPublicationSize, c.MaxQueueSize/2)
	}
	for name, r := range map[string]Rate{
		"CommandRate": c.CommandRate, "ConnectRate": c.ConnectRate, "SubscribeRate": c.SubscribeRate, "UserCommandRate": c.UserCommandRate,
	} {
		if err := r.validate(); err != nil {
			return fmt.Errorf("fanfare: Config.%s %w", name, err)
		}
	}
	if c.ReplaceOldest && c.MaxUserConnections == 0 {
		return errors.New("fanfare: Config.ReplaceOldest needs MaxUserConnections")
	}
	if err := c.Revalidate.validate(); err != nil {
		return err
	}
	_, err := newOrigins(c.AllowedOrigins)
	return err
}

// maxCommands bounds a client's command queue: it holds a subscribe for every channel, as they come after a reconnect,
// and some more.
func (c *Config) maxCommands() int { return c.MaxChannels + 32 }

// maxCommandBytes bounds it in bytes.
func (c *Config) maxCommandBytes() int { return 4 * c.MaxFrameSize }
