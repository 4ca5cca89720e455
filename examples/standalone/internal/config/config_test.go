package config_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare/examples/standalone/internal/config"
)

// complete has every key of the file.
const complete = `{
	"addr": ":9000",
	"allowed_origins": ["https://example.com", "https://*.example.org"],
	"anonymous": true,
	"token_hmac_secret": "hmac-secret-hmac-secret-hmac-secret",
	"jwks_url": "https://example.com/jwks",
	"token_audience": "live",
	"token_issuer": "app",
	"api_key": "api-key-api-key-api-key",
	"personal_channel_prefix": "#",
	"client_concurrency": 4,
	"development": true,
	"channels": {
		"room:{id}": {
			"history_size": 100, "history_ttl": "10m", "recover": "stream", "force_recovery": true, "force_positioning": true,
			"presence": true, "join_leave": true, "force_join_leave": true, "delta": true, "default_delta": true, "tags_filter": true,
			"subscribe": "token", "publish": "subscribers", "history": "users", "presence_read": "anyone"
		},
		"#{user}": {}
	},
	"webhooks": {
		"connect": "http://app/connect", "refresh": "http://app/refresh", "subscribe": "http://app/subscribe",
		"publish": "http://app/publish", "rpc": "http://app/rpc", "headers": ["Accept-Language"], "timeout": "2s",
		"sub_refresh": "http://app/sub_refresh", "static_headers": {"X-Live-Secret": "static-static"}, "max_concurrent": 8
	},
	"limits": {
		"user_connections": 20, "replace_oldest": true, "commands_per_second": 50, "user_commands_per_second": 100,
		"subscribes_per_second": 10, "user_connects_per_second": 5
	},
	"redis": {"urls": ["redis://user:redis-password@127.0.0.1:6379/1", "rediss://example.com"], "prefix": "app", "durable": true},
	"log_level": "debug",
	"log_format": "json",
	"drain_window": "3s",
	"drain_delay": "1s"
}`

func load(t *testing.T, file string, environ ...string) (*config.Config, []string, error) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "fanfare.json")
	require.NoError(t, os.WriteFile(path, []byte(file), 0o600))
	c, warnings, err := config.Load(path, environ)
	if err != nil {
		// The directory is different each time.
		return nil, warnings, errors.New(strings.ReplaceAll(err.Error(), path, "fanfare.json"))
	}
	return c, warnings, nil
}

func TestLoad_EveryKey(t *testing.T) {
	t.Parallel()
	c, warnings, err := load(t, complete)
	require.NoError(t, err)
	require.Empty(t, warnings)
	require.Equal(t, ":9000", c.Addr)
	require.Equal(t, []string{"https://example.com", "https://*.example.org"}, c.AllowedOrigins)
	require.True(t, c.Anonymous)
	require.Equal(t, "hmac-secret-hmac-secret-hmac-secret", c.TokenHMACSecret.Reveal())
	require.Equal(t, "https://example.com/jwks", c.JWKSURL)
	require.Equal(t, "live", c.TokenAudience)
	require.Equal(t, "app", c.TokenIssuer)
	require.Equal(t, "api-key-api-key-api-key", c.APIKey.Reveal())
	require.Equal(t, "#", c.PersonalChannelPrefix)
	require.Equal(t, 4, c.ClientConcurrency)
	require.True(t, c.Development)
	yes := true
	require.Equal(t, []config.Channel{{
		Pattern: "room:{id}", HistorySize: 100, HistoryTTL: 10 * time.Minute, Recover: config.Stream, ForceRecovery: true,
		ForcePositioning: true, Presence: true, JoinLeave: true, ForceJoinLeave: true, Delta: true, DefaultDelta: &yes, TagsFilter: true,
		Subscribe: config.Token, Publish: config.Subscribers, History: config.Users, PresenceRead: config.Anyone,
	}, {
		Pattern: "#{user}", Subscribe: config.Webhook, Publish: config.Webhook, History: config.Nobody, PresenceRead: config.Nobody,
	}}, c.Channels, "what is left out is the webhooks' to decide")
	require.Equal(t, config.Webhooks{Connect: "http://app/connect", Refresh: "http://app/refresh", Subscribe: "http://app/subscribe",
		Publish: "http://app/publish", RPC: "http://app/rpc", Headers: []string{"Accept-Language"}, Timeout: 2 * time.Second,
		SubRefresh: "http://app/sub_refresh", Static: map[string]config.Secret{"X-Live-Secret": config.NewSecret("static-static")}, MaxConcurrent: 8}, c.Webhooks)
	require.Equal(t, config.Limits{UserConnections: 20, ReplaceOldest: true, Commands: 50, UserCommands: 100, Subscribes: 10, UserConnects: 5},
		c.Limits)
	require.Equal(t, config.Redis{
		URLs:   []config.Secret{config.NewSecret("redis://user:redis-password@127.0.0.1:6379/1"), config.NewSecret("rediss://example.com")},
		Prefix: "app", Durable: true,
	}, c.Redis)
	servers, err := c.Redis.Servers()
	require.NoError(t, err)
	require.Equal(t, "redis-password", servers[0].Password)
	require.NotNil(t, servers[1].TLS)
	require.Equal(t, config.LogLevel("debug"), c.LogLevel)
	require.Equal(t, config.JSON, c.LogFormat)
	require.Equal(t, 3*time.Second, c.DrainWindow)
	require.Equal(t, time.Second, c.DrainDelay)
}

