package prommetrics

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/fanfare-go/fanfare"
)

// gauges are what nodes are asked for at each scrape.
type gauges struct {
	connections, subscriptions *prometheus.Desc
	plain                      []gauge
}

type gauge struct {
	desc  *prometheus.Desc
	value func(s *fanfare.Stats) int
}

func (c *Collector) newGauges() gauges {
	desc := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc(prometheus.BuildFQName(c.config.Namespace, "", name), help, labels, c.config.ConstLabels)
	}
	return gauges{
		connections:   desc("connections", "Open connections whose user is known.", "transport"),
		subscriptions: desc("subscriptions", "Subscriptions of open connections.", "pattern"),
		plain: []gauge{
			{desc("connections_pending", "Open connections that have not been let in."), func(s *fanfare.Stats) int { return s.Connecting }},
			{desc("users", "Users with open connections. All that are anonymous are one."), func(s *fanfare.Stats) int { return s.Users }},
			{desc("channels", "Channels with subscribers."), func(s *fanfare.Stats) int { return s.Channels }},
			{desc("queue_messages", "Messages queued for connections that do not take them at once."), func(s *fanfare.Stats) int { return s.Queued }},
			{desc("queue_bytes", "Length of what is queued for connections that do not take it at once."), func(s *fanfare.Stats) int { return s.QueuedBytes }},
			{desc("undelivered_bytes", "Size of what waits for the fan-out."), func(s *fanfare.Stats) int { return s.UndeliveredBytes }},
			{desc("hooks_running", "Hooks of the app that are running."), func(s *fanfare.Stats) int { return s.Hooks }},
		},
	}
}

// stats adds up the nodes. Labels are bounded here already, and what the nodes know has its series from now on: a counter that
// begins with its first event hides that event from rate().
func (c *Collector) stats() *fanfare.Stats {
	sum := &fanfare.Stats{Connections: make(map[string]int), Subscriptions: make(map[string]int)}
	for _, n := range *c.nodes.Load() {
		s := n.Stats()
		for name, count := range s.Connections {
			sum.Connections[c.transports.get(name).label] += count
		}
		for pattern, count := range s.Subscriptions {
			sum.Subscriptions[c.patterns.get(pattern).label] += count
		}
		sum.Connecting += s.Connecting
		sum.Users += s.Users
		sum.Channels += s.Channels
		sum.Queued += s.Queued
		sum.QueuedBytes += s.QueuedBytes
		sum.UndeliveredBytes += s.UndeliveredBytes
		sum.Hooks += s.Hooks
	}
	return sum
}

func (g *gauges) describe(ch chan<- *prometheus.Desc) {
	ch <- g.connections
	ch <- g.subscriptions
	for _, p := range g.plain {
		ch <- p.desc
	}
}

func (g *gauges) collect(ch chan<- prometheus.Metric, s *fanfare.Stats) {
	send := func(desc *prometheus.Desc, value int, labels ...string) {
		m, err := prometheus.NewConstMetric(desc, prometheus.GaugeValue, float64(value), labels...)
		if err != nil {
			m = prometheus.NewInvalidMetric(desc, err)
		}
		ch <- m
	}
	for name, count := range s.Connections {
		send(g.connections, count, name)
	}
	for pattern, count := range s.Subscriptions {
		send(g.subscriptions, count, pattern)
	}
	for _, p := range g.plain {
		send(p.desc, p.value(s))
	}
}
