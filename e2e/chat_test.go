//go:build unix

package e2e

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// TestChat_Chromium drives the example's own page in a browser, against the real program: it is killed and started
// again, and wires are cut. CHAT_SCREENSHOTS names a directory that keeps the pictures.
func TestChat_Chromium(t *testing.T) {
	t.Parallel()
	node, chromium := lookNode(t), lookChromium(t)
	shots := os.Getenv("CHAT_SCREENSHOTS")
	if shots == "" {
		shots = t.TempDir()
	}
	require.NoError(t, os.MkdirAll(shots, 0o755))
	c := newChat(t)
	runScenarios(t, node, "js/chat.mjs", c.control.URL, chromium, shots)
}

// chat is the example as a process, always on the same port and with the same data.
type chat struct {
	t       *testing.T
	program string
	data    string
	addr    string
	control *httptest.Server

	mu    sync.Mutex // guards below
	cmd   *exec.Cmd
	log   *bytes.Buffer // of the running process; read it only when it has ended
	wires []*wire
}

func newChat(t *testing.T) *chat {
	t.Helper()
	dir := t.TempDir()
	c := &chat{t: t, program: filepath.Join(dir, "chat"), data: filepath.Join(dir, "data", "chat.db.jsonl")}
	out, err := exec.CommandContext(t.Context(), "go", "build", "-o", c.program, "../examples/chat").CombinedOutput()
	require.NoError(t, err, "%s", out)

	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	c.addr = l.Addr().String()
	require.NoError(t, l.Close())
	require.NoError(t, c.start())

	mux := http.NewServeMux()
	handle := func(pattern string, do func(r *http.Request) (any, error)) {
		mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
			reply, err := do(r)
			if err != nil {
				http.Error(w, err.Error(), http.StatusInternalServerError)
				return
			}
			_ = json.NewEncoder(w).Encode(reply)
		})
	}
	handle("POST /wire", func(*http.Request) (any, error) { return c.newWire() })
	handle("POST /cut/{wire}", func(r *http.Request) (any, error) { return nil, c.setWire(r.PathValue("wire"), true) })
	handle("POST /heal/{wire}", func(r *http.Request) (any, error) { return nil, c.setWire(r.PathValue("wire"), false) })
	handle("POST /kill", func(*http.Request) (any, error) { return nil, c.kill() })
	handle("POST /stop", func(*http.Request) (any, error) { return nil, c.stop() })
	handle("POST /start", func(*http.Request) (any, error) { return nil, c.start() })
	c.control = httptest.NewServer(mux)
	t.Cleanup(c.close)
	return c
}

func (c *chat) close() {
	c.control.Close()
	_ = c.kill() // it may have ended before
	for _, w := range c.wires {
		w.close()
	}
	if c.t.Failed() {
		c.t.Logf("last log of the chat:\n%s", c.log)
	}
}

// start returns when the program answers.
func (c *chat) start() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.log = new(bytes.Buffer)
	c.cmd = exec.Command(c.program, "-addr", c.addr, "-data", c.data)
	c.cmd.Stderr = c.log
	if err := c.cmd.Start(); err != nil {
		return err
	}
	deadline := time.Now().Add(30 * time.Second)
	for {
		conn, err := net.Dial("tcp", c.addr)
		if err == nil {
			return conn.Close()
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("chat does not answer: %w", err)
		}
		time.Sleep(5 * time.Millisecond) // a process has no other sign of being ready
	}
}

func (c *chat) kill() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.cmd.Process.Kill(); err != nil {
		return err
	}
	var exit *exec.ExitError
	if err := c.cmd.Wait(); !errors.As(err, &exit) {
		return err
	}
	return nil
}

// stop asks the program to end, and expects that it does so in good order.
func (c *chat) stop() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		return err
	}
	watchdog := time.AfterFunc(30*time.Second, func() { _ = c.cmd.Process.Kill() })
	defer watchdog.Stop()
	if err := c.cmd.Wait(); err != nil {
		return fmt.Errorf("%w\n%s", err, c.log)
	}
	return nil
}

type wireReply struct {
	Wire int    `json:"wire"`
	URL  string `json:"url"`
}

func (c *chat) newWire() (wireReply, error) {
	w, err := newWire(c.addr)
	if err != nil {
		return wireReply{}, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.wires = append(c.wires, w)
	return wireReply{len(c.wires) - 1, "http://" + w.listener.Addr().String()}, nil
}

func (c *chat) setWire(id string, cut bool) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	for i, w := range c.wires {
		if fmt.Sprint(i) == id {
			w.set(cut)
			return nil
		}
	}
	return fmt.Errorf("no wire %q", id)
}
