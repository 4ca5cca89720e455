package redistest

import (
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

const slots = 16384

// Cluster is a Redis Cluster of three masters without replicas.
type Cluster struct {
	Masters []*Server

	t testing.TB
}

// StartCluster starts a Cluster, and returns when all of it serves. Options are those of [Start]. Redis takes two seconds for it.
func StartCluster(t testing.TB, options ...string) *Cluster {
	t.Helper()
	c := &Cluster{t: t}
	for range 3 {
		c.Masters = append(c.Masters, startMember(t, split(options)))
	}
	share := (slots + len(c.Masters) - 1) / len(c.Masters)
	for i, m := range c.Masters {
		first, last := i*share, min((i+1)*share, slots)-1
		c.order(m, "CLUSTER", "ADDSLOTSRANGE", strconv.Itoa(first), strconv.Itoa(last))
		c.order(m, "CLUSTER", "SET-CONFIG-EPOCH", strconv.Itoa(i+1))
	}
	for _, m := range c.Masters[1:] {
		host, port, err := net.SplitHostPort(m.Addr())
		require.NoError(t, err)
		c.order(c.Masters[0], "CLUSTER", "MEET", host, port, m.bus())
	}
	c.AwaitOK()
	return c
}

func startMember(t testing.TB, options []string) *Server {
	t.Helper()
	// Redis would take the port of the bus from the other one; a port of its own is found as free as any.
	bus, err := freePort()
	require.NoError(t, err)
	t.Cleanup(func() { handedOut.Delete(bus) })
	dir := t.TempDir()
	return start(t, func(int) []string {
		return append([]string{
			"--cluster-enabled", "yes", "--cluster-port", strconv.Itoa(bus), "--cluster-config-file", dir + "/nodes.conf",
			"--cluster-node-timeout", "3000",
		}, options...)
	})
}

// bus is the port at which a member of a Cluster talks to the others.
func (s *Server) bus() string {
	return s.process.args[slices.Index(s.process.args, "--cluster-port")+1]
}

// AwaitOK returns when every member serves and agrees with the others who has which slot, also after one was started again.
func (c *Cluster) AwaitOK() {
	c.t.Helper()
	await(c.t, "the Cluster agrees", func() bool {
		var first string
		for i, m := range c.Masters {
			info := m.CLI("CLUSTER", "INFO")
			if field(info, "cluster_state") != "ok" || field(info, "cluster_known_nodes") != strconv.Itoa(len(c.Masters)) ||
				field(info, "cluster_slots_ok") != strconv.Itoa(slots) {
				return false
			}
			view := c.view(m)
			if i == 0 {
				first = view
			} else if view != first {
				return false
			}
		}
		return true
	})
}

// view is who has which slots, as one member sees it.
func (c *Cluster) view(m *Server) string {
	var lines []string
	for line := range strings.Lines(m.CLI("CLUSTER", "NODES")) {
		// id address flags master ping pong epoch link slots...
		if fields := strings.Fields(line); len(fields) >= 8 {
			lines = append(lines, fmt.Sprint(fields[0], fields[1], fields[8:]))
		}
	}
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}

// Addrs are the addresses of the masters.
func (c *Cluster) Addrs() []string {
	var addrs []string
	for _, m := range c.Masters {
		addrs = append(addrs, m.Addr())
	}
	return addrs
}

// Owner returns the master that serves a key.
func (c *Cluster) Owner(key string) *Server {
	c.t.Helper()
	slot := c.Slot(key)
	for _, m := range c.Masters {
		for line := range strings.Lines(m.CLI("CLUSTER", "NODES")) {
			if fields := strings.Fields(line); len(fields) > 8 && strings.Contains(fields[2], "myself") && contains(fields[8:], slot) {
				return m
			}
		}
	}
	require.Fail(c.t, "nobody has the slot", "slot %d of key %q", slot, key)
	return nil
}

// contains reports whether ranges, "first-last" or single numbers, contain a slot.
func contains(ranges []string, slot int) bool {
	for _, r := range ranges {
		low, high, isRange := strings.Cut(r, "-")
		if !isRange {
			high = low
		}
		first, err1 := strconv.Atoi(low)
		last, err2 := strconv.Atoi(high)
		if err1 == nil && err2 == nil && first <= slot && slot <= last {
			return true
		}
	}
	return false
}

// Slot returns the slot of a key.
func (c *Cluster) Slot(key string) int {
	c.t.Helper()
	slot, err := strconv.Atoi(c.Masters[0].CLI("CLUSTER", "KEYSLOT", key))
	require.NoError(c.t, err)
	return slot
}

// MoveSlot moves the slot of a key, with all keys in it, to the next master, as redis-cli does when it rebalances. It returns when
// all members know.
func (c *Cluster) MoveSlot(key string) {
	c.t.Helper()
	slot, from := strconv.Itoa(c.Slot(key)), c.Owner(key)
	to := c.Masters[(slices.Index(c.Masters, from)+1)%len(c.Masters)]
	fromID, toID := from.CLI("CLUSTER", "MYID"), to.CLI("CLUSTER", "MYID")
	host, port, err := net.SplitHostPort(to.Addr())
	require.NoError(c.t, err)

	c.order(to, "CLUSTER", "SETSLOT", slot, "IMPORTING", fromID)
	c.order(from, "CLUSTER", "SETSLOT", slot, "MIGRATING", toID)
	for {
		keys := from.CLI("CLUSTER", "GETKEYSINSLOT", slot, "100")
		if keys == "" {
			break
		}
		migrate := append([]string{"MIGRATE", host, port, "", "0", "10000", "KEYS"}, strings.Split(keys, "\n")...)
		reply := from.CLI(migrate...)
		require.Contains(c.t, []string{"OK", "NOKEY"}, reply)
	}
	// The new owner first, so that there is always one.
	c.order(to, "CLUSTER", "SETSLOT", slot, "NODE", toID)
	for _, m := range c.Masters {
		c.order(m, "CLUSTER", "SETSLOT", slot, "NODE", toID)
	}
	c.AwaitOK()
}

func (c *Cluster) order(m *Server, args ...string) {
	c.t.Helper()
	require.Equal(c.t, "OK", m.CLI(args...), "%s", strings.Join(args, " "))
}
