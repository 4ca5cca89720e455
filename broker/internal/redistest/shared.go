package redistest

import (
	"fmt"
	"os"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
)

// shared is the server of Shared.
var shared struct {
	mu sync.Mutex // guards below

	process *process // nil while no test uses it
	dir     string
	users   int // tests that use it now
	tests   int // tests that have used it
}

// Shared returns a standalone server, as Start does without options, that tests have together, and a prefix for the keys of this
// test. It runs until the last test that uses it now has ended. Whoever stops or pauses it needs one from Start.
func Shared(t testing.TB) (s *Server, prefix string) {
	t.Helper()
	program := look(t, "redis-server")
	shared.mu.Lock()
	defer shared.mu.Unlock()
	if shared.process == nil {
		dir, err := os.MkdirTemp("", "redistest-")
		require.NoError(t, err)
		p, err := launch(program, dir, func(int) []string { return nil })
		if err != nil {
			_ = os.RemoveAll(dir)
			require.NoError(t, err)
		}
		shared.process, shared.dir = p, dir
	}
	shared.users++
	shared.tests++
	t.Cleanup(func() { leaveShared(t) })
	return &Server{t: t, process: shared.process}, fmt.Sprintf("test%d", shared.tests)
}

func leaveShared(t testing.TB) {
	shared.mu.Lock()
	defer shared.mu.Unlock()
	if shared.users--; shared.users > 0 {
		return
	}
	if err := shared.process.kill(); err != nil {
		t.Error(err)
	}
	handedOut.Delete(shared.process.port)
	_ = os.RemoveAll(shared.dir)
	shared.process = nil
}
