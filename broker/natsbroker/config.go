package natsbroker

import (
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// Config says where NATS is and how to use it. URL or Conn is needed, all else has defaults.
type Config struct {
	// URL is where the servers are, comma-separated: "nats://127.0.0.1:4222", or "tls://…". The broker then has a connection of its own,
	// which comes back whenever a server is there.
	URL string
	// Options are further ones for the connection to URL, as credentials and certificates.
	Options []nats.Option
	// Conn is a connection that exists already, instead of URL. It stays open when the broker is closed, and is to reconnect for ever
	// ([nats.MaxReconnects] of -1): once it is closed the broker is of no more use.
	Conn *nats.Conn

	// Prefix begins the name of every subject, and is the name of the stream, so that several apps may share a server. Brokers see
	// each other only with the same prefix. Letters, digits, "-" and "_". Default "fanfare".
	Prefix string

	// Replicas is on how many servers of a cluster the stream is kept, if the broker makes it. Default 1.
	Replicas int
	// Storage is where the stream is kept, if the broker makes it. Default [jetstream.FileStorage].
	Storage jetstream.StorageType

	// StreamTTL is how long the top of a channel's stream is remembered after it was last published to or read; nodes read what they
	// watch. At least an hour. Default 7 days.
	StreamTTL time.Duration

	// Lease is how long a node that has died without a word is still in the list of nodes. A node renews it every third of that. At
	// least 3 s. Default 10 s.
	Lease time.Duration

	// Timeout bounds each operation, within its context. Default 2 s.
	Timeout time.Duration

	// Logger gets a line when the server goes away and when it is back. Default [slog.Default].
	Logger *slog.Logger
}

func (c Config) withDefaults() (Config, error) {
	if c.Prefix == "" {
		c.Prefix = "fanfare"
	}
	if c.Replicas == 0 {
		c.Replicas = 1
	}
	if c.StreamTTL == 0 {
		c.StreamTTL = 7 * 24 * time.Hour
	}
	if c.Lease == 0 {
		c.Lease = 10 * time.Second
	}
	if c.Timeout == 0 {
		c.Timeout = 2 * time.Second
	}
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	var errs []error
	if (c.URL == "") == (c.Conn == nil) {
		errs = append(errs, errors.New("exactly one of URL and Conn is needed"))
	}
	if strings.ContainsFunc(c.Prefix, func(r rune) bool { return r == '=' || r > 127 || !plain(byte(r)) || strings.ContainsRune(":/@", r) }) {
		errs = append(errs, fmt.Errorf("invalid Prefix %q: it has other characters than letters, digits, \"-\" and \"_\"", c.Prefix))
	}
	if c.Replicas < 0 {
		errs = append(errs, fmt.Errorf("invalid Replicas %d: negative", c.Replicas))
	}
	if c.StreamTTL < time.Hour {
		errs = append(errs, fmt.Errorf("invalid StreamTTL %v: less than an hour", c.StreamTTL))
	}
	if c.Lease < 3*time.Second {
		errs = append(errs, fmt.Errorf("invalid Lease %v: less than 3 seconds", c.Lease))
	}
	if c.Timeout < 0 {
		errs = append(errs, fmt.Errorf("invalid Timeout %v: negative", c.Timeout))
	}
	if err := errors.Join(errs...); err != nil {
		return c, fmt.Errorf("natsbroker: config: %w", err)
	}
	return c, nil
}

// connect returns the connection of the broker, and whether it is its own.
func (c Config) connect() (nc *nats.Conn, own bool, err error) {
	if c.Conn != nil {
		return c.Conn, false, nil
	}
	options := []nats.Option{
		nats.Name("fanfare"),
		nats.Timeout(c.Timeout),
		nats.MaxReconnects(-1),
		nats.ReconnectWait(250 * time.Millisecond),
		// What is published while the server is away fails, rather than come late.
		nats.ReconnectBufSize(-1),
		// A server that does not answer is found dead within some seconds.
		nats.PingInterval(3 * time.Second),
		nats.MaxPingsOutstanding(2),
		nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) {
			c.Logger.Warn("natsbroker: the connection reports an error", slog.Any("err", err))
		}),
	}
	nc, err = nats.Connect(c.URL, append(options, c.Options...)...)
	return nc, true, err
}
