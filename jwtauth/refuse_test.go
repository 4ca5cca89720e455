package jwtauth_test

import (
	"context"
	"crypto/ed25519"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare"
	"github.com/fanfare-go/fanfare/jwtauth"
)

// unsigned makes a token without a signature whose header says anything.
func unsigned(header, payload string) string {
	return base64.RawURLEncoding.EncodeToString([]byte(header)) + "." + base64.RawURLEncoding.EncodeToString([]byte(payload)) + "."
}

// asSecret are the forms in which a public key may be taken for a secret of HMAC.
func asSecret(t *testing.T) map[string][]byte {
	der, err := x509.MarshalPKIXPublicKey(&keys().rsa.PublicKey)
	require.NoError(t, err)
	pkcs1 := x509.MarshalPKCS1PublicKey(&keys().rsa.PublicKey)
	return map[string][]byte{
		"PEM": pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}), "DER": der, "PKCS1": pkcs1,
		"PKCS1 PEM": pem.EncodeToMemory(&pem.Block{Type: "RSA PUBLIC KEY", Bytes: pkcs1}), "modulus": keys().rsa.N.Bytes(),
		"Ed25519": keys().ed.Public().(ed25519.PublicKey),
	}
}

// TestConnect_Spec5_1_Tokens has every kind of wrong token, and what a client on a WebSocket is told.
func TestConnect_Spec5_1_Tokens(t *testing.T) {
	k := keys()
	ann := claims{"sub": "ann", "exp": in(time.Hour)}
	good := hs256(ann)
	head, rest, _ := strings.Cut(good, ".")
	payload, signature, _ := strings.Cut(rest, ".")
	eve := base64.RawURLEncoding.EncodeToString([]byte(`{"sub":"eve"}`))

	rows := map[string]struct {
		token string
		want  answer
	}{
		"good":                          {good, nil},
		"good, HS384":                   {token(jwt.SigningMethodHS384, secret, ann), nil},
		"good, HS512":                   {token(jwt.SigningMethodHS512, secret, ann), nil},
		"good, RS256":                   {token(jwt.SigningMethodRS256, k.rsa, ann), nil},
		"good, RS384":                   {token(jwt.SigningMethodRS384, k.rsa, ann), nil},
		"good, RS512":                   {token(jwt.SigningMethodRS512, k.rsa, ann), nil},
		"good, ES256":                   {token(jwt.SigningMethodES256, k.p256, ann), nil},
		"good, EdDSA of the set":        {token(jwt.SigningMethodEdDSA, k.ed, ann, "kid", "ed"), nil},
		"good, RS256 of the set":        {token(jwt.SigningMethodRS256, k.setRSA, ann, "kid", "rsa"), nil},
		"good, RS512 of any of the set": {token(jwt.SigningMethodRS512, k.setRSA, ann, "kid", "any-rsa"), nil},
		"good, ES384 of the set":        {token(jwt.SigningMethodES384, k.p384, ann, "kid", "p384"), nil},
		"good, secret, with a kid":      {token(jwt.SigningMethodHS256, secret, ann, "kid", "anything"), nil},

		"expired":                    {hs256(with(ann, claims{"exp": in(-time.Second)})), fanfare.ErrTokenExpired},
		"expired now":                {hs256(with(ann, claims{"exp": in(0)})), fanfare.ErrTokenExpired},
		"expired in 1970":            {hs256(with(ann, claims{"exp": 0})), fanfare.ErrTokenExpired},
		"expired before":             {hs256(with(ann, claims{"exp": -62135596800})), fanfare.ErrTokenExpired},
		"not good yet":               {hs256(with(ann, claims{"nbf": in(time.Hour)})), fanfare.ErrTokenExpired},
		"ends in the past":           {hs256(with(ann, claims{"expire_at": in(-time.Hour)})), fanfare.ErrTokenExpired},
		"ends before 1970":           {hs256(with(ann, claims{"expire_at": -1})), fanfare.ErrTokenExpired},
		"ends shortly after 0":       {hs256(with(ann, claims{"expire_at": 0.5})), fanfare.ErrTokenExpired},
		"expired, and of no use":     {hs256(with(ann, claims{"exp": in(-time.Second), "channel": "x"})), fanfare.DisconnectInvalidToken},
		"expired, badly signed":      {token(jwt.SigningMethodHS256, []byte("x"), claims{"exp": 1}), fanfare.DisconnectInvalidToken},
		"of a subscription":          {hs256(with(ann, claims{"channel": "token:1"})), fanfare.DisconnectInvalidToken},
		"channel of another type":    {hs256(with(ann, claims{"channel": 7})), fanfare.DisconnectInvalidToken},
		"no user":                    {hs256(with(ann, claims{"sub": nil})), fanfare.DisconnectPermissionDenied},
		"user of another type":       {hs256(with(ann, claims{"sub": 42})), fanfare.DisconnectInvalidToken},
		"user in another case":       {hs256(with(ann, claims{"sub": nil, "SUB": "ann"})), fanfare.DisconnectPermissionDenied},
		"exp is text":                {hs256(with(ann, claims{"exp": "4102444800"})), fanfare.DisconnectInvalidToken},
		"exp is an object":           {hs256(with(ann, claims{"exp": object{}})), fanfare.DisconnectInvalidToken},
		"nbf is text":                {hs256(with(ann, claims{"nbf": "0"})), fanfare.DisconnectInvalidToken},
		"channels is text":           {hs256(with(ann, claims{"channels": "token:1"})), fanfare.DisconnectInvalidToken},
		"subs is a list":             {hs256(with(ann, claims{"subs": []string{"token:1"}})), fanfare.DisconnectInvalidToken},
		"b64info is not base64":      {hs256(with(ann, claims{"b64info": "%"})), fanfare.DisconnectInvalidToken},
		"override is a list":         {hs256(with(ann, claims{"subs": object{"token:1": object{"override": []int{1}}}})), fanfare.DisconnectInvalidToken},
		"unknown channel":            {hs256(with(ann, claims{"channels": []string{"nowhere"}})), fanfare.ErrUnknownChannel},
		"unknown channel in subs":    {hs256(with(ann, claims{"subs": object{"nowhere": object{}}})), fanfare.ErrUnknownChannel},
		"b64info that is no JSON":    {hs256(with(ann, claims{"b64info": "AAE="})), fanfare.DisconnectInappropriate},
		"no token":                   {"", fanfare.ErrUnauthorized},
		"no JWT":                     {"garbage", fanfare.DisconnectInvalidToken},
		"two parts":                  {head + "." + payload, fanfare.DisconnectInvalidToken},
		"four parts":                 {good + ".x", fanfare.DisconnectInvalidToken},
		"only dots":                  {strings.Repeat(".", 1000), fanfare.DisconnectInvalidToken},
		"empty parts":                {"..", fanfare.DisconnectInvalidToken},
		"no signature":               {head + "." + payload + ".", fanfare.DisconnectInvalidToken},
		"other payload":              {head + "." + eve + "." + signature, fanfare.DisconnectInvalidToken},
		"signature with loose bits":  {good[:len(good)-1] + string(good[len(good)-1]^1), fanfare.DisconnectInvalidToken},
		"padded":                     {good + "=", fanfare.DisconnectInvalidToken},
		"claims are null":            {signed(`{"alg":"HS256"}`, `null`), fanfare.DisconnectInvalidToken},
		"claims are a list":          {signed(`{"alg":"HS256"}`, `[]`), fanfare.DisconnectInvalidToken},
		"claims are empty":           {signed(`{"alg":"HS256"}`, `{}`), fanfare.DisconnectPermissionDenied},
		"header is null":             {signed(`null`, `{"sub":"ann"}`), fanfare.DisconnectInvalidToken},
		"header is a number":         {signed(`1`, `{"sub":"ann"}`), fanfare.DisconnectInvalidToken},
		"crit":                       {signed(`{"alg":"HS256","crit":["b64"],"b64":false}`, `{"sub":"ann"}`), fanfare.DisconnectInvalidToken},
		"alg is a number":            {signed(`{"alg":1}`, `{"sub":"ann"}`), fanfare.DisconnectInvalidToken},
		"kid is a number":            {unsigned(`{"alg":"RS256","kid":1}`, `{"sub":"ann"}`), fanfare.DisconnectInvalidToken},
		"alg none":                   {token(jwt.SigningMethodNone, jwt.UnsafeAllowNoneSignatureType, ann), fanfare.DisconnectInvalidToken},
		"alg None":                   {unsigned(`{"alg":"None"}`, `{"sub":"ann"}`), fanfare.DisconnectInvalidToken},
		"alg nOnE, with a signature": {unsigned(`{"alg":"nOnE"}`, `{"sub":"ann"}`) + "YQ", fanfare.DisconnectInvalidToken},
		"alg empty":                  {unsigned(`{"alg":""}`, `{"sub":"ann"}`), fanfare.DisconnectInvalidToken},
		"no alg":                     {unsigned(`{}`, `{"sub":"ann"}`), fanfare.DisconnectInvalidToken},
		"another secret":             {token(jwt.SigningMethodHS256, []byte("another"), ann), fanfare.DisconnectInvalidToken},
		"empty secret":               {token(jwt.SigningMethodHS256, []byte{}, ann), fanfare.DisconnectInvalidToken},
		"another RSA key":            {token(jwt.SigningMethodRS256, k.otherRSA, ann), fanfare.DisconnectInvalidToken},
		"PS256, which is not meant":  {token(jwt.SigningMethodPS256, k.rsa, ann), fanfare.DisconnectInvalidToken},
		"ES384 with an unset curve":  {token(jwt.SigningMethodES384, k.p384, ann), fanfare.DisconnectInvalidToken},
		"EdDSA without a kid":        {token(jwt.SigningMethodEdDSA, k.ed, ann), fanfare.DisconnectInvalidToken},
		"EdDSA of another":           {token(jwt.SigningMethodEdDSA, k.otherEd, ann, "kid", "ed"), fanfare.DisconnectInvalidToken},
		"unknown kid":                {token(jwt.SigningMethodRS256, k.setRSA, ann, "kid", "?"), fanfare.DisconnectInvalidToken},
		"static key with a kid":      {token(jwt.SigningMethodRS256, k.rsa, ann, "kid", "rsa"), fanfare.DisconnectInvalidToken},
		"the set's key without kid":  {token(jwt.SigningMethodRS256, k.setRSA, ann), fanfare.DisconnectInvalidToken},
		"RS512 with a key of RS256":  {token(jwt.SigningMethodRS512, k.setRSA, ann, "kid", "rsa"), fanfare.DisconnectInvalidToken},
		"RS256 with the key of Ed":   {token(jwt.SigningMethodRS256, k.setRSA, ann, "kid", "ed"), fanfare.DisconnectInvalidToken},
		"a key for encryption":       {token(jwt.SigningMethodRS256, k.setRSAEnc, ann, "kid", "enc"), fanfare.DisconnectInvalidToken},
		"a key that was published":   {token(jwt.SigningMethodRS256, k.otherRSA, ann, "kid", "private"), fanfare.DisconnectInvalidToken},
		"a key that is too short":    {token(jwt.SigningMethodRS256, k.weakRSA, ann, "kid", "weak"), fanfare.DisconnectInvalidToken},
		"a secret that was published": {
			token(jwt.SigningMethodHS256, []byte("published, and so no secret at all"), ann, "kid", "secret"), fanfare.DisconnectInvalidToken,
		},
	}
	for form, key := range asSecret(t) {
		for _, kid := range []string{"", "rsa", "ed"} {
			rows["confused algorithm: "+form+" as secret, kid "+kid] = struct {
				token string
				want  answer
			}{token(jwt.SigningMethodHS256, key, ann, "kid", kid), fanfare.DisconnectInvalidToken}
		}
	}
	log := &logged{}
	server := serve(t, startNode(t, newVerifier(t, func(c *jwtauth.Config) { c.Logger = log.logger() })))
	for name, row := range rows {
		t.Run(name, func(t *testing.T) { require.Equal(t, row.want, dial(t, server).connect(row.token)) })
	}
	require.NotContains(t, log.String(), signature, "a token is in the log")
	require.NotContains(t, log.String(), string(secret))
	require.NotContains(t, log.String(), "panic")
}

