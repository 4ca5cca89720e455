package fanfare_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare"
	"github.com/fanfare-go/fanfare/internal/cursor"
)

func TestEvents_PayloadsAsTheyAre(t *testing.T) {
	t.Parallel()
	a := plain(t)
	s := a.events(t, "channel=room:1&channel=html:1&channel=live")
	s.requireNext(t, "ready {}")
	payloads := map[string][]string{
		"room:1": {`{"text":"hi"}`, "{\n  \"pretty\": [\r\n\t1 ]\n}", `""`, `"\u2028 </script> 🎺"`},
		"html:1": {"<tr>\n  <td>1</td>\n</tr>\n", "", "\n", "a\n\nb", ": no comment", "data: no field", " leading", "\x00 ü"},
		"live":   {`null`},
	}
	for channel, list := range payloads {
		for _, payload := range list {
			requirePublish(t, a.Node, channel, payload)
			want := strings.ReplaceAll(payload, "\r\n", "\n")
			require.Equal(t, "publication "+want, s.next(t), "%q", payload)
		}
	}
	t.Run("every kind of line end is one", func(t *testing.T) {
		requirePublish(t, a.Node, "html:1", "a\rb\r\nc\nd\r\n\re\r")
		s.requireNext(t, "publication a\nb\nc\nd\n\ne\n")
	})
	s.close()
	a.requireNobody(t)
}

// requireNobody waits until the last client has left.
func (a *plainApp) requireNobody(t *testing.T) {
	t.Helper()
	(&served{watched: a.watched}).requireEmpty(t)
}

func TestEvents_OneIDResumesAllChannels(t *testing.T) {
	t.Parallel()
	a := plain(t)
	query := "channel=room:1&channel=room:2&channel=live&event=channel"
	s := a.events(t, query)
	s.requireNext(t, "ready {}")
	requirePublish(t, a.Node, "room:1", `1`)
	requirePublish(t, a.Node, "room:2", `2`)
	seen := []string{s.next(t), s.next(t)}
	require.ElementsMatch(t, []string{"room:1 1", "room:2 2"}, seen)
	s.close()
	a.requireNobody(t)

	requirePublish(t, a.Node, "room:1", `3`)
	requirePublish(t, a.Node, "room:2", `4`)
	requirePublish(t, a.Node, "room:1", `5`)
	for name, resume := range map[string]func() *eventSource{
		"the header": func() *eventSource { return a.events(t, query, "Last-Event-ID", s.lastID) },
		"the query":  func() *eventSource { return a.events(t, after(s.lastID, query)) },
		"the header is newer than the query": func() *eventSource {
			return a.events(t, after(fanfare.EncodeCursor(nil), query), "Last-Event-ID", s.lastID)
		},
	} {
		t.Run(name, func(t *testing.T) {
			again := resume()
			got := make(map[string][]string)
			for range 3 {
				channel, data, _ := strings.Cut(again.next(t), " ")
				got[channel] = append(got[channel], data)
			}
			require.Equal(t, map[string][]string{"room:1": {"3", "5"}, "room:2": {"4"}}, got)
			again.requireNext(t, "ready {}")
			again.close()
		})
	}
	t.Run("also from the middle of what was missed", func(t *testing.T) {
		again := a.events(t, query, "Last-Event-ID", s.lastID)
		first := again.next(t)
		again.close()
		rest := a.events(t, query, "Last-Event-ID", again.lastID)
		require.ElementsMatch(t, []string{"room:1 3", "room:1 5", "room:2 4"}, []string{first, rest.next(t), rest.next(t)})
		rest.requireNext(t, "ready {}")
	})
	t.Run("a channel that is new begins now", func(t *testing.T) {
		more := a.events(t, "channel=room:3&"+query, "Last-Event-ID", s.lastID)
		for range 3 {
			require.NotContains(t, more.next(t), "room:3")
		}
		more.requireNext(t, "ready {}")
	})
}

// otherVersion is a cursor of version 2.
const otherVersion = "s0YjpgI"

