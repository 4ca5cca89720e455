//go:build unix

package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare/jwtauth"
)

// process is a running server.
type process struct {
	cmd  *exec.Cmd
	addr string // as it logged it

	mu  sync.Mutex // guards below
	log bytes.Buffer

	read chan struct{} // closed when everything it logged is in log
}

// start runs a binary on a free port, and returns when it says that it serves.
func start(t *testing.T, binary, file string, environ ...string) *process {
	t.Helper()
	p := &process{read: make(chan struct{})}
	p.cmd = exec.Command(binary, "-config", file)
	p.cmd.Env = append([]string{"FANFARE_ADDR=127.0.0.1:0", "FANFARE_LOG_FORMAT=json"}, environ...)
	stderr, err := p.cmd.StderrPipe()
	require.NoError(t, err)
	require.NoError(t, p.cmd.Start())
	serving := make(chan string, 1)
	go p.follow(stderr, serving)
	t.Cleanup(func() {
		_ = p.cmd.Process.Kill() // it may have ended
		<-p.read
		if t.Failed() {
			t.Logf("log of the server:\n%s", p.logged())
		}
	})
	select {
	case p.addr = <-serving:
	case <-p.read:
		require.Fail(t, "the server ended", p.logged())
	case <-time.After(30 * time.Second):
		require.Fail(t, "the server does not serve", p.logged())
	}
	return p
}

// follow is owned by start: it ends with the process.
func (p *process) follow(r io.Reader, serving chan<- string) {
	defer close(p.read)
	for lines := bufio.NewScanner(r); lines.Scan(); {
		var line struct{ Msg, Addr string }
		_ = json.Unmarshal(lines.Bytes(), &line) // a panic is no JSON, and is in the log as it is
		p.mu.Lock()
		p.log.Write(append(lines.Bytes(), '\n'))
		p.mu.Unlock()
		if line.Msg == "serving" {
			serving <- line.Addr
		}
	}
}

func (p *process) logged() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.log.String()
}

// wait returns what the process ended with.
func (p *process) wait(t *testing.T) error {
	t.Helper()
	select {
	case <-p.read:
	case <-time.After(30 * time.Second):
		require.Fail(t, "the server does not end", p.logged())
	}
	return p.cmd.Wait()
}

func (p *process) signal(t *testing.T, s os.Signal) {
	t.Helper()
	require.NoError(t, p.cmd.Process.Signal(s))
}

// get returns the status and the body of a request, with status 0 for none.
func (p *process) get(t *testing.T, path string) (int, string) {
	t.Helper()
	r, err := http.Get("http://" + p.addr + path)
	if err != nil {
		return 0, err.Error()
	}
	defer r.Body.Close()
	body, err := io.ReadAll(r.Body)
	require.NoError(t, err)
	return r.StatusCode, string(body)
}

// built is the binary, built once for all tests.
var built = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "fanfare-standalone-")
	if err != nil {
		return "", err
	}
	binary := filepath.Join(dir, "fanfare")
	out, err := exec.Command("go", "build", "-o", binary, ".").CombinedOutput()
	if err != nil {
		err = &exec.Error{Name: "go build: " + string(out), Err: err}
	}
	return binary, err
})

func build(t *testing.T) string {
	t.Helper()
	binary, err := built()
	require.NoError(t, err)
	return binary
}

func TestMain(m *testing.M) {
	code := m.Run()
	if binary, err := built(); err == nil {
		_ = os.RemoveAll(filepath.Dir(binary))
	}
	os.Exit(code)
}

func write(t *testing.T, file string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "fanfare.json")
	require.NoError(t, os.WriteFile(path, []byte(file), 0o600))
	return path
}

func TestProcess_DrainsAtTheFirstSignal(t *testing.T) {
	p := start(t, build(t), write(t, `{"anonymous": true, "drain_delay": "2s"}`))
	status, body := p.get(t, "/health")
	require.Equal(t, 200, status, body)
	status, body = p.get(t, "/health/ready")
	require.Equal(t, 200, status, body)

	p.signal(t, syscall.SIGTERM)
	require.Eventually(t, func() bool {
		status, _ = p.get(t, "/health/ready")
		return status == 503
	}, 10*time.Second, 5*time.Millisecond, "readiness fails while it drains")
	require.NoError(t, p.wait(t), "exit code 0")
	require.Contains(t, p.logged(), `"drained"`)
}

// post calls the server API.
func (p *process) post(t *testing.T, method, key, body string) (int, string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), "POST", "http://"+p.addr+"/api/"+method, strings.NewReader(body))
	require.NoError(t, err)
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("X-API-Key", key)
	resp, err := http.DefaultClient.Do(r)
	require.NoError(t, err)
	defer resp.Body.Close()
	content, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	return resp.StatusCode, string(content)
}

// socket is a client on a real connection, of frames in JSON.
type socket struct {
	t    *testing.T
	conn *websocket.Conn
}

func (p *process) dial(t *testing.T) *socket {
	t.Helper()
	conn, _, err := websocket.Dial(t.Context(), "ws://"+p.addr+"/connection/websocket", nil)
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.CloseNow() })
	return &socket{t, conn}
}

// ask sends a command, and returns what comes next.
func (s *socket) ask(command string) string {
	s.t.Helper()
	require.NoError(s.t, s.conn.Write(s.t.Context(), websocket.MessageText, []byte(command)))
	reply, err := s.next()
	require.NoError(s.t, err)
	return reply
}

func (s *socket) next() (string, error) {
	ctx, cancel := context.WithTimeout(s.t.Context(), 20*time.Second)
	defer cancel()
	_, frame, err := s.conn.Read(ctx)
	return string(frame), err
}