func TestLoad_Defaults(t *testing.T) {
	t.Parallel()
	c, warnings, err := load(t, `{"channels": {"news": {"history_size": 1, "history_ttl": "1m"}}}`)
	require.NoError(t, err)
	require.Equal(t, "127.0.0.1:8000", c.Addr)
	require.Equal(t, config.Text, c.LogFormat)
	require.Equal(t, 5*time.Second, c.DrainWindow)
	require.Equal(t, config.Stream, c.Channels[0].Recover)
	require.Equal(t, config.Nobody, c.Channels[0].Subscribe, "closed until said otherwise")
	require.Len(t, warnings, 2)
	require.Contains(t, warnings[0], "anonymous: is not set")
	require.Contains(t, warnings[1], "api_key: is not set")
}

func TestLoad_Typos(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ file, want string }{
		{`{"adr": ":1"}`, `fanfare.json:1: adr: unknown key; did you mean "addr"?`},
		{"{\n\"anonymous\": true,\n\"alowed_origins\": []}", `fanfare.json:3: alowed_origins: unknown key; did you mean "allowed_origins"?`},
		{`{"tokenHmacSecret": "x"}`, `tokenHmacSecret: unknown key; did you mean "token_hmac_secret"?`},
		{`{"api-key": "x"}`, `api-key: unknown key; did you mean "api_key"?`},
		{`{"Addr": ":1"}`, `Addr: unknown key; did you mean "addr"?`},
		{`{"personal_chanel_prefix": "#"}`, `did you mean "personal_channel_prefix"?`},
		{`{"frobnicate": 1}`, `frobnicate: unknown key; known are addr, allowed_origins, anonymous, api_key, channels,`},
		{`{"with space": 1}`, `["with space"]: unknown key`},
		{`{"history_size": 1}`, `history_size: unknown key here: it belongs to a channel, as channels["room:{id}"].history_size`},
		{`{"connect": "http://a/"}`, `connect: unknown key here: it belongs to webhooks.connect`},
		{`{"tls": {}}`, `tls: unknown key here: the server speaks plain HTTP; a proxy in front of it ends TLS`},
		{`{"channels": {"room:{id}": {"history_tll": "1m"}}}`, `channels["room:{id}"].history_tll: unknown key; did you mean "history_ttl"?`},
		{`{"channels": {"room:{id}": {"api_key": "1m"}}}`, `channels["room:{id}"].api_key: unknown key here: it belongs to the top of the file`},
		{`{"webhooks": {"conect": "http://a/"}}`, `webhooks.conect: unknown key; did you mean "connect"?`},
		{`{"channels": {"a": {"subscribe": "anyon"}}}`,
			`channels["a"].subscribe: "anyon" is none of "anyone", "users", "subscribers", "token", "webhook", "nobody"; did you mean "anyone"?`},
		{`{"channels": {"a": {"recover": "steam"}}}`, `channels["a"].recover: "steam" is none of "stream", "cache"; did you mean "stream"?`},
		{`{"log_level": "trace"}`, `log_level: "trace" is none of "debug", "info", "warn", "error"`},
		{`{"addr": ":1", "addr": ":2"}`, `addr: is there twice`},
		{`{"channels": {"a": {}, "a": {}}}`, `channels["a"]: is there twice`},
	} {
		_, _, err := load(t, tt.file)
		require.ErrorContains(t, err, tt.want, tt.file)
		require.ErrorContains(t, err, "fanfare.json:", tt.file)
	}
}

