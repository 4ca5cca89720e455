package redistest

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

const (
	// patience is how long a master may be silent, in milliseconds, before the Sentinel replaces it. A busy machine needs some.
	patience = "5000"
	// impatience is the same for a master that was killed on purpose.
	impatience = "200"
)

// Sentinel is a master with one replica, and one Sentinel that watches them. It replaces a master that is silent for five seconds.
type Sentinel struct {
	MasterName string
	Servers    []*Server // the master and the replica, in the order of their start

	t       testing.TB
	watcher *Server
}

// StartSentinel starts all three, and returns when the replica could take over. Options are those of [Start], for both servers.
func StartSentinel(t testing.TB, options ...string) *Sentinel {
	t.Helper()
	s := &Sentinel{MasterName: "fanfare", t: t}
	master := Start(t, options...)
	host, port, _ := strings.Cut(master.Addr(), ":")
	replica := Start(t, append([]string{"--replicaof", host, port}, options...)...)
	s.Servers = []*Server{master, replica}
	await(t, "the replica has what the master has", func() bool {
		return strings.Contains(field(master.CLI("INFO", "replication"), "slave0"), "state=online") &&
			field(replica.CLI("INFO", "replication"), "master_link_status") == "up"
	})

	program, dir := look(t, "redis-server"), t.TempDir()
	s.watcher = newServer(t, func() (*process, error) { return s.launch(program, dir, host, port) })
	await(t, "the Sentinel knows the replica", func() bool { return strings.Contains(s.status(), "status=ok") && s.knowsReplica() })
	return s
}

// launch starts the Sentinel, which keeps what it knows in its configuration file.
func (s *Sentinel) launch(program, dir, host, masterPort string) (*process, error) {
	file := filepath.Join(dir, "sentinel.conf")
	for {
		port, err := freePort()
		if err != nil {
			return nil, err
		}
		config := fmt.Sprintf("port %d\nbind 127.0.0.1\nsentinel monitor %[2]s %s %s 1\nsentinel down-after-milliseconds %[2]s %[5]s\n"+
			"sentinel failover-timeout %[2]s 2000\n", port, s.MasterName, host, masterPort, patience)
		if err := os.WriteFile(file, []byte(config), 0o644); err != nil {
			return nil, err
		}
		p := &process{program: program, args: []string{file, "--sentinel"}, port: port, dir: dir, ready: "Sentinel ID is"}
		if err = p.start(); err == nil {
			return p, nil
		}
		handedOut.Delete(port)
		if !errors.Is(err, errPortTaken) {
			return nil, err
		}
	}
}

// status is the line of INFO about the master.
func (s *Sentinel) status() string { return field(s.watcher.CLI("INFO", "sentinel"), "master0") }

// knowsReplica reports whether the Sentinel has asked the replica who its master is, without which it would not promote it.
func (s *Sentinel) knowsReplica() bool {
	lines := strings.Split(s.watcher.CLI("SENTINEL", "REPLICAS", s.MasterName), "\n")
	i := slices.Index(lines, "master-link-status")
	return i >= 0 && i+1 < len(lines) && lines[i+1] == "ok"
}

// Addrs are the addresses of the Sentinels.
func (s *Sentinel) Addrs() []string { return []string{s.watcher.Addr()} }

// Master returns the server that the Sentinel calls the master now.
func (s *Sentinel) Master() *Server {
	s.t.Helper()
	host, port, _ := strings.Cut(s.watcher.CLI("SENTINEL", "GET-MASTER-ADDR-BY-NAME", s.MasterName), "\n")
	i := slices.IndexFunc(s.Servers, func(m *Server) bool { return m.Addr() == host+":"+port })
	require.GreaterOrEqual(s.t, i, 0, "the Sentinel names another master: %s:%s", host, port)
	return s.Servers[i]
}

// Failover kills the master with SIGKILL and returns when the replica has been promoted. The killed one can be started again, and
// becomes a replica then, some ten seconds later.
func (s *Sentinel) Failover() {
	s.t.Helper()
	old := s.Master()
	old.Kill()
	s.setPatience(impatience)
	await(s.t, "the replica is promoted", func() bool {
		now := s.Master()
		return now != old && strings.HasPrefix(now.CLI("ROLE"), "master")
	})
	s.setPatience(patience)
}

func (s *Sentinel) setPatience(milliseconds string) {
	s.t.Helper()
	require.Equal(s.t, "OK", s.watcher.CLI("SENTINEL", "SET", s.MasterName, "down-after-milliseconds", milliseconds))
}
