// Package recipetest tests that a recipe's login is the login of its live connections: over HTTP it logs in, listens, hears a
// message, logs out, and is out.
package recipetest

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
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare"
)

// App is a recipe: POST /login with a user, POST /logout, POST /say with a text for the channel "news", and /realtime/.
type App struct {
	Handler http.Handler
	Node    *fanfare.Node
	// EndSession ends the session of somebody who does not log out: as a table does whose row is deleted. The node must find that
	// out by itself, within Interval.
	EndSession func(user string)
	Interval   time.Duration
}

// browser is somebody with cookies.
type browser struct {
	t      *testing.T
	url    string
	client *http.Client
}

// Run tests an app.
func Run(t *testing.T, app App) {
	srv := httptest.NewServer(app.Handler)
	t.Cleanup(srv.Close)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 15*time.Second)
		defer cancel()
		require.NoError(t, app.Node.Shutdown(ctx))
	})
	visit := func(t *testing.T) *browser {
		jar, err := cookiejar.New(nil)
		require.NoError(t, err)
		return &browser{t, srv.URL, &http.Client{Jar: jar, Timeout: 20 * time.Second}}
	}

	t.Run("who is not logged in gets nothing", func(t *testing.T) {
		b := visit(t)
		b.requireOut()
	})
	t.Run("logout ends all sockets at once", func(t *testing.T) {
		b, other := visit(t), visit(t)
		b.post("/login", "user", "ann")
		other.post("/login", "user", "ben")
		stream, socket, bens := b.events(), b.socket(), other.events()
		b.post("/say", "text", "hello")
		for _, s := range []listener{stream, socket, bens} {
			require.Equal(t, `"hello"`, s.next(t))
		}
		stolen := b.cookies()
		began := time.Now()
		b.post("/logout")
		stream.requireEnd(t)
		socket.requireEnd(t)
		require.Less(t, time.Since(began), 5*time.Second)
		b.requireOut()

		b.client.Jar.SetCookies(b.parsed(), stolen)
		b.requireOut() // a cookie that somebody kept is worth nothing any more

		other.post("/say", "text", "still here")
		require.Equal(t, `"still here"`, bens.next(t))
		b.post("/login", "user", "ann") // and comes back as who logs in again
		again := b.events()
		other.post("/say", "text", "welcome back")
		require.Equal(t, `"welcome back"`, again.next(t))
	})
	t.Run("a session that ends elsewhere ends its sockets within the interval", func(t *testing.T) {
		b := visit(t)
		b.post("/login", "user", "cem")
		stream, socket := b.events(), b.socket()
		time.Sleep(2 * app.Interval) // it was asked, and had nothing against it
		b.post("/say", "text", "hello")
		require.Equal(t, `"hello"`, stream.next(t))
		require.Equal(t, `"hello"`, socket.next(t))
		app.EndSession("cem")
		stream.requireEnd(t)
		socket.requireEnd(t)
		b.requireOut()
	})
}

func (b *browser) parsed() *url.URL {
	u, err := url.Parse(b.url)
	require.NoError(b.t, err)
	return u
}

func (b *browser) cookies() []*http.Cookie { return b.client.Jar.Cookies(b.parsed()) }

func (b *browser) post(path string, form ...string) {
	b.t.Helper()
	values := url.Values{}
	for i := 0; i < len(form); i += 2 {
		values.Set(form[i], form[i+1])
	}
	response, err := b.client.PostForm(b.url+path, values)
	require.NoError(b.t, err)
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	require.NoError(b.t, err)
	require.Less(b.t, response.StatusCode, 300, "%s: %s", path, text)
}

// requireOut checks that the app lets nobody in with these cookies, by either door, and says so for good.
func (b *browser) requireOut() {
	b.t.Helper()
	response, err := b.client.Get(b.url + "/realtime/events?channel=news")
	require.NoError(b.t, err)
	require.NoError(b.t, response.Body.Close())
	require.Equal(b.t, http.StatusUnauthorized, response.StatusCode, "an EventSource does not come back after this")

	b.dial().requireEnd(b.t)
}

// listener is a live connection.
type listener interface {
	next(t *testing.T) string
	requireEnd(t *testing.T)
}

// events listens as an EventSource does.
func (b *browser) events() listener {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	b.t.Cleanup(cancel)
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, b.url+"/realtime/events?channel=news", nil)
	require.NoError(b.t, err)
	response, err := b.client.Do(r)
	require.NoError(b.t, err)
	b.t.Cleanup(func() { _ = response.Body.Close() })
	require.Equal(b.t, http.StatusOK, response.StatusCode)
	s := &stream{scanner: bufio.NewScanner(response.Body)}
	kind, _ := s.read(b.t)
	require.Equal(b.t, "ready", kind)
	return s
}

type stream struct{ scanner *bufio.Scanner }

// read returns the next event; without a kind at the end.
func (s *stream) read(t *testing.T) (kind, data string) {
	t.Helper()
	for s.scanner.Scan() {
		line := s.scanner.Text()
		if v, ok := strings.CutPrefix(line, "event: "); ok {
			kind = v
		}
		if v, ok := strings.CutPrefix(line, "data: "); ok {
			data = v
		}
		if line == "" && kind+data != "" {
			return kind, data
		}
	}
	require.NoError(t, s.scanner.Err())
	return "", ""
}

func (s *stream) next(t *testing.T) string {
	t.Helper()
	_, data := s.read(t)
	return data
}

func (s *stream) requireEnd(t *testing.T) {
	t.Helper()
	kind, data := s.read(t)
	require.Equal(t, "disconnect", kind, data)
	require.Contains(t, data, `"code":350`)
	kind, data = s.read(t)
	require.Empty(t, kind+data)
}

// push is what a stream of the protocol says, as far as it matters here.
type push struct {
	Connect    *struct{}
	Pub        *struct{ Data json.RawMessage }
	Disconnect *struct{ Code int }
}

// pushes is a unidirectional stream of the SDKs' protocol, from which clients hear the codes that SDKs go by.
type pushes struct{ lines *bufio.Scanner }

func (b *browser) dial() *pushes {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	b.t.Cleanup(cancel)
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, b.url+"/realtime/uni_http_stream", strings.NewReader(`{"subs":{"news":{}}}`))
	require.NoError(b.t, err)
	response, err := b.client.Do(r)
	require.NoError(b.t, err)
	b.t.Cleanup(func() { _ = response.Body.Close() })
	require.Equal(b.t, http.StatusOK, response.StatusCode)
	return &pushes{bufio.NewScanner(response.Body)}
}

func (b *browser) socket() listener {
	b.t.Helper()
	s := b.dial()
	require.NotNil(b.t, s.read(b.t).Connect)
	return s
}

// read returns the next push that is no ping.
func (s *pushes) read(t *testing.T) (p push) {
	t.Helper()
	for p == (push{}) {
		require.True(t, s.lines.Scan(), "the stream is over: %v", s.lines.Err())
		require.NoError(t, json.Unmarshal(s.lines.Bytes(), &p))
	}
	return p
}

func (s *pushes) next(t *testing.T) string {
	t.Helper()
	p := s.read(t)
	require.NotNil(t, p.Pub)
	return string(p.Pub.Data)
}

// requireEnd checks that the connection ends with a code after which SDKs do not come back.
func (s *pushes) requireEnd(t *testing.T) {
	t.Helper()
	d := s.read(t).Disconnect
	require.NotNil(t, d)
	require.GreaterOrEqual(t, d.Code, 3500)
	require.Less(t, d.Code, 4000)
	require.False(t, s.lines.Scan())
}
