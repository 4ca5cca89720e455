package fanfare

import (
	"hash/maphash"
	"log/slog"
	"net"
	"net/http"
	"sync"

	"github.com/fanfare-go/fanfare/internal/doctor"
	"github.com/fanfare-go/fanfare/transport"
)

// crowdedFrom is how many streams of one browser are worth a warning: with the sixth, its app gets no other answer.
const crowdedFrom = 5

// crowd counts the streams that each browser holds open over HTTP/1.1, to warn once. There is an entry for each browser with
// such a stream, and none for others; after the warning there are none at all.
type crowd struct {
	seed maphash.Seed

	mu      sync.Mutex // guards below
	streams map[uint64]int
	warned  bool
}

func newCrowd() *crowd { return &crowd{seed: maphash.MakeSeed(), streams: make(map[uint64]int)} }

// holdsResponse reports whether connections of a door are responses that are held open: browsers count these.
func holdsResponse(door string) bool {
	switch door {
	case "http_stream", "uni_http_stream", "sse", "uni_sse", "events":
		return true
	}
	return false
}

// join counts a stream in if it is one of those, and returns its session, which counts it out in the end.
func (c *crowd) join(log *slog.Logger, r *http.Request, door string, s transport.Session) transport.Session {
	if !holdsResponse(door) || !doctor.FromBrowserOverHTTP1(r) {
		return s
	}
	key := c.browser(r)
	counted, crowds := c.enter(key)
	if crowds {
		log.Warn("one browser holds many streams over HTTP/1.1: it opens six connections to a host, for all tabs together, "+
			"and then the app's pages and requests wait; serve HTTP/2, or let clients try WebSockets first",
			slog.String("transport", door), slog.String("remote", r.RemoteAddr), slog.Int("streams", crowdedFrom))
	}
	if !counted {
		return s
	}
	return &crowded{Session: s, crowd: c, key: key}
}

// enter counts a stream in. crowds is true once.
func (c *crowd) enter(key uint64) (counted, crowds bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.warned {
		return false, false
	}
	c.streams[key]++
	if c.streams[key] == crowdedFrom {
		c.warned, c.streams = true, nil
		return false, true
	}
	return true, false
}

// browser tells browsers apart as well as a server can. Several behind one address, of one version and without cookies, look
// like one.
func (c *crowd) browser(r *http.Request) uint64 {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		host = r.RemoteAddr
	}
	var h maphash.Hash
	h.SetSeed(c.seed)
	for _, s := range append([]string{host, r.UserAgent()}, r.Header["Cookie"]...) {
		_, _ = h.WriteString(s)
		_ = h.WriteByte(0)
	}
	return h.Sum64()
}

func (c *crowd) leave(key uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.warned {
		return
	}
	if c.streams[key]--; c.streams[key] <= 0 {
		delete(c.streams, key)
	}
}

// crowded is the session of a stream that is counted.
type crowded struct {
	transport.Session
	crowd *crowd
	key   uint64
}

// Closed implements [transport.Session].
func (c *crowded) Closed(err error) {
	c.crowd.leave(c.key)
	c.Session.Closed(err)
}
