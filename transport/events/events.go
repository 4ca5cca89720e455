// Package events is the door of plain EventSource, without any SDK: a page names its channels in the URL, and gets what is
// published as events that it can read by itself.
//
//	GET …/events?channel=room:1&channel=news
//
//	event: publication
//	id: AQx3…
//	data: {"text":"hi"}
//
// The data of a publication is its payload as it is, each line of it a data line. The id holds the positions in all channels of
// the stream: a browser that comes back sends it as Last-Event-ID, anybody else as the query parameter "cursor", and gets what it
// missed. Where that is no longer to be had, an event "gap" says so, with the channel as JSON: {"channel":"room:1"}.
//
// Other types are "ready" (everything missed has been said), "join" and "leave" (asked for by join_leave=true, or of a channel
// that tells everybody; the data is JSON: channel, user, client, conn_info, chan_info), "message" (sent to this connection, outside of channels), "unsubscribe"
// (channel, code, reason) and "disconnect" (code, reason). With event=channel publications have the name of their channel as
// their type, which tells several channels apart, and suits htmx's sse-swap. With filter={…}, a tags filter in JSON as the SDKs
// send it, come those publications that pass it.
//
// After an "unsubscribe" or "disconnect" by the app the browser comes back, unless the page closes its EventSource: it is the app's
// hooks that must refuse it then. Where it is let in again it is told of a gap.
//
// Between events there are comments, so that no proxy takes the stream for dead. A page does not see those: with ping=true they
// are events "ping", and the data of "ready" says after how many seconds there is one at the latest: {"ping":25}.
//
// Before the stream begins, the app's login and every subscription have been asked. Refusals are answered with a status, after
// which browsers do not come back: 400 (nothing asked, a malformed cursor), 401 (nobody is logged in, or a credential is no good),
// 403 (a foreign origin, and whatever else the app's hooks refuse), 404 (unknown channel), 406 (a channel of bytes that are not
// text), 429 (too many channels, subscribers, or connections of the user). Trouble that passes is answered with a stream that says
// when to come again, and ends.
package events

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/fanfare-go/fanfare/internal/protocol"
	"github.com/fanfare-go/fanfare/transport"
	"github.com/fanfare-go/fanfare/transport/internal/guest"
	"github.com/fanfare-go/fanfare/transport/internal/held"
)

// Options configures a [Transport]. The zero value is ready for use.
type Options struct {
	// Retry is how long browsers wait before they come back: between half of it and one and a half, so that they do not all
	// come at once. Zero or less means 2 s.
	Retry time.Duration

	// MaxChannels bounds the channels that a request may name; more are refused with 429. Zero or less means 128.
	MaxChannels int

	// WriteTimeout bounds each write to the peer. Zero or less means one second.
	WriteTimeout time.Duration
}

const (
	defaultRetry = 2 * time.Second
	// maxWaiting is how much may come for one channel while another is still asked for, in bytes. Then the stream begins, and
	// it is too late for a status.
	maxWaiting = 1 << 20
	// maxPiece is about how much is written at once: each event has the positions of all channels.
	maxPiece = 64 << 10
	// refusedPatience is how many times longer those wait who could not be served at all.
	refusedPatience = 5
	// maxKept is the largest buffer that is kept for the next event.
	maxKept = 4 << 10

	contentType = "text/event-stream; charset=utf-8"
)

// Transport is the door. It is safe for concurrent use.
type Transport struct{ options Options }

var _ transport.Transport = (*Transport)(nil)

// New returns the door, named "events".
func New(o Options) *Transport {
	o.WriteTimeout, o.MaxChannels = held.WriteTimeout(o.WriteTimeout), guest.MaxChannels(o.MaxChannels)
	if o.Retry <= 0 {
		o.Retry = defaultRetry
	}
	return &Transport{o}
}

// Name returns "events".
func (t *Transport) Name() string { return "events" }

// Serve answers a request, and returns when the connection has ended.
func (t *Transport) Serve(w http.ResponseWriter, r *http.Request, a transport.Acceptor) {
	if !held.Admit(w, r, a, http.MethodGet) {
		return
	}
	held.NoStore(w.Header()) // also of what is refused
	s, request, refusal := t.parse(r)
	if refusal != nil {
		http.Error(w, refusal.Text, refusal.Status)
		return
	}
	s.guest = guest.New(request, &protocol.ProtobufPeer{}, s)
	held.Stream{
		Info:        transport.Info{Name: t.Name(), Encoding: transport.Protobuf, Framing: held.Prefixed{}, Plain: true, ClosePush: true},
		ContentType: contentType, Prelude: hint(s.retry), WriteTimeout: t.options.WriteTimeout, Interpreter: s,
	}.Serve(w, r, a, s.guest.Hello())
}

func (t *Transport) parse(r *http.Request) (*stream, guest.Request, *guest.Refusal) {
	request, query, refusal := guest.ParseRequest(r, t.options.MaxChannels)
	if refusal != nil {
		return nil, guest.Request{}, refusal
	}
	pause := t.options.Retry/2 + rand.N(t.options.Retry)
	s := &stream{retry: pause}
	switch v := query.Get("event"); v {
	case "", "type":
	case "channel":
		s.byChannel = true
		for _, channel := range request.Channels {
			if !isType(channel) {
				return nil, guest.Request{}, guest.BadRequest("with event=channel, %q is no name for an event", channel)
			}
		}
	default:
		return nil, guest.Request{}, guest.BadRequest(`event is neither "type" nor "channel"`)
	}
	return s, request, nil
}

