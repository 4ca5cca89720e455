//go:build unix

package e2e

import (
	"bufio"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// browser is somebody's browser.
type browser struct {
	t *testing.T
	*pair
	http.Client
}

func (p *pair) browser(t *testing.T) *browser {
	jar, err := cookiejar.New(nil)
	require.NoError(t, err)
	return &browser{t: t, pair: p, Client: http.Client{Jar: jar}}
}

// login logs in at the form.
func (p *pair) login(t *testing.T, name, password string) *browser {
	t.Helper()
	b := p.browser(t)
	require.Contains(t, b.post("/login", url.Values{"name": {name}, "password": {password}}), "Log out "+name)
	return b
}

// post sends a form, and returns the page to which it leads.
func (b *browser) post(path string, form url.Values) string {
	b.t.Helper()
	return b.do(http.MethodPost, path, form)
}

func (b *browser) get(path string) string {
	b.t.Helper()
	return b.do(http.MethodGet, path, nil)
}

func (b *browser) do(method, path string, form url.Values) string {
	b.t.Helper()
	r, err := http.NewRequestWithContext(b.t.Context(), method, b.appURL+path, strings.NewReader(form.Encode()))
	require.NoError(b.t, err)
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	resp, err := b.Do(r)
	require.NoError(b.t, err)
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	require.NoError(b.t, err)
	return string(body)
}

// stream is an EventSource that does not come back.
type stream struct {
	t      *testing.T
	status int
	lines  *bufio.Scanner
}

type event struct{ kind, data string }

// listen opens a stream as the page does, at the address in it.
func (b *browser) listen(channel string) *stream {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.t.Context(), 3*time.Minute) // longer than any test listens
	b.t.Cleanup(cancel)
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, b.liveURL+"/connection/events?channel="+url.QueryEscape(channel), nil)
	require.NoError(b.t, err)
	r.Header.Set("Origin", b.appURL)
	r.Header.Set("Accept", "text/event-stream")
	resp, err := b.Do(r)
	require.NoError(b.t, err)
	b.t.Cleanup(func() { _ = resp.Body.Close() })
	if resp.StatusCode == http.StatusOK {
		require.Equal(b.t, b.appURL, resp.Header.Get("Access-Control-Allow-Origin"))
	}
	return &stream{b.t, resp.StatusCode, bufio.NewScanner(resp.Body)}
}

// next waits for the next event of a kind, and passes over others; false is the end.
func (s *stream) next(kind string) (event, bool) {
	s.t.Helper()
	require.Equal(s.t, http.StatusOK, s.status)
	var e event
	for s.lines.Scan() {
		field, value, _ := strings.Cut(s.lines.Text(), ": ")
		switch field {
		case "event":
			e.kind = value
		case "data":
			e.data += value
		case "":
			if e.kind == kind {
				return e, true
			}
			e = event{}
		}
	}
	return event{}, false
}

// sees waits for a note.
func (s *stream) sees(text string) {
	s.t.Helper()
	e, ok := s.next("publication")
	require.True(s.t, ok, "the stream has ended")
	var note struct{ HTML string }
	require.NoError(s.t, json.Unmarshal([]byte(e.data), &note))
	require.Contains(s.t, note.HTML, text)
}

func (s *stream) ready() *stream {
	s.t.Helper()
	_, ok := s.next("ready")
	require.True(s.t, ok)
	return s
}

// TestBeside drives examples/django-beside, an app in Python beside the standalone server, by HTTP.
func TestBeside(t *testing.T) {
	t.Parallel()
	p := newPair(t)
	ann, ben, eve := p.login(t, "ann", "garden-gate"), p.login(t, "ben", "tea-pot"), p.login(t, "eve", "loud-owl")

	// The login of the pages is the login of the stream, and the app decides who may listen.
	require.Equal(t, http.StatusUnauthorized, p.browser(t).listen("room:garden").status)
	require.Equal(t, http.StatusForbidden, eve.listen("room:garden").status)
	require.Equal(t, http.StatusNotFound, eve.listen("elsewhere").status)
	page := ann.get("/rooms/garden")
	require.Contains(t, page, `data-stream="`+p.liveURL+`/connection/events?channel=room%3Agarden"`)

	// What is saved by a form arrives with everybody who may see it.
	annHears, benHears := ann.listen("room:garden").ready(), ben.listen("room:garden").ready()
	require.Contains(t, ann.post("/rooms/garden", url.Values{"text": {"water the <roses>"}}), "water the &lt;roses&gt;")
	annHears.sees("<b>ann</b> water the &lt;roses&gt;")
	benHears.sees("<b>ann</b> water the &lt;roses&gt;")
	require.NotContains(t, eve.post("/rooms/garden", url.Values{"text": {"hi"}}), "roses")

	// Logging out ends the stream, and there is no way back; others go on.
	ann.post("/logout", nil)
	_, said := annHears.next("disconnect")
	require.True(t, said)
	_, more := annHears.next("publication")
	require.False(t, more)
	require.Equal(t, http.StatusUnauthorized, ann.listen("room:garden").status)
	require.Contains(t, ann.get("/rooms/garden"), "Log in")
	ben.post("/rooms/garden", url.Values{"text": {"done"}})
	benHears.sees("done")

	for _, secret := range []string{"example-secret", "example-api-key", "notes_session"} {
		require.NotContains(t, p.live.out.String(), secret)
		require.NotContains(t, p.app.out.String(), secret)
	}
}

