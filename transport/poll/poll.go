// Package poll is the door of long polling, for curl and whatever else can make a request: each one is answered at once with
// what was missed, or waits for something to come.
//
//	GET …/poll?channel=room:1&cursor=…&wait=25s
//
//	{"cursor":"AQx3…","events":[{"type":"publication","channel":"room:1","data":{"text":"hi"}}]}
//
// The cursor holds the positions in all channels; the next request names it. Without one there is nothing that could have been
// missed: the answer comes at once, with a cursor to begin with, unless "wait" says otherwise. That is a duration as Go writes it,
// or a number of seconds; with a cursor it is 25 s unless it is there, and [Options.MaxWait] at most. Types of events, and what else
// they carry, are those of package events, as is "filter": a publication has data, and where they were given info (of the client that
// published it) and tags; a join or leave has info; a message has data; an unsubscribe or disconnect has code and reason; a gap
// has its channel alone. An answer without events means that nothing came. Nothing is kept between two requests: what is
// published meanwhile in a channel without history is lost, and who polls is not present, and makes no joins and leaves.
//
// Refusals are answered with the statuses of package events, and with 503 and Retry-After for trouble that passes.
package poll

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/fanfare-go/fanfare/internal/protocol"
	"github.com/fanfare-go/fanfare/transport"
	"github.com/fanfare-go/fanfare/transport/internal/guest"
	"github.com/fanfare-go/fanfare/transport/internal/held"
)

// Options configures a [Transport]. The zero value is ready for use.
type Options struct {
	// MaxWait bounds how long a request may wait; longer ones wait that long. Zero or less means one minute.
	MaxWait time.Duration

	// MaxChannels bounds the channels that a request may name; more are refused with 429. Zero or less means 128.
	MaxChannels int

	// WriteTimeout bounds the writing of 16 KiB of an answer. Zero or less means one second.
	WriteTimeout time.Duration
}

const (
	defaultMaxWait = time.Minute
	// defaultWait is how long a request with a cursor waits that does not say: proxies give up after 30 s or more.
	defaultWait = 25 * time.Second
	// maxAnswer is how long the events of an answer become, in bytes, by the length of one at most. The next request gets the
	// rest.
	maxAnswer = 1 << 20
	// maxPiece is how much of it must be taken within the write timeout: the same cursor brings the same answer, so a slow peer
	// must be able to get it.
	maxPiece = 16 << 10
)

// Transport is the door. It is safe for concurrent use.
type Transport struct{ options Options }

var _ transport.Transport = (*Transport)(nil)

// New returns the door, named "poll".
func New(o Options) *Transport {
	o.WriteTimeout, o.MaxChannels = held.WriteTimeout(o.WriteTimeout), guest.MaxChannels(o.MaxChannels)
	if o.MaxWait <= 0 {
		o.MaxWait = defaultMaxWait
	}
	return &Transport{o}
}

// Name returns "poll".
func (t *Transport) Name() string { return "poll" }

// Serve answers a request.
func (t *Transport) Serve(w http.ResponseWriter, r *http.Request, a transport.Acceptor) {
	if !held.Admit(w, r, a, http.MethodGet) {
		return
	}
	held.NoStore(w.Header())
	request, wait, refusal := t.parse(r)
	if refusal != nil {
		http.Error(w, refusal.Text, refusal.Status)
		return
	}
	if a.Ready() != nil {
		unavailable(w, "shutting down")
		return
	}
	c := &conn{news: make(chan struct{}, 1), done: make(chan struct{})}
	c.guest = guest.New(request, &protocol.JSONPeer{}, c)
	hello := c.guest.Hello() // from Accept on the guest is the lock's
	session, err := a.Accept(r, c)
	switch {
	case errors.Is(err, transport.ErrUnavailable):
		unavailable(w, "shutting down")
		return
	case err != nil:
		a.Report(r, t.Name(), err)
		http.Error(w, "internal server error", http.StatusInternalServerError)
		return
	}
	defer session.Closed(nil)
	// The server's timeouts are meant for requests that do not wait.
	rc := http.NewResponseController(w)
	_ = rc.SetReadDeadline(time.Time{})
	_ = rc.SetWriteDeadline(time.Time{})
	if !c.wait(r, session, hello, wait) {
		return // there is nobody to answer
	}
	body, refusal := c.answer()
	if refusal != nil {
		_ = rc.SetWriteDeadline(time.Now().Add(t.options.WriteTimeout))
		refuse(w, refusal)
		return
	}
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Content-Length", strconv.Itoa(len(body)))
	for len(body) > 0 {
		piece := body[:min(len(body), maxPiece)]
		body = body[len(piece):]
		_ = rc.SetWriteDeadline(time.Now().Add(t.options.WriteTimeout))
		if _, err := w.Write(piece); err != nil {
			return
		}
		if rc.Flush() != nil {
			break // as in tests; there is no hurry
		}
	}
	_, _ = w.Write(body)
}

func (t *Transport) parse(r *http.Request) (request guest.Request, wait time.Duration, refusal *guest.Refusal) {
	request, query, refusal := guest.ParseRequest(r, t.options.MaxChannels)
	if refusal != nil {
		return request, 0, refusal
	}
	switch text := query.Get("wait"); {
	case text != "":
		var err error
		if wait, err = parseWait(text); err != nil {
			return request, 0, guest.BadRequest("%v", err)
		}
	case request.Resumed:
		wait = defaultWait
	}
	return request, min(wait, t.options.MaxWait), nil
}

// parseWait reads a duration as Go writes it, or a number of seconds.
func parseWait(text string) (time.Duration, error) {
	wait, err := time.ParseDuration(text)
	if err != nil {
		wait, err = time.ParseDuration(text + "s")
	}
	if err != nil || wait < 0 {
		return 0, fmt.Errorf("wait: %q is no duration like 25s", text)
	}
	return wait, nil
}

