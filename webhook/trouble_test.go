package webhook_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/cookiejar"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/fanfare-go/fanfare"
	"github.com/fanfare-go/fanfare/fanfaretest"
	"github.com/fanfare-go/fanfare/webhook"
)

func status(code int, contentType, body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", contentType)
		w.Header().Set("Location", "/login?secret=l0cation")
		w.WriteHeader(code)
		_, _ = io.WriteString(w, body)
	}
}

func inJSON(body string) http.HandlerFunc { return status(200, "application/json", body) }

// broken makes the server say something that is no HTTP.
func broken(raw string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		conn, _, err := http.NewResponseController(w).Hijack()
		if err == nil {
			_, _ = io.WriteString(conn, raw)
			_ = conn.Close()
		}
	}
}

func TestHooks_WhatTheAppAnswers(t *testing.T) {
	t.Parallel()
	const page = "<html>s3cret page</html>"
	internal := fanfare.ErrInternal
	for name, c := range map[string]struct {
		answer http.HandlerFunc
		err    error
		log    string // "" is none
	}{
		"error":                 {inJSON(`{"error":{"code":1042,"message":"no","temporary":true}}`), &fanfare.Error{Code: 1042, Message: "no", Temporary: true}, ""},
		"error of the protocol": {inJSON(`{"error":{"code":103,"message":"no"},"result":null}`), &fanfare.Error{Code: 103, Message: "no"}, ""},
		"error with nulls":      {inJSON(`{"result":null,"error":{"code":400,"message":null},"disconnect":null}`), &fanfare.Error{Code: 400, Message: "error"}, ""},
		"long message":          {inJSON(`{"error":{"code":400,"message":"` + strings.Repeat("é", 400) + `"}}`), &fanfare.Error{Code: 400, Message: strings.Repeat("é", 127)}, ""},
		"401":                   {status(401, "text/html", page), fanfare.ErrUnauthorized, ""},
		"403":                   {status(403, "application/json", "{}"), fanfare.ErrPermissionDenied, ""},
		"403 by CSRF":           {status(403, "text/html", page), fanfare.ErrPermissionDenied, "CSRF"},
		"429":                   {status(429, "text/plain", ""), fanfare.ErrTooManyRequests, ""},
		"500":                   {status(500, "text/html", page), internal, "status=500"},
		"404":                   {status(404, "text/html", page), internal, "status=404"},
		"204":                   {status(204, "application/json", ""), internal, "status=204"},
		"503":                   {status(503, "text/html", page), internal, "status=503"},
		"login redirect":        {status(302, "text/html", page), internal, "redirects"},
		"login page":            {status(200, "text/html; charset=utf-8", page), internal, "content_type=text/html"},
		"no type":               {status(200, "", `{"result":{}}`), internal, "else than JSON"},
		"broken JSON":           {inJSON(`{"result":{"s3cret`), internal, "no JSON of the expected form"},
		"nothing":               {inJSON(``), internal, "no sense"},
		"empty":                 {inJSON(`{}`), internal, "none of result"},
		"null":                  {inJSON(`null`), internal, "none of result"},
		"array":                 {inJSON(`[]`), internal, "JSON array"},
		"two":                   {inJSON(`{"result":{}}{"result":{}}`), internal, "behind the JSON"},
		"both":                  {inJSON(`{"result":{},"error":{"code":400}}`), internal, "more than one"},
		"both ends":             {inJSON(`{"error":{"code":400},"disconnect":{"code":4000}}`), internal, "more than one"},
		"error 0":               {inJSON(`{"error":{"code":0}}`), internal, "error.code is 0"},
		"error -1":              {inJSON(`{"error":{"code":-1}}`), internal, "error.code is -1"},
		"error of clients":      {inJSON(`{"error":{"code":99}}`), internal, "error.code is 99"},
		"error 2000":            {inJSON(`{"error":{"code":2000}}`), internal, "error.code is 2000"},
		"error beyond 64 bits":  {inJSON(`{"error":{"code":99999999999999999999}}`), internal, "should be of type int64"},
		"error text":            {inJSON(`{"error":"s3cret"}`), internal, "JSON string"},
		"disconnect 0":          {inJSON(`{"disconnect":{}}`), internal, "disconnect.code is 0"},
		"disconnect 3000":       {inJSON(`{"disconnect":{"code":3000}}`), internal, "disconnect.code is 3000"},
		"disconnect 5000":       {inJSON(`{"disconnect":{"code":5000}}`), internal, "disconnect.code is 5000"},
		"data no base64":        {inJSON(`{"result":{"b64data":"s3cret!"}}`), internal, "b64data is no base64"},
		"too long":              {inJSON(`{"result":{"data":"` + strings.Repeat("x", 1<<20) + `"}}`), internal, "too long"},
		"no HTTP":               {broken("s3cret\r\n\r\n"), internal, "no HTTP"},
		"cut short":             {broken("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{"), internal, "ends within"},
		"long header":           {status(200, strings.Repeat("x", 1<<20), ""), internal, "too long a header"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			app, out := newApp(t), &logs{}
			app.reply("/rpc", c.answer)
			config := app.config()
			config.Logger = out.logger()
			client := fanfaretest.Connect(t, newNode(t, newHooks(t, config)), "", fanfaretest.WithRequest(browser))
			for range 3 {
				_, err := client.RPC("x", []byte(`"s3cret"`))
				require.Equal(t, c.err, err)
			}
			require.Len(t, app.asked("/rpc"), 3, "redirects are not followed, and what is not harmless is not repeated")
			require.NotContains(t, out.String(), "s3cret")
			require.NotContains(t, out.String(), "l0cation")
			if c.log == "" {
				require.Empty(t, out.String())
				return
			}
			require.Equal(t, 1, strings.Count(out.String(), "\n"), "once: %s", out)
			require.Contains(t, out.String(), c.log)
			require.Contains(t, out.String(), "hook=RPC")
		})
	}
}

