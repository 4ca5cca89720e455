package main

import (
	"context"
	"errors"
	"fmt"
	"math"
)

// Figures that scenarios compute from several results.
const (
	slopeKey   = "slope_bytes"
	millionKey = "million_gb"
	ratioKey   = "ratio"
	stallKBKey = "stall_kb"
	loadKey    = "load"
)

// idle measures at several sizes. The slope between them has no part in what the process needs anyway.
func idle(ctx context.Context, b *bench, v variant) (result, error) {
	const few, middle, most = 5_000, 10_000, 18_000
	hold := "5s"
	if b.Quick {
		hold = "1s"
	}
	var rss []float64
	var res result
	for _, n := range []int{few, middle, most} {
		r, err := b.server(ctx, v, load{fmt.Sprintf("-mode idle -channels 100 -n %d -hold %s", n, hold), 0})
		if err != nil {
			return nil, err
		}
		rss = append(rss, r["rss_after_gc_mb"]*(1<<20))
		if n == middle {
			res = r
		}
	}
	res[slopeKey] = (rss[2] - rss[0]) / (most - few)
	res[millionKey] = res[slopeKey] * 1e6 / 1e9
	return res, nil
}

const (
	// Together they send enough to fill the socket buffers of a stalled client, some megabytes, and then its queue.
	stalledArgs  = "-mode fanout -n 1000 -rate 250 -size 1200"
	stalledCount = 4500
)

// stalled compares a run with clients that stop reading with one without.
func stalled(ctx context.Context, b *bench, v variant) (result, error) {
	none, err := b.server(ctx, v, load{stalledArgs, stalledCount})
	if err != nil {
		return nil, err
	}
	res, err := b.server(ctx, v, load{stalledArgs + " -stall 0.01", stalledCount})
	if err != nil {
		return nil, err
	}
	res[ratioKey] = res[p99Key] / none[p99Key]
	res[stallKBKey] = (res["rss_peak_mb"] - none["rss_peak_mb"]) * (1 << 20) / 1000 / res["stalled"]
	return res, nil
}

const (
	neighbourArgs    = "-mode fanout -n 1000 -app-rate 200"
	neighbourSeconds = 10
)

// neighbour compares the app's handler beside a fan-out with the handler of an idle server.
func neighbour(ctx context.Context, b *bench, v variant) (result, error) {
	seconds := neighbourSeconds
	if b.Quick {
		seconds /= quickShare
	}
	rate, err := b.findHalfLoad(ctx, v)
	if err != nil {
		return nil, err
	}
	alone, err := b.server(ctx, v, load{fmt.Sprintf("-mode app -n 1000 -app-rate 200 -hold %ds", seconds), 0})
	if err != nil {
		return nil, err
	}
	res, err := b.server(ctx, v, paceOf(rate, neighbourSeconds))
	if err != nil {
		return nil, err
	}
	res[ratioKey] = res["app_p99_ms"] / alone["app_p99_ms"]
	res[loadKey] = res["server_cpu_s"] / res["seconds"]
	return res, nil
}

func paceOf(rate float64, seconds int) load {
	return load{fmt.Sprintf("%s -rate %g", neighbourArgs, rate), int(rate) * seconds}
}

// findHalfLoad finds the rate at which the server uses half of its core. Pacing makes deliveries cheaper as the rate
// rises, so it is sought and not computed.
func (b *bench) findHalfLoad(ctx context.Context, v variant) (float64, error) {
	if rate, ok := b.halfLoad[v.String()]; ok {
		return rate, nil
	}
	const half, tolerance, tries, seconds = 0.5, 0.03, 10, 4
	rate, best, distance := 50.0, 0.0, math.Inf(1)
	for range tries {
		l := paceOf(rate, seconds)
		if b.Quick {
			l.count *= quickShare // a shorter run does not tell
		}
		r, err := b.server(ctx, v, l)
		if err != nil {
			return 0, fmt.Errorf("looking for half load: %w", err)
		}
		used := r["server_cpu_s"] / r["seconds"]
		b.logf("    %g messages/s use %.2f of the core\n", rate, used)
		if r["seconds"] > 1.5*seconds {
			// Whatever it used, it was not all that the rate needs.
			used = max(used, 1)
		}
		if used <= 0 {
			return 0, errors.New("looking for half load: the server used no time")
		}
		if d := math.Abs(used - half); d < distance {
			best, distance = rate, d
		}
		if distance < tolerance {
			break
		}
		rate = max(1, math.Round(rate*min(max(half/used, 0.4), 2.5)))
	}
	if distance > 3*tolerance {
		return 0, fmt.Errorf("no rate found at which the server uses half of its core; %g messages/s are %.2f off: is the machine busy?", best, distance)
	}
	b.halfLoad[v.String()] = best
	return best, nil
}
