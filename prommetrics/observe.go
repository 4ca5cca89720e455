package prommetrics

import (
	"errors"
	"strings"
	"time"

	"github.com/fanfare-go/fanfare"
)

// of finds the series of a channel.
func (c *Collector) of(channel string) *patternSeries {
	for _, n := range *c.nodes.Load() {
		if pattern, ok := n.Pattern(channel); ok {
			return c.patterns.get(pattern)
		}
	}
	return c.patterns.get(unknown)
}

// hook finds the series of a hook. "RPC" is followed by the method: where one function answers all, clients make them up.
func (c *Collector) hook(name string) *hookSeries {
	name, _, _ = strings.Cut(name, " ")
	return c.hooks.get(name)
}

// Connected implements [fanfare.Observer].
func (c *Collector) Connected(transport string, _ time.Duration, err error) {
	t := c.transports.get(transport)
	_, refused := errors.AsType[*fanfare.Error](err)
	_, sentAway := errors.AsType[*fanfare.Disconnect](err)
	switch {
	case err == nil:
		t.accepted.Inc()
	case errors.Is(err, fanfare.ErrInternal): // what the client is told where a hook failed, or did not answer
		t.failed.Inc()
	case refused || sentAway:
		t.refused.Inc()
	default:
		t.failed.Inc()
	}
}

// Disconnected implements [fanfare.Observer].
func (c *Collector) Disconnected(transport string, code uint32) {
	c.transports.get(transport).disconnects.get(code).Inc()
}

// Command implements [fanfare.Observer].
func (c *Collector) Command(method string, took time.Duration, code uint32) {
	m := c.methods.get(method)
	m.duration.Observe(took.Seconds())
	m.codes.get(code).Inc()
}

// Published implements [fanfare.Observer].
func (c *Collector) Published(channel string, size, subscribers int) {
	p := c.of(channel)
	p.publications.Inc()
	p.bytes.Add(float64(size))
	p.deliveries.Add(float64(subscribers))
}

// Delivered implements [fanfare.Observer].
func (c *Collector) Delivered(channel string, took time.Duration) {
	c.of(channel).lag.Observe(took.Seconds())
}

// Dropped implements [fanfare.Observer].
func (c *Collector) Dropped(channel string, publications int) {
	c.of(channel).dropped.Add(float64(publications))
}

// Recovered implements [fanfare.Observer].
func (c *Collector) Recovered(channel string, ok bool, publications int) {
	p := c.of(channel)
	p.recoveredMessages.Add(float64(publications))
	if ok {
		p.recovered.Inc()
	} else {
		p.unrecovered.Inc()
	}
}

// Repaired implements [fanfare.Observer].
func (c *Collector) Repaired(channel string, ok bool, publications int) {
	p := c.of(channel)
	p.repairedPublications.Add(float64(publications))
	if ok {
		p.repaired.Inc()
	} else {
		p.incomplete.Inc()
	}
}

// HookSlow implements [fanfare.Observer].
func (c *Collector) HookSlow(hook string, took time.Duration) {
	c.hook(hook).slow.Observe(took.Seconds())
}

// HookPanicked implements [fanfare.Observer].
func (c *Collector) HookPanicked(hook string) { c.hook(hook).panics.Inc() }
