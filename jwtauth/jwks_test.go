package jwtauth_test

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/golang-jwt/jwt/v5"
	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare"
	"github.com/fanfare-go/fanfare/fanfaretest"
	"github.com/fanfare-go/fanfare/jwtauth"
)

// provider is an identity provider that publishes keys. It is an http.RoundTripper as well, for tests in bubbles.
type provider struct {
	mu       sync.Mutex // guards below
	set      []byte
	status   int
	err      error
	takes    time.Duration
	requests atomic.Int32
}

func (p *provider) publish(keys ...jose.JSONWebKey) { p.change(func() { p.set = marshalSet(keys...) }) }

func (p *provider) change(f func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	f()
}

func (p *provider) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	p.requests.Add(1)
	p.mu.Lock()
	set, status := p.set, p.status
	p.mu.Unlock()
	if status != 0 {
		w.WriteHeader(status)
	}
	_, _ = w.Write(set)
}

func (p *provider) RoundTrip(r *http.Request) (*http.Response, error) {
	p.mu.Lock()
	takes, err := p.takes, p.err
	p.mu.Unlock()
	select {
	case <-time.After(takes):
	case <-r.Context().Done():
		p.requests.Add(1)
		return nil, r.Context().Err()
	}
	if err != nil {
		p.requests.Add(1)
		return nil, err
	}
	w := httptest.NewRecorder()
	p.ServeHTTP(w, r)
	return w.Result(), nil
}

// edKey is an Ed25519 key with its name.
type edKey struct {
	kid string
	ed25519.PrivateKey
}

func newKey(kid string) edKey { return edKey{kid, newEd()} }

func (k edKey) public() jose.JSONWebKey {
	return jose.JSONWebKey{KeyID: k.kid, Key: k.Public(), Use: "sig"}
}

func (k edKey) token() string {
	return must((&jwtauth.Signer{Key: k.PrivateKey, KeyID: k.kid, TTL: 1000 * time.Hour}).ConnectionToken(jwtauth.ConnectionClaims{User: "ann"}))
}

// remote makes a verifier whose keys are a provider's, without a network.
func remote(t *testing.T, p *provider, change ...func(*jwtauth.Config)) *jwtauth.Verifier {
	t.Helper()
	c := jwtauth.Config{JWKSURL: "https://login.example.com/keys?secret=hush", HTTPClient: &http.Client{Transport: p}}
	for _, f := range change {
		f(&c)
	}
	v, err := jwtauth.New(c)
	require.NoError(t, err)
	return v
}

func requireAuth(t *testing.T, v *jwtauth.Verifier, token string, want error) {
	t.Helper()
	_, err := authenticate(t, v, token)
	require.Equal(t, want, err)
}

func TestJWKS_Cache(t *testing.T) {
	inBubble(t, "keys are asked for when they are needed, once, and again after the TTL", func(t *testing.T) {
		p, a := &provider{}, newKey("a")
		p.publish(a.public())
		v := remote(t, p)
		require.Zero(t, p.requests.Load())
		for range 3 {
			requireAuth(t, v, a.token(), nil)
		}
		require.EqualValues(t, 1, p.requests.Load())
		time.Sleep(10*time.Minute - time.Millisecond)
		requireAuth(t, v, a.token(), nil)
		require.EqualValues(t, 1, p.requests.Load())
		time.Sleep(time.Millisecond)
		requireAuth(t, v, a.token(), nil)
		require.EqualValues(t, 2, p.requests.Load())
	})
	inBubble(t, "a key that was withdrawn is of no use after the TTL", func(t *testing.T) {
		p, a, b := &provider{}, newKey("a"), newKey("b")
		p.publish(a.public(), b.public())
		v := remote(t, p)
		requireAuth(t, v, a.token(), nil)
		p.publish(b.public())
		time.Sleep(10 * time.Minute)
		requireAuth(t, v, a.token(), fanfare.DisconnectInvalidToken)
		requireAuth(t, v, b.token(), nil)
	})
	inBubble(t, "a new key is found at once", func(t *testing.T) {
		p, a, b := &provider{}, newKey("a"), newKey("b")
		p.publish(a.public())
		v := remote(t, p)
		requireAuth(t, v, a.token(), nil)
		p.publish(a.public(), b.public())
		time.Sleep(6 * time.Second)
		requireAuth(t, v, b.token(), nil)
		requireAuth(t, v, a.token(), nil)
		require.EqualValues(t, 2, p.requests.Load())
	})
	inBubble(t, "whoever comes while keys are asked for waits for the same answer", func(t *testing.T) {
		p, a := &provider{takes: time.Second}, newKey("a")
		p.publish(a.public())
		v := remote(t, p)
		var all sync.WaitGroup
		for range 100 {
			all.Go(func() {
				_, err := authenticate(t, v, a.token())
				require.NoError(t, err)
			})
		}
		all.Wait()
		require.EqualValues(t, 1, p.requests.Load())
	})
}

