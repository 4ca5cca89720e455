package config

import (
	"fmt"
	"net/url"
	"strings"

	"github.com/fanfare-go/fanfare/broker/redisbroker"
)

// Redis is what several servers share. Without URLs a server is alone.
type Redis struct {
	// URLs are those of independent servers, among which the channels are distributed. Each may hold a password.
	URLs    []Secret
	Prefix  string // empty is the package's default
	Durable bool
}

// Any reports whether there is a Redis at all.
func (r *Redis) Any() bool { return len(r.URLs) > 0 }

// Servers returns what the URLs name. They were checked.
func (r *Redis) Servers() (list []redisbroker.Server, err error) {
	for _, u := range r.URLs {
		s, err := redisbroker.ParseURL(u.Reveal())
		if err != nil {
			return nil, err
		}
		list = append(list, s)
	}
	return list, nil
}

func (r *Redis) fields() map[string]setter {
	return map[string]setter{
		"urls":    secretList(&r.URLs),
		"prefix":  text(&r.Prefix),
		"durable": boolean(&r.Durable),
	}
}

// checkRedis does not repeat the URLs, nor what others say of them.
func (c *Config) checkRedis(complain complaint) {
	r := &c.Redis
	seen := make(map[string]bool)
	for i, u := range r.URLs {
		key := fmt.Sprintf("redis.urls[%d]", i)
		parsed, err := url.Parse(u.Reveal())
		if err == nil {
			_, err = redisbroker.ParseURL(u.Reveal())
		}
		switch {
		case err != nil || parsed.Host == "" || parsed.Scheme != "redis" && parsed.Scheme != "rediss":
			complain(key, `must be a URL such as "redis://127.0.0.1:6379", or "rediss://user:password@example.com:6379/0" over TLS`)
		case seen[parsed.Host]:
			complain(key, "names a server that is there already; further addresses of one are \"?addr=host:port\"")
		default:
			seen[parsed.Host] = true
		}
	}
	if strings.Contains(r.Prefix, "{") {
		complain("redis.prefix", "must not contain {")
	}
	if r.Any() {
		return
	}
	switch _, given := c.lines["redis"]; {
	case r.Prefix != "":
		complain("redis.prefix", "needs redis.urls")
	case r.Durable:
		complain("redis.durable", "needs redis.urls")
	case given:
		complain("redis", `needs urls, such as ["redis://127.0.0.1:6379"]`)
	}
}
