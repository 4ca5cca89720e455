package redistest

import (
	"bufio"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
)

// childEnv makes a test of this binary the one that is killed.
const childEnv = "REDISTEST_CHILD"

func TestServer_EndsWithAKilledTestBinary(t *testing.T) {
	t.Parallel()
	look(t, "redis-server")
	dir := t.TempDir()
	cmd := exec.Command(os.Args[0], "-test.run=^TestChild$", "-test.timeout=2m")
	cmd.Env = append(os.Environ(), childEnv+"=1", "TMPDIR="+dir)
	stdout, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())

	var addr string
	for lines := bufio.NewScanner(stdout); addr == "" && lines.Scan(); {
		addr, _ = strings.CutPrefix(lines.Text(), "serves at ")
		if !strings.HasPrefix(addr, "127.0.0.1:") {
			addr = ""
		}
	}
	require.NoError(t, cmd.Process.Signal(syscall.SIGKILL))
	require.Error(t, cmd.Wait())
	require.NotEmpty(t, addr)
	_, port, _ := strings.Cut(addr, ":")
	await(t, "the server of the killed test is gone", func() bool {
		return exec.Command("redis-cli", "-h", "127.0.0.1", "-p", port, "PING").Run() != nil
	})
}

// TestChild is run by the test above, and killed by it.
func TestChild(t *testing.T) {
	if os.Getenv(childEnv) == "" {
		t.Skip("the test above runs it in a process of its own")
	}
	s := Start(t)
	_, _ = os.Stdout.WriteString("serves at " + s.Addr() + "\n")
	select {}
}
