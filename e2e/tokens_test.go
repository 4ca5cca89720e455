//go:build unix

package e2e

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare"
	"github.com/fanfare-go/fanfare/jwtauth"
)

// TestSDK_Node_Tokens drives the published package with tokens that expire in seconds, from an identity provider whose keys rotate.
func TestSDK_Node_Tokens(t *testing.T) {
	node := lookNode(t)
	for _, encoding := range []string{"json", "protobuf"} {
		t.Run(encoding, func(t *testing.T) {
			t.Parallel()
			s := newServer(t, false)
			newIssuer(t, s)
			runScenarios(t, node, "js/node.mjs", s.URL, encoding, "tokens")
		})
	}
}

// issuer is an identity provider beside the server, which gives whoever asks the token of his wishes: signed with its first key, or
// with its newest, so that one scenario can rotate keys while others use theirs.
type issuer struct {
	mu   sync.Mutex // guards below
	keys []ed25519.PrivateKey
}

// newIssuer starts an issuer, and a node "tokens" that believes it.
func newIssuer(t *testing.T, s *server) {
	t.Helper()
	i := &issuer{}
	require.NoError(t, i.rotate())
	mux := s.Config.Handler.(*http.ServeMux)
	mux.HandleFunc("GET /issuer/jwks.json", i.serveKeys)
	mux.HandleFunc("POST /issuer/rotate", func(w http.ResponseWriter, _ *http.Request) { answer(w, nil, i.rotate()) })
	mux.HandleFunc("POST /issuer/connection", i.serveConnectionToken)
	mux.HandleFunc("POST /issuer/subscription", i.serveSubscriptionToken)

	v, err := jwtauth.New(jwtauth.Config{JWKSURL: s.URL + "/issuer/jwks.json", JWKSInterval: 100 * time.Millisecond, Logger: s.logger})
	require.NoError(t, err)
	require.NoError(t, s.start("tokens", fanfare.Config{
		Authenticate: v.Authenticate, Refresh: v.Refresh, Logger: s.logger, ExpiryGrace: expiryGrace, DrainWindow: -1,
	}))
	s.node("tokens").Channel("jwt:{id}", fanfare.ChannelOptions{
		Subscribe: v.Subscribe, SubRefresh: v.SubRefresh, Presence: true, AllowPresence: fanfare.Anyone,
	})
}

// rotate makes a new key, and publishes it beside the others.
func (i *issuer) rotate() error {
	_, key, err := ed25519.GenerateKey(rand.Reader)
	i.mu.Lock()
	defer i.mu.Unlock()
	i.keys = append(i.keys, key)
	return err
}

func (i *issuer) signer(r *http.Request) *jwtauth.Signer {
	i.mu.Lock()
	defer i.mu.Unlock()
	n := 0
	if r.URL.Query().Has("newest") {
		n = len(i.keys) - 1
	}
	return &jwtauth.Signer{Key: i.keys[n], KeyID: fmt.Sprint(n), TTL: time.Hour}
}

func (i *issuer) serveKeys(w http.ResponseWriter, _ *http.Request) {
	i.mu.Lock()
	defer i.mu.Unlock()
	var set jose.JSONWebKeySet
	for n, key := range i.keys {
		set.Keys = append(set.Keys, jose.JSONWebKey{KeyID: fmt.Sprint(n), Key: key.Public(), Use: "sig"})
	}
	answer(w, set, nil)
}

func (i *issuer) serveConnectionToken(w http.ResponseWriter, r *http.Request) {
	var c jwtauth.ConnectionClaims
	if err := json.NewDecoder(r.Body).Decode(&c); err != nil {
		answer(w, nil, err)
		return
	}
	token, err := i.signer(r).ConnectionToken(c)
	answer(w, token, err)
}

func (i *issuer) serveSubscriptionToken(w http.ResponseWriter, r *http.Request) {
	var c jwtauth.SubscriptionClaims
	if err := json.NewDecoder(r.Body).Decode(&c); err != nil {
		answer(w, nil, err)
		return
	}
	token, err := i.signer(r).SubscriptionToken(c)
	answer(w, token, err)
}

func answer(w http.ResponseWriter, v any, err error) {
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(v)
}
