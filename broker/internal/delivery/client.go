package delivery

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/fanfare-go/fanfare"
)

// client is one that comes back by itself, with its last positions, until its run is over.
type client struct {
	name     string
	address  string
	channels []string
	stay     time.Duration // how long a connection lasts before the client leaves it, on average; 0 for ever
	visit    func(ctx context.Context, c *client) error

	mu       sync.Mutex // guards below
	tales    map[string]Tale
	at       map[string]fanfare.Position // where the client stands
	visits   int
	failures map[string]int // why connections have ended, and how often
	problems []string       // what no client should ever meet
}

// run visits again and again. It ends with the context.
func (c *client) run(ctx context.Context) {
	for ctx.Err() == nil {
		began := time.Now()
		err := c.visit(ctx, c)
		c.visited(err)
		if time.Since(began) > time.Second && err == nil {
			continue // at once, as after a poll
		}
		pause(ctx, 20*time.Millisecond+rand.N(150*time.Millisecond))
	}
}

func (c *client) visited(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.visits++
	if err != nil {
		if c.failures == nil {
			c.failures = make(map[string]int)
		}
		c.failures[err.Error()]++
	}
}

// leaving is when to leave a connection that begins now.
func (c *client) leaving() <-chan time.Time {
	if c.stay == 0 {
		return nil
	}
	return time.After(c.stay/4 + rand.N(c.stay*3/2))
}

// problem notes what no client should ever meet: it is an error of the run.
func (c *client) problem(format string, args ...any) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.problems = append(c.problems, c.name+": "+fmt.Sprintf(format, args...))
}

// position returns where the client stands, if it has begun.
func (c *client) position(channel string) (at fanfare.Position, begun bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	at, begun = c.at[channel]
	return at, begun
}

// begun reports whether the client has begun in all channels.
func (c *client) begun() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.at) == len(c.channels)
}

// tell adds a scene, after which the client stands there.
func (c *client) tell(channel string, s Scene) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.tales[channel] = append(c.tales[channel], s)
	c.at[channel] = s.At
}

// stand sets where the client stands, where the server said so without a word on what it may have missed.
func (c *client) stand(channel string, at fanfare.Position) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.at[channel] = at
}

// standsAt reports whether the client stands at these positions.
func (c *client) standsAt(positions map[string]fanfare.Position) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return maps.Equal(c.at, positions)
}

// reached reports whether the client stands at these positions or behind them.
func (c *client) reached(positions map[string]fanfare.Position) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	for channel, at := range positions {
		if c.at[channel].Epoch != at.Epoch || c.at[channel].Offset < at.Offset {
			return false
		}
	}
	return true
}

// gaps is how often the client was told of a gap, in all channels.
func (c *client) gaps() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := 0
	for _, t := range c.tales {
		n += t.Gaps()
	}
	return n
}

// story is a short account of the client, for whoever reads that it failed.
func (c *client) story() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := fmt.Sprintf("%s: %d visits, stands at %v", c.name, c.visits, c.at)
	for _, failure := range slices.Sorted(maps.Keys(c.failures)) {
		s += fmt.Sprintf("\n\t%d × %s", c.failures[failure], failure)
	}
	return s
}

// pause waits, or until the context ends.
func pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}
