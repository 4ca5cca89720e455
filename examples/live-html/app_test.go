package main

import (
	"context"
	"html"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare"
)

type fixture struct {
	t *testing.T
	*app
	handler http.Handler
}

func setup(t *testing.T) *fixture {
	t.Helper()
	a, err := newApp(slog.New(slog.DiscardHandler))
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, a.node.Shutdown(context.Background())) })
	return &fixture{t, a, a.handler()}
}

// send sends a request with the given header fields, "Name: value". A body makes it a form.
func (f *fixture) send(method, path string, form url.Values, header ...string) *httptest.ResponseRecorder {
	f.t.Helper()
	r := httptest.NewRequest(method, path, strings.NewReader(form.Encode()))
	if form != nil {
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	for _, h := range header {
		name, value, _ := strings.Cut(h, ": ")
		r.Header.Set(name, value)
	}
	w := httptest.NewRecorder()
	f.handler.ServeHTTP(w, r)
	return w
}

func (f *fixture) order(items, name string) {
	f.t.Helper()
	require.Equal(f.t, http.StatusSeeOther, f.send("POST", "/orders", url.Values{"items": {items}, "for": {name}}).Code)
}

// published returns the fragments of the channel.
func (f *fixture) published() (list []string) {
	f.t.Helper()
	h, err := f.node.History(f.t.Context(), channel, fanfare.HistoryQuery{Limit: -1})
	require.NoError(f.t, err)
	for _, p := range h.Publications {
		list = append(list, string(p.Data))
	}
	return list
}

func TestFragments_AreThoseOfThePage(t *testing.T) {
	f := setup(t)
	f.order("2 dumplings", "Ada")
	f.order("tea", "Bob")
	require.Contains(t, f.send("GET", "/", nil).Body.String(), f.published()[1])
	require.Equal(t, "/", f.send("POST", "/orders/1/done/0", url.Values{}).Header().Get("Location"))
	row := f.published()[2]
	require.Contains(t, row, `id="order-1"`)
	require.Contains(t, row, "Cooking")
	require.NotContains(t, row, "Bob", "a change of a row is that row")
	for _, path := range []string{"/", "/htmx"} {
		require.Contains(t, f.send("GET", path, nil).Body.String(), row)
	}
}

func TestFragments_AreEscaped(t *testing.T) {
	f := setup(t)
	f.order(`<img src=x onerror=alert(1)>`, `"><script>alert(1)</script> & Söhne`)
	f.send("POST", "/orders/1/done/0", url.Values{})
	for _, text := range append(f.published(), f.send("GET", "/", nil).Body.String()) {
		require.Contains(t, text, `&lt;img src=x onerror=alert(1)&gt;`)
		require.Contains(t, text, `&lt;script&gt;alert(1)&lt;/script&gt; &amp; Söhne`)
		require.NotContains(t, text, "<img")
		require.NotContains(t, text, "<script>")
	}
}

// TestPage_BeginsWhereItEnds: what changes after the page was made is what its stream brings.
func TestPage_BeginsWhereItEnds(t *testing.T) {
	f := setup(t)
	f.order("on the page", "Ada")
	stream := regexp.MustCompile(`data-stream="([^"]+)"`).FindStringSubmatch(f.send("GET", "/", nil).Body.String())
	require.NotNil(t, stream)
	u, err := url.Parse(html.UnescapeString(stream[1]))
	require.NoError(t, err)
	f.order("in between", "Bob")

	poll := f.send("GET", "/realtime/poll?"+u.RawQuery, nil)
	require.Equal(t, http.StatusOK, poll.Code)
	require.Equal(t, 1, strings.Count(poll.Body.String(), `"publication"`), poll.Body.String())
	require.Contains(t, poll.Body.String(), "in between")
	require.NotContains(t, poll.Body.String(), `"gap"`)
}

func TestOrders_GoThroughTheirSteps(t *testing.T) {
	f := setup(t)
	f.order("tea", "Ada")
	for _, step := range []string{"0", "0", "1", "1", "2", "2"} { // each form is sent twice
		require.Equal(t, http.StatusSeeOther, f.send("POST", "/orders/1/done/"+step, url.Values{}).Code)
	}
	require.Len(t, f.published(), 4, "what changes nothing is not published")
	require.Contains(t, f.published()[3], "Nothing to do")
	require.Contains(t, f.send("GET", "/", nil).Body.String(), "Nothing to do")
}

func TestForms_LeadBack(t *testing.T) {
	f := setup(t)
	form := url.Values{"items": {"tea"}, "for": {"Ada"}}
	require.Equal(t, "/", f.send("POST", "/orders", form).Header().Get("Location"))
	form.Set("page", "/htmx")
	require.Equal(t, "/htmx", f.send("POST", "/orders", form).Header().Get("Location"))
	form.Set("page", "https://evil.example")
	require.Equal(t, "/", f.send("POST", "/orders", form).Header().Get("Location"))
	require.Equal(t, http.StatusNoContent, f.send("POST", "/orders/1/done/0", url.Values{}, "HX-Request: true").Code)
}

func TestForms_AreRefused(t *testing.T) {
	f := setup(t)
	form := func(items, name string) url.Values { return url.Values{"items": {items}, "for": {name}} }
	for name, row := range map[string]struct {
		path    string
		form    url.Values
		headers []string
		status  int
	}{
		"blank":        {"/orders", form(" ", "Ada"), nil, http.StatusUnprocessableEntity},
		"too long":     {"/orders", form("tea", strings.Repeat("ä", maxLength+1)), nil, http.StatusUnprocessableEntity},
		"huge":         {"/orders", form("tea", strings.Repeat("x", maxBody)), nil, http.StatusBadRequest},
		"no number":    {"/orders/x/done/0", form("", ""), nil, http.StatusBadRequest},
		"other origin": {"/orders", form("tea", "Ada"), []string{"Origin: https://evil.example"}, http.StatusForbidden},
	} {
		t.Run(name, func(t *testing.T) {
			require.Equal(t, row.status, f.send("POST", row.path, row.form, row.headers...).Code)
		})
	}
	require.Empty(t, f.published())
	for range maxOrders {
		f.order("tea", "Ada")
	}
	require.Equal(t, http.StatusConflict, f.send("POST", "/orders", form("tea", "Ada")).Code)
}

func TestStatic_IsInTheProgram(t *testing.T) {
	f := setup(t)
	for _, page := range []string{"/", "/htmx"} {
		body := f.send("GET", page, nil).Body.String()
		files := regexp.MustCompile(`"(/static/[^"]+)"`).FindAllStringSubmatch(body, -1)
		require.NotEmpty(t, files)
		for _, file := range files {
			require.Equal(t, http.StatusOK, f.send("GET", file[1], nil).Code, file[1])
		}
	}
}
