package redistest

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// A script of a broker that wants to know whether the server may have lost what it had acknowledged compares master_replid of INFO
// with what it was. The tests below, and those of Cluster and Sentinel, say what Redis does with it: it changes whenever that may
// have happened, and sometimes when it has not.

// life is master_replid as a script sees it, together with a command that writes.
func life(t *testing.T, s *Server, key string) string {
	t.Helper()
	const script = `local life = string.match(redis.call('INFO', 'replication'), 'master_replid:(%x+)')
		redis.call('HSET', KEYS[1], 'life', life)
		return life`
	id := s.CLI("EVAL", script, "1", key)
	require.Len(t, id, 40, "%s", id)
	return id
}

func TestLife_ChangesWithEveryStart(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		options []string
		end     func(*Server)
	}{
		"nothing on disk, killed":  {nil, (*Server).Kill},
		"snapshots, shut down":     {[]string{"--save 3600 1"}, (*Server).Shutdown},
		"append-only, shut down":   {[]string{"--appendonly yes"}, (*Server).Shutdown},
		"append-only, killed":      {[]string{"--appendonly yes", "--appendfsync always"}, (*Server).Kill},
		"both, killed":             {[]string{"--appendonly yes", "--save 3600 1"}, (*Server).Kill},
		"without RDB in the file":  {[]string{"--appendonly yes", "--aof-use-rdb-preamble no"}, (*Server).Shutdown},
		"saved by BGSAVE, killed":  {nil, func(s *Server) { s.CLI("SAVE"); s.Kill() }},
		"paused before it was hit": {[]string{"--appendonly yes"}, func(s *Server) { s.Pause(); s.Kill() }},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := Start(t, test.options...)
			before := life(t, s, "key")
			require.Equal(t, before, life(t, s, "key"))
			test.end(s)
			s.Start()
			require.NotEqual(t, before, life(t, s, "key"))
		})
	}
}

func TestLife_SurvivesWhatLosesKeysOnly(t *testing.T) {
	t.Parallel()
	s := Start(t, "--appendonly yes")
	before := life(t, s, "key")
	for _, command := range [][]string{{"FLUSHALL"}, {"DEBUG", "RELOAD"}, {"BGREWRITEAOF"}, {"CLIENT", "KILL", "TYPE", "normal"}} {
		s.CLI(command...)
		require.Equal(t, before, life(t, s, "key"), "%s", command)
	}
}

func TestLife_ChangesWithTheFirstReplicaAndWhenTheLastHasBeenAwayForLong(t *testing.T) {
	t.Parallel()
	// The offset begins anew with the backlog, which is made for the first replica and given up an hour (here a second) after the
	// last one has left. Nothing is lost.
	master := Start(t, "--repl-backlog-ttl 1")
	replica := Start(t)
	before := life(t, master, "key")
	attach := func(host, port string) { require.Equal(t, "OK", replica.CLI("REPLICAOF", host, port)) }
	attach("127.0.0.1", master.port())
	await(t, "the replica is there", func() bool { return field(replica.CLI("INFO", "replication"), "master_link_status") == "up" })
	with := life(t, master, "key")
	require.NotEqual(t, before, with)
	attach("NO", "ONE")
	require.NotEqual(t, with, life(t, replica, "key"))
	await(t, "the backlog is given up", func() bool { return life(t, master, "key") != with })
}

func TestLife_NeedsThePermissionToAsk(t *testing.T) {
	t.Parallel()
	s := Start(t, "--user default on nopass ~* &* +@all", "--user app on nopass ~* &* +@all -@dangerous",
		"--user allowed on nopass ~* &* +@all -@dangerous +info")
	const script = `return redis.call('INFO', 'replication')`
	as := func(user string) string {
		return s.CLI("--user", user, "--pass", "any", "--no-auth-warning", "EVAL", script, "0")
	}
	require.Contains(t, as("app"), "ERR The user executing the script can't run this command or subcommand")
	require.Contains(t, as("allowed"), "master_replid")
}
