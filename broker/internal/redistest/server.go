package redistest

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// Server is a redis-server. Addr and CLI may be called concurrently; the rest is for one goroutine at a time.
type Server struct {
	t       testing.TB
	process *process
	cli     []string // options of redis-cli
}

// Start starts a standalone server, which ends with the test. It keeps nothing on disk unless options, which are those of the
// command line of redis-server, say otherwise: "--appendonly yes", "--save 900 1". DEBUG is allowed.
func Start(t testing.TB, options ...string) *Server {
	t.Helper()
	return start(t, func(int) []string { return split(options) })
}

// start starts a server whose options depend on its port.
func start(t testing.TB, options func(port int) []string) *Server {
	t.Helper()
	program, dir := look(t, "redis-server"), t.TempDir()
	return newServer(t, func() (*process, error) { return launch(program, dir, options) })
}

// newServer makes a server of a process, and ends it with the test.
func newServer(t testing.TB, launch func() (*process, error)) *Server {
	t.Helper()
	p, err := launch()
	require.NoError(t, err)
	s := &Server{t: t, process: p}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("redis-server at %s said:\n%s", s.Addr(), p.log())
		}
		// Not by its methods: they would end a test that has ended.
		if err := p.kill(); err != nil {
			t.Error(err)
		}
		handedOut.Delete(p.port)
	})
	return s
}

// launch starts a server at a free port.
func launch(program, dir string, options func(port int) []string) (*process, error) {
	for {
		port, err := freePort()
		if err != nil {
			return nil, err
		}
		p := &process{program: program, port: port, dir: dir, ready: "Ready to accept connections"}
		p.args = append([]string{
			"--port", strconv.Itoa(port), "--bind", "127.0.0.1", "--dir", p.data(), "--save", "", "--appendonly", "no",
			"--repl-diskless-sync-delay", "0", "--enable-debug-command", "local",
		}, options(port)...)
		if err = p.start(); err == nil {
			return p, nil
		}
		handedOut.Delete(port)
		if !errors.Is(err, errPortTaken) {
			return nil, err
		}
	}
}

// Addr is "127.0.0.1:port", which stays the same when the server is started again.
func (s *Server) Addr() string { return address(s.process.port) }

func (s *Server) port() string { return strconv.Itoa(s.process.port) }

// Pid is the process as it was started last.
func (s *Server) Pid() int { return s.process.pid }

// Kill ends the server with SIGKILL, and returns when it is gone. It does nothing if it is stopped.
func (s *Server) Kill() {
	s.t.Helper()
	require.NoError(s.t, s.process.kill())
}

// Shutdown ends the server with SIGTERM, and returns when it is gone: it saves what it is configured to save.
func (s *Server) Shutdown() {
	s.t.Helper()
	require.NoError(s.t, s.process.shutdown())
}

// Start starts a stopped server again, at the same address, with what is on disk, and returns when it serves.
func (s *Server) Start() {
	s.t.Helper()
	require.NoError(s.t, s.process.startAgain())
}

// Wipe deletes the data that a stopped server has on disk. A member of a Cluster still knows the others and its slots.
func (s *Server) Wipe() {
	s.t.Helper()
	require.False(s.t, s.process.running(), "it runs")
	require.NoError(s.t, os.RemoveAll(s.process.data()))
}

// Pause makes the server stand still, with its connections open, until Resume.
func (s *Server) Pause() {
	s.t.Helper()
	require.NoError(s.t, send(s.process.pid, sigStop))
}

// Resume ends what Pause began.
func (s *Server) Resume() {
	s.t.Helper()
	require.NoError(s.t, send(s.process.pid, sigCont))
}

// CLI runs redis-cli against the server and returns what it prints, without spaces around it. An error that Redis replies with is
// returned too, as it is; a server that cannot be reached fails the test.
func (s *Server) CLI(args ...string) string {
	s.t.Helper()
	out, err := s.run(args...)
	require.NoError(s.t, err, "redis-cli %s: %s", strings.Join(args, " "), out)
	return out
}

func (s *Server) run(args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	args = append(append([]string{"-h", "127.0.0.1", "-p", s.port()}, s.cli...), args...)
	out, err := exec.CommandContext(ctx, filepath.Join(filepath.Dir(s.process.program), "redis-cli"), args...).CombinedOutput()
	return strings.TrimSpace(string(out)), err
}

// field returns a field of a section of INFO, as of "name:value" lines in general.
func field(info, name string) string {
	for line := range strings.Lines(info) {
		if key, value, ok := strings.Cut(strings.TrimSpace(line), ":"); ok && key == name {
			return value
		}
	}
	return ""
}

// await waits for what becomes true soon.
func await(t testing.TB, what string, condition func() bool) {
	t.Helper()
	for deadline := time.Now().Add(limit); !condition(); time.Sleep(pace) {
		require.True(t, time.Now().Before(deadline), "waited in vain: %s", what)
	}
}

// look finds a program, or ends the test: green must not mean "did not run" in CI.
func look(t testing.TB, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err == nil {
		return path
	}
	message := name + " is not available: run scripts/setup-test-tools"
	if os.Getenv("CI") == "true" {
		t.Fatal(message)
	}
	t.Skip(message)
	return ""
}
