package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

const (
	packages = "github.com/fanfare-go/fanfare/benchmarks/"

	startTimeout = 10 * time.Second
	stopTimeout  = 15 * time.Second
	loadTimeout  = 5 * time.Minute
)

// bench runs programs on their cores.
type bench struct {
	options
	dir      string // of the binaries
	progress io.Writer
	raw      *os.File // nil: not kept

	halfLoad map[string]float64 // publications per second, by variant
}

func newBench(ctx context.Context, o options, progress io.Writer) (*bench, error) {
	if _, err := exec.LookPath("taskset"); err != nil {
		return nil, fmt.Errorf("taskset, of util-linux, keeps server and clients on their cores: %w", err)
	}
	dir, err := os.MkdirTemp("", "fanfare-bench-")
	if err != nil {
		return nil, err
	}
	b := &bench{options: o, dir: dir, progress: progress, halfLoad: make(map[string]float64)}
	if o.raw != "" {
		if b.raw, err = os.OpenFile(o.raw, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644); err != nil {
			b.close()
			return nil, err
		}
	}
	b.logf("building into %s\n", dir)
	build := exec.CommandContext(ctx, "go", "build", "-o", dir, packages+"server", packages+"floor", packages+"loadgen")
	if output, err := build.CombinedOutput(); err != nil {
		b.close()
		return nil, fmt.Errorf("go build: %w\n%s", err, output)
	}
	return b, nil
}

func (b *bench) close() {
	if b.raw != nil {
		_ = b.raw.Close()
	}
	_ = os.RemoveAll(b.dir)
}

func (b *bench) logf(format string, args ...any) { fmt.Fprintf(b.progress, format, args...) }

// pair runs a scenario once for the floor and once for each server; every second pair the other way round, so that what
// drifts meanwhile favours nobody.
func (b *bench) pair(ctx context.Context, r *report, number int) error {
	const floor = -1
	var order []int
	if r.scenario.floor != nil {
		order = append(order, floor)
	}
	for i := range r.variants {
		order = append(order, i)
	}
	if number%2 == 1 {
		slices.Reverse(order)
	}
	r.floors = append(r.floors, nil)
	for i := range r.servers {
		r.servers[i] = append(r.servers[i], nil)
	}
	for _, i := range order {
		var res result
		var err error
		if i == floor {
			res, err = b.single(ctx, filepath.Join(b.dir, "floor"), nil, *r.scenario.floor)
			r.floors[number] = res
		} else {
			res, err = r.scenario.measure(ctx, b, r.variants[i])
			r.servers[i][number] = res
		}
		if err != nil {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			r.failures++
			b.logf("  failed: %v\n", err)
		}
	}
	return nil
}

// server is single for a server to be measured.
func (b *bench) server(ctx context.Context, v variant, l load) (result, error) {
	binary := v.binary
	if binary == "" {
		binary = filepath.Join(b.dir, "server")
	}
	return b.single(ctx, binary, v.flags, l)
}

// single starts a program, loads it, and stops it: no run begins with what another left behind.
func (b *bench) single(ctx context.Context, binary string, flags []string, l load) (res result, err error) {
	addr, err := freeAddr()
	if err != nil {
		return nil, err
	}
	cmd := exec.Command("taskset", append([]string{"-c", b.serverCore, binary, "-addr", addr}, flags...)...)
	cmd.Stderr = b.progress
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	exited := make(chan error, 1)
	go func() { exited <- cmd.Wait() }() // ends with the process, which is stopped below
	defer func() { err = errors.Join(err, stop(cmd.Process, exited)) }()
	if err := waitReady(ctx, addr, exited); err != nil {
		return nil, fmt.Errorf("%s: %w", filepath.Base(binary), err)
	}
	label := strings.TrimSpace(filepath.Base(binary) + " " + strings.Join(flags, " "))
	return b.loadgen(ctx, addr, cmd.Process.Pid, label, l)
}

func freeAddr() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	return l.Addr().String(), l.Close()
}

func waitReady(ctx context.Context, addr string, exited chan error) error {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	for {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+addr+"/memstats", nil)
		if err != nil {
			return err
		}
		req.Close = true // no connection of ours may count as one of the server's
		if resp, err := http.DefaultClient.Do(req); err == nil {
			_ = resp.Body.Close()
			return nil
		}
		select {
		case err := <-exited:
			exited <- err
			return fmt.Errorf("ended before it served: %w", err)
		case <-ctx.Done():
			return fmt.Errorf("does not serve: %w", ctx.Err())
		case <-time.After(20 * time.Millisecond):
		}
	}
}

func stop(p *os.Process, exited chan error) error {
	_ = p.Signal(syscall.SIGTERM)
	select {
	case err := <-exited:
		return err
	case <-time.After(stopTimeout):
		_ = p.Kill()
		<-exited
		return fmt.Errorf("process %d did not stop within %v", p.Pid, stopTimeout)
	}
}

// loadgen runs one load against a program.
func (b *bench) loadgen(ctx context.Context, addr string, pid int, label string, l load) (result, error) {
	ctx, cancel := context.WithTimeout(ctx, loadTimeout)
	defer cancel()
	args := []string{"-c", b.clientCore, filepath.Join(b.dir, "loadgen"), "-addr", addr, "-pid", strconv.Itoa(pid), "-label", label}
	cmd := exec.CommandContext(ctx, "taskset", append(args, l.words(b.Quick)...)...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	b.logf("  %s: loadgen %s\n", label, strings.Join(l.words(b.Quick), " "))
	if err := cmd.Run(); err != nil {
		return nil, fmt.Errorf("%w: %s", err, bytes.TrimSpace(stderr.Bytes()))
	}
	if b.raw != nil {
		if _, err := b.raw.Write(stdout.Bytes()); err != nil {
			return nil, err
		}
	}
	res, err := parseResult(stdout.Bytes())
	if err != nil {
		return nil, err
	}
	if bad := res["closed"] + res["failed"] + res["out_of_order"]; bad > 0 {
		return nil, fmt.Errorf("connections were lost or messages out of order: %s", bytes.TrimSpace(stdout.Bytes()))
	}
	return res, nil
}

// result is what loadgen measured, by name; scenarios add figures of their own.
type result map[string]float64

func parseResult(b []byte) (result, error) {
	var fields map[string]any
	if err := json.Unmarshal(b, &fields); err != nil {
		return nil, fmt.Errorf("loadgen: %w", err)
	}
	res := make(result)
	for name, v := range maps.All(fields) {
		if number, ok := v.(float64); ok {
			res[name] = number
		}
	}
	return res, nil
}
