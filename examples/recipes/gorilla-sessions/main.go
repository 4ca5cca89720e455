// Command gorilla-sessions shows an app whose login is github.com/gorilla/sessions: live connections belong to whoever is logged in, for
// as long as they are.
//
// The sessions are in files, and their cookies hold only an id: what is deleted there is over. A CookieStore keeps everything in the
// cookie, which stays valid until it expires, whatever the server does: with it, note at logout what is over, as the recipe jwt does.
package main

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"io/fs"
	"log"
	"net/http"
	"os"
	"time"

	"github.com/gorilla/securecookie"
	"github.com/gorilla/sessions"

	"github.com/fanfare-go/fanfare"
)

func main() {
	dir, err := os.MkdirTemp("", "sessions")
	if err != nil {
		log.Fatal(err)
	}
	a, err := newApp(dir, time.Minute)
	if err != nil {
		log.Fatal(err)
	}
	log.Fatal(http.ListenAndServe("127.0.0.1:8080", a.handler()))
}

type app struct {
	store *sessions.FilesystemStore
	node  *fanfare.Node
}

// newApp makes the app, with its sessions in a folder, whose live connections are re-checked at an interval.
func newApp(dir string, interval time.Duration) (*app, error) {
	key := make([]byte, 32)
	rand.Read(key) // never fails; a real app keeps its key, or a restart logs everybody out
	a := &app{store: sessions.NewFilesystemStore(dir, key)}
	a.store.Options.HttpOnly = true
	a.store.Options.SameSite = http.SameSiteLaxMode
	a.store.Options.Secure = false // this is plain HTTP; behind TLS leave it true
	var err error
	a.node, err = fanfare.New(fanfare.Config{
		Authenticate: func(_ context.Context, r *fanfare.ConnectRequest) (fanfare.Identity, error) {
			user, err := a.user(r.HTTP)
			return fanfare.Identity{User: user}, err
		},
		// The store is asked as for a page: r.HTTP has the cookies that the connection came with.
		Revalidate: fanfare.Revalidate{Interval: interval, Check: func(_ context.Context, r *fanfare.RevalidateRequest) error {
			user, err := a.user(r.HTTP)
			if err == nil && user != r.Client.User() {
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

const cookie = "session"

// user returns who is logged in, or [fanfare.ErrUnauthorized]. Any other error is the store's trouble, and no answer.
func (a *app) user(r *http.Request) (string, error) {
	session, err := a.store.New(r, cookie)
	if forged, ok := errors.AsType[securecookie.Error](err); ok && forged.IsDecode() || errors.Is(err, fs.ErrNotExist) {
		return "", fanfare.ErrUnauthorized
	}
	if err != nil {
		return "", err
	}
	user, _ := session.Values["user"].(string)
	if user == "" {
		return "", fanfare.ErrUnauthorized
	}
	return user, nil
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
	session := sessions.NewSession(a.store, cookie) // not one that the browser brought along
	options := *a.store.Options
	session.Options = &options
	session.Values["user"] = r.PostFormValue("user")
	if err := session.Save(r, w); err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
	}
}

// logout first ends the session, so that nobody comes back by it, and then the user's live connections, on all nodes.
func (a *app) logout(w http.ResponseWriter, r *http.Request) {
	user, err := a.user(r)
	if err != nil {
		http.Error(w, err.Error(), http.StatusUnauthorized)
		return
	}
	session, err := a.store.Get(r, cookie)
	if err == nil {
		session.Options.MaxAge = -1 // deletes it
		err = session.Save(r, w)
	}
	if err == nil {
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
