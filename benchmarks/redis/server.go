//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"time"
)

const startTimeout = 10 * time.Second

// server is the redis-server that everything is measured with. It keeps nothing on disk.
type server struct {
	addr, port string

	cmd    *exec.Cmd
	exited chan struct{}
	dir    string
	admin  *conn
}

func startServer(ctx context.Context, core string) (*server, error) {
	dir, err := os.MkdirTemp("", "fanfare-bench-")
	if err != nil {
		return nil, err
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	s := &server{addr: l.Addr().String(), dir: dir, exited: make(chan struct{})}
	_, s.port, _ = net.SplitHostPort(s.addr)
	if err := l.Close(); err != nil {
		return nil, err
	}
	s.cmd = exec.Command("taskset", "-c", core, "redis-server", "--port", s.port, "--bind", "127.0.0.1", "--dir", dir,
		"--save", "", "--appendonly", "no", "--loglevel", "warning")
	s.cmd.Stderr = os.Stderr
	if err := s.cmd.Start(); err != nil {
		_ = os.RemoveAll(dir)
		return nil, err
	}
	go func() {
		_ = s.cmd.Wait()
		close(s.exited)
	}()
	if err := s.awaitReady(ctx); err != nil {
		s.stop()
		return nil, err
	}
	return s, nil
}

func (s *server) awaitReady(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	for {
		var err error
		if s.admin, err = dial(s.addr); err == nil {
			_, err = s.admin.do("PING")
			return err
		}
		select {
		case <-s.exited:
			return errors.New("redis-server ended before it served")
		case <-ctx.Done():
			return fmt.Errorf("redis-server does not serve: %w", err)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

func (s *server) stop() {
	if s.admin != nil {
		_ = s.admin.Close()
	}
	_ = s.cmd.Process.Signal(syscall.SIGTERM)
	<-s.exited
	_ = os.RemoveAll(s.dir)
}

// usage is what the server has done since it was started.
type usage struct {
	commands, cpu float64 // cpu in seconds
}

func (s *server) usage() (usage, error) {
	info, err := s.admin.do("INFO", "all")
	if err != nil {
		return usage{}, err
	}
	var u usage
	for line := range strings.Lines(info) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), ":")
		n, err := strconv.ParseFloat(value, 64)
		if err != nil {
			continue
		}
		switch name {
		case "total_commands_processed":
			u.commands = n
		case "used_cpu_user", "used_cpu_sys":
			u.cpu += n
		}
	}
	return u, nil
}

// version is that of redis-server.
func (s *server) version() string {
	info, err := s.admin.do("INFO", "server")
	if err != nil {
		return "unknown"
	}
	_, after, _ := strings.Cut(info, "redis_version:")
	version, _, _ := strings.Cut(after, "\r\n")
	return version
}
