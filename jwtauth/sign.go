package jwtauth

import (
	"cmp"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"errors"
	"fmt"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/fanfare-go/fanfare"
)

// Signer makes tokens for the app's own pages. Its methods are safe for concurrent use.
type Signer struct {
	// Key is what tokens are signed with, and by its type how: []byte HS256, *rsa.PrivateKey RS256, *ecdsa.PrivateKey ES256, ES384 or
	// ES512, ed25519.PrivateKey EdDSA.
	Key any
	// KeyID is the key's name in the set that verifiers look it up in, if they do.
	KeyID string
	// TTL is how long a token is good, a second or more. Default 10 min. Short is well: the SDKs ask for a new one in time, by getToken.
	TTL time.Duration
	// Issuer and Audience go into the tokens if they are not empty. UserClaim is the claim for the user. Default "sub".
	Issuer    string
	Audience  string
	UserClaim string
}

// ConnectionClaims is what a connection token says. Values of type any are whatever encoding/json knows; nil is nothing.
type ConnectionClaims struct {
	// User is whom the token is for. Empty is the anonymous user.
	User string
	// ID is the claim jti, for [Config.Revoked].
	ID string
	// TTL is how long the token is good, instead of [Signer.TTL].
	TTL time.Duration
	// ExpireAt is when the connection ends unless it is refreshed. The zero time is when the token expires.
	ExpireAt time.Time
	// NeverExpires lets the connection last, while the token that begins it still expires.
	NeverExpires bool
	// Info is shown to others, in presence, joins and publications.
	Info any
	// Meta is for the app alone: see [MetaOf].
	Meta any
	// Channels are watched by the connection without its asking. Subscriptions does so with more to say about each; if it is not
	// empty, Channels do not count.
	Channels      []string
	Subscriptions map[string]SubscriptionOptions
}

// SubscriptionOptions is what a token says of one subscription.
type SubscriptionOptions struct {
	// Info is shown to others beside the connection's own.
	Info any
	// Data is returned to the client.
	Data any
	// Override changes what the channel's options say.
	Override *fanfare.Override
}

// SubscriptionClaims is what a subscription token says. Fields that it shares with [ConnectionClaims] mean the same, of the
// subscription.
type SubscriptionClaims struct {
	// User must be the connection's.
	User string
	// Channel is what it is for. It must be set.
	Channel string
	// Client is the id of the one connection that it is for. Empty: any of the user's.
	Client       string
	ID           string
	TTL          time.Duration
	ExpireAt     time.Time
	NeverExpires bool
	SubscriptionOptions
}

// terms is what both kinds of token have.
type terms struct {
	user, id     string
	ttl          time.Duration
	expireAt     time.Time
	neverExpires bool
}

const defaultTTL = 10 * time.Minute

// ConnectionToken makes a token for [Verifier.Authenticate] and [Verifier.Refresh].
func (s *Signer) ConnectionToken(c ConnectionClaims) (string, error) {
	m := jwt.MapClaims{}
	put(m, "info", c.Info)
	put(m, "meta", c.Meta)
	if len(c.Channels) > 0 {
		m["channels"] = c.Channels
	}
	if len(c.Subscriptions) > 0 {
		subs := make(map[string]map[string]any, len(c.Subscriptions))
		for channel, o := range c.Subscriptions {
			subs[channel] = make(map[string]any)
			o.put(subs[channel])
		}
		m["subs"] = subs
	}
	return s.sign(terms{c.User, c.ID, c.TTL, c.ExpireAt, c.NeverExpires}, m)
}

// SubscriptionToken makes a token for [Verifier.Subscribe] and [Verifier.SubRefresh].
func (s *Signer) SubscriptionToken(c SubscriptionClaims) (string, error) {
	if c.Channel == "" {
		return "", errors.New("jwtauth: SubscriptionClaims.Channel is needed")
	}
	m := jwt.MapClaims{"channel": c.Channel}
	if c.Client != "" {
		m["client"] = c.Client
	}
	c.put(m)
	return s.sign(terms{c.User, c.ID, c.TTL, c.ExpireAt, c.NeverExpires}, m)
}

func (o SubscriptionOptions) put(m map[string]any) {
	put(m, "info", o.Info)
	put(m, "data", o.Data)
	if o.Override == nil {
		return
	}
	override := make(map[string]map[string]bool)
	for name, field := range overrides(o.Override) {
		if *field != nil {
			override[name] = map[string]bool{"value": **field}
		}
	}
	m["override"] = override
}

func put(m map[string]any, name string, v any) {
	if v != nil {
		m[name] = v
	}
}

// sign completes the claims and signs them.
func (s *Signer) sign(t terms, m jwt.MapClaims) (string, error) {
	ttl := t.ttl
	if ttl == 0 {
		ttl = s.TTL
	}
	if ttl == 0 {
		ttl = defaultTTL
	}
	if ttl < time.Second {
		return "", fmt.Errorf("jwtauth: a token that is good for %v is useless: times in tokens are whole seconds", ttl)
	}
	now := time.Now()
	m["iat"], m["exp"] = now.Unix(), now.Add(ttl).Unix()
	switch {
	case t.neverExpires:
		m["expire_at"] = 0
	case !t.expireAt.IsZero():
		m["expire_at"] = max(1, t.expireAt.Unix()) // 0 is never
	}
	if t.user != "" {
		m[cmp.Or(s.UserClaim, "sub")] = t.user
	}
	for name, text := range map[string]string{"jti": t.id, "iss": s.Issuer, "aud": s.Audience} {
		if text != "" {
			m[name] = text
		}
	}
	method, err := s.method()
	if err != nil {
		return "", err
	}
	token := jwt.NewWithClaims(method, m)
	if s.KeyID != "" {
		token.Header["kid"] = s.KeyID
	}
	signed, err := token.SignedString(s.Key)
	if err != nil {
		return "", fmt.Errorf("jwtauth: sign: %w", err)
	}
	return signed, nil
}

// method chooses the algorithm by the key, and refuses keys that no [Verifier] would take.
func (s *Signer) method() (jwt.SigningMethod, error) {
	switch key := s.Key.(type) {
	case []byte:
		if len(key) > 0 && !isPEM(key) {
			return jwt.SigningMethodHS256, nil
		}
	case *rsa.PrivateKey:
		if key != nil && fits(&key.PublicKey, "RS256") {
			return jwt.SigningMethodRS256, nil
		}
	case ed25519.PrivateKey:
		if len(key) == ed25519.PrivateKeySize {
			return jwt.SigningMethodEdDSA, nil
		}
	case *ecdsa.PrivateKey:
		for _, m := range []*jwt.SigningMethodECDSA{jwt.SigningMethodES256, jwt.SigningMethodES384, jwt.SigningMethodES512} {
			if key != nil && fits(&key.PublicKey, m.Alg()) {
				return m, nil
			}
		}
	}
	return nil, fmt.Errorf("jwtauth: Signer.Key, of type %T, is none that tokens can be signed with", s.Key)
}
