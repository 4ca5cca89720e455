// Command run measures every scenario, the floor and the server in turns, and prints a table of medians as Markdown.
// See the README of benchmarks. It needs Linux and taskset.
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"

	"github.com/fanfare-go/fanfare/benchmarks/internal/rounds"
)

type options struct {
	rounds.Options
	variants   []variant
	serverCore string
	clientCore string
	raw        string
	list       bool
}

func parseOptions(args []string) (options, error) {
	var o options
	f := flag.NewFlagSet("run", flag.ContinueOnError)
	f.Func("server", "flags of a server to measure, also \"\"; repeat it to compare several. A first word @PATH is another binary", func(s string) error {
		v, err := parseVariant(s)
		o.variants = append(o.variants, v)
		return err
	})
	f.StringVar(&o.serverCore, "server-core", "0", "cores of the server, as taskset takes them")
	f.StringVar(&o.clientCore, "client-core", "1", "cores of the clients")
	f.StringVar(&o.raw, "raw", "", "file to append every result of loadgen to, one JSON object per line")
	f.BoolVar(&o.list, "list", false, "list the scenarios")
	if err := o.Parse(f, args, "the scenarios to run"); err != nil {
		return o, err
	}
	if len(o.variants) == 0 {
		o.variants = []variant{{}}
	}
	return o, nil
}

// variant is a server to measure.
type variant struct {
	binary string // empty: the server of this tree
	flags  []string
}

func parseVariant(s string) (variant, error) {
	v := variant{flags: strings.Fields(s)}
	if len(v.flags) > 0 && strings.HasPrefix(v.flags[0], "@") {
		v.binary, v.flags = v.flags[0][1:], v.flags[1:]
		if _, err := os.Stat(v.binary); err != nil {
			return v, err
		}
	}
	return v, nil
}

func (v variant) String() string {
	words := slices.Clone(v.flags)
	if v.binary != "" {
		words = slices.Insert(words, 0, "@"+v.binary)
	}
	if len(words) == 0 {
		return "default"
	}
	return strings.Join(words, " ")
}

func main() {
	o, err := parseOptions(os.Args[1:])
	if err != nil {
		if err != flag.ErrHelp {
			fmt.Fprintln(os.Stderr, "run:", err)
			os.Exit(2)
		}
		return
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, o, os.Stdout, os.Stderr); err != nil {
		fmt.Fprintln(os.Stderr, "run:", err)
		stop()
		os.Exit(1)
	}
}

func run(ctx context.Context, o options, out, progress io.Writer) error {
	chosen := slices.DeleteFunc(scenarios(), func(s scenario) bool { return !o.Only.MatchString(s.name) })
	if len(chosen) == 0 {
		return fmt.Errorf("no scenario matches %q", o.Only)
	}
	if o.list {
		for _, s := range chosen {
			fmt.Fprintf(out, "%-12s %s\n", s.name, s.about)
		}
		return nil
	}
	b, err := newBench(ctx, o, progress)
	if err != nil {
		return err
	}
	defer b.close()
	var reports []report
	for _, s := range chosen {
		r := report{scenario: s, variants: o.variants, servers: make([][]result, len(o.variants))}
		for pair := range o.Pairs {
			b.logf("%s, pair %d of %d\n", s.name, pair+1, o.Pairs)
			if err := b.pair(ctx, &r, pair); err != nil {
				return err
			}
		}
		reports = append(reports, r)
	}
	writeReport(out, describe(ctx, o), reports)
	for _, r := range reports {
		if r.failures > 0 {
			return fmt.Errorf("%s: %d runs failed", r.scenario.name, r.failures)
		}
	}
	return nil
}
