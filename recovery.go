package fanfare

import (
	"errors"
	"slices"

	"github.com/fanfare-go/fanfare/internal/protocol"
	"github.com/fanfare-go/fanfare/internal/tagfilter"
)

// errSeamGap says that history and live messages do not join: something was lost between them.
var errSeamGap = errors.New("fanfare: gap between history and live messages")

// seam is everything that decides what a new subscription is told (spec 10.4 to 10.6): what the client asked for, what
// one atomic read of the stream returned, and what came live since before that read. It is a value: the decision is the
// pure function [seam.merge].
type seam struct {
	// cache selects the rules of cache recovery: history then holds at most the newest publication; or, with a filter, the newest
	// ones, the newest first, and more says that there may be older ones.
	cache, more bool
	// filter, if not nil, says what of a recovery is sent. What is recovered is decided without it.
	filter *tagfilter.Filter
	// except, if not empty, is the id of the client: what leaves it out is not sent. What is recovered is decided without it.
	except string
	// recover is the client's wish to get what followed since.
	recover bool
	since   Position
	// history holds the publications after since.Offset in ascending order, at most as many as may be recovered, and the
	// top of the stream.
	history HistoryResult
	// buffered are the live publications that came since buffering began, in order of arrival; the first stale of them
	// came before the read began.
	buffered []*Publication
	stale    int
	// maxBytes bounds the payload of a recovery; more is not recovered. 0 is no bound.
	maxBytes int
	// escaped says that the payloads are escaped on this connection: they are text, or in strings for the sake of deltas.
	escaped bool
}

// joined is how a subscription begins.
type joined struct {
	// recovered tells whether the client now has everything; publications is what it missed, in order.
	recovered    bool
	publications []*Publication
	// told is the position that the reply names: the client's own if recovered, since clients add to it what the reply
	// carries (spec 10.3), else the subscription's.
	told Position
	// position is where the subscription stands: the next live publication is the one after it.
	position Position
	// live are buffered publications without an offset. They belong behind the reply.
	live []*Publication
	// tooMuch is the size of what was not recovered because it was over maxBytes, else 0.
	tooMuch int
}

// merge joins history and live publications. It returns errSeamGap if a publication is missing between them: the history
// must be read again, or the client be told.
func (s seam) merge() (joined, error) {
	var live []*Publication
	buffered := make([]*Publication, 0, len(s.buffered))
	for i, p := range s.buffered {
		switch {
		case p.Offset == 0:
			live = append(live, p)
		case p.Epoch == s.history.Epoch:
			buffered = append(buffered, p)
		case i >= s.stale:
			// It came after the read from another life of the stream: the read is out of date. (What came before the
			// read from another life is over and done with.)
			return joined{}, errSeamGap
		}
	}
	slices.SortStableFunc(buffered, byOffset)

	position := s.history.Position
	if n := len(buffered); n > 0 {
		position.Offset = max(position.Offset, buffered[n-1].Offset)
	}
	j := joined{told: position, position: position, live: live}

	if s.cache {
		s.mergeCache(&j, buffered)
	} else if err := s.mergeStream(&j, buffered); err != nil {
		return joined{}, err
	}
	if s.filter != nil || s.except != "" {
		j.publications = slices.DeleteFunc(j.publications, func(p *Publication) bool { return !s.sends(p) })
		if j.recovered && len(j.publications) == 0 {
			j.told = position // or a client that wants little would fall behind what is kept, and hear of a gap
		}
	}
	if s.maxBytes > 0 && j.recovered {
		if size := sizeOf(j.publications, s.escaped); size > s.maxBytes {
			// A reply that would fill the client's queue throws it out again and again: better to say that it was too much.
			j.recovered, j.publications, j.tooMuch = false, nil, size
			j.told = position
		}
	}
	return j, nil
}

