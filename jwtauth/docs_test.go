package jwtauth_test

import (
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestDocs: the app that docs/tokens.md shows is the one of the Example, which is compiled and run.
func TestDocs(t *testing.T) {
	docs, err := os.ReadFile("../docs/tokens.md")
	require.NoError(t, err)
	example, err := os.ReadFile("example_test.go")
	require.NoError(t, err)
	_, app, ok := strings.Cut(string(example), "// mount makes")
	require.True(t, ok)
	app, _, ok = strings.Cut(app, "// An app makes tokens")
	require.True(t, ok)
	require.Contains(t, string(docs), "// mount makes"+strings.TrimRight(app, "\n"))
}