func TestLoad_WrongValues(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ file, want string }{
		{``, `fanfare.json:1: not JSON: unexpected end of JSON input`},
		{"{\n\"addr\": oops}", `fanfare.json:2: not JSON: something unexpected looking for beginning of value`},
		{`[]`, `fanfare.json: must be an object, is a list`},
		{`{"addr": 8000}`, `addr: must be a string, is a number`},
		{`{"addr": null}`, `addr: must be a string, is null`},
		{`{"addr": "8000"}`, `addr: "8000" must be an address with a port`},
		{`{"addr": "host:http"}`, `addr: "host:http" must be an address with a port`},
		{`{"anonymous": "yes"}`, `anonymous: must be true or false, is a string`},
		{`{"allowed_origins": "https://a"}`, `allowed_origins: must be a list of strings, is a string`},
		{`{"allowed_origins": ["example.com"]}`, `allowed_origins[0]: must be an origin such as`},
		{`{"allowed_origins": ["*", "https://a.*.b"]}`, `allowed_origins[1]: must be an origin such as`},
		{`{"token_hmac_secret": ""}`, `token_hmac_secret: must not be empty; leave the key out`},
		{`{"jwks_url": "example.com"}`, `jwks_url: must be a URL`},
		{`{"jwks_url": "https://u:p@example.com"}`, `jwks_url: must not hold a user or password`},
		{`{"token_issuer": "a"}`, `token_issuer: needs token_hmac_secret or jwks_url`},
		{`{"personal_channel_prefix": "{"}`, `personal_channel_prefix: must not contain { or }`},
		{`{"client_concurrency": 0}`, `client_concurrency: of 0 must be between 1 and 1024`},
		{`{"client_concurrency": 1.5}`, `client_concurrency: must be a whole number, is a number`},
		{`{"drain_window": 5}`, `drain_window: must be a duration in quotes, such as "10m" or "1h30m", is a number`},
		{`{"drain_window": "1d"}`, `drain_window: "1d" must be a duration such as`},
		{`{"drain_window": "-1s"}`, `drain_window: "-1s" must be between 0s and a year`},
		{`{"channels": []}`, `channels: must be an object, is a list`},
		{`{"channels": {"a": 1}}`, `channels["a"]: must be an object, is a number`},
		{`{"channels": {"a": {"history_size": 10}}}`, `channels["a"].history_ttl: must be longer than 0 with history_size`},
		{`{"channels": {"a": {"history_ttl": "1m"}}}`, `channels["a"].history_size: must be more than 0 with history_ttl`},
		{`{"channels": {"a": {"recover": "cache"}}}`, `channels["a"].recover: needs history_size and history_ttl`},
		{`{"channels": {"a": {"force_recovery": true}}}`, `channels["a"].force_recovery: needs history_size`},
		{`{"channels": {"a": {"force_positioning": true}}}`, `channels["a"].force_positioning: needs history_size`},
		{`{"channels": {"a": {"history": "users"}}}`, `channels["a"].history: of "users" needs history_size`},
		{`{"channels": {"a": {"presence_read": "users"}}}`, `channels["a"].presence_read: of "users" needs presence`},
		{`{"channels": {"a": {"subscribe": "subscribers"}}}`, `channels["a"].subscribe: cannot be "subscribers"`},
		{`{"channels": {"a": {"subscribe": "token"}}}`, `channels["a"].subscribe: of "token" needs token_hmac_secret or jwks_url`},
		{`{"channels": {"a": {"subscribe": "webhook"}}}`, `channels["a"].subscribe: of "webhook" needs webhooks.subscribe`},
		{`{"channels": {"a": {"publish": "webhook"}}}`, `channels["a"].publish: of "webhook" needs webhooks.publish`},
		{`{"channels": {"a": {"publish": "token"}}}`, `channels["a"].publish: cannot be "token": tokens are for subscribe`},
		{`{"channels": {"a": {"presence": true, "presence_read": "webhook"}}}`, `channels["a"].presence_read: cannot be "webhook"`},
		{`{"channels": {"a": {"default_delta": true}}}`, `channels["a"].default_delta: needs delta`},
		{`{"channels": {"a": {"delta": true, "default_delta": false}}}`, `channels["a"].default_delta: cannot be false`},
		{`{"limits": {"replace_oldest": true}}`, `limits.replace_oldest: needs limits.user_connections`},
		{`{"limits": {"commands_per_second": 0}}`, `limits.commands_per_second: of 0 must be between 1 and 100000`},
		{`{"user_connections": 1}`, `user_connections: unknown key here: it belongs to limits.user_connections`},
		{`{"webhooks": {"connect": "app"}}`, `webhooks.connect: must be a URL`},
		{`{"webhooks": {"refresh": "http://app/"}}`, `webhooks.refresh: needs webhooks.connect`},
		{`{"webhooks": {"subscribe": "http://app/"}, "channels": {"a": {"subscribe": "anyone"}}}`, `webhooks.subscribe: is never asked`},
		{`{"webhooks": {"publish": "http://app/"}}`, `webhooks.publish: is never asked`},
		{`{"webhooks": {"headers": ["X-A"]}}`, `webhooks.headers: is for webhooks, and there is none`},
		{`{"webhooks": {"timeout": "1s"}}`, `webhooks.timeout: is for webhooks, and there is none`},
		{`{"webhooks": {"rpc": "http://app/", "timeout": "4s"}}`, `webhooks.timeout: must be less than 4s, after which clients give up`},
		{`{"webhooks": {"sub_refresh": "http://app/"}}`, `webhooks.sub_refresh: needs webhooks.subscribe`},
		{`{"webhooks": {"max_concurrent": 1}}`, `webhooks.max_concurrent: is for webhooks, and there is none`},
		{`{"webhooks": {"rpc": "http://app/", "static_headers": []}}`, `webhooks.static_headers: must be an object, is a list`},
		{`{"webhooks": {"rpc": "http://app/", "static_headers": {"X-A": 1}}}`, `webhooks.static_headers.X-A: must be a string, is a number`},
		{`{"webhooks": {"rpc": "http://app/", "static_headers": {"X A": "a"}}}`, `webhooks.static_headers["X A"]: must be the name of a header`},
		{`{"webhooks": {"rpc": "http://app/", "static_headers": {"X-A": "a\n"}}}`, `webhooks.static_headers.X-A: must not hold control`},
		{`{"urls": []}`, `fanfare.json:1: urls: unknown key here: it belongs to redis.urls`},
		{`{"redis": {"url": "redis://a"}}`, `fanfare.json:1: redis.url: unknown key; did you mean "urls"?`},
		{`{"redis": {"urls": "redis://a"}}`, `fanfare.json:1: redis.urls: must be a list of strings, is a string`},
		{`{"redis": {"urls": ["a:6379"]}}`, `fanfare.json:1: redis.urls[0]: must be a URL such as`},
		{`{"redis": {"urls": ["redis://a", "http://b"]}}`, `redis.urls[1]: must be a URL such as`},
		{`{"redis": {"urls": ["redis://a/one"]}}`, `redis.urls[0]: must be a URL such as`},
		{`{"redis": {"urls": ["unix:///run/redis.sock"]}}`, `redis.urls[0]: must be a URL such as`},
		{`{"redis": {"urls": ["redis://a", "redis://a"]}}`, `redis.urls[1]: names a server that is there already`},
		{`{"redis": {"urls": ["redis://a"], "prefix": "{a}"}}`, `redis.prefix: must not contain {`},
		{`{"redis": {"urls": ["redis://a"], "durable": "yes"}}`, `redis.durable: must be true or false, is a string`},
		{`{"redis": {"prefix": "a"}}`, `fanfare.json:1: redis.prefix: needs redis.urls`},
		{`{"redis": {"durable": true}}`, `fanfare.json:1: redis.durable: needs redis.urls`},
		{`{"redis": {"urls": []}}`, `fanfare.json:1: redis: needs urls, such as ["redis://127.0.0.1:6379"]`},
		{`{"redis": []}`, `fanfare.json:1: redis: must be an object, is a list`},
		{`{"webhooks": {"rpc": "http://app/", "headers": ["X A"]}}`, `webhooks.headers[0]: must be the name of a header`},
	} {
		_, _, err := load(t, tt.file)
		require.ErrorContains(t, err, tt.want, tt.file)
	}
}

