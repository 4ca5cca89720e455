package jwtauth_test

import (
	"encoding/base64"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare"
	"github.com/fanfare-go/fanfare/jwtauth"
)

// FuzzVerifier: whatever comes as a token, nothing panics, each refusal is one that clients know, and nobody is let in whose claims
// were not signed, to the last byte of header and payload.
func FuzzVerifier(f *testing.F) {
	k := keys()
	ann := claims{"sub": "ann", "exp": 4102444800, "info": object{"a": 1}, "channels": []string{"x"}}
	good := []string{
		hs256(ann), token(jwt.SigningMethodRS256, k.rsa, ann), token(jwt.SigningMethodES256, k.p256, ann), token(jwt.SigningMethodEdDSA, k.ed, ann, "kid", "ed"),
		token(jwt.SigningMethodRS256, k.setRSA, ann, "kid", "rsa"), token(jwt.SigningMethodES384, k.p384, ann, "kid", "p384"),
	}
	var signedTexts []string
	for _, tk := range good {
		f.Add(tk)
		signedTexts = append(signedTexts, tk[:strings.LastIndexByte(tk, '.')])
	}
	f.Add(token(jwt.SigningMethodNone, jwt.UnsafeAllowNoneSignatureType, ann))
	f.Add(unsigned(`{"alg":"HS256","kid":"secret"}`, `{"sub":"ann"}`))
	f.Add("..")
	v := newVerifier(f)
	f.Fuzz(func(t *testing.T, tk string) {
		_, err := authenticate(t, v, tk)
		switch {
		case err == nil:
			require.True(t, slices.Contains(signedTexts, tk[:strings.LastIndexByte(tk, '.')]), "believed: %q", tk)
		default:
			requireKnown(t, err)
		}
	})
}

// FuzzClaims: whatever an issuer signs, nothing panics, what was accepted makes sense, and both kinds of token exclude each other.
func FuzzClaims(f *testing.F) {
	for _, payload := range []string{
		`{"sub":"ann","exp":4102444800,"expire_at":0,"info":{"a":1},"channels":["x"],"meta":{"a":[]}}`,
		`{"subs":{"x":{"info":1,"b64info":"e30=","data":2,"b64data":"W10=","override":{"presence":{"value":true}}},"":null}}`,
		`{"sub":"ann","channel":"token:1","client":"c","data":"x","b64data":"AA==","override":{"join_leave":null}}`,
		`{"exp":1e999,"nbf":-1e999,"iat":"x"}`, `{"exp":-62135596800}`, `{"aud":["a",1]}`, `{"sub":null,"channel":null}`, `null`, `[]`, `{}`, ``,
	} {
		f.Add(payload)
	}
	v := newVerifier(f, func(c *jwtauth.Config) { c.Anonymous = true })
	f.Fuzz(func(t *testing.T, payload string) {
		text := base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"HS256"}`)) + "." + base64.RawURLEncoding.EncodeToString([]byte(payload))
		tk := text + "." + base64.RawURLEncoding.EncodeToString(must(jwt.SigningMethodHS256.Sign(text, secret)))
		id, err := authenticate(t, v, tk)
		if err != nil {
			requireKnown(t, err)
		} else {
			require.True(t, id.ExpireAt.IsZero() || id.ExpireAt.After(time.Now()))
		}
		reply, subErr := v.Subscribe(t.Context(), &fanfare.SubscribeRequest{Client: new(fanfare.Client), Channel: "token:1", Token: tk})
		if subErr != nil {
			requireKnown(t, subErr)
		} else {
			require.True(t, reply.ExpireAt.IsZero() || reply.ExpireAt.After(time.Now()))
		}
		require.False(t, err == nil && subErr == nil, "a token of both kinds")
	})
}

// FuzzKeySet: whatever a provider publishes, nothing panics, and nothing in it makes a secret of what is public.
func FuzzKeySet(f *testing.F) {
	f.Add(string(keySet()))
	f.Add(`{"keys":[{"kid":"k","kty":"RSA","n":"","e":"AQAB"},{"kid":"k","kty":"EC","crv":"P-256","x":"","y":""},{"kid":"k","kty":"OKP","crv":"Ed25519","x":"AA"}]}`)
	f.Add(`{"keys":[{"kid":"k","kty":"oct","k":"YQ"},{"kid":"k","kty":"RSA","x5c":["AA"],"x5t":"AA"},null,1,{}]}`)
	forged := token(jwt.SigningMethodHS256, []byte("a"), claims{"sub": "ann"}, "kid", "k")
	strange := token(jwt.SigningMethodEdDSA, keys().otherEd, claims{"sub": "ann"}, "kid", "ed")
	f.Fuzz(func(t *testing.T, set string) {
		v, err := jwtauth.New(jwtauth.Config{JWKS: []byte(set)})
		if err != nil {
			require.ErrorContains(t, err, "jwtauth: Config.JWKS: ")
			return
		}
		for _, tk := range []string{forged, strange} {
			_, err = authenticate(t, v, tk)
			require.Equal(t, fanfare.DisconnectInvalidToken, err)
		}
	})
}

// requireKnown: a refusal is an answer of the protocol, and never the reason for it.
func requireKnown(t *testing.T, err error) {
	t.Helper()
	known := []error{fanfare.ErrUnauthorized, fanfare.ErrTokenExpired, fanfare.ErrPermissionDenied, fanfare.DisconnectInvalidToken, fanfare.DisconnectPermissionDenied}
	require.True(t, slices.ContainsFunc(known, func(k error) bool { return errors.Is(err, k) }), "%v", err)
}
