package main

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"os/exec"
	"strconv"

	"golang.org/x/sync/errgroup"

	"github.com/fanfare-go/fanfare/broker/redisbroker"
)

// supervisor owns the processes of the cluster.
type supervisor struct {
	redis *child // nil if it is somebody else's
	nodes []*child

	options  options
	balancer *balancer
}

// newSupervisor starts nothing yet. It returns an error if there is no Redis to be had.
func newSupervisor(ctx context.Context, o options, logger *slog.Logger) (*supervisor, error) {
	s := &supervisor{options: o}
	url := o.redis
	if url == "" {
		if _, err := exec.LookPath("redis-server"); err != nil {
			return nil, errNoRedis
		}
		addr, err := freeAddr()
		if err != nil {
			return nil, err
		}
		s.redis, url = newChild("redis", roleRedis, logger, "-addr", addr), "redis://"+addr
	} else if err := checkRedis(ctx, url); err != nil {
		return nil, err
	}
	var backends []backend
	for i := range o.nodes {
		name := "node-" + strconv.Itoa(i+1)
		n := newChild(name, roleNode, logger, "-name", name, "-redis", url)
		s.nodes, backends = append(s.nodes, n), append(backends, n)
	}
	s.balancer = newBalancer(backends, logger)
	return s, nil
}

// checkRedis says in one line what each node would say.
func checkRedis(ctx context.Context, url string) error {
	server, err := redisbroker.ParseURL(url)
	if err != nil {
		return fmt.Errorf("-redis: %w", err)
	}
	b, err := redisbroker.New(ctx, redisbroker.Config{Servers: []redisbroker.Server{server}})
	if err != nil {
		return fmt.Errorf("-redis: %w", err)
	}
	return b.Close()
}

// keep runs the processes until ctx ends: Redis first, and it ends last. open is called when all serve.
func (s *supervisor) keep(ctx context.Context, open func()) error {
	below, endRedis := context.WithCancel(context.WithoutCancel(ctx))
	defer endRedis()
	var redis errgroup.Group
	failed, fail := context.WithCancel(ctx)
	defer fail()
	if s.redis != nil {
		redis.Go(func() error {
			defer fail() // without it nothing works, if it does not even start
			return s.redis.keep(below, s.options.pause)
		})
		s.redis.awaitReady(failed)
	}
	nodes, nctx := errgroup.WithContext(failed)
	if nctx.Err() == nil {
		for _, n := range s.nodes {
			nodes.Go(func() error { return n.keep(nctx, s.options.pause) })
		}
		for _, n := range s.nodes {
			n.awaitReady(nctx)
		}
		if nctx.Err() == nil {
			open()
		}
	}
	err := nodes.Wait()
	endRedis()
	if rerr := redis.Wait(); err == nil {
		err = rerr
	}
	return err
}

func (s *supervisor) all() []*child {
	if s.redis == nil {
		return s.nodes
	}
	return append(s.nodes[:len(s.nodes):len(s.nodes)], s.redis)
}

// handler serves what is about the processes, and leaves all else to the nodes.
func (s *supervisor) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /processes", s.serveStatus)
	mux.HandleFunc("POST /kill/{name}", s.serveKill)
	mux.Handle("/", s.balancer)
	return http.NewCrossOriginProtection().Handler(mux)
}

func (s *supervisor) serveStatus(w http.ResponseWriter, _ *http.Request) {
	var list []status
	for _, c := range s.all() {
		list = append(list, c.status())
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	_ = json.NewEncoder(w).Encode(list)
}

func (s *supervisor) serveKill(w http.ResponseWriter, r *http.Request) {
	for _, c := range s.all() {
		if c.name == r.PathValue("name") {
			c.Kill()
			http.Redirect(w, r, "/", http.StatusSeeOther)
			return
		}
	}
	http.NotFound(w, r)
}