func TestLoad_ReportsEverythingAtOnce(t *testing.T) {
	t.Parallel()
	_, _, err := load(t, `{"adr": 1, "anonymous": 2, "channels": {"a": {"presense": true}}}`, "FANFARE_API_KYE=x")
	require.Equal(t, strings.Join([]string{
		`fanfare.json:1: adr: unknown key; did you mean "addr"?`,
		`fanfare.json:1: anonymous: must be true or false, is a number`,
		`fanfare.json:1: channels["a"].presense: unknown key; did you mean "presence"?`,
		`environment: FANFARE_API_KYE: unknown variable; did you mean FANFARE_API_KEY?`,
	}, "\n"), err.Error())
}

// What is not there has no line, but its channel has.
func TestLoad_NamesTheLineOfAChannelThatLacksAKey(t *testing.T) {
	t.Parallel()
	_, _, err := load(t, "{\n\"channels\": {\n\"a\": {},\n\"b\": {\"history_ttl\": \"1m\"}}}")
	require.EqualError(t, err, `fanfare.json:4: channels["b"].history_size: must be more than 0 with history_ttl, for example 100`)
}

func TestLoad_NoFile(t *testing.T) {
	t.Parallel()
	_, _, err := config.Load(filepath.Join(t.TempDir(), "missing.json"), nil)
	require.ErrorIs(t, err, os.ErrNotExist)
	require.ErrorContains(t, err, "missing.json")

	c, _, err := config.Load("", []string{"FANFARE_ADDR=:1"})
	require.NoError(t, err)
	require.Equal(t, ":1", c.Addr)
	require.Equal(t, "environment", c.Source())
}

