// Package faults holds the tests of what clients see when Redis or a node fails: docs/redis.md has the table of it. It has
// nothing else in it.
package faults

import (
	"os"
	"testing"

	"go.uber.org/goleak"
)

// TestMain runs the tests or, where a test has started this program again, the node of that test.
func TestMain(m *testing.M) {
	if os.Getenv(nodeRedis) != "" {
		runNode()
		return
	}
	// The library closes connections to servers that have left a Cluster five seconds later, on a goroutine that nobody can end.
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("github.com/redis/rueidis.(*clusterClient)._refresh.func2"))
}