// What one channel brings may be much while another is still asked for.
func TestEvents_MuchBeforeAllIsReady(t *testing.T) {
	t.Parallel()
	for name, size := range map[string]int{"more than a piece": 10_000, "more than waits": 60_000} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			release := make(chan struct{})
			a := plain(t, func(c *fanfare.Config) { c.MaxQueueSize = 8 << 20 })
			a.Channel("slow", fanfare.ChannelOptions{Subscribe: func(context.Context, *fanfare.SubscribeRequest) (fanfare.SubscribeReply, error) {
				<-release
				return fanfare.SubscribeReply{}, nil
			}})
			query := "channel=talk:1&channel=slow"
			cursor, err := a.Cursor(t.Context(), "talk:1")
			require.NoError(t, err)
			const messages = 40
			for range messages {
				requirePublish(t, a.Node, "talk:1", `"`+strings.Repeat("x", size)+`"`)
			}
			time.AfterFunc(300*time.Millisecond, func() { close(release) })
			s := a.events(t, after(cursor, query))
			for range messages {
				require.Len(t, s.next(t), len("publication ")+size+2)
			}
			s.requireNext(t, "ready {}")
		})
	}
	t.Run("small messages with long ids", func(t *testing.T) {
		t.Parallel()
		a := plain(t)
		query := strings.TrimPrefix(manyChannels(60), "&") + "&channel=talk:1"
		s := a.events(t, query)
		s.requireNext(t, "ready {}")
		s.close()
		for range 40 {
			requirePublish(t, a.Node, "talk:1", `"hi"`)
		}
		again := a.events(t, query, "Last-Event-ID", s.lastID)
		for range 40 {
			again.requireNext(t, `publication "hi"`)
		}
		again.requireNext(t, "ready {}")
	})
}

// A cursor is not signed: it must not make the server say much.
func TestEvents_AForgedCursor(t *testing.T) {
	t.Parallel()
	a := plain(t)
	var e cursor.Encoder
	entries := make([]cursor.Entry, 4000)
	for i := range entries {
		entries[i] = cursor.Entry{Channel: fmt.Sprint(i), Named: true}
	}
	r := a.get(t, "events", "channel=room:1&cursor="+string(e.Append(nil, entries[:2000])))
	require.Equal(t, 400, r.StatusCode)
	s := a.events(t, "channel=room:1&cursor="+string(e.Append(nil, entries[:128])))
	for range 128 {
		require.Contains(t, s.next(t), "unsubscribe ")
		require.Less(t, len(s.lastID), 100)
	}
	s.requireNext(t, "ready {}")
}

func TestEvents_AGapIsTold(t *testing.T) {
	t.Parallel()
	a := plain(t)
	s := a.events(t, "channel=room:1&channel=room:2")
	s.requireNext(t, "ready {}")
	s.close()
	for i := range 20 {
		requirePublish(t, a.Node, "room:1", strconv.Itoa(i))
	}
	requirePublish(t, a.Node, "room:2", `"kept"`)
	again := a.events(t, "channel=room:1&channel=room:2", "Last-Event-ID", s.lastID)
	require.ElementsMatch(t, []string{`gap {"channel":"room:1"}`, `publication "kept"`}, []string{again.next(t), again.next(t)})
	again.requireNext(t, "ready {}")
	again.close()
	t.Run("once", func(t *testing.T) {
		s := a.events(t, "channel=room:1&channel=room:2", "Last-Event-ID", again.lastID)
		s.requireNext(t, "ready {}")
	})
	t.Run("by a cursor of another version", func(t *testing.T) {
		s := a.events(t, "channel=room:1&cursor="+otherVersion)
		s.requireNext(t, `gap {"channel":"room:1"}`, "ready {}")
	})
	t.Run("by another life of the channel", func(t *testing.T) {
		cursor := fanfare.EncodeCursor(map[string]fanfare.Position{"room:1": {Offset: 20, Epoch: "another"}})
		s := a.events(t, after(cursor, "channel=room:1"))
		s.requireNext(t, `gap {"channel":"room:1"}`, "ready {}")
	})
}

