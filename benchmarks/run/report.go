package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/fanfare-go/fanfare/benchmarks/internal/rounds"
)

// report is what the pairs of a scenario gave. A run that failed is nil.
type report struct {
	scenario scenario
	variants []variant
	floors   []result
	servers  [][]result // by variant, then by pair
	failures int
}

// describe says what is needed to judge or repeat the figures.
func describe(ctx context.Context, o options) string {
	return fmt.Sprintf("%s, %s, server on core %s, clients on core %s; %s.", rounds.Origin(ctx), cpuModel(), o.serverCore, o.clientCore, o.Method())
}

func cpuModel() string {
	b, err := os.ReadFile("/proc/cpuinfo")
	if err != nil {
		return "unknown processor"
	}
	for line := range strings.Lines(string(b)) {
		if name, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == "model name" {
			return strings.TrimSpace(value)
		}
	}
	return "unknown processor"
}

func writeReport(w io.Writer, about string, reports []report) {
	fmt.Fprintf(w, "%s\n\n", about)
	fmt.Fprintln(w, "| scenario | server | figure | median | floor | × floor (range) | target |")
	fmt.Fprintln(w, "|---|---|---|---:|---:|---:|---|")
	for _, r := range reports {
		for i, v := range r.variants {
			for _, f := range r.scenario.figures {
				fmt.Fprintf(w, "| %s | %s | %s | %s |\n", r.scenario.name, v, f.name, strings.Join(r.cells(i, f), " | "))
			}
		}
	}
	fmt.Fprintln(w, "\n| scenario | loadgen | floor |\n|---|---|---|")
	for _, r := range reports {
		floor := "none"
		switch {
		case r.scenario.floor == nil:
		case *r.scenario.floor == r.scenario.load:
			floor = "the same"
		default:
			floor = command(*r.scenario.floor)
		}
		fmt.Fprintf(w, "| %s | %s | %s |\n", r.scenario.name, command(r.scenario.load), floor)
	}
}

func command(l load) string {
	if l.count == 0 {
		return "`" + l.args + "`"
	}
	return fmt.Sprintf("`%s -count %d`", l.args, l.count)
}

// cells are the columns from the median on.
func (r report) cells(variant int, f figure) []string {
	var own, floor, ratios []float64
	for pair, res := range r.servers[variant] {
		if res == nil {
			continue
		}
		value := res[f.key] // loadgen leaves zeros out
		own = append(own, value)
		if base := r.floors[pair][f.key]; f.floored && base > 0 {
			floor, ratios = append(floor, base), append(ratios, value/base)
		}
	}
	times := ""
	if len(ratios) > 0 {
		times = fmt.Sprintf("%.3f (%.3f–%.3f)", rounds.Median(ratios), slices.Min(ratios), slices.Max(ratios))
	}
	text := func(values []float64, none string) string {
		if len(values) == 0 {
			return none
		}
		return rounds.Number(rounds.Median(values))
	}
	return []string{text(own, "failed"), text(floor, ""), times, f.target}
}
