package config

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// Access says who may do something in a channel.
type Access string

const (
	Anyone      Access = "anyone"
	Users       Access = "users"
	Subscribers Access = "subscribers"
	Token       Access = "token"
	Webhook     Access = "webhook"
	Nobody      Access = "nobody"
)

// Recover says what a client gets that comes back.
type Recover string

const (
	Stream Recover = "stream"
	Cache  Recover = "cache"
)

// Channel is what is said of the channels of one pattern.
type Channel struct {
	Pattern          string
	HistorySize      int
	HistoryTTL       time.Duration
	Recover          Recover // empty: Stream, if there is history
	ForceRecovery    bool
	ForcePositioning bool
	Presence         bool
	JoinLeave        bool
	ForceJoinLeave   bool
	Delta            bool
	DefaultDelta     *bool
	TagsFilter       bool
	Subscribe        Access
	Publish          Access
	History          Access
	PresenceRead     Access
}

// maxHistory is what a stream may hold: more is a database.
const maxHistory = 1_000_000

func (c *Channel) fields() map[string]setter {
	return map[string]setter{
		"history_size":      number(&c.HistorySize, 0, maxHistory),
		"history_ttl":       duration(&c.HistoryTTL),
		"recover":           choice(&c.Recover, Stream, Cache),
		"force_recovery":    boolean(&c.ForceRecovery),
		"force_positioning": boolean(&c.ForcePositioning),
		"presence":          boolean(&c.Presence),
		"join_leave":        boolean(&c.JoinLeave),
		"force_join_leave":  boolean(&c.ForceJoinLeave),
		"delta":             boolean(&c.Delta),
		"default_delta": {kindJSON, func(d *decoder, v value) error {
			c.DefaultDelta = new(bool)
			return boolean(c.DefaultDelta).set(d, v)
		}},
		"tags_filter":   boolean(&c.TagsFilter),
		"subscribe":     access(&c.Subscribe),
		"publish":       access(&c.Publish),
		"history":       access(&c.History),
		"presence_read": access(&c.PresenceRead),
	}
}

func access(p *Access) setter { return choice(p, Anyone, Users, Subscribers, Token, Webhook, Nobody) }

// Path is the path of one of the channel's keys.
func (c *Channel) Path(key string) string {
	return joinPath(channelPath(c.Pattern), key)
}

func channelPath(pattern string) string { return fmt.Sprintf("channels[%q]", pattern) }

// setChannels replaces all of them: what the environment says is not mixed with what the file says.
func (c *Config) setChannels(d *decoder, v value) error {
	c.Channels = nil
	return d.members(v, channelPath, func(pattern string, m value) {
		ch := Channel{Pattern: pattern}
		if err := d.section(m, ch.fields(), elsewhere(c.fields(), "the top of the file")); err != nil {
			d.fail(m.path, err.Error())
		}
		c.Channels = append(c.Channels, ch)
	})
}

// complaint collects what is wrong with one channel.
type complaint func(key, format string, args ...any)

// resolve fills in what is left out, and reports what does not fit together, in the words of the file.
func (c *Channel) resolve(w *Webhooks, tokens bool, complain complaint) {
	c.checkHistory(complain)
	c.checkAccess(w, tokens, complain)
	if c.PresenceRead != Nobody && !c.Presence {
		complain("presence_read", "of %q needs presence", c.PresenceRead)
	}
	switch {
	case c.DefaultDelta == nil:
	case *c.DefaultDelta && !c.Delta:
		complain("default_delta", "needs delta")
	case !*c.DefaultDelta && c.Delta:
		complain("default_delta", "cannot be false: with delta every publication goes to those who ask for deltas as one, if that is "+
			"shorter; leave the key out, or set delta to false")
	}
}

func (c *Channel) checkHistory(complain complaint) {
	keeps := c.HistorySize > 0 && c.HistoryTTL > 0
	switch {
	case c.HistorySize > 0 && c.HistoryTTL == 0:
		complain("history_ttl", `must be longer than 0 with history_size, for example "10m"`)
	case c.HistoryTTL > 0 && c.HistorySize == 0:
		complain("history_size", "must be more than 0 with history_ttl, for example 100")
	case keeps && c.Recover == "":
		c.Recover = Stream
	}
	if keeps {
		return
	}
	if c.Recover != "" {
		complain("recover", "needs history_size and history_ttl")
	}
	if c.ForceRecovery {
		complain("force_recovery", "needs history_size and history_ttl")
	}
	if c.ForcePositioning {
		complain("force_positioning", "needs history_size and history_ttl")
	}
	if c.History != Nobody && c.History != "" {
		complain("history", "of %q needs history_size and history_ttl", c.History)
	}
}

func (c *Channel) checkAccess(w *Webhooks, tokens bool, complain complaint) {
	// What is left out is closed; or the app's to decide, where it has a webhook for that.
	closed := func(p *Access, webhook string) {
		if *p == "" && webhook != "" {
			*p = Webhook
		}
		if *p == "" {
			*p = Nobody
		}
	}
	closed(&c.Subscribe, w.Subscribe)
	closed(&c.Publish, w.Publish)
	closed(&c.History, "")
	closed(&c.PresenceRead, "")

	if c.Subscribe == Subscribers {
		complain("subscribe", "cannot be %q: nobody would be the first", Subscribers)
	}
	if c.Subscribe == Token && !tokens {
		complain("subscribe", "of %q needs token_hmac_secret or jwks_url", Token)
	}
	if c.Subscribe == Webhook && w.Subscribe == "" {
		complain("subscribe", "of %q needs webhooks.subscribe", Webhook)
	}
	if c.Publish == Webhook && w.Publish == "" {
		complain("publish", "of %q needs webhooks.publish", Webhook)
	}
	for key, a := range map[string]Access{"publish": c.Publish, "history": c.History, "presence_read": c.PresenceRead} {
		switch {
		case a == Token:
			complain(key, "cannot be %q: tokens are for subscribe; with subscribe %q, %q are those who had one", Token, Token, Subscribers)
		case a == Webhook && key != "publish":
			complain(key, "cannot be %q: there is no webhook for it", Webhook)
		}
	}
}

// uses reports whether any channel has that access.
func (c *Config) uses(want Access, of func(*Channel) Access) bool {
	return slices.ContainsFunc(c.Channels, func(ch Channel) bool { return of(&ch) == want })
}

// literal reports whether a text means itself in a pattern.
func literal(s string) bool { return !strings.ContainsAny(s, "{}") }
