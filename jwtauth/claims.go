package jwtauth

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/fanfare-go/fanfare"
)

// fields are a token's claims as they came. Claims are taken from here by name, one by one, since encoding/json does not mind the case
// of the names of a struct's fields: "SUB" is not sub.
type fields map[string]json.RawMessage

// The methods of [jwt.Claims] serve golang-jwt's own checks, which are not used.
func (fields) GetExpirationTime() (*jwt.NumericDate, error) { return nil, nil }
func (fields) GetIssuedAt() (*jwt.NumericDate, error)       { return nil, nil }
func (fields) GetNotBefore() (*jwt.NumericDate, error)      { return nil, nil }
func (fields) GetIssuer() (string, error)                   { return "", nil }
func (fields) GetSubject() (string, error)                  { return "", nil }
func (fields) GetAudience() (jwt.ClaimStrings, error)       { return nil, nil }

// take decodes a claim, if it is there.
func (f fields) take(name string, into any) error {
	raw := f[name]
	if isNull(raw) {
		return nil
	}
	if err := json.Unmarshal(raw, into); err != nil {
		return fmt.Errorf("claim %s: %w", name, err)
	}
	return nil
}

func isNull(raw json.RawMessage) bool { return len(raw) == 0 || string(raw) == "null" }

// numericDate is a time in seconds, as tokens have it. The zero value is no time.
type numericDate struct {
	at   time.Time
	set  bool
	zero bool // it is the number 0; a time before or shortly after it is not
}

// latest is the end of the year 9999.
const latest = 253402300799

func (d *numericDate) UnmarshalJSON(raw []byte) error {
	if raw[0] != '-' && (raw[0] < '0' || raw[0] > '9') {
		return errors.New("not a number")
	}
	f, err := strconv.ParseFloat(string(raw), 64)
	if err != nil && !errors.Is(err, strconv.ErrRange) {
		return err
	}
	whole, part := math.Modf(min(max(f, 0), latest))
	d.at, d.set, d.zero = time.Unix(int64(whole), int64(part*1e9)), true, f == 0
	return nil
}

// stamp is what every token may say.
type stamp struct {
	user      string
	id        string
	issuer    string
	audience  jwt.ClaimStrings
	issuedAt  numericDate
	notBefore numericDate
	expires   numericDate
	expireAt  numericDate
}

func (f fields) stamp(userClaim string) (s stamp, err error) {
	err = errors.Join(
		f.take(userClaim, &s.user), f.take("jti", &s.id), f.take("iss", &s.issuer), f.take("aud", &s.audience), f.take("iat", &s.issuedAt),
		f.take("nbf", &s.notBefore), f.take("exp", &s.expires), f.take("expire_at", &s.expireAt),
	)
	return s, err
}

// endsAt is when what the token gives ends; zero is never.
func (s *stamp) endsAt() time.Time {
	switch {
	case s.expireAt.zero:
		return time.Time{}
	case s.expireAt.set:
		return s.expireAt.at
	case s.expires.set:
		return s.expires.at
	}
	return time.Time{}
}

// dueMargin is how much time a token must have left. If it ended between its check and that of the node, the client would be told
// 110, which is for good, instead of 109.
const dueMargin = 100 * time.Millisecond

// check compares the token with what is wanted of it. What is wrong for good comes first: a client that is told that its token has
// expired gets another one of the same kind.
func (s *stamp) check(c *Config, now time.Time) error {
	switch {
	case c.Audience != "" && !slices.Contains(s.audience, c.Audience):
		return fmt.Errorf("%w: aud does not hold %q", errInvalid, c.Audience)
	case c.Issuer != "" && s.issuer != c.Issuer:
		return fmt.Errorf("%w: iss is not %q", errInvalid, c.Issuer)
	case s.expires.set && !s.expires.at.After(now.Add(dueMargin)):
		return fmt.Errorf("%w: exp was %s", errExpired, s.expires.at.UTC())
	case s.notBefore.set && s.notBefore.at.After(now.Add(c.Leeway)):
		return fmt.Errorf("%w: nbf is %s", errExpired, s.notBefore.at.UTC())
	}
	if at := s.endsAt(); !at.IsZero() && !at.After(now.Add(dueMargin)) {
		return fmt.Errorf("%w: expire_at was %s", errExpired, at.UTC())
	}
	return nil
}

