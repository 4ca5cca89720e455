package fanfare_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/fanfare-go/fanfare"
	"github.com/fanfare-go/fanfare/prommetrics"
)

// BenchmarkFanoutObserved is BenchmarkFanout with somebody looking. What that costs must not depend on the number of subscribers,
// and allocate nothing.
func BenchmarkFanoutObserved(b *testing.B) {
	for _, by := range []struct {
		name     string
		observer func() fanfare.Observer
	}{
		{"nobody", func() fanfare.Observer { return nil }},
		{"nop", func() fanfare.Observer { return fanfare.NopObserver{} }},
		{"prometheus", func() fanfare.Observer { return prommetrics.New(prommetrics.Config{}) }},
	} {
		for _, subs := range []int{1, 10, 1000, 100_000} {
			b.Run(fmt.Sprintf("%s/subs=%d", by.name, subs), func(b *testing.B) {
				newArrivals(64).fanOut(b, "plain", subs, 1, func(c *fanfare.Config) { c.Observer = by.observer() })
			})
		}
	}
}

// BenchmarkStats measures a look at a node with 100,000 connections.
func BenchmarkStats(b *testing.B) {
	node := benchNode(b)
	conns := newArrivals(64).join(b, node, "plain", 100_000, 0)
	b.ReportAllocs()
	for b.Loop() {
		node.Stats()
	}
	for _, conn := range conns {
		conn.leave()
	}
}

// BenchmarkCollector measures what the collector does for one publication.
func BenchmarkCollector(b *testing.B) {
	metrics := prommetrics.New(prommetrics.Config{})
	node := benchNode(b, func(c *fanfare.Config) { c.Observer = metrics })
	node.Channel("room:{id}", fanfare.ChannelOptions{})
	b.ReportAllocs()
	for b.Loop() {
		metrics.Published("room:42", 100, 1000)
		metrics.Delivered("room:42", time.Millisecond)
	}
}
