//go:build linux

// Command redis measures what fanfare adds to Redis: publishing against the same script called by redis-benchmark, delivery
// against a bare PUBLISH and SUBSCRIBE, and what it costs to keep members present. It prints medians as Markdown. It needs Linux,
// taskset, redis-server and redis-benchmark. See the README of benchmarks.
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"slices"
	"syscall"

	"github.com/fanfare-go/fanfare/benchmarks/internal/rounds"
)

type options struct {
	rounds.Options
	redisCore  string
	clientCore string
	profile    string
}

func parseOptions(args []string) (options, error) {
	var o options
	f := flag.NewFlagSet("redis", flag.ContinueOnError)
	f.StringVar(&o.redisCore, "redis-core", "0", "cores of redis-server, as taskset takes them")
	f.StringVar(&o.clientCore, "client-core", "1", "cores of this program and of redis-benchmark")
	f.StringVar(&o.profile, "cpuprofile", "", "file for a CPU profile of this program")
	err := o.Parse(f, args, "what to measure: publish, latency, presence")
	return o, err
}

// pinned tells the program that it is on its core already.
const pinned = "FANFARE_BENCH_PINNED"

func main() {
	o, err := parseOptions(os.Args[1:])
	if err != nil {
		if err != flag.ErrHelp {
			fmt.Fprintln(os.Stderr, "redis:", err)
			os.Exit(2)
		}
		return
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if os.Getenv(pinned) == "" {
		err = pin(o.clientCore)
	} else {
		err = profiled(o.profile, func() error { return run(ctx, o, os.Stdout, os.Stderr) })
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "redis:", err)
		stop()
		os.Exit(1)
	}
}

// pin starts this program again, on its core, in this process. What it starts is there too, if it is not put elsewhere.
func pin(core string) error {
	taskset, err := exec.LookPath("taskset")
	if err != nil {
		return fmt.Errorf("taskset, of util-linux, keeps server and clients on their cores: %w", err)
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	return syscall.Exec(taskset, append([]string{"taskset", "-c", core, self}, os.Args[1:]...), append(os.Environ(), pinned+"=1"))
}

func run(ctx context.Context, o options, out, progress io.Writer) error {
	s, err := startServer(ctx, o.redisCore)
	if err != nil {
		return err
	}
	defer s.stop()
	chosen := slices.DeleteFunc(scenarios(), func(c scenario) bool { return !o.Only.MatchString(c.name) })
	if len(chosen) == 0 {
		return fmt.Errorf("nothing is called %q", o.Only)
	}
	var reports []report
	for _, c := range chosen {
		r, err := measure(ctx, c, s, o, progress)
		if err != nil {
			return fmt.Errorf("%s: %w", c.name, err)
		}
		reports = append(reports, r)
	}
	return writeReport(out, describe(ctx, o, s), reports)
}
