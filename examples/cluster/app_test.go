package main

import (
	"context"
	"encoding/json"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/fanfare-go/fanfare"
)

func TestMain(m *testing.M) {
	// The client of Redis has a goroutine that sleeps for up to a second after a connect that failed, and ends then.
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("github.com/redis/rueidis.(*call).DelayDo.func1"))
}

// pair is two nodes of one broker.
func pair(t *testing.T) (apps [2]*app) {
	t.Helper()
	broker, presence := fanfare.NewMemoryBroker(fanfare.MemoryBrokerConfig{}), fanfare.NewMemoryPresence()
	for i, name := range []string{"node-1", "node-2"} {
		a, err := newApp(fanfare.Config{Name: name, Broker: broker, Presence: presence, Logger: slog.New(slog.DiscardHandler), DrainWindow: -1})
		require.NoError(t, err)
		t.Cleanup(func() { require.NoError(t, a.node.Shutdown(context.Background())) })
		apps[i] = a
	}
	return apps
}

func (a *app) send(method, path string, form url.Values, cookie string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, path, strings.NewReader(form.Encode()))
	if form != nil {
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	if cookie != "" {
		r.Header.Set("Cookie", cookie)
	}
	w := httptest.NewRecorder()
	a.handler().ServeHTTP(w, r)
	return w
}

func TestPage_OfEachNodeHasWhatWasSaidAtTheOther(t *testing.T) {
	nodes := pair(t)
	form := url.Values{"text": {"<b>hello</b>"}, "key": {"1"}}
	for _, a := range nodes { // as a page does that has got no answer
		require.Equal(t, http.StatusSeeOther, a.send("POST", "/messages", form, "user=ann").Code)
	}
	for _, a := range nodes {
		w := a.send("GET", "/", nil, "")
		require.Regexp(t, `^user=guest-[a-z0-9]{4};`, w.Header().Get("Set-Cookie"))
		body := w.Body.String()
		require.Equal(t, 1, strings.Count(body, "&lt;b&gt;hello&lt;/b&gt;"))
		require.Contains(t, body, `data-offset="1" data-over="sse"`)
		require.Contains(t, body, "The page came from <strong>"+a.name)
		require.Contains(t, a.send("GET", "/?over=websocket", nil, "user=ann").Body.String(), `data-over="websocket"`)
	}
}

func TestMessages_AreRefused(t *testing.T) {
	a := pair(t)[0]
	for _, form := range []url.Values{
		{"text": {" "}}, {"text": {strings.Repeat("x", maxLength+1)}}, {"text": {"x"}, "key": {strings.Repeat("x", maxKey+1)}},
	} {
		require.Equal(t, http.StatusUnprocessableEntity, a.send("POST", "/messages", form, "").Code)
	}
}

func TestState_IsThatOfAllNodes(t *testing.T) {
	nodes := pair(t)
	for _, a := range nodes {
		s := httptest.NewServer(a.handler())
		t.Cleanup(s.Close)
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.URL+"/realtime/uni_sse?cf_connect="+url.QueryEscape(`{"subs":{"room":{}}}`), nil)
		require.NoError(t, err)
		r.Header.Set("Cookie", "user="+a.name+"-fan")
		response, err := (&http.Transport{DisableKeepAlives: true}).RoundTrip(r)
		require.NoError(t, err)
		defer response.Body.Close()
		first := make([]byte, 512)
		n, err := response.Body.Read(first)
		for err == nil && !strings.Contains(string(first[:n]), "connect") {
			n, err = response.Body.Read(first)
		}
		require.Contains(t, string(first[:n]), `"data":{"node":"`+a.name+`"}`)
	}
	var s state
	require.NoError(t, json.Unmarshal(nodes[1].send("GET", "/state", nil, "").Body.Bytes(), &s))
	require.ElementsMatch(t, []nodeState{{"node-1", 1, 1}, {"node-2", 1, 1}}, s.Nodes)
	require.Len(t, s.Present, 2)
	require.Equal(t, "node-1-fan", s.Present[0].User)
	require.Equal(t, "node-1", s.Present[0].Node)
	require.Equal(t, "node-2", s.Present[1].Node)
}

// TestTime_IsToldOnce: both nodes say it, with one key.
func TestTime_IsToldOnce(t *testing.T) {
	nodes := pair(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	ended := make(chan error)
	for _, a := range nodes {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		require.NoError(t, err)
		go func() { ended <- a.serve(ctx, l, func() {}) }()
	}
	var h fanfare.HistoryResult
	require.Eventually(t, func() (enough bool) {
		var err error
		h, err = nodes[0].node.History(ctx, channel, fanfare.HistoryQuery{Limit: -1})
		return err == nil && h.Offset >= 2
	}, time.Minute, 50*time.Millisecond)
	cancel()
	for range nodes {
		require.NoError(t, <-ended)
	}
	times := make(map[string]int)
	for _, p := range h.Publications {
		times[regexp.MustCompile(`\d\d:\d\d:\d\d`).FindString(string(p.Data))]++
	}
	require.Len(t, times, len(h.Publications))
}

// mute is a broker that has no history to give.
type mute struct{ fanfare.Broker }

func (mute) History(context.Context, string, fanfare.HistoryQuery) (fanfare.HistoryResult, error) {
	return fanfare.HistoryResult{}, fanfare.ErrUnavailable
}

func TestPage_ComesBackByItselfWhenRedisDoes(t *testing.T) {
	broker := mute{fanfare.NewMemoryBroker(fanfare.MemoryBrokerConfig{})}
	a, err := newApp(fanfare.Config{Name: "node-1", Broker: broker, Logger: slog.New(slog.DiscardHandler)})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, a.node.Shutdown(context.Background())) })
	w := a.send("GET", "/", nil, "")
	require.Equal(t, http.StatusServiceUnavailable, w.Code)
	require.Equal(t, "2", w.Header().Get("Refresh"))
}