// TestBeside_OneOfTheTwoStops: with the app away those who listen go on, and new ones are told to come back; with the live server
// away the app works.
func TestBeside_OneOfTheTwoStops(t *testing.T) {
	t.Parallel()
	p := newPair(t)
	ann := p.login(t, "ann", "garden-gate")
	hears := ann.listen("room:garden").ready()

	p.app.stop(syscall.SIGTERM)
	for range 10 {
		late := ann.listen("room:garden")
		require.Equal(t, http.StatusOK, late.status, "a status would make browsers give up")
		_, ready := late.next("ready")
		require.False(t, ready, "but it is over at once")
	}
	p.publish(t, "room:garden", `{"id":7,"html":"from elsewhere"}`)
	hears.sees("from elsewhere")
	require.Contains(t, p.live.out.String(), "the app cannot be reached")

	p.app.start()
	require.Eventually(t, func() bool {
		_, ready := ann.listen("room:garden").next("ready")
		return ready
	}, time.Minute, 100*time.Millisecond, "the session is in the database")
	ann.post("/rooms/garden", url.Values{"text": {"back again"}})
	hears.sees("back again")

	p.live.stop(syscall.SIGTERM)
	_, more := hears.next("publication")
	require.False(t, more)
	require.Contains(t, ann.post("/rooms/garden", url.Values{"text": {"saved anyway"}}), "saved anyway")
	require.Contains(t, p.app.out.String(), "live: publish failed")
}

// publish does what any other part of the app might.
func (p *pair) publish(t *testing.T, channel, data string) {
	t.Helper()
	body, err := json.Marshal(map[string]any{"channel": channel, "data": json.RawMessage(data)})
	require.NoError(t, err)
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, p.liveURL+"/api/publish", strings.NewReader(string(body)))
	require.NoError(t, err)
	r.Header.Set("X-API-Key", "example-api-key-of-the-notes")
	resp, err := http.DefaultClient.Do(r)
	require.NoError(t, err)
	require.Equal(t, http.StatusOK, resp.StatusCode)
	require.NoError(t, resp.Body.Close())
}

// TestBeside_WhoAsks: the views for the live server answer nobody else, and forms of other sites are refused.
func TestBeside_WhoAsks(t *testing.T) {
	t.Parallel()
	p := newPair(t)
	ann := p.login(t, "ann", "garden-gate")
	for _, path := range []string{"/live/connect", "/live/refresh", "/live/subscribe"} {
		for _, secret := range []string{"", "wrong"} {
			require.Equal(t, http.StatusForbidden, ann.status(path, http.Header{"X-Live-Secret": {secret}}))
		}
		require.Equal(t, http.StatusBadRequest, ann.status(path, http.Header{"X-Live-Secret": {"example-secret-of-the-webhooks"}}))
	}
	for _, other := range []http.Header{{"Sec-Fetch-Site": {"cross-site"}}, {"Sec-Fetch-Site": {"same-site"}}, {"Origin": {p.liveURL}}} {
		require.Equal(t, http.StatusForbidden, ann.status("/rooms/garden", other))
		require.Equal(t, http.StatusForbidden, ann.status("/logout", other))
	}
	require.Contains(t, p.browser(t).post("/login", url.Values{"name": {"ann"}, "password": {"guess"}}), "not the password")
	require.Contains(t, p.browser(t).post("/login", url.Values{"name": {"nobody"}, "password": {""}}), "not the password")
}

func (b *browser) status(path string, header http.Header) int {
	b.t.Helper()
	r, err := http.NewRequestWithContext(b.t.Context(), http.MethodPost, b.appURL+path, strings.NewReader("{"))
	require.NoError(b.t, err)
	r.Header = header
	resp, err := b.Do(r)
	require.NoError(b.t, err)
	require.NoError(b.t, resp.Body.Close())
	return resp.StatusCode
}

// TestBeside_Chromium drives its pages in a browser, and its connections with the published SDK.
func TestBeside_Chromium(t *testing.T) {
	t.Parallel()
	node, chromium := lookNode(t), lookChromium(t)
	p := newPair(t)
	mux := http.NewServeMux()
	mux.HandleFunc("POST /stop", func(http.ResponseWriter, *http.Request) { p.app.stop(syscall.SIGTERM) })
	mux.HandleFunc("POST /start", func(http.ResponseWriter, *http.Request) { p.app.start() })
	mux.HandleFunc("POST /publish", func(w http.ResponseWriter, r *http.Request) {
		p.publish(t, "room:garden", `{"id":1000000,"html":"<li data-id=1000000>from elsewhere</li>"}`)
	})
	control := httptest.NewServer(mux)
	defer control.Close()
	runScenarios(t, node, "js/beside.mjs", control.URL, chromium, screenshots(t), p.appURL, p.liveURL)
}