// reserved are the types that mean something else, to the page or to EventSource itself.
var reserved = []string{guest.Publication, guest.Join, guest.Leave, guest.Gap, guest.Ready, guest.Message, guest.Unsubscribe,
	guest.Disconnect, guest.Ping, "open", "error"}

// isType reports whether a channel's name can be an event's.
func isType(channel string) bool {
	return !strings.ContainsAny(channel, "\r\n") && !slices.Contains(reserved, channel)
}

// stream writes the events of one connection.
type stream struct {
	guest     *guest.Guest
	byChannel bool          // the type of a publication is its channel
	retry     time.Duration // when to come back
	buf       []byte
}

func hint(retry time.Duration) string { return fmt.Sprintf("retry: %d\n\n", retry.Milliseconds()) }

var (
	_ held.Interpreter = (*stream)(nil)
	_ guest.Sink       = (*stream)(nil)
)

// Take implements [held.Interpreter].
func (s *stream) Take(frames []byte) (out, rest []byte, err error) {
	if s.guest.Open() { // so what is there has been written
		if s.buf = s.buf[:0]; cap(s.buf) > maxKept && len(frames) == 0 {
			s.buf = nil
		}
	}
	for rest = frames; len(rest) > 0 && (!s.guest.Open() || len(s.buf) < maxPiece); {
		if rest, err = s.guest.Take(rest); err != nil {
			return nil, nil, err
		}
		if !s.guest.Open() && len(s.buf) > maxWaiting {
			s.guest.Commit()
		}
	}
	if !s.guest.Open() {
		return nil, rest, nil
	}
	return s.buf, rest, nil
}

// Commands implements [held.Interpreter].
func (s *stream) Commands() (frame []byte, over bool) {
	return s.guest.Commands(), s.guest.Refusal() != nil
}

// Refuse implements [held.Interpreter].
func (s *stream) Refuse(w http.ResponseWriter) {
	if r := s.guest.Refusal(); r != nil && !r.Temporary {
		http.Error(w, r.Text, r.Status)
		return
	}
	// Any other status would make the browser give up.
	w.Header().Set("Content-Type", contentType)
	w.WriteHeader(http.StatusOK)
	_, _ = w.Write([]byte(hint(refusedPatience * s.retry)))
}

// Ping implements [guest.Sink]: a comment keeps proxies from giving up, and tells a server of its peer's end.
func (s *stream) Ping() { s.buf = append(s.buf, ":\n\n"...) }

// Full implements [guest.Sink]: the core takes care of what a stream may hold.
func (s *stream) Full() bool { return false }

// Event implements [guest.Sink].
func (s *stream) Event(e *guest.Event) {
	name := e.Type
	if e.Type == guest.Publication && s.byChannel && isType(e.Channel) {
		name = e.Channel
	}
	s.buf = append(append(append(s.buf, "event: "...), name...), "\nid: "...)
	s.buf = append(s.guest.AppendCursor(s.buf), '\n')
	switch e.Type {
	case guest.Publication:
		s.data(e.Publication.Data)
	case guest.Message:
		s.data(e.Data)
	default:
		s.data(describe(e))
	}
	s.buf = append(s.buf, '\n')
}

// data writes a payload, line by line: of the three kinds of line ends, the peer makes one.
func (s *stream) data(payload []byte) {
	for more := true; more; {
		line := payload
		i := bytes.IndexAny(payload, "\r\n")
		if more = i >= 0; more {
			line = payload[:i]
			payload = bytes.TrimPrefix(payload[i:], []byte{'\r'})
			if len(payload) > 0 && payload[0] == '\n' {
				payload = payload[1:]
			}
		}
		s.buf = append(append(append(s.buf, "data: "...), line...), '\n')
	}
}

// description is an event that is no payload.
type description struct {
	Channel  string          `json:"channel,omitzero"`
	User     *string         `json:"user,omitempty"`
	Client   string          `json:"client,omitzero"`
	ConnInfo json.RawMessage `json:"conn_info,omitempty"`
	ChanInfo json.RawMessage `json:"chan_info,omitempty"`
	Code     uint32          `json:"code,omitzero"`
	Reason   string          `json:"reason,omitzero"`
	Ping     uint32          `json:"ping,omitzero"` // seconds
}

func describe(e *guest.Event) []byte {
	d := description{Channel: e.Channel, Code: e.Code, Reason: e.Reason, Ping: e.Interval}
	if e.Info != nil {
		d.User, d.Client = &e.Info.User, e.Info.Client
		d.ConnInfo, d.ChanInfo = json.RawMessage(e.Info.ConnInfo), json.RawMessage(e.Info.ChanInfo)
	}
	data, err := json.Marshal(&d)
	if err != nil { // a broker that others publish to may bring what is no JSON
		d.ConnInfo, d.ChanInfo = nil, nil
		data, _ = json.Marshal(&d)
	}
	return data
}
