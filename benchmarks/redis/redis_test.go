//go:build linux

package main

import (
	"bytes"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestParseMonitor(t *testing.T) {
	t.Parallel()
	line := `+1795323029.123456 [0 127.0.0.1:1234] "EVALSHA" "ab" "1" "k:{.] \"}" "\n\x80\x01 \\x"`
	require.Equal(t, []string{"EVALSHA", "ab", "1", `k:{.] "}`, "\n\x80\x01 \\x"}, parseMonitor(line))
	require.Empty(t, parseMonitor("+OK"))
	require.Empty(t, parseMonitor(`+1 [0 lua] "unfinished`))
}

func TestParseRate(t *testing.T) {
	t.Parallel()
	const title = `"test","rps","avg_latency_ms","min_latency_ms","p50_latency_ms","p95_latency_ms","p99_latency_ms","max_latency_ms"`
	rate, err := parseRate(title + "\n" + `"evalsha a","b","` + "\n" + `{"n":1}","43478.26","0.806","0.216","0.647","1.079","4.183","4.471"` + "\n")
	require.NoError(t, err)
	require.Equal(t, 43478.26, rate)
	_, err = parseRate("Could not connect")
	require.Error(t, err)
}

func TestMessage_HasItsNumberAndOneLength(t *testing.T) {
	t.Parallel()
	for _, n := range []int{0, 7, 12345678} {
		require.Len(t, message(n), payload)
		got, ok := numberOf("data: " + string(message(n)))
		require.True(t, ok)
		require.Equal(t, n, got)
	}
	_, ok := numberOf("event: publication")
	require.False(t, ok)
}

func TestReport_ComparesWithinARound(t *testing.T) {
	t.Parallel()
	r := report{rounds: []map[string]figures{
		{"a": {"k": 10}, "b": {"k": 9}}, {"a": {"k": 20}, "b": {"k": 10}}, {"a": {"k": 5}, "b": {"k": 5}},
	}}
	require.Equal(t, "| it | 9.00 | 0.900 (0.500 to 1.00) × a | ≥ 0.8 |\n", r.line(row{what: "it", case_: "b", key: "k", against: "a", targetWords: "≥ 0.8"}))
	require.Equal(t, "| it | 9.00 | + -1.00 (-10.0 to 0) over a |  |\n", r.line(row{what: "it", case_: "b", key: "k", against: "a", difference: true}))
	require.Equal(t, "| it | 10.0 |  |  |\n", r.line(row{what: "it", case_: "a", key: "k"}))
}

func TestScenarios_NameCasesThatTheyHave(t *testing.T) {
	t.Parallel()
	readme, err := os.ReadFile("../README.md")
	require.NoError(t, err)
	for _, s := range scenarios() {
		require.True(t, strings.Contains(string(readme), "| `"+s.name+"` |"), s.name)
		names := map[string]bool{"": true}
		for _, c := range s.cases {
			names[c.name] = true
		}
		for _, row := range s.rows {
			require.True(t, names[row.case_] && names[row.against], row.what)
		}
	}
}

func TestRun_Quick(t *testing.T) {
	for _, program := range []string{"redis-server", "redis-benchmark", "taskset"} {
		if _, err := exec.LookPath(program); err != nil {
			message := program + " is not available: run scripts/setup-test-tools"
			if os.Getenv("CI") == "true" {
				t.Fatal(message)
			}
			t.Skip(message)
		}
	}
	var out, progress bytes.Buffer
	o, err := parseOptions([]string{"-quick"})
	require.NoError(t, err)
	require.NoError(t, run(t.Context(), o, &out, &progress), "%s", &progress)
	for line := range strings.Lines(out.String()) {
		require.NotContains(t, line, "NaN")
	}
	for _, s := range scenarios() {
		for _, row := range s.rows {
			require.Contains(t, out.String(), "| "+row.what+" |")
		}
	}
}
