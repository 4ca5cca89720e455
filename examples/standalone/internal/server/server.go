// Package server puts a fanfare.Node together as the configuration says, and serves it.
package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"time"

	"github.com/fanfare-go/fanfare"
	"github.com/fanfare-go/fanfare/broker/redisbroker"
	"github.com/fanfare-go/fanfare/examples/standalone/internal/config"
	"github.com/fanfare-go/fanfare/webhook"
)

// Server is a node and what is served beside it.
type Server struct {
	config          *config.Config
	log             *slog.Logger
	node            *fanfare.Node
	broker          *redisbroker.Broker // nil without
	tokens          tokens              // nil without
	app             *webhook.Hooks      // nil without
	personalChannel *config.Channel
	mux             *http.ServeMux
	draining        atomic.Bool
}

// New makes everything but the listener, and connects to Redis, if there is one. Errors name the key. End it with [Server.Serve]
// or [Server.Close].
func New(ctx context.Context, c *config.Config, log *slog.Logger) (*Server, error) {
	broker, err := openBroker(ctx, c, log)
	if err != nil {
		return nil, err
	}
	return assemble(c, log, broker)
}

// Check makes everything but what needs others, and ends it again.
func Check(ctx context.Context, c *config.Config, log *slog.Logger) error {
	s, err := assemble(c, log, nil)
	if err != nil {
		return err
	}
	return s.Close(ctx)
}

// assemble takes the broker over, also when it fails.
func assemble(c *config.Config, log *slog.Logger, broker *redisbroker.Broker) (s *Server, err error) {
	s = &Server{config: c, log: log, broker: broker, mux: http.NewServeMux()}
	defer func() {
		if err != nil {
			_ = s.Close(context.Background())
		}
	}()
	nc := fanfare.Config{
		AllowedOrigins: c.AllowedOrigins,
		Authenticate:   s.authenticate,
		Concurrency:    c.ClientConcurrency,
		Development:    c.Development,
		DrainWindow:    window(c.DrainWindow),
		Logger:         log,
	}
	if broker != nil {
		nc.Broker, nc.Presence = broker, broker.Presence()
	}
	limit(&nc, &c.Limits)
	if err := errors.Join(s.useTokens(), s.useWebhooks(&nc)); err != nil {
		return s, err
	}
	if s.tokens != nil || c.Webhooks.Refresh != "" {
		nc.Refresh = s.refresh
	}
	metrics, err := s.useMetrics(&nc)
	if err != nil {
		return s, err
	}
	if s.node, err = fanfare.New(nc); err != nil {
		return s, err
	}
	if err := s.declare(); err != nil {
		return s, err
	}
	return s, s.routes(metrics)
}

// window: 0 is at once in the file, which the node calls negative.
func window(d time.Duration) time.Duration {
	if d == 0 {
		return -1
	}
	return d
}

func (s *Server) routes(metrics http.Handler) error {
	api, err := s.useAPI()
	if err != nil {
		return err
	}
	s.mux.Handle("/connection/", s.node)
	s.mux.Handle("/emulation", s.node)
	s.mux.HandleFunc("GET /health", s.health)
	s.mux.HandleFunc("GET /health/ready", s.ready)
	s.mux.Handle("GET /metrics", metrics)
	s.mux.Handle("/api", api)
	s.mux.Handle("/api/", api)
	return nil
}

// ServeHTTP serves what [Server.Serve] serves on a listener.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if !strings.HasPrefix(r.URL.Path, "/connection/") && r.URL.Path != "/emulation" {
		// The node has deadlines of its own. Anything else is short, also for those who send nothing but the beginning of a body.
		rc, deadline := http.NewResponseController(w), time.Now().Add(requestTimeout)
		_ = rc.SetReadDeadline(deadline) // what has no deadlines is no network connection
		_ = rc.SetWriteDeadline(deadline)
	}
	s.mux.ServeHTTP(w, r)
}

// requestTimeout is longer than what the server API allows itself.
const requestTimeout = 30 * time.Second

// Serve serves until ctx ends, and then shuts down in order. It closes the listener.
func (s *Server) Serve(ctx context.Context, l net.Listener) error {
	srv := &http.Server{
		Handler: s,
		// No ReadTimeout and no WriteTimeout: they would cut live streams. The node guards its connections by pings and write
		// timeouts of its own.
		ReadHeaderTimeout: 5 * time.Second,
		IdleTimeout:       2 * time.Minute,
		ErrorLog:          slog.NewLogLogger(s.log.Handler(), slog.LevelWarn),
	}
	var serveErr error
	served := make(chan struct{})
	// Owned by Serve: Shutdown below ends it, and Serve waits for it.
	go func() {
		defer close(served)
		serveErr = srv.Serve(l)
	}()
	s.log.Info("serving", "addr", l.Addr().String(), "config", s.config.Source(), "channels", len(s.config.Channels))

	select {
	case <-served:
	case <-ctx.Done():
		s.log.Info("draining", "delay", s.config.DrainDelay, "window", s.config.DrainWindow)
	}
	began := time.Now()
	err := s.drain(context.WithoutCancel(ctx), srv)
	<-served
	if !errors.Is(serveErr, http.ErrServerClosed) {
		err = errors.Join(err, serveErr)
	}
	s.log.Info("drained", "took", time.Since(began).Round(time.Millisecond))
	return err
}

// drainReserve is what closing may take beyond the time over which connections are closed.
const drainReserve = 10 * time.Second

// drain: readiness fails first, so that nobody new is sent here; the node tells its clients to come back elsewhere; http.Server,
// which waits for requests to end as streams do not by themselves, is the last, and answers the probes until then.
func (s *Server) drain(ctx context.Context, srv *http.Server) (err error) {
	s.draining.Store(true)
	time.Sleep(s.config.DrainDelay) // a second signal ends the process meanwhile
	ctx, cancel := context.WithTimeout(ctx, s.config.DrainWindow+drainReserve)
	defer cancel()
	err = s.Close(ctx)
	if serr := srv.Shutdown(ctx); serr != nil {
		err = errors.Join(err, fmt.Errorf("shut down the HTTP server: %w", serr), srv.Close())
	}
	return err
}

// Close ends the node and what it uses, without a listener.
func (s *Server) Close(ctx context.Context) (err error) {
	if s.node != nil {
		if nerr := s.node.Shutdown(ctx); nerr != nil {
			err = fmt.Errorf("shut down the node: %w", nerr)
		}
	}
	if s.app != nil {
		s.app.Close()
	}
	if s.broker != nil {
		err = errors.Join(err, s.broker.Close())
	}
	return err
}
