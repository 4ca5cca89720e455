// Package guest speaks the client protocol for peers that know nothing of it: a plain EventSource, curl. It connects and
// subscribes for them, keeps their positions, comes back from a gap, and turns what the core says into events.
package guest

import (
	"maps"
	"net/http"
	"slices"

	"github.com/fanfare-go/fanfare/internal/cursor"
	"github.com/fanfare-go/fanfare/internal/protocol"
)

// Types of events.
const (
	Publication = "publication"
	Join        = "join"
	Leave       = "leave"
	Gap         = "gap"         // something is lost between what came before and what comes next in the channel
	Ready       = "ready"       // everything missed has been said: from here on it is live
	Message     = "message"     // outside of channels
	Unsubscribe = "unsubscribe" // the server ended a subscription
	Disconnect  = "disconnect"  // the server ends the connection
	Ping        = "ping"        // a sign of life, for those that want to hear it
)

// Event is what happened, as the peer is told.
type Event struct {
	Type        string
	Channel     string
	Publication *protocol.Publication // of a publication
	Info        *protocol.ClientInfo  // of a join or leave
	Data        []byte                // of a message
	Interval    uint32                // of the pings, in seconds, if the peer wants to hear them: of a ready
	Code        uint32                // of an unsubscribe or disconnect
	Reason      string
}

// Sink takes what happens, in order. It may ask the guest for the cursor as of the event.
type Sink interface {
	// Event takes an event, which is valid during the call.
	Event(e *Event)
	// Ping takes a sign of life.
	Ping()
	// Full reports that there is no room for more: from now on the guest keeps its positions, and what comes is for the peer's
	// next connection.
	Full() bool
}

// Codes of the protocol that mean something to a guest.
const (
	codeAlreadySubscribed = 105
	codeUnsubscribed      = 2000
	codeResubscribe       = 2500 // from here on an unsubscribe asks to come back (spec 9.2)
)

// lostEpoch never matches (spec 9.2): with it nothing is recovered, and the peer learns of a gap.
const lostEpoch = "_"

// connectID is the id of the connect command.
const connectID = 1

// Guest is one connection's client. It is not safe for concurrent use.
type Guest struct {
	request Request
	peer    protocol.Peer
	sink    Sink

	lastID    uint32
	pending   map[uint32]string // subscribes on their way: command to channel
	connected bool
	interval  uint32 // of the pings, in seconds
	ready     bool
	committed bool
	refusal   *Refusal
	commands  []byte
	event     Event // being told

	subs      map[string]sub
	positions positions
	encoder   cursor.Encoder
}

// sub is a channel that the peer listens to.
type sub struct{ server bool } // made by the server

// New returns a guest that asks for what a request names.
func New(r Request, p protocol.Peer, s Sink) *Guest {
	return &Guest{request: r, peer: p, sink: s, lastID: connectID, pending: make(map[uint32]string), subs: make(map[string]sub)}
}

// Hello is the first frame of commands. They come together, so the guest is ready after one round.
func (g *Guest) Hello() []byte {
	connect := &protocol.ConnectRequest{}
	for _, channel := range slices.Sorted(maps.Keys(g.request.since.Named())) {
		if connect.Subs == nil {
			connect.Subs = make(map[string]*protocol.SubscribeRequest)
		}
		e, _ := g.request.since.Lookup(channel)
		g.positions.set(e)
		connect.Subs[channel] = &protocol.SubscribeRequest{Recover: true, Epoch: e.Epoch, Offset: e.Offset}
	}
	g.commands = g.peer.AppendCommand(g.commands, &protocol.Command{ID: connectID, Connect: connect})
	for _, channel := range g.request.Channels {
		e, known := g.request.known(channel)
		if known { // from the first event on: it may be the last
			g.positions.set(e)
		}
		g.subscribe(channel, e, known)
	}
	return g.Commands()
}

