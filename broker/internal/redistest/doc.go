// Package redistest starts real Redis servers for tests: standalone ones, a Cluster, and a master that Sentinel watches. They listen
// on free ports of 127.0.0.1, keep their files in directories of the test, and end with it; on Linux also when the test binary is
// killed.
//
// Functions and methods fail the test when something does not work, so they are called from its goroutine. Without redis-server a
// test is skipped, or fails if CI=true.
package redistest
