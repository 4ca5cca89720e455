package prommetrics

import (
	"strconv"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
)

// How many values of a label are told apart.
const (
	maxTransports = 50
	maxPatterns   = 200
	maxHooks      = 50
	maxCodes      = 100
)

const (
	other   = "other"   // what is more than the bounds
	unknown = "unknown" // a channel without a pattern
)

// Series are found by their label once, and then only counted in.
type (
	transportSeries struct {
		label                     string
		accepted, refused, failed prometheus.Counter
		disconnects               bounded[uint32, prometheus.Counter] // by code
	}
	methodSeries struct {
		duration prometheus.Observer
		codes    bounded[uint32, prometheus.Counter]
	}
	patternSeries struct {
		label                                      string
		publications, bytes, deliveries, dropped   prometheus.Counter
		recovered, unrecovered, recoveredMessages  prometheus.Counter
		repaired, incomplete, repairedPublications prometheus.Counter
		lag                                        prometheus.Observer
	}
	hookSeries struct {
		slow   prometheus.Observer
		panics prometheus.Counter
	}
)

// methods are those of the protocol, and "unknown" for what is none of them.
var methods = []string{"connect", "subscribe", "unsubscribe", "publish", "presence", "presence_stats", "history", "rpc", "send",
	"refresh", "sub_refresh", unknown}

// hooks are those that the node may call.
var hooks = []string{"Authenticate", "Refresh", "Message", "Disconnected", "Subscribe", "SubRefresh", "Unsubscribed", "Publish",
	"ReadHistory", "ReadPresence", "RPC", "Revalidate"}

func (c *Collector) counter(name, help string, labels ...string) *prometheus.CounterVec {
	v := prometheus.NewCounterVec(prometheus.CounterOpts{
		Namespace: c.config.Namespace, Name: name, Help: help, ConstLabels: c.config.ConstLabels}, labels)
	c.vecs = append(c.vecs, v)
	return v
}

func (c *Collector) histogram(name, help, label string, buckets []float64) *prometheus.HistogramVec {
	v := prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Namespace: c.config.Namespace, Name: name, Help: help, ConstLabels: c.config.ConstLabels, Buckets: buckets}, []string{label})
	c.vecs = append(c.vecs, v)
	return v
}

func (c *Collector) newSeries() {
	c.transports = c.transportSeries()
	c.methods = c.methodSeries()
	c.patterns = c.patternSeries()
	c.hooks = c.hookSeries()
	// From the beginning, so that their first event is seen as one.
	for _, method := range methods {
		c.methods.get(method).codes.get(0)
	}
	for _, hook := range hooks {
		c.hooks.get(hook)
	}
}

// byLabel finds series by a label's value.
func byLabel[T any](max int, build func(label string) T) bounded[string, T] {
	return bounded[string, T]{
		max: max,
		// Prometheus takes nothing that is not UTF-8; what differs in nothing else shares its series.
		build: func(label string) T { return build(strings.ToValidUTF8(label, "\uFFFD")) },
		rest:  func() T { return build(other) },
	}
}

// byCode finds the counters of a vector whose last label is a code.
func byCode(v *prometheus.CounterVec, labels ...string) bounded[uint32, prometheus.Counter] {
	build := func(code string) prometheus.Counter { return v.WithLabelValues(append(labels, code)...) }
	return bounded[uint32, prometheus.Counter]{
		max:   maxCodes,
		build: func(code uint32) prometheus.Counter { return build(strconv.FormatUint(uint64(code), 10)) },
		rest:  func() prometheus.Counter { return build(other) },
	}
}

func (c *Collector) transportSeries() bounded[string, *transportSeries] {
	connects := c.counter("connects_total", "Connect commands, by what became of them.", "transport", "outcome")
	disconnects := c.counter("disconnects_total", "Ends of accepted connections.", "transport", "code")
	return byLabel(maxTransports, func(label string) *transportSeries {
		return &transportSeries{
			label:       label,
			accepted:    connects.WithLabelValues(label, "accepted"),
			refused:     connects.WithLabelValues(label, "refused"),
			failed:      connects.WithLabelValues(label, "failed"),
			disconnects: byCode(disconnects, label),
		}
	})
}

func (c *Collector) methodSeries() bounded[string, *methodSeries] {
	commands := c.counter("commands_total", "Commands of clients that were answered, by the code of their error; 0 is none.", "method", "code")
	durations := c.histogram("command_duration_seconds", "Time from when a command's turn came until its answer was queued.", "method",
		c.config.Buckets)
	return byLabel(len(methods), func(label string) *methodSeries {
		return &methodSeries{duration: durations.WithLabelValues(label), codes: byCode(commands, label)}
	})
}

func (c *Collector) patternSeries() bounded[string, *patternSeries] {
	publications := c.counter("publications_total", "Publications that came to this node.", "pattern")
	bytes := c.counter("publication_bytes_total", "Payloads of publications that came to this node.", "pattern")
	deliveries := c.counter("deliveries_total", "Publications written to or queued for subscribers, once for each.", "pattern")
	dropped := c.counter("dropped_publications_total", "Publications that subscribers did not get because too much was queued.", "pattern")
	recoveries := c.counter("recoveries_total", "Attempts of clients to get what they had missed.", "pattern", "outcome")
	recovered := c.counter("recovered_publications_total", "Publications that clients got because they had missed them.", "pattern")
	repairs := c.counter("repairs_total", "Gaps in what the broker sent, by whether history filled them.", "pattern", "outcome")
	repaired := c.counter("repaired_publications_total", "Publications that the broker had not sent, and history had.", "pattern")
	lag := c.histogram("delivery_lag_seconds",
		"Time from when a publication came to this node until it was written to or queued for its last subscriber.", "pattern", c.config.Buckets)
	return byLabel(maxPatterns, func(label string) *patternSeries {
		return &patternSeries{
			label:                label,
			publications:         publications.WithLabelValues(label),
			bytes:                bytes.WithLabelValues(label),
			deliveries:           deliveries.WithLabelValues(label),
			dropped:              dropped.WithLabelValues(label),
			recovered:            recoveries.WithLabelValues(label, "recovered"),
			unrecovered:          recoveries.WithLabelValues(label, "failed"),
			recoveredMessages:    recovered.WithLabelValues(label),
			repaired:             repairs.WithLabelValues(label, "repaired"),
			incomplete:           repairs.WithLabelValues(label, "incomplete"),
			repairedPublications: repaired.WithLabelValues(label),
			lag:                  lag.WithLabelValues(label),
		}
	})
}

func (c *Collector) hookSeries() bounded[string, *hookSeries] {
	slow := c.histogram("slow_hook_duration_seconds", "Calls of hooks that took longer than they should.", "hook", hookBuckets)
	panics := c.counter("hook_panics_total", "Calls of hooks that panicked.", "hook")
	return byLabel(maxHooks, func(label string) *hookSeries {
		return &hookSeries{slow: slow.WithLabelValues(label), panics: panics.WithLabelValues(label)}
	})
}
