//go:build linux

package main

import (
	"math/bits"
	"time"
)

// histogram counts durations in log-linear buckets: 128 per power of two, so a
// reported percentile is at most 0.8 % above the true one.
type histogram struct {
	counts [58 * 128]uint64
	total  uint64
	max    uint64
}

func (h *histogram) add(d int64) {
	if d < 0 {
		d = 0
	}
	v := uint64(d)
	i := v
	if v >= 128 {
		e := bits.Len64(v) - 8
		i = uint64(e)*128 + v>>e
	}
	h.counts[i]++
	h.total++
	h.max = max(h.max, v)
}

// quantile returns the upper edge of the bucket that holds the q-th value
// (0 < q <= 1), and 0 for an empty histogram.
func (h *histogram) quantile(q float64) time.Duration {
	if h.total == 0 {
		return 0
	}
	rank := uint64(q * float64(h.total))
	rank = min(max(rank, 1), h.total)
	var seen uint64
	for i, c := range h.counts {
		seen += c
		if seen >= rank {
			v := uint64(i)
			if v >= 256 {
				e := v/128 - 1
				v = (v-e*128+1)<<e - 1
			}
			return time.Duration(min(v, h.max))
		}
	}
	return time.Duration(h.max)
}

func (h *histogram) reset() { *h = histogram{} }