func TestJWKS_UnknownKeys(t *testing.T) {
	inBubble(t, "random names make one request in an interval", func(t *testing.T) {
		p, a, began := &provider{}, newKey("a"), time.Now()
		p.publish(a.public())
		v := remote(t, p)
		answers := make(map[error]int)
		for i := range 200 {
			_, err := authenticate(t, v, newKey(fmt.Sprint("random", i)).token())
			answers[err]++
			requireAuth(t, v, a.token(), nil)
			time.Sleep(300 * time.Millisecond)
		}
		require.Equal(t, time.Minute, time.Since(began))
		require.LessOrEqual(t, p.requests.Load(), int32(13))
		// Those that a request was made for are invalid. The others might be new: to call them invalid would be for good.
		require.Len(t, answers, 2)
		require.EqualValues(t, p.requests.Load(), answers[fanfare.DisconnectInvalidToken])
	})
	inBubble(t, "a name that was not found is invalid at once, until the set can be asked for again", func(t *testing.T) {
		p, a, late := &provider{}, newKey("a"), newKey("late")
		p.publish(a.public())
		v := remote(t, p)
		for range 10 {
			requireAuth(t, v, late.token(), fanfare.DisconnectInvalidToken)
		}
		require.EqualValues(t, 1, p.requests.Load())
		p.publish(a.public(), late.public())
		time.Sleep(5 * time.Second)
		requireAuth(t, v, late.token(), nil)
	})
	inBubble(t, "a key that is newer than the last answer is told to try again", func(t *testing.T) {
		p, a, b := &provider{}, newKey("a"), newKey("b")
		p.publish(a.public())
		v := remote(t, p)
		requireAuth(t, v, a.token(), nil)
		p.publish(b.public())
		requireAuth(t, v, b.token(), fanfare.ErrInternal)
		time.Sleep(5 * time.Second)
		requireAuth(t, v, b.token(), nil)
	})
}

