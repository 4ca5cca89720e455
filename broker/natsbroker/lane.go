package natsbroker

import (
	"container/list"
	"context"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/fanfare-go/fanfare"
)

// maxLanes is how many channels that nobody publishes to at the moment keep what is known of them.
const maxLanes = 10_000

// lane is where the publishers of one channel wait for each other, and what is known of its newest record. What is known may be old:
// the server refuses what builds on an old record.
type lane struct {
	token string
	slot  chan struct{} // a lock of one slot: waiting obeys contexts

	mu   sync.Mutex // guards below
	head head
	news chan struct{} // closed when the head changes, if somebody waits; or nil

	users int           // guarded by lanes.mu
	idle  *list.Element // in lanes.idle while nobody uses it; guarded by lanes.mu
}

// lanes holds those in use, and some that were used not long ago.
type lanes struct {
	mu      sync.Mutex // guards below
	byToken map[string]*lane
	idle    list.List // of *lane, the one that was used last at the back
}

// enter returns the channel's lane with its slot, to be given back with leave.
func (b *Broker) enter(ctx context.Context, token string) (*lane, error) {
	l := b.lanes.acquire(token)
	select {
	case l.slot <- struct{}{}:
		return l, nil
	case <-ctx.Done():
		b.lanes.release(l)
		return nil, ctx.Err()
	case <-b.closed:
		b.lanes.release(l)
		return nil, fanfare.ErrClosed
	}
}

func (b *Broker) leave(l *lane) {
	<-l.slot
	b.lanes.release(l)
}

func (s *lanes) acquire(token string) *lane {
	s.mu.Lock()
	defer s.mu.Unlock()
	l := s.byToken[token]
	if l == nil {
		l = &lane{token: token, slot: make(chan struct{}, 1)}
		if s.byToken == nil {
			s.byToken = make(map[string]*lane)
		}
		s.byToken[token] = l
	}
	if l.idle != nil {
		s.idle.Remove(l.idle)
		l.idle = nil
	}
	l.users++
	return l
}

func (s *lanes) release(l *lane) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if l.users--; l.users > 0 {
		return
	}
	l.idle = s.idle.PushBack(l)
	if s.idle.Len() > maxLanes {
		oldest := s.idle.Remove(s.idle.Front()).(*lane)
		delete(s.byToken, oldest.token)
	}
}

// get returns the channel's lane, if it has one.
func (s *lanes) get(token string) *lane {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.byToken[token]
}

// learn takes note of a record, if the channel has a lane.
func (s *lanes) learn(token string, h head) {
	if l := s.get(token); l != nil {
		l.learn(h)
	}
}

// hear takes note of a message that a node was sent, if the channel has a lane.
func (s *lanes) hear(token string, raw *nats.Msg, m message) {
	if l := s.get(token); l != nil {
		l.hear(raw, m)
	}
}

// forget forgets what is known of every channel.
func (s *lanes) forget() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, l := range s.byToken {
		l.set(head{})
	}
}

func (l *lane) known() head {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.head
}

// learn replaces what is known by what is newer.
func (l *lane) learn(h head) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if h.seq > l.head.seq {
		l.replace(h)
	}
}

// hear takes note of a message if it is a record.
func (l *lane) hear(raw *nats.Msg, m message) {
	seq := sequence(raw)
	if seq == 0 || !m.isRecord() {
		return
	}
	if h, err := m.head(seq); err == nil {
		l.learn(h)
	}
}

// set replaces what is known.
func (l *lane) set(h head) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.replace(h)
}

func (l *lane) replace(h head) {
	l.head = h
	if l.news != nil {
		close(l.news)
		l.news = nil
	}
}

// await waits a moment for something newer than a record that has turned out to be old, and reports whether it came.
func (l *lane) await(ctx context.Context, old head, moment time.Duration) bool {
	timer := time.NewTimer(moment)
	defer timer.Stop()
	for {
		l.mu.Lock()
		if l.head.seq > old.seq {
			l.mu.Unlock()
			return true
		}
		if l.news == nil {
			l.news = make(chan struct{})
		}
		news := l.news
		l.mu.Unlock()
		select {
		case <-news:
		case <-timer.C:
			return false
		case <-ctx.Done():
			return false
		}
	}
}
