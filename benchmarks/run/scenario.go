package main

import (
	"context"
	"strconv"
	"strings"
)

// load is what loadgen is asked to do.
type load struct {
	args  string
	count int // publications; 0: the load has none
}

// quickShare is how much shorter -quick is.
const quickShare = 5

func (l load) words(quick bool) []string {
	words := append(strings.Fields(l.args), "-timeout", "120s")
	if l.count == 0 {
		return words
	}
	count := l.count
	if quick {
		count = max(1, count/quickShare)
	}
	return append(words, "-count", strconv.Itoa(count))
}

// scenario is one row of what must be shown.
type scenario struct {
	name    string
	about   string
	floor   *load // nil: the floor says nothing about it
	load    load
	special func(context.Context, *bench, variant) (result, error) // if one run of load is not enough
	figures []figure
}

// figure is one number of a scenario.
type figure struct {
	name    string
	key     string // in the result
	floored bool   // quoted as a multiple of the floor's
	target  string
}

func (s scenario) measure(ctx context.Context, b *bench, v variant) (result, error) {
	if s.special != nil {
		return s.special(ctx, b, v)
	}
	return b.server(ctx, v, s.load)
}

const (
	cpuKey = "server_cpu_s_per_million" // seconds per million are microseconds each
	p50Key = "latency_p50_ms"
	p99Key = "latency_p99_ms"
)

var (
	cpu   = figure{name: "CPU per delivery, µs", key: cpuKey, floored: true}
	p50   = figure{name: "p50, ms", key: p50Key}
	p99   = figure{name: "p99, ms", key: p99Key}
	speed = figure{name: "deliveries per s", key: "delivered_per_s"}
)

func (f figure) at(target string) figure {
	f.target = target
	return f
}

// against quotes a figure as a multiple of the floor's.
func (f figure) against() figure {
	f.floored = true
	return f
}

// scenarios are those of one server process and its clients. Scaling over cores needs none, and is a Go benchmark.
func scenarios() []scenario {
	// One bare write per delivery at a pace that it can keep: what joined and paced writes are compared with.
	paced := load{"-mode fanout -n 1000 -rate 50", 500}
	burst := load{"-mode fanout -n 10000 -rate 5", 50}
	many := load{"-mode many -n 10000 -channels 1000 -rate 1000", 10_000}
	manyFlat := load{"-mode many -n 10000 -channels 1000 -window 64", 50_000}
	return append([]scenario{
		{name: "fanout-50", about: "1,000 subscribers of one channel, 50 messages/s of 128 B",
			floor: &paced, load: paced,
			figures: []figure{cpu.at("≤ 1.25 × floor, aim 1.15"), p50, p99}},
		{name: "fanout-200", about: "the same, 200 messages/s; the floor is that of 50/s",
			floor: &paced, load: load{"-mode fanout -n 1000 -rate 200", 2000},
			figures: []figure{cpu.at("≤ 0.30 × floor"), p50, p99.at("≤ budget + 10 ms")}},
		{name: "fanout-500", about: "the same, 500 messages/s; the floor is that of 50/s",
			floor: &paced, load: load{"-mode fanout -n 1000 -rate 500", 5000},
			figures: []figure{cpu.at("≤ 0.11 × floor"), p50, p99.at("≤ budget + 10 ms")}},
		{name: "fanout-flat", about: "the same, as fast as it goes, 64 publications under way; the floor is that of 50/s",
			floor: &paced, load: load{"-mode fanout -n 1000 -window 64", 10_000},
			figures: []figure{cpu.at("≤ 0.04 × floor"), speed}},
		{name: "burst-10k", about: "one message to 10,000 subscribers at once, five times a second",
			floor: &burst, load: burst,
			figures: []figure{cpu.at("≤ 1.25 × floor"), p50, p99.against().at("≤ 1.3 × floor")}},
		{name: "many-1000", about: "10,000 connections over 1,000 channels, 1,000 messages/s to random ones",
			floor: &many, load: many,
			figures: []figure{cpu, p50, p99.at("< 1 ms")}},
		{name: "many-flat", about: "the same, as fast as it goes, 64 publications under way",
			floor: &manyFlat, load: manyFlat,
			figures: []figure{cpu.at("≤ 1.25 × floor"), speed}},
		{name: "window-10k", about: "10,000 subscribers, 8 publications under way; the floor is that of burst-10k",
			floor: &burst, load: load{"-mode fanout -n 10000 -window 8", 500},
			figures: []figure{cpu.at("≤ 0.3 × floor"), speed, p99}},
	}, heldScenarios()...)
}

// heldScenarios measure connections rather than publications.
func heldScenarios() []scenario {
	connectCPU := figure{name: "CPU per 1,000 clients, s", key: "server_cpu_s_per_1k_connects", target: "≤ 0.12, dense 0.10"}.against()
	connects := load{"-mode connect -n 10000 -channels 100", 0}
	return []scenario{
		{name: "idle", about: "connections subscribed to one of 100 channels, after GC", special: idle,
			load: load{"-mode idle -channels 100 -n 5000, 10000, 18000", 0},
			figures: []figure{
				{name: "bytes per connection of 10,000", key: "bytes_per_conn", target: "≤ 10,000, dense 2,000"},
				{name: "goroutines per connection", key: "goroutines_per_conn", target: "≤ 1, dense 0"},
				{name: "slope, bytes per connection", key: slopeKey, target: "≤ 10,000, dense 2,000"},
				{name: "a million by the slope, GB", key: millionKey},
			}},
		{name: "connect", about: "10,000 clients connect and subscribe to one of 100 channels",
			floor: &connects, load: connects,
			figures: []figure{connectCPU, {name: "connects per s", key: "connect_per_s"}, {name: "setup p99, ms", key: "setup_p99_ms"}}},
		{name: "recover", about: "5,000 clients come back at once and recover 10 missed messages each; the floor is that of connect",
			floor: &connects, load: load{"-mode recover -n 5000 -channel rec -missed 10", 0},
			figures: []figure{connectCPU, {name: "seconds", key: "seconds"}}},
		{name: "stalled", about: "1 % of 1,000 clients stop reading, against none", special: stalled,
			load: load{stalledArgs + " -stall 0.01", stalledCount},
			figures: []figure{
				{name: "p99 of the others, ms", key: p99Key},
				{name: "p99 against none, ×", key: ratioKey, target: "≤ 1.2"},
				{name: "peak memory per stalled client, KB", key: stallKBKey, target: "≤ its queue, 1,049"},
				{name: "stalled clients given up, of 10", key: "stalled_closed"},
			}},
		{name: "neighbour", about: "the app's own handler, 200 requests/s, beside a fan-out that takes half of the server's core",
			special: neighbour,
			load:    load{neighbourArgs + " -rate HALF", neighbourSeconds},
			figures: []figure{
				{name: "p99 of /app beside, ms", key: "app_p99_ms"},
				{name: "p99 against idle, ×", key: ratioKey, target: "≤ 3"},
				{name: "messages/s at half load", key: "rate"},
				{name: "share of the core", key: loadKey},
				{name: "p99 of the fan-out, ms", key: p99Key},
			}},
	}
}
