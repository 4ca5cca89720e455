// Package e2e holds the tests of the whole product: a node behind an ordinary HTTP server, and the published JavaScript
// SDK against it, in Node and in headless Chromium, directly and through proxies. The scenarios themselves are JavaScript, in
// js/scenarios, and run unchanged in both. The package exports nothing.
package e2e