// connection are the claims of a connection token (spec 15.1).
type connection struct {
	stamp
	info []byte
	meta json.RawMessage
	subs map[string]fanfare.SubscribeReply
}

func (f fields) connection(userClaim string) (*connection, error) {
	s, err := f.stamp(userClaim)
	if err != nil {
		return nil, err
	}
	if raw := f["channel"]; !isNull(raw) && string(raw) != `""` {
		return nil, errors.New("it has the claim channel: it is a token of a subscription")
	}
	c := &connection{stamp: s}
	if c.info, err = f.payload("info", "b64info"); err != nil {
		return nil, err
	}
	if raw := f["meta"]; !isNull(raw) {
		c.meta = raw
	}
	var channels []string
	var subs map[string]fields
	if err := errors.Join(f.take("channels", &channels), f.take("subs", &subs)); err != nil {
		return nil, err
	}
	if len(subs) > 0 {
		channels = nil
	}
	if len(subs)+len(channels) > 0 {
		c.subs = make(map[string]fanfare.SubscribeReply, len(subs)+len(channels))
	}
	for _, channel := range channels {
		c.subs[channel] = fanfare.SubscribeReply{}
	}
	for channel, options := range subs {
		if c.subs[channel], err = options.subscription(); err != nil {
			return nil, fmt.Errorf("claim subs: %w", err)
		}
	}
	return c, nil
}

// subscription are the claims of a subscription token (spec 15.2).
type subscription struct {
	stamp
	channel string
	client  string
	reply   fanfare.SubscribeReply
}

func (f fields) subscriptionToken(userClaim string) (*subscription, error) {
	s, err := f.stamp(userClaim)
	if err != nil {
		return nil, err
	}
	t := &subscription{stamp: s}
	if err := errors.Join(f.take("channel", &t.channel), f.take("client", &t.client)); err != nil {
		return nil, err
	}
	if t.channel == "" {
		return nil, errors.New("it has no claim channel: it is no token of a subscription")
	}
	t.reply, err = f.subscription()
	t.reply.ExpireAt = s.endsAt()
	return t, err
}

// subscription takes what a token says of a subscription, at its top or in subs.
func (f fields) subscription() (r fanfare.SubscribeReply, err error) {
	if r.Info, err = f.payload("info", "b64info"); err != nil {
		return r, err
	}
	if r.Data, err = f.payload("data", "b64data"); err != nil {
		return r, err
	}
	r.Override, err = f.override()
	return r, err
}

// override takes the claim of this name: {"presence": {"value": true}, …}. What it does not know it ignores.
func (f fields) override() (*fanfare.Override, error) {
	var given map[string]*struct{ Value *bool }
	if err := f.take("override", &given); err != nil || len(given) == 0 {
		return nil, err
	}
	o := new(fanfare.Override)
	for name, field := range overrides(o) {
		if g := given[name]; g != nil {
			*field = g.Value
		}
	}
	return o, nil
}

// overrides are the fields of an override by their names in tokens.
func overrides(o *fanfare.Override) map[string]**bool {
	return map[string]**bool{
		"presence": &o.Presence, "join_leave": &o.JoinLeave, "force_recovery": &o.ForceRecovery, "force_positioning": &o.ForcePositioning,
		"force_push_join_leave": &o.ForceJoinLeave,
	}
}

// payload takes a claim that is JSON, or its sibling in base64, which wins.
func (f fields) payload(name, b64 string) ([]byte, error) {
	var text string
	if err := f.take(b64, &text); err != nil {
		return nil, err
	}
	if text != "" {
		data, err := base64.StdEncoding.DecodeString(text)
		if err != nil {
			return nil, fmt.Errorf("claim %s: %w", b64, err)
		}
		return data, nil
	}
	if raw := f[name]; !isNull(raw) {
		return raw, nil
	}
	return nil, nil
}
