// Command wrapped shows an app behind a middleware that wraps the response to measure it, as otelhttp and many loggers do, here
// with github.com/felixge/httpsnoop, which is what otelhttp uses. Live connections work through such wrappers if they pass on Flush and Hijack
// or have an Unwrap method; if one does not, Config.Development says so in the log.
package main

import (
	"context"
	"encoding/json"
	"log"
	"net/http"
	"time"

	"github.com/alexedwards/scs/v2"
	"github.com/felixge/httpsnoop"

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
	a := &app{sessions: scs.New()} // sessions are in memory; scs has stores for databases
	var err error
	a.node, err = fanfare.New(fanfare.Config{
		// The middleware has loaded the session into the request's context, for live connections as for pages.
		Authenticate: func(_ context.Context, r *fanfare.ConnectRequest) (fanfare.Identity, error) {
			user := a.sessions.GetString(r.HTTP.Context(), "user")
			if user == "" {
				return fanfare.Identity{}, fanfare.ErrUnauthorized
			}
			return fanfare.Identity{User: user}, nil
		},
		// A session that expires, or whose row is deleted, loses its connections within the interval.
		Revalidate: fanfare.Revalidate{Interval: interval, Check: func(ctx context.Context, r *fanfare.RevalidateRequest) error {
			cookie, err := r.HTTP.Cookie(a.sessions.Cookie.Name)
			if err != nil {
				return fanfare.ErrUnauthorized
			}
			ctx, err = a.sessions.Load(ctx, cookie.Value)
			if err != nil {
				return err // the store is away: nobody is logged out for that
			}
			if a.sessions.GetString(ctx, "user") != r.Client.User() {
				return fanfare.ErrUnauthorized
			}
			return nil
		}},
	})
	if err != nil {
		return nil, err
	}
	a.node.Channel("news", fanfare.ChannelOptions{Public: true})
	return a, nil
}

func (a *app) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /login", a.login)
	mux.HandleFunc("POST /logout", a.logout)
	mux.HandleFunc("POST /say", a.say)
	mux.Handle("/realtime/", a.node)
	return measure(a.sessions.LoadAndSave(mux))
}

// measure logs requests. A live connection is one request that takes as long as it lasts: keep it out of your latencies. A
// WebSocket that was taken over ends here when it begins: count live connections by Config.Observer instead.
func measure(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		m := httpsnoop.CaptureMetrics(next, &unwrapper{w}, r)
		log.Printf("%s %s %d %d bytes %v", r.Method, r.URL.Path, m.Code, m.Written, m.Duration)
	})
}

// unwrapper is the least that a wrapper of your own needs: whatever it does not do itself is found through Unwrap.
type unwrapper struct{ http.ResponseWriter }

// Unwrap is for [http.ResponseController].
func (u *unwrapper) Unwrap() http.ResponseWriter { return u.ResponseWriter }

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