func TestEvents_OtherEvents(t *testing.T) {
	t.Parallel()
	a := plain(t)
	s := a.events(t, "channel=room:1&channel=live&user=ann&join_leave=true")
	// The join is published after the subscription began, so ready may be first.
	var join struct{ Channel, User, Client string }
	for _, e := range []string{s.next(t), s.next(t)} {
		if name, data, _ := strings.Cut(e, " "); name == "join" {
			require.NoError(t, json.Unmarshal([]byte(data), &join))
		} else {
			require.Equal(t, "ready {}", e)
		}
	}
	require.Equal(t, []string{"room:1", "ann"}, []string{join.Channel, join.User})
	require.NotEmpty(t, join.Client)
	bob := a.events(t, "channel=room:1&user=bob")
	require.Regexp(t, `^join {"channel":"room:1","user":"bob","client":"[^"]+"}$`, s.next(t))
	bob.close()
	require.Regexp(t, `^leave {"channel":"room:1","user":"bob","client":"[^"]+"}$`, s.next(t))

	require.NoError(t, a.Unsubscribe(t.Context(), "ann", "live"))
	s.requireNext(t, `unsubscribe {"channel":"live","code":2000,"reason":"server unsubscribe"}`)
	require.NoError(t, a.Subscribe(t.Context(), "ann", "own", fanfare.SubscribeReply{}))
	requirePublish(t, a.Node, "own", `1`)
	s.requireNext(t, "publication 1")
	require.NoError(t, a.Disconnect(t.Context(), "ann", fanfare.DisconnectForce))
	s.requireNext(t, `disconnect {"code":3503,"reason":"force disconnect"}`)
	s.requireEnd(t)
	require.NotEmpty(t, s.retry)
	a.requireNobody(t)
}

func TestEvents_TheServersOwnSubscriptions(t *testing.T) {
	t.Parallel()
	a := plain(t)
	s := a.events(t, "user=owner&event=channel")
	s.requireNext(t, "ready {}")
	requirePublish(t, a.Node, "own", `1`)
	s.requireNext(t, "own 1")
	s.close()
	requirePublish(t, a.Node, "own", `2`)
	again := a.events(t, "user=owner&event=channel", "Last-Event-ID", s.lastID)
	again.requireNext(t, "own 2", "ready {}")
	t.Run("asked for as well", func(t *testing.T) {
		s := a.events(t, "user=owner&channel=own&event=channel", "Last-Event-ID", s.lastID)
		s.requireNext(t, "own 2", "ready {}")
	})
	t.Run("gone", func(t *testing.T) {
		s := a.events(t, "user=ann&channel=live&event=channel", "Last-Event-ID", s.lastID)
		s.requireNext(t, `unsubscribe {"channel":"own","code":2000,"reason":"server unsubscribe"}`, "ready {}")
		at, err := fanfare.DecodeCursor(s.lastID, "own")
		require.NoError(t, err)
		require.Empty(t, at, "and forgotten")
	})
	t.Run("after a cursor that cannot be read", func(t *testing.T) {
		for _, query := range []string{"user=owner", "user=owner&channel=own"} {
			s := a.events(t, query+"&cursor="+otherVersion)
			s.requireNext(t, `gap {"channel":"own"}`, "ready {}")
		}
	})
	t.Run("once asked for, now given", func(t *testing.T) {
		cursor := fanfare.EncodeCursor(map[string]fanfare.Position{"own": {Offset: 1, Epoch: "x"}})
		s := a.events(t, after(cursor, "user=owner"))
		s.requireNext(t, `gap {"channel":"own"}`, "ready {}")
	})
}

func TestEvents_TheNewestAlways(t *testing.T) {
	t.Parallel()
	a := plain(t)
	for i := range 3 {
		requirePublish(t, a.Node, "latest", strconv.Itoa(i))
	}
	s := a.events(t, "channel=latest")
	s.requireNext(t, "publication 2", "ready {}")
	s.close()
	t.Run("unless it is known", func(t *testing.T) {
		s := a.events(t, "channel=latest", "Last-Event-ID", s.lastID)
		s.requireNext(t, "ready {}")
	})
}

