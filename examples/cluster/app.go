package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"embed"
	"encoding/json"
	"errors"
	"fmt"
	"html/template"
	"log/slog"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/fanfare-go/fanfare"
)

//go:embed templates static
var files embed.FS

const (
	channel   = "room"
	shown     = 20      // messages that a page begins with
	maxBody   = 8 << 10 // more than the form needs
	maxLength = 200     // of a message, in characters
	maxKey    = 64      // bytes
	tick      = 2 * time.Second
)

// app is what each node serves. It keeps nothing of its own: what was said is in the history of the channel.
type app struct {
	node   *fanfare.Node
	name   string
	pages  *template.Template
	logger *slog.Logger
}

// message is the data of a publication.
type message struct {
	From string `json:"from"`
	Text string `json:"text"`
	Node string `json:"node"` // that took it
}

func newApp(c fanfare.Config) (*app, error) {
	pages, err := template.ParseFS(files, "templates/*.html")
	if err != nil {
		return nil, err
	}
	connData, err := json.Marshal(map[string]string{"node": c.Name})
	if err != nil {
		return nil, err
	}
	// Which node serves a connection is told to its own page, and to those who see it in the presence.
	c.Authenticate = func(_ context.Context, r *fanfare.ConnectRequest) (fanfare.Identity, error) {
		return fanfare.Identity{User: userOf(r.HTTP), Info: connData, Data: connData}, nil
	}
	node, err := fanfare.New(c)
	if err != nil {
		return nil, fmt.Errorf("start node: %w", err)
	}
	node.Channel(channel, fanfare.ChannelOptions{
		Public:         true,
		History:        fanfare.History{Size: 200, TTL: time.Hour},
		Presence:       true,
		ForceJoinLeave: true,
		PresenceGrace:  3 * time.Second,
	})
	return &app{node: node, name: c.Name, pages: pages, logger: c.Logger}, nil
}

func (a *app) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", a.show)
	mux.HandleFunc("GET /state", a.state)
	mux.HandleFunc("POST /messages", a.say)
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
		h.Set("Cache-Control", "no-store") // a page from a cache would begin with an old position
		next.ServeHTTP(w, r)
	})
}

// line is a message where it stands in the stream.
type line struct {
	message
	Offset uint64
}

type page struct {
	User      string
	Node      string
	WebSocket bool
	Position  fanfare.Position // of the newest message that the page has
	Lines     []line           // the newest first
	MaxLength int
}

