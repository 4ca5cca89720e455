package jwtauth_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/json"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coder/websocket"
	"github.com/go-jose/go-jose/v4"
	"github.com/golang-jwt/jwt/v5"
	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare"
	"github.com/fanfare-go/fanfare/jwtauth"
)

var secret = []byte("a secret of HMAC that has 32 bytes or more")

// keyring are the private keys of these tests: "other" ones are nobody's that a verifier knows.
type keyring struct {
	rsa, otherRSA     *rsa.PrivateKey
	p256, p384, p521  *ecdsa.PrivateKey
	ed, otherEd       ed25519.PrivateKey
	weakRSA           *rsa.PrivateKey
	setRSA, setRSAEnc *rsa.PrivateKey
}

var keys = sync.OnceValue(func() *keyring {
	newRSA := func(bits int) *rsa.PrivateKey { return must(rsa.GenerateKey(rand.Reader, bits)) }
	newEC := func(c elliptic.Curve) *ecdsa.PrivateKey { return must(ecdsa.GenerateKey(c, rand.Reader)) }
	return &keyring{
		rsa: newRSA(2048), otherRSA: newRSA(2048), weakRSA: newRSA(1024), setRSA: newRSA(2048), setRSAEnc: newRSA(2048),
		p256: newEC(elliptic.P256()), p384: newEC(elliptic.P384()), p521: newEC(elliptic.P521()), ed: newEd(), otherEd: newEd(),
	}
})

func newEd() ed25519.PrivateKey {
	_, key, err := ed25519.GenerateKey(rand.Reader)
	return must(key, err)
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// keySet is the key set that these tests publish.
func keySet() []byte {
	k := keys()
	return marshalSet(
		jose.JSONWebKey{KeyID: "ed", Key: k.ed.Public(), Use: "sig", Algorithm: "EdDSA"},
		jose.JSONWebKey{KeyID: "rsa", Key: k.setRSA.Public(), Use: "sig", Algorithm: "RS256"},
		jose.JSONWebKey{KeyID: "any-rsa", Key: k.setRSA.Public()},
		jose.JSONWebKey{KeyID: "enc", Key: k.setRSAEnc.Public(), Use: "enc"},
		jose.JSONWebKey{KeyID: "p384", Key: k.p384.Public()},
		jose.JSONWebKey{KeyID: "secret", Key: []byte("published, and so no secret at all")},
		jose.JSONWebKey{KeyID: "private", Key: k.otherRSA},
		jose.JSONWebKey{KeyID: "weak", Key: k.weakRSA.Public()},
	)
}

func marshalSet(set ...jose.JSONWebKey) []byte {
	return must(json.Marshal(jose.JSONWebKeySet{Keys: set}))
}

type claims = jwt.MapClaims

// with returns claims with some more or, where nil, less.
func with(base claims, more claims) claims {
	out := maps.Clone(base)
	for name, v := range more {
		if out[name] = v; v == nil {
			delete(out, name)
		}
	}
	return out
}

// token signs claims. Header fields come in pairs.
func token(method jwt.SigningMethod, key any, c claims, header ...string) string {
	t := jwt.NewWithClaims(method, c)
	for i := 0; i < len(header); i += 2 {
		t.Header[header[i]] = header[i+1]
	}
	return must(t.SignedString(key))
}

func hs256(c claims) string { return token(jwt.SigningMethodHS256, secret, c) }

// in is a time from now, as tokens have it.
func in(d time.Duration) int64 { return time.Now().Add(d).Unix() }

// newVerifier makes a verifier that knows a key of every kind.
func newVerifier(t testing.TB, change ...func(*jwtauth.Config)) *jwtauth.Verifier {
	t.Helper()
	c := jwtauth.Config{HMACSecret: secret, RSAPublicKey: &keys().rsa.PublicKey, ECDSAPublicKey: &keys().p256.PublicKey, JWKS: keySet()}
	for _, f := range change {
		f(&c)
	}
	v, err := jwtauth.New(c)
	require.NoError(t, err)
	return v
}

// startNode makes a node whose connections and channels "token:{id}" need tokens.
func startNode(t testing.TB, v *jwtauth.Verifier, change ...func(*fanfare.Config)) *fanfare.Node {
	t.Helper()
	c := fanfare.Config{Authenticate: v.Authenticate, Refresh: v.Refresh, DrainWindow: -1}
	for _, f := range change {
		f(&c)
	}
	node, err := fanfare.New(c)
	require.NoError(t, err)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		require.NoError(t, node.Shutdown(ctx))
	})
	node.Channel("token:{id}", fanfare.ChannelOptions{
		Subscribe: v.Subscribe, SubRefresh: v.SubRefresh, Presence: true, AllowPresence: fanfare.Anyone,
		History: fanfare.History{Size: 10, TTL: time.Hour}, Recovery: fanfare.RecoveryOnRequest,
	})
	return node
}

// inBubble runs a subtest in a bubble of its own.
func inBubble(t *testing.T, name string, f func(t *testing.T)) {
	t.Helper()
	keys() // are made outside
	t.Run(name, func(t *testing.T) { synctest.Test(t, f) })
}

// socket is a real WebSocket to a node.
type socket struct {
	t    *testing.T
	conn *websocket.Conn
}

// serve puts a node behind a real server.
func serve(t *testing.T, node *fanfare.Node) *httptest.Server {
	t.Helper()
	s := httptest.NewServer(node)
	t.Cleanup(s.Close)
	return s
}

func dial(t *testing.T, s *httptest.Server) *socket {
	t.Helper()
	conn, _, err := websocket.Dial(t.Context(), strings.Replace(s.URL, "http", "ws", 1)+"/websocket", nil)
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.CloseNow() })
	return &socket{t, conn}
}

// ask sends a command and returns the answer: a message, or how the server closed the connection.
func (s *socket) ask(command any) (string, *fanfare.Disconnect) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), 20*time.Second)
	defer cancel()
	require.NoError(s.t, s.conn.Write(ctx, websocket.MessageText, must(json.Marshal(command))))
	_, answer, err := s.conn.Read(ctx)
	if err == nil {
		return string(answer), nil
	}
	var end websocket.CloseError
	require.ErrorAs(s.t, err, &end)
	return "", &fanfare.Disconnect{Code: uint32(end.Code), Reason: end.Reason}
}

type object = map[string]any

// answer is what a client is told: nothing of it if all is well.
type answer = error

// connect sends a connection token.
func (s *socket) connect(token string) answer {
	s.t.Helper()
	return s.refused(object{"id": 1, "connect": object{"token": token}})
}

// refused sends a command and returns how it is refused, or nil.
func (s *socket) refused(command object) answer {
	s.t.Helper()
	text, end := s.ask(command)
	if end != nil {
		return end
	}
	var reply struct{ Error *fanfare.Error }
	require.NoError(s.t, json.Unmarshal([]byte(text), &reply))
	if reply.Error != nil {
		return reply.Error
	}
	return nil
}

// logged collects a log as text.
type logged struct {
	mu  sync.Mutex // guards below
	buf bytes.Buffer
}

func (l *logged) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

func (l *logged) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

func (l *logged) logger() *slog.Logger {
	return slog.New(slog.NewTextHandler(l, &slog.HandlerOptions{Level: slog.LevelDebug}))
}

// authenticate asks a verifier alone.
func authenticate(t testing.TB, v *jwtauth.Verifier, token string) (fanfare.Identity, error) {
	return v.Authenticate(t.Context(), &fanfare.ConnectRequest{HTTP: httptest.NewRequest(http.MethodGet, "/", nil), ClientID: "c", Token: token})
}
