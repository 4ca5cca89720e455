package main

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestScenarios_HaveNamesOfTheirOwn(t *testing.T) {
	t.Parallel()
	seen := make(map[string]bool)
	for _, s := range scenarios() {
		require.False(t, seen[s.name], s.name)
		seen[s.name] = true
		require.NotEmpty(t, s.about, s.name)
		require.NotEmpty(t, s.figures, s.name)
		for _, f := range s.figures {
			require.NotEmpty(t, f.key, "%s: %s", s.name, f.name)
			require.False(t, f.floored && s.floor == nil, "%s: %s has no floor", s.name, f.name)
		}
	}
}

func TestReadme_DescribesEveryScenario(t *testing.T) {
	t.Parallel()
	readme, err := os.ReadFile("../README.md")
	require.NoError(t, err)
	for _, s := range scenarios() {
		require.Contains(t, string(readme), "| `"+s.name+"` |")
	}
}

func TestLoad_IsShorterWhenQuick(t *testing.T) {
	t.Parallel()
	l := load{"-mode fanout -n 10", 500}
	require.Equal(t, "-mode fanout -n 10 -timeout 120s -count 500", strings.Join(l.words(false), " "))
	require.Equal(t, "-mode fanout -n 10 -timeout 120s -count 100", strings.Join(l.words(true), " "))
	require.NotContains(t, load{"-mode connect", 0}.words(false), "-count")
}

func TestOptions_TakeSeveralServers(t *testing.T) {
	t.Parallel()
	binary := filepath.Join(t.TempDir(), "old")
	require.NoError(t, os.WriteFile(binary, nil, 0o755))
	o, err := parseOptions([]string{"-server", "", "-server", "-pprof  -x=1", "-server", "@" + binary + " -pprof", "-quick"})
	require.NoError(t, err)
	var names []string
	for _, v := range o.variants {
		names = append(names, v.String())
	}
	require.Equal(t, []string{"default", "-pprof -x=1", "@" + binary + " -pprof"}, names)
	require.Equal(t, 1, o.Pairs)

	o, err = parseOptions(nil)
	require.NoError(t, err)
	require.Equal(t, []variant{{}}, o.variants)
	require.Equal(t, 5, o.Pairs)
}

func TestPair_TurnsTheOrderRoundEverySecondTime(t *testing.T) {
	t.Parallel()
	var order []string
	s := scenario{special: func(_ context.Context, _ *bench, v variant) (result, error) {
		order = append(order, v.String())
		if v.String() == "bad" {
			return nil, errors.New("no")
		}
		return result{"x": 1}, nil
	}}
	variants := []variant{{}, {flags: []string{"bad"}}}
	r := report{scenario: s, variants: variants, servers: make([][]result, len(variants))}
	b := &bench{progress: io.Discard}
	for i := range 2 {
		require.NoError(t, b.pair(t.Context(), &r, i))
	}
	require.Equal(t, []string{"default", "bad", "bad", "default"}, order)
	require.Equal(t, 2, r.failures)
	require.Equal(t, []result{{"x": 1}, {"x": 1}}, r.servers[0])
	require.Equal(t, []result{nil, nil}, r.servers[1])
}

func TestReport_QuotesTheMedianOfTheRatiosOfPairs(t *testing.T) {
	t.Parallel()
	r := report{
		scenario: scenario{
			name: "s", load: load{"-mode fanout", 7}, floor: &load{"-mode fanout", 7},
			figures: []figure{{name: "CPU", key: "cpu", floored: true, target: "≤ 1"}, {name: "closed", key: "zero"}},
		},
		variants: []variant{{}, {flags: []string{"-x"}}},
		floors:   []result{{"cpu": 10}, {"cpu": 20}, nil},
		servers:  [][]result{{{"cpu": 5}, {"cpu": 30}, {"cpu": 9}}, {nil, nil, nil}},
	}
	var out bytes.Buffer
	writeReport(&out, "about", []report{r})
	lines := strings.Split(out.String(), "\n")
	require.True(t, slices.Contains(lines, "| s | default | CPU | 9.00 | 15.0 | 1.000 (0.500–1.500) | ≤ 1 |"), out.String())
	require.True(t, slices.Contains(lines, "| s | default | closed | 0 |  |  |  |"), out.String())
	require.True(t, slices.Contains(lines, "| s | -x | CPU | failed |  |  | ≤ 1 |"), out.String())
	require.True(t, slices.Contains(lines, "| s | `-mode fanout -count 7` | the same |"), out.String())
}

func TestParseResult_TakesNumbersOnly(t *testing.T) {
	t.Parallel()
	res, err := parseResult([]byte(`{"mode":"idle","rss_mb":1.5,"memstats":{"goroutines":3}}`))
	require.NoError(t, err)
	require.Equal(t, result{"rss_mb": 1.5}, res)
	_, err = parseResult([]byte("timeout"))
	require.Error(t, err)
}