func TestLoad_TheEnvironmentOverrides(t *testing.T) {
	t.Parallel()
	c, warnings, err := load(t, complete, "FANFARE_ADDR=:7000", "FANFARE_ALLOWED_ORIGINS=https://a.example, https://b.example",
		"FANFARE_ANONYMOUS=false", "FANFARE_TOKEN_HMAC_SECRET=another-secret-of-length-and-more", "FANFARE_API_KEY=12345678901234567890",
		"FANFARE_CLIENT_CONCURRENCY=2", `FANFARE_CHANNELS={"news":{"subscribe":"anyone"},"x":{}}`, "FANFARE_WEBHOOKS_TIMEOUT=1s",
		"FANFARE_WEBHOOKS_HEADERS=X-A,X-B", "FANFARE_REDIS_URLS=redis://a, redis://b",
		"FANFARE_LOG_LEVEL=warn", "FANFARE_DRAIN_WINDOW=", "FANFARE_SERVICE_HOST=10.0.0.1", "PATH=/bin")
	require.NoError(t, err)
	require.Equal(t, []string{"environment: FANFARE_SERVICE_HOST is not a setting"}, warnings)
	require.Equal(t, ":7000", c.Addr)
	require.Equal(t, []string{"https://a.example", "https://b.example"}, c.AllowedOrigins)
	require.False(t, c.Anonymous)
	require.Equal(t, "another-secret-of-length-and-more", c.TokenHMACSecret.Reveal())
	require.Equal(t, "12345678901234567890", c.APIKey.Reveal(), "digits are text, too")
	require.Equal(t, 2, c.ClientConcurrency)
	require.Len(t, c.Channels, 2, "all channels, not those beside the file's")
	require.Equal(t, time.Second, c.Webhooks.Timeout)
	require.Equal(t, []string{"X-A", "X-B"}, c.Webhooks.Headers)
	require.Equal(t, []config.Secret{config.NewSecret("redis://a"), config.NewSecret("redis://b")}, c.Redis.URLs)
	require.Equal(t, config.LogLevel("warn"), c.LogLevel)
	require.Equal(t, 3*time.Second, c.DrainWindow, "an empty variable is one that is not set")
}

