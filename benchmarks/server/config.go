package main

import (
	"flag"
	"fmt"
	"log/slog"
	"os"
	"time"

	"github.com/fanfare-go/fanfare"
	"github.com/fanfare-go/fanfare/transport/websocket"
)

const (
	recoverySize = 1000
	recoveryTTL  = 10 * time.Minute
)

type options struct {
	addr       string
	pprof      bool
	budget     time.Duration
	portableIO bool
}

func parseOptions(args []string) (options, error) {
	var o options
	f := flag.NewFlagSet("server", flag.ContinueOnError)
	f.StringVar(&o.addr, "addr", "127.0.0.1:8000", "address to listen on")
	f.BoolVar(&o.pprof, "pprof", false, "serve net/http/pprof under /debug/pprof/")
	f.DurationVar(&o.budget, "latency-budget", 0, "Config.LatencyBudget; 0 is its default, negative switches it off")
	f.BoolVar(&o.portableIO, "portable-io", false, "Config.PortableIO: the engine of systems other than Linux")
	if err := f.Parse(args); err != nil {
		return o, err
	}
	if f.NArg() > 0 {
		return o, fmt.Errorf("unexpected argument %q", f.Arg(0))
	}
	return o, nil
}

// nodeConfig is where flags become settings. What has no flag has the default that every app gets: no figure is bought
// with a limit.
func (o options) nodeConfig() fanfare.Config {
	return fanfare.Config{
		LatencyBudget: o.budget, PortableIO: o.portableIO,
		Logger: slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn})),
	}
}

// doorOptions are those of /echo, which is to be the door that the node has.
func (o options) doorOptions() websocket.Options {
	return websocket.Options{PortableIO: o.portableIO}
}

// declareChannels makes every channel public; those whose names begin with "rec" can be recovered.
func declareChannels(n *fanfare.Node) {
	recoverable := fanfare.ChannelOptions{Public: true, History: fanfare.History{Size: recoverySize, TTL: recoveryTTL}}
	n.Channel("rec", recoverable)
	n.Channel("rec{rest...}", recoverable)
	n.Channel("{any...}", fanfare.ChannelOptions{Public: true})
}
