package fanfare_test

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare"
)

func TestPoll(t *testing.T) {
	t.Parallel()
	a := plain(t)
	const query = "channel=room:1&channel=html:1"
	requirePublish(t, a.Node, "room:1", `"before"`)
	first, told := a.poll(t, query) // nothing can have been missed, so it does not wait
	require.Empty(t, told)
	require.NotNil(t, first.Events, "a list")

	t.Run("at once, if something was missed", func(t *testing.T) {
		requirePublish(t, a.Node, "room:1", "{\n \"a\": \"<1>\" }")
		requirePublish(t, a.Node, "html:1", "<tr>\n</tr>")
		next, told := a.poll(t, after(first.Cursor, query+"&wait=1h"))
		require.ElementsMatch(t, []string{`publication room:1 { "a": "<1>" }`, `publication html:1 "<tr>\n</tr>"`}, told)
		_, told = a.poll(t, after(next.Cursor, query+"&wait=0"))
		require.Empty(t, told)
		first = next
	})
	t.Run("or as soon as something comes", func(t *testing.T) {
		publishing := make(chan struct{})
		go func() { // owned by the test: waited for below
			defer close(publishing)
			eventually(t, func() bool { return a.Residue().Clients > 0 }, "nobody came", func() any { return nil })
			_, err := a.Publish(t.Context(), "html:1", []byte("now"), fanfare.WithTags(map[string]string{"k": "v"}))
			require.NoError(t, err)
		}()
		next, told := a.poll(t, after(first.Cursor, query+"&wait=1m"))
		<-publishing
		require.Equal(t, []string{`publication html:1 "now"`}, told)
		require.Equal(t, map[string]string{"k": "v"}, next.Events[0].Tags)
		first = next
	})
	t.Run("or when the time is over, with the same cursor", func(t *testing.T) {
		for _, wait := range []string{"50ms", "0.05"} {
			next, told := a.poll(t, after(first.Cursor, query+"&wait="+wait))
			require.Empty(t, told)
			require.Equal(t, first.Cursor, next.Cursor)
		}
	})
	t.Run("a gap is told, once", func(t *testing.T) {
		for i := range 20 {
			requirePublish(t, a.Node, "room:1", strconv.Itoa(i))
		}
		next, told := a.poll(t, after(first.Cursor, query))
		require.Equal(t, []string{"gap room:1"}, told)
		_, told = a.poll(t, after(next.Cursor, query+"&wait=0"))
		require.Empty(t, told)
	})
	t.Run("who has published", func(t *testing.T) {
		start, _ := a.poll(t, "channel=said:9")
		c := dialWebSocket(t, a.url+"/websocket?user=ann", nil)
		require.Contains(t, c.exchange(t, `{"id":1,"connect":{}}`), `"connect"`)
		require.Equal(t, `{"id":2,"publish":{}}`, c.exchange(t, `{"id":2,"publish":{"channel":"said:9","data":1}}`))
		said, _ := a.poll(t, after(start.Cursor, "channel=said:9"))
		require.Equal(t, []string{"publication", "said:9", "ann"}, []string{said.Events[0].Type, said.Events[0].Channel, said.Events[0].Info.User})
	})
	t.Run("who polls neither comes nor goes", func(t *testing.T) {
		s := a.events(t, "channel=forced:1&user=ann")
		s.requireNextOf(t, "ready", "join")
		for range 3 {
			began := time.Now()
			_, told := a.poll(t, "channel=forced:1&user=bob&wait=50ms&join_leave=true")
			require.Empty(t, told)
			require.GreaterOrEqual(t, time.Since(began), 50*time.Millisecond)
		}
		stats, err := a.PresenceStats(t.Context(), "forced:1")
		require.NoError(t, err)
		require.Equal(t, fanfare.PresenceStats{Clients: 1, Users: 1}, stats)
		requirePublish(t, a.Node, "forced:1", `"nothing before"`)
		s.requireNext(t, `publication "nothing before"`)
		s.close()
	})
	a.requireNobody(t)
}

