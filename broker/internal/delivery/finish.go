package delivery

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"strings"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare"
)

// Result is what a run was like.
type Result struct {
	// Accepted is how many publications were accepted, Attempts how many were refused at least once.
	Accepted, Attempts int
	// Deliveries is how many publications came to clients, Visits how many connections they made.
	Deliveries, Visits int
	// Gaps is how often each client was told of a gap, those that were at all.
	Gaps map[string]int
}

// Finish ends the publishing, waits until every client stands at the end of every channel, ends everything, and fails the test
// if a client saw anything that it should not have seen.
func (r *Run) Finish() Result {
	r.t.Helper()
	result, err := r.verdict()
	if err != nil {
		require.FailNow(r.t, "delivery", abridge(err.Error())+"\n"+r.stories())
	}
	r.t.Logf("%d accepted, %d refused at least once; %d deliveries in %d visits; gaps told: %v; connections %v",
		result.Accepted, result.Attempts, result.Deliveries, result.Visits, result.Gaps, r.Balancer.Carried())
	return result
}

// verdict is Finish without the test.
func (r *Run) verdict() (Result, error) {
	r.stopPublishing()
	end, settled := r.settle()
	var errs []error
	if !settled {
		errs = append(errs, fmt.Errorf("not everybody came to an end at %v", end))
	}
	tales := make(map[string]map[string]Tale) // by client and channel
	for _, g := range r.guests {
		guests, err := g.Finish(end)
		if err != nil {
			errs = append(errs, err)
		}
		maps.Copy(tales, guests)
	}
	r.end()

	var result Result
	for _, c := range r.clients {
		tales[c.name] = c.tales
		result.Visits += c.visits
		for _, p := range c.problems {
			errs = append(errs, errors.New(p))
		}
	}
	result.Gaps = make(map[string]int)
	for _, channel := range r.channels {
		record := r.ledger.record(channel)
		record.End, record.Tales = end[channel], make(map[string]Tale)
		for client := range tales {
			tale := tales[client][channel]
			record.Tales[client] = tale
			result.Deliveries += tale.Seen()
			if n := tale.Gaps(); n > 0 {
				result.Gaps[client] += n
			}
		}
		result.Accepted += len(record.Accepted)
		result.Attempts += len(record.Attempts)
		if err := record.Check(); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", channel, err))
		}
	}
	return result, errors.Join(errs...)
}

// settle waits until everybody stands at the end of every channel, twice in a row: what was refused may still be carried out.
func (r *Run) settle() (end map[string]fanfare.Position, settled bool) {
	agreed := 0
	settled = until(patience, func() bool {
		positions, err := r.positions()
		if err != nil {
			return false
		}
		if !maps.Equal(end, positions) || !r.everybody(func(c *client) bool { return c.standsAt(positions) }) {
			end, agreed = positions, 0
			return false
		}
		agreed++
		return agreed > 2
	})
	return end, settled
}

// positions asks the first node that is not closed.
func (r *Run) positions() (positions map[string]fanfare.Position, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	for _, n := range r.nodes {
		if positions, err = n.Positions(ctx, r.channels...); !errors.Is(err, fanfare.ErrClosed) {
			return positions, err
		}
	}
	return nil, err
}

// abridge keeps what is wrong with one run readable: what follows the first mistakes is mostly more of the same.
func abridge(text string) string {
	const most = 60
	lines := strings.Split(text, "\n")
	if len(lines) > most {
		lines = append(lines[:most], fmt.Sprintf("… and %d lines more", len(lines)-most))
	}
	return strings.Join(lines, "\n")
}
