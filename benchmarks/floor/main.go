//go:build linux

// Command floor is the least that a fan-out can cost: the frames that the server under test sends, written to as many
// sockets by one bare, non-blocking write for each delivery. It takes loadgen's connections and control requests like
// that server, knows no limits, history or pings, and is good for nothing but to be measured.
package main

import (
	"context"
	"flag"
	"fmt"
	"net"
	"os"
	"os/signal"
	"syscall"

	"github.com/fanfare-go/fanfare/benchmarks/internal/target"
)

func main() {
	addr := flag.String("addr", "127.0.0.1:8000", "address to listen on")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, *addr); err != nil {
		fmt.Fprintln(os.Stderr, "floor:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, addr string) error {
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return err
	}
	defer l.Close()
	f := newFloor()
	return target.Serve(ctx, l, f.handler(), f.close)
}
