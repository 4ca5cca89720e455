package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// instruction is a line of a Dockerfile.
type instruction struct{ name, args string }

// stages splits a Dockerfile at its FROM lines.
func stages(t *testing.T) (out [][]instruction) {
	t.Helper()
	content, err := os.ReadFile("Dockerfile")
	require.NoError(t, err)
	joined := strings.ReplaceAll(string(content), "\\\n", " ")
	for line := range strings.Lines(joined) {
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' {
			continue
		}
		name, args, _ := strings.Cut(line, " ")
		if name == "FROM" {
			out = append(out, nil)
		}
		require.NotEmpty(t, out, "the first instruction is FROM")
		out[len(out)-1] = append(out[len(out)-1], instruction{name, args})
	}
	return out
}

// one returns the arguments of the only such instruction.
func one(t *testing.T, stage []instruction, name string) string {
	t.Helper()
	var found []string
	for _, i := range stage {
		if i.name == name {
			found = append(found, i.args)
		}
	}
	require.Len(t, found, 1, name)
	return found[0]
}

func TestDockerfile(t *testing.T) {
	all := stages(t)
	require.Len(t, all, 2, "one stage builds, one runs")
	building, running := all[0], all[1]

	mod, err := os.ReadFile("../../go.mod")
	require.NoError(t, err)
	language := regexp.MustCompile(`(?m)^go (\d+\.\d+)`).FindStringSubmatch(string(mod))[1]
	require.Equal(t, "golang:"+language+" AS build", one(t, building, "FROM"), "the language of go.mod")
	var built bool
	for _, i := range building {
		if i.name == "RUN" && strings.Contains(i.args, "go build") {
			built = true
			require.Contains(t, i.args, "CGO_ENABLED=0", "static: there is no C library where it runs")
			require.Contains(t, i.args, "-o /out/fanfare ./examples/standalone")
		}
	}
	require.True(t, built)

	require.Equal(t, "scratch", one(t, running, "FROM"))
	require.Regexp(t, `^[1-9]\d*:[1-9]\d*$`, one(t, running, "USER"), "a number, and not root's")
	port := one(t, running, "EXPOSE")
	require.Contains(t, one(t, running, "ENV"), "FANFARE_ADDR=:"+port)

	there := make(map[string]bool)
	for _, i := range running {
		if i.name != "COPY" {
			continue
		}
		f := strings.Fields(i.args)
		source, target := f[len(f)-2], f[len(f)-1]
		there[target] = true
		if f[0] != "--from=build" {
			require.FileExists(t, filepath.Join("../..", source))
		}
	}
	for name, want := range map[string]int{"ENTRYPOINT": 1, "CMD": 2} {
		var words []string
		require.NoError(t, json.Unmarshal([]byte(one(t, running, name)), &words), "without a shell there is only the form in JSON")
		require.Len(t, words, want)
		require.True(t, there[words[len(words)-1]], "%s is copied", words)
	}
}
