package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"strings"
	"sync"
	"time"
)

// The roles of the processes that the program starts itself.
const (
	roleNode  = "node"
	roleRedis = "redis"
)

// endTimeout is how long a process may take to end in good order.
const endTimeout = 10 * time.Second

// child is a process that the cluster owns: this program in another role. It says on its standard output where it serves, and
// ends with its standard input. So it ends with the cluster, too, however that ends.
type child struct {
	name string
	role string
	args []string
	log  *slog.Logger

	ready chan struct{} // closed when it serves for the first time

	mu     sync.Mutex // guards below
	addr   string     // empty while it does not serve
	pid    int        // 0 while there is none
	starts int
	kill   func()        // of the process that runs
	gone   chan struct{} // closed at its end
}

func newChild(name, role string, logger *slog.Logger, args ...string) *child {
	return &child{
		name: name, role: role, args: append([]string{"-role", role}, args...), log: logger.With("process", name),
		ready: make(chan struct{}),
	}
}

// keep runs the process, and again when it was killed, until ctx ends; then it lets it end in good order. A process that never
// served is an error.
func (c *child) keep(ctx context.Context, pause time.Duration) error {
	for {
		err := c.run(ctx)
		if ctx.Err() != nil {
			return nil
		}
		select {
		case <-c.ready:
		default:
			return fmt.Errorf("%s does not start: %w", c.name, err)
		}
		c.log.Info("has ended", "err", err, "starts_again_in", pause)
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return nil
		}
	}
}

// run runs the process once.
func (c *child) run(ctx context.Context) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	cmd := exec.Command(self, c.args...)
	cmd.Stderr = os.Stderr
	ownGroup(cmd) // Ctrl-C is for this process, which ends the others in order
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return err
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return errors.Join(err, stdin.Close())
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	c.began(cmd, stdin)
	defer context.AfterFunc(ctx, func() {
		_ = stdin.Close()
		time.AfterFunc(endTimeout, func() { _ = cmd.Process.Kill() }) // it may have ended
	})()
	line, err := bufio.NewReader(stdout).ReadString('\n')
	if err == nil {
		c.serves(strings.TrimSpace(line))
		_, _ = io.Copy(io.Discard, stdout) // ends with the process
	}
	err = cmd.Wait()
	c.ended()
	return err
}

func (c *child) began(cmd *exec.Cmd, stdin io.Closer) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.pid = cmd.Process.Pid
	c.starts++
	c.gone = make(chan struct{})
	c.kill = func() {
		if c.role == roleRedis {
			_ = stdin.Close() // its guard kills it
			return
		}
		_ = cmd.Process.Kill() // it may have ended
	}
}

func (c *child) serves(addr string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.addr = addr
	if c.starts == 1 {
		close(c.ready)
	}
	c.log.Info("serves", "addr", addr, "pid", c.pid)
}

func (c *child) ended() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.addr, c.pid, c.kill = "", 0, nil
	close(c.gone)
}

// Kill ends the process without a word to it, if there is one, and returns when it has ended.
func (c *child) Kill() {
	c.mu.Lock()
	kill, gone := c.kill, c.gone
	c.mu.Unlock()
	if kill == nil {
		return
	}
	c.log.Info("is killed")
	kill()
	<-gone
}

// Addr is where it serves, or empty.
func (c *child) Addr() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.addr
}

// awaitReady returns when it serves for the first time, or when ctx ends.
func (c *child) awaitReady(ctx context.Context) {
	select {
	case <-c.ready:
	case <-ctx.Done():
	}
}

// status is what the page shows of a process.
type status struct {
	Name   string `json:"name"`
	Addr   string `json:"addr"` // empty while it does not serve
	PID    int    `json:"pid"`
	Starts int    `json:"starts"`
}

func (c *child) status() status {
	c.mu.Lock()
	defer c.mu.Unlock()
	return status{c.name, c.addr, c.pid, c.starts}
}

// untilAlone returns a context that also ends when whoever started this process ends it, or has died.
func untilAlone(ctx context.Context) context.Context {
	ctx, cancel := context.WithCancel(ctx)
	// Ends with the process.
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		cancel()
	}()
	return ctx
}
