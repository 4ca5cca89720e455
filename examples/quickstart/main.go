// Quickstart is an ordinary app with a login and a guest book, made live. The lines marked live are what that took.
package main

import (
	"context"
	"encoding/json"
	"html/template"
	"log"
	"net/http"
	"slices"
	"sync"
	"time" // live

	"github.com/fanfare-go/fanfare" // live
)

var page = template.Must(template.New("").Parse(`<!doctype html><meta name="viewport" content="width=device-width">
<title>Guest book</title><h1>Guest book</h1>
{{if .User}}<form method="post" action="/sign"><input name="text" required autofocus> <button>Sign as {{.User}}</button></form>
{{else}}<form method="post" action="/login"><input name="user" required autofocus> <button>Log in</button></form>{{end}}
<ul id="book">{{range .Book}}<li>{{.}}</li>{{end}}</ul>
<script>
const live = new EventSource("/realtime/events?channel=guestbook&cursor={{.Cursor}}") // live
live.addEventListener("publication", e => book.append(Object.assign(document.createElement("li"), {textContent: JSON.parse(e.data)}))) // live
live.addEventListener("gap", () => location.reload()) // live
</script>`))

func main() {
	var mu sync.Mutex
	var book []string // stands for your database

	node, err := fanfare.New(fanfare.Config{Authenticate: identify}) // live
	if err != nil {                                                  // live
		log.Fatal(err) // live
	} // live
	node.Channel("guestbook", fanfare.ChannelOptions{Public: true, History: fanfare.History{Size: 100, TTL: time.Hour}}) // live

	mux := http.NewServeMux()
	mux.Handle("/realtime/", node) // live
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		entries := slices.Clone(book)
		cursor, err := node.Cursor(r.Context(), "guestbook") // live
		mu.Unlock()
		if err != nil { // live
			log.Print(err) // live
		} // live
		page.Execute(w, map[string]any{"User": userOf(r), "Book": entries, "Cursor": cursor}) // live
	})
	mux.HandleFunc("POST /login", func(w http.ResponseWriter, r *http.Request) {
		http.SetCookie(w, &http.Cookie{Name: "user", Value: r.FormValue("user"), HttpOnly: true, SameSite: http.SameSiteLaxMode})
		http.Redirect(w, r, "/", http.StatusSeeOther)
	})
	mux.HandleFunc("POST /sign", func(w http.ResponseWriter, r *http.Request) {
		entry := userOf(r) + ": " + r.FormValue("text")
		data, _ := json.Marshal(entry) // live
		mu.Lock()
		book = append(book, entry)
		_, err := node.Publish(context.WithoutCancel(r.Context()), "guestbook", data) // live
		mu.Unlock()
		if err != nil { // live
			log.Print(err) // live
		} // live
		http.Redirect(w, r, "/", http.StatusSeeOther)
	})
	log.Print("http://127.0.0.1:8080")
	guarded := http.NewCrossOriginProtection().Handler(http.MaxBytesHandler(mux, 1<<16))
	log.Fatal(http.ListenAndServe("127.0.0.1:8080", guarded))
}

// identify: the app's login is the login of its sockets.
func identify(_ context.Context, r *fanfare.ConnectRequest) (fanfare.Identity, error) { // live
	return fanfare.Identity{User: userOf(r.HTTP)}, nil // live
} // live

// userOf stands for your sessions; a real app does not believe a bare cookie.
func userOf(r *http.Request) string {
	c, err := r.Cookie("user")
	if err != nil {
		return ""
	}
	return c.Value
}
