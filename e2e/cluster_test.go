//go:build unix

package e2e

import "testing"

// TestCluster_Chromium drives the example's page in a browser, while its nodes are killed one after the other.
func TestCluster_Chromium(t *testing.T) {
	t.Parallel()
	node, chromium := lookNode(t), lookChromium(t)
	lookRedis(t)
	c := newExample(t, "cluster", "-pause", "1s")
	runScenarios(t, node, "js/cluster.mjs", c.control.URL, chromium, screenshots(t))
}