// What one answer does not hold comes with the next ones.
func TestPoll_AnswersAreBounded(t *testing.T) {
	t.Parallel()
	a := plain(t)
	query := strings.TrimPrefix(manyChannels(20), "&") + "&wait=0"
	cursor, _ := a.poll(t, query)
	large := strings.Repeat("x", 100_000)
	for i := range 20 {
		for n := range 4 {
			requirePublish(t, a.Node, fmt.Sprintf("room:%d", i), fmt.Sprintf(`"%d %s"`, n, large))
		}
	}
	got := make(map[string]int)
	answers := 0
	for total := 0; total < 80; answers++ {
		next, _ := a.poll(t, after(cursor.Cursor, query))
		require.NotEmpty(t, next.Events)
		size := 0
		for _, e := range next.Events {
			require.Equal(t, "publication", e.Type)
			require.Contains(t, string(e.Data[:3]), strconv.Itoa(got[e.Channel]), "in order, in %s", e.Channel)
			got[e.Channel]++
			total++
			size += len(e.Data)
		}
		require.Less(t, size, 1<<20+200_000)
		cursor = next
	}
	require.Greater(t, answers, 5)
	_, told := a.poll(t, after(cursor.Cursor, query))
	require.Empty(t, told)
}

func TestPoll_WhoGivesUpLeavesNothingBehind(t *testing.T) {
	t.Parallel()
	a := plain(t)
	ended := make(chan struct{})
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		defer close(ended)
		r, err := http.NewRequestWithContext(ctx, http.MethodGet, a.url+"/poll?channel=room:1&wait=1m", nil)
		if err == nil {
			_, err = (&http.Transport{DisableKeepAlives: true}).RoundTrip(r)
		}
		if err == nil {
			t.Error("answered")
		}
	}()
	eventually(t, func() bool { return a.Residue().Clients > 0 }, "nobody came", func() any { return nil })
	cancel()
	<-ended
	a.requireNobody(t)
}

// A node that shuts down answers those who wait, who then ask another one.
func TestPoll_ShutdownAnswers(t *testing.T) {
	t.Parallel()
	a := plain(t)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		eventually(t, func() bool { return counted(a.tally, &a.tally.refused, 0) == 2 }, "nobody came", func() any { return nil })
		if err := a.Shutdown(t.Context()); err != nil {
			t.Error(err)
		}
	}()
	_, told := a.poll(t, "channel=room:1&wait=1m")
	<-ended
	require.Equal(t, []string{"disconnect"}, told)
}

func TestPoll_OutlivesTheServersTimeouts(t *testing.T) {
	t.Parallel()
	a := plain(t)
	s := httptest.NewUnstartedServer(a.Node)
	s.Config.ReadTimeout, s.Config.WriteTimeout = time.Second, time.Second
	s.Start()
	t.Cleanup(s.Close)
	slow := &plainApp{a.watched, s.URL}
	_, told := slow.poll(t, "channel=room:1&wait=3s")
	require.Empty(t, told)
}

// A peer that does not read its answer is waited for by nobody else.
func TestPoll_APublisherDoesNotWaitForThePeer(t *testing.T) {
	t.Parallel()
	a := plain(t, func(c *fanfare.Config) { c.WriteTimeout = 2 * time.Minute })
	s := httptest.NewUnstartedServer(a.Node)
	s.Listener = smallBuffers{s.Listener}
	s.Start()
	t.Cleanup(s.Close)
	large := strings.Repeat("x", 200_000)
	for range 2 {
		requirePublish(t, a.Node, "room:1", `"`+large+`"`)
	}
	first := fanfare.EncodeCursor(map[string]fanfare.Position{"room:1": {Epoch: top(t, a, "room:1").Epoch}})
	conn, err := net.Dial("tcp", s.Listener.Addr().String())
	require.NoError(t, err)
	_, err = fmt.Fprintf(conn, "GET /poll?channel=room:1&cursor=%s HTTP/1.1\r\nHost: x\r\n\r\n", first)
	require.NoError(t, err)
	one := make([]byte, 1)
	_, err = conn.Read(one)
	require.NoError(t, err, "the answer is being written")
	began := time.Now()
	requirePublish(t, a.Node, "room:1", `"after"`)
	other := a.events(t, after(first, "channel=room:1"))
	for range 3 {
		require.Contains(t, other.next(t), "publication ")
	}
	require.Less(t, time.Since(began), 50*time.Second, "less than half of the write timeout")
	require.NoError(t, conn.Close())
}
