package webhook

import (
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/textproto"
	"net/url"
	"slices"
	"strings"
	"time"
)

// Config says what is asked where. A hook without a URL refuses with [fanfare.ErrNotAvailable].
type Config struct {
	// Breaker says when an endpoint that does not answer is left alone.
	Breaker Breaker

	// Client makes the calls. Its cookie jar and its policy for redirects are not used: cookies are those of each browser,
	// and redirects are not followed. Default: one without a proxy, whose idle connections are kept for a second only,
	// because many synchronous servers close theirs soon.
	Client *http.Client

	// Connect, Publish, Refresh, RPC, SubRefresh and Subscribe are the URLs of the app's endpoints, http or https.
	Connect    string
	Publish    string
	Refresh    string
	RPC        string
	SubRefresh string
	Subscribe  string

	// Headers of the request that opened the connection that are forwarded with every call, for the connection's life.
	// Usual are Cookie, Authorization, Accept-Language, User-Agent, X-Request-Id, Origin and, behind a proxy that sets
	// them, X-Real-Ip and X-Forwarded-For. Headers that belong to one hop, and those that describe the call itself, are
	// refused. Default: Cookie; an empty list that is not nil forwards none.
	//
	// X-Forwarded-For is always sent, with the address of the peer. What came with the request is kept in front of it only if
	// X-Forwarded-For is among Headers: without a proxy in front anybody can write there what they like.
	Headers []string

	// Logger gets what is wrong with the app. Default: nothing is logged.
	Logger *slog.Logger

	// MaxAnswer bounds an answer of the app, in bytes. Default 512 KiB.
	MaxAnswer int

	// MaxConcurrent bounds the calls that run at once, over all endpoints. Further ones wait for a third of Timeout, and are
	// then refused with [fanfare.ErrTooManyRequests]. Default 64; more than the app has workers for gains nothing.
	MaxConcurrent int

	// Static headers are sent with every call, in place of forwarded ones of the same name: a secret that only this server
	// knows, for instance. Host sets the host that the app sees.
	Static http.Header

	// Timeout bounds a call together with the wait for its turn. Default 3 s. Keep it below [fanfare.Config.HookTimeout], or
	// clients whose calls are slow are taken for broken and closed.
	Timeout time.Duration
}

// Breaker is a circuit breaker for each endpoint. An app counts as failing when it cannot be reached, does not answer in time, or
// something in front of it says so (502, 503, 504). Other answers, also wrong ones, show that it is there: one client whose
// requests make the app stumble must not shut out the others.
type Breaker struct {
	// Failures in a row from which the endpoint is not asked for a while, and calls fail at once. Default 5; negative never.
	Failures int
	// OpenFor is that while. After it one call is let through, and if that succeeds all are. Default 5 s.
	OpenFor time.Duration
}

