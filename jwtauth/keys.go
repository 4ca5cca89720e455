package jwtauth

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"errors"
	"fmt"
	"slices"

	"github.com/golang-jwt/jwt/v5"
)

// minRSABits is what RFC 7518, 3.3 wants.
const minRSABits = 2048

// algorithms are all that are ever accepted (spec 15). "none" is not among them, nor can it be configured.
var algorithms = []string{"HS256", "HS384", "HS512", "RS256", "RS384", "RS512", "ES256", "ES384", "ES512", "EdDSA"}

// keySource finds the keys that a token names. It returns errUnknownKey, or errTemporary if that cannot be said now.
type keySource interface {
	lookup(ctx context.Context, kid string) ([]publicKey, error)
}

// publicKey is a key of a set. Its algorithm may be empty: any of its kind.
type publicKey struct {
	algorithm string
	key       crypto.PublicKey
}

func (k publicKey) fits(alg string) bool {
	return (k.algorithm == "" || k.algorithm == alg) && fits(k.key, alg)
}

// fits reports whether a key is one for an algorithm. A token chooses the algorithm, but not the kind of key: without this a public
// key could be taken for a secret. golang-jwt compares the types, but neither curves nor sizes.
func fits(key crypto.PublicKey, alg string) bool {
	switch k := key.(type) {
	case *rsa.PublicKey:
		return k.N != nil && k.N.BitLen() >= minRSABits && slices.Contains([]string{"RS256", "RS384", "RS512"}, alg)
	case *ecdsa.PublicKey:
		curve := map[string]elliptic.Curve{"ES256": elliptic.P256(), "ES384": elliptic.P384(), "ES512": elliptic.P521()}[alg]
		return curve != nil && k.Curve == curve
	case ed25519.PublicKey:
		return len(k) == ed25519.PublicKeySize && alg == "EdDSA"
	}
	return false
}

// usable reports whether a key fits any algorithm.
func usable(key crypto.PublicKey) bool {
	return slices.ContainsFunc(algorithms, func(alg string) bool { return fits(key, alg) })
}

func isHMAC(alg string) bool { return alg == "HS256" || alg == "HS384" || alg == "HS512" }

// methods are the algorithms that some key is there for, or may come.
func (v *Verifier) methods() []string {
	var out []string
	for _, alg := range algorithms {
		var any bool
		switch {
		case isHMAC(alg):
			any = len(v.hmac) > 0
		case v.keys != nil:
			any = true
		default:
			any = v.static(alg) != nil
		}
		if any {
			out = append(out, alg)
		}
	}
	return out
}

// static is the configured key for an algorithm, or nil.
func (v *Verifier) static(alg string) crypto.PublicKey {
	if k := v.config.RSAPublicKey; k != nil && fits(k, alg) {
		return k
	}
	if k := v.config.ECDSAPublicKey; k != nil && fits(k, alg) {
		return k
	}
	return nil
}

// candidates finds the keys that may have signed a token.
func (v *Verifier) candidates(ctx context.Context, t *jwt.Token) (any, error) {
	if _, ok := t.Header["crit"]; ok {
		return nil, errors.New("the header has crit, and there is nothing in it that is understood here") // RFC 7515, 4.1.11
	}
	alg := t.Method.Alg()
	var set jwt.VerificationKeySet
	if isHMAC(alg) {
		for _, secret := range v.hmac {
			set.Keys = append(set.Keys, secret)
		}
		return set, nil
	}
	kid, isText := t.Header["kid"].(string)
	if !isText && t.Header["kid"] != nil {
		return nil, errors.New("kid is no string")
	}
	if v.keys == nil || kid == "" {
		if key := v.static(alg); key != nil {
			return key, nil
		}
		return nil, fmt.Errorf("there is no key for %s without a kid", alg)
	}
	keys, err := v.keys.lookup(ctx, kid)
	if err != nil {
		return nil, err
	}
	for _, k := range keys {
		if k.fits(alg) {
			set.Keys = append(set.Keys, k.key)
		}
	}
	if len(set.Keys) == 0 {
		return nil, fmt.Errorf("the key that it names is not one for %s", alg)
	}
	return set, nil
}
