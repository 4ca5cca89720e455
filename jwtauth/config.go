package jwtauth

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/rsa"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

// Config says which tokens a [Verifier] believes. At least one of HMACSecret, RSAPublicKey, ECDSAPublicKey, JWKSURL and JWKS is needed.
// Each key is used for the algorithms of its own kind only, whatever a token says of itself.
type Config struct {
	// HMACSecret verifies HS256, HS384 and HS512. Whoever knows it can make tokens; it should be random, and have 32 bytes or more.
	HMACSecret []byte
	// PreviousHMACSecret is accepted, too, so that a secret can be replaced without an end to everyone's connection.
	PreviousHMACSecret []byte
	// RSAPublicKey, of 2048 bits or more, verifies RS256, RS384 and RS512.
	RSAPublicKey *rsa.PublicKey
	// ECDSAPublicKey verifies ES256, ES384 or ES512, by its curve.
	ECDSAPublicKey *ecdsa.PublicKey

	// JWKSURL is where an identity provider publishes its keys, RSA, ECDSA and Ed25519. With it, a token that names a key (by kid) is
	// verified by that key of the set and no other; tokens without a name, and those of HMACSecret, by the keys above. Plain http is
	// refused, except to the machine itself and with InsecureJWKS.
	JWKSURL string
	// JWKS is the set itself, as JSON, instead of a JWKSURL.
	JWKS []byte
	// JWKSTTL is how long keys are used before they are asked for again. If that fails they stay in use until it succeeds. Default 10 min.
	JWKSTTL time.Duration
	// JWKSInterval is the shortest time between two requests for keys, however many tokens with unknown keys come. Default 5 s.
	JWKSInterval time.Duration
	// JWKSTimeout bounds one request for keys. Less than [fanfare.Config.HookTimeout]. Default 3 s.
	JWKSTimeout time.Duration
	// InsecureJWKS permits plain http to other machines. Who can change what it carries can be anybody.
	InsecureJWKS bool
	// HTTPClient makes the requests for keys. Default: one with the transport of net/http.
	HTTPClient *http.Client

	// Audience and Issuer are what the claims aud and iss must hold, or be. Empty: they are not looked at.
	Audience string
	Issuer   string
	// UserClaim is the claim that holds the user id, a string. Default "sub".
	UserClaim string
	// Leeway is by how much the issuer's clock may be ahead, for nbf. Default 0.
	Leeway time.Duration

	// Anonymous lets in clients without a token, and tokens without a user.
	Anonymous bool

	// Revoked, if set, is asked about every token that is good otherwise. True refuses it as invalid; an error is logged by the node,
	// and the client tries again. It runs as part of the hook, in its time.
	Revoked func(ctx context.Context, t *Token) (bool, error)

	// Logger is told, at debug level, why tokens are refused; and what becomes of the keys of a JWKSURL. No token and no key is ever
	// logged. Default: nothing is logged.
	Logger *slog.Logger
}

// Token is what [Config.Revoked] is asked about. What a token does not say is empty.
type Token struct {
	// User is the claim [Config.UserClaim].
	User string
	// ID is jti, Issuer is iss.
	ID     string
	Issuer string
	// Channel is not empty for a token of a subscription.
	Channel string
	// IssuedAt is iat, ExpiresAt is exp.
	IssuedAt  time.Time
	ExpiresAt time.Time
}

// Verifier is a set of hooks for a node. Its methods are safe for concurrent use.
type Verifier struct {
	config Config
	parser *jwt.Parser
	hmac   [][]byte
	keys   keySource // of JWKS, or nil
}

// New makes a verifier. It makes no request: keys of a JWKSURL are asked for when a token needs them. Errors name the field.
func New(c Config) (*Verifier, error) {
	c = c.withDefaults()
	if err := c.validate(); err != nil {
		return nil, fmt.Errorf("jwtauth: Config.%w", err)
	}
	v := &Verifier{config: c}
	for _, secret := range [][]byte{c.HMACSecret, c.PreviousHMACSecret} {
		if len(secret) == 0 {
			continue
		}
		if len(secret) < minSecret {
			c.Logger.Warn("jwtauth: a short HMAC secret can be guessed from any token", slog.Int("bytes", len(secret)), slog.Int("wanted", minSecret))
		}
		v.hmac = append(v.hmac, bytes.Clone(secret))
	}
	var err error
	switch {
	case c.JWKS != nil:
		v.keys, err = newFixedKeys(c.JWKS, c.Logger)
	case c.JWKSURL != "":
		v.keys, err = newRemoteKeys(&c)
	}
	if err != nil {
		return nil, fmt.Errorf("jwtauth: Config.%w", err)
	}
	// Claims are checked by claims.check: what is wrong for good must not be told as expired.
	v.parser = jwt.NewParser(jwt.WithValidMethods(v.methods()), jwt.WithStrictDecoding(), jwt.WithoutClaimsValidation())
	return v, nil
}

// minSecret is the size of the smallest hash, as RFC 7518, 3.2 wants it.
const minSecret = 32

func (c Config) withDefaults() Config {
	dur := func(v *time.Duration, d time.Duration) {
		if *v == 0 {
			*v = d
		}
	}
	dur(&c.JWKSTTL, 10*time.Minute)
	dur(&c.JWKSInterval, 5*time.Second)
	dur(&c.JWKSTimeout, 3*time.Second)
	if c.UserClaim == "" {
		c.UserClaim = "sub"
	}
	if c.HTTPClient == nil {
		c.HTTPClient = &http.Client{}
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return c
}

func (c *Config) validate() error {
	switch {
	case len(c.HMACSecret) == 0 && c.RSAPublicKey == nil && c.ECDSAPublicKey == nil && c.JWKSURL == "" && c.JWKS == nil:
		return errors.New("HMACSecret, RSAPublicKey, ECDSAPublicKey, JWKSURL or JWKS is needed")
	case len(c.PreviousHMACSecret) > 0 && len(c.HMACSecret) == 0:
		return errors.New("PreviousHMACSecret needs HMACSecret")
	case isPEM(c.HMACSecret) || isPEM(c.PreviousHMACSecret):
		// As a secret, a public key is known to everybody.
		return errors.New("HMACSecret is a key in PEM, which is no secret of HMAC: see RSAPublicKey and ECDSAPublicKey")
	case c.JWKSURL != "" && c.JWKS != nil:
		return errors.New("JWKSURL and JWKS exclude each other")
	case c.RSAPublicKey != nil && !usable(c.RSAPublicKey):
		return fmt.Errorf("RSAPublicKey has fewer than %d bits", minRSABits)
	case c.ECDSAPublicKey != nil && !usable(c.ECDSAPublicKey):
		return errors.New("ECDSAPublicKey is on none of the curves P-256, P-384 and P-521")
	}
	for name, d := range map[string]time.Duration{
		"JWKSTTL": c.JWKSTTL, "JWKSInterval": c.JWKSInterval, "JWKSTimeout": c.JWKSTimeout, "Leeway": c.Leeway,
	} {
		if d < 0 {
			return fmt.Errorf("%s is negative", name)
		}
	}
	return nil
}

func isPEM(secret []byte) bool {
	return bytes.HasPrefix(bytes.TrimSpace(secret), []byte("-----BEGIN "))
}