func TestHooks_Disconnect(t *testing.T) {
	t.Parallel()
	app := newApp(t)
	app.answer("/rpc", `{"disconnect":{"code":4501,"reason":"`+strings.Repeat("é", 100)+`"}}`)
	client := fanfaretest.Connect(t, newNode(t, newHooks(t, app.config())), "")
	_, err := client.RPC("x", nil)
	require.Equal(t, &fanfare.Disconnect{Code: 4501, Reason: strings.Repeat("é", 61)}, err)
}

func TestHooks_ConnectThatMakesNoSense(t *testing.T) {
	t.Parallel()
	for answer, log := range map[string]string{
		`{"result":{"user":7}}`:                                    "user is a JSON number",
		`{"result":{"expire_at":-1}}`:                              "negative",
		`{"result":{"expire_at":1800000000000}}`:                   "milliseconds",
		`{"result":{"b64info":"/w=="}}`:                            "b64info is no JSON inside",
		`{"result":{"channels":"room:1"}}`:                         "channels is a JSON string",
		`{"result":{"subs":{"room:1":{"expire_at":-1}}}}`:          "negative",
		`{"result":{"meta":"` + strings.Repeat("x", 20000) + `"}}`: "meta is longer",
	} {
		app, out := newApp(t), &logs{}
		app.answer("/connect", answer)
		c := app.config()
		c.Logger = out.logger()
		_, err := fanfaretest.Dial(t, newNode(t, newHooks(t, c)), "").Connect()
		require.Equal(t, fanfare.ErrInternal, err, answer)
		require.Contains(t, out.String(), log)
	}
}

func TestHooks_NobodyLoggedIn(t *testing.T) {
	t.Parallel()
	app := newApp(t)
	app.reply("/connect", func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Cookie") == "" {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		inJSON(`{"result":{"user":"42"}}`)(w, r)
	})
	node := newNode(t, newHooks(t, app.config()))
	_, err := fanfaretest.Dial(t, node, "").Connect()
	require.Equal(t, fanfare.ErrUnauthorized, err)
	fanfaretest.Connect(t, node, "", fanfaretest.WithRequest(browser))
}