func TestLoad_WrongVariables(t *testing.T) {
	t.Parallel()
	for variable, want := range map[string]string{
		"FANFARE_ADR=:1":                       "environment: FANFARE_ADR: unknown variable; did you mean FANFARE_ADDR?",
		"FANFARE_TOKEN_HMAC_SECERT=x":          "did you mean FANFARE_TOKEN_HMAC_SECRET?",
		"FANFARE_ANONYMOUS=yes":                "environment: FANFARE_ANONYMOUS: must be JSON",
		"FANFARE_ANONYMOUS=1":                  "environment: FANFARE_ANONYMOUS: must be true or false, is a number",
		"FANFARE_DRAIN_WINDOW=5":               `environment: FANFARE_DRAIN_WINDOW: "5" must be a duration`,
		`FANFARE_CHANNELS={"a":{"histori":1}}`: `environment: channels["a"].histori: unknown key; did you mean "history"?`,
	} {
		_, _, err := load(t, `{}`, variable)
		require.ErrorContains(t, err, want, variable)
	}
}

func TestSecrets_NeverShow(t *testing.T) {
	t.Parallel()
	const value = "s3cr3t-s3cr3t-s3cr3t"
	c, warnings, err := load(t, fmt.Sprintf(`{"token_hmac_secret": %q, "api_key": %q,
		"webhooks": {"rpc": "http://app/", "static_headers": {"X-Live": %q}}, "redis": {"urls": ["redis://:%s@a"]}}`,
		value, value, value, value))
	require.NoError(t, err)
	var out bytes.Buffer
	for _, h := range []slog.Handler{slog.NewTextHandler(&out, nil), slog.NewJSONHandler(&out, nil)} {
		slog.New(h).Info("configuration", "config", c, "secret", c.APIKey, "channels", c.Channels, "warnings", warnings)
	}
	slog.New(slog.NewTextHandler(&out, nil)).Info("webhooks", "webhooks", c.Webhooks)
	fmt.Fprintf(&out, "%v %+v %#v %s %q %v", c, *c, *c, c.APIKey, c.TokenHMACSecret, &c.APIKey)
	encoded, err := json.Marshal(c)
	require.NoError(t, err)
	out.Write(encoded)
	require.NotContains(t, out.String(), "s3cr3t")
	require.Contains(t, out.String(), "[secret]")
	require.Equal(t, value, c.APIKey.Reveal())
}

