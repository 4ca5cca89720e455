package jwtauth_test

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/pem"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare"
	"github.com/fanfare-go/fanfare/jwtauth"
)

func TestNew_RefusesByName(t *testing.T) {
	p224 := must(ecdsa.GenerateKey(elliptic.P224(), rand.Reader))
	asPEM := pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: []byte("x")})
	for want, c := range map[string]jwtauth.Config{
		"HMACSecret, RSAPublicKey, ECDSAPublicKey, JWKSURL or JWKS is needed": {Audience: "x"},
		"PreviousHMACSecret needs HMACSecret":                                 {PreviousHMACSecret: secret, JWKS: keySet()},
		"HMACSecret is a key in PEM":                                          {HMACSecret: append([]byte("\n"), asPEM...)},
		"JWKSURL and JWKS exclude each other":                                 {JWKSURL: "https://x.example", JWKS: keySet()},
		"RSAPublicKey has fewer than 2048 bits":                               {RSAPublicKey: &keys().weakRSA.PublicKey},
		"RSAPublicKey":                                                        {RSAPublicKey: &rsa.PublicKey{}},
		"ECDSAPublicKey is on none of the curves":                             {ECDSAPublicKey: &p224.PublicKey},
		"ECDSAPublicKey":                                                      {ECDSAPublicKey: &ecdsa.PublicKey{}},
		"JWKS: ":                                                              {JWKS: []byte("{")},
		"JWKS: none of its 0 keys":                                            {JWKS: []byte("{}")},
		"JWKSTTL is negative":                                                 {HMACSecret: secret, JWKSTTL: -1},
		"JWKSInterval is negative":                                            {HMACSecret: secret, JWKSInterval: -1},
		"JWKSTimeout is negative":                                             {HMACSecret: secret, JWKSTimeout: -1},
		"Leeway is negative":                                                  {HMACSecret: secret, Leeway: -time.Second},
		"JWKSURL is no URL":                                                   {JWKSURL: "https://hush:%zz@x"},
		"JWKSURL: it has no host":                                             {JWKSURL: "login.example.com/keys"},
		"JWKSURL: it is neither https nor http":                               {JWKSURL: "ftp://login.example.com"},
		"JWKSURL: plain http to another machine needs InsecureJWKS":           {JWKSURL: "http://login.example.com"},
	} {
		t.Run(want, func(t *testing.T) {
			_, err := jwtauth.New(c)
			require.ErrorContains(t, err, "jwtauth: Config."+want)
			require.NotContains(t, err.Error(), "hush")
		})
	}
	for _, url := range []string{"http://localhost:1/x", "http://127.0.0.1:1", "http://[::1]:1", "https://login.example.com"} {
		_, err := jwtauth.New(jwtauth.Config{JWKSURL: url})
		require.NoError(t, err, url)
	}
	_, err := jwtauth.New(jwtauth.Config{JWKSURL: "http://keycloak:8080/certs", InsecureJWKS: true})
	require.NoError(t, err)
}

func TestNew_WarnsOfShortSecrets(t *testing.T) {
	log := &logged{}
	_, err := jwtauth.New(jwtauth.Config{HMACSecret: []byte("hush"), Logger: log.logger()})
	require.NoError(t, err)
	require.Contains(t, log.String(), "level=WARN")
	require.NotContains(t, log.String(), "hush")
}

// TestNew_KeepsItsOwnSecret: who wipes his copy does not change the verifier's.
func TestNew_KeepsItsOwnSecret(t *testing.T) {
	mine := []byte(string(secret))
	v, err := jwtauth.New(jwtauth.Config{HMACSecret: mine})
	require.NoError(t, err)
	clear(mine)
	requireAuth(t, v, hs256(claims{"sub": "ann"}), nil)
}

func TestSigner_EveryKey(t *testing.T) {
	k := keys()
	for name, row := range map[string]struct {
		signer jwtauth.Signer
		config jwtauth.Config
	}{
		"HS256": {jwtauth.Signer{Key: secret}, jwtauth.Config{HMACSecret: secret}},
		"RS256": {jwtauth.Signer{Key: k.rsa}, jwtauth.Config{RSAPublicKey: &k.rsa.PublicKey}},
		"ES256": {jwtauth.Signer{Key: k.p256}, jwtauth.Config{ECDSAPublicKey: &k.p256.PublicKey}},
		"ES384": {jwtauth.Signer{Key: k.p384}, jwtauth.Config{ECDSAPublicKey: &k.p384.PublicKey}},
		"ES512": {jwtauth.Signer{Key: k.p521}, jwtauth.Config{ECDSAPublicKey: &k.p521.PublicKey}},
		"EdDSA": {jwtauth.Signer{Key: k.ed, KeyID: "ed"}, jwtauth.Config{JWKS: keySet()}},
	} {
		t.Run(name, func(t *testing.T) {
			row.signer.Audience, row.config.Audience = "live", "live"
			row.signer.Issuer, row.config.Issuer = "login", "login"
			row.signer.UserClaim, row.config.UserClaim = "uid", "uid"
			v, err := jwtauth.New(row.config)
			require.NoError(t, err)
			tk, err := row.signer.ConnectionToken(jwtauth.ConnectionClaims{User: "ann", ID: "1", Channels: []string{"a"}})
			require.NoError(t, err)
			id, err := authenticate(t, v, tk)
			require.NoError(t, err)
			require.Equal(t, "ann", id.User)
			require.Equal(t, map[string]fanfare.SubscribeReply{"a": {}}, id.Subscriptions)
			require.WithinDuration(t, time.Now().Add(10*time.Minute), id.ExpireAt, 2*time.Second)
		})
	}
}

func TestSigner_Refuses(t *testing.T) {
	ann := jwtauth.ConnectionClaims{User: "ann"}
	for name, key := range map[string]any{
		"nothing": nil, "text": "secret", "empty": []byte{}, "PEM": []byte("-----BEGIN PRIVATE KEY-----"), "public": keys().rsa.Public(), "no Ed25519": ed25519.PrivateKey{},
		"no RSA": (*rsa.PrivateKey)(nil), "no ECDSA": (*ecdsa.PrivateKey)(nil), "short RSA": keys().weakRSA, "P-224": must(ecdsa.GenerateKey(elliptic.P224(), rand.Reader)),
	} {
		_, err := (&jwtauth.Signer{Key: key}).ConnectionToken(ann)
		require.ErrorContains(t, err, "jwtauth: ", name)
	}
	s := &jwtauth.Signer{Key: secret}
	ann.TTL = time.Millisecond
	_, err := s.ConnectionToken(ann)
	require.ErrorContains(t, err, "1ms")
	_, err = s.ConnectionToken(jwtauth.ConnectionClaims{Info: func() {}})
	require.ErrorContains(t, err, "jwtauth: sign")
	_, err = s.SubscriptionToken(jwtauth.SubscriptionClaims{User: "ann"})
	require.ErrorContains(t, err, "Channel")
}
