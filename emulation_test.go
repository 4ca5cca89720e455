package fanfare_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare"
)

// streamed is a client of HTTP streaming.
type streamed struct {
	base          string // where its commands are posted
	node, session string
	body          io.ReadCloser
	lines         *bufio.Reader
}

// stream connects a client to a node behind a server.
func stream(t *testing.T, base string) *streamed {
	t.Helper()
	r, err := http.Post(base+"/http_stream", "application/json", strings.NewReader(`{"id":1,"connect":{"token":"ann"}}`))
	require.NoError(t, err)
	require.Equal(t, http.StatusOK, r.StatusCode)
	s := &streamed{base: base, body: r.Body, lines: bufio.NewReader(r.Body)}
	t.Cleanup(func() { _ = s.body.Close() })
	var reply struct {
		Connect struct{ Client, Session, Node string }
	}
	line := s.next(t)
	require.NoError(t, json.Unmarshal([]byte(line), &reply), line)
	s.session, s.node = reply.Connect.Session, reply.Connect.Node
	require.NotEmpty(t, s.session)
	require.NotEqual(t, reply.Connect.Client, s.session, "others see the client's id")
	return s
}

func (s *streamed) next(t *testing.T) string {
	t.Helper()
	line, err := s.lines.ReadString('\n')
	require.NoError(t, err)
	return strings.TrimSuffix(line, "\n")
}

// post sends commands, and returns the status.
func (s *streamed) post(t *testing.T, commands ...string) int {
	t.Helper()
	body, err := json.Marshal(map[string]string{"session": s.session, "node": s.node, "data": strings.Join(commands, "\n")})
	require.NoError(t, err)
	r, err := http.Post(s.base+"/emulation", "application/json", bytes.NewReader(body))
	require.NoError(t, err)
	defer r.Body.Close()
	return r.StatusCode
}

func echo(id int) string {
	return fmt.Sprintf(`{"id":%d,"rpc":{"method":"echo","data":%d}}`, id, id)
}

func TestEmulation(t *testing.T) {
	node := serve(t, fanfare.Config{PingInterval: time.Minute})
	s := stream(t, node.url)

	t.Run("commands are answered on the stream, in their order", func(t *testing.T) {
		for id := 2; id < 50; id += 3 {
			require.Equal(t, http.StatusNoContent, s.post(t, echo(id), echo(id+1), echo(id+2)))
		}
		for id := 2; id < 50; id++ {
			require.Equal(t, fmt.Sprintf(`{"id":%d,"rpc":{"data":%d}}`, id, id), s.next(t))
		}
	})
	t.Run("the session is a secret", func(t *testing.T) {
		require.Equal(t, http.StatusNoContent, (&streamed{base: s.base, node: s.node, session: "guessed"}).post(t, echo(100)))
		require.Equal(t, http.StatusNoContent, s.post(t, echo(101)))
		require.Equal(t, `{"id":101,"rpc":{"data":101}}`, s.next(t))
	})
	t.Run("another node is unknown", func(t *testing.T) {
		for _, name := range []string{"", "restarted", s.session} {
			require.Equal(t, http.StatusNotFound, (&streamed{base: s.base, node: name, session: s.session}).post(t, echo(1)))
		}
	})
	t.Run("nonsense ends the connection with a push", func(t *testing.T) {
		bad := stream(t, node.url)
		require.Equal(t, http.StatusNoContent, bad.post(t, echo(2), "nonsense"))
		require.Equal(t, `{"id":2,"rpc":{"data":2}}`, bad.next(t))
		require.Equal(t, `{"push":{"disconnect":{"code":3501,"reason":"bad request"}}}`, bad.next(t))
		_, err := bad.lines.ReadString('\n')
		require.ErrorIs(t, err, io.EOF)
		require.Equal(t, http.StatusNoContent, bad.post(t, echo(3)), "its client knows already")
	})
	t.Run("a client that leaves leaves nothing behind", func(t *testing.T) {
		require.NoError(t, s.body.Close())
		node.requireEmpty(t)
	})
	http.DefaultTransport.(*http.Transport).CloseIdleConnections()
}

