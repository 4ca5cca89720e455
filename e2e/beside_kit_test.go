//go:build unix

package e2e

import (
	"bytes"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// process is one of the two programs, which can be stopped and started again at the same address.
type process struct {
	t    *testing.T
	addr string
	cmd  func() *exec.Cmd

	running *exec.Cmd
	out     *output
}

// output is what a process said so far.
type output struct {
	mu  sync.Mutex // guards buf
	buf bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.String()
}

// start returns when the program answers.
func (p *process) start() {
	p.t.Helper()
	p.running = p.cmd()
	p.running.Stdout, p.running.Stderr = p.out, p.out
	require.NoError(p.t, p.running.Start())
	require.Eventually(p.t, func() bool {
		conn, err := net.Dial("tcp", p.addr)
		if err == nil {
			err = conn.Close()
		}
		return err == nil
	}, 30*time.Second, 10*time.Millisecond, "%s does not answer", p.running.Path)
}

func (p *process) stop(signal os.Signal) {
	if p.running == nil {
		return
	}
	_ = p.running.Process.Signal(signal) // it may have ended
	_ = p.running.Wait()                 // how it ends is not the point
	p.running = nil
}

// pair is the app and the live server beside it.
type pair struct {
	app, live *process
	appURL    string
	liveURL   string
}

func lookPython(t *testing.T) string {
	t.Helper()
	path, err := exec.LookPath("python3")
	if err != nil {
		unavailable(t, "python3")
	}
	return path
}

// newPair starts both with the files as they are, but for the ports.
func newPair(t *testing.T) *pair {
	t.Helper()
	interpreter, dir := lookPython(t), t.TempDir()
	server := filepath.Join(dir, "standalone")
	out, err := exec.CommandContext(t.Context(), "go", "build", "-o", server, "../examples/standalone").CombinedOutput()
	require.NoError(t, err, "%s", out)

	p := &pair{app: &process{t: t, addr: freeAddr(t), out: &output{}}, live: &process{t: t, addr: freeAddr(t), out: &output{}}}
	p.appURL, p.liveURL = "http://"+p.app.addr, "http://"+p.live.addr
	config, err := os.ReadFile("../examples/django-beside/fanfare.json")
	require.NoError(t, err)
	moved := strings.NewReplacer("127.0.0.1:8000", p.app.addr, "127.0.0.1:8001", p.live.addr).Replace(string(config))
	file := filepath.Join(dir, "fanfare.json")
	require.NoError(t, os.WriteFile(file, []byte(moved), 0o600))

	p.live.cmd = func() *exec.Cmd { return exec.Command(server, "-config", file) }
	p.app.cmd = func() *exec.Cmd {
		cmd := exec.Command(interpreter, "-B", "../examples/django-beside/app.py") // -B: leaves no files behind
		cmd.Env = append(os.Environ(), "APP_ADDR="+p.app.addr, "APP_DATABASE="+filepath.Join(dir, "notes.db"), "LIVE_URL="+p.liveURL)
		return cmd
	}
	t.Cleanup(func() {
		p.live.stop(syscall.SIGKILL)
		p.app.stop(syscall.SIGKILL)
		http.DefaultTransport.(*http.Transport).CloseIdleConnections()
		if t.Failed() {
			t.Logf("the app said:\n%s\nthe live server said:\n%s", p.app.out, p.live.out)
		}
	})
	p.app.start()
	p.live.start()
	return p
}