// Who was sent away, and is let in again, has missed something.
func TestEvents_BackAfterAnUnsubscribe(t *testing.T) {
	t.Parallel()
	a := plain(t)
	s := a.events(t, "channel=room:1&user=ann")
	s.requireNext(t, "ready {}")
	require.NoError(t, a.Unsubscribe(t.Context(), "ann", "room:1"))
	s.requireNext(t, `unsubscribe {"channel":"room:1","code":2000,"reason":"server unsubscribe"}`)
	s.close()
	again := a.events(t, "channel=room:1&user=ann", "Last-Event-ID", s.lastID)
	again.requireNext(t, `gap {"channel":"room:1"}`, "ready {}")
}

func TestCursor(t *testing.T) {
	t.Parallel()
	a := plain(t)
	requirePublish(t, a.Node, "room:1", `1`)
	cursor, err := a.Cursor(t.Context(), "room:1", "live", "latest", "off", "html:9")
	require.NoError(t, err)
	requirePublish(t, a.Node, "room:1", `2`)
	s := a.events(t, after(cursor, "channel=room:1&channel=live&channel=latest&channel=off&channel=html:9"))
	s.requireNext(t, "publication 2", "ready {}") // and no gaps where there is nothing
	at, err := fanfare.DecodeCursor(cursor, "room:1", "live", "off")
	require.NoError(t, err)
	require.Len(t, at, 1)
	require.EqualValues(t, 1, at["room:1"].Offset)
	require.Equal(t, cursor, fanfare.EncodeCursor(map[string]fanfare.Position{"room:1": at["room:1"], "latest": top(t, a, "latest"), "html:9": top(t, a, "html:9")}))

	_, err = a.Cursor(t.Context(), "un:known")
	require.ErrorIs(t, err, fanfare.ErrUnknownChannel)
	_, err = fanfare.DecodeCursor("nonsense", "room:1")
	require.ErrorIs(t, err, fanfare.ErrBadRequest)
	t.Run("a poll of an empty cache waits", func(t *testing.T) {
		_, told := a.poll(t, after(cursor, "channel=latest&wait=50ms"))
		require.Empty(t, told)
	})
}

func top(t *testing.T, a *plainApp, channel string) fanfare.Position {
	t.Helper()
	h, err := a.History(t.Context(), channel, fanfare.HistoryQuery{})
	require.NoError(t, err)
	return h.Position
}

// refusals are the same for both plain doors.
var refusals = map[string]struct {
	query  string
	status int
	text   string
}{
	"nothing asked":           {"", 400, "no channel"},
	"an empty channel":        {"channel=", 400, "channel is empty"},
	"no UTF-8":                {"channel=%ff", 400, "channel is not UTF-8"},
	"a malformed query":       {"channel=%zz", 400, "malformed query"},
	"a malformed cursor":      {"channel=live&cursor=nonsense", 400, "cursor: malformed cursor"},
	"half a cursor":           {"channel=live&cursor=AAAAAAEA", 400, "cursor: malformed cursor"},
	"a long cursor":           {"channel=live&cursor=" + strings.Repeat("A", 40_000), 400, "cursor: malformed cursor"},
	"neither true nor false":  {"channel=live&join_leave=perhaps", 400, "join_leave is neither true nor false"},
	"no filter":               {"channel=live&filter=[]", 400, "filter is no tags filter"},
	"a filter nobody allows":  {"channel=live&filter=" + url.QueryEscape(`{"key":"k","cmp":"ex"}`), 400, "bad request"},
	"a malformed filter":      {"channel=tagged:1&filter={}", 400, "channel tagged:1: bad request"},
	"a name that is too long": {"channel=" + strings.Repeat("x", 300), 400, "bad request"},
	"not logged in":           {"channel=live&user=nobody", 401, "unauthorized"},
	"not permitted":           {"channel=live&channel=closed", 403, "channel closed: permission denied"},
	"the app's disconnect":    {"channel=live&user=banned", 403, "banned"},
	"unknown":                 {"channel=live&channel=un:known", 404, "channel un:known: unknown channel"},
	"bytes":                   {"channel=bytes", 406, "channel bytes: not available"},
	"too many channels":       {"channel=live" + manyChannels(200), 429, "limit exceeded"},
}

