package archtest

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

const module = "github.com/fanfare-go/fanfare"

type pkg struct {
	ImportPath string
	Standard   bool
	Imports    []string
	Error      *struct{ Err string }
}

func goList(t *testing.T, args ...string) []pkg {
	t.Helper()
	var stdout, stderr bytes.Buffer
	cmd := exec.CommandContext(t.Context(), "go", append([]string{"list", "-json=ImportPath,Standard,Imports,Error"}, args...)...)
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	require.NoError(t, cmd.Run(), "go list: %s", stderr.String())

	var pkgs []pkg
	for dec := json.NewDecoder(&stdout); ; {
		var p pkg
		err := dec.Decode(&p)
		if errors.Is(err, io.EOF) {
			return pkgs
		}
		require.NoError(t, err)
		require.Nil(t, p.Error, "%s does not load", p.ImportPath)
		pkgs = append(pkgs, p)
	}
}

// within reports whether path is one of the roots or below one of them.
func within(path string, roots ...string) bool {
	return slices.ContainsFunc(roots, func(root string) bool {
		return path == root || strings.HasPrefix(path, root+"/")
	})
}

func TestRoot_LinksOnlyWhatItNeeds(t *testing.T) {
	t.Parallel()
	// An app that imports the root gets these into its binary, and nothing else.
	allowed := []string{
		module + "/transport",
		module + "/internal",
		"github.com/coder/websocket",
		"golang.org/x/sync",
		"google.golang.org/protobuf/encoding/protowire",
		"google.golang.org/protobuf/internal",
	}
	// These are in the standard library and still have no business in a server's binary.
	unwanted := []string{"testing", "database/sql", "net/http/httptest", "net/http/pprof", "expvar", "plugin", "flag"}

	deps := goList(t, "-deps", module)
	require.NotEmpty(t, deps)
	for _, p := range deps {
		switch {
		case p.Standard:
			require.False(t, within(p.ImportPath, unwanted...), "the root reaches %s", p.ImportPath)
		case p.ImportPath == module, p.ImportPath == module+"/transport":
		default:
			require.True(t, within(p.ImportPath, allowed...), "the root reaches %s", p.ImportPath)
		}
	}
}

func TestTransportAndInternal_NeverReachTheRoot(t *testing.T) {
	t.Parallel()
	// Conformance kits and tests included: what lies below the root must be testable without it.
	for _, p := range goList(t, "-deps", "-test", module+"/transport/...", module+"/internal/...") {
		require.NotContains(t, p.Imports, module, "%s imports the root", p.ImportPath)
	}
}

func TestInternal_UsesTheStandardLibraryAndTheWireFormatOfProtobuf(t *testing.T) {
	t.Parallel()
	for _, p := range goList(t, "-deps", module+"/internal/...") {
		require.True(t, p.Standard || within(p.ImportPath, module+"/internal", "google.golang.org/protobuf/encoding/protowire",
			"google.golang.org/protobuf/internal"), "internal reaches %s", p.ImportPath)
	}
}

func TestTransport_IsALeaf(t *testing.T) {
	t.Parallel()
	for _, p := range goList(t, "-deps", module+"/transport") {
		require.True(t, p.Standard || p.ImportPath == module+"/transport", "transport reaches %s", p.ImportPath)
	}
}

func TestWebSocketLibrary_IsImportedInOnePlace(t *testing.T) {
	t.Parallel()
	for _, p := range goList(t, module+"/...") {
		if p.ImportPath == module+"/transport/websocket" {
			continue
		}
		require.NotContains(t, p.Imports, "github.com/coder/websocket", "%s imports the WebSocket library", p.ImportPath)
	}
}

func TestServersOfTests_AreLinkedByTestsOnly(t *testing.T) {
	t.Parallel()
	for _, p := range goList(t, module+"/...") {
		require.NotContains(t, p.Imports, module+"/broker/internal/redistest", "%s imports what is for tests", p.ImportPath)
	}
}

func TestServerAPI_NeedsNothingButTheRoot(t *testing.T) {
	t.Parallel()
	std := make(map[string]bool)
	for _, p := range goList(t, "std") {
		std[p.ImportPath] = true
	}
	for _, p := range goList(t, module+"/serverapi") {
		for _, path := range p.Imports {
			require.True(t, std[path] || path == module || path == "golang.org/x/sync/errgroup", "serverapi imports %s", path)
		}
	}
}
