package doctor_test

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"strings"
	"testing"
	"unicode"

	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare/internal/doctor"
)

// around wraps a writer in a field that is not exported.
type around struct{ inner http.ResponseWriter }

func (a *around) Header() http.Header         { return a.inner.Header() }
func (a *around) Write(b []byte) (int, error) { return a.inner.Write(b) }
func (a *around) WriteHeader(status int)      { a.inner.WriteHeader(status) }
func (a *around) Flush()                      { a.inner.(http.Flusher).Flush() }

// closures keeps the writer where nobody can see it.
type closures struct {
	header func() http.Header
	write  func([]byte) (int, error)
	status func(int)
	flush  func()
}

func (c closures) Header() http.Header         { return c.header() }
func (c closures) Write(b []byte) (int, error) { return c.write(b) }
func (c closures) WriteHeader(status int)      { c.status(status) }
func (c closures) Flush()                      { c.flush() }

// keeping is a wrapper whose Flush does nothing.
type keeping struct{ around }

func (*keeping) Flush() {}

// itself unwraps to itself, without end.
type itself struct{ http.ResponseWriter }

func (i itself) Unwrap() http.ResponseWriter { return i }

// nobody unwraps to nothing.
type nobody struct{ http.ResponseWriter }

func (nobody) Unwrap() http.ResponseWriter { return nil }

// TestArrives: over real servers, what was flushed through these has arrived or not. If net/http renames what this reads, the
// answers become Unknown, and this fails.
func TestArrives(t *testing.T) {
	for name, test := range map[string]struct {
		wrap func(http.ResponseWriter) http.ResponseWriter
		want doctor.Arrival
	}{
		"net/http's own":     {func(w http.ResponseWriter) http.ResponseWriter { return w }, doctor.Arrived},
		"in a field":         {func(w http.ResponseWriter) http.ResponseWriter { return &around{w} }, doctor.Arrived},
		"in two":             {func(w http.ResponseWriter) http.ResponseWriter { return &around{&around{w}} }, doctor.Arrived},
		"Flush does nothing": {func(w http.ResponseWriter) http.ResponseWriter { return &keeping{around{w}} }, doctor.Withheld},
		"in closures": {func(w http.ResponseWriter) http.ResponseWriter {
			return closures{w.Header, w.Write, w.WriteHeader, w.(http.Flusher).Flush}
		}, doctor.Unknown},
	} {
		for _, http2 := range []bool{false, true} {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
					w = test.wrap(w)
					_, _ = w.Write([]byte("x"))
					_ = http.NewResponseController(w).Flush()
					if got := doctor.Arrives(w); got != test.want {
						t.Errorf("HTTP/2 %t: %d, want %d, through %s", http2, got, test.want, doctor.Chain(w))
					}
				}))
				s.EnableHTTP2 = http2
				s.StartTLS()
				defer s.Close()
				r, err := s.Client().Get(s.URL)
				require.NoError(t, err)
				require.NoError(t, r.Body.Close())
				require.Equal(t, http2, r.ProtoMajor == 2)
			})
		}
	}
}

// TestExamine_OddWriters: whatever a writer is, an answer comes.
func TestExamine_OddWriters(t *testing.T) {
	recorder := httptest.NewRecorder()
	for name, w := range map[string]http.ResponseWriter{
		"of a test":          recorder,
		"itself":             itself{recorder},
		"nobody":             nobody{recorder},
		"a nil pointer":      (*around)(nil),
		"around nothing":     &around{},
		"an unnamed struct":  struct{ http.ResponseWriter }{recorder},
		"an embedded nil":    struct{ *around }{},
		"within another one": &around{itself{nobody{recorder}}},
	} {
		t.Run(name, func(t *testing.T) {
			r := httptest.NewRequest(http.MethodGet, "/", nil)
			r.Header.Set("Sec-WebSocket-Key", "x")
			r.Header.Set("Connection", "upgrade")
			r.Header.Set("Upgrade", "websocket")
			found := doctor.Examine(w, r, doctor.Upgrade)
			require.Len(t, found, 1, "none of them hijacks")
			require.Equal(t, doctor.NoHijack, found[0].Key)
			doctor.Examine(w, r, doctor.Stream)
			require.Equal(t, doctor.Unknown, doctor.Arrives(w))
			require.Equal(t, doctor.Unknown, doctor.Switches(w))
			for _, f := range []doctor.Finding{doctor.Kept(w), doctor.Unswitched(w), doctor.FailedHijack(w, errors.New("no"))} {
				require.NotEmpty(t, f.Text)
				require.NotContains(t, f.Text, "struct {", "the type of an unnamed struct is a page long")
			}
		})
	}
}

// FuzzRefused: what a client sends becomes neither long nor anything but one line of print.
func FuzzRefused(f *testing.F) {
	f.Add("https://a.example", "b.example", "", "https://*.a.example")
	f.Add("null", "b.example:80", "c.example", "http://b.example:80")
	f.Add("https://a\n\x00\u202e", "[::1]:8080", "\xff", "*")
	f.Fuzz(func(t *testing.T, origin, host, forwarded, allowed string) {
		r := &http.Request{Host: host, Header: http.Header{"Origin": {origin}, "X-Forwarded-Host": {forwarded}}}
		found := doctor.Refused(r, nil)
		require.Less(t, len(found.Text), 2500)
		require.LessOrEqual(t, len(found.Subject), 131)
		require.Equal(t, -1, strings.IndexFunc(found.Text, func(r rune) bool { return !unicode.IsPrint(r) }), "%q", found.Text)
		require.NotEmpty(t, doctor.Refused(r, []string{allowed}).Text)
	})
}

// TestDocs: the page for users lists every finding.
func TestDocs(t *testing.T) {
	page, err := os.ReadFile("../../docs/when-nothing-arrives.md")
	require.NoError(t, err)
	code, err := os.ReadFile("findings.go")
	require.NoError(t, err)
	keys := regexp.MustCompile(`(?m)^\t\w+ += "([a-z0-9.-]+)"$`).FindAllStringSubmatch(string(code), -1)
	require.GreaterOrEqual(t, len(keys), 15)
	for _, key := range keys {
		require.Contains(t, string(page), "\n| `"+key[1]+"` |")
	}
}
