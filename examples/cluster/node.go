package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/fanfare-go/fanfare"
	"github.com/fanfare-go/fanfare/broker/redisbroker"
)

// runNode is a process with a node: it says where it serves, serves until ctx ends, and shuts down in order. What makes the node
// one of several is the broker in its configuration.
func runNode(ctx context.Context, o options, logger *slog.Logger) error {
	server, err := redisbroker.ParseURL(o.redis)
	if err != nil {
		return err
	}
	broker, err := redisbroker.New(ctx, redisbroker.Config{
		Servers: []redisbroker.Server{server},
		Prefix:  "fanfare-cluster",
		Lease:   5 * time.Second, // how long those who were on a node that was killed are still shown
		Logger:  logger,
	})
	if err != nil {
		return err
	}
	defer broker.Close()
	a, err := newApp(fanfare.Config{Name: o.name, Broker: broker, Presence: broker.Presence(), Logger: logger})
	if err != nil {
		return err
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return errors.Join(err, a.node.Shutdown(ctx))
	}
	return a.serve(ctx, l, func() { fmt.Println(l.Addr()) })
}

// serve serves until ctx ends, and then shuts down in order. ready is called when it serves.
func (a *app) serve(ctx context.Context, l net.Listener, ready func()) (err error) {
	// No WriteTimeout: it would cut live streams.
	srv := &http.Server{Handler: a.handler(), ReadHeaderTimeout: 5 * time.Second, IdleTimeout: 2 * time.Minute}
	var serveErr error
	served := make(chan struct{})
	// Owned by serve: Shutdown below ends it, and serve waits for it.
	go func() {
		defer close(served)
		serveErr = srv.Serve(l)
	}()
	ready()
	a.tellTime(ctx, served)

	sctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), endTimeout-2*time.Second)
	defer cancel()
	// The node first: http.Server waits for requests to end, which streams do not do by themselves.
	if nerr := a.node.Shutdown(sctx); nerr != nil {
		err = fmt.Errorf("shut down node: %w", nerr)
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