func TestJWKS_EndpointAway(t *testing.T) {
	trouble := map[string]func(*provider){
		"no connection":    func(p *provider) { p.err = errors.New("no route to host") },
		"hangs":            func(p *provider) { p.takes = time.Hour },
		"status 500":       func(p *provider) { p.status = 500 },
		"status 204":       func(p *provider) { p.status = 204 },
		"not JSON":         func(p *provider) { p.set = []byte("<html>") },
		"JSON, but no set": func(p *provider) { p.set = []byte(`{}`) },
		"a set of nothing": func(p *provider) { p.set = []byte(`{"keys":[]}`) },
		"keys are numbers": func(p *provider) { p.set = []byte(`{"keys":[1,null,"x",{"kid":1}]}`) },
		"more than it may": func(p *provider) { p.set = []byte(`{"keys":[],"x":"` + strings.Repeat("x", 512<<10) + `"}`) },
		"keys of no use": func(p *provider) {
			p.set = []byte(`{"keys":[{"kid":"a","kty":"oct","k":"YQ"},{"kid":"a","kty":"EC","crv":"P-256","x":"AQ","y":"AQ"}]}`)
		},
		"a deep set":        func(p *provider) { p.set = []byte(strings.Repeat("[", 100_000)) },
		"the body is empty": func(p *provider) { p.set = nil },
	}
	for name, break_ := range trouble {
		inBubble(t, "from the start: "+name, func(t *testing.T) {
			p, a, log := &provider{}, newKey("a"), &logged{}
			p.publish(a.public())
			mend := p.set
			p.change(func() { break_(p) })
			v := remote(t, p, func(c *jwtauth.Config) { c.Logger = log.logger() })
			for range 5 {
				requireAuth(t, v, a.token(), fanfare.ErrInternal)
			}
			require.EqualValues(t, 1, p.requests.Load())
			synctest.Wait()
			require.Equal(t, 1, strings.Count(log.String(), "level=ERROR"), log.String())
			require.NotContains(t, log.String(), "hush")
			p.change(func() { p.set, p.status, p.err, p.takes = mend, 0, nil, 0 })
			time.Sleep(5 * time.Second)
			requireAuth(t, v, a.token(), nil)
		})
		inBubble(t, "later: "+name, func(t *testing.T) {
			p, a, b, log := &provider{}, newKey("a"), newKey("b"), &logged{}
			p.publish(a.public())
			v := remote(t, p, func(c *jwtauth.Config) { c.Logger = log.logger() })
			requireAuth(t, v, a.token(), nil)
			p.change(func() { break_(p) })
			time.Sleep(10 * time.Minute)
			requireAuth(t, v, a.token(), nil) // has waited for the answer
			began := time.Now()
			for range 100 {
				requireAuth(t, v, a.token(), nil) // does not
				requireAuth(t, v, b.token(), fanfare.ErrInternal)
			}
			require.Zero(t, time.Since(began))
			require.EqualValues(t, 2, p.requests.Load())
			time.Sleep(time.Hour)
			requireAuth(t, v, a.token(), nil)
			synctest.Wait()
			require.NotContains(t, log.String(), "level=ERROR", "it has keys")
			require.NotContains(t, log.String(), "hush")
			p.change(func() { p.status, p.err, p.takes = 0, nil, 0 })
			p.publish(b.public())
			time.Sleep(5 * time.Second)
			requireAuth(t, v, b.token(), nil)
			time.Sleep(5 * time.Second)
			requireAuth(t, v, a.token(), fanfare.DisconnectInvalidToken)
		})
	}
	inBubble(t, "through a node: temporary, in time, and no fault of the connection", func(t *testing.T) {
		node, began := startNode(t, remote(t, &provider{takes: time.Hour})), time.Now()
		_, err := fanfaretest.Dial(t, node, "", fanfaretest.WithToken(newKey("a").token())).Connect()
		require.Equal(t, fanfare.ErrInternal, err)
		require.Equal(t, 3*time.Second, time.Since(began))
	})
	inBubble(t, "who waits leaves when the hook's time is over", func(t *testing.T) {
		p := &provider{takes: time.Hour}
		v, began := remote(t, p), time.Now()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err := v.Authenticate(ctx, &fanfare.ConnectRequest{Token: newKey("a").token()})
		require.Equal(t, fanfare.ErrInternal, err)
		require.Equal(t, time.Second, time.Since(began))
		time.Sleep(time.Hour)
	})
	inBubble(t, "who leaves does not take the answer from the others", func(t *testing.T) {
		p, a := &provider{takes: 2 * time.Second}, newKey("a")
		p.publish(a.public())
		v := remote(t, p)
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		_, err := v.Authenticate(ctx, &fanfare.ConnectRequest{Token: a.token()})
		require.Equal(t, fanfare.ErrInternal, err)
		requireAuth(t, v, a.token(), nil)
		require.EqualValues(t, 1, p.requests.Load())
	})
}

// newServerVerifier makes a verifier whose keys come from a real server over TLS.
func newServerVerifier(t *testing.T, p http.Handler, change ...func(*jwtauth.Config)) (*jwtauth.Verifier, *httptest.Server) {
	t.Helper()
	s := httptest.NewTLSServer(p)
	t.Cleanup(s.Close)
	c := jwtauth.Config{JWKSURL: s.URL + "/jwks.json", HTTPClient: s.Client()}
	for _, f := range change {
		f(&c)
	}
	v, err := jwtauth.New(c)
	require.NoError(t, err)
	return v, s
}

// TestJWKS_Rotation publishes new keys on a real server while clients of a node connect with the newest one: each is accepted, or told
// to try again, and never told that its token is invalid.
func TestJWKS_Rotation(t *testing.T) {
	p, current := &provider{}, atomic.Pointer[edKey]{}
	var set []jose.JSONWebKey
	rotate := func(i int) {
		next := newKey(fmt.Sprint("key", i))
		set = append(set, next.public())
		p.publish(set...)
		current.Store(&next)
	}
	rotate(0)
	v, _ := newServerVerifier(t, p, func(c *jwtauth.Config) { c.JWKSInterval, c.JWKSTTL = 2*time.Millisecond, 20*time.Millisecond })
	server := serve(t, startNode(t, v))

	var clients, rotating sync.WaitGroup
	over := make(chan struct{})
	rotating.Go(func() {
		for i := 1; ; i++ {
			select {
			case <-over:
				return
			case <-time.After(5 * time.Millisecond):
				rotate(i)
			}
		}
	})
	var accepted, again atomic.Int32
	for range 4 {
		clients.Go(func() {
			for range 50 {
				switch err := dial(t, server).connect(current.Load().token()); {
				case err == nil:
					accepted.Add(1)
				case errors.Is(err, fanfare.ErrInternal):
					again.Add(1)
				default:
					t.Errorf("refused: %v", err)
				}
			}
		})
	}
	clients.Wait()
	close(over)
	rotating.Wait()
	t.Logf("accepted %d, to try again %d, with %d keys and %d requests", accepted.Load(), again.Load(), len(set), p.requests.Load())
	require.Positive(t, accepted.Load())
	require.Greater(t, p.requests.Load(), int32(1))
	last := current.Load().token()
	require.Eventually(t, func() bool { return dial(t, server).connect(last) == nil }, 10*time.Second, 5*time.Millisecond)
}

