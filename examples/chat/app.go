package main

import (
	"crypto/sha256"
	"embed"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"html/template"
	"io/fs"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/fanfare-go/fanfare"
)

//go:embed templates static
var files embed.FS

// maxBody is more than any form here needs.
const maxBody = 64 << 10

// app is everything that the handlers use.
type app struct {
	store    *store
	sessions *sessions
	node     *fanfare.Node
	pages    *template.Template
	logger   *slog.Logger
}

func newApp(data string, syncEvery time.Duration, logger *slog.Logger) (_ *app, err error) {
	st, err := openStore(data, syncEvery)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			st.close()
		}
	}()
	for _, r := range []room{{"lobby", "Lobby"}, {"coffee", "Coffee break"}, {"gophers", "Gophers"}} {
		if err := st.addRoom(r); err != nil {
			return nil, err
		}
	}
	se, err := openSessions(data + ".key")
	if err != nil {
		return nil, err
	}
	pages, err := template.New("").Funcs(template.FuncMap{"hue": hue, "initial": initial}).ParseFS(files, "templates/*.html")
	if err != nil {
		return nil, err
	}
	node, err := newNode(st, se, logger)
	if err != nil {
		return nil, err
	}
	return &app{store: st, sessions: se, node: node, pages: pages, logger: logger}, nil
}

func (a *app) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /login", a.loginPage)
	mux.HandleFunc("POST /login", a.login)
	mux.HandleFunc("POST /logout", a.logout)
	mux.Handle("GET /{$}", a.loggedIn(a.roomsPage))
	mux.Handle("POST /rooms", a.loggedIn(a.createRoom))
	mux.Handle("GET /rooms/{id}", a.loggedIn(a.roomPage))
	mux.Handle("GET /rooms/{id}/messages", a.loggedIn(a.listMessages))
	mux.Handle("POST /rooms/{id}/messages", a.loggedIn(a.postMessage))
	mux.Handle("GET /rooms/{id}/people", a.loggedIn(a.listPeople))
	mux.Handle("GET /static/", staticFiles())

	root := http.NewServeMux()
	// Beside the pages, not under withDeadline: a stream lives longer than any page takes. Nothing stands between that
	// hides what the node needs of the ResponseWriter. The node checks the origin of streams itself.
	root.Handle("/realtime/", a.node)
	// Refuses unsafe requests that other sites made a browser send, even where cookies would go along.
	root.Handle("/", http.NewCrossOriginProtection().Handler(withDeadline(withHeaders(http.MaxBytesHandler(mux, maxBody)))))
	return root
}

// withDeadline bounds how long a client may take to send a request and to read the answer.
func withDeadline(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		// net/http takes the deadlines back after the request. Not every ResponseWriter has them, those of tests for
		// instance; then there is no connection to protect either.
		c, deadline := http.NewResponseController(w), time.Now().Add(20*time.Second)
		_ = c.SetReadDeadline(deadline)
		_ = c.SetWriteDeadline(deadline)
		next.ServeHTTP(w, r)
	})
}

func withHeaders(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Security-Policy", "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "+
			"connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'")
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Referrer-Policy", "same-origin")
		// A page from a cache would begin with an old position and old messages. staticFiles says otherwise.
		h.Set("Cache-Control", "no-store")
		next.ServeHTTP(w, r)
	})
}

// staticFiles serves what is in the binary. It changes only with the binary, so one hash of it all is everybody's ETag:
// browsers ask each time, and get 304.
func staticFiles() http.Handler {
	sum := sha256.New()
	err := fs.WalkDir(files, "static", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := files.ReadFile(path)
		sum.Write(b)
		return err
	})
	if err != nil {
		panic(err) // an embedded file cannot be missing
	}
	tag := fmt.Sprintf("%q", base64.RawURLEncoding.EncodeToString(sum.Sum(nil)[:12]))
	server := http.FileServerFS(files)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "no-cache")
		w.Header().Set("ETag", tag)
		server.ServeHTTP(w, r)
	})
}

// loggedIn calls next with the user that the session belongs to.
func (a *app) loggedIn(next func(w http.ResponseWriter, r *http.Request, user string)) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		user, _, ok := a.sessions.user(r)
		switch {
		case ok:
			next(w, r, user)
		case wantsJSON(r):
			a.problem(w, r, http.StatusUnauthorized, "Please sign in.")
		case r.Method == http.MethodGet:
			http.Redirect(w, r, "/login?next="+url.QueryEscape(r.URL.Path), http.StatusSeeOther)
		default:
			http.Redirect(w, r, "/login", http.StatusSeeOther)
		}
	})
}

// form reads a form. It has answered when ok is false.
func (a *app) form(w http.ResponseWriter, r *http.Request) (ok bool) {
	if err := r.ParseForm(); err != nil {
		a.problem(w, r, http.StatusBadRequest, "The form could not be read.")
		return false
	}
	return true
}

// page renders a template. Data is escaped for where it stands by html/template.
func (a *app) page(w http.ResponseWriter, r *http.Request, status int, name string, data any) {
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.WriteHeader(status)
	if err := a.pages.ExecuteTemplate(w, name, data); err != nil {
		a.logger.WarnContext(r.Context(), "page not sent", "page", name, "err", err)
	}
}

func (a *app) json(w http.ResponseWriter, r *http.Request, status int, data any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	if err := json.NewEncoder(w).Encode(data); err != nil {
		a.logger.WarnContext(r.Context(), "reply not sent", "path", r.URL.Path, "err", err)
	}
}

type problemPage struct{ Status, Text string }

// problem tells a script or a person what is wrong.
func (a *app) problem(w http.ResponseWriter, r *http.Request, status int, text string) {
	if wantsJSON(r) {
		a.json(w, r, status, map[string]string{"error": text})
		return
	}
	a.page(w, r, status, "problem.html", problemPage{http.StatusText(status), text})
}

// wantsJSON reports whether the page's script asks, rather than the browser itself.
func wantsJSON(r *http.Request) bool {
	return strings.Contains(r.Header.Get("Accept"), "application/json")
}

// hue gives every name one of twelve colours. static/chat.js does the same.
func hue(name string) int {
	sum := 0
	for _, r := range name {
		sum += int(r)
	}
	return sum % 12
}

// initial is what stands in a name's circle.
func initial(name string) string {
	r, size := utf8.DecodeRuneInString(name)
	if size == 0 {
		return ""
	}
	return string(unicode.ToUpper(r))
}
