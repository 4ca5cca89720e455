// Command chi shows an app with the router github.com/go-chi/chi: the login is middleware of a group of routes, and live connections
// are one of them. What does harm to live connections, such as chi's Timeout, which ends requests, stays out of that group.
package main

import (
	"context"
	"encoding/json"
	"log"
	"net/http"
	"time"

	"github.com/alexedwards/scs/v2"
	"github.com/go-chi/chi/v5"
	"github.com/go-chi/chi/v5/middleware"

	"github.com/fanfare-go/fanfare"
)

func main() {
	a, err := newApp(time.Minute)
	if err != nil {
		log.Fatal(err)
	}
	log.Fatal(http.ListenAndServe("127.0.0.1:8080", a.handler()))
}

type app struct {
	sessions *scs.SessionManager
	node     *fanfare.Node
}

// newApp makes the app, whose live connections are re-checked at an interval.
func newApp(interval time.Duration) (*app, error) {
	a := &app{sessions: scs.New()}
	var err error
	a.node, err = fanfare.New(fanfare.Config{
		// The middleware has put the user into the request's context.
		Authenticate: func(_ context.Context, r *fanfare.ConnectRequest) (fanfare.Identity, error) {
			user, _ := r.HTTP.Context().Value(userKey{}).(string)
			if user == "" {
				return fanfare.Identity{}, fanfare.ErrUnauthorized
			}
			return fanfare.Identity{User: user}, nil
		},
		// The middleware does not run again for a live connection, but the session library can be asked.
		Revalidate: fanfare.Revalidate{Interval: interval, Check: func(ctx context.Context, r *fanfare.RevalidateRequest) error {
			cookie, err := r.HTTP.Cookie(a.sessions.Cookie.Name)
			if err != nil {
				return fanfare.ErrUnauthorized
			}
			ctx, err = a.sessions.Load(ctx, cookie.Value)
			if err == nil && a.sessions.GetString(ctx, "user") != r.Client.User() {
				err = fanfare.ErrUnauthorized
			}
			return err
		}},
	})
	if err != nil {
		return nil, err
	}
	a.node.Channel("news", fanfare.ChannelOptions{Public: true})
	return a, nil
}

func (a *app) handler() http.Handler {
	r := chi.NewRouter()
	r.Use(middleware.RequestID, middleware.Recoverer, a.sessions.LoadAndSave)
	r.Group(func(pages chi.Router) {
		pages.Use(middleware.Timeout(10*time.Second), middleware.Compress(5))
		pages.Post("/login", a.login)
		pages.With(a.identify, a.usersOnly).Post("/logout", a.logout)
		pages.With(a.identify, a.usersOnly).Post("/say", a.say)
	})
	r.With(a.identify).Mount("/realtime", a.node)
	return r
}

type userKey struct{}

// identify puts the user into the request's context.
func (a *app) identify(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		next.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), userKey{}, a.sessions.GetString(r.Context(), "user"))))
	})
}

// usersOnly turns others away. It is not in front of live connections: Authenticate refuses those, in words that SDKs understand.
// A status from here they would take for a server in trouble, and come back again and again.
func (a *app) usersOnly(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Context().Value(userKey{}) == "" {
			http.Error(w, "please log in", http.StatusUnauthorized)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// login believes everybody: a real app asks for a password.
func (a *app) login(w http.ResponseWriter, r *http.Request) {
	if err := a.sessions.RenewToken(r.Context()); err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	a.sessions.Put(r.Context(), "user", r.PostFormValue("user"))
}

// logout first ends the session, so that nobody comes back by it, and then the user's live connections, on all nodes.
func (a *app) logout(w http.ResponseWriter, r *http.Request) {
	user := a.sessions.GetString(r.Context(), "user")
	err := a.sessions.Destroy(r.Context())
	if err == nil && user != "" {
		err = a.node.Disconnect(r.Context(), user, nil)
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
	}
}

func (a *app) say(w http.ResponseWriter, r *http.Request) {
	text, _ := json.Marshal(r.PostFormValue("text"))
	if _, err := a.node.Publish(r.Context(), "news", text); err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
	}
}