func (c Config) withDefaults() Config {
	if c.Headers == nil {
		c.Headers = []string{"Cookie"}
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.MaxAnswer == 0 {
		c.MaxAnswer = 512 << 10
	}
	if c.MaxConcurrent == 0 {
		c.MaxConcurrent = 64
	}
	if c.Timeout == 0 {
		c.Timeout = 3 * time.Second
	}
	if c.Breaker.Failures == 0 {
		c.Breaker.Failures = 5
	}
	if c.Breaker.OpenFor == 0 {
		c.Breaker.OpenFor = 5 * time.Second
	}
	return c
}

// maxNumber and maxDuration leave room for arithmetic. Nobody needs as much.
const (
	maxNumber   = 1 << 30
	maxDuration = 24 * time.Hour
)

func (c *Config) validate() error {
	if c.MaxAnswer < 0 || c.MaxAnswer > maxNumber {
		return fmt.Errorf("webhook: Config.MaxAnswer of %d must not be negative or over %d", c.MaxAnswer, maxNumber)
	}
	if c.MaxConcurrent < 0 || c.MaxConcurrent > maxNumber {
		return fmt.Errorf("webhook: Config.MaxConcurrent of %d must not be negative or over %d", c.MaxConcurrent, maxNumber)
	}
	if c.Breaker.Failures > maxNumber {
		return fmt.Errorf("webhook: Config.Breaker.Failures of %d is over %d", c.Breaker.Failures, maxNumber)
	}
	if c.Timeout < 0 || c.Timeout > maxDuration {
		return fmt.Errorf("webhook: Config.Timeout of %v must not be negative or over %v", c.Timeout, maxDuration)
	}
	if c.Breaker.OpenFor < 0 || c.Breaker.OpenFor > maxDuration {
		return fmt.Errorf("webhook: Config.Breaker.OpenFor of %v must not be negative or over %v", c.Breaker.OpenFor, maxDuration)
	}
	if err := c.validateHeaders(); err != nil {
		return err
	}
	some := false
	for name, raw := range c.urls() {
		if raw == "" {
			continue
		}
		some = true
		if err := validateURL(raw); err != nil {
			return fmt.Errorf("webhook: Config.%s: %w", name, err)
		}
	}
	if !some {
		return errors.New("webhook: Config names no URL")
	}
	return nil
}

// urls returns the URLs by the name of their field, which is the name of the hook too.
func (c *Config) urls() map[string]string {
	return map[string]string{"Connect": c.Connect, "Publish": c.Publish, "Refresh": c.Refresh, "RPC": c.RPC,
		"SubRefresh": c.SubRefresh, "Subscribe": c.Subscribe}
}

// validateURL does not repeat the URL: it may hold a secret.
func validateURL(raw string) error {
	u, err := url.Parse(raw)
	switch {
	case err != nil:
		return errors.New("not a URL")
	case u.Scheme != "http" && u.Scheme != "https":
		return fmt.Errorf("URL with scheme %q: must be http or https", u.Scheme)
	case u.Host == "":
		return errors.New("URL without a host")
	case u.User != nil:
		return errors.New("URL with a user: use Config.Static for credentials")
	}
	return nil
}

// unforwarded are headers that belong to one hop, or describe the call itself. With Idempotency-Key or X-Idempotency-Key net/http
// repeats any call, so that browsers would decide whether something is published twice.
var unforwarded = []string{"Accept", "Accept-Encoding", "Connection", "Content-Encoding", "Content-Length", "Content-Type", "Expect",
	"Forwarded", "Host", "Idempotency-Key", "Keep-Alive", "Te", "Trailer", "Transfer-Encoding", "Upgrade",
	"X-Idempotency-Key"}

func ownHeader(name string) bool {
	return slices.Contains(unforwarded, name) || strings.HasPrefix(name, "Proxy-") || strings.HasPrefix(name, "Sec-Websocket-")
}

func (c *Config) validateHeaders() error {
	for _, name := range c.Headers {
		switch canonical := textproto.CanonicalMIMEHeaderKey(name); {
		case !isToken(name):
			return fmt.Errorf("webhook: Config.Headers: %q is no header name", name)
		case ownHeader(canonical):
			return fmt.Errorf("webhook: Config.Headers: %s cannot be forwarded", canonical)
		}
	}
	for name, values := range c.Static {
		canonical := textproto.CanonicalMIMEHeaderKey(name)
		switch {
		case !isToken(name):
			return fmt.Errorf("webhook: Config.Static: %q is no header name", name)
		case ownHeader(canonical) && canonical != "Host":
			return fmt.Errorf("webhook: Config.Static: %s cannot be set", canonical)
		case canonical == "Host" && (len(values) != 1 || values[0] == ""):
			return errors.New("webhook: Config.Static: Host must have one value")
		case slices.ContainsFunc(values, func(v string) bool { return strings.ContainsFunc(v, isControl) }):
			return fmt.Errorf("webhook: Config.Static: the value of %s has a control character", canonical)
		}
	}
	return nil
}

func isControl(r rune) bool { return r < ' ' && r != '\t' || r == 0x7f }

// isToken reports whether s is a token of RFC 9110, 5.6.2, as header names are.
func isToken(s string) bool {
	return s != "" && !strings.ContainsFunc(s, func(r rune) bool {
		return r <= ' ' || r >= 0x7f || strings.ContainsRune(`"(),/:;<=>?@[\]{}`, r)
	})
}