// A hook that hangs holds the commands of its own client up, and those are bounded.
func TestEmulation_IsBounded(t *testing.T) {
	node := serve(t, fanfare.Config{HookTimeout: time.Minute}) // it hangs for as long as this takes
	release := make(chan struct{})
	node.RPC("hang", func(context.Context, *fanfare.RPCRequest) ([]byte, error) {
		<-release
		return nil, nil
	})
	s := stream(t, node.url)
	require.Equal(t, http.StatusNoContent, s.post(t, `{"id":2,"rpc":{"method":"hang"}}`))
	large := fmt.Sprintf(`{"id":3,"rpc":{"method":"echo","data":"%s"}}`, strings.Repeat("x", 50_000))
	accepted := 0
	for ; accepted < 100; accepted++ {
		if status := s.post(t, large); status != http.StatusNoContent {
			require.Equal(t, http.StatusServiceUnavailable, status)
			break
		}
	}
	require.Greater(t, accepted, 5)
	require.Less(t, accepted, 20)
	close(release)
	s.next(t)
	for range accepted {
		require.Contains(t, s.next(t), `{"id":3,"rpc":`)
	}
	http.DefaultTransport.(*http.Transport).CloseIdleConnections()
}

// TestEmulation_AcrossNodes posts to nodes that do not have the session, as a balancer does.
func TestEmulation_AcrossNodes(t *testing.T) {
	broker := fanfare.NewMemoryBroker(fanfare.MemoryBrokerConfig{})
	t.Cleanup(func() { require.NoError(t, broker.Close()) })
	one, two := serve(t, fanfare.Config{Broker: broker}), serve(t, fanfare.Config{Broker: broker})
	s := stream(t, one.url)
	require.Equal(t, http.StatusNotFound, (&streamed{base: two.url, session: s.session}).post(t, echo(1)), "no name is not every node's")
	for id := 2; id < 30; id++ {
		s.base = []string{one.url, two.url}[id%2]
		require.Equal(t, http.StatusNoContent, s.post(t, echo(id)))
	}
	seen := make(map[string]bool)
	for range 28 {
		seen[s.next(t)] = true
	}
	for id := 2; id < 30; id++ {
		require.True(t, seen[fmt.Sprintf(`{"id":%d,"rpc":{"data":%d}}`, id, id)], id)
	}
	http.DefaultTransport.(*http.Transport).CloseIdleConnections()
}

// What another node has accepted and this one cannot take is not lost without a word.
func TestEmulation_BusyAcrossNodes(t *testing.T) {
	broker := fanfare.NewMemoryBroker(fanfare.MemoryBrokerConfig{})
	t.Cleanup(func() { require.NoError(t, broker.Close()) })
	one, two := serve(t, fanfare.Config{Broker: broker}), serve(t, fanfare.Config{Broker: broker})
	release := make(chan struct{})
	defer close(release)
	one.RPC("hang", func(context.Context, *fanfare.RPCRequest) ([]byte, error) {
		<-release
		return nil, nil
	})
	s := stream(t, one.url)
	require.Equal(t, http.StatusNoContent, s.post(t, `{"id":2,"rpc":{"method":"hang"}}`))
	s.base = two.url
	large := fmt.Sprintf(`{"id":3,"rpc":{"method":"echo","data":"%s"}}`, strings.Repeat("x", 50_000))
	for range 20 {
		require.Equal(t, http.StatusNoContent, s.post(t, large))
	}
	require.Equal(t, `{"push":{"disconnect":{"code":3013,"reason":"too many requests"}}}`, s.next(t))
	http.DefaultTransport.(*http.Transport).CloseIdleConnections()
}

// Every door that holds a response open says goodbye when the node shuts down.
func TestStreams_Shutdown(t *testing.T) {
	node, err := fanfare.New(fanfare.Config{DrainWindow: -1})
	require.NoError(t, err)
	node.Channel("news", fanfare.ChannelOptions{Public: true})
	server := httptest.NewServer(node)
	t.Cleanup(server.Close)
	ends := make(map[string]*bufio.Reader)
	for door, body := range map[string]string{
		"http_stream": `{"id":1,"connect":{}}`, "sse": `{"id":1,"connect":{}}`, "uni_http_stream": `{"subs":{"news":{}}}`, "uni_sse": `{"subs":{"news":{}}}`,
	} {
		r, err := http.Post(server.URL+"/"+door, "", strings.NewReader(body))
		require.NoError(t, err)
		t.Cleanup(func() { _ = r.Body.Close() })
		ends[door] = bufio.NewReader(r.Body)
		for line := ""; !strings.Contains(line, `"connect":`); {
			line, err = ends[door].ReadString('\n')
			require.NoError(t, err)
		}
	}
	requirePublish(t, node, "news", `"x"`)
	require.NoError(t, node.Shutdown(t.Context()))
	for door, r := range ends {
		all, err := io.ReadAll(r)
		require.NoError(t, err, door)
		require.Contains(t, string(all), `{"disconnect":{"code":3001,"reason":"shutdown"}}`, door)
		if strings.HasPrefix(door, "uni") {
			require.Contains(t, string(all), `{"channel":"news","pub":{"data":"x"}}`, door)
		}
	}
	http.DefaultTransport.(*http.Transport).CloseIdleConnections()
}
