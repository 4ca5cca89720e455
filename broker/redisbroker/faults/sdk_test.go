package faults

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare"
	"github.com/fanfare-go/fanfare/broker/internal/delivery"
	"github.com/fanfare-go/fanfare/broker/internal/redistest"
	"github.com/fanfare-go/fanfare/broker/redisbroker"
)

// scripts is where the published clients are.
const scripts = "../../../e2e"

// sdk is a process with published clients on every transport.
type sdk struct {
	cmd *exec.Cmd
	in  io.WriteCloser
	out *bufio.Reader
}

var _ delivery.Guests = (*sdk)(nil)

// startSDK starts it, and returns when every client is subscribed.
func startSDK(t *testing.T, r *delivery.Run) *sdk {
	t.Helper()
	program := lookNode(t)
	args := append([]string{"js/moving.mjs", r.Balancer.Address()}, r.Channels()...)
	cmd := exec.CommandContext(t.Context(), program, args...)
	cmd.Dir, cmd.Stderr = scripts, t.Output()
	in, err := cmd.StdinPipe()
	require.NoError(t, err)
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	s := &sdk{cmd: cmd, in: in, out: bufio.NewReader(out)}
	line, err := s.out.ReadString('\n')
	require.NoError(t, err, "the clients do not begin")
	require.JSONEq(t, `{"begun":true}`, line)
	return s
}

// lookNode returns the program that runs scripts. In CI it must be there.
func lookNode(t *testing.T) string {
	t.Helper()
	path, err := exec.LookPath("node")
	if err == nil {
		_, err = os.Stat(filepath.Join(scripts, "node_modules", "centrifuge", "package.json"))
	}
	if err == nil {
		return path
	}
	const message = "Node with the npm package centrifuge is not available: run scripts/setup-test-tools"
	if os.Getenv("CI") == "true" {
		t.Fatal(message)
	}
	t.Skip(message)
	return ""
}

// sdkScene is a scene as the script prints it.
type sdkScene struct {
	Kind    string
	Offset  uint64
	Epoch   string
	Payload string
}

var kinds = map[string]delivery.Kind{"began": delivery.Began, "seen": delivery.Seen, "told": delivery.Told}

// Finish implements [delivery.Guests].
func (s *sdk) Finish(end map[string]fanfare.Position) (map[string]map[string]delivery.Tale, error) {
	line, err := json.Marshal(end)
	if err != nil {
		return nil, err
	}
	if _, err := fmt.Fprintf(s.in, "%s\n", line); err != nil {
		return nil, err
	}
	var last struct {
		Tales    map[string]map[string][]sdkScene
		Problems []string
	}
	if err := json.NewDecoder(s.out).Decode(&last); err != nil {
		return nil, fmt.Errorf("what the published clients say: %w", err)
	}
	var errs []error
	for _, p := range last.Problems {
		errs = append(errs, errors.New(p))
	}
	tales := make(map[string]map[string]delivery.Tale)
	for client, channels := range last.Tales {
		tales[client] = make(map[string]delivery.Tale)
		for channel, scenes := range channels {
			for _, scene := range scenes {
				tales[client][channel] = append(tales[client][channel], delivery.Scene{
					Kind: kinds[scene.Kind], At: fanfare.Position{Offset: scene.Offset, Epoch: scene.Epoch}, Payload: scene.Payload})
			}
		}
	}
	return tales, errors.Join(errs...)
}

// cutting cuts connections between clients and nodes at random, until the test is over.
func cutting(t *testing.T, b *delivery.Balancer) {
	done, over := make(chan struct{}), make(chan struct{})
	go func() { // ended and waited for by the cleanup
		defer close(done)
		for ticker := time.NewTicker(50 * time.Millisecond); ; {
			select {
			case <-ticker.C:
				b.Cut()
			case <-over:
				ticker.Stop()
				return
			}
		}
	}()
	t.Cleanup(func() {
		close(over)
		<-done
	})
}

// published is how many clients the script has.
const published = 5

// TestSDK: published clients on every transport, whose connections are cut all the time, so that they move between the nodes, while
// something happens to Redis.
func TestSDK(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		start func(t *testing.T) (redis redisbroker.Config, fail func(r *delivery.Run))
		told  int // channels, of three
	}{
		"stands still, then killed, comes back empty": {func(t *testing.T) (redisbroker.Config, func(r *delivery.Run)) {
			s := redistest.Start(t)
			return at(s.Addr()), func(r *delivery.Run) {
				s.Pause()
				time.Sleep(away(t))
				s.Resume()
				r.AwaitAccepted(some)
				require.Zero(t, r.Gaps(), "after the pause")
				restart(t, s, r)
			}
		}, 3},
		"killed, comes back with data": {func(t *testing.T) (redisbroker.Config, func(r *delivery.Run)) {
			s := redistest.Start(t, "--appendonly yes", "--appendfsync everysec")
			return at(s.Addr()), func(r *delivery.Run) { restart(t, s, r) }
		}, 3},
		"closes the connections that subscribe": {func(t *testing.T) (redisbroker.Config, func(r *delivery.Run)) {
			s := redistest.Start(t)
			return at(s.Addr()), func(r *delivery.Run) {
				for range 3 {
					s.CLI("CLIENT", "KILL", "TYPE", "pubsub")
					r.AwaitAccepted(some)
				}
			}
		}, 0},
		"fails over": {func(t *testing.T) (redisbroker.Config, func(r *delivery.Run)) {
			s := redistest.StartSentinel(t)
			redis := redisbroker.Config{Servers: []redisbroker.Server{{Addresses: s.Addrs(), SentinelMaster: s.MasterName}}}
			return redis, func(*delivery.Run) { s.Failover() }
		}, 3},
		"moves a slot": {func(t *testing.T) (redisbroker.Config, func(r *delivery.Run)) {
			c := redistest.StartCluster(t)
			redis := redisbroker.Config{Servers: []redisbroker.Server{{Addresses: c.Addrs()}}}
			return redis, func(r *delivery.Run) { c.MoveSlot("{." + r.Channels()[0] + "}") }
		}, 1},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			redis, fail := tt.start(t)
			r := start(t, redis, fanfare.Config{})
			r.Invite(startSDK(t, r))
			cutting(t, r.Balancer)
			r.AwaitAccepted(some)
			fail(r)
			r.AwaitAccepted(more)
			result := r.Finish()
			if tt.told == 0 {
				require.Empty(t, result.Gaps)
				return
			}
			require.Len(t, result.Gaps, len(r.Clients())+published, "everybody is told, the published clients too: %v", result.Gaps)
			for client, gaps := range result.Gaps {
				require.Equal(t, tt.told, gaps, client)
			}
		})
	}
}
