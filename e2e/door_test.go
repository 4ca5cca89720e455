//go:build unix

package e2e

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// streamDoor is a door whose answers do not end, as somebody without an SDK uses it.
type streamDoor struct {
	name    string // in the path
	uni     bool   // messages are pushes, and the request is not a command
	request func(ctx context.Context, target, connect string) (*http.Request, error)
	next    func(*bufio.Reader) (string, error)
}

// streamDoors are all of them that speak JSON.
var streamDoors = []streamDoor{
	{name: "http_stream", request: postConnect, next: nextLine},
	{name: "sse", request: getConnect, next: nextEvent},
	{name: "uni_http_stream", uni: true, request: postConnect, next: nextLine},
	{name: "uni_sse", uni: true, request: getConnect, next: nextEvent},
}

func postConnect(ctx context.Context, target, connect string) (*http.Request, error) {
	return http.NewRequestWithContext(ctx, http.MethodPost, target, strings.NewReader(connect))
}

func getConnect(ctx context.Context, target, connect string) (*http.Request, error) {
	return http.NewRequestWithContext(ctx, http.MethodGet, target+"&cf_connect="+url.QueryEscape(connect), nil)
}

func nextLine(r *bufio.Reader) (string, error) {
	line, err := r.ReadString('\n')
	return strings.TrimSuffix(line, "\n"), err
}

func nextEvent(r *bufio.Reader) (string, error) {
	for {
		line, err := nextLine(r)
		if err != nil {
			return "", err
		}
		if data, ok := strings.CutPrefix(line, "data: "); ok {
			return data, nil
		}
	}
}

// listener is a client that reads what one of the doors says, message by message.
type listener struct {
	t        *testing.T
	door     streamDoor
	response *http.Response
	messages chan string // closed at the end of the response
	leave    context.CancelFunc
}

// patience bounds the wait for one message. Only a failure waits for so long.
const patience = 15 * time.Second

// connect is the request that connects a user and subscribes him to a channel.
func (d streamDoor) connect(t *testing.T, ctx context.Context, base, node, user, channel string) *http.Request {
	t.Helper()
	request := fmt.Sprintf(`{"data":{"subs":{%q:{}}}}`, channel)
	if !d.uni {
		request = `{"id":1,"connect":` + request + `}`
	}
	r, err := d.request(ctx, fmt.Sprintf("%s/realtime/%s/%s?user=%s", base, node, d.name, url.QueryEscape(user)), request)
	require.NoError(t, err)
	return r
}

// listen connects a user who is subscribed to a channel, and returns when that is confirmed. edit may change the request.
func (d streamDoor) listen(t *testing.T, base, node, user, channel string, edit func(*http.Request)) *listener {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	r := d.connect(t, ctx, base, node, user, channel)
	if edit != nil {
		edit(r)
	}
	// A transport of its own: nothing is shared, and it decompresses nothing that the test did not ask for.
	transport := &http.Transport{DisableCompression: true, DisableKeepAlives: true}
	opening := time.AfterFunc(patience, cancel) // of the header too
	response, err := transport.RoundTrip(r)
	require.NoError(t, err, "the answer does not begin")
	opening.Stop()
	l := &listener{t: t, door: d, response: response, messages: make(chan string), leave: cancel}
	done := make(chan struct{})
	go func() { // ends with the response, which ends with ctx at the latest; the cleanup waits for it
		defer close(done)
		defer close(l.messages)
		defer response.Body.Close()
		l.read(ctx)
	}()
	t.Cleanup(func() {
		cancel()
		<-done
	})
	require.Equal(t, http.StatusOK, response.StatusCode)
	return l
}

func (l *listener) read(ctx context.Context) {
	var body io.Reader = l.response.Body
	if l.response.Header.Get("Content-Encoding") == "gzip" {
		unzipped, err := gzip.NewReader(body)
		if err != nil {
			return
		}
		body = unzipped
	}
	for r := bufio.NewReader(body); ; {
		m, err := l.door.next(r)
		if err != nil {
			return
		}
		select {
		case l.messages <- m:
		case <-ctx.Done():
			return
		}
	}
}

// next is the next message, a ping included.
func (l *listener) next() string {
	l.t.Helper()
	select {
	case m, ok := <-l.messages:
		require.True(l.t, ok, "%s: the answer has ended", l.door.name)
		return m
	case <-time.After(patience):
		require.FailNow(l.t, "no message", "%s: none within %v", l.door.name, patience)
		return ""
	}
}

// connected expects the answer to the connect request.
func (l *listener) connected() {
	l.t.Helper()
	var m struct {
		Connect *struct{ Client string }
	}
	require.NoError(l.t, json.Unmarshal([]byte(l.next()), &m))
	require.NotNil(l.t, m.Connect)
	require.NotEmpty(l.t, m.Connect.Client)
}

// publication is the data of the next message, which must be one.
func (l *listener) publication() string {
	l.t.Helper()
	var m struct {
		Push json.RawMessage // of a bidirectional door
		Pub  *struct{ Data json.RawMessage }
	}
	text := l.next()
	require.NoError(l.t, json.Unmarshal([]byte(text), &m))
	if m.Push != nil {
		require.NoError(l.t, json.Unmarshal(m.Push, &m))
	}
	require.NotNil(l.t, m.Pub, "message %s", text)
	return string(bytes.TrimSpace(m.Pub.Data))
}

// ended expects the end of the answer.
func (l *listener) ended() {
	l.t.Helper()
	select {
	case m, ok := <-l.messages:
		require.False(l.t, ok, "%s: got %q, not an end", l.door.name, m)
	case <-time.After(patience):
		require.FailNow(l.t, "no end", "%s: none within %v", l.door.name, patience)
	}
}

// requireLeft expects that the app is told of the end of a user's only connection.
func (s *server) requireLeft(t *testing.T, user string) {
	t.Helper()
	require.Eventually(t, func() bool {
		var told page
		s.diary.note(user, func(p *page) { told.Disconnects = append(told.Disconnects, p.Disconnects...) })
		return len(told.Disconnects) == 1
	}, patience, 10*time.Millisecond, "the app is not told that %s has left", user)
}