func (g *Guest) subscribe(channel string, since cursor.Entry, recover bool) {
	g.lastID++
	g.pending[g.lastID] = channel
	r := &protocol.SubscribeRequest{Channel: channel, Positioned: true, Recoverable: true, JoinLeave: g.request.JoinLeave, Recover: recover,
		TagsFilter: g.request.Filter}
	if recover {
		r.Epoch, r.Offset = since.Epoch, since.Offset
	}
	g.commands = g.peer.AppendCommand(g.commands, &protocol.Command{ID: g.lastID, Subscribe: r})
}

// Commands returns what the guest has to say since the last call, nil if nothing.
func (g *Guest) Commands() []byte {
	frame := g.commands
	g.commands = nil
	return frame
}

// Ready reports whether every subscription has begun.
func (g *Guest) Ready() bool { return g.ready }

// Open reports whether the peer can no longer be refused as a whole.
func (g *Guest) Open() bool { return g.ready || g.committed }

// Commit says that the peer can no longer be refused as a whole: it is told what does not begin.
func (g *Guest) Commit() { g.committed = true }

// Refusal is why the peer gets nothing, or no more; nil while it does.
func (g *Guest) Refusal() *Refusal { return g.refusal }

// AppendCursor appends the cursor of everything that was taken so far.
func (g *Guest) AppendCursor(dst []byte) []byte { return g.encoder.Append(dst, g.positions.entries) }

// Take takes the first message of some frames from the core, tells the sink, and returns what follows.
func (g *Guest) Take(frames []byte) (rest []byte, err error) {
	if g.refusal != nil {
		return nil, nil
	}
	m, rest, err := g.peer.NextMessage(frames)
	if err != nil {
		return nil, err
	}
	g.take(m)
	return rest, nil
}

func (g *Guest) take(m *protocol.Incoming) {
	switch channel, asked := g.pending[m.ID]; {
	case m.Push != nil:
		g.push(m.Push)
	case m.Ping():
		if g.request.Pings && g.ready {
			g.tell(Event{Type: Ping})
		} else {
			g.sink.Ping()
		}
	case m.ID == connectID && m.Error != nil:
		g.refusal = refused("", m.Error)
	case m.ID == connectID && m.Connect != nil:
		g.welcomed(m.Connect)
	case asked:
		delete(g.pending, m.ID)
		g.answered(channel, m)
	}
}

func (g *Guest) welcomed(r *protocol.ConnectResult) {
	g.connected, g.interval = true, r.Ping
	for _, channel := range slices.Sorted(maps.Keys(r.Subs)) {
		_, asked := g.request.since.Named()[channel]
		g.begin(channel, r.Subs[channel], true, asked || g.request.lost)
	}
	// What the server had subscribed and has not this time is over, as for clients that speak the protocol (spec 5.1).
	gone := slices.Sorted(maps.Keys(g.request.since.Named()))
	gone = slices.DeleteFunc(gone, func(channel string) bool {
		_, here := r.Subs[channel]
		return here || slices.Contains(g.request.Channels, channel)
	})
	for _, channel := range gone {
		g.drop(channel)
	}
	for _, channel := range gone {
		g.tell(Event{Type: Unsubscribe, Channel: channel, Code: codeUnsubscribed, Reason: "server unsubscribe"})
	}
	if len(g.request.Channels) == 0 && len(r.Subs) == 0 {
		g.refusal = &Refusal{Status: http.StatusBadRequest, Text: "no channel: name one as ?channel=…"}
	}
	g.settled()
}

// answered takes the reply to a subscribe.
func (g *Guest) answered(channel string, m *protocol.Incoming) {
	_, begun := g.subs[channel]
	switch e := m.Error; {
	case e != nil && e.Code == codeAlreadySubscribed:
		// The server has subscribed the client by itself, or is about to say so.
	case e != nil && (!g.Open() || e.Temporary):
		g.refusal = refused(channel, e)
		return
	case e != nil: // the app has changed its mind since
		g.end(channel, g.positions.get(channel) != nil)
		g.tell(Event{Type: Unsubscribe, Channel: channel, Code: e.Code, Reason: e.Message})
	case m.Subscribe != nil && !begun:
		_, known := g.request.known(channel)
		g.begin(channel, m.Subscribe, false, known)
	case m.Subscribe != nil: // it is back from a gap
		g.begin(channel, m.Subscribe, false, true)
	}
	g.settled()
}