// signed signs with the secret whatever header and payload are.
func signed(header, payload string) string {
	text := strings.TrimSuffix(unsigned(header, payload), ".")
	return text + "." + base64.RawURLEncoding.EncodeToString(must(jwt.SigningMethodHS256.Sign(text, secret)))
}

func TestConnect_Spec15_AudienceAndIssuer(t *testing.T) {
	v := newVerifier(t, func(c *jwtauth.Config) { c.Audience, c.Issuer = "fanfare", "login" })
	ann := claims{"sub": "ann", "aud": "fanfare", "iss": "login", "exp": in(time.Hour)}
	for name, row := range map[string]struct {
		change claims
		want   answer
	}{
		"both":                     {nil, nil},
		"one audience of several":  {claims{"aud": []string{"other", "fanfare"}}, nil},
		"no audience":              {claims{"aud": nil}, fanfare.DisconnectInvalidToken},
		"another audience":         {claims{"aud": "other"}, fanfare.DisconnectInvalidToken},
		"audience of another type": {claims{"aud": 1}, fanfare.DisconnectInvalidToken},
		"no issuer":                {claims{"iss": nil}, fanfare.DisconnectInvalidToken},
		"another issuer":           {claims{"iss": "Login"}, fanfare.DisconnectInvalidToken},
		"foreign, and expired: never told to get another": {claims{"aud": "other", "exp": 1}, fanfare.DisconnectInvalidToken},
		"expired": {claims{"exp": 1}, fanfare.ErrTokenExpired},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := authenticate(t, v, hs256(with(ann, row.change)))
			require.Equal(t, row.want, err)
		})
	}
}

