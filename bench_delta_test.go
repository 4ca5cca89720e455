package fanfare_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/fanfare-go/fanfare"
)

// editedDocuments are versions of a document of some size, each an edit of the one before, the first of the last.
func editedDocuments(size int) (docs [][]byte) {
	var rows strings.Builder
	for i := 0; rows.Len() < size-50; i++ {
		fmt.Fprintf(&rows, `{"id":%d,"name":"Grüße %d","price":%d.25},`, i, i*7919%1000, i*i%97)
	}
	for rev := range 16 {
		docs = append(docs, fmt.Appendf(nil, `{"rows":[%s{"id":"last","rev":%d}]}`, &rows, 1000+rev))
	}
	return docs
}

// BenchmarkDelta measures a fan-out of documents to a thousand subscribers, that take deltas or not. What a publication costs
// besides is what its delta does: once, whatever their number.
func BenchmarkDelta(b *testing.B) {
	const subs = 1000
	for _, size := range []int{200, 2000, 64_000} {
		docs := editedDocuments(size)
		for _, ask := range []string{"", `,"delta":"fossil"`} {
			name := fmt.Sprintf("%d bytes/delta=%t", size, ask != "")
			b.Run(name, func(b *testing.B) {
				node := benchNode(b)
				node.Channel("doc", fanfare.ChannelOptions{Public: true, Delta: true, History: fanfare.History{Size: 10, TTL: time.Hour}})
				a := newArrivals(64)
				a.asking = ask
				conns := a.join(b, node, "doc", subs, 0)
				b.ReportAllocs()
				i := 0
				a.publish(b, node, "doc", 1, func() bool {
					a.payload = docs[i%len(docs)]
					i++
					return b.Loop()
				})
				deliveries := float64(b.N) * subs
				b.ReportMetric(float64(b.Elapsed().Nanoseconds())/deliveries, "ns/delivery")
				b.ReportMetric(float64(a.bytes())/deliveries, "B/delivery")
				for _, conn := range conns {
					conn.leave()
				}
			})
		}
	}
}

// BenchmarkTagsFilter measures a fan-out of which every subscriber has a filter: all pass, or none.
func BenchmarkTagsFilter(b *testing.B) {
	const subs = 1000
	for _, cmp := range []string{"", "nex"} {
		b.Run(fmt.Sprintf("filter=%t", cmp != ""), func(b *testing.B) {
			node := benchNode(b)
			node.Channel("tagged", fanfare.ChannelOptions{Public: true, TagsFilter: true})
			a := newArrivals(64)
			if cmp != "" {
				a.asking = `,"tf":{"key":"k","cmp":"` + cmp + `"}`
			}
			conns := a.join(b, node, "tagged", subs, 0)
			b.ReportAllocs()
			a.publish(b, node, "tagged", 1, b.Loop)
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/subs, "ns/delivery")
			for _, conn := range conns {
				conn.leave()
			}
		})
	}
}
