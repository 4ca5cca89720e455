package redisbroker

import (
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/redis/rueidis"

	"github.com/fanfare-go/fanfare"
)

// carrier hands what comes over one connection to the nodes. The library calls it from one goroutine.
type carrier struct {
	feed *feed

	mu    sync.Mutex // held during every delivery, so that there is none after the end; guards below
	ended bool
}

// end returns when nothing more is delivered. Only then may another connection deliver.
func (c *carrier) end() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ended = true
}

func (c *carrier) message(m rueidis.PubSubMessage) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ended {
		return
	}
	t := c.feed.table
	t.mu.RLock()
	sub := t.byName[m.Channel]
	var links []*link
	if sub != nil {
		links = sub.links
	}
	t.mu.RUnlock()
	if len(links) == 0 {
		return
	}
	var err error
	if sub.carries == messages {
		err = deliverMessage(links, sub.channel, m.Message)
	} else {
		err = deliverControl(links, m.Message, sub.carries == controlToAll)
	}
	if err == nil {
		return
	}
	if more, due := t.garbage.due(time.Now()); due {
		t.shard.broker.config.Logger.Warn("message of Redis not understood",
			slog.String("channel", m.Channel), slog.Any("err", err), slog.Int("more_before", more))
	}
}

// garbage counts messages that nobody understands: of another version, or of another program. There may be thousands a second.
type garbage struct {
	mu    sync.Mutex // guards below; a leaf
	quiet time.Time  // until when nothing is said
	more  int        // messages about which nothing was said
}

// due reports whether to say something of a message now, which is once a minute, and how many came before of which nothing was said.
func (g *garbage) due(now time.Time) (more int, due bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if now.Before(g.quiet) {
		g.more++
		return 0, false
	}
	more, g.more, g.quiet = g.more, 0, now.Add(time.Minute)
	return more, true
}

func deliverMessage(links []*link, channel, text string) error {
	m, err := decodeMessage(text)
	if err != nil {
		return err
	}
	for _, l := range links {
		l.deliver(func(sink fanfare.Sink) {
			switch {
			case m.publication != nil:
				sink.Publication(channel, m.publication)
			case m.membership != nil:
				sink.Membership(channel, *m.membership)
			}
		})
	}
	return nil
}

func deliverControl(links []*link, text string, toAll bool) error {
	from, data, err := decodeControl(text)
	if err != nil || data == nil {
		return err
	}
	for _, l := range links {
		if !toAll || l.node != from { // the sender knows already
			l.deliver(func(sink fanfare.Sink) { sink.Control(data) })
		}
	}
	return nil
}

// subscription hears what the server does by itself: it ends the subscriptions of a slot that it has given away.
func (c *carrier) subscription(s rueidis.PubSubSubscription) {
	if !strings.HasSuffix(s.Kind, "unsubscribe") {
		return
	}
	t := c.feed.table
	t.mu.Lock()
	defer t.mu.Unlock()
	sub := t.byName[s.Channel]
	if sub == nil || sub.feed != c.feed || sub.state != present && sub.state != joining {
		return
	}
	sub.owed = true
	t.turn(sub, absent)
	t.stranded.Store(true)
	c.feed.master.shard.masters.doubt()
}
