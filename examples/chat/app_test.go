package main

import (
	"bufio"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/fanfare-go/fanfare"
	"github.com/stretchr/testify/require"
)

// fixture is the whole app behind a real server, and a browser that may be logged in.
type fixture struct {
	t   *testing.T
	app *app
	url string
	*http.Client
}

func setup(t *testing.T) *fixture {
	t.Helper()
	a, err := newApp(filepath.Join(t.TempDir(), "chat.jsonl"), time.Hour, slog.New(slog.DiscardHandler))
	require.NoError(t, err)
	srv := httptest.NewServer(a.handler())
	f := &fixture{t: t, app: a, url: srv.URL, Client: browser(t)}
	t.Cleanup(func() {
		f.CloseIdleConnections()
		require.NoError(t, a.node.Shutdown(context.Background()))
		srv.Close()
		require.NoError(t, a.store.close())
	})
	return f
}

// browser keeps cookies, and does not follow redirects, so that tests see them.
func browser(t *testing.T) *http.Client {
	t.Helper()
	jar, err := cookiejar.New(nil)
	require.NoError(t, err)
	return &http.Client{
		Jar:           jar,
		Transport:     &http.Transport{},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

type answer struct {
	status   int
	location string
	body     string
	header   http.Header
}

// send sends a request with the given header fields, "Name: value". A body makes it a form.
func (f *fixture) send(method, path string, form url.Values, header ...string) answer {
	f.t.Helper()
	r, err := http.NewRequestWithContext(f.t.Context(), method, f.url+path, strings.NewReader(form.Encode()))
	require.NoError(f.t, err)
	if form != nil {
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	for _, h := range header {
		name, value, _ := strings.Cut(h, ": ")
		r.Header.Set(name, value)
	}
	resp, err := f.Do(r)
	require.NoError(f.t, err)
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	require.NoError(f.t, err)
	return answer{resp.StatusCode, resp.Header.Get("Location"), string(b), resp.Header}
}

const asScript = "Accept: application/json"

func (f *fixture) login(name string) {
	f.t.Helper()
	a := f.send("POST", "/login", url.Values{"name": {name}})
	require.Equal(f.t, http.StatusSeeOther, a.status, a.body)
}

func words(key, text string) url.Values { return url.Values{"key": {key}, "text": {text}} }

// published returns the texts in the lobby's stream.
func (f *fixture) published() (list []string) {
	f.t.Helper()
	h, err := f.app.node.History(f.t.Context(), "room:lobby", fanfare.HistoryQuery{Limit: -1})
	require.NoError(f.t, err)
	for _, p := range h.Publications {
		var m message
		require.NoError(f.t, json.Unmarshal(p.Data, &m))
		list = append(list, m.Text)
	}
	return list
}

func (f *fixture) stored() (list []string) {
	msgs, _ := f.app.store.after("lobby", 0, 100)
	for _, m := range msgs {
		list = append(list, m.Text)
	}
	return list
}

func TestLogin_IsRequired(t *testing.T) {
	f := setup(t)
	require.Equal(t, "/login?next=%2Frooms%2Flobby", f.send("GET", "/rooms/lobby", nil).location)
	require.Equal(t, "/login?next=%2F", f.send("GET", "/", nil).location)
	require.Equal(t, "/login", f.send("POST", "/rooms/lobby/messages", words("k", "hi")).location)
	require.Equal(t, http.StatusUnauthorized, f.send("POST", "/rooms/lobby/messages", words("k", "hi"), asScript).status)
	require.Equal(t, http.StatusUnauthorized, f.send("GET", "/rooms/lobby/messages?after=0", nil, asScript).status)
	require.Equal(t, http.StatusUnauthorized, f.send("GET", "/rooms/lobby/people", nil, asScript).status)
	require.Empty(t, f.stored())
	require.Equal(t, http.StatusOK, f.send("GET", "/static/chat.js", nil).status, "the login page needs its style")
}

func TestLogin_CookieIsGuarded(t *testing.T) {
	f := setup(t)
	a := f.send("POST", "/login", url.Values{"name": {"Ada"}, "next": {"/rooms/lobby"}})
	require.Equal(t, "/rooms/lobby", a.location)
	cookie, err := http.ParseSetCookie(a.header.Get("Set-Cookie"))
	require.NoError(t, err)
	require.True(t, cookie.HttpOnly)
	require.Equal(t, http.SameSiteLaxMode, cookie.SameSite)
	require.Equal(t, "/", f.send("GET", "/login", nil).location, "who is logged in need not log in")
}

func TestLogin_BadName(t *testing.T) {
	f := setup(t)
	a := f.send("POST", "/login", url.Values{"name": {" \t"}})
	require.Equal(t, http.StatusUnprocessableEntity, a.status)
	require.Contains(t, a.body, "Please enter a name.")
	require.Empty(t, a.header.Get("Set-Cookie"))
}

// TestBodies_AreBounded: forms read no more than forms need, and what is no form reads nothing.
func TestBodies_AreBounded(t *testing.T) {
	f := setup(t)
	login := httptest.NewRecorder()
	f.app.sessions.start(login, httptest.NewRequest("POST", "/login", nil), "Ada")
	session := login.Result().Cookies()[0]
	filler := strings.Repeat("x", 1<<20)
	for kind, body := range map[string]string{
		"application/x-www-form-urlencoded": "next=" + filler,
		"multipart/form-data; boundary=b":   "--b\r\nContent-Disposition: form-data; name=f; filename=f\r\n\r\n" + filler,
	} {
		for path, most := range map[string]int{
			"GET /login": 0, "GET /": 0, "GET /rooms/lobby": 0, "GET /rooms/lobby/messages": 0, "POST /logout": 0,
			// One byte more tells that there is more.
			"POST /login": maxBody + 1, "POST /rooms": maxBody + 1, "POST /rooms/lobby/messages": maxBody + 1,
		} {
			for _, who := range []*http.Cookie{nil, session} {
				method, path, _ := strings.Cut(path, " ")
				sent := strings.NewReader(body)
				r := httptest.NewRequest(method, path, sent)
				r.Header.Set("Content-Type", kind)
				if who != nil {
					r.AddCookie(who)
				}
				f.app.handler().ServeHTTP(httptest.NewRecorder(), r)
				require.LessOrEqual(t, len(body)-sent.Len(), most, "%s %s with %s, logged in: %t", method, path, kind, who != nil)
			}
		}
	}
}

func TestOtherOrigins_AreRefused(t *testing.T) {
	f := setup(t)
	f.login("Ada")
	for _, header := range []string{"Origin: https://evil.example", "Sec-Fetch-Site: cross-site", "Origin: null"} {
		require.Equal(t, http.StatusForbidden, f.send("POST", "/rooms/lobby/messages", words("k", "hi"), header).status, header)
		require.Equal(t, http.StatusForbidden, f.send("POST", "/logout", nil, header).status, header)
	}
	require.Empty(t, f.stored())
	require.Equal(t, http.StatusSeeOther, f.send("POST", "/rooms/lobby/messages", words("k", "hi"), "Origin: "+f.url).status)
}

func TestPost_IsStoredAndPublished(t *testing.T) {
	f := setup(t)
	f.login("Ada")
	a := f.send("POST", "/rooms/lobby/messages", words("k1", " <b>hi</b>\r\nthere "), asScript)
	require.Equal(t, http.StatusOK, a.status)
	var m message
	require.NoError(t, json.Unmarshal([]byte(a.body), &m))
	require.Equal(t, message{ID: 1, Room: "lobby", User: "Ada", Text: "<b>hi</b>\nthere", At: m.At, Key: "k1"}, m)
	require.Equal(t, "/rooms/lobby#end", f.send("POST", "/rooms/lobby/messages", words("k2", "by form")).location)

	// What was sent twice is there once.
	require.Equal(t, a.body, f.send("POST", "/rooms/lobby/messages", words("k1", "<b>hi</b>\nthere"), asScript).body)
	want := []string{"<b>hi</b>\nthere", "by form"}
	require.Equal(t, want, f.stored())
	require.Equal(t, want, f.published())

	page := f.send("GET", "/rooms/lobby", nil)
	require.Contains(t, page.body, "&lt;b&gt;hi&lt;/b&gt;")
	require.NotContains(t, page.body, "<b>hi")
}

func TestPost_IsRefused(t *testing.T) {
	f := setup(t)
	f.login("Ada")
	for name, row := range map[string]struct {
		path   string
		form   url.Values
		status int
	}{
		"blank":        {"/rooms/lobby/messages", words("k", " \n "), http.StatusUnprocessableEntity},
		"too long":     {"/rooms/lobby/messages", words("k", strings.Repeat("ä", maxTextLength+1)), http.StatusUnprocessableEntity},
		"without key":  {"/rooms/lobby/messages", words("", "hi"), http.StatusUnprocessableEntity},
		"huge":         {"/rooms/lobby/messages", words("k", strings.Repeat("x", 1<<17)), http.StatusBadRequest},
		"unknown room": {"/rooms/nowhere/messages", words("k", "hi"), http.StatusNotFound},
	} {
		t.Run(name, func(t *testing.T) {
			require.Equal(t, row.status, f.send("POST", row.path, row.form, asScript).status)
		})
	}
	require.Empty(t, f.stored())
	require.Empty(t, f.published())
}

func TestPost_PublishedByTheRetry(t *testing.T) {
	f := setup(t)
	f.login("Ada")
	// Stored by a request that ended before it could publish.
	m, err := f.app.store.addMessage(message{Room: "lobby", User: "Ada", Text: "hi", Key: "k"})
	require.NoError(t, err)
	a := f.send("POST", "/rooms/lobby/messages", words("k", "hi"), asScript)
	require.Equal(t, http.StatusOK, a.status)
	require.Equal(t, []string{"hi"}, f.published())
	require.Equal(t, 1, m.ID)
	require.Equal(t, []string{"hi"}, f.stored())
}

func TestPost_WithoutNodeAsksToTryAgain(t *testing.T) {
	f := setup(t)
	f.login("Ada")
	require.NoError(t, f.app.node.Shutdown(t.Context()))
	require.Equal(t, http.StatusServiceUnavailable, f.send("POST", "/rooms/lobby/messages", words("k", "hi"), asScript).status)
	require.Equal(t, "/rooms/lobby#end", f.send("POST", "/rooms/lobby/messages", words("k", "hi")).location)
	require.Equal(t, []string{"hi"}, f.stored())
}

func TestMessages_ByPage(t *testing.T) {
	f := setup(t)
	f.login("Ada")
	read := func(query string) (list messageList) {
		a := f.send("GET", "/rooms/lobby/messages?"+query, nil, asScript)
		require.Equal(t, http.StatusOK, a.status)
		require.NotContains(t, a.body, "null")
		require.NoError(t, json.Unmarshal([]byte(a.body), &list))
		return list
	}
	require.Empty(t, read("after=0").Messages)
	for i := range maxCatchUp + 1 {
		_, err := f.app.store.addMessage(message{Room: "lobby", User: "Ada", Text: "x", Key: string(rune('a' + i))})
		require.NoError(t, err)
	}
	list := read("after=0")
	require.Len(t, list.Messages, maxCatchUp)
	require.True(t, list.More)
	require.Equal(t, maxCatchUp+1, list.Last)
	require.Len(t, read("after=200").Messages, 1)
	require.Len(t, read("before=61").Messages, pageSize)
	require.Equal(t, http.StatusBadRequest, f.send("GET", "/rooms/lobby/messages", nil, asScript).status)
	require.Equal(t, http.StatusNotFound, f.send("GET", "/rooms/nowhere/messages?after=0", nil, asScript).status)
}

func TestRooms_Open(t *testing.T) {
	f := setup(t)
	f.login("Ada")
	require.Equal(t, "/rooms/book-club", f.send("POST", "/rooms", url.Values{"name": {"Book club"}}).location)
	require.Equal(t, "/rooms/book-club", f.send("POST", "/rooms", url.Values{"name": {"book CLUB"}}).location, "the same")
	require.Equal(t, "/rooms/book-club-2", f.send("POST", "/rooms", url.Values{"name": {"Book-Club"}}).location)
	require.Contains(t, f.send("GET", "/", nil).body, "Book club")
	require.Equal(t, http.StatusOK, f.send("GET", "/rooms/book-club", nil).status)
	require.Equal(t, http.StatusUnprocessableEntity, f.send("POST", "/rooms", url.Values{"name": {" "}}).status)
	require.Equal(t, http.StatusNotFound, f.send("GET", "/rooms/nowhere", nil).status)
}

// stream is what a page's EventSource reads.
type stream struct {
	t     *testing.T
	lines *bufio.Scanner
}

// listen opens a page's stream in a room, with the browser's cookies.
func (f *fixture) listen(room string, header ...string) (*stream, int) {
	f.t.Helper()
	ctx, cancel := context.WithTimeout(f.t.Context(), 10*time.Second)
	r, err := http.NewRequestWithContext(ctx, "GET", f.url+"/realtime/events?channel=room:"+room, nil)
	require.NoError(f.t, err)
	for _, h := range header {
		name, value, _ := strings.Cut(h, ": ")
		r.Header.Set(name, value)
	}
	resp, err := f.Do(r)
	require.NoError(f.t, err)
	f.t.Cleanup(func() {
		cancel()
		resp.Body.Close()
	})
	return &stream{f.t, bufio.NewScanner(resp.Body)}, resp.StatusCode
}

// until reads up to an event of a type, and returns its data.
func (s *stream) until(kind string) string {
	s.t.Helper()
	for found := false; s.lines.Scan(); {
		if data, ok := strings.CutPrefix(s.lines.Text(), "data: "); ok && found {
			return data
		}
		found = found && s.lines.Text() != "" || s.lines.Text() == "event: "+kind
	}
	require.FailNow(s.t, "the stream ended", "without %s: %v", kind, s.lines.Err())
	return ""
}

func TestStream_HasTheSessionOfThePage(t *testing.T) {
	f := setup(t)
	_, status := f.listen("lobby")
	require.Equal(t, http.StatusUnauthorized, status, "nobody is logged in")

	f.login("Ada")
	_, status = f.listen("nowhere")
	require.Equal(t, http.StatusNotFound, status)
	_, status = f.listen("lobby", "Origin: https://evil.example")
	require.Equal(t, http.StatusForbidden, status)

	s, status := f.listen("lobby", "Origin: "+f.url)
	require.Equal(t, http.StatusOK, status)
	s.until("ready")
	require.Equal(t, http.StatusOK, f.send("POST", "/rooms/lobby/messages", words("k", "hi"), asScript).status)
	require.Contains(t, s.until("publication"), `"text":"hi"`)
	require.JSONEq(t, `{"people":["Ada"]}`, f.send("GET", "/rooms/lobby/people", nil, asScript).body)

	f.send("POST", "/logout", nil)
	require.JSONEq(t, `{"code":4501,"reason":"signed out"}`, s.until("disconnect"), "a logout ends the stream")
	for s.lines.Scan() {
		require.Empty(t, s.lines.Text(), "more comes after the end")
	}
	require.NoError(t, s.lines.Err())
	_, status = f.listen("lobby")
	require.Equal(t, http.StatusUnauthorized, status)
	require.Equal(t, "/login?next=%2F", f.send("GET", "/", nil).location)
}

// TestStream_BeginsWhereThePageEnds: what is said between the page's own reading and its stream is on neither side of a crack.
func TestStream_BeginsWhereThePageEnds(t *testing.T) {
	f := setup(t)
	f.login("Ada")
	require.Equal(t, http.StatusOK, f.send("POST", "/rooms/lobby/messages", words("k1", "on the page"), asScript).status)
	page := f.send("GET", "/rooms/lobby", nil).body
	_, after, found := strings.Cut(page, `data-cursor="`)
	require.True(t, found, page)
	cursor, _, _ := strings.Cut(after, `"`)
	require.NotEmpty(t, cursor)
	require.Equal(t, http.StatusOK, f.send("POST", "/rooms/lobby/messages", words("k2", "in between"), asScript).status)

	s, status := f.listen("lobby&cursor=" + cursor)
	require.Equal(t, http.StatusOK, status)
	require.Contains(t, s.until("publication"), `"text":"in between"`)
}