func unavailable(w http.ResponseWriter, text string) {
	refuse(w, &guest.Refusal{Status: http.StatusServiceUnavailable, Text: text, Temporary: true})
}

func refuse(w http.ResponseWriter, r *guest.Refusal) {
	if r.Temporary {
		w.Header().Set("Retry-After", "1")
	}
	http.Error(w, r.Text, r.Status)
}

// conn is the connection of one request.
type conn struct {
	news    chan struct{} // holds a token if something has changed
	done    chan struct{} // closed by Close
	closing sync.Once

	mu     sync.Mutex // guards below
	guest  *guest.Guest
	events []byte // joined by commas
	over   bool   // the answer is written, or about to be
}

var (
	_ transport.Conn      = (*conn)(nil)
	_ transport.TryWriter = (*conn)(nil)
	_ guest.Sink          = (*conn)(nil)
)

// Info implements [transport.Conn].
func (c *conn) Info() transport.Info {
	return transport.Info{Name: "poll", Encoding: transport.JSON, Framing: held.Lines{}, Plain: true, Brief: true, ClosePush: true}
}

// TryWrite implements [transport.TryWriter]: nothing here ever waits for the peer.
func (c *conn) TryWrite(frames []byte) (int, error) { return len(frames), c.Write(frames) }

// Write implements [transport.Conn].
func (c *conn) Write(frames []byte) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.over {
		return nil // the cursor says that it has not come, so it comes again
	}
	for len(frames) > 0 {
		var err error
		if frames, err = c.guest.Take(frames); err != nil {
			return fmt.Errorf("poll: %w", err)
		}
	}
	select {
	case c.news <- struct{}{}:
	default:
	}
	return nil
}

// Close implements [transport.Conn].
func (c *conn) Close(uint32, string) error {
	c.closing.Do(func() { close(c.done) })
	return nil
}

// wait speaks with the core until there is something to answer, and reports whether there is somebody who wants to know.
func (c *conn) wait(r *http.Request, session transport.Session, frame []byte, wait time.Duration) bool {
	timer := time.NewTimer(wait)
	defer timer.Stop()
	waited := wait == 0
	for {
		if len(frame) > 0 && session.Receive(frame) != nil {
			<-c.done // the core closes it, after it has said why
		}
		select {
		case <-c.news:
		case <-c.done:
			return true
		case <-timer.C:
			waited = true
		case <-r.Context().Done():
			return false
		}
		var enough bool
		if frame, enough = c.next(waited); enough {
			return true
		}
	}
}

// next returns what is to be said to the core, or that there is enough for an answer.
func (c *conn) next(waited bool) (frame []byte, enough bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	enough = c.guest.Refusal() != nil || c.guest.Ready() && (waited || len(c.events) > 0)
	return c.guest.Commands(), enough
}

// answer ends the connection, and returns what it has brought. It is written when nobody waits for the lock any more.
func (c *conn) answer() (body []byte, refusal *guest.Refusal) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.over = true
	if refusal = c.guest.Refusal(); refusal == nil && !c.guest.Ready() {
		refusal = &guest.Refusal{Status: http.StatusServiceUnavailable, Text: "try again", Temporary: true}
	}
	if refusal != nil && (len(c.events) == 0 || !c.guest.Ready()) { // else first things first
		return nil, refusal
	}
	body = append([]byte(`{"cursor":"`), c.guest.AppendCursor(nil)...)
	body = append(body, `","events":[`...)
	return append(append(body, c.events...), "]}\n"...), nil
}

// Full implements [guest.Sink].
func (c *conn) Full() bool { return len(c.events) >= maxAnswer }

// Ping implements [guest.Sink].
func (c *conn) Ping() {}

// event is an event as the peer gets it.
type event struct {
	Type    string            `json:"type"`
	Channel string            `json:"channel,omitzero"`
	Info    *info             `json:"info,omitempty"`
	Tags    map[string]string `json:"tags,omitempty"`
	Code    uint32            `json:"code,omitzero"`
	Reason  string            `json:"reason,omitzero"`
}

type info struct {
	User     string          `json:"user"`
	Client   string          `json:"client"`
	ConnInfo json.RawMessage `json:"conn_info,omitempty"`
	ChanInfo json.RawMessage `json:"chan_info,omitempty"`
}

// Event implements [guest.Sink].
func (c *conn) Event(e *guest.Event) {
	if e.Type == guest.Ready || e.Type == guest.Ping {
		return // the answer says so
	}
	out, data := event{Type: e.Type, Channel: e.Channel, Info: infoOf(e.Info), Code: e.Code, Reason: e.Reason}, e.Data
	if p := e.Publication; p != nil {
		data, out.Info, out.Tags = p.Data, infoOf(p.Info), p.Tags
	}
	text, err := json.Marshal(&out)
	if err != nil { // a broker that others publish to may bring what is no JSON
		out.Info = nil
		text, _ = json.Marshal(&out)
	}
	if len(c.events) > 0 {
		c.events = append(c.events, ',')
	}
	if len(data) == 0 {
		c.events = append(c.events, text...)
		return
	}
	// As it is: the encoder would make other bytes of it.
	c.events = append(append(c.events, text[:len(text)-1]...), `,"data":`...)
	c.events = append(append(c.events, data...), '}')
}

func infoOf(i *protocol.ClientInfo) *info {
	if i == nil {
		return nil
	}
	return &info{i.User, i.Client, json.RawMessage(i.ConnInfo), json.RawMessage(i.ChanInfo)}
}
