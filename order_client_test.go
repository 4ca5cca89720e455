package fanfare_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/coder/websocket"

	"github.com/fanfare-go/fanfare"
	"github.com/fanfare-go/fanfare/fanfaretest"
)

// wire is a client's end of a connection that speaks the JSON protocol.
type wire interface {
	// send sends a frame. It tells no error: whoever reads finds out how the connection ended.
	send(frame string)
	// next returns the next message. When the connection has ended that is a *[fanfare.Disconnect].
	next(ctx context.Context) (string, error)
	// hangUp ends the connection without a word.
	hangUp()
}

// memoryWire is a connection without a network.
type memoryWire struct{ *fanfaretest.Client }

func (w memoryWire) send(frame string)                        { _ = w.Raw(frame) }
func (w memoryWire) next(ctx context.Context) (string, error) { return w.NextRaw(ctx) }
func (w memoryWire) hangUp()                                  { w.Close() }

// socketWire is a connection over a real WebSocket.
type socketWire struct {
	conn  *websocket.Conn
	gone  chan struct{}       // closed by hangUp
	lines chan string         // closed when the connection has ended
	end   *fanfare.Disconnect // how; readable then
}

func dialSocket(ctx context.Context, url string) (wire, error) {
	conn, _, err := websocket.Dial(ctx, url, nil)
	if err != nil {
		return nil, err
	}
	conn.SetReadLimit(-1)
	w := &socketWire{conn: conn, gone: make(chan struct{}), lines: make(chan string)}
	go w.read() // ended and waited for by hangUp
	return w, nil
}

func (w *socketWire) read() {
	defer close(w.lines)
	for {
		_, frame, err := w.conn.Read(context.Background())
		if err != nil {
			w.end = &fanfare.Disconnect{}
			if c, ok := errors.AsType[websocket.CloseError](err); ok {
				w.end = &fanfare.Disconnect{Code: uint32(c.Code), Reason: c.Reason}
			}
			return
		}
		for line := range strings.SplitSeq(strings.TrimSuffix(string(frame), "\n"), "\n") {
			if line == "{}" {
				w.send("{}")
				continue
			}
			select {
			case w.lines <- line:
			case <-w.gone:
				return
			}
		}
	}
}

func (w *socketWire) send(frame string) {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	_ = w.conn.Write(ctx, websocket.MessageText, []byte(frame))
}

func (w *socketWire) next(ctx context.Context) (string, error) {
	select {
	case line, ok := <-w.lines:
		if !ok {
			return "", w.end
		}
		return line, nil
	case <-ctx.Done():
		return "", ctx.Err()
	}
}

func (w *socketWire) hangUp() {
	close(w.gone)
	_ = w.conn.CloseNow()
	for range w.lines {
	}
}

// stormMessage is what a storm's clients understand of the server's messages.
type stormMessage struct {
	ID      uint32
	Error   *fanfare.Error
	Connect *struct {
		Subs map[string]stormSubscription
	}
	Subscribe   *stormSubscription
	Unsubscribe *struct{}
	Publish     *struct{}
	Push        struct {
		Pub         *stormPublication
		Unsubscribe *struct{ Code uint32 }
	}
}

type stormSubscription struct {
	fanfare.Position
	WasRecovering bool `json:"was_recovering"`
	Recovered     bool
	Publications  []stormPublication
}

type stormPublication struct {
	Offset uint64
	Data   json.RawMessage
}

func readMessage(line string) (m stormMessage, err error) {
	if err = json.Unmarshal([]byte(line), &m); err != nil {
		err = fmt.Errorf("message %s: %w", line, err)
	}
	return m, err
}

// askWire sends a command and waits for its reply, on a wire where nothing else comes but pings.
func askWire(ctx context.Context, w wire, id int, command string) error {
	w.send(fmt.Sprintf(`{"id":%d,%s}`, id, command))
	for {
		line, err := w.next(ctx)
		if err != nil {
			return err
		}
		m, err := readMessage(line)
		switch {
		case err != nil:
			return err
		case m.Error != nil:
			return m.Error
		case m.ID == uint32(id):
			return nil
		}
	}
}

// stormSubscriber is a subscriber that comes and goes, and always asks for what it missed since its last position.
type stormSubscriber struct {
	storm  *storm
	user   string
	led    bool // the server subscribes it
	truant bool // stays away once, for longer than history is kept
	slow   bool // does not read now and then
	rng    *rand.Rand

	position fanfare.Position
	tale     tale
	patience int // publications until it does something
	away     bool
	lastID   int
	leaving  bool // an unsubscribe was sent
}

func (s *storm) subscriber(i int) *stormSubscriber {
	sub := &stormSubscriber{
		storm: s, user: fmt.Sprintf("sub%d", i), led: i%7 == 0, truant: i%10 == 1, slow: s.plan.slowReaders && i%5 == 2,
		rng: s.rand("subscriber", i),
	}
	if sub.led {
		sub.user = fmt.Sprintf("led%d", i)
	}
	sub.patience = 1 + sub.rng.IntN(30)
	return sub
}

