package config

import (
	"cmp"
	"fmt"
	"net"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
)

// What secrets should have in bytes: shorter ones can be guessed, that of tokens from any token, without asking the server
// (RFC 7518, 3.2).
const (
	minTokenSecret = 32
	minAPIKey      = 16
)

// doubts are what may be meant, but hardly for long.
func (c *Config) doubts() (warnings []string) {
	short := func(key string, s Secret, least int) {
		if s.IsSet() && len(s.value) < least {
			warnings = append(warnings, c.Problem(key, "has fewer than %d bytes: it can be guessed", least).Error())
		}
	}
	short("token_hmac_secret", c.TokenHMACSecret, minTokenSecret)
	short("api_key", c.APIKey, minAPIKey)
	if !c.Tokens() && !c.Anonymous && c.Webhooks.Connect == "" {
		warnings = append(warnings, c.Problem("anonymous",
			"is not set, and neither is token_hmac_secret, jwks_url or webhooks.connect: no client can connect").Error())
	}
	if !c.APIKey.IsSet() {
		warnings = append(warnings, c.Problem("api_key", "is not set: there is no /api, and nothing can be published from outside").Error())
	}
	slices.Sort(warnings)
	return warnings
}

// validate checks what one key alone does not show, and fills in what is left out.
func (c *Config) validate() (errs []error) {
	complain := func(key, format string, args ...any) { errs = append(errs, c.Problem(key, format, args...)) }
	c.checkServer(complain)
	c.checkIdentity(complain)
	c.checkWebhooks(complain)
	c.checkLimits(complain)
	c.checkRedis(complain)
	for i := range c.Channels {
		ch := &c.Channels[i]
		ch.resolve(&c.Webhooks, c.Tokens(), func(key, format string, args ...any) { complain(ch.Path(key), format, args...) })
	}
	if c.Webhooks.Subscribe != "" && !c.uses(Webhook, func(ch *Channel) Access { return ch.Subscribe }) {
		complain("webhooks.subscribe", "is never asked: no channel has subscribe %q, or leaves it out", Webhook)
	}
	if c.Webhooks.Publish != "" && !c.uses(Webhook, func(ch *Channel) Access { return ch.Publish }) {
		complain("webhooks.publish", "is never asked: no channel has publish %q, or leaves it out", Webhook)
	}
	slices.SortStableFunc(errs, func(a, b error) int { return cmp.Compare(a.Error(), b.Error()) })
	return errs
}

// Tokens reports whether tokens can be verified.
func (c *Config) Tokens() bool { return c.TokenHMACSecret.IsSet() || c.JWKSURL != "" }

func (c *Config) checkServer(complain complaint) {
	_, port, err := net.SplitHostPort(c.Addr)
	n, perr := strconv.Atoi(port)
	if err != nil || perr != nil || n < 0 || n > 65535 {
		complain("addr", `%q must be an address with a port, such as "127.0.0.1:8000" or ":8000"`, c.Addr)
	}
	for i, o := range c.AllowedOrigins {
		if !isOrigin(o) {
			complain(fmt.Sprintf("allowed_origins[%d]", i), `must be an origin such as "https://example.com" or "https://*.example.com", or "*"`)
		}
	}
}

// isOrigin is what fanfare.Config.AllowedOrigins checks, too, which does not know the key.
func isOrigin(s string) bool {
	if s == "*" {
		return true
	}
	u, err := url.Parse(s)
	if err != nil || u.Scheme == "" || u.Host == "" || strings.Trim(u.Path, "/") != "" || u.RawQuery != "" || u.User != nil {
		return false
	}
	host, wild := strings.CutPrefix(u.Host, "*")
	return !strings.Contains(host, "*") && (!wild || strings.HasPrefix(host, "."))
}

func (c *Config) checkIdentity(complain complaint) {
	checkURL("jwks_url", c.JWKSURL, complain)
	if !c.Tokens() {
		if c.TokenAudience != "" {
			complain("token_audience", "needs token_hmac_secret or jwks_url")
		}
		if c.TokenIssuer != "" {
			complain("token_issuer", "needs token_hmac_secret or jwks_url")
		}
	}
	if !literal(c.PersonalChannelPrefix) {
		complain("personal_channel_prefix", "must not contain { or }")
	}
}

func (c *Config) checkWebhooks(complain complaint) {
	w := &c.Webhooks
	for key, u := range map[string]string{
		"connect": w.Connect, "refresh": w.Refresh, "subscribe": w.Subscribe, "sub_refresh": w.SubRefresh, "publish": w.Publish, "rpc": w.RPC,
	} {
		checkURL("webhooks."+key, u, complain)
	}
	if w.Refresh != "" && w.Connect == "" {
		complain("webhooks.refresh", "needs webhooks.connect, which says when a connection expires")
	}
	if w.SubRefresh != "" && w.Subscribe == "" {
		complain("webhooks.sub_refresh", "needs webhooks.subscribe, which says when a subscription expires")
	}
	for key, set := range map[string]bool{
		"headers": len(w.Headers) > 0, "static_headers": len(w.Static) > 0, "timeout": w.Timeout > 0, "max_concurrent": w.MaxConcurrent > 0,
	} {
		if set && !w.Any() {
			complain("webhooks."+key, "is for webhooks, and there is none")
		}
	}
	// A call that takes as long as the node waits for a hook is a hook that hangs.
	if w.Timeout >= hookTimeout {
		complain("webhooks.timeout", "must be less than %v, after which clients give up", hookTimeout)
	}
	for i, h := range w.Headers {
		if !headerName.MatchString(h) {
			complain(fmt.Sprintf("webhooks.headers[%d]", i), `must be the name of a header, such as "Accept-Language"`)
		}
	}
	for h, v := range w.Static {
		switch {
		case !headerName.MatchString(h):
			complain(joinPath("webhooks.static_headers", h), `must be the name of a header, such as "X-Live-Secret"`)
		case strings.ContainsFunc(v.value, unicode.IsControl):
			complain(joinPath("webhooks.static_headers", h), "must not hold control characters")
		}
	}
}

// hookTimeout is the default of fanfare.Config.HookTimeout.
const hookTimeout = 4 * time.Second

var headerName = regexp.MustCompile("^[!#$%&'*+.^_`|~0-9A-Za-z-]+$")

// checkURL does not repeat the URL, which may hold a password.
func checkURL(key, s string, complain complaint) {
	if s == "" {
		return
	}
	u, err := url.Parse(s)
	switch {
	case err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https":
		complain(key, `must be a URL such as "https://example.com/path"`)
	case u.User != nil:
		complain(key, "must not hold a user or password: it would be logged")
	}
}
