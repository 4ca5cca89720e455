package main

import (
	"crypto/rand"
	"math"
	"net/http"
	"net/url"
	"strings"
)

const (
	pageSize      = 50 // messages that a page begins with
	maxTextLength = 2000
)

type loginPage struct {
	Name, Next, Problem string
	MaxLength           int
}

func (a *app) loginPage(w http.ResponseWriter, r *http.Request) {
	next := localPath(r.URL.Query().Get("next"))
	if _, _, ok := a.sessions.user(r); ok {
		http.Redirect(w, r, next, http.StatusSeeOther)
		return
	}
	a.page(w, r, http.StatusOK, "login.html", loginPage{Next: next, MaxLength: maxNameLength})
}

func (a *app) login(w http.ResponseWriter, r *http.Request) {
	if !a.form(w, r) {
		return
	}
	next := localPath(r.PostForm.Get("next"))
	name, problem := cleanName(r.PostForm.Get("name"))
	if problem != "" {
		a.page(w, r, http.StatusUnprocessableEntity, "login.html",
			loginPage{Name: r.PostForm.Get("name"), Next: next, Problem: problem, MaxLength: maxNameLength})
		return
	}
	a.sessions.start(w, r, name)
	http.Redirect(w, r, next, http.StatusSeeOther)
}

func (a *app) logout(w http.ResponseWriter, r *http.Request) {
	user, _, ok := a.sessions.user(r)
	a.sessions.end(w)
	if ok {
		// A stream was let in by the cookie that has just ended, so it ends too. It cannot be told which of the
		// user's streams are this browser's: all end, and pages elsewhere, still logged in, come right back.
		if err := a.node.Disconnect(r.Context(), user, errSignedOut); err != nil {
			a.logger.ErrorContext(r.Context(), "streams not closed at logout", "user", user, "err", err)
		}
	}
	http.Redirect(w, r, "/login", http.StatusSeeOther)
}

// localPath returns the path to go to after the login: never another site's.
func localPath(next string) string {
	u, err := url.Parse(next)
	// Browsers read "/\host" as "//host".
	if err != nil || u.Scheme != "" || u.Host != "" || !strings.HasPrefix(next, "/") || strings.ContainsAny(next, "\\\t\r\n") {
		return "/"
	}
	return next
}

type roomsPage struct {
	User    string
	Rooms   []roomCard
	Problem string
}

type roomCard struct {
	room
	Last *message
	Here int
}

func (a *app) roomsPage(w http.ResponseWriter, r *http.Request, user string) {
	a.showRooms(w, r, user, http.StatusOK, "")
}

func (a *app) showRooms(w http.ResponseWriter, r *http.Request, user string, status int, problem string) {
	page := roomsPage{User: user, Problem: problem}
	for _, ro := range a.store.allRooms() {
		card := roomCard{room: ro}
		if last, _ := a.store.before(ro.ID, math.MaxInt, 1); len(last) > 0 {
			card.Last = &last[0]
		}
		stats, err := a.node.PresenceStats(r.Context(), roomChannel(ro.ID))
		if err != nil {
			// The list is of use without the numbers.
			a.logger.WarnContext(r.Context(), "presence not read", "room", ro.ID, "err", err)
		}
		card.Here = stats.Users
		page.Rooms = append(page.Rooms, card)
	}
	a.page(w, r, status, "rooms.html", page)
}

func (a *app) createRoom(w http.ResponseWriter, r *http.Request, user string) {
	if !a.form(w, r) {
		return
	}
	name, problem := cleanName(r.PostForm.Get("name"))
	if problem != "" {
		a.showRooms(w, r, user, http.StatusUnprocessableEntity, problem)
		return
	}
	id, err := a.store.openRoom(name)
	if err != nil {
		a.logger.ErrorContext(r.Context(), "room not stored", "name", name, "err", err)
		a.problem(w, r, http.StatusInternalServerError, "The room could not be saved.")
		return
	}
	http.Redirect(w, r, "/rooms/"+id, http.StatusSeeOther)
}

type roomPage struct {
	User      string
	Room      room
	Rooms     []room
	People    []string
	Messages  []messageView
	Earlier   bool
	Cursor    string
	Key       string
	MaxLength int
}

// messageView is a message as one user sees it.
type messageView struct {
	message
	Own bool
}

func (a *app) roomPage(w http.ResponseWriter, r *http.Request, user string) {
	ro, ok := a.store.room(r.PathValue("id"))
	if !ok {
		a.problem(w, r, http.StatusNotFound, "There is no such room.")
		return
	}
	// First the cursor, then the messages: the page's stream asks for everything after the cursor, so what is said while the
	// page is made and sent reaches it. What is in both is dropped by its id.
	cursor, err := a.node.Cursor(r.Context(), roomChannel(ro.ID))
	if err != nil {
		// Without a cursor the page asks the store once it is connected.
		a.logger.WarnContext(r.Context(), "cursor not read", "room", ro.ID, "err", err)
	}
	page := roomPage{
		User: user, Room: ro, Rooms: a.store.allRooms(), People: a.people(r, ro.ID),
		Cursor: cursor, Key: rand.Text(), MaxLength: maxTextLength,
	}
	msgs, earlier := a.store.before(ro.ID, math.MaxInt, pageSize)
	page.Earlier = earlier
	for _, m := range msgs {
		page.Messages = append(page.Messages, messageView{m, m.User == user})
	}
	a.page(w, r, http.StatusOK, "room.html", page)
}

// Blank is for the <template> that the page's script copies: one place says what a message looks like.
func (roomPage) Blank() messageView { return messageView{} }
