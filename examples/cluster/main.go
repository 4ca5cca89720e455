// Command cluster is one app on three nodes over Redis, behind a plain round-robin balancer, in one command:
//
//	go run ./examples/cluster
//
// It starts a redis-server from the PATH, or uses the Redis that -redis names. The nodes are processes, and the page has a button
// that kills each of them with SIGKILL: the page comes back on another node, says on which, and has missed nothing. There are no
// sticky sessions: each request, and each connection, goes to the next node.
//
// The app of a node is app.go. All that makes it one of several is the broker: node.go.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"
)

// options are what a process of the cluster is told.
type options struct {
	addr  string // of the balancer, or of the Redis that is started
	redis string // a URL, or empty: start one
	nodes int
	pause time.Duration // between the death of a process and its next life

	role string // of a child; empty for the process that somebody started
	name string // of a node
}

func main() {
	var o options
	flag.StringVar(&o.addr, "addr", "127.0.0.1:8080", "address to listen on")
	flag.StringVar(&o.redis, "redis", "", "a Redis to use, as redis://host:port; without one it is started from the PATH")
	flag.IntVar(&o.nodes, "nodes", 3, "how many nodes")
	flag.DurationVar(&o.pause, "pause", 3*time.Second, "how long a process that was killed stays away")
	flag.StringVar(&o.role, "role", "", "for the processes that the program starts itself")
	flag.StringVar(&o.name, "name", "", "of a node, for the same")
	flag.Parse()
	logger := slog.New(slog.NewTextHandler(os.Stderr, nil))
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	var err error
	switch o.role {
	case "":
		err = run(ctx, o, logger)
	case roleNode:
		err = runNode(untilAlone(ctx), o, logger.With("node", o.name))
	case roleRedis:
		err = guardRedis(untilAlone(ctx), o.addr)
	default:
		err = fmt.Errorf("no role %q", o.role)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "cluster:", err)
		os.Exit(1)
	}
}

// run is the process that somebody started: it has the balancer and owns the others.
func run(ctx context.Context, o options, logger *slog.Logger) error {
	l, err := net.Listen("tcp", o.addr)
	if err != nil {
		return err
	}
	s, err := newSupervisor(ctx, o, logger)
	if err != nil {
		return errors.Join(err, l.Close())
	}
	// No WriteTimeout: it would cut live streams.
	srv := &http.Server{Handler: s.handler(), ReadHeaderTimeout: 5 * time.Second, IdleTimeout: 2 * time.Minute}
	var opened bool
	serveErr := make(chan error, 1)
	err = s.keep(ctx, func() {
		logger.Info("cluster is open", "url", "http://"+l.Addr().String())
		opened = true
		// Owned by run: Shutdown below ends it, and run waits for it.
		go func() { serveErr <- srv.Serve(l) }()
	})
	if !opened {
		return errors.Join(err, l.Close())
	}
	// The nodes have told their clients to go: what is left are short requests.
	sctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	if srv.Shutdown(sctx) != nil {
		err = errors.Join(err, srv.Close())
	}
	if serr := <-serveErr; !errors.Is(serr, http.ErrServerClosed) {
		err = errors.Join(err, serr)
	}
	return err
}