// run lives through one connection after the other until the subscriber stands at the end of the stream.
func (s *stormSubscriber) run(ctx context.Context) error {
	for {
		w, err := s.storm.dial(ctx, s.user)
		if err != nil {
			return err
		}
		err = s.live(ctx, w)
		w.hangUp()
		switch {
		case err != nil:
			return fmt.Errorf("%s at %v: %w", s.user, s.position, err)
		case s.finished():
			return nil
		case s.truant && !s.away && len(s.tale) > 0:
			s.away = true
			s.storm.broker.ledger.awaitMore(stormHistory+1, s.storm.over)
		default:
			s.storm.linger(s.rng.IntN(5))
		}
	}
}

// finished reports whether there is nothing left to see.
func (s *stormSubscriber) finished() bool { return s.calm() && s.position == s.storm.final }

func (s *stormSubscriber) calm() bool {
	select {
	case <-s.storm.over:
		return true
	default:
		return false
	}
}

// live is one connection, from connect to whoever ends it.
func (s *stormSubscriber) live(ctx context.Context, w wire) error {
	s.leaving = false
	s.connect(w)
	for !s.finished() {
		line, err := s.next(ctx, w)
		d, ended := errors.AsType[*fanfare.Disconnect](err)
		switch {
		case ended && d.Code >= 3500:
			return d
		case ended:
			s.storm.note(fmt.Sprintf("disconnect %d", d.Code), 1)
			return nil
		case err != nil && s.finished():
			return nil
		case err != nil:
			return err
		}
		if leave, err := s.take(w, line); leave || err != nil {
			return err
		}
	}
	return nil
}

// next returns the next message. When the storm is over it is interrupted, so that the subscriber sees whether it is at
// the end, and otherwise waits on.
func (s *stormSubscriber) next(ctx context.Context, w wire) (string, error) {
	line, err := w.next(s.storm.during)
	if errors.Is(err, context.Canceled) && !s.finished() {
		return w.next(ctx)
	}
	return line, err
}

// take understands one message. It reports whether the subscriber hangs up upon it.
func (s *stormSubscriber) take(w wire, line string) (leave bool, err error) {
	m, err := readMessage(line)
	if err != nil {
		return false, err
	}
	switch {
	case m.Error != nil && m.Error.Temporary:
		return true, nil
	case m.Error != nil:
		return false, m.Error
	case m.Connect != nil && s.led:
		return false, s.begin(m.Connect.Subs["x"])
	case m.Connect != nil:
		s.subscribe(w)
	case m.Subscribe != nil:
		return false, s.begin(*m.Subscribe)
	case m.Unsubscribe != nil:
		s.leaving = false
		s.subscribe(w)
	case m.Push.Unsubscribe != nil:
		s.storm.note(fmt.Sprintf("unsubscribe %d", m.Push.Unsubscribe.Code), 1)
		if !s.leaving {
			s.subscribe(w)
		}
	case m.Push.Pub != nil:
		s.see(m.Push.Pub)
		return s.grow(w), nil
	}
	return false, nil
}

// begin is the start of a subscription.
func (s *stormSubscriber) begin(b stormSubscription) error {
	switch {
	case len(s.tale) == 0:
		if s.storm.note("begun", 1) == stormActors {
			close(s.storm.begun)
		}
		s.tale = tale{{Position: b.Position}}
	case !b.WasRecovering:
		return errors.New("asked to recover, and nobody tried")
	case !b.Recovered:
		s.storm.note("told", 1)
		s.tale = append(s.tale, scene{Position: b.Position})
	case b.Position != s.position:
		return fmt.Errorf("recovered from %v", b.Position)
	default:
		s.storm.note("recovered", len(b.Publications))
	}
	s.position = b.Position
	for _, p := range b.Publications {
		s.see(&p)
	}
	return nil
}

func (s *stormSubscriber) see(p *stormPublication) {
	s.position.Offset = p.Offset
	s.tale = append(s.tale, scene{s.position, string(p.Data)})
}

// grow does something once patience is over. It reports whether the subscriber hangs up.
func (s *stormSubscriber) grow(w wire) (leave bool) {
	if s.patience--; s.patience > 0 || s.leaving || s.calm() {
		return false
	}
	s.patience = 5 + s.rng.IntN(60)
	switch {
	case s.slow:
		c := w.(memoryWire)
		c.StallAfter(s.rng.IntN(200))
		s.storm.linger(10 + s.rng.IntN(30))
		c.Resume()
	case !s.led && (s.away || !s.truant) && s.rng.IntN(2) == 0:
		s.leaving = true
		s.command(w, `"unsubscribe":{"channel":"x"}`)
	default:
		return true
	}
	return false
}

func (s *stormSubscriber) connect(w wire) {
	subs := ""
	if s.led && len(s.tale) > 0 {
		subs = fmt.Sprintf(`,"subs":{"x":{%s}}`, s.recover())
	}
	s.command(w, fmt.Sprintf(`"connect":{"token":"%s"%s}`, s.user, subs))
}

func (s *stormSubscriber) subscribe(w wire) {
	wish := ""
	if len(s.tale) > 0 {
		wish = "," + s.recover()
	}
	s.command(w, `"subscribe":{"channel":"x"`+wish+`}`)
}

func (s *stormSubscriber) recover() string {
	return fmt.Sprintf(`"recover":true,"offset":%d,"epoch":"%s"`, s.position.Offset, s.position.Epoch)
}

func (s *stormSubscriber) command(w wire, request string) {
	s.lastID++
	w.send(fmt.Sprintf(`{"id":%d,%s}`, s.lastID, request))
}
