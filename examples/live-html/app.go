package main

import (
	"bytes"
	"context"
	"embed"
	"errors"
	"fmt"
	"html/template"
	"log/slog"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/fanfare-go/fanfare"
)

//go:embed templates static
var files embed.FS

const (
	channel   = "board"
	maxBody   = 8 << 10 // more than any form here needs
	maxLength = 60      // of a field, in characters
)

// app is everything that the handlers use.
type app struct {
	node   *fanfare.Node
	pages  *template.Template
	logger *slog.Logger

	mu    sync.Mutex // guards board, and is held until a change is published: what is published last is what is stored
	board board
}

func newApp(logger *slog.Logger) (*app, error) {
	pages, err := template.ParseFS(files, "templates/*.html")
	if err != nil {
		return nil, err
	}
	node, err := fanfare.New(fanfare.Config{Logger: logger})
	if err != nil {
		return nil, fmt.Errorf("start node: %w", err)
	}
	node.Channel(channel, fanfare.ChannelOptions{
		Public:  true,
		Payload: fanfare.PayloadText, // HTML
		History: fanfare.History{Size: 100, TTL: time.Hour},
	})
	return &app{node: node, pages: pages, logger: logger}, nil
}

func (a *app) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, r *http.Request) { a.show(w, r, false) })
	mux.HandleFunc("GET /htmx", func(w http.ResponseWriter, r *http.Request) { a.show(w, r, true) })
	mux.HandleFunc("POST /orders", a.add)
	mux.HandleFunc("POST /orders/{id}/done/{step}", a.advance)
	mux.Handle("GET /static/", http.FileServerFS(files))

	root := http.NewServeMux()
	root.Handle("/realtime/", a.node)
	// Refuses what other sites make a browser send.
	root.Handle("/", http.NewCrossOriginProtection().Handler(withHeaders(http.MaxBytesHandler(mux, maxBody))))
	return root
}

func withHeaders(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Security-Policy", "default-src 'none'; script-src 'self'; style-src 'self'; img-src data:; "+
			"connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'")
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Cache-Control", "no-store") // a page from a cache would begin with an old cursor and old rows
		// A client has this long to send a request and to read the answer. Where there are no deadlines, there is no connection.
		c, deadline := http.NewResponseController(w), time.Now().Add(20*time.Second)
		_ = c.SetReadDeadline(deadline)
		_ = c.SetWriteDeadline(deadline)
		next.ServeHTTP(w, r)
	})
}

type page struct {
	Stream    string // where the page listens
	Path      string
	Orders    []order
	MaxLength int
}

func (p page) HTMX() bool { return p.Path == "/htmx" }

func (a *app) show(w http.ResponseWriter, r *http.Request, htmx bool) {
	p := page{Path: "/", MaxLength: maxLength}
	if htmx {
		p.Path = "/htmx"
	}
	// The cursor before the orders: what changes while the page is made comes by the stream, perhaps once more.
	cursor, err := a.node.Cursor(r.Context(), channel)
	if err != nil {
		a.logger.ErrorContext(r.Context(), "cursor not read", "err", err)
		http.Error(w, "Please try again.", http.StatusServiceUnavailable)
		return
	}
	p.Stream = "/realtime/events?" + url.Values{"channel": {channel}, "cursor": {cursor}}.Encode()
	a.mu.Lock()
	p.Orders = append(p.Orders, a.board.orders...)
	a.mu.Unlock()

	html, err := a.render("page.html", p)
	if err != nil {
		a.logger.ErrorContext(r.Context(), "page not rendered", "err", err)
		http.Error(w, "The page could not be made.", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	_, _ = w.Write(html)
}

// render escapes data for where it stands, in pages and in fragments.
func (a *app) render(name string, data any) ([]byte, error) {
	var b bytes.Buffer
	err := a.pages.ExecuteTemplate(&b, name, data)
	return b.Bytes(), err
}

func (a *app) add(w http.ResponseWriter, r *http.Request) {
	if err := r.ParseForm(); err != nil {
		http.Error(w, "The form could not be read.", http.StatusBadRequest)
		return
	}
	name, ok1 := field(r, "for")
	items, ok2 := field(r, "items")
	if !ok1 || !ok2 {
		http.Error(w, fmt.Sprintf("Please say what, and for whom, in at most %d characters each.", maxLength), http.StatusUnprocessableEntity)
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if err := a.board.add(name, items); err != nil {
		http.Error(w, "The kitchen has enough to do.", http.StatusConflict)
		return
	}
	a.publish(r.Context(), "orders", a.board.orders)
	done(w, r)
}

// field reads a field of a form, as text that fits a page.
func field(r *http.Request, name string) (text string, ok bool) {
	text = strings.TrimSpace(strings.ToValidUTF8(r.PostForm.Get(name), ""))
	return text, text != "" && utf8.RuneCountInString(text) <= maxLength
}

func (a *app) advance(w http.ResponseWriter, r *http.Request) {
	id, err1 := strconv.Atoi(r.PathValue("id"))
	step, err2 := strconv.Atoi(r.PathValue("step"))
	if err := errors.Join(err1, err2, r.ParseForm()); err != nil {
		http.Error(w, "The form could not be read.", http.StatusBadRequest)
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	o, onBoard, changed, err := a.board.advance(id, step)
	switch {
	case err != nil: // served, perhaps by somebody else: the page that follows shows it
	case onBoard && changed:
		a.publish(r.Context(), "order", o)
	case changed:
		a.publish(r.Context(), "orders", a.board.orders)
	}
	done(w, r)
}

// publish renders a part of the page for those who have it open. Its id says what it replaces: a row, or all of them.
func (a *app) publish(ctx context.Context, name string, data any) {
	html, err := a.render(name, data)
	if err == nil {
		// The change is stored, so others want to see it even if its sender has gone.
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
		defer cancel()
		_, err = a.node.Publish(ctx, channel, html)
	}
	if err != nil {
		a.logger.ErrorContext(ctx, "change not published", "err", err)
	}
}

// done sends a browser back to its page. htmx needs no answer: the change comes by the stream, in order with all others.
func done(w http.ResponseWriter, r *http.Request) {
	switch {
	case r.Header.Get("HX-Request") == "true":
		w.WriteHeader(http.StatusNoContent)
	case r.PostForm.Get("page") == "/htmx":
		http.Redirect(w, r, "/htmx", http.StatusSeeOther)
	default:
		http.Redirect(w, r, "/", http.StatusSeeOther)
	}
}
