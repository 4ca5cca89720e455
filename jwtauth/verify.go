package jwtauth

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/fanfare-go/fanfare"
)

// What can be wrong with a token. Each hook has its own answer to the first one.
var (
	errInvalid = errors.New("invalid")
	errExpired = errors.New("expired")
	// errTemporary: its key could not be got, and the reason was logged where it arose.
	errTemporary = errors.New("key not available")
	// errUnknownKey is one way to be invalid.
	errUnknownKey = errors.New("unknown key")
)

// claims verifies a token's signature and returns what it says.
func (v *Verifier) claims(ctx context.Context, token string) (fields, error) {
	var f fields
	_, err := v.parser.ParseWithClaims(token, &f, func(t *jwt.Token) (any, error) { return v.candidates(ctx, t) })
	switch {
	case errors.Is(err, errTemporary):
		return nil, err
	case err != nil:
		return nil, fmt.Errorf("%w: %w", errInvalid, err)
	case f == nil:
		return nil, fmt.Errorf("%w: its claims are null", errInvalid)
	}
	return f, nil
}

func (v *Verifier) connectionToken(ctx context.Context, token string) (*connection, error) {
	f, err := v.claims(ctx, token)
	if err != nil {
		return nil, err
	}
	c, err := f.connection(v.config.UserClaim)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errInvalid, err)
	}
	return c, v.check(ctx, &c.stamp, "")
}

func (v *Verifier) subscriptionToken(ctx context.Context, token string) (*subscription, error) {
	f, err := v.claims(ctx, token)
	if err != nil {
		return nil, err
	}
	s, err := f.subscriptionToken(v.config.UserClaim)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errInvalid, err)
	}
	return s, v.check(ctx, &s.stamp, s.channel)
}

func (v *Verifier) check(ctx context.Context, s *stamp, channel string) error {
	if err := s.check(&v.config, time.Now()); err != nil || v.config.Revoked == nil {
		return err
	}
	t := &Token{User: s.user, ID: s.id, Issuer: s.issuer, Channel: channel, IssuedAt: s.issuedAt.at, ExpiresAt: s.expires.at}
	switch revoked, err := v.config.Revoked(ctx, t); {
	case err != nil:
		return fmt.Errorf("jwtauth: Config.Revoked: %w", err)
	case revoked:
		return fmt.Errorf("%w: revoked", errInvalid)
	}
	return nil
}

// refusal is what the node is to answer. The reason is for the log alone.
func (v *Verifier) refusal(ctx context.Context, what string, err, invalid error) error {
	switch {
	case errors.Is(err, errTemporary):
		return fanfare.ErrInternal
	case errors.Is(err, errExpired):
		invalid = fanfare.ErrTokenExpired
	case !errors.Is(err, errInvalid):
		return err // of Config.Revoked
	}
	v.config.Logger.DebugContext(ctx, "jwtauth: token refused", slog.String("for", what), slog.Any("err", err), slog.String("answer", invalid.Error()))
	return invalid
}
