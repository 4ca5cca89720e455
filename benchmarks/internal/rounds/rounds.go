// Package rounds is what the programs that measure several things in turns, a number of times, have in common: the flags that say
// what and how often, and how figures and where they come from are told.
package rounds

import (
	"context"
	"flag"
	"fmt"
	"math"
	"os/exec"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"time"
)

// Options say what to measure, and how often.
type Options struct {
	Only  *regexp.Regexp // of the names of what is to be measured
	Pairs int            // runs of each; 1 if Quick
	Quick bool           // runs are short ones
}

// Parse adds the flags to those that f has, and parses args, which may be nothing but flags. The help of -only says which names
// there are.
func (o *Options) Parse(f *flag.FlagSet, args []string, names string) error {
	only := f.String("only", "", "regular expression of "+names)
	f.IntVar(&o.Pairs, "pairs", 5, "runs of each")
	f.BoolVar(&o.Quick, "quick", false, "one short run of each: to see that it works, not to quote")
	if err := f.Parse(args); err != nil {
		return err
	}
	if f.NArg() > 0 {
		return fmt.Errorf("unexpected argument %q", f.Arg(0))
	}
	if o.Pairs < 1 {
		return fmt.Errorf("-pairs %d must be 1 or more", o.Pairs)
	}
	if o.Quick {
		o.Pairs = 1
	}
	var err error
	o.Only, err = regexp.Compile(*only)
	return err
}

// Method says how a figure comes from the runs.
func (o *Options) Method() string {
	if o.Quick {
		return "one short run, not to be quoted"
	}
	return fmt.Sprintf("medians of %d alternating runs", o.Pairs)
}

// Origin says when the figures were measured, and with which versions.
func Origin(ctx context.Context) string {
	// Where one of these is not to be had, the figures still are.
	said := func(name string, args ...string) string {
		b, err := exec.CommandContext(ctx, name, args...).Output()
		if err != nil {
			return "unknown"
		}
		return strings.TrimSpace(string(b))
	}
	commit := said("git", "describe", "--always", "--dirty")
	return fmt.Sprintf("%s, commit %s, %s, Linux %s", time.Now().Format(time.DateOnly), commit, runtime.Version(), said("uname", "-r"))
}

// Median returns that of the values, of which there is one at least.
func Median(values []float64) float64 {
	s := slices.Sorted(slices.Values(values))
	middle := len(s) / 2
	if len(s)%2 == 1 {
		return s[middle]
	}
	return (s[middle-1] + s[middle]) / 2
}

// Number prints three significant digits of small values, and all before the point.
func Number(v float64) string {
	if v == 0 {
		return "0"
	}
	digits := max(0, 2-int(math.Floor(math.Log10(math.Abs(v)))))
	return fmt.Sprintf("%.*f", digits, v)
}