// settled looks whether the guest has come to be ready.
func (g *Guest) settled() {
	if g.ready || !g.connected || len(g.pending) > 0 || g.refusal != nil {
		return
	}
	g.ready = true
	e := Event{Type: Ready}
	if g.request.Pings {
		e.Interval = g.interval
	}
	g.tell(e)
}

// begin begins or goes on with a subscription. resumed says that the peer had been told of a position.
func (g *Guest) begin(channel string, r *protocol.SubscribeResult, server, resumed bool) {
	g.subs[channel] = sub{server}
	stood, stands := g.positions.get(channel), false
	if stood != nil {
		stands = r.Positioned && stood.Epoch == r.Epoch && stood.Offset == r.Offset
	}
	if r.Positioned {
		g.positions.set(cursor.Entry{Channel: channel, Named: server, Epoch: r.Epoch, Offset: r.Offset})
	} else {
		g.positions.remove(channel)
	}
	if server && !resumed {
		// The peer asked for it the last time: now the server subscribes it, and was not asked to recover.
		_, resumed = g.request.known(channel)
	}
	if resumed && !r.Recovered && !stands {
		g.tell(Event{Type: Gap, Channel: channel})
	}
	for _, p := range r.Publications {
		g.publication(channel, p)
	}
}

// drop forgets a subscription and its position.
func (g *Guest) drop(channel string) {
	delete(g.subs, channel)
	g.positions.remove(channel)
}

func (g *Guest) publication(channel string, p *protocol.Publication) {
	if g.sink.Full() {
		return
	}
	if at := g.positions.get(channel); at != nil && p.Offset > 0 {
		at.Offset = p.Offset
	}
	g.tell(Event{Type: Publication, Channel: channel, Publication: p})
}

func (g *Guest) push(p *protocol.Push) {
	s, begun := g.subs[p.Channel]
	switch {
	case p.Disconnect != nil:
		g.disconnected(p.Disconnect)
	case p.Message != nil:
		g.tell(Event{Type: Message, Data: p.Message.Data})
	case p.Subscribe != nil:
		g.begin(p.Channel, &protocol.SubscribeResult{Positioned: p.Subscribe.Positioned, Epoch: p.Subscribe.Epoch,
			Offset: p.Subscribe.Offset}, true, false)
	case !begun:
	case p.Pub != nil:
		g.publication(p.Channel, p.Pub)
	case p.Join != nil:
		g.tell(Event{Type: Join, Channel: p.Channel, Info: p.Join})
	case p.Leave != nil:
		g.tell(Event{Type: Leave, Channel: p.Channel, Info: p.Leave})
	case p.Unsubscribe != nil && p.Unsubscribe.Code >= codeResubscribe && !s.server:
		if at := g.positions.get(p.Channel); at != nil {
			g.subscribe(p.Channel, *at, true)
		} else {
			g.subscribe(p.Channel, cursor.Entry{}, false)
		}
	case p.Unsubscribe != nil:
		g.end(p.Channel, !s.server && g.positions.get(p.Channel) != nil)
		g.tell(Event{Type: Unsubscribe, Channel: p.Channel, Code: p.Unsubscribe.Code, Reason: p.Unsubscribe.Reason})
	}
}

// end forgets a subscription that the server ended. If the peer asks for it again, it has missed something.
func (g *Guest) end(channel string, asked bool) {
	g.drop(channel)
	if asked {
		g.positions.set(cursor.Entry{Channel: channel, Epoch: lostEpoch})
	}
}

func (g *Guest) disconnected(d *protocol.Disconnect) {
	if g.Open() {
		g.tell(Event{Type: Disconnect, Code: d.Code, Reason: d.Reason})
		return
	}
	g.refusal = disconnected(d.Code, d.Reason)
}

// tell hands an event on, in memory that is used again.
func (g *Guest) tell(e Event) {
	g.event = e
	g.sink.Event(&g.event)
	g.event = Event{}
}