// TestProcess_WholeLife: what an app and its pages do with the server, from a token to the drain, and that no secret of it is
// logged.
func TestProcess_WholeLife(t *testing.T) {
	const (
		tokenSecret = "hmac-secret-hmac-secret-hmac-secret"
		apiKey      = "api-key-api-key-api-key-api-key"
		wrongKey    = "wrong-key-wrong-key-wrong-key"
	)
	p := start(t, build(t), write(t, `{"personal_channel_prefix": "#", "log_level": "debug", "channels": {
		"room:{id}": {"history_size": 10, "history_ttl": "10m", "force_recovery": true, "subscribe": "users"}}}`),
		"FANFARE_TOKEN_HMAC_SECRET="+tokenSecret, "FANFARE_API_KEY="+apiKey)
	signer := jwtauth.Signer{Key: []byte(tokenSecret)}
	token, err := signer.ConnectionToken(jwtauth.ConnectionClaims{User: "ann"})
	require.NoError(t, err)

	c := p.dial(t)
	connected := c.ask(`{"id":1,"connect":{"token":"` + token + `"}}`)
	require.Contains(t, connected, `"subs":{"#ann"`)
	require.Contains(t, c.ask(`{"id":2,"subscribe":{"channel":"room:1"}}`), `"recoverable":true`)

	status, reply := p.post(t, "publish", apiKey, `{"channel":"room:1","data":{"text":"hi"}}`)
	require.Equal(t, 200, status, reply)
	require.Contains(t, reply, `"offset":1`)
	push, err := c.next()
	require.NoError(t, err)
	require.Contains(t, push, `"data":{"text":"hi"}`)
	status, reply = p.post(t, "publish", apiKey, `{"channel":"#ann","data":"for you"}`)
	require.Equal(t, 200, status, reply)
	push, err = c.next()
	require.NoError(t, err)
	require.Contains(t, push, `"data":"for you"`)

	status, _ = p.post(t, "publish", wrongKey, `{"channel":"room:1","data":1}`)
	require.Equal(t, 401, status)
	status, reply = p.get(t, "/api/info?api_key="+apiKey)
	require.Equal(t, 405, status, reply)
	status, reply = p.get(t, "/metrics")
	require.Equal(t, 200, status)
	require.Contains(t, reply, `fanfare_connections{transport="websocket"} 1`)
	require.Contains(t, reply, "go_goroutines ")
	refused := p.dial(t)
	require.NoError(t, refused.conn.Write(t.Context(), websocket.MessageText, []byte(`{"id":1,"connect":{"token":"`+token+`x"}}`)))
	_, err = refused.next()
	require.Equal(t, websocket.StatusCode(3500), websocket.CloseStatus(err), "a token that somebody changed")

	p.signal(t, syscall.SIGTERM)
	_, err = c.next()
	require.Equal(t, websocket.StatusCode(3001), websocket.CloseStatus(err), "the client is told to come back elsewhere")
	require.NoError(t, p.wait(t), "exit code 0")
	logged := p.logged()
	require.Contains(t, logged, `"drained"`)
	for _, s := range []string{tokenSecret, apiKey, wrongKey, token} {
		require.NotContains(t, logged, s)
	}
}

// TestProcess_Example: the file that the README begins with works, and so does its first command.
func TestProcess_Example(t *testing.T) {
	p := start(t, build(t), "example.json", "FANFARE_API_KEY=only-for-trying-it-out")
	c := p.dial(t)
	require.Contains(t, c.ask(`{"id":1,"connect":{}}`), `"client"`)
	require.Contains(t, c.ask(`{"id":2,"subscribe":{"channel":"news"}}`), `"recoverable":true`)
	status, reply := p.post(t, "publish", "only-for-trying-it-out", `{"channel":"news","data":{"text":"hello"}}`)
	require.Equal(t, 200, status, reply)
	push, err := c.next()
	require.NoError(t, err)
	require.Contains(t, push, "hello")
	p.signal(t, syscall.SIGINT)
	require.NoError(t, p.wait(t))
}

func TestProcess_EndsAtTheSecondSignal(t *testing.T) {
	p := start(t, build(t), write(t, `{"anonymous": true, "drain_delay": "1h"}`))
	p.signal(t, syscall.SIGTERM)
	require.Eventually(t, func() bool {
		status, _ := p.get(t, "/health/ready")
		return status == 503
	}, 10*time.Second, 5*time.Millisecond)
	p.signal(t, syscall.SIGTERM)
	var exit *exec.ExitError
	require.ErrorAs(t, p.wait(t), &exit)
	require.Equal(t, syscall.SIGTERM, exit.Sys().(syscall.WaitStatus).Signal())
}

func TestProcess_Check(t *testing.T) {
	out, err := exec.Command(build(t), "-check", "-config", write(t, `{"channels": {"room:{id}": {"subscribe": "anyone"}}}`)).CombinedOutput()
	require.NoError(t, err, "%s", out)
	require.Contains(t, string(out), "the configuration is good")

	path := write(t, "{\n\t\"channels\": {\"room:{id}\": {\"histroy_ttl\": \"10m\"}}\n}")
	out, err = exec.Command(build(t), "-check", "-config", path).CombinedOutput()
	require.Error(t, err)
	require.Equal(t, path+`:2: channels["room:{id}"].histroy_ttl: unknown key; did you mean "history_ttl"?`, strings.TrimSpace(string(out)))
}

func TestProcess_BusyAddress(t *testing.T) {
	p := start(t, build(t), write(t, `{"anonymous": true}`))
	cmd := exec.Command(build(t), "-config", write(t, `{"addr": "`+p.addr+`"}`))
	out, err := cmd.CombinedOutput()
	require.Error(t, err)
	require.Contains(t, string(out), ": addr: listen tcp "+p.addr)
}
