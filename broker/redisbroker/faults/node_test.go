package faults

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare"
	"github.com/fanfare-go/fanfare/broker/internal/delivery"
	"github.com/fanfare-go/fanfare/broker/internal/redistest"
	"github.com/fanfare-go/fanfare/broker/redisbroker"
)

// nodeRedis is the variable that makes this program a node of the Redis at its value, until its input ends.
const nodeRedis = "FANFARE_FAULTS_NODE_REDIS"

// process is whose connections they are that come to a node in a process of its own.
const process = "at the process"

// lease of nodes whose deaths are waited for.
const lease = 2 * time.Second

func runNode() {
	if err := serveNode(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func serveNode() error {
	redis := at(os.Getenv(nodeRedis))
	redis.Lease = lease
	broker, err := redisbroker.New(context.Background(), redis)
	if err != nil {
		return err
	}
	node, err := fanfare.New(delivery.Config(nil, fanfare.Config{
		Broker: broker, Presence: broker.Presence(),
		Authenticate: func(context.Context, *fanfare.ConnectRequest) (fanfare.Identity, error) {
			return fanfare.Identity{User: process}, nil
		},
	}))
	if err != nil {
		return err
	}
	delivery.Declare(node)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	fmt.Println(l.Addr())
	go func() { // for as long as the process lives
		_ = http.Serve(l, node)
	}()
	_, err = io.Copy(io.Discard, os.Stdin)
	return err
}

// startProcess starts a node in a process of its own, and returns its address and what kills it with SIGKILL. It dies with the test.
func startProcess(t *testing.T, redis string) (address string, kill func()) {
	t.Helper()
	program, err := os.Executable()
	require.NoError(t, err)
	cmd := exec.Command(program)
	cmd.Env = append(os.Environ(), nodeRedis+"="+redis)
	cmd.Stderr = t.Output()
	_, err = cmd.StdinPipe() // which ends with this process
	require.NoError(t, err)
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	killed := false
	kill = func() {
		if !killed {
			killed = true
			_ = cmd.Process.Kill()
			_ = cmd.Wait()
		}
	}
	t.Cleanup(kill)
	line, err := bufio.NewReader(out).ReadString('\n')
	require.NoError(t, err)
	return strings.TrimSpace(line), kill
}

// TestNode_Killed: its clients go on at the other node, and its members are gone within the lease.
func TestNode_Killed(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	redis := at(s.Addr())
	redis.Lease = lease
	address, kill := startProcess(t, s.Addr())
	node := newNode(t, redis, fanfare.Config{})
	r := delivery.Start(t, delivery.Options{Servers: []string{address}}, node)
	r.AwaitAccepted(some)
	members := func() (n int) {
		present, err := node.Presence(t.Context(), r.Channels()[0])
		require.NoError(t, err)
		for _, m := range present {
			if m.User == process {
				n++
			}
		}
		return n
	}
	for members() == 0 { // as the balancer picks
		r.AwaitAccepted(1)
	}

	kill()
	killed := clock(s)
	require.Eventually(t, func() bool {
		asked := clock(s)
		if members() == 0 {
			return true
		}
		// A node that the machine has held up gives the others another lease.
		require.Less(t, asked, killed+2*lease.Milliseconds()+1000, "they are gone with the lease, by the server's clock")
		return false
	}, time.Minute, 10*time.Millisecond)
	t.Logf("members gone after %d ms", clock(s)-killed)
	r.AwaitAccepted(more)
	require.Empty(t, r.Finish().Gaps)
	require.NotZero(t, r.Balancer.Carried()[address])
}

// clock is that of a server, in ms.
func clock(s *redistest.Server) int64 {
	seconds, micros, _ := strings.Cut(s.CLI("TIME"), "\n")
	ms, _ := strconv.ParseInt(seconds, 10, 64)
	us, _ := strconv.ParseInt(strings.TrimSpace(micros), 10, 64)
	return ms*1000 + us/1000
}

// TestNode_ShutDown: its clients are sent away one after the other, and go on at the other node. The balancer does not know that the
// node is going.
func TestNode_ShutDown(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	c := fanfare.Config{DrainWindow: time.Second}
	going := newNode(t, at(s.Addr()), c)
	r := delivery.Start(t, delivery.Options{}, going, newNode(t, at(s.Addr()), c))
	r.AwaitAccepted(some)
	require.NoError(t, going.Shutdown(t.Context()))
	r.AwaitAccepted(more)
	require.Empty(t, r.Finish().Gaps)
}
