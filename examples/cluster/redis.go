package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"time"
)

var errNoRedis = errors.New("redis-server is not in the PATH: install it (Debian: redis-server), or give -redis redis://host:port")

// freeAddr is an address for a Redis, which comes back there when it was killed.
func freeAddr() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	return l.Addr().String(), l.Close()
}

// guardRedis is the process beside a Redis: it starts it, and kills it when ctx ends. Redis itself would outlive whoever started
// it. It keeps nothing on disk, and what it has is gone with it.
func guardRedis(ctx context.Context, addr string) error {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "fanfare-cluster-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	var said bytes.Buffer
	cmd := exec.CommandContext(ctx, "redis-server", "--bind", host, "--port", port, "--dir", dir, "--save", "", "--appendonly", "no")
	cmd.Stdout, cmd.Stderr = &said, &said
	ownGroup(cmd)
	if err := cmd.Start(); err != nil {
		return err
	}
	ended := make(chan error, 1)
	// Owned by guardRedis, which waits for it.
	go func() { ended <- cmd.Wait() }()
	if awaitListener(ctx, addr, ended) {
		fmt.Println(addr)
	}
	err = <-ended
	if ctx.Err() != nil {
		return nil
	}
	return fmt.Errorf("redis-server has ended: %w\n%s", err, said.Bytes())
}

// awaitListener reports whether somebody listens before ctx or the process ends. The end of a process stays in its channel.
func awaitListener(ctx context.Context, addr string, ended chan error) bool {
	for {
		if conn, err := net.DialTimeout("tcp", addr, time.Second); err == nil {
			_ = conn.Close()
			return true
		}
		select {
		case err := <-ended:
			ended <- err
			return false
		case <-ctx.Done():
			return false
		case <-time.After(10 * time.Millisecond): // a process has no other sign of being ready
		}
	}
}
