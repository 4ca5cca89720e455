package main

import (
	"errors"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// maxCatchUp bounds one reply to a page that was away; it asks again while there is more.
const maxCatchUp = 200

// postMessage is where every message comes in: an ordinary form, which works without any script. It stores the message
// and then publishes it. In this order nobody sees what could still be lost.
func (a *app) postMessage(w http.ResponseWriter, r *http.Request, user string) {
	if !a.form(w, r) {
		return
	}
	text := strings.TrimSpace(strings.ReplaceAll(strings.ToValidUTF8(r.PostForm.Get("text"), ""), "\r\n", "\n"))
	key := r.PostForm.Get("key")
	switch {
	case text == "":
		a.problem(w, r, http.StatusUnprocessableEntity, "The message is empty.")
		return
	case utf8.RuneCountInString(text) > maxTextLength:
		a.problem(w, r, http.StatusUnprocessableEntity, "The message is too long.")
		return
	case key == "" || len(key) > 64:
		a.problem(w, r, http.StatusUnprocessableEntity, "The message has no key.")
		return
	}
	m, err := a.store.addMessage(message{
		Room: r.PathValue("id"), User: user, Text: text, At: time.Now().UTC().Truncate(time.Millisecond), Key: key,
	})
	switch {
	case errors.Is(err, errNoRoom):
		a.problem(w, r, http.StatusNotFound, "There is no such room.")
		return
	case err != nil:
		a.logger.ErrorContext(r.Context(), "message not stored", "room", r.PathValue("id"), "err", err)
		a.problem(w, r, http.StatusInternalServerError, "The message could not be saved.")
		return
	}
	if err := publish(r.Context(), a.node, m); err != nil {
		a.logger.ErrorContext(r.Context(), "message not published", "room", m.Room, "message", m.ID, "err", err)
		if wantsJSON(r) {
			// The script sends it again, and nothing happens twice: the store knows the key, the node the id.
			a.problem(w, r, http.StatusServiceUnavailable, "The message is on its way.")
			return
		}
	}
	if wantsJSON(r) {
		a.json(w, r, http.StatusOK, m)
		return
	}
	http.Redirect(w, r, "/rooms/"+m.Room+"#end", http.StatusSeeOther)
}

type messageList struct {
	Messages []message `json:"messages"`
	More     bool      `json:"more"`
	// Last is the newest id there is. A page that has seen a higher one talks to a store that lost some, after a power
	// cut perhaps, and begins anew.
	Last int `json:"last"`
}

// listMessages gives pages what they miss: after an id when live delivery could not say what was said in the meantime,
// before an id when somebody scrolls up.
func (a *app) listMessages(w http.ResponseWriter, r *http.Request, _ string) {
	id := r.PathValue("id")
	if _, ok := a.store.room(id); !ok {
		a.problem(w, r, http.StatusNotFound, "There is no such room.")
		return
	}
	var list messageList
	query := r.URL.Query()
	side := "after"
	if query.Has("before") {
		side = "before"
	}
	n, err := strconv.Atoi(query.Get(side))
	if err != nil {
		a.problem(w, r, http.StatusBadRequest, "Say after or before which message.")
		return
	}
	if side == "after" {
		list.Messages, list.More = a.store.after(id, n, maxCatchUp)
	} else {
		list.Messages, list.More = a.store.before(id, n, pageSize)
	}
	list.Last = a.store.last(id)
	if list.Messages == nil {
		list.Messages = []message{} // [] and not null
	}
	a.json(w, r, http.StatusOK, list)
}

// listPeople tells who is in a room. Joins and leaves keep a page's list right from then on.
func (a *app) listPeople(w http.ResponseWriter, r *http.Request, _ string) {
	if _, ok := a.store.room(r.PathValue("id")); !ok {
		a.problem(w, r, http.StatusNotFound, "There is no such room.")
		return
	}
	a.json(w, r, http.StatusOK, map[string][]string{"people": a.people(r, r.PathValue("id"))})
}

// people returns who is in a room, each once, however many pages they have open.
func (a *app) people(r *http.Request, roomID string) []string {
	people := []string{} // [] and not null
	members, err := a.node.Presence(r.Context(), roomChannel(roomID))
	if err != nil {
		a.logger.WarnContext(r.Context(), "presence not read", "room", roomID, "err", err)
	}
	for _, m := range members {
		people = append(people, m.User)
	}
	slices.Sort(people)
	return slices.Compact(people)
}
