package fanfare_test

import (
	"bufio"
	"compress/gzip"
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/NYTimes/gziphandler"
	"github.com/alexedwards/scs/v2"
	"github.com/alexedwards/scs/v2/memstore"
	ws "github.com/coder/websocket"
	"github.com/go-chi/chi/v5/middleware"
	"github.com/gorilla/handlers"
	"github.com/klauspost/compress/gzhttp"
	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare"
	"github.com/fanfare-go/fanfare/internal/doctor"
)

// examined is an app in development, on a real server.
type examined struct {
	url      string
	log      *logBook
	patience time.Duration // until a client says that nothing arrives; real time
}

type chain func(http.Handler) http.Handler

func examine(t *testing.T, wrap chain, configure func(*http.Server), change ...func(*fanfare.Config)) *examined {
	t.Helper()
	e := &examined{log: &logBook{}, patience: 30 * time.Second}
	node := startNode(t, append(change, func(c *fanfare.Config) {
		c.Development, c.Logger = true, slog.New(e.log)
	})...)
	mux := http.NewServeMux()
	mux.Handle("/realtime/", node)
	var h http.Handler = mux
	if wrap != nil {
		h = wrap(mux)
	}
	s := httptest.NewUnstartedServer(h)
	s.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelInfo)
	if configure != nil {
		configure(s.Config)
	}
	s.Start()
	t.Cleanup(s.Close)
	e.url = s.URL
	return e
}

// findings are what was said of a door at a level, as "key", in the order of the log.
func (e *examined) findings(level slog.Level, door string) []string {
	var keys []string
	for _, entry := range e.log.from(level) {
		if key := entry.text("finding"); key != "<nil>" && entry.level == level && entry.text("transport") == door {
			keys = append(keys, key)
		}
	}
	return keys
}

// sentence is what was said of a finding.
func (e *examined) sentence(t *testing.T, key string) string {
	t.Helper()
	i := slices.IndexFunc(e.log.from(slog.LevelInfo), func(en entry) bool { return en.text("finding") == key })
	require.GreaterOrEqual(t, i, 0, "no finding %s", key)
	return e.log.from(slog.LevelInfo)[i].message
}

// What a peer sees of a door.
const (
	works = "works"
	mute  = "nothing arrives"
)

// try uses a door as a client would, and returns what it sees.
func (e *examined) try(t *testing.T, door string) string {
	t.Helper()
	if door == "websocket" {
		return e.tryWebSocket(t)
	}
	r := e.request(t, door)
	r.Header.Set("Accept-Encoding", "gzip")
	return e.see(t, r)
}

func (e *examined) tryWebSocket(t *testing.T) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), e.patience)
	defer cancel()
	conn, response, err := ws.Dial(ctx, e.url+"/realtime/websocket", &ws.DialOptions{HTTPHeader: http.Header{"Accept-Encoding": {"gzip"}}})
	switch {
	case err != nil && response != nil:
		return response.Status
	case errors.Is(err, context.DeadlineExceeded):
		return mute
	case err != nil:
		return err.Error()
	}
	defer conn.CloseNow()
	require.NoError(t, conn.Write(ctx, ws.MessageText, []byte(`{"id":1,"connect":{}}`)))
	if _, reply, err := conn.Read(ctx); err != nil || !strings.Contains(string(reply), `"connect":{"client"`) {
		return mute
	}
	return works
}

func (e *examined) request(t *testing.T, door string) *http.Request {
	t.Helper()
	const connect = `{"id":1,"connect":{}}`
	method, target, body := http.MethodPost, e.url+"/realtime/"+door, io.Reader(strings.NewReader(connect))
	if door == "sse" {
		method, target, body = http.MethodGet, target+"?cf_connect="+url.QueryEscape(connect), nil
	}
	r, err := http.NewRequestWithContext(t.Context(), method, target, body)
	require.NoError(t, err)
	return r
}

