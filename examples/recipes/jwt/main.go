// Command jwt shows an app whose login is a JSON Web Token, in a cookie for pages or in an Authorization header for other clients. No
// table of sessions is behind it: a live connection ends with its token, and what was logged out is remembered until its token
// would have expired by itself.
package main

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"log"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/fanfare-go/fanfare"
)

func main() {
	a, err := newApp(time.Minute)
	if err != nil {
		log.Fatal(err)
	}
	log.Fatal(http.ListenAndServe("127.0.0.1:8080", a.handler()))
}

const (
	cookie   = "token"
	lifetime = 12 * time.Hour
)

type app struct {
	key  []byte
	node *fanfare.Node

	mu      sync.Mutex // guards below; a real app has this in its database, for all its processes
	revoked map[string]time.Time
}

// newApp makes the app, whose live connections are re-checked at an interval.
func newApp(interval time.Duration) (*app, error) {
	a := &app{key: make([]byte, 32), revoked: make(map[string]time.Time)}
	rand.Read(a.key) // never fails; a real app keeps its key, or a restart logs everybody out
	var err error
	a.node, err = fanfare.New(fanfare.Config{
		Authenticate: func(_ context.Context, r *fanfare.ConnectRequest) (fanfare.Identity, error) {
			claims, err := a.claims(r.HTTP)
			if err != nil {
				return fanfare.Identity{}, err
			}
			// The connection ends with the token. It came in a header, so the SDK is not asked for another one.
			return fanfare.Identity{User: claims.Subject, ExpireAt: claims.ExpiresAt.Time}, nil
		},
		Revalidate: fanfare.Revalidate{Interval: interval, Check: func(_ context.Context, r *fanfare.RevalidateRequest) error {
			_, err := a.claims(r.HTTP)
			return err
		}},
	})
	if err != nil {
		return nil, err
	}
	a.node.Channel("news", fanfare.ChannelOptions{Public: true})
	return a, nil
}

// claims returns those of the request's token, or [fanfare.ErrUnauthorized].
func (a *app) claims(r *http.Request) (*jwt.RegisteredClaims, error) {
	text, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	if !ok {
		c, err := r.Cookie(cookie)
		if err != nil {
			return nil, fanfare.ErrUnauthorized
		}
		text = c.Value
	}
	claims := &jwt.RegisteredClaims{}
	// The method is fixed: a token does not choose how it is checked.
	_, err := jwt.ParseWithClaims(text, claims, func(*jwt.Token) (any, error) { return a.key, nil },
		jwt.WithValidMethods([]string{"HS256"}), jwt.WithExpirationRequired())
	if err != nil || claims.Subject == "" || a.isRevoked(claims.ID) {
		return nil, fanfare.ErrUnauthorized
	}
	return claims, nil
}

func (a *app) isRevoked(id string) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	_, revoked := a.revoked[id]
	return revoked
}

// revoke remembers that a token is over, and forgets those that have expired.
func (a *app) revoke(claims *jwt.RegisteredClaims) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for id, expires := range a.revoked {
		if time.Now().After(expires) {
			delete(a.revoked, id)
		}
	}
	a.revoked[claims.ID] = claims.ExpiresAt.Time
}

func (a *app) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /login", a.login)
	mux.HandleFunc("POST /logout", a.logout)
	mux.HandleFunc("POST /say", a.say)
	mux.Handle("/realtime/", a.node)
	return mux
}

// login believes everybody: a real app asks for a password.
func (a *app) login(w http.ResponseWriter, r *http.Request) {
	user := r.PostFormValue("user")
	if user == "" {
		http.Error(w, "who are you?", http.StatusBadRequest)
		return
	}
	now := time.Now()
	token, err := jwt.NewWithClaims(jwt.SigningMethodHS256, jwt.RegisteredClaims{
		Subject: user, ID: rand.Text(), IssuedAt: jwt.NewNumericDate(now), ExpiresAt: jwt.NewNumericDate(now.Add(lifetime)),
	}).SignedString(a.key)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	a.setCookie(w, token, lifetime)
}

func (a *app) setCookie(w http.ResponseWriter, token string, lasts time.Duration) {
	http.SetCookie(w, &http.Cookie{Name: cookie, Value: token, Path: "/", MaxAge: int(lasts / time.Second), HttpOnly: true,
		SameSite: http.SameSiteLaxMode}) // behind TLS set Secure, too
}

// logout first ends the token, so that nobody comes back by it, and then the user's live connections, on all nodes.
func (a *app) logout(w http.ResponseWriter, r *http.Request) {
	claims, err := a.claims(r)
	if err != nil {
		http.Error(w, err.Error(), http.StatusUnauthorized)
		return
	}
	a.revoke(claims)
	a.setCookie(w, "", -time.Second)
	if err := a.node.Disconnect(r.Context(), claims.Subject, nil); err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
	}
}

func (a *app) say(w http.ResponseWriter, r *http.Request) {
	text, err := json.Marshal(r.PostFormValue("text"))
	if _, perr := a.node.Publish(r.Context(), "news", text); errors.Join(err, perr) != nil {
		http.Error(w, errors.Join(err, perr).Error(), http.StatusInternalServerError)
	}
}