func manyChannels(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "&channel=room:%d", i)
	}
	return b.String()
}

func TestPlainDoors_Refuse(t *testing.T) {
	t.Parallel()
	a := plain(t, func(c *fanfare.Config) { c.AllowedOrigins = []string{"https://app.example"} })
	for _, door := range []string{"events", "poll"} {
		for name, row := range refusals {
			t.Run(door+", "+name, func(t *testing.T) {
				r := a.get(t, door, row.query)
				body := bodyOf(t, r)
				require.Equal(t, row.status, r.StatusCode, body)
				require.Contains(t, body, row.text)
			})
		}
		t.Run(door+", a foreign origin", func(t *testing.T) {
			require.Equal(t, 403, a.get(t, door, "channel=live", "Origin", "https://evil.example").StatusCode)
			require.Equal(t, 403, a.get(t, door, "channel=live", "Sec-Fetch-Site", "cross-site").StatusCode)
		})
		t.Run(door+", an allowed origin", func(t *testing.T) {
			r := a.get(t, door, "channel=live&user=nobody", "Origin", "https://app.example")
			require.Equal(t, "https://app.example", r.Header.Get("Access-Control-Allow-Origin"))
			require.Equal(t, "true", r.Header.Get("Access-Control-Allow-Credentials"))
			require.Equal(t, 401, r.StatusCode)
		})
		t.Run(door+", a body", func(t *testing.T) {
			r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, a.url+"/"+door+"?channel=live", strings.NewReader("x"))
			require.NoError(t, err)
			response, err := (&http.Transport{}).RoundTrip(r)
			require.NoError(t, err)
			defer response.Body.Close()
			require.Equal(t, 400, response.StatusCode)
			require.True(t, response.Close)
		})
		t.Run(door+", another method", func(t *testing.T) {
			r, err := http.Post(a.url+"/"+door+"?channel=live", "", nil)
			require.NoError(t, err)
			defer r.Body.Close()
			require.Equal(t, 405, r.StatusCode)
			require.Equal(t, "GET, OPTIONS", r.Header.Get("Allow"))
		})
	}
	t.Run("events, names that mean something else", func(t *testing.T) {
		for _, channel := range []string{"gap", "error", "message", "a\nevent: gap"} {
			r := a.get(t, "events", "event=channel&channel="+url.QueryEscape(channel))
			require.Equal(t, 400, r.StatusCode, channel)
		}
		require.Equal(t, 400, a.get(t, "events", "event=sometimes&channel=live").StatusCode)
	})
	t.Run("poll, no duration", func(t *testing.T) {
		for _, wait := range []string{"soon", "-1", "-1s", "1e400"} {
			require.Equal(t, 400, a.get(t, "poll", "channel=live&wait="+wait).StatusCode, wait)
		}
	})
	http.DefaultTransport.(*http.Transport).CloseIdleConnections()
	a.requireNobody(t)
}

// A browser gives up at any status but 200, so trouble that passes is a stream that ends.
func TestEvents_TroubleThatPasses(t *testing.T) {
	t.Parallel()
	a := plain(t, func(c *fanfare.Config) { c.ConnectTimeout = time.Minute })
	s := a.events(t, "channel=live&user=unlucky")
	s.requireEnd(t)
	require.NotEmpty(t, s.retry)
	t.Run("poll says when to come again", func(t *testing.T) {
		r := a.get(t, "poll", "channel=live&user=unlucky")
		require.Equal(t, 503, r.StatusCode)
		require.Equal(t, "1", r.Header.Get("Retry-After"))
	})
	open := a.events(t, "channel=live")
	open.requireNext(t, "ready {}")
	require.NoError(t, a.Shutdown(t.Context()))
	open.requireNext(t, `disconnect {"code":3001,"reason":"shutdown"}`)
	open.requireEnd(t)
	t.Run("a node that shuts down", func(t *testing.T) {
		s := a.events(t, "channel=live")
		s.requireEnd(t)
		require.NotEmpty(t, s.retry)
		require.Equal(t, 503, a.get(t, "poll", "channel=live").StatusCode)
	})
}

