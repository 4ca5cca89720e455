// Command server is the server that the benchmarks measure: a node with anonymous clients and public channels, beside
// an ordinary handler of the app it lives in.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net"
	"net/http"
	"net/http/pprof"
	"os"
	"os/signal"
	"syscall"

	"github.com/fanfare-go/fanfare"
	"github.com/fanfare-go/fanfare/benchmarks/internal/target"
	"github.com/fanfare-go/fanfare/transport/websocket"
)

func main() {
	o, err := parseOptions(os.Args[1:])
	switch {
	case errors.Is(err, flag.ErrHelp):
		return
	case err != nil:
		fmt.Fprintln(os.Stderr, "server:", err)
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, o); err != nil {
		fmt.Fprintln(os.Stderr, "server:", err)
		os.Exit(1)
	}
}

// run serves until ctx ends.
func run(ctx context.Context, o options) error {
	l, err := net.Listen("tcp", o.addr)
	if err != nil {
		return err
	}
	defer l.Close()
	h, stop, err := newHandler(o)
	if err != nil {
		return err
	}
	return target.Serve(ctx, l, h, stop)
}

// newHandler is everything that is served, and what ends it.
func newHandler(o options) (http.Handler, func(context.Context) error, error) {
	node, err := fanfare.New(o.nodeConfig())
	if err != nil {
		return nil, nil, err
	}
	declareChannels(node)
	echoes := newEchoes()
	door := websocket.New(o.doorOptions())

	mux := http.NewServeMux()
	mux.Handle("/connection/", node)
	mux.HandleFunc("/echo", func(w http.ResponseWriter, r *http.Request) { door.Serve(w, r, echoes) })
	mux.HandleFunc("GET /app", app)
	target.HandleControl(mux, func(ctx context.Context, channel string, data []byte) error {
		_, err := node.Publish(ctx, channel, data)
		return err
	})
	if o.pprof {
		mux.HandleFunc("/debug/pprof/", pprof.Index)
		mux.HandleFunc("/debug/pprof/cmdline", pprof.Cmdline)
		mux.HandleFunc("/debug/pprof/profile", pprof.Profile)
		mux.HandleFunc("/debug/pprof/symbol", pprof.Symbol)
		mux.HandleFunc("/debug/pprof/trace", pprof.Trace)
	}
	return mux, func(ctx context.Context) error {
		echoes.close()
		return node.Shutdown(ctx)
	}, nil
}
