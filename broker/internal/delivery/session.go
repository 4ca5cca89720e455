package delivery

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/fanfare-go/fanfare"
)

// link is a connection that carries the protocol. receive is called by one goroutine, everything else by another.
type link interface {
	begin(ctx context.Context, first command) error
	send(ctx context.Context, commands ...command) error
	receive() (*message, error)
	hangUp()
}

var (
	_ link = (*socket)(nil)
	_ link = (*stream)(nil)
)

// session is one connection of a client that speaks the protocol, and does what the published clients do.
type session struct {
	client *client
	link   link
	nextID uint32
	asked  map[uint32]*question
	retry  map[string]time.Time // when to ask again for channels
}

// question is a command that waits for its reply.
type question struct {
	channel    string // empty for connect
	recovering bool
	until      time.Time
}

// visitSession returns a visit over a kind of link.
func visitSession(dial dialer) func(context.Context, *client) error {
	return func(ctx context.Context, c *client) error {
		l, err := dial(ctx, c.address)
		if err != nil {
			return fmt.Errorf("dial: %w", err)
		}
		defer l.hangUp()
		s := &session{client: c, link: l, asked: make(map[uint32]*question), retry: make(map[string]time.Time)}
		if err := s.begin(ctx); err != nil {
			return fmt.Errorf("begin: %w", err)
		}
		return s.live(ctx)
	}
}

func (s *session) begin(ctx context.Context) error {
	return s.link.begin(ctx, command{ID: s.ask(&question{}), Connect: &struct{}{}})
}

func (s *session) ask(q *question) (id uint32) {
	s.nextID++
	q.until = time.Now().Add(commandTimeout)
	s.asked[s.nextID] = q
	return s.nextID
}

func (s *session) live(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	messages, failed := make(chan *message), make(chan error, 1)
	done := make(chan struct{})
	go func() { // ends with the link at the latest, and live waits for it
		defer close(done)
		for {
			m, err := s.link.receive()
			if err != nil {
				failed <- err
				return
			}
			select {
			case messages <- m:
			case <-ctx.Done():
				return
			}
		}
	}()
	defer func() {
		cancel()
		s.link.hangUp()
		<-done
	}()
	leaving := s.client.leaving()
	ticker := time.NewTicker(20 * time.Millisecond)
	defer ticker.Stop()
	for {
		var err error
		select {
		case m := <-messages:
			err = s.take(ctx, m)
		case err := <-failed:
			return s.ended(err)
		case <-ticker.C:
			err = s.tick(ctx)
		case <-leaving:
			return nil
		case <-ctx.Done():
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// ended judges how a connection has ended: after some codes the published clients do not come back.
func (s *session) ended(err error) error {
	var c closed
	if errors.As(err, &c) && (c.Code >= 3500 && c.Code < 4000 || c.Code >= 4500 && c.Code < 5000 || c.Code == 1009) {
		s.client.problem("ended for good: %v", err)
	}
	return err
}

// tick asks for what is due, and gives up if an answer is overdue.
func (s *session) tick(ctx context.Context) error {
	now := time.Now()
	for _, q := range s.asked {
		if now.After(q.until) {
			return fmt.Errorf("no reply within %v", commandTimeout)
		}
	}
	var due []string
	for channel, at := range s.retry {
		if now.After(at) {
			due = append(due, channel)
			delete(s.retry, channel)
		}
	}
	return s.subscribe(ctx, due...)
}

func (s *session) subscribe(ctx context.Context, channels ...string) error {
	if len(channels) == 0 {
		return nil
	}
	var commands []command
	for _, channel := range channels {
		at, begun := s.client.position(channel)
		id := s.ask(&question{channel: channel, recovering: begun})
		commands = append(commands, command{ID: id, Subscribe: &subscribeRequest{Channel: channel, Recover: begun, Epoch: at.Epoch, Offset: at.Offset, Flag: 1}})
	}
	return s.link.send(ctx, commands...)
}

func (s *session) take(ctx context.Context, m *message) error {
	switch {
	case m.ping():
		return s.link.send(ctx, command{})
	case m.Push != nil:
		return s.takePush(ctx, m.Push)
	}
	q := s.asked[m.ID]
	delete(s.asked, m.ID)
	switch {
	case q == nil:
		s.client.problem("a reply to nothing: %d", m.ID)
	case m.Error != nil:
		return s.refused(q, m.Error)
	case m.Connect != nil && q.channel == "":
		return s.subscribe(ctx, s.client.channels...)
	case m.Subscribe != nil && q.channel != "":
		s.client.subscribed(q, m.Subscribe)
	default:
		s.client.problem("a reply that is no answer: %+v", *m)
	}
	return nil
}

func (s *session) refused(q *question, f *failure) error {
	if !f.Temporary {
		s.client.problem("refused for good: %s: %d %s", q.channel, f.Code, f.Message)
	}
	if q.channel == "" {
		return fmt.Errorf("connect: %d %s", f.Code, f.Message)
	}
	s.retry[q.channel] = time.Now().Add(50*time.Millisecond + rand.N(200*time.Millisecond))
	return nil
}

func (s *session) takePush(ctx context.Context, p *push) error {
	switch {
	case p.Pub != nil:
		at, begun := s.client.position(p.Channel)
		if !begun {
			s.client.problem("%s: %s before the subscription", p.Channel, p.Pub.Data)
		}
		at.Offset = p.Pub.Offset
		s.client.tell(p.Channel, Scene{Seen, at, string(p.Pub.Data)})
	case p.Unsubscribe != nil && p.Unsubscribe.Code < 2500:
		s.client.problem("%s: unsubscribed for good: %d %s", p.Channel, p.Unsubscribe.Code, p.Unsubscribe.Reason)
	case p.Unsubscribe != nil:
		return s.subscribe(ctx, p.Channel)
	}
	return nil
}

// subscribed takes the answer to a subscribe.
func (c *client) subscribed(q *question, r *subscribeResult) {
	at := fanfare.Position{Offset: r.Offset, Epoch: r.Epoch}
	known, _ := c.position(q.channel)
	switch {
	case !r.Recoverable:
		c.problem("%s: cannot recover", q.channel)
	case !q.recovering:
		c.tell(q.channel, Scene{Kind: Began, At: at})
	case !r.WasRecovering:
		c.problem("%s: nothing is said about a recovery", q.channel)
	case !r.Recovered:
		c.tell(q.channel, Scene{Kind: Told, At: at})
	case at != known:
		c.problem("%s: recovered from %v instead of %v", q.channel, at, known)
	default:
		c.stand(q.channel, at)
	}
	for _, p := range r.Publications {
		at.Offset = p.Offset
		c.tell(q.channel, Scene{Seen, at, string(p.Data)})
	}
}
