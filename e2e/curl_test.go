//go:build unix

package e2e

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/url"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// directAndBehindNginx runs a test against an app, and against the same behind an nginx of which nobody thought of streams.
func directAndBehindNginx(t *testing.T, test func(t *testing.T, s *server, base string)) {
	t.Run("direct", func(t *testing.T) {
		s := newServer(t, false)
		test(t, s, s.URL)
	})
	for name, config := range map[string]string{"nginx": nginxDefault, "nginx with gzip": `gzip on; gzip_types *; gzip_proxied any; gzip_min_length 0;` + nginxDefault} {
		t.Run(name, func(t *testing.T) {
			s := newServer(t, false)
			test(t, s, startNginx(t, s.URL, config))
		})
	}
}

func curl(t *testing.T, ctx context.Context, args ...string) *exec.Cmd {
	t.Helper()
	path, err := exec.LookPath("curl")
	if err != nil {
		unavailable(t, "curl")
	}
	return exec.CommandContext(ctx, path, append([]string{"--silent", "--show-error", "--fail-with-body", "--compressed"}, args...)...)
}

// polled is an answer of the door for long polling.
type polled struct {
	Cursor string
	Events []struct {
		Type, Channel string
		Data          json.RawMessage
	}
}

func (p polled) data() (list []string) {
	for _, e := range p.Events {
		list = append(list, strings.TrimSpace(e.Type+" "+string(e.Data)))
	}
	return list
}

func TestCurl_Polls(t *testing.T) {
	directAndBehindNginx(t, func(t *testing.T, s *server, base string) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		poll := func(query string) (p polled) {
			out, err := curl(t, ctx, base+"/realtime/main/poll?user=ann&channel=stream:1&channel=html:1"+query).Output()
			require.NoError(t, err, "%s", out)
			require.NoError(t, json.Unmarshal(out, &p), "%s", out)
			return p
		}
		publish := func(channel, data string) {
			_, err := s.node("main").Publish(ctx, channel, []byte(data))
			require.NoError(t, err)
		}
		first := poll("")
		require.Empty(t, first.Events)
		publish("stream:1", `{"a":1}`)
		publish("html:1", "<b>\n</b>")
		missed := poll("&cursor=" + first.Cursor)
		require.ElementsMatch(t, []string{`publication {"a":1}`, `publication "<b>\n</b>"`}, missed.data())

		waiting := make(chan polled, 1)
		before := s.network.requests("ann")
		go func() { waiting <- poll("&wait=30s&cursor=" + missed.Cursor) }()
		require.Eventually(t, func() bool { return s.network.requests("ann") > before }, patience, 10*time.Millisecond, "nobody asks")
		publish("stream:1", `2`)
		next := <-waiting
		require.Equal(t, []string{"publication 2"}, next.data())
		require.Empty(t, poll("&wait=100ms&cursor="+next.Cursor).Events)

		out, err := curl(t, ctx, base+"/realtime/main/poll?user=ann&channel=closed:1").Output()
		require.Error(t, err, "a status of 403")
		require.Contains(t, string(out), "channel closed:1: permission denied")
	})
}

// listened is a stream of events as curl shows it.
type listened struct {
	t     *testing.T
	lines *bufio.Reader
	id    string
	leave func()
}

func (l *listened) next() (text string) {
	l.t.Helper()
	var name string
	var data []string
	for {
		line, err := l.lines.ReadString('\n')
		require.NoError(l.t, err)
		switch key, value, _ := strings.Cut(strings.TrimSuffix(line, "\n"), ": "); {
		case key == "event":
			name = value
		case key == "id":
			l.id = value
		case key == "data":
			data = append(data, value)
		case line == "\n" && data != nil:
			return name + " " + strings.Join(data, "\n")
		}
	}
}

func TestCurl_Listens(t *testing.T) {
	directAndBehindNginx(t, func(t *testing.T, s *server, base string) {
		listen := func(lastID string) *listened {
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			args := []string{"--no-buffer", base + "/realtime/main/events?user=ann&channel=stream:1&channel=" + url.QueryEscape("html:1")}
			if lastID != "" {
				args = append([]string{"--header", "Last-Event-ID: " + lastID}, args...)
			}
			cmd := curl(t, ctx, args...)
			stdout, err := cmd.StdoutPipe()
			require.NoError(t, err)
			require.NoError(t, cmd.Start())
			leave := func() {
				cancel()
				_, _ = io.Copy(io.Discard, stdout)
				_ = cmd.Wait() // killed
			}
			t.Cleanup(leave)
			return &listened{t: t, lines: bufio.NewReader(stdout), leave: leave}
		}
		publish := func(channel, data string) {
			_, err := s.node("main").Publish(t.Context(), channel, []byte(data))
			require.NoError(t, err)
		}
		l := listen("")
		require.Equal(t, "ready {}", l.next())
		for i := range 20 { // each only when the one before has come
			publish("stream:1", fmt.Sprint(i))
			require.Equal(t, fmt.Sprint("publication ", i), l.next())
		}
		publish("html:1", "<b>\n</b>")
		require.Equal(t, "publication <b>\n</b>", l.next())
		l.leave()
		s.requireLeft(t, "ann")

		publish("html:1", "missed")
		publish("stream:1", `"missed"`)
		again := listen(l.id)
		require.ElementsMatch(t, []string{"publication missed", `publication "missed"`}, []string{again.next(), again.next()})
		require.Equal(t, "ready {}", again.next())
	})
}
