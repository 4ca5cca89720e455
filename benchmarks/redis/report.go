//go:build linux

package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"runtime/pprof"
	"slices"
	"strings"
	"time"

	"github.com/fanfare-go/fanfare/benchmarks/internal/rounds"
)

// scenario measures several things in turns.
type scenario struct {
	name  string
	cases []measured
	rows  []row
}

// measured is one of them. It returns figures by name.
type measured struct {
	name string
	run  func(context.Context, *server, sizes) (figures, error)
}

type figures map[string]float64

// sizes says how much to do.
type sizes struct{ quick bool }

// of returns n, or a fiftieth of it when it must be quick.
func (s sizes) of(n int) int {
	if s.quick {
		return n / 50
	}
	return n
}

// lasting is the same for a time, of which a tenth is left.
func (s sizes) lasting(d time.Duration) time.Duration {
	if s.quick {
		return d / 10
	}
	return d
}

// row is a line of the report: a figure of a case, compared with that of another one in the same round.
type row struct {
	what        string
	case_, key  string
	against     string // "": nothing
	difference  bool   // the comparison is a difference, not a ratio
	targetWords string
}

type report struct {
	scenario
	rounds []map[string]figures // by case
}

// measure runs the cases in rounds, every second one the other way round, so that what drifts meanwhile favours nobody.
func measure(ctx context.Context, c scenario, s *server, o options, progress io.Writer) (report, error) {
	r := report{scenario: c}
	for round := range o.Pairs {
		order := slices.Clone(c.cases)
		if round%2 == 1 {
			slices.Reverse(order)
		}
		results := make(map[string]figures)
		for _, m := range order {
			f, err := m.run(ctx, s, sizes{o.Quick})
			if err != nil {
				return r, fmt.Errorf("%s: %w", m.name, err)
			}
			fmt.Fprintf(progress, "%s, round %d of %d, %s: %v\n", c.name, round+1, o.Pairs, m.name, f)
			results[m.name] = f
		}
		r.rounds = append(r.rounds, results)
	}
	return r, nil
}

func writeReport(w io.Writer, about string, reports []report) error {
	text := about + "\n\n| what | median | compared in the same round: median (range) | target |\n|---|---:|---:|---|\n"
	for _, r := range reports {
		for _, row := range r.rows {
			text += r.line(row)
		}
	}
	_, err := io.WriteString(w, text)
	return err
}

func (r report) line(row row) string {
	var own, compared []float64
	for _, results := range r.rounds {
		value := results[row.case_][row.key]
		own = append(own, value)
		switch base := results[row.against][row.key]; {
		case row.against == "":
		case row.difference:
			compared = append(compared, value-base)
		case base > 0:
			compared = append(compared, value/base)
		}
	}
	comparison := ""
	if len(compared) > 0 {
		form := "%s (%s to %s) × "
		if row.difference {
			form = "+ %s (%s to %s) over "
		}
		comparison = fmt.Sprintf(form, rounds.Number(rounds.Median(compared)), rounds.Number(slices.Min(compared)), rounds.Number(slices.Max(compared))) + row.against
	}
	return fmt.Sprintf("| %s | %s | %s | %s |\n", row.what, rounds.Number(rounds.Median(own)), comparison, row.targetWords)
}

// describe says what is needed to judge or repeat the figures.
func describe(ctx context.Context, o options, s *server) string {
	load, _ := os.ReadFile("/proc/loadavg")
	return fmt.Sprintf("%s, Redis %s, redis-server on core %s, all else on core %s, load in the end %s; %s.",
		rounds.Origin(ctx), s.version(), o.redisCore, o.clientCore, strings.Join(strings.Fields(string(load))[:1], ""), o.Method())
}

// profiled runs f under a CPU profile, if there is a file for it.
func profiled(file string, f func() error) error {
	if file == "" {
		return f()
	}
	w, err := os.Create(file)
	if err != nil {
		return err
	}
	defer w.Close()
	if err := pprof.StartCPUProfile(w); err != nil {
		return err
	}
	defer pprof.StopCPUProfile()
	return f()
}
