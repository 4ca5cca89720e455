// Command standalone is a complete real-time server around a fanfare.Node, for apps that are not written in Go:
//
//	go run ./examples/standalone -config examples/standalone/example.json
//
// The app says in a file what channels there are, proves by tokens or answers by webhooks who may do what, and publishes over
// HTTP. README.md has every key.
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"syscall"

	"github.com/fanfare-go/fanfare/examples/standalone/internal/config"
	"github.com/fanfare-go/fanfare/examples/standalone/internal/server"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	// After the first signal the second one has its ordinary effect: the process ends at once.
	context.AfterFunc(ctx, stop)
	os.Exit(run(ctx, os.Args[1:], os.Environ(), os.Stdout, os.Stderr))
}

// version is set by the linker.
var version = "dev"

const (
	exitFailed = 1
	exitUsage  = 2
)

func run(ctx context.Context, args, environ []string, stdout, stderr io.Writer) int {
	flags := flag.NewFlagSet("fanfare", flag.ContinueOnError)
	flags.SetOutput(stderr)
	path := flags.String("config", os.Getenv(config.FileVariable), "the configuration, a JSON `file`; without one the environment is all")
	showVersion := flags.Bool("version", false, "print the version, and exit")
	check := flags.Bool("check", false, "check the configuration, and exit")
	if err := flags.Parse(args); err != nil {
		return exitUsage
	}
	if flags.NArg() > 0 {
		fmt.Fprintf(stderr, "unexpected argument %q\n", flags.Arg(0))
		return exitUsage
	}
	if *showVersion {
		fmt.Fprintln(stdout, version)
		return 0
	}
	c, warnings, err := config.Load(*path, environ)
	if err != nil {
		fmt.Fprintln(stderr, err)
		return exitFailed
	}
	log := server.NewLogger(stderr, c)
	for _, w := range warnings {
		log.Warn(w)
	}
	if err := serve(ctx, c, log, *check); err != nil {
		fmt.Fprintln(stderr, err)
		return exitFailed
	}
	if *check {
		fmt.Fprintf(stdout, "the configuration is good: %s\n", c.Source())
	}
	return 0
}

func serve(ctx context.Context, c *config.Config, log *slog.Logger, checkOnly bool) error {
	if checkOnly {
		return server.Check(ctx, c, log)
	}
	s, err := server.New(ctx, c, log)
	if err != nil {
		return err
	}
	l, err := net.Listen("tcp", c.Addr)
	if err != nil {
		_ = s.Close(ctx)
		return c.Problem("addr", "%v", err)
	}
	return s.Serve(ctx, l)
}
