//go:build unix

package e2e

import (
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/fanfare-go/fanfare"
	"github.com/fanfare-go/fanfare/serverapi"
	"github.com/stretchr/testify/require"
)

// newServerAPI serves a node, whose clients are all ann, and its API.
func newServerAPI(t *testing.T) (base string) {
	t.Helper()
	node, err := fanfare.New(fanfare.Config{DrainWindow: -1, Authenticate: func(context.Context, *fanfare.ConnectRequest) (fanfare.Identity, error) {
		return fanfare.Identity{User: "ann"}, nil
	}})
	require.NoError(t, err)
	node.Channel("plain", fanfare.ChannelOptions{})
	node.Channel("lobby", fanfare.ChannelOptions{Public: true, Presence: true})
	node.Channel("kept:{id}", fanfare.ChannelOptions{Public: true, History: fanfare.History{Size: 10, TTL: time.Hour}})
	api, err := serverapi.New(node, serverapi.Config{Keys: []string{"K"}})
	require.NoError(t, err)
	mux := http.NewServeMux()
	mux.Handle("/realtime/", node)
	mux.Handle("/api", api)
	mux.Handle("/api/", api)
	server := httptest.NewServer(mux)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		defer cancel()
		require.NoError(t, node.Shutdown(ctx))
		server.Close()
	})
	return server.URL
}

// TestServerAPI_CentJS is the published API client for Node.
func TestServerAPI_CentJS(t *testing.T) {
	node, base := lookNode(t), newServerAPI(t)
	runScenarios(t, node, "js/serverapi.mjs", base+"/api", "K", "ws"+strings.TrimPrefix(base, "http")+"/realtime/websocket")
}

// TestServerAPI_Curl makes the requests of docs/server-api.md that need no client.
func TestServerAPI_Curl(t *testing.T) {
	base := newServerAPI(t)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	post := func(path, body string, args ...string) string {
		out, err := curl(t, ctx, append(args, "--data", body, base+path)...).Output()
		require.NoError(t, err, "%s", out)
		return string(out)
	}
	key := []string{"--header", "X-API-Key: K"}
	answer := post("/api/publish", `{"channel":"kept:1","data":{"v":2},"idempotency_key":"o-17"}`, key...)
	require.Regexp(t, `^{"result":{"offset":1,"epoch":"\w+"}}$`, answer)
	require.Equal(t, answer, post("/api/publish", `{"channel":"kept:1","data":{"v":2},"idempotency_key":"o-17"}`, "--header", "Authorization: apikey K"))
	require.Equal(t, `{"result":{"responses":[{"result":{}},{"error":{"code":102,"message":"unknown channel"}}]}}`,
		post("/api/broadcast?api_key=K", `{"channels":["plain","bad:x"],"data":1}`))
	require.Equal(t, `{"replies":[{"publish":{}},{"error":{"code":108,"message":"not available"}}]}`,
		post("/api/batch", `{"commands":[{"publish":{"channel":"plain","data":1}},{"presence_stats":{"channel":"plain"}}]}`, key...))
	require.Equal(t, "{\"result\":{}}\n{\"result\":{\"channels\":{}}}",
		post("/api", "{\"method\":\"publish\",\"params\":{\"channel\":\"plain\",\"data\":1}}\n{\"method\":\"channels\"}", key...))

	out, err := curl(t, ctx, "--write-out", "%{http_code}", "--data", `{}`, base+"/api/info").Output()
	require.Error(t, err)
	require.Equal(t, "401", string(out))
	out, err = curl(t, ctx, append(key, "--write-out", " %{http_code}", "--header", "X-Centrifugo-Error-Mode: transport",
		"--data", `{"channel":"bad:x","data":1}`, base+"/api/publish")...).Output()
	require.Error(t, err)
	require.Equal(t, `{"code":102,"message":"unknown channel"} 404`, string(out))
}