func (a *app) show(w http.ResponseWriter, r *http.Request) {
	p := page{User: userOf(r), Node: a.name, WebSocket: r.URL.Query().Get("over") == "websocket", MaxLength: maxLength}
	if p.User == "" {
		p.User = "guest-" + strings.ToLower(rand.Text()[:4])
		http.SetCookie(w, &http.Cookie{Name: "user", Value: p.User, Path: "/", HttpOnly: true, SameSite: http.SameSiteLaxMode})
	}
	// One read has the messages and the position: what comes later comes by the stream.
	h, err := a.node.History(r.Context(), channel, fanfare.HistoryQuery{Limit: shown, Reverse: true})
	if err != nil {
		a.logger.ErrorContext(r.Context(), "history not read", "err", err)
		w.Header().Set("Refresh", "2") // the browser tries again by itself
		http.Error(w, "Redis does not answer. Please try again.", http.StatusServiceUnavailable)
		return
	}
	p.Position = h.Position
	for _, pub := range h.Publications {
		l := line{Offset: pub.Offset}
		if err := json.Unmarshal(pub.Data, &l.message); err != nil {
			a.logger.ErrorContext(r.Context(), "strange message", "err", err)
		}
		p.Lines = append(p.Lines, l)
	}
	var html bytes.Buffer
	if err := a.pages.ExecuteTemplate(&html, "page.html", p); err != nil {
		a.logger.ErrorContext(r.Context(), "page not rendered", "err", err)
		http.Error(w, "The page could not be made.", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	_, _ = w.Write(html.Bytes())
}

// say publishes what the form says. A page that got no answer, because the node that it asked was killed, sends it again with
// the same key, by then to another node: it is published once.
func (a *app) say(w http.ResponseWriter, r *http.Request) {
	text := strings.TrimSpace(strings.ToValidUTF8(r.FormValue("text"), ""))
	key := r.FormValue("key")
	if text == "" || utf8.RuneCountInString(text) > maxLength || len(key) > maxKey {
		http.Error(w, fmt.Sprintf("Please say something, in at most %d characters.", maxLength), http.StatusUnprocessableEntity)
		return
	}
	user := userOf(r)
	if user == "" {
		user = "somebody"
	}
	var options []fanfare.PublishOption
	if key != "" {
		options = append(options, fanfare.WithIdempotencyKey(user+" "+key))
	}
	if err := a.publish(r.Context(), message{user, text, a.name}, options...); err != nil {
		a.logger.ErrorContext(r.Context(), "message not published", "err", err)
		http.Error(w, "Redis does not answer. Please try again.", http.StatusServiceUnavailable)
		return
	}
	if r.Header.Get("Accept") == "application/json" {
		w.WriteHeader(http.StatusNoContent)
		return
	}
	http.Redirect(w, r, "/", http.StatusSeeOther)
}

func (a *app) publish(ctx context.Context, m message, options ...fanfare.PublishOption) error {
	data, err := json.Marshal(m)
	if err != nil {
		return err
	}
	_, err = a.node.Publish(ctx, channel, data, options...)
	return err
}

// tellTime says what time it is, until ctx or the server ends. All nodes do so with the same key for the same moment, so it is
// said once while there is any node.
func (a *app) tellTime(ctx context.Context, served <-chan struct{}) {
	for {
		now := time.Now()
		next := now.Truncate(tick).Add(tick)
		select {
		case <-time.After(next.Sub(now)):
		case <-ctx.Done():
			return
		case <-served:
			return
		}
		key := fanfare.WithIdempotencyKey("clock " + strconv.FormatInt(next.Unix(), 10))
		timed, cancel := context.WithTimeout(ctx, tick)
		err := a.publish(timed, message{"clock", next.Format(time.TimeOnly), a.name}, key)
		cancel()
		if err != nil && ctx.Err() == nil {
			a.logger.Debug("time not told", "err", err) // the broker says by itself that Redis is away
		}
	}
}

// state is what a page shows beside the messages: what the nodes do, and who is here.
type state struct {
	Nodes   []nodeState `json:"nodes"`
	Present []present   `json:"present"`
}

type nodeState struct {
	Name    string `json:"name"`
	Clients int    `json:"clients"`
	Users   int    `json:"users"`
}

type present struct {
	User   string `json:"user"`
	Client string `json:"client"`
	Node   string `json:"node"`
}

func (a *app) state(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), time.Second)
	defer cancel()
	info, err := a.node.Info(ctx)
	if _, some := errors.AsType[*fanfare.SurveyError](err); err != nil && !some { // those that have died do not answer
		a.logger.DebugContext(ctx, "nodes not asked", "err", err)
	}
	members, err := a.node.Presence(r.Context(), channel)
	if err != nil {
		http.Error(w, "Redis does not answer. Please try again.", http.StatusServiceUnavailable)
		return
	}
	s := state{Nodes: []nodeState{}, Present: []present{}}
	for _, n := range info.Nodes {
		s.Nodes = append(s.Nodes, nodeState{n.Name, n.Clients, n.Users})
	}
	for _, m := range members {
		p := present{User: m.User, Client: m.Client}
		_ = json.Unmarshal(m.ConnInfo, &p) // newApp made it
		s.Present = append(s.Present, p)
	}
	slices.SortFunc(s.Present, func(a, b present) int { return strings.Compare(a.User+a.Client, b.User+b.Client) })
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(s)
}

// userOf stands for your sessions; a real app does not believe a bare cookie.
func userOf(r *http.Request) string {
	c, err := r.Cookie("user")
	if err != nil || len(c.Value) > maxKey {
		return ""
	}
	return c.Value
}