// TestHooks_AppStops: who is connected goes on, who is new is told to come back, and when the app is back they do.
func TestHooks_AppStops(t *testing.T) {
	t.Parallel()
	app, out := newApp(t), &logs{}
	c := app.config()
	c.Logger = out.logger()
	c.Breaker = webhook.Breaker{Failures: 3, OpenFor: 20 * time.Millisecond}
	node := newNode(t, newHooks(t, c))
	old := fanfaretest.Connect(t, node, "", fanfaretest.WithRequest(browser))
	_, err := old.Subscribe("room:1")
	require.NoError(t, err)

	app.CloseClientConnections()
	app.Close()
	for range 20 {
		_, err = fanfaretest.Dial(t, node, "").Connect()
		require.Equal(t, fanfare.ErrInternal, err)
		_, err = old.RPC("x", nil)
		require.Equal(t, fanfare.ErrInternal, err)
	}
	_, err = node.Publish(t.Context(), "room:1", []byte(`1`))
	require.NoError(t, err)
	e, err := old.Next(t.Context())
	require.NoError(t, err)
	require.Equal(t, fanfaretest.KindPublication, e.Kind)
	require.Equal(t, 1, strings.Count(out.String(), "cannot be reached\" hook=Connect"), out)
	require.Equal(t, 1, strings.Count(out.String(), "left alone, and asked now and then\" hook=Connect"), out)

	l, err := net.Listen("tcp", app.Listener.Addr().String())
	require.NoError(t, err)
	back := &http.Server{Handler: app}
	var serving errgroup.Group // waited for below
	serving.Go(func() error { return back.Serve(l) })
	require.Eventually(t, func() bool {
		_, err := fanfaretest.Dial(t, node, "").Connect()
		return err == nil
	}, 5*time.Second, 5*time.Millisecond)
	require.Contains(t, out.String(), `the app is back" hook=Connect`)
	require.NoError(t, back.Close())
	require.ErrorIs(t, serving.Wait(), http.ErrServerClosed)
}

// TestHooks_Slow: no more calls than allowed, everybody gets an answer in time, and nothing is left.
func TestHooks_Slow(t *testing.T) {
	t.Parallel()
	app := newApp(t)
	var running, most atomic.Int64
	app.reply("/rpc", func(_ http.ResponseWriter, r *http.Request) {
		now := running.Add(1)
		defer running.Add(-1)
		for m := most.Load(); now > m && !most.CompareAndSwap(m, now); m = most.Load() {
		}
		<-r.Context().Done() // until the caller has had enough
	})
	c, out := app.config(), &logs{}
	c.MaxConcurrent, c.Timeout, c.Logger = 4, 2*time.Second, out.logger()
	node := newNode(t, newHooks(t, c))
	clients := make([]*fanfaretest.Client, 60)
	for i := range clients {
		clients[i] = fanfaretest.Connect(t, node, "")
	}
	var calls errgroup.Group // waited for below
	for _, client := range clients {
		calls.Go(func() error {
			_, err := client.RPC("x", nil)
			if e, ok := err.(*fanfare.Error); !ok || !e.Temporary {
				return fmt.Errorf("got %w", err)
			}
			return nil
		})
	}
	require.NoError(t, calls.Wait())
	require.Eventually(t, func() bool { return running.Load() == 0 }, 5*time.Second, time.Millisecond)
	require.LessOrEqual(t, most.Load(), int64(4))
	for _, client := range clients {
		_, err := client.Subscribe("room:1")
		require.NoError(t, err, "they are all there, and the other endpoints work: %s", out)
	}
}

func TestHooks_ClientLeaves(t *testing.T) {
	t.Parallel()
	app, out := newApp(t), &logs{}
	asked, left := make(chan struct{}), make(chan struct{})
	app.reply("/connect", func(_ http.ResponseWriter, r *http.Request) {
		close(asked)
		<-r.Context().Done()
		close(left)
	})
	c := app.config()
	c.Logger = out.logger()
	h := newHooks(t, c)
	ctx, cancel := context.WithCancel(t.Context())
	var calls errgroup.Group // waited for below
	calls.Go(func() error {
		_, err := h.Authenticate(ctx, &fanfare.ConnectRequest{})
		return err
	})
	<-asked
	cancel()
	<-left
	require.ErrorIs(t, calls.Wait(), context.Canceled)
	require.Empty(t, out.String(), "that is no problem of the app")
}

