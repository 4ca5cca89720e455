package jwtauth

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"

	"github.com/go-jose/go-jose/v4"
)

// keySet are the keys of a JSON Web Key Set that can verify tokens, by kid. Several may have the same one.
type keySet map[string][]publicKey

// parseKeySet reads a set (RFC 7517, 5). It leaves out keys that it cannot use, and those that it must not: for encryption, secret or
// private ones, which are no more anybody's own once they were published.
func parseKeySet(data []byte, log *slog.Logger) (keySet, error) {
	var document struct {
		Keys []json.RawMessage `json:"keys"`
	}
	if err := json.Unmarshal(data, &document); err != nil {
		return nil, fmt.Errorf("JWKS: %w", err)
	}
	set := make(keySet)
	for i, raw := range document.Keys {
		kid, key, err := parseKey(raw)
		if err != nil {
			log.Debug("jwtauth: key of the set left out", slog.Int("index", i), slog.String("kid", short(kid)), slog.Any("err", err))
			continue
		}
		set[kid] = append(set[kid], key)
	}
	if len(set) == 0 {
		return nil, fmt.Errorf("JWKS: none of its %d keys can verify tokens", len(document.Keys))
	}
	return set, nil
}

func parseKey(raw json.RawMessage) (string, publicKey, error) {
	var about struct {
		Kid    string   `json:"kid"`
		Use    string   `json:"use"`
		Alg    string   `json:"alg"`
		KeyOps []string `json:"key_ops"`
	}
	if err := json.Unmarshal(raw, &about); err != nil {
		return "", publicKey{}, err
	}
	switch {
	case about.Kid == "":
		return "", publicKey{}, errors.New("it has no kid")
	case about.Use != "" && about.Use != "sig":
		return about.Kid, publicKey{}, errors.New("it is not for signatures")
	case len(about.KeyOps) > 0 && !slices.Contains(about.KeyOps, "verify"):
		return about.Kid, publicKey{}, errors.New("it is not for verification")
	}
	var key jose.JSONWebKey
	if err := json.Unmarshal(raw, &key); err != nil {
		return about.Kid, publicKey{}, err
	}
	k := publicKey{algorithm: about.Alg, key: key.Key}
	if k.algorithm == "Ed25519" { // the newer name, RFC 9864
		k.algorithm = "EdDSA"
	}
	if !slices.ContainsFunc(algorithms, k.fits) {
		return about.Kid, publicKey{}, errors.New("it is no public key of a kind, size and algorithm that tokens may have")
	}
	return about.Kid, k, nil
}

// fixedKeys is a set that does not change.
type fixedKeys struct{ set keySet }

func newFixedKeys(data []byte, log *slog.Logger) (*fixedKeys, error) {
	set, err := parseKeySet(data, log)
	return &fixedKeys{set}, err
}

func (f *fixedKeys) lookup(_ context.Context, kid string) ([]publicKey, error) {
	if keys := f.set[kid]; keys != nil {
		return keys, nil
	}
	return nil, fmt.Errorf("%w %q", errUnknownKey, short(kid))
}

// short cuts what somebody else chose, for the log.
func short(s string) string { return s[:min(len(s), 64)] }
