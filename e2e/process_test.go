//go:build unix

package e2e

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// scriptTimeout bounds one script. A whole run takes about half a minute; a busy machine gets twenty times that.
const scriptTimeout = 10 * time.Minute

// scriptLine is one line that a script prints: first its plan, then a result for each scenario.
type scriptLine struct {
	Planned []string `json:"planned"`
	result
}

type result struct {
	Name   string `json:"name"`
	OK     bool   `json:"ok"`
	Error  string `json:"error"`
	Millis int    `json:"ms"`
}

// unavailable ends a test that needs a program that is not there: green must not mean "did not run" in CI.
func unavailable(t *testing.T, what string) {
	t.Helper()
	message := what + " is not available: run scripts/setup-test-tools"
	if os.Getenv("CI") == "true" {
		t.Fatal(message)
	}
	t.Skip(message)
}

func lookNode(t *testing.T) string {
	t.Helper()
	path, err := exec.LookPath("node")
	if err != nil {
		unavailable(t, "Node")
	}
	if _, err := os.Stat(filepath.FromSlash("node_modules/centrifuge/package.json")); err != nil {
		unavailable(t, "the npm package centrifuge")
	}
	return path
}

func lookChromium(t *testing.T) string {
	t.Helper()
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome"} {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	unavailable(t, "Chromium")
	return ""
}

// runScript runs a program that prints JSON lines, in a temporary directory of its own for what it and its children leave
// behind. It returns when the program and everything it started are gone.
func runScript(t *testing.T, each func(*scriptLine), program string, args ...string) error {
	t.Helper()
	tmp, err := os.MkdirTemp("", "fanfare-e2e-")
	require.NoError(t, err)
	defer os.RemoveAll(tmp)

	ctx, cancel := context.WithTimeout(t.Context(), scriptTimeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Env = append(os.Environ(), "TMPDIR="+tmp, "HOME="+tmp)
	// A group of its own, so that ending it also ends its children. The browser is in yet another one, but lives only
	// as long as the pipe to the script.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGTERM) }
	cmd.WaitDelay = 10 * time.Second

	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	stdout, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	defer syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)

	scanErr := scanLines(stdout, each)
	err = cmd.Wait()
	if err == nil {
		err = scanErr
	}
	if err != nil {
		return fmt.Errorf("%w\n%s", err, tail(stderr.Bytes(), 4096))
	}
	return nil
}

func scanLines(r interface{ Read([]byte) (int, error) }, each func(*scriptLine)) error {
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var line scriptLine
		if err := json.Unmarshal(lines.Bytes(), &line); err != nil {
			return fmt.Errorf("script printed %q: %w", lines.Text(), err)
		}
		each(&line)
	}
	return lines.Err()
}

// portsTaken counts the ports that freeAddr has looked at, from a beginning by chance: other tests look for some at the same time.
var portsTaken = func() *atomic.Uint32 {
	n := new(atomic.Uint32)
	n.Store(rand.Uint32())
	return n
}()

// freeAddr returns an address for a program that is started, and perhaps started again. Its port is none of those that systems give
// to outgoing connections, of which tests make many: one of them could have it just when nobody listens.
func freeAddr(t *testing.T) string {
	t.Helper()
	const first, count = 20_000, 12_000
	for range count {
		l, err := net.Listen("tcp", fmt.Sprint("127.0.0.1:", first+portsTaken.Add(1)%count))
		if err == nil {
			require.NoError(t, l.Close())
			return l.Addr().String()
		}
	}
	require.FailNow(t, "no port is free")
	return ""
}

func tail(b []byte, n int) []byte { return slices.Clone(b[max(0, len(b)-n):]) }