func TestConnect_Spec5_1_Anonymous(t *testing.T) {
	v := newVerifier(t, func(c *jwtauth.Config) { c.Anonymous = true })
	for name, token := range map[string]string{"no token": "", "no sub": hs256(claims{"info": object{"a": 1}}), "empty sub": hs256(claims{"sub": ""})} {
		t.Run(name, func(t *testing.T) {
			id, err := authenticate(t, v, token)
			require.NoError(t, err)
			require.Empty(t, id.User)
		})
	}
	_, err := authenticate(t, v, "garbage")
	require.Equal(t, fanfare.DisconnectInvalidToken, err)
}

// TestSubscribe_Spec5_2_Tokens has every kind of wrong subscription token, and what a client on a WebSocket is told.
func TestSubscribe_Spec5_2_Tokens(t *testing.T) {
	server := serve(t, startNode(t, newVerifier(t)))
	ok := claims{"sub": "ann", "channel": "token:1", "exp": in(time.Hour)}
	for name, row := range map[string]struct {
		token string
		want  answer
	}{
		"good":                    {hs256(ok), nil},
		"no token":                {"", fanfare.ErrPermissionDenied},
		"garbage":                 {"garbage", fanfare.ErrPermissionDenied},
		"another secret":          {token(jwt.SigningMethodHS256, []byte("another"), ok), fanfare.ErrPermissionDenied},
		"alg none":                {token(jwt.SigningMethodNone, jwt.UnsafeAllowNoneSignatureType, ok), fanfare.ErrPermissionDenied},
		"a connection token":      {hs256(with(ok, claims{"channel": nil})), fanfare.ErrPermissionDenied},
		"channel of another type": {hs256(with(ok, claims{"channel": 1})), fanfare.ErrPermissionDenied},
		"data is not base64":      {hs256(with(ok, claims{"b64data": "%"})), fanfare.ErrPermissionDenied},
		"expired":                 {hs256(with(ok, claims{"exp": in(-time.Second)})), fanfare.ErrTokenExpired},
		"not good yet":            {hs256(with(ok, claims{"nbf": in(time.Hour)})), fanfare.ErrTokenExpired},
		"ends in the past":        {hs256(with(ok, claims{"expire_at": 1})), fanfare.ErrTokenExpired},
		"another channel's":       {hs256(with(ok, claims{"channel": "token:2"})), fanfare.DisconnectInvalidToken},
		"another user's":          {hs256(with(ok, claims{"sub": "eve"})), fanfare.DisconnectInvalidToken},
		"nobody's":                {hs256(with(ok, claims{"sub": nil})), fanfare.DisconnectInvalidToken},
		"another connection's":    {hs256(with(ok, claims{"client": "another"})), fanfare.DisconnectInvalidToken},
	} {
		t.Run(name, func(t *testing.T) {
			s := dial(t, server)
			require.NoError(t, s.connect(hs256(claims{"sub": "ann"})))
			require.Equal(t, row.want, s.refused(object{"id": 2, "subscribe": object{"channel": "token:1", "token": row.token}}))
		})
	}
	t.Run("replayed by the same user on a second connection, it is good until it expires", func(t *testing.T) {
		for range 2 {
			s := dial(t, server)
			require.NoError(t, s.connect(hs256(claims{"sub": "ann"})))
			require.NoError(t, s.refused(object{"id": 2, "subscribe": object{"channel": "token:1", "token": hs256(ok)}}))
		}
	})
}

