//go:build unix

package e2e

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// throughNginx runs a test for each door that streams, all behind one nginx.
func throughNginx(t *testing.T, config string, test func(t *testing.T, s *server, base string, d streamDoor)) {
	t.Helper()
	lookNginx(t)
	t.Parallel()
	s := newServer(t, false)
	base := startNginx(t, s.URL, config)
	t.Run("doors", func(t *testing.T) { // returns when all have ended, before nginx does
		for _, d := range streamDoors {
			t.Run(d.name, func(t *testing.T) {
				t.Parallel()
				test(t, s, base, d)
			})
		}
	})
}

// requireEachAtOnce publishes a message only when the one before has come.
func requireEachAtOnce(t *testing.T, s *server, l *listener, channel string) {
	t.Helper()
	for i := range 20 {
		_, err := s.node("main").Publish(context.Background(), channel, fmt.Appendf(nil, "%d", i))
		require.NoError(t, err)
		require.Equal(t, fmt.Sprint(i), l.publication())
	}
}

func TestNginx_DefaultsHoldNothingBack(t *testing.T) {
	throughNginx(t, nginxDefault, func(t *testing.T, s *server, base string, d streamDoor) {
		l := d.listen(t, base, "main", d.name, "public:"+d.name, nil)
		l.connected()
		requireEachAtOnce(t, s, l, "public:"+d.name)
	})
}

// Without the header that nginx is told here to ignore, it does hold back, the beginning of the answer too: the test above would
// see it.
func TestNginx_HoldsBackWithoutTheHeader(t *testing.T) {
	config := `location / { proxy_pass http://app; proxy_ignore_headers X-Accel-Buffering; }`
	throughNginx(t, config, func(t *testing.T, s *server, base string, d streamDoor) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		channel := "stream:" + d.name
		r := d.connect(t, ctx, base, "main", d.name, channel)
		began := make(chan error, 1)
		go func() { // ends with ctx, and the test waits for it
			_, err := (&http.Transport{}).RoundTrip(r)
			began <- err
		}()
		require.Eventually(t, func() bool {
			stats, err := s.node("main").PresenceStats(ctx, channel)
			return err == nil && stats.Clients == 1
		}, patience, 10*time.Millisecond, "it is not there")
		time.Sleep(500 * time.Millisecond) // for an answer to come that does not
		cancel()
		require.ErrorIs(t, <-began, context.Canceled)
		s.requireLeft(t, d.name)
	})
}

func TestNginx_GzipHoldsNothingBack(t *testing.T) {
	config := `gzip on; gzip_types *; gzip_proxied any; gzip_min_length 0;` + nginxDefault
	throughNginx(t, config, func(t *testing.T, s *server, base string, d streamDoor) {
		channel := "public:" + d.name
		l := d.listen(t, base, "main", d.name, channel, func(r *http.Request) { r.Header.Set("Accept-Encoding", "gzip") })
		require.Equal(t, "gzip", l.response.Header.Get("Content-Encoding"))
		l.connected()
		requireEachAtOnce(t, s, l, channel)
	})
}

func TestNginx_PassesOnThatAClientLeaves(t *testing.T) {
	for name, config := range map[string]string{"default": nginxDefault, "recommended": nginxRecommended} {
		t.Run(name, func(t *testing.T) {
			throughNginx(t, config, func(t *testing.T, s *server, base string, d streamDoor) {
				l := d.listen(t, base, "main", d.name, "public:"+d.name, nil)
				l.connected()
				l.leave()
				s.requireLeft(t, d.name)
			})
		})
	}
}

// The server's end comes through, too: with HTTP/1.0 it is that of the connection.
func TestNginx_PassesOnTheEnd(t *testing.T) {
	throughNginx(t, nginxDefault, func(t *testing.T, s *server, base string, d streamDoor) {
		l := d.listen(t, base, "main", d.name, "public:"+d.name, nil)
		l.connected()
		require.NoError(t, s.node("main").Disconnect(context.Background(), d.name, nil))
		require.Contains(t, l.next(), `"disconnect":{"code":3503,`)
		l.ended()
	})
}

// nginxImpatient ends what is silent for some seconds.
func nginxImpatient(seconds int) string {
	return strings.Replace(nginxDefault, "}", fmt.Sprintf("proxy_read_timeout %ds; }", seconds), 1)
}

func TestNginx_PingsKeepAnIdleStream(t *testing.T) {
	// The pings come every other second. A busy machine sends them late.
	throughNginx(t, nginxImpatient(5), func(t *testing.T, s *server, base string, d streamDoor) {
		if !d.uni {
			t.Skip("its pings want answers: TestSDK_BehindNginx has a client that gives them")
		}
		begin := time.Now()
		l := d.listen(t, base, "fast", d.name, "public:"+d.name, nil)
		l.connected()
		for range 4 {
			require.Equal(t, "{}", l.next())
		}
		require.Greater(t, time.Since(begin), 5*time.Second, "four pings")
		_, err := s.node("fast").Publish(context.Background(), "public:"+d.name, []byte(`"here"`))
		require.NoError(t, err)
		m := l.next()
		for m == "{}" {
			m = l.next()
		}
		require.Contains(t, m, `"here"`)
	})
}

// The test above would see the timeout: without pings it ends the stream, and the app is told.
func TestNginx_EndsAnIdleStreamWithoutPings(t *testing.T) {
	// The answer must begin within the time, too.
	throughNginx(t, nginxImpatient(3), func(t *testing.T, s *server, base string, d streamDoor) {
		l := d.listen(t, base, "main", d.name, "public:"+d.name, nil)
		l.connected()
		l.ended()
		s.requireLeft(t, d.name)
	})
}

// A page that came through nginx has nginx's address for its origin. The app knows it as its own only if it is told the Host.
func TestNginx_TheHostDecidesAboutOrigins(t *testing.T) {
	for name, tt := range map[string]struct {
		config string
		status int
	}{
		"default":     {nginxDefault, http.StatusForbidden},
		"recommended": {nginxRecommended, http.StatusOK},
	} {
		t.Run(name, func(t *testing.T) {
			throughNginx(t, tt.config, func(t *testing.T, s *server, base string, d streamDoor) {
				r, err := d.request(t.Context(), base+"/realtime/main/"+d.name+"?user="+d.name, `{"id":1,"connect":{}}`)
				require.NoError(t, err)
				r.Header.Set("Origin", base)
				transport := &http.Transport{DisableKeepAlives: true}
				response, err := transport.RoundTrip(r)
				require.NoError(t, err)
				require.NoError(t, response.Body.Close())
				require.Equal(t, tt.status, response.StatusCode)
			})
		})
	}
}
