// Command live-html is an ordinary page of html/template whose rows change while people look at it. What renders a row in the
// page also renders it for those who have the page open: it is published as it is, and takes the place of the row they have.
//
//	go run ./examples/live-html
//
// The page is there twice: with a few lines of script of its own (static/live.js) and, under /htmx, with htmx. Without
// JavaScript both are simply right when they are loaded, and their forms work.
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

func main() {
	addr := flag.String("addr", "127.0.0.1:8080", "address to listen on")
	flag.Parse()
	logger := slog.New(slog.NewTextHandler(os.Stderr, nil))
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, *addr, logger); err != nil {
		logger.Error("live-html stopped", "err", err)
		os.Exit(1)
	}
}

// run serves until ctx ends, and then shuts down in order.
func run(ctx context.Context, addr string, logger *slog.Logger) error {
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return err
	}
	a, err := newApp(logger)
	if err != nil {
		return errors.Join(err, l.Close())
	}
	// No WriteTimeout: it would cut live streams.
	srv := &http.Server{Handler: a.handler(), ReadHeaderTimeout: 5 * time.Second, IdleTimeout: 2 * time.Minute}
	var serveErr error
	served := make(chan struct{})
	// Owned by run: Shutdown below ends it, and run waits for it.
	go func() {
		defer close(served)
		serveErr = srv.Serve(l)
	}()
	logger.Info("live-html is open", "url", "http://"+l.Addr().String())

	select {
	case <-served:
	case <-ctx.Done():
	}
	sctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 15*time.Second)
	defer cancel()
	// The node first: http.Server waits for requests to end, which streams do not do by themselves.
	if nerr := a.node.Shutdown(sctx); nerr != nil {
		err = errors.Join(err, fmt.Errorf("shut down node: %w", nerr))
	}
	if serr := srv.Shutdown(sctx); serr != nil {
		err = errors.Join(err, fmt.Errorf("shut down server: %w", serr))
	}
	<-served
	if !errors.Is(serveErr, http.ErrServerClosed) {
		err = errors.Join(err, serveErr)
	}
	return err
}