// TestRefresh_Spec5_9_Tokens and the next one are about what is answered; refresh_test.go is about what comes of it.
func TestRefresh_Spec5_9_Tokens(t *testing.T) {
	server := serve(t, startNode(t, newVerifier(t)))
	ann := claims{"sub": "ann", "exp": in(time.Hour)}
	for name, row := range map[string]struct {
		token string
		want  answer
	}{
		"good":              {hs256(ann), nil},
		"no token":          {"", fanfare.DisconnectBadRequest},
		"expired":           {hs256(with(ann, claims{"exp": 1})), fanfare.DisconnectExpired},
		"not good yet":      {hs256(with(ann, claims{"nbf": in(time.Hour)})), fanfare.DisconnectExpired},
		"ends in the past":  {hs256(with(ann, claims{"expire_at": 1})), fanfare.DisconnectExpired},
		"garbage":           {"garbage", fanfare.DisconnectInvalidToken},
		"alg none":          {token(jwt.SigningMethodNone, jwt.UnsafeAllowNoneSignatureType, ann), fanfare.DisconnectInvalidToken},
		"another user's":    {hs256(with(ann, claims{"sub": "eve"})), fanfare.DisconnectInvalidToken},
		"nobody's":          {hs256(with(ann, claims{"sub": nil})), fanfare.DisconnectInvalidToken},
		"of a subscription": {hs256(with(ann, claims{"channel": "token:1"})), fanfare.DisconnectInvalidToken},
	} {
		t.Run(name, func(t *testing.T) {
			s := dial(t, server)
			require.NoError(t, s.connect(hs256(claims{"sub": "ann", "exp": in(time.Minute)})))
			require.Equal(t, row.want, s.refused(object{"id": 2, "refresh": object{"token": row.token}}))
		})
	}
}

