package fanfare_test

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestREADME: its first program is the one in examples/quickstart, which is built and run, and it counts its lines rightly.
func TestREADME(t *testing.T) {
	readme, err := os.ReadFile("README.md")
	require.NoError(t, err)
	program, err := os.ReadFile("examples/quickstart/main.go")
	require.NoError(t, err)
	require.Contains(t, string(readme), string(program), "the README shows another program than examples/quickstart/main.go")

	added := 0
	for line := range strings.Lines(string(program)) {
		if strings.HasSuffix(strings.TrimRight(line, "\n"), "// live") {
			added++
		}
	}
	require.Contains(t, string(readme), fmt.Sprintf("marked `// live`: %d of them", added))
}
