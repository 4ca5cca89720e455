// Package config reads the configuration of the standalone server: a JSON file, and environment variables that override its
// keys. Everything that is wrong is reported at once, each with its source, line and key.
package config

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"slices"
	"time"
)

// Config is the configuration, complete and valid.
type Config struct {
	Addr                  string
	AllowedOrigins        []string
	Anonymous             bool
	TokenHMACSecret       Secret
	JWKSURL               string
	TokenAudience         string
	TokenIssuer           string
	APIKey                Secret
	PersonalChannelPrefix string
	ClientConcurrency     int // 0 is the node's default
	Development           bool
	Channels              []Channel
	Webhooks              Webhooks
	Limits                Limits
	Redis                 Redis
	LogLevel              LogLevel
	LogFormat             LogFormat
	DrainWindow           time.Duration
	DrainDelay            time.Duration

	lines  map[string]int
	source string
}

// Webhooks are the app's own endpoints.
type Webhooks struct {
	Connect, Refresh, Subscribe, SubRefresh, Publish, RPC string
	// Headers of the browser's request that are passed on, beside its cookies.
	Headers []string
	// Static are headers of every call, by name.
	Static        map[string]Secret
	Timeout       time.Duration // 0 is the package's default
	MaxConcurrent int           // 0 is the package's default
}

// Any reports whether there is a webhook at all.
func (w *Webhooks) Any() bool {
	return w.Connect+w.Refresh+w.Subscribe+w.SubRefresh+w.Publish+w.RPC != ""
}

// LogLevel is the least that is logged, by its name in slog.
type LogLevel string

// LogFormat is how log lines look.
type LogFormat string

const (
	Text LogFormat = "text"
	JSON LogFormat = "json"
)

const (
	// maxConcurrency is far beyond what helps: each is a hook, or a call of the app, under way.
	maxConcurrency = 1024
	// maxFile bounds what is read by mistake.
	maxFile = 4 << 20
)

func defaults() *Config {
	return &Config{Addr: "127.0.0.1:8000", LogLevel: "info", LogFormat: Text, DrainWindow: 5 * time.Second}
}

// fields are the keys of the file.
func (c *Config) fields() map[string]setter {
	return map[string]setter{
		"addr":                    text(&c.Addr),
		"allowed_origins":         list(&c.AllowedOrigins),
		"anonymous":               boolean(&c.Anonymous),
		"token_hmac_secret":       secret(&c.TokenHMACSecret),
		"jwks_url":                text(&c.JWKSURL),
		"token_audience":          text(&c.TokenAudience),
		"token_issuer":            text(&c.TokenIssuer),
		"api_key":                 secret(&c.APIKey),
		"personal_channel_prefix": text(&c.PersonalChannelPrefix),
		"client_concurrency":      number(&c.ClientConcurrency, 1, maxConcurrency),
		"development":             boolean(&c.Development),
		"channels":                {kindJSON, c.setChannels},
		"webhooks": {kindJSON, func(d *decoder, v value) error {
			return d.section(v, c.Webhooks.fields(), elsewhere(c.fields(), "the top of the file"))
		}},
		"limits": {kindJSON, func(d *decoder, v value) error {
			return d.section(v, c.Limits.fields(), elsewhere(c.fields(), "the top of the file"))
		}},
		"redis": {kindJSON, func(d *decoder, v value) error {
			return d.section(v, c.Redis.fields(), elsewhere(c.fields(), "the top of the file"))
		}},
		"log_level":    choice(&c.LogLevel, "debug", "info", "warn", "error"),
		"log_format":   choice(&c.LogFormat, Text, JSON),
		"drain_window": duration(&c.DrainWindow),
		"drain_delay":  duration(&c.DrainDelay),
	}
}

func (w *Webhooks) fields() map[string]setter {
	return map[string]setter{
		"connect":        text(&w.Connect),
		"refresh":        text(&w.Refresh),
		"subscribe":      text(&w.Subscribe),
		"sub_refresh":    text(&w.SubRefresh),
		"publish":        text(&w.Publish),
		"rpc":            text(&w.RPC),
		"headers":        list(&w.Headers),
		"static_headers": secrets(&w.Static),
		"timeout":        duration(&w.Timeout),
		"max_concurrent": number(&w.MaxConcurrent, 1, maxConcurrency),
	}
}

func elsewhere(fields map[string]setter, where string) func(string) string {
	return func(key string) string {
		if _, ok := fields[key]; ok {
			return "it belongs to " + where
		}
		return ""
	}
}

// misplaced says of keys at the top of the file where they belong.
func misplaced(key string) string {
	switch key {
	case "tls", "cert_file", "key_file", "tls_cert", "tls_key":
		return "the server speaks plain HTTP; a proxy in front of it ends TLS"
	}
	if s := elsewhere(new(Channel).fields(), `a channel, as channels["room:{id}"].`+key)(key); s != "" {
		return s
	}
	if s := elsewhere(new(Limits).fields(), "limits."+key)(key); s != "" {
		return s
	}
	if s := elsewhere(new(Redis).fields(), "redis."+key)(key); s != "" {
		return s
	}
	return elsewhere(new(Webhooks).fields(), "webhooks."+key)(key)
}

// Load reads the file and the environment, as os.Environ returns it. Without a path the environment is all there is. The error
// holds an [*Error] for everything that is wrong. The warnings are about what works, but is hardly meant.
func Load(path string, environ []string) (c *Config, warnings []string, err error) {
	var data []byte
	if path != "" {
		if data, err = readFile(path); err != nil {
			return nil, nil, fmt.Errorf("read the configuration: %w", err)
		}
	}
	return parse(path, data, environ)
}

func readFile(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err == nil && len(data) > maxFile {
		err = fmt.Errorf("%s is larger than %d bytes", path, maxFile)
	}
	return data, err
}

func parse(path string, data []byte, environ []string) (*Config, []string, error) {
	c := defaults()
	c.source, c.lines = path, make(map[string]int)
	d := &decoder{source: path, data: data, lines: c.lines}
	if path != "" {
		if v, ok := d.open(); ok {
			if err := d.section(v, c.fields(), misplaced); err != nil {
				d.fail("", err.Error())
			}
		}
	}
	e := &decoder{source: "environment"}
	warnings := c.override(e, environ)
	errs := slices.Concat(d.errs, e.errs)
	if len(errs) == 0 {
		errs = c.validate()
	}
	if len(errs) > 0 {
		return nil, warnings, errors.Join(errs...)
	}
	return c, append(warnings, c.doubts()...), nil
}

// Problem is an error about a key of this configuration.
func (c *Config) Problem(key, format string, args ...any) error {
	line := c.lines[key]
	if line == 0 { // items have none of their own, and keys that a channel lacks that of the channel
		line = c.lines[aPart.ReplaceAllString(key, "$1")]
	}
	return &Error{c.Source(), line, key, fmt.Sprintf(format, args...)}
}

// aPart is the index of an item, or the key of a channel.
var aPart = regexp.MustCompile(`\[\d+\]$|(\])\.\w+$`)

// Source is the file that the configuration came from, or "environment".
func (c *Config) Source() string { return cmp.Or(c.source, "environment") }