func TestSubRefresh_Spec5_10_Tokens(t *testing.T) {
	server := serve(t, startNode(t, newVerifier(t)))
	ok := claims{"sub": "ann", "channel": "token:1", "exp": in(time.Hour)}
	for name, row := range map[string]struct {
		token string
		want  answer
	}{
		"good":                 {hs256(ok), nil},
		"no token":             {"", fanfare.ErrBadRequest},
		"garbage":              {"garbage", fanfare.DisconnectInvalidToken},
		"a connection token":   {hs256(with(ok, claims{"channel": nil})), fanfare.DisconnectInvalidToken},
		"another channel's":    {hs256(with(ok, claims{"channel": "token:2"})), fanfare.DisconnectInvalidToken},
		"another user's":       {hs256(with(ok, claims{"sub": "eve"})), fanfare.DisconnectInvalidToken},
		"another connection's": {hs256(with(ok, claims{"client": "another"})), fanfare.DisconnectInvalidToken},
	} {
		t.Run(name, func(t *testing.T) {
			s := dial(t, server)
			require.NoError(t, s.connect(hs256(claims{"sub": "ann"})))
			require.NoError(t, s.refused(object{"id": 2, "subscribe": object{"channel": "token:1", "token": hs256(ok)}}))
			require.Equal(t, row.want, s.refused(object{"id": 3, "sub_refresh": object{"channel": "token:1", "token": row.token}}))
		})
	}
}

