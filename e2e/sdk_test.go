//go:build unix

package e2e

import (
	"os"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestSDK_Node drives the published npm package in Node.
func TestSDK_Node(t *testing.T) {
	node := lookNode(t)
	onEachEngine(t, func(t *testing.T, s *server) { runScenarios(t, node, "js/node.mjs", s.URL, "json", "websocket") })
}

// TestSDK_Node_Protobuf drives the package's Protobuf build, whose messages are those of the mobile SDKs.
func TestSDK_Node_Protobuf(t *testing.T) {
	runScenarios(t, lookNode(t), "js/node.mjs", newServer(t, false).URL, "protobuf", "websocket")
}

// streams are the ways over HTTP streaming and server-sent events, which have no Protobuf.
var streams = []struct{ door, encoding string }{{"http_stream", "json"}, {"http_stream", "protobuf"}, {"sse", "json"}}

// TestSDK_Node_Streams drives it over those; server-sent events need a package, since Node has no client of them.
func TestSDK_Node_Streams(t *testing.T) {
	for _, s := range streams {
		t.Run(s.door+" "+s.encoding, func(t *testing.T) {
			runScenarios(t, lookNode(t), "js/node.mjs", newServer(t, false).URL, s.encoding, s.door)
		})
	}
}

// TestSDK_Chromium drives the same scenarios with the SDK's browser bundle in a page.
func TestSDK_Chromium(t *testing.T) {
	node, chromium := lookNode(t), lookChromium(t)
	onEachEngine(t, func(t *testing.T, s *server) {
		runScenarios(t, node, "js/chromium.mjs", s.URL, "json", "websocket", chromium)
	})
}

// TestSDK_Chromium_Protobuf does so with the bundle of its Protobuf build.
func TestSDK_Chromium_Protobuf(t *testing.T) {
	node, chromium := lookNode(t), lookChromium(t)
	runScenarios(t, node, "js/chromium.mjs", newServer(t, false).URL, "protobuf", "websocket", chromium)
}

// TestSDK_Chromium_Streams does so with the bundles of both builds.
func TestSDK_Chromium_Streams(t *testing.T) {
	node, chromium := lookNode(t), lookChromium(t)
	for _, s := range streams {
		t.Run(s.door+" "+s.encoding, func(t *testing.T) {
			runScenarios(t, node, "js/chromium.mjs", newServer(t, false).URL, s.encoding, s.door, chromium)
		})
	}
}

// TestPlain_Node does without an SDK what pages do: with the EventSource of a package, and fetch.
func TestPlain_Node(t *testing.T) {
	runScenarios(t, lookNode(t), "js/node.mjs", newServer(t, false).URL, "json", "plain")
}

// TestPlain_Chromium does so in a page, with what the browser has.
func TestPlain_Chromium(t *testing.T) {
	node, chromium := lookNode(t), lookChromium(t)
	runScenarios(t, node, "js/chromium.mjs", newServer(t, false).URL, "json", "plain", chromium)
}

// onEachEngine runs a test against what this system uses for plain TCP, and against what every system has.
func onEachEngine(t *testing.T, test func(*testing.T, *server)) {
	for name, portable := range map[string]bool{"default": false, "portable": true} {
		t.Run(name, func(t *testing.T) { test(t, newServer(t, portable)) })
	}
}

// runScenarios runs a script that runs scenarios, and turns each into a subtest. FANFARE_E2E_ONLY, a regular expression
// on names, selects some of them.
func runScenarios(t *testing.T, node, script string, args ...string) {
	t.Helper()
	var planned []string
	results := make(map[string]*result)
	err := runScript(t, func(line *scriptLine) {
		if line.Planned != nil {
			planned = line.Planned
		}
		if line.Name != "" {
			results[line.Name] = &line.result
		}
	}, node, append([]string{script}, args...)...)

	if planned != nil && len(planned) == 0 && os.Getenv("FANFARE_E2E_ONLY") != "" {
		t.Skip("FANFARE_E2E_ONLY selects none of its scenarios")
	}
	require.NotEmpty(t, planned, "%s planned no scenario: %v", script, err)
	for _, name := range planned {
		t.Run(name, func(t *testing.T) {
			r := results[name]
			require.NotNil(t, r, "%s ended without a result: %v", script, err)
			require.True(t, r.OK, "after %d ms: %s", r.Millis, r.Error)
			if os.Getenv("FANFARE_E2E_TIMES") != "" {
				t.Logf("%d ms", r.Millis)
			}
		})
	}
	require.NoError(t, err, script)
}