func TestErrors_NeverHoldSecrets(t *testing.T) {
	t.Parallel()
	// Ways in which a secret gets to where it is not expected.
	for _, file := range []string{
		`{"token_hmac_secert": "s3cr3t"}`,
		`{"token_hmac_secret": ["s3cr3t"]}`,
		`{"api_key": {"s3cr3t": "s3cr3t-s3cr3t"}}`,
		`{"token_hmac_secret": s3cr3t}`,
		`{"token_hmac_secret": "s3cr3t", "api_key": "s3cr3t"`,
		`{"token_hmac_secret": "s3cr3t" "api_key": "s3cr3t"}`,
		`{"token_hmac_secret": "s3cr3t", "token_hmac_secret": "s3cr3t"}`,
		`{"jwks_url": "https://user:s3cr3t@example.com/"}`,
		`{"webhooks": {"connect": "https://user:s3cr3t@example.com/%zz"}}`,
		`{"allowed_origins": ["https://user:s3cr3t@example.com"]}`,
		`{"redis": {"urls": ["http://user:s3cr3t@example.com"]}}`,
		`{"redis": {"urls": ["redis://user:s3cr3t@example.com:x"]}}`,
		`{"redis": {"urls": ["redis://user:s3cr3t@example.com/%zz"]}}`,
		`{"redis": {"urls": ["redis://user:s3cr3t@a", "redis://user:s3cr3t@a"]}}`,
		`{"redis": {"urls": [["redis://user:s3cr3t@a"]]}}`,
	} {
		_, _, err := load(t, file, "FANFARE_API_KYE=s3cr3t")
		require.Error(t, err)
		require.NotContains(t, err.Error(), "s3cr3t", file)
	}
	_, warnings, err := load(t, `{"token_hmac_secret": "s3cr3t", "api_key": "s3cr3t"}`)
	require.NoError(t, err)
	require.Len(t, warnings, 2)
	require.Contains(t, warnings[0], "api_key: has fewer than 16 bytes")
	require.Contains(t, warnings[1], "token_hmac_secret: has fewer than 32 bytes")
	require.NotContains(t, strings.Join(warnings, ""), "s3cr3t")
}

func TestReadme_HasEveryKey(t *testing.T) {
	t.Parallel()
	readme, err := os.ReadFile("../../README.md")
	require.NoError(t, err)
	keys, variables := config.Keys()
	for _, key := range keys {
		require.Contains(t, string(readme), "`"+key+"`", "a row of a table")
		require.Contains(t, complete, `"`+key+`"`, "TestLoad_EveryKey has them, too")
	}
	for _, v := range variables {
		require.Contains(t, strings.ToUpper(string(readme)), strings.TrimPrefix(strings.TrimPrefix(strings.TrimPrefix(strings.TrimPrefix(v, "FANFARE_"), "REDIS_"), "WEBHOOKS_"), "LIMITS_"))
	}
}

// FuzzLoad: no panic, errors name their source, and what is accepted is accepted again as the environment's.
func FuzzLoad(f *testing.F) {
	f.Add(complete, "")
	f.Add(`{"channels": {"a": {"history_size": 1, "history_ttl": "1s"}}}`, "FANFARE_CHANNELS={}")
	f.Add(`{"adr": 1}`, "FANFARE_ADR=1")
	f.Add(`{"addr": "`+"\xff"+`"}`, "FANFARE_ALLOWED_ORIGINS=,,")
	f.Fuzz(func(t *testing.T, file, variable string) {
		c, _, err := config.Parse("fanfare.json", []byte(file), []string{variable})
		if err != nil {
			for line := range strings.SplitSeq(err.Error(), "\n") {
				require.Regexp(t, `^(fanfare\.json|environment)(:\d+)?: `, line)
			}
			return
		}
		require.NotNil(t, c)
		for _, ch := range c.Channels {
			require.Equal(t, ch.HistorySize > 0, ch.HistoryTTL > 0)
			require.NotEmpty(t, ch.Subscribe)
		}
	})
}