// TestHooks_ReusesConnections: also after answers of every kind.
func TestHooks_ReusesConnections(t *testing.T) {
	t.Parallel()
	app := newApp(t)
	c := app.config()
	// A busy machine may take longer than the second for which idle connections are kept otherwise.
	patient := &http.Transport{}
	defer patient.CloseIdleConnections()
	c.Client = &http.Client{Transport: patient}
	client := fanfaretest.Connect(t, newNode(t, newHooks(t, c)), "")
	long := strings.Repeat("x", 100_000)
	for range 5 {
		for _, answer := range []http.HandlerFunc{inJSON(`{"result":{}}`), status(500, "text/html", long), status(403, "text/html", long),
			status(302, "text/html", long), inJSON(`{"result":{"data":"` + long + `"}} `), inJSON(`{}x`)} {
			app.reply("/rpc", answer)
			_, _ = client.RPC("x", nil) // whatever comes of it
		}
	}
	require.Len(t, app.asked("/rpc"), 30)
	app.mu.Lock()
	defer app.mu.Unlock()
	require.Equal(t, 1, app.conns)
}

func TestState_IsNotPrinted(t *testing.T) {
	t.Parallel()
	app, out := newApp(t), &logs{}
	c := app.config()
	c.Static = http.Header{"X-Secret": {"s3cret"}}
	h := newHooks(t, c)
	r, err := http.NewRequest(http.MethodGet, "/", nil)
	require.NoError(t, err)
	browser(r)
	identity, err := h.Authenticate(t.Context(), &fanfare.ConnectRequest{HTTP: r})
	require.NoError(t, err)
	for _, v := range []any{identity, identity.State, session{State: identity.State.(*webhook.State)}, h} {
		out.logger().Info("x", "v", v)
		_, _ = fmt.Fprintf(out, "%v %+v %s %q\n", v, v, v, v)
	}
	_, _ = fmt.Fprintf(out, "%#v %x\n", identity.State, identity.State)
	require.NotContains(t, out.String(), "s3cret")
	require.NotContains(t, out.String(), fmt.Sprintf("%x", "s3cret"))
}

// TestHooks_RepeatsWhatIsHarmless: a server that closes an idle connection just then costs a connect nothing. What may have had an
// effect is not sent twice.
func TestHooks_RepeatsWhatIsHarmless(t *testing.T) {
	t.Parallel()
	app := newApp(t)
	var last sync.Map // the connections that were used
	closing := func(answer string) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			if _, used := last.LoadOrStore(r.RemoteAddr, true); used {
				broken("")(w, r)
				return
			}
			inJSON(answer)(w, r)
		}
	}
	app.reply("/connect", closing(`{"result":{"user":"42"}}`))
	app.reply("/rpc", closing(`{"result":{}}`))
	c := app.config()
	patient := &http.Transport{}
	defer patient.CloseIdleConnections()
	c.Client = &http.Client{Transport: patient}
	node := newNode(t, newHooks(t, c))
	fanfaretest.Connect(t, node, "")
	client := fanfaretest.Connect(t, node, "")
	require.Len(t, app.asked("/connect"), 3)
	_, err := client.RPC("x", nil)
	require.Equal(t, fanfare.ErrInternal, err)
	require.Len(t, app.asked("/rpc"), 1)
}

// TestHooks_ClientOfTheApp: one user's cookies must not come with another's calls, whatever client is given, and that stays as it is.
func TestHooks_ClientOfTheApp(t *testing.T) {
	t.Parallel()
	app := newApp(t)
	app.reply("/connect", func(w http.ResponseWriter, r *http.Request) {
		http.SetCookie(w, &http.Cookie{Name: "sessionid", Value: "of the first"})
		inJSON(`{"result":{}}`)(w, r)
	})
	jar, err := cookiejar.New(nil)
	require.NoError(t, err)
	c := app.config()
	transport := &http.Transport{}
	defer transport.CloseIdleConnections()
	c.Client = &http.Client{Transport: transport, Jar: jar}
	node := newNode(t, newHooks(t, c))
	fanfaretest.Connect(t, node, "")
	fanfaretest.Connect(t, node, "")
	require.Empty(t, app.asked("/connect")[1].header.Get("Cookie"))
	require.NotNil(t, c.Client.Jar)
	require.Nil(t, c.Client.CheckRedirect)
}
