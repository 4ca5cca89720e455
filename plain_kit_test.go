package fanfare_test

import (
	"bufio"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare"
)

// plainApp is an app as the plain doors meet it: its login is the query parameter "user", and "who" decides about it.
type plainApp struct {
	*watched
	url string
}

// plain makes a node behind a real server, with channels of every kind.
func plain(t *testing.T, change ...func(*fanfare.Config)) *plainApp {
	t.Helper()
	c := fanfare.Config{Authenticate: func(_ context.Context, r *fanfare.ConnectRequest) (fanfare.Identity, error) {
		id := fanfare.Identity{User: r.HTTP.URL.Query().Get("user")}
		switch id.User {
		case "nobody":
			return id, fanfare.ErrUnauthorized
		case "banned":
			return id, &fanfare.Disconnect{Code: 4500, Reason: "banned"}
		case "unlucky":
			return id, fanfare.ErrInternal
		case "owner":
			id.Subscriptions = map[string]fanfare.SubscribeReply{"own": {}}
		}
		return id, nil
	}}
	for _, f := range change {
		f(&c)
	}
	node := watch(t, c)
	history := fanfare.History{Size: 10, TTL: time.Hour}
	node.Channel("room:{id}", fanfare.ChannelOptions{Public: true, History: history, Presence: true, JoinLeave: true})
	node.Channel("html:{id}", fanfare.ChannelOptions{Public: true, History: history, Payload: fanfare.PayloadText})
	node.Channel("bytes", fanfare.ChannelOptions{Public: true, Payload: fanfare.PayloadBinary})
	node.Channel("talk:{id}", fanfare.ChannelOptions{Public: true, History: fanfare.History{Size: 5000, TTL: time.Hour}, Presence: true})
	node.Channel("tagged:{id}", fanfare.ChannelOptions{Public: true, History: history, TagsFilter: true})
	node.Channel("forced:{id}", fanfare.ChannelOptions{Public: true, Presence: true, ForceJoinLeave: true})
	node.Channel("said:{id}", fanfare.ChannelOptions{Public: true, History: history, AllowPublish: fanfare.Anyone})
	node.Channel("off", fanfare.ChannelOptions{Public: true, History: history, Recovery: fanfare.RecoveryOff})
	node.Channel("live", fanfare.ChannelOptions{Public: true})
	node.Channel("latest", fanfare.ChannelOptions{Public: true, History: history, Recovery: fanfare.RecoveryCacheAlways})
	node.Channel("own", fanfare.ChannelOptions{History: history})
	node.Channel("closed", fanfare.ChannelOptions{})
	node.Channel("full", fanfare.ChannelOptions{Public: true, MaxSubscribers: 1})
	node.Channel("{name}", fanfare.ChannelOptions{Public: true})
	s := httptest.NewServer(node)
	t.Cleanup(s.Close)
	return &plainApp{node, s.URL}
}

// get makes a request, and returns its answer, which may be one that does not end.
func (a *plainApp) get(t *testing.T, door, query string, header ...string) *http.Response {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	t.Cleanup(cancel)
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, a.url+"/"+door+"?"+query, nil)
	require.NoError(t, err)
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	response, err := (&http.Transport{DisableKeepAlives: true}).RoundTrip(r)
	require.NoError(t, err)
	t.Cleanup(func() { _ = response.Body.Close() })
	return response
}

// bodyOf reads an answer to its end.
func bodyOf(t *testing.T, r *http.Response) string {
	t.Helper()
	body, err := io.ReadAll(r.Body)
	require.NoError(t, err)
	return string(body)
}

// serverEvent is an event as EventSource makes it of a stream.
type serverEvent struct{ Type, ID, Data string }

// eventSource reads a stream by the rules of the HTML standard.
type eventSource struct {
	response *http.Response
	lines    *bufio.Scanner
	lastID   string
	retry    string
	comments int
}