func TestEvents_HeartbeatsAreComments(t *testing.T) {
	t.Parallel()
	a := plain(t, func(c *fanfare.Config) { c.PingInterval, c.PongTimeout = time.Second, 100*time.Millisecond })
	s := a.events(t, "channel=live")
	s.requireNext(t, "ready {}")
	for n := 1; s.comments < 2; n++ { // nobody answers the pings, and nobody is to be closed for that
		time.Sleep(100 * time.Millisecond)
		requirePublish(t, a.Node, "live", strconv.Itoa(n))
		s.requireNext(t, fmt.Sprintf("publication %d", n))
	}
}

// The login may end, and nothing is there that could prolong it.
// A page cannot hear comments, but may ask for events.
func TestEvents_PingsToHear(t *testing.T) {
	t.Parallel()
	a := plain(t, func(c *fanfare.Config) { c.PingInterval, c.PongTimeout = time.Second, 100*time.Millisecond })
	s := a.events(t, "channel=live&ping=true")
	s.requireNext(t, `ready {"ping":1}`, "ping {}", "ping {}")
	require.Zero(t, s.comments)
}

func TestPlainDoors_Filter(t *testing.T) {
	t.Parallel()
	a := plain(t)
	filter := "&filter=" + url.QueryEscape(`{"op":"or","nodes":[{"key":"lang","cmp":"eq","val":"en"},{"key":"n","cmp":"gt","val":"5"}]}`)
	publish := func(data string, tags map[string]string) {
		_, err := a.Publish(t.Context(), "tagged:1", []byte(data), fanfare.WithTags(tags))
		require.NoError(t, err)
	}
	s := a.events(t, "channel=tagged:1"+filter)
	s.requireNext(t, "ready {}")
	first, _ := a.poll(t, "channel=tagged:1"+filter)
	publish("1", map[string]string{"lang": "en"})
	publish("2", map[string]string{"lang": "de"})
	publish("3", map[string]string{"lang": "de", "n": "10"})
	s.requireNext(t, "publication 1", "publication 3")
	_, told := a.poll(t, after(first.Cursor, "channel=tagged:1"+filter))
	require.Equal(t, []string{"publication tagged:1 1", "publication tagged:1 3"}, told)
	s.close()
	publish("4", map[string]string{"lang": "de"})
	publish("5", map[string]string{"lang": "en"})
	again := a.events(t, "channel=tagged:1"+filter, "Last-Event-ID", s.lastID)
	again.requireNext(t, "publication 5", "ready {}")

	t.Run("what does not pass is no gap", func(t *testing.T) {
		at, _ := a.poll(t, "channel=tagged:1"+filter)
		for range 30 { // three times what is kept
			publish("6", map[string]string{"lang": "de"})
			var told []string
			at, told = a.poll(t, after(at.Cursor, "channel=tagged:1&wait=0"+filter))
			require.Empty(t, told)
		}
	})
}

func TestEvents_EndWithTheLogin(t *testing.T) {
	t.Parallel()
	a := plain(t, func(c *fanfare.Config) {
		authenticate := c.Authenticate
		c.Authenticate = func(ctx context.Context, r *fanfare.ConnectRequest) (fanfare.Identity, error) {
			id, err := authenticate(ctx, r)
			id.ExpireAt = time.Now().Add(3 * time.Second)
			return id, err
		}
		c.Refresh = func(context.Context, *fanfare.RefreshRequest) (fanfare.RefreshReply, error) {
			return fanfare.RefreshReply{}, fanfare.ErrExpired
		}
		c.ExpiryGrace = time.Hour
	})
	s := a.events(t, "channel=live")
	s.requireNext(t, "ready {}", `disconnect {"code":3005,"reason":"connection expired"}`)
	s.requireEnd(t)
}