// mergeStream follows spec 10.4 and step 5 of 10.5.
func (s seam) mergeStream(j *joined, buffered []*Publication) error {
	recovered := s.recover && s.recoveredFromHistory()
	// The list must be gapless from what the client has, or from what was read, to the newest that came live.
	next := s.history.Offset + 1
	var all []*Publication
	if recovered {
		next = s.since.Offset + 1
		all = slices.Clone(s.history.Publications)
	}
	all = append(all, buffered...)
	slices.SortStableFunc(all, byOffset)
	list := all[:0]
	for _, p := range all {
		switch {
		case p.Offset < next: // a duplicate, or part of what was read
		case p.Offset == next:
			list = append(list, p)
			next++
		default:
			return errSeamGap
		}
	}
	if next <= s.history.Offset {
		// recoveredFromHistory saw to it that history reaches its top.
		return errSeamGap
	}
	if recovered {
		j.recovered, j.publications, j.told = true, list, Position{s.since.Offset, s.history.Epoch}
	}
	return nil
}

// recoveredFromHistory is the decision of spec 10.4, steps 3 to 7.
func (s seam) recoveredFromHistory() bool {
	if s.since.Epoch != "" && s.since.Epoch != s.history.Epoch {
		return false
	}
	pubs := s.history.Publications
	if len(pubs) == 0 {
		return s.since.Offset == s.history.Offset
	}
	return pubs[0].Offset == s.since.Offset+1 && pubs[len(pubs)-1].Offset == s.history.Offset
}

// sends reports whether the client is to get a publication.
func (s seam) sends(p *Publication) bool {
	return (p.Except == "" || p.Except != s.except) && (s.filter == nil || s.filter.Match(p.Tags))
}

// mergeCache follows spec 10.6.
func (s seam) mergeCache(j *joined, buffered []*Publication) {
	if !s.recover {
		return
	}
	newest := s.newest(buffered, func(*Publication) bool { return true })
	same := s.since.Offset > 0 && s.since.Offset == j.position.Offset && s.since.Epoch == j.position.Epoch
	switch {
	case same:
		j.recovered = true
		j.told = Position{s.since.Offset, j.position.Epoch}
	case newest != nil && newest.Offset == j.position.Offset && newest.Except != "" && newest.Except == s.except:
		j.recovered = true // the client is who made the state
	case newest != nil && newest.Offset == j.position.Offset:
		j.recovered, j.publications = true, []*Publication{newest}
		if s.filter != nil {
			newest = s.newest(buffered, s.sends)
		}
		switch {
		case newest == nil && s.more:
			j.recovered, j.publications = false, nil // what the client wants may be older than what was read
			return
		case newest == nil:
			j.publications = nil // and the client has everything up to its position, which is that of the stream
			return
		}
		j.publications[0] = newest
		// A client from another life of the stream may stand further on: the publication must move it forward (spec 10.3).
		j.told = Position{min(s.since.Offset, newest.Offset-1), j.position.Epoch}
	}
}

// newest returns the newest publication that passes.
func (s seam) newest(buffered []*Publication, passes func(*Publication) bool) (newest *Publication) {
	for _, list := range [][]*Publication{s.history.Publications, buffered} {
		for _, p := range list {
			if (newest == nil || p.Offset > newest.Offset) && passes(p) {
				newest = p
			}
		}
	}
	return newest
}

func byOffset(a, b *Publication) int {
	switch {
	case a.Offset < b.Offset:
		return -1
	case a.Offset > b.Offset:
		return 1
	}
	return 0
}

// sizeOf is what publications take in a message, and about what they take in memory. Text is escaped on JSON connections.
func sizeOf(pubs []*Publication, escaped bool) int {
	n := 0
	for _, p := range pubs {
		n += p.size(escaped)
	}
	return n
}

func (p *Publication) size(escaped bool) int {
	const overhead = 64 // field names, offset
	n := len(p.Data) + overhead
	if escaped {
		n = protocol.StringSize(p.Data) + overhead
	}
	n += tagsSize(p.Tags)
	if i := p.Info; i != nil {
		n += protocol.StringSize(i.User) + protocol.StringSize(i.Client) + len(i.ConnInfo) + len(i.ChanInfo) + overhead
	}
	return n
}

func tagsSize(tags map[string]string) int {
	n := 0
	for k, v := range tags {
		n += protocol.StringSize(k) + protocol.StringSize(v) + len(":,")
	}
	return n
}