// events opens a stream.
func (a *plainApp) events(t *testing.T, query string, header ...string) *eventSource {
	t.Helper()
	r := a.get(t, "events", query, header...)
	if r.StatusCode != http.StatusOK {
		require.Equal(t, http.StatusOK, r.StatusCode, bodyOf(t, r))
	}
	require.Equal(t, "text/event-stream; charset=utf-8", r.Header.Get("Content-Type"))
	return newEventSource(r)
}

func newEventSource(r *http.Response) *eventSource {
	s := &eventSource{response: r, lines: bufio.NewScanner(r.Body)}
	s.lines.Buffer(nil, 4<<20)
	s.lines.Split(eventLines)
	return s
}

// eventLines splits at LF, CR, and both.
func eventLines(data []byte, atEOF bool) (advance int, token []byte, err error) {
	i := strings.IndexAny(string(data), "\r\n")
	switch {
	case i < 0:
		return 0, nil, nil // the standard discards a line without an end
	case data[i] == '\r' && i+1 == len(data) && !atEOF:
		return 0, nil, nil
	case data[i] == '\r' && i+1 < len(data) && data[i+1] == '\n':
		return i + 2, data[:i], nil
	}
	return i + 1, data[:i], nil
}

// read returns the next event, or io.EOF.
func (s *eventSource) read() (serverEvent, error) {
	e := serverEvent{Type: "message"}
	var data []string
	for s.lines.Scan() {
		field, value, _ := strings.Cut(s.lines.Text(), ":")
		value = strings.TrimPrefix(value, " ")
		switch {
		case s.lines.Text() == "" && data != nil:
			e.ID, e.Data = s.lastID, strings.Join(data, "\n")
			return e, nil
		case s.lines.Text() == "":
			e.Type = "message"
		case field == "":
			s.comments++
		case field == "event":
			e.Type = value
		case field == "data":
			data = append(data, value)
		case field == "id":
			s.lastID = value
		case field == "retry":
			s.retry = value
		}
	}
	if err := s.lines.Err(); err != nil {
		return e, err
	}
	return e, io.EOF
}

// next returns the next event as "type data".
func (s *eventSource) next(t *testing.T) string {
	t.Helper()
	e, err := s.read()
	require.NoError(t, err)
	return e.Type + " " + e.Data
}

func (s *eventSource) requireNext(t *testing.T, want ...string) {
	t.Helper()
	for _, w := range want {
		require.Equal(t, w, s.next(t))
	}
}

// requireNextOf requires events of these types, in any order.
func (s *eventSource) requireNextOf(t *testing.T, types ...string) {
	t.Helper()
	var got []string
	for range types {
		name, _, _ := strings.Cut(s.next(t), " ")
		got = append(got, name)
	}
	require.ElementsMatch(t, types, got)
}

// requireEnd requires that nothing comes any more.
func (s *eventSource) requireEnd(t *testing.T) {
	t.Helper()
	e, err := s.read()
	require.ErrorIs(t, err, io.EOF, "%v", e)
}

func (s *eventSource) close() { _ = s.response.Body.Close() }

// answer is that of a poll.
type answer struct {
	Cursor string
	Events []struct {
		Type, Channel string
		Data          json.RawMessage
		Info          *struct {
			User, Client string
			ConnInfo     json.RawMessage `json:"conn_info"`
		}
		Tags   map[string]string
		Code   uint32
		Reason string
	}
}

// poll makes a request that is answered with events.
func (a *plainApp) poll(t *testing.T, query string) (got answer, told []string) {
	t.Helper()
	r := a.get(t, "poll", query)
	body := bodyOf(t, r)
	require.Equal(t, http.StatusOK, r.StatusCode, body)
	require.Equal(t, "application/json", r.Header.Get("Content-Type"))
	require.NoError(t, json.Unmarshal([]byte(body), &got), body)
	require.NotEmpty(t, got.Cursor)
	for _, e := range got.Events {
		told = append(told, strings.TrimSpace(e.Type+" "+e.Channel+" "+string(e.Data)))
	}
	return got, told
}

// after is the query that goes on behind a cursor.
func after(cursor, query string) string { return query + "&cursor=" + url.QueryEscape(cursor) }
