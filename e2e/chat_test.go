//go:build unix

package e2e

import (
	"path/filepath"
	"testing"
)

// TestChat_Chromium drives the example's own page in a browser, against the real program: it is killed and started
// again, and wires are cut.
func TestChat_Chromium(t *testing.T) {
	t.Parallel()
	node, chromium := lookNode(t), lookChromium(t)
	c := newExample(t, "chat", "-data", filepath.Join(t.TempDir(), "data", "chat.db.jsonl"))
	runScenarios(t, node, "js/chat.mjs", c.control.URL, chromium, screenshots(t))
}