// see makes a request and returns whether the connect reply arrives.
func (e *examined) see(t *testing.T, r *http.Request) string {
	t.Helper()
	client := &http.Transport{DisableKeepAlives: true}
	ctx, cancel := context.WithCancel(r.Context())
	t.Cleanup(cancel)
	seen := make(chan string, 1)
	go func() { // ends with the request's context
		response, err := client.RoundTrip(r.WithContext(ctx))
		if err != nil {
			seen <- err.Error()
			return
		}
		defer response.Body.Close()
		seen <- firstOf(response)
		<-ctx.Done()
	}()
	select {
	case s := <-seen:
		return s
	case <-time.After(e.patience):
		return mute
	}
}

func firstOf(response *http.Response) string {
	if response.StatusCode != http.StatusOK {
		return response.Status
	}
	body := io.Reader(response.Body)
	if response.Header.Get("Content-Encoding") == "gzip" {
		z, err := gzip.NewReader(body)
		if err != nil {
			return err.Error()
		}
		body = z
	}
	lines := bufio.NewScanner(body)
	for lines.Scan() {
		if strings.Contains(lines.Text(), `"connect":{"client"`) {
			return works
		}
	}
	return "the body ends: " + lines.Text()
}

// flushing is a wrapper that hides everything but Flush.
type flushing struct{ http.ResponseWriter }

func (f flushing) Flush() { f.ResponseWriter.(http.Flusher).Flush() }

// lazy is a wrapper whose Flush does nothing.
type lazy struct{ http.ResponseWriter }

func (lazy) Flush() {}

func (l lazy) Unwrap() http.ResponseWriter { return l.ResponseWriter }

// careful is what middleware should make.
type careful struct{ http.ResponseWriter }

func (c careful) Unwrap() http.ResponseWriter { return c.ResponseWriter }

func hide(w http.ResponseWriter) http.ResponseWriter { return opaque{w} }

func wrapped(wrap func(http.ResponseWriter) http.ResponseWriter) chain {
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { next.ServeHTTP(wrap(w), r) })
	}
}

func timeout(d time.Duration) chain {
	return func(next http.Handler) http.Handler { return http.TimeoutHandler(next, d, "too late") }
}

func logging(next http.Handler) http.Handler { return handlers.LoggingHandler(io.Discard, next) }

func chiLogger(next http.Handler) http.Handler {
	return middleware.RequestLogger(&middleware.DefaultLogFormatter{Logger: slog.NewLogLogger(slog.DiscardHandler, slog.LevelInfo)})(next)
}

func eating(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		next.ServeHTTP(w, r)
	})
}

func over(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithCancel(r.Context())
		cancel()
		next.ServeHTTP(w, r.WithContext(ctx))
	})
}

func both(outer, inner chain) chain {
	return func(next http.Handler) http.Handler { return outer(inner(next)) }
}

// seen is what a peer sees of a door, and what the node says of it.
type seen struct {
	outcome  string
	findings []string
}

