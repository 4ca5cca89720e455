//go:build unix

package e2e

import (
	"encoding/json"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare/jwtauth"
)

const (
	clusterSecret = "hmac-secret-hmac-secret-hmac-secret"
	clusterKey    = "api-key-api-key-api-key"
)

// newStandalones starts servers with the same configuration over one Redis.
func newStandalones(t *testing.T, count int) (servers []*process) {
	t.Helper()
	redis, dir := startRedis(t), t.TempDir()
	program := filepath.Join(dir, "standalone")
	out, err := exec.CommandContext(t.Context(), "go", "build", "-o", program, "../examples/standalone").CombinedOutput()
	require.NoError(t, err, "%s", out)
	file := filepath.Join(dir, "fanfare.json")
	require.NoError(t, os.WriteFile(file, []byte(`{
		"token_hmac_secret": "`+clusterSecret+`", "api_key": "`+clusterKey+`", "drain_window": "0s",
		"redis": {"urls": ["redis://`+redis+`"], "prefix": "app"}, "limits": {"user_connections": 2},
		"channels": {"room:{id}": {"history_size": 10, "history_ttl": "10m", "force_recovery": true, "presence": true,
			"subscribe": "users", "presence_read": "subscribers"}}}`), 0o600))
	for range count {
		p := &process{t: t, addr: freeAddr(t), out: &output{}}
		p.cmd = func() *exec.Cmd {
			cmd := exec.Command(program, "-config", file)
			cmd.Env = append(os.Environ(), "FANFARE_ADDR="+p.addr)
			return cmd
		}
		t.Cleanup(func() {
			p.stop(syscall.SIGTERM)
			if t.Failed() {
				t.Logf("a server said:\n%s", p.out)
			}
		})
		p.start()
		servers = append(servers, p)
	}
	t.Cleanup(http.DefaultTransport.(*http.Transport).CloseIdleConnections)
	return servers
}

// api calls the server API of one server, and returns the result.
func api(t *testing.T, p *process, method, body string) string {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+p.addr+"/api/"+method, strings.NewReader(body))
	require.NoError(t, err)
	r.Header.Set("X-API-Key", clusterKey)
	response, err := http.DefaultClient.Do(r)
	require.NoError(t, err)
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	require.NoError(t, err)
	require.Equal(t, http.StatusOK, response.StatusCode, "%s", text)
	require.NotContains(t, string(text), `"error"`)
	return string(text)
}

// enter connects a user to one server.
func enter(t *testing.T, p *process, user string) *peer {
	t.Helper()
	signer := jwtauth.Signer{Key: []byte(clusterSecret)}
	token, err := signer.ConnectionToken(jwtauth.ConnectionClaims{User: user})
	require.NoError(t, err)
	return dialPeer(t, "http://"+p.addr+"/connection/websocket", `{"token":"`+token+`"}`)
}

// TestStandalone_Cluster: two servers with the same file are one, for the app and for its clients.
func TestStandalone_Cluster(t *testing.T) {
	t.Parallel()
	lookRedis(t)
	servers := newStandalones(t, 2)
	a, b := servers[0], servers[1]
	annA, annB, ben := enter(t, a, "ann"), enter(t, b, "ann"), enter(t, b, "ben")
	all := []*peer{annA, annB, ben}
	for _, p := range all {
		p.hears(`"client"`)
		p.say(`{"id":2,"subscribe":{"channel":"room:1"}}`)
		p.hears(`"recoverable":true`)
	}
	for i, p := range servers {
		require.Contains(t, api(t, p, "publish", `{"channel":"room:1","data":"over `+p.addr+`"}`), `"offset":`+string('1'+rune(i)))
		for _, c := range all {
			c.hears(`"data":"over ` + p.addr)
		}
		require.Contains(t, api(t, p, "presence_stats", `{"channel":"room:1"}`), `"num_clients":3,"num_users":2`)
		require.Equal(t, 3, strings.Count(api(t, p, "presence", `{"channel":"room:1"}`), `"user"`))
		require.Contains(t, api(t, p, "channels", `{}`), `"room:1":{"num_clients":3}`)
		var info struct {
			Result struct {
				Nodes []struct {
					NumClients int `json:"num_clients"`
				}
			}
		}
		require.NoError(t, json.Unmarshal([]byte(api(t, p, "info", `{}`)), &info))
		require.Len(t, info.Result.Nodes, 2)
		require.Equal(t, 3, info.Result.Nodes[0].NumClients+info.Result.Nodes[1].NumClients)
	}
	enter(t, a, "ann").closed(3504) // the limit is that of both

	api(t, a, "disconnect", `{"user":"ann","disconnect":{"code":4001,"reason":"logged out"}}`)
	annA.closed(4001)
	annB.closed(4001)
	ben.say(`{"id":3,"presence":{"channel":"room:1"}}`)
	ben.hears(`"presence":{`)

	// A server that was killed has not taken its clients' messages with it.
	moving := enter(t, a, "cat")
	moving.hears(`"client"`)
	moving.say(`{"id":2,"subscribe":{"channel":"room:1"}}`)
	frame, err := moving.read()
	require.NoError(t, err)
	var at struct {
		Subscribe struct{ Epoch string }
	}
	require.NoError(t, json.Unmarshal([]byte(frame), &at))
	a.stop(syscall.SIGKILL)
	api(t, b, "publish", `{"channel":"room:1","data":"meanwhile"}`)
	moved := enter(t, b, "cat")
	moved.hears(`"client"`)
	moved.say(`{"id":2,"subscribe":{"channel":"room:1","recover":true,"offset":2,"epoch":"` + at.Subscribe.Epoch + `"}}`)
	moved.hears(`"meanwhile"`)
	require.Eventually(t, func() bool {
		return strings.Contains(api(t, b, "presence_stats", `{"channel":"room:1"}`), `"num_clients":2`)
	}, time.Minute, 100*time.Millisecond, "who was on the dead server leaves with its lease")
}
