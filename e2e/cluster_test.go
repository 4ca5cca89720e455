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

// clustered are the doors whose commands come by requests of their own, and one that has a single connection.
var clustered = []struct{ door, encoding string }{
	{"http_stream", "json"}, {"http_stream", "protobuf"}, {"sse", "json"}, {"websocket", "json"},
}

// TestSDK_Node_Cluster drives the published package against two nodes over Redis. Each request goes to one of them at random: the
// commands of an emulated connection, too.
func TestSDK_Node_Cluster(t *testing.T) {
	t.Parallel()
	for _, way := range clustered {
		t.Run(way.door+" "+way.encoding, func(t *testing.T) {
			t.Parallel()
			runScenarios(t, lookNode(t), "js/node.mjs", newClusterServer(t).URL, way.encoding, way.door, "cluster")
		})
	}
}

// TestPlain_Node_Cluster does so without an SDK, by the doors "events" and "poll".
func TestPlain_Node_Cluster(t *testing.T) {
	t.Parallel()
	runScenarios(t, lookNode(t), "js/node.mjs", newClusterServer(t).URL, "json", "plain", "cluster")
}
