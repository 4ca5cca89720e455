package redistest

import (
	"crypto/tls"
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestServer_IsGoneWithTheTest(t *testing.T) {
	t.Parallel()
	var s *Server
	t.Run("with it", func(t *testing.T) {
		s = Start(t)
		require.Equal(t, "PONG", s.CLI("PING"))
	})
	require.False(t, s.process.running())
	_, err := net.Dial("tcp", s.Addr())
	require.Error(t, err)
}

func TestServer_ForgetsUnlessToldOtherwise(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		options  []string
		end      func(*Server)
		remember bool
	}{
		"nothing on disk, killed":     {nil, (*Server).Kill, false},
		"nothing on disk, shut down":  {nil, (*Server).Shutdown, false},
		"append-only, killed":         {[]string{"--appendonly yes", "--appendfsync always"}, (*Server).Kill, true},
		"snapshots, killed too early": {[]string{"--save", "3600 1"}, (*Server).Kill, false},
		"snapshots, shut down":        {[]string{"--save 3600 1"}, (*Server).Shutdown, true},
		"append-only, wiped":          {[]string{"--appendonly", "yes"}, func(s *Server) { s.Shutdown(); s.Wipe() }, false},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := Start(t, test.options...)
			addr, pid := s.Addr(), s.Pid()
			require.Equal(t, "OK", s.CLI("SET", "key", "value"))
			test.end(s)
			require.False(t, s.process.running())
			s.Start()
			require.Equal(t, addr, s.Addr())
			require.NotEqual(t, pid, s.Pid())
			want := ""
			if test.remember {
				want = "value"
			}
			require.Equal(t, want, s.CLI("GET", "key"))
		})
	}
}

func TestServer_StandsStillWhilePaused(t *testing.T) {
	t.Parallel()
	s := Start(t)
	conn, err := net.Dial("tcp", s.Addr())
	require.NoError(t, err)
	defer conn.Close()
	ask := func(patience time.Duration) error {
		require.NoError(t, conn.SetReadDeadline(time.Now().Add(patience)))
		_, err := conn.Read(make([]byte, 64))
		return err
	}
	s.Pause()
	_, err = conn.Write([]byte("PING\r\n"))
	require.NoError(t, err)
	require.Error(t, ask(100*time.Millisecond))
	s.Resume()
	require.NoError(t, ask(limit))

	s.Pause()
	s.Kill()
	s.Start()
	require.Equal(t, "PONG", s.CLI("PING"))
}

func TestServer_CLITellsErrorsOfRedis(t *testing.T) {
	t.Parallel()
	s := Start(t)
	require.Contains(t, s.CLI("GET"), "ERR wrong number of arguments")
}

func TestServer_TakesAnotherPortIfItsOwnIsTaken(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	p := &process{
		program: look(t, "redis-server"), args: []string{"--bind", "127.0.0.1", "--port", port(t, l.Addr())}, dir: t.TempDir(),
		ready: "Ready to accept connections",
	}
	require.ErrorIs(t, p.start(), errPortTaken)
	require.False(t, p.running())
}

func port(t *testing.T, a net.Addr) string {
	t.Helper()
	_, port, err := net.SplitHostPort(a.String())
	require.NoError(t, err)
	return port
}

func TestServer_SaysWhatItDoesNotLike(t *testing.T) {
	t.Parallel()
	_, err := launch(look(t, "redis-server"), t.TempDir(), func(int) []string { return []string{"--nonsense", "yes"} })
	require.ErrorContains(t, err, "nonsense")
}

func TestShared_IsOneForAllWhoUseIt(t *testing.T) {
	// Not parallel: it looks at what others may use too.
	a, prefixA := Shared(t)
	t.Run("below", func(t *testing.T) {
		b, prefixB := Shared(t)
		require.Equal(t, a.Addr(), b.Addr())
		require.NotEqual(t, prefixA, prefixB)
	})
	require.Equal(t, "PONG", a.CLI("PING"))
}

func TestShared_EndsWithTheLastTest(t *testing.T) {
	var s *Server
	t.Run("below", func(t *testing.T) { s, _ = Shared(t) })
	require.False(t, s.process.running())
	require.NoDirExists(t, s.process.dir)
}

func TestStartTLS(t *testing.T) {
	t.Parallel()
	s, config := StartTLS(t)
	require.Equal(t, "PONG", s.CLI("PING"))
	conn, err := tls.Dial("tcp", s.Addr(), config)
	require.NoError(t, err)
	defer conn.Close()
	_, err = conn.Write([]byte("PING\r\n"))
	require.NoError(t, err)
	reply := make([]byte, len("+PONG\r\n"))
	_, err = conn.Read(reply)
	require.NoError(t, err)
	require.Equal(t, "+PONG\r\n", string(reply))
}