// TestConnect_ConfusedAlgorithm_WithoutASecret: where there is no secret at all, nothing is taken for one.
func TestConnect_ConfusedAlgorithm_WithoutASecret(t *testing.T) {
	for name, change := range map[string]func(*jwtauth.Config){
		"RSA":  func(c *jwtauth.Config) { c.JWKS = nil },
		"JWKS": func(c *jwtauth.Config) { c.RSAPublicKey, c.ECDSAPublicKey = nil, nil },
	} {
		v := newVerifier(t, change, func(c *jwtauth.Config) { c.HMACSecret = nil })
		secrets := asSecret(t)
		secrets["empty"], secrets["nil"] = []byte{}, nil
		for form, key := range secrets {
			for _, kid := range []string{"", "rsa", "ed", "secret"} {
				_, err := authenticate(t, v, token(jwt.SigningMethodHS256, key, claims{"sub": "ann"}, "kid", kid))
				require.Equal(t, fanfare.DisconnectInvalidToken, err, "%s: %s as secret, kid %q", name, form, kid)
			}
		}
	}
}

func TestRevoked(t *testing.T) {
	var asked []jwtauth.Token
	down := errors.New("database is down")
	v := newVerifier(t, func(c *jwtauth.Config) {
		c.Revoked = func(_ context.Context, tk *jwtauth.Token) (bool, error) {
			asked = append(asked, *tk)
			if tk.ID == "down" {
				return false, down
			}
			return tk.ID == "stolen", nil
		}
	})
	_, err := authenticate(t, v, hs256(claims{"sub": "ann", "jti": "mine", "iss": "login", "iat": 1, "exp": 4102444800}))
	require.NoError(t, err)
	require.Equal(t, []jwtauth.Token{{User: "ann", ID: "mine", Issuer: "login", IssuedAt: time.Unix(1, 0), ExpiresAt: time.Unix(4102444800, 0)}}, asked)
	_, err = authenticate(t, v, hs256(claims{"sub": "ann", "jti": "stolen"}))
	require.Equal(t, fanfare.DisconnectInvalidToken, err)
	_, err = authenticate(t, v, hs256(claims{"sub": "ann", "jti": "down"}))
	require.ErrorIs(t, err, down)
	asked = nil
	_, err = authenticate(t, v, hs256(claims{"sub": "ann", "jti": "mine", "exp": 1}))
	require.Equal(t, fanfare.ErrTokenExpired, err)
	require.Empty(t, asked, "asked about a token that is not good anyway")
}
