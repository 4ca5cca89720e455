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

// screenshots is where pictures go: the directory that EXAMPLE_SCREENSHOTS names keeps them.
func screenshots(t *testing.T) string {
	t.Helper()
	dir := os.Getenv("EXAMPLE_SCREENSHOTS")
	if dir == "" {
		return t.TempDir()
	}
	require.NoError(t, os.MkdirAll(dir, 0o755))
	return dir
}

// example is a program of examples/ as a process, always on the same port and with the same arguments, and what its scenarios
// order: wires to it, its end and its start.
type example struct {
	t       *testing.T
	program string
	args    []string
	addr    string
	control *httptest.Server

	mu    sync.Mutex // guards below
	cmd   *exec.Cmd
	log   *bytes.Buffer // of the running process; read it only when it has ended
	wires []*wire
}

func newExample(t *testing.T, name string, args ...string) *example {
	t.Helper()
	e := &example{t: t, program: filepath.Join(t.TempDir(), name), args: args, addr: freeAddr(t)}
	out, err := exec.CommandContext(t.Context(), "go", "build", "-o", e.program, "../examples/"+name).CombinedOutput()
	require.NoError(t, err, "%s", out)
	require.NoError(t, e.start())

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
	handle("POST /wire", func(*http.Request) (any, error) { return e.newWire() })
	handle("POST /cut/{wire}", func(r *http.Request) (any, error) { return nil, e.setWire(r.PathValue("wire"), true) })
	handle("POST /heal/{wire}", func(r *http.Request) (any, error) { return nil, e.setWire(r.PathValue("wire"), false) })
	handle("POST /kill", func(*http.Request) (any, error) { return nil, e.kill() })
	handle("POST /stop", func(*http.Request) (any, error) { return nil, e.stop() })
	handle("POST /start", func(*http.Request) (any, error) { return nil, e.start() })
	e.control = httptest.NewServer(mux)
	t.Cleanup(e.close)
	return e
}

func (e *example) close() {
	e.control.Close()
	_ = e.kill() // it may have ended before
	for _, w := range e.wires {
		w.close()
	}
	if e.t.Failed() {
		e.t.Logf("last log of the example:\n%s", e.log)
	}
}

// start returns when the program answers.
func (e *example) start() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.log = new(bytes.Buffer)
	e.cmd = exec.Command(e.program, append([]string{"-addr", e.addr}, e.args...)...)
	e.cmd.Stderr = e.log
	if err := e.cmd.Start(); err != nil {
		return err
	}
	deadline := time.Now().Add(30 * time.Second)
	for {
		conn, err := net.Dial("tcp", e.addr)
		if err == nil {
			return conn.Close()
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("the program does not answer: %w", err)
		}
		time.Sleep(5 * time.Millisecond) // a process has no other sign of being ready
	}
}

func (e *example) kill() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if err := e.cmd.Process.Kill(); err != nil {
		return err
	}
	var exit *exec.ExitError
	if err := e.cmd.Wait(); !errors.As(err, &exit) {
		return err
	}
	return nil
}

// stop asks the program to end, and expects that it does so in good order.
func (e *example) stop() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if err := e.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		return err
	}
	watchdog := time.AfterFunc(30*time.Second, func() { _ = e.cmd.Process.Kill() })
	defer watchdog.Stop()
	if err := e.cmd.Wait(); err != nil {
		return fmt.Errorf("%w\n%s", err, e.log)
	}
	return nil
}

type wireReply struct {
	Wire int    `json:"wire"`
	URL  string `json:"url"`
}

func (e *example) newWire() (wireReply, error) {
	w, err := newWire(e.addr)
	if err != nil {
		return wireReply{}, err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.wires = append(e.wires, w)
	return wireReply{len(e.wires) - 1, "http://" + w.listener.Addr().String()}, nil
}

func (e *example) setWire(id string, cut bool) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	for i, w := range e.wires {
		if fmt.Sprint(i) == id {
			w.set(cut)
			return nil
		}
	}
	return fmt.Errorf("no wire %q", id)
}