// TestDevelopment_Chains: what is wrong with real middleware is said, and nothing is said of what works.
func TestDevelopment_Chains(t *testing.T) {
	well := seen{works, nil}
	refused := func(finding string) seen { return seen{"501 Not Implemented", []string{finding}} }
	kept := func(more ...string) seen { return seen{mute, append(more, doctor.HeldBack)} }
	// Not scs.New: that starts a goroutine which never ends.
	sessions := &scs.SessionManager{Lifetime: time.Hour, Codec: scs.GobCodec{}, Store: memstore.NewWithCleanupInterval(0)}
	sessions.Cookie.Name = "session"
	for name, test := range map[string]struct {
		wrap                       chain
		websocket, httpstream, sse seen
		says                       string // a part of some sentence
	}{
		"nothing":             {nil, well, well, well, ""},
		"scs":                 {sessions.LoadAndSave, well, well, well, ""},
		"chi's Logger":        {chiLogger, well, well, well, ""},
		"chi's Recoverer":     {middleware.Recoverer, well, well, well, ""},
		"chi's Compress":      {middleware.Compress(5), well, well, well, ""},
		"gorilla's logging":   {logging, well, well, well, ""},
		"gorilla's Compress":  {handlers.CompressHandler, well, well, well, ""},
		"klauspost's gzhttp":  {func(h http.Handler) http.Handler { return gzhttp.GzipHandler(h) }, well, well, well, ""},
		"a careful wrapper":   {wrapped(func(w http.ResponseWriter) http.ResponseWriter { return careful{w} }), well, well, well, ""},
		"three that are well": {both(sessions.LoadAndSave, both(chiLogger, logging)), well, well, well, ""},

		"NYTimes' gziphandler": {gziphandler.GzipHandler, seen{mute, []string{doctor.LostSwitch}}, kept(doctor.NoWriteDeadline), kept(doctor.NoWriteDeadline),
			"*gziphandler.GzipResponseWriter → *http.response"},
		"a Flush of nothing": {wrapped(func(w http.ResponseWriter) http.ResponseWriter { return lazy{w} }), well, kept(), kept(),
			"fanfare_test.lazy → *http.response"},
		"an opaque wrapper": {wrapped(hide), refused(doctor.NoHijack), refused(doctor.NoFlush), refused(doctor.NoFlush),
			"fanfare_test.opaque has neither Hijack nor Unwrap"},
		"scs within an opaque wrapper": {both(wrapped(hide), sessions.LoadAndSave), seen{mute, []string{doctor.HijackFails}},
			kept(doctor.NoWriteDeadline), kept(doctor.NoWriteDeadline), "fanfare_test.opaque has neither Flush nor Unwrap"},
		"chi's Logger within an opaque wrapper": {both(wrapped(hide), chiLogger), refused(doctor.NoHijack), refused(doctor.NoFlush),
			refused(doctor.NoFlush), "fanfare_test.opaque, within *middleware.basicWriter, has neither Flush nor Unwrap"},
		"chi's Compress within an opaque wrapper": {both(wrapped(hide), middleware.Compress(5)), seen{mute, []string{doctor.HijackFails}},
			kept(doctor.NoWriteDeadline), kept(doctor.NoWriteDeadline), "*middleware.compressResponseWriter → fanfare_test.opaque → *http.response"},
		"only Flush": {wrapped(func(w http.ResponseWriter) http.ResponseWriter { return flushing{w} }), refused(doctor.NoHijack),
			seen{works, []string{doctor.NoWriteDeadline}}, seen{works, []string{doctor.NoWriteDeadline}}, "does not read holds up"},
		"http.TimeoutHandler": {timeout(time.Minute), refused(doctor.TimeoutHandler), refused(doctor.TimeoutHandler),
			refused(doctor.TimeoutHandler), "http.TimeoutHandler stands around"},
		"scs within http.TimeoutHandler": {both(timeout(time.Minute), sessions.LoadAndSave), seen{"", []string{doctor.HijackFails}},
			kept(doctor.NoWriteDeadline, doctor.ContextDeadline), kept(doctor.NoWriteDeadline, doctor.ContextDeadline),
			"*http.timeoutWriter has neither Flush nor Unwrap"},
		"chi's Timeout": {middleware.Timeout(time.Minute), well, seen{works, []string{doctor.ContextDeadline}},
			seen{works, []string{doctor.ContextDeadline}}, "the request's context ends in "},
		"a context that is over": {over, well, seen{"", []string{doctor.ContextOver}}, seen{"", []string{doctor.ContextOver}}, "over already"},
		"a reader of the body":   {eating, well, seen{"the body ends", []string{doctor.BodyGone}}, well, "a body of 21 bytes"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e := examine(t, test.wrap, nil)
			for door, want := range map[string]seen{"websocket": test.websocket, "http_stream": test.httpstream, "sse": test.sse} {
				e.patience = 30 * time.Second
				if want.outcome == mute || want.outcome == "" {
					e.patience = time.Second
				}
				for range 2 { // each is said once
					outcome := e.try(t, door)
					require.Contains(t, outcome, want.outcome, door)
				}
				require.Equal(t, want.findings, e.findings(slog.LevelWarn, door), door)
				if len(want.findings) == 0 {
					require.Equal(t, []string{"well"}, e.findings(slog.LevelInfo, door), door)
				} else {
					require.Empty(t, e.findings(slog.LevelInfo, door), door)
				}
			}
			var said []string
			for _, entry := range e.log.from(slog.LevelWarn) {
				said = append(said, entry.message)
			}
			require.Contains(t, strings.Join(said, "\n"), test.says)
		})
	}
}
