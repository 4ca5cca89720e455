package serverapi

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"
)

// RPCFunc answers the method rpc. What it returns must be JSON, or nil. An error that is a [fanfare.Error] is told to the caller, any
// other one is logged, and the caller is told 100.
type RPCFunc func(ctx context.Context, params json.RawMessage) (json.RawMessage, error)

// Config configures the API. Only Keys are needed.
type Config struct {
	// Concurrency bounds how much of one request is done at once, of a broadcast or a parallel batch. Default 16.
	Concurrency int

	// Insecure serves everybody, without a key: for tests, or where something in front checks who calls. Keys must be empty then.
	Insecure bool

	// Keys are the API keys that are accepted; several let you change one without a break. They are compared in constant time, and
	// never logged.
	Keys []string

	// Logger gets what goes wrong. Default: nothing is logged.
	Logger *slog.Logger

	// MaxBody bounds the body of a request, in bytes. Beyond it the answer is status 413. Default 4 MiB.
	MaxBody int64

	// MaxItems bounds the channels of a broadcast, and the commands of a batch or of the combined form. Default 10,000.
	MaxItems int

	// Prefix is the path below which the methods are, as the request has it when it comes here. Default "/api".
	Prefix string

	// RPC are the methods that the method rpc calls, by name. Others are answered with 104.
	RPC map[string]RPCFunc

	// Timeout bounds a request, after which what is left of it fails with 100. Default 10 s.
	Timeout time.Duration

	// TransportErrors answers errors with a status of HTTP and the bare error, as a request can ask for by itself with the header
	// "X-Centrifugo-Error-Mode: transport". Otherwise errors come with status 200, in a field error.
	TransportErrors bool
}

func (c Config) withDefaults() Config {
	if c.Concurrency == 0 {
		c.Concurrency = 16
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.MaxBody == 0 {
		c.MaxBody = 4 << 20
	}
	if c.MaxItems == 0 {
		c.MaxItems = 10_000
	}
	if c.Prefix == "" {
		c.Prefix = "/api"
	}
	c.Prefix = strings.TrimRight(c.Prefix, "/")
	if c.Timeout == 0 {
		c.Timeout = 10 * time.Second
	}
	return c
}

func (c *Config) validate() error {
	switch {
	case c.Concurrency < 0 || c.MaxBody < 0 || c.MaxItems < 0 || c.Timeout < 0:
		return errors.New("serverapi: Config.Concurrency, MaxBody, MaxItems and Timeout must not be negative")
	case c.Prefix != "" && !strings.HasPrefix(c.Prefix, "/"):
		return fmt.Errorf("serverapi: Config.Prefix %q does not begin with a slash", c.Prefix)
	case c.Insecure && len(c.Keys) > 0:
		return errors.New("serverapi: Config.Insecure and Config.Keys contradict each other")
	case !c.Insecure && len(c.Keys) == 0:
		return errors.New("serverapi: Config.Keys is empty")
	}
	for i, key := range c.Keys {
		if key == "" {
			return fmt.Errorf("serverapi: Config.Keys[%d] is empty", i)
		}
	}
	for method, fn := range c.RPC {
		if fn == nil {
			return fmt.Errorf("serverapi: Config.RPC[%q] is nil", method)
		}
	}
	return nil
}

// hashes of keys are what is compared: the time that takes says nothing about their lengths either.
func hashes(keys []string) [][sha256.Size]byte {
	list := make([][sha256.Size]byte, len(keys))
	for i, key := range keys {
		list[i] = sha256.Sum256([]byte(key))
	}
	return list
}