func TestJWKS_RealServer(t *testing.T) {
	a := newKey("a")
	set := marshalSet(a.public())

	t.Run("over TLS", func(t *testing.T) {
		v, _ := newServerVerifier(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			require.Equal(t, "/jwks.json", r.URL.Path)
			_, _ = w.Write(set)
		}))
		requireAuth(t, v, a.token(), nil)
	})
	t.Run("an unknown certificate", func(t *testing.T) {
		v, _ := newServerVerifier(t, &provider{set: set}, func(c *jwtauth.Config) { c.HTTPClient = nil })
		requireAuth(t, v, a.token(), fanfare.ErrInternal)
	})
	t.Run("a redirect to plain http on another machine", func(t *testing.T) {
		v, _ := newServerVerifier(t, http.RedirectHandler("http://192.0.2.1/keys", http.StatusFound))
		requireAuth(t, v, a.token(), fanfare.ErrInternal)
	})
	t.Run("redirects for ever", func(t *testing.T) {
		p := &provider{}
		v, s := newServerVerifier(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			p.requests.Add(1)
			http.Redirect(w, r, "/again", http.StatusFound)
		}))
		requireAuth(t, v, a.token(), fanfare.ErrInternal)
		require.LessOrEqual(t, p.requests.Load(), int32(5), s.URL)
	})
	t.Run("plain http on the machine itself", func(t *testing.T) {
		s := httptest.NewServer(&provider{set: set})
		defer s.Close()
		v, err := jwtauth.New(jwtauth.Config{JWKSURL: s.URL, HTTPClient: s.Client()})
		require.NoError(t, err)
		requireAuth(t, v, a.token(), nil)
	})
	t.Run("a body that never ends", func(t *testing.T) {
		v, _ := newServerVerifier(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			for r.Context().Err() == nil {
				if _, err := io.WriteString(w, strings.Repeat(" ", 1<<16)); err != nil {
					return
				}
			}
		}))
		requireAuth(t, v, a.token(), fanfare.ErrInternal)
	})
	t.Run("the transport panics", func(t *testing.T) {
		v, err := jwtauth.New(jwtauth.Config{JWKSURL: "https://login.example.com", HTTPClient: &http.Client{Transport: panics{}}})
		require.NoError(t, err)
		requireAuth(t, v, a.token(), fanfare.ErrInternal)
	})
}

type panics struct{}

func (panics) RoundTrip(*http.Request) (*http.Response, error) { panic("no") }

// TestJWKS_SameKid: a set may have keys of several kinds under one name.
func TestJWKS_SameKid(t *testing.T) {
	k := keys()
	v, err := jwtauth.New(jwtauth.Config{JWKS: marshalSet(
		jose.JSONWebKey{KeyID: "k", Key: k.rsa.Public()}, jose.JSONWebKey{KeyID: "k", Key: k.otherRSA.Public()}, jose.JSONWebKey{KeyID: "k", Key: k.p521.Public()},
	)})
	require.NoError(t, err)
	ann := claims{"sub": "ann"}
	requireAuth(t, v, token(jwt.SigningMethodRS256, k.rsa, ann, "kid", "k"), nil)
	requireAuth(t, v, token(jwt.SigningMethodRS256, k.otherRSA, ann, "kid", "k"), nil)
	requireAuth(t, v, token(jwt.SigningMethodES512, k.p521, ann, "kid", "k"), nil)
	requireAuth(t, v, token(jwt.SigningMethodRS256, k.setRSA, ann, "kid", "k"), fanfare.DisconnectInvalidToken)
}
