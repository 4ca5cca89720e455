//go:build linux

// Command loadgen measures a pub/sub server that speaks the Centrifuge client
// protocol over WebSocket. See README.md for the modes and for the control
// endpoints that the server under test must have.
package main

import (
	"cmp"
	"encoding/json"
	"flag"
	"fmt"
	"math"
	"os"
	"runtime"
	"time"
)

type options struct {
	mode        string
	label       string
	addr        string
	path        string
	control     string
	pid         int
	protocol    string
	conns       int
	concurrency int
	channel     string
	channels    int
	size        int
	rate        float64
	count       int
	window      int
	warmup      int
	missed      int
	hold        time.Duration
	timeout     time.Duration
	gc          bool
	settle      time.Duration
	stall       float64
	appPath     string
	appRate     float64
}

func main() {
	var o options
	flag.StringVar(&o.mode, "mode", "fanout", "connect, idle, fanout, many, recover or app")
	flag.StringVar(&o.label, "label", "", "name of the server, copied to the result")
	flag.StringVar(&o.addr, "addr", "127.0.0.1:8000", "address of the server, IPv4:port")
	flag.StringVar(&o.path, "path", "/connection/websocket", "path of the WebSocket endpoint")
	flag.StringVar(&o.control, "control", "", "base URL of the control endpoints (default http://ADDR)")
	flag.IntVar(&o.pid, "pid", 0, "process id of the server, for its CPU time and memory")
	flag.StringVar(&o.protocol, "protocol", "json", "json or protobuf")
	flag.IntVar(&o.conns, "n", 1000, "connections")
	flag.IntVar(&o.concurrency, "c", 256, "connections being opened at a time")
	flag.StringVar(&o.channel, "channel", "bench", "channel name, or prefix of the names with -channels")
	flag.IntVar(&o.channels, "channels", 0, "number of channels; 0 is one channel without a number in its name")
	flag.IntVar(&o.size, "size", 128, "payload bytes")
	flag.Float64Var(&o.rate, "rate", 0, "publications per second; 0 is as fast as -window allows")
	flag.IntVar(&o.count, "count", 500, "publications to measure")
	flag.IntVar(&o.window, "window", 16, "with -rate 0: publications under way at most")
	flag.IntVar(&o.warmup, "warmup", 20, "publications before the measurement")
	flag.IntVar(&o.missed, "missed", 10, "recover: publications that every client missed")
	flag.DurationVar(&o.hold, "hold", 5*time.Second, "idle, app: time to hold the connections")
	flag.DurationVar(&o.timeout, "timeout", 60*time.Second, "limit for each phase")
	flag.BoolVar(&o.gc, "gc", true, "idle: ask the server for a garbage collection before reading its memory")
	flag.DurationVar(&o.settle, "settle", 2*time.Second, "time for the server to come to rest after connections have changed")
	flag.Float64Var(&o.stall, "stall", 0, "fanout: share of the connections that stop reading after the warm-up, 0 to 1")
	flag.StringVar(&o.appPath, "app-path", "/app", "path of the handler that -app-rate asks")
	flag.Float64Var(&o.appRate, "app-rate", 0, "fanout, many: ordinary HTTP requests per second meanwhile; app: 200 if 0")
	flag.Parse()
	o.control = cmp.Or(o.control, "http://"+o.addr)

	// The engine blocks its thread in epoll_wait; the control client needs
	// another one at once, also when the process is pinned to a single core.
	runtime.GOMAXPROCS(max(4, runtime.GOMAXPROCS(0)))

	res, err := run(o)
	if err != nil {
		fmt.Fprintln(os.Stderr, "loadgen:", err)
		os.Exit(1)
	}
	if err := json.NewEncoder(os.Stdout).Encode(res); err != nil {
		fmt.Fprintln(os.Stderr, "loadgen:", err)
		os.Exit(1)
	}
}

// result is one line of output. Times are in the unit that the name ends with;
// fields that a mode does not measure are left out.
type result struct {
	Mode     string  `json:"mode"`
	Label    string  `json:"label,omitempty"`
	Protocol string  `json:"protocol"`
	Conns    int     `json:"conns"`
	Channels int     `json:"channels,omitempty"`
	Size     int     `json:"size,omitempty"`
	Rate     float64 `json:"rate,omitempty"`
	Window   int     `json:"window,omitempty"`

	Seconds float64 `json:"seconds"`

	ConnectPerSecond float64 `json:"connect_per_s,omitempty"`
	CPUPerKConnect   float64 `json:"server_cpu_s_per_1k_connects,omitempty"`
	SetupP50Ms       float64 `json:"setup_p50_ms,omitempty"`
	SetupP99Ms       float64 `json:"setup_p99_ms,omitempty"`

	Expected           int     `json:"expected,omitempty"`
	Delivered          int     `json:"delivered,omitempty"`
	DeliveredPerSecond float64 `json:"delivered_per_s,omitempty"`
	CPUPerMillion      float64 `json:"server_cpu_s_per_million,omitempty"`
	LatencyP50Ms       float64 `json:"latency_p50_ms,omitempty"`
	LatencyP99Ms       float64 `json:"latency_p99_ms,omitempty"`
	LatencyP999Ms      float64 `json:"latency_p999_ms,omitempty"`
	LatencyMaxMs       float64 `json:"latency_max_ms,omitempty"`
	PubsPerFrame       float64 `json:"pubs_per_frame,omitempty"`
	PubsPerRead        float64 `json:"pubs_per_read,omitempty"`
	OutOfOrder         int     `json:"out_of_order"`

	Stalled       int `json:"stalled,omitempty"`
	StalledClosed int `json:"stalled_closed,omitempty"`

	AppRequests uint64  `json:"app_requests,omitempty"`
	AppP50Ms    float64 `json:"app_p50_ms,omitempty"`
	AppP99Ms    float64 `json:"app_p99_ms,omitempty"`
	AppMaxMs    float64 `json:"app_max_ms,omitempty"`

	Recovered       int `json:"recovered,omitempty"`
	RecoveredMissed int `json:"recovered_publications,omitempty"`

	ServerUserSeconds float64 `json:"server_user_s,omitempty"`
	ServerSysSeconds  float64 `json:"server_sys_s,omitempty"`
	ServerCPUSeconds  float64 `json:"server_cpu_s,omitempty"`
	ClientCPUSeconds  float64 `json:"client_cpu_s,omitempty"`

	RSSBeforeMB  float64        `json:"rss_before_mb,omitempty"`
	RSSMB        float64        `json:"rss_mb,omitempty"`
	RSSPeakMB    float64        `json:"rss_peak_mb,omitempty"`
	RSSAfterGCMB float64        `json:"rss_after_gc_mb,omitempty"`
	BytesPerConn float64        `json:"bytes_per_conn,omitempty"`
	MemStats     map[string]any `json:"memstats,omitempty"`
	// GoroutinesPerConn may well be zero.
	GoroutinesPerConn *float64 `json:"goroutines_per_conn,omitempty"`

	Closed     int    `json:"closed"`
	Failed     int    `json:"failed"`
	FirstError string `json:"first_error,omitempty"`
}

func ms(d time.Duration) float64 { return round(float64(d)/1e6, 3) }

func round(v float64, digits int) float64 {
	p := math.Pow10(digits)
	return math.Round(v*p) / p
}
