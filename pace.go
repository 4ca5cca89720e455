package fanfare

import "time"

const (
	// enough is how many bytes wait for a paced audience at most: a write of that size is worth its call.
	enough = 8 << 10
	// smoothing is the weight of what was against a new sample in the averages below.
	smoothing = 8
	// costlyShare is the share of its worker's time that a channel must take to be paced, if each of its messages were
	// written alone: one in so many.
	costlyShare = 10
	// loadWindow is how often a worker's load is measured.
	loadWindow = 100 * time.Millisecond
)

// pacing decides how long publications wait to be written together with those behind them. What a write costs is mostly the
// call, so joining is what makes a busy channel cheap; and a message that comes alone should not wait for others.
type pacing struct {
	budget time.Duration // Config.LatencyBudget: the longest wait; negative is none
}

// pace is what is known of the messages of one audience. Times are those of the worker's clock.
type pace struct {
	last    time.Duration // when the last pass began
	arrival time.Duration // of the last message
	gap     time.Duration // between messages, on average
	cost    time.Duration // of a pass, on average
}

// arrived notes that a message has come.
func (p *pace) arrived(now time.Duration, to pacing) {
	longest := 2 * to.budget // after a pause, the first few messages decide
	if p.arrival == 0 {
		p.gap = longest
	}
	p.gap += (min(now-p.arrival, longest) - p.gap) / smoothing
	p.arrival = now
}

// began notes that a pass begins.
func (p *pace) began(now time.Duration) { p.last = now }

// passed notes what a pass cost.
func (p *pace) passed(cost time.Duration) { p.cost += (cost - p.cost) / smoothing }

// due is when the audience is to be served: at once, unless its messages come so quickly that several fall into one budget,
// and to so many subscribers that writing each alone would take much of the worker's time.
func (p *pace) due(to pacing, now time.Duration) time.Duration {
	quick := p.gap < to.budget*6/10
	costly := p.cost*costlyShare > p.gap
	if to.budget <= 0 || !quick || !costly {
		return now
	}
	// Who is served last waits for the pass as well: some of that is taken off, for as much as it costs little.
	return p.last + to.budget - min(p.cost, to.budget)/4
}

// spacing is the least time between two writes of publications to one connection, for a worker of the given load. It joins
// what many quiet channels have for the same connections; while there is time enough it is none.
func (to pacing) spacing(load float64) time.Duration {
	if to.budget <= 0 || load < 0.5 {
		return 0
	}
	return to.budget / 2
}

// load measures the share of its time that a worker is busy.
type load struct {
	since time.Duration
	busy  time.Duration
	share float64
}

// add counts a time of work, and returns the share in the window before.
func (l *load) add(from, to time.Duration) float64 {
	l.busy += to - from
	if past := to - l.since; past >= loadWindow {
		l.share = float64(l.busy) / float64(past)
		l.since, l.busy = to, 0
	}
	return l.share
}
