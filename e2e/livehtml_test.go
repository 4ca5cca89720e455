//go:build unix

package e2e

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestLiveHTML_Chromium drives both pages of the example in a browser, against the real program.
func TestLiveHTML_Chromium(t *testing.T) {
	t.Parallel()
	node, chromium := lookNode(t), lookChromium(t)
	runScenarios(t, node, "js/livehtml.mjs", newExample(t, "live-html").control.URL, chromium, screenshots(t))
}

// TestLiveHTML_Vendored: the example carries the pinned npm packages as they are, with their licences.
func TestLiveHTML_Vendored(t *testing.T) {
	lookNode(t)
	for name, file := range map[string]string{"htmx.org": "htmx.min.js", "htmx-ext-sse": "sse.min.js"} {
		pack := filepath.Join("node_modules", name)
		b, err := os.ReadFile(filepath.Join(pack, "package.json"))
		require.NoError(t, err, "run scripts/setup-test-tools")
		var about struct{ Version string }
		require.NoError(t, json.Unmarshal(b, &about))
		for from, to := range map[string]string{filepath.Join("dist", file): file, "LICENSE": "LICENSE"} {
			want, err := os.ReadFile(filepath.Join(pack, from))
			require.NoError(t, err)
			got, err := os.ReadFile(filepath.Join("../examples/live-html/static", name+"-"+about.Version, to))
			require.NoError(t, err)
			require.True(t, string(want) == string(got), "%s of %s %s", to, name, about.Version)
		}
	}
}
