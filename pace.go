package fanfare

import "time"

const (
	// enough is how many bytes wait for a paced audience at most: a write of that size is worth its call.
	enough = 8 << 10
	// paceSmoothing is the weight of history against a new sample in the averages below.
	paceSmoothing = 8
	// paceShare is the share of its worker's time that a channel must take, without pacing, to be paced: one in so many.
	paceShare = 10
)

// pace decides when an audience is served next. What a write costs is mostly the call, so messages that come quickly are
// joined: the audience then waits until a latency budget has passed since its last pass. A channel that is quiet, or so
// small that its writes cost little, never waits.
type pace struct {
	last    time.Time     // when the last pass began
	arrival time.Time     // of the last message
	gap     time.Duration // between messages, on average
	cost    time.Duration // of a pass, on average
}

// arrived notes that a message has come.
func (p *pace) arrived(now time.Time, budget time.Duration) {
	gap := min(now.Sub(p.arrival), 2*budget) // after a pause, the first few messages decide
	p.gap += (gap - p.gap) / paceSmoothing
	p.arrival = now
}

func (p *pace) began(now time.Time) { p.last = now }

// passed notes what a pass cost.
func (p *pace) passed(cost time.Duration) { p.cost += (cost - p.cost) / paceSmoothing }

// due is when the audience may be served.
func (p *pace) due(now time.Time, budget time.Duration) time.Time {
	quick := p.gap < budget*6/10 // several messages fit into the budget
	costly := p.cost*paceShare > p.gap
	if budget <= 0 || !quick || !costly {
		return now
	}
	return p.last.Add(budget)
}
