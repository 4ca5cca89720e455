package redisbroker

import (
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/redis/rueidis"
)

// Config says where Redis is and how to use it. Servers is needed, all else has defaults.
type Config struct {
	// Servers are independent of each other; each channel lives on one of them, found by consistent hashing. All nodes must name
	// the same ones, in any order.
	Servers []Server

	// Prefix begins the name of every key and channel in Redis, so that several apps, or a test, may share a server. Brokers see
	// each other only with the same prefix. It must not contain "{". Default "fanfare".
	Prefix string

	// Durable says that the servers lose nothing that they have acknowledged, neither at a restart nor at a failover: with
	// "appendfsync always", and replicas that are written synchronously or not at all. Without it every restart, failover or
	// move of a slot begins a new epoch, and clients are told that they may have missed something: Redis acknowledges before it
	// has written to disk or to a replica, and nobody could say what was lost.
	Durable bool

	// StreamTTL is how long the top of a stream is remembered after it was last used: published to, read, or watched. At least an
	// hour. Default 7 days.
	StreamTTL time.Duration

	// Lease is how long a node that has died without a word still counts: its members stay present, its connections stay counted.
	// A node renews it every third of that. Those of all nodes should be alike, and must be within a factor of ten. At least a
	// second. Default 10 s.
	Lease time.Duration

	// Timeout bounds each operation, within its context. It should be less than half of Lease, or one renewal that hangs is the end of
	// a lease. Default 2 s.
	Timeout time.Duration

	// Logger gets a line when a server goes away and when it is back, and when a node hears nothing though the server is there. Default
	// [slog.Default].
	Logger *slog.Logger
}

// Server is one Redis: a standalone server, a Cluster, or a master that Sentinels watch. It is comparable but for its TLS and
// addresses; the zero value is not usable.
type Server struct {
	// Addresses are "host:port": of the server; of some nodes of the Cluster; or of the Sentinels.
	Addresses []string
	// SentinelMaster is the name of the master that the Sentinels watch; empty without Sentinels.
	SentinelMaster string
	// Username and Password log in, of an ACL user or, with an empty Username, with the server's password.
	Username, Password string
	// SentinelUsername and SentinelPassword log in to the Sentinels.
	SentinelUsername, SentinelPassword string
	// DB is the number of the database. 0 in a Cluster. Pub/sub knows no databases: apps that share a server need different
	// prefixes, whatever their databases.
	DB int
	// TLS, if not nil, encrypts the connections.
	TLS *tls.Config
}

// name is the same on every node, whatever the order of the addresses.
func (s Server) name() string {
	addresses := slices.Sorted(slices.Values(s.Addresses))
	return s.SentinelMaster + "@" + strings.Join(addresses, ",")
}

func (c Config) withDefaults() (Config, error) {
	if c.Prefix == "" {
		c.Prefix = "fanfare"
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
	if len(c.Servers) == 0 {
		errs = append(errs, errors.New("redisbroker: Config.Servers is empty"))
	}
	seen := make(map[string]int)
	for i, s := range c.Servers {
		if len(s.Addresses) == 0 {
			errs = append(errs, fmt.Errorf("redisbroker: Config.Servers[%d].Addresses is empty", i))
		}
		// Channels of pub/sub are not those of a database: two databases of one server would hear each other.
		if first, again := seen[s.name()]; again {
			errs = append(errs, fmt.Errorf("redisbroker: Config.Servers[%d] is the server of Config.Servers[%d]", i, first))
		}
		seen[s.name()] = i
	}
	if strings.Contains(c.Prefix, "{") {
		errs = append(errs, fmt.Errorf("redisbroker: Config.Prefix %q contains a brace", c.Prefix))
	}
	if c.StreamTTL < time.Hour {
		errs = append(errs, fmt.Errorf("redisbroker: Config.StreamTTL %v is less than an hour", c.StreamTTL))
	}
	if c.Lease < time.Second {
		errs = append(errs, fmt.Errorf("redisbroker: Config.Lease %v is less than a second", c.Lease))
	}
	if c.Timeout < 0 {
		errs = append(errs, fmt.Errorf("redisbroker: Config.Timeout %v is negative", c.Timeout))
	}
	return c, errors.Join(errs...)
}

// ParseURL returns the server that a URL names: "redis://user:password@host:port/db", "rediss://…" over TLS. Further addresses are
// "?addr=host:port", Sentinels are told by "?master_set=NAME", and "?skip_verify=true" takes any certificate. Other parameters mean
// nothing here. Errors do not quote the URL, which contains a password.
func ParseURL(url string) (Server, error) {
	scheme, _, _ := strings.Cut(url, "://")
	if !slices.Contains([]string{"redis", "rediss", "valkey", "valkeys"}, scheme) {
		return Server{}, errors.New(`redisbroker: a URL of Redis begins with "redis://" or "rediss://"`)
	}
	o, err := rueidis.ParseURL(url)
	if err != nil {
		return Server{}, errors.New("redisbroker: malformed URL of Redis (special characters in a password must be percent-encoded)")
	}
	if o.TLSConfig != nil && (len(o.InitAddress) > 1 || o.Sentinel.MasterSet != "") {
		o.TLSConfig.ServerName = "" // each server has its own: that of its address
	}
	return Server{
		Addresses: o.InitAddress, SentinelMaster: o.Sentinel.MasterSet, Username: o.Username, Password: o.Password,
		SentinelUsername: o.Sentinel.Username, SentinelPassword: o.Sentinel.Password, DB: o.SelectDB, TLS: o.TLSConfig,
	}, nil
}
