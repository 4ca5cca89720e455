// Package websocket is the WebSocket door: it upgrades requests and moves frames, for the bidirectional protocol
// (spec 8.1) and for the unidirectional one (spec 8.6).
//
// The library [github.com/coder/websocket] makes the handshake, reads, and speaks the control frames. Data goes to
// the hijacked connection directly, as bytes that [transport.Framing] prepared once for all connections of one form;
// both share one write lock. Such a connection costs one goroutine, the one that reads. On Linux, those of plain sockets
// do without the library, and cost none: see [Options.PortableIO].
package websocket

import (
	"errors"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/coder/websocket"

	"github.com/fanfare-go/fanfare/transport"
)

const (
	defaultMaxFrameSize = 64 << 10
	defaultWriteTimeout = time.Second

	// deflatedGrowth is how much larger than MaxFrameSize a message may be once it is inflated (spec 2.4).
	deflatedGrowth = 10
)

// Options configures a [Transport]. The zero value is ready for use.
type Options struct {
	// MaxFrameSize bounds one message from the peer, in bytes. A larger one ends the connection with code 1009. With
	// compression negotiated, it is ten times as much, counted after inflating. Zero or less means 65536.
	MaxFrameSize int

	// WriteTimeout bounds each write to the peer; a peer that does not take its bytes in this time loses the
	// connection. Zero or less means one second.
	WriteTimeout time.Duration

	// Compression offers permessage-deflate, without context takeover, to peers that ask for it. It saves bandwidth
	// and costs processor time and memory on each connection: frames are then compressed one by one instead of being
	// shared.
	Compression bool

	// JoinPushes lets a unidirectional connection take several pushes in one frame, one a line. Clients must expect
	// that, so it is off by default. Bidirectional clients always do.
	JoinPushes bool

	// PortableIO spends a goroutine on each connection everywhere. Without it, connections of plain TCP on Linux, neither
	// behind TLS or another wrapper nor asking for an extension while Compression is on, share a few goroutines, and an idle
	// one costs a tenth of the memory. Nothing else differs.
	PortableIO bool

	// Encodings lists what the node can speak; requests for others are refused with status 400. Nil means JSON.
	// Unidirectional connections speak JSON whatever it says.
	Encodings []transport.Encoding
}

func (o Options) withDefaults() Options {
	if o.MaxFrameSize <= 0 {
		o.MaxFrameSize = defaultMaxFrameSize
	}
	if o.WriteTimeout <= 0 {
		o.WriteTimeout = defaultWriteTimeout
	}
	if o.Encodings == nil {
		o.Encodings = []transport.Encoding{transport.JSON}
	}
	o.Encodings = slices.Clone(o.Encodings)
	return o
}

// Transport is the WebSocket door. It is safe for concurrent use.
type Transport struct {
	name    string
	uni     bool
	options Options
	engine  engine
	buffers sync.Pool // of *[]byte: messages on their way into Receive
}

var _ transport.Transport = (*Transport)(nil)

// New returns the bidirectional door, named "websocket".
func New(o Options) *Transport {
	return &Transport{name: "websocket", options: o.withDefaults()}
}

// NewUni returns the unidirectional door, named "uni_websocket".
func NewUni(o Options) *Transport {
	o.Encodings = nil
	return &Transport{name: "uni_websocket", uni: true, options: o.withDefaults()}
}

// Name returns "websocket" or "uni_websocket".
func (t *Transport) Name() string { return t.name }

// Serve upgrades the request and returns as soon as the session runs.
func (t *Transport) Serve(w http.ResponseWriter, r *http.Request, a transport.Acceptor) {
	if err := a.Ready(); err != nil {
		http.Error(w, "shutting down", http.StatusServiceUnavailable)
		return
	}
	if !checkUpgrade(w, r) {
		return
	}
	if !a.CheckOrigin(r) {
		http.Error(w, "origin not allowed", http.StatusForbidden)
		return
	}
	o, refused := t.negotiate(r)
	if refused != nil {
		http.Error(w, refused.text, refused.status)
		return
	}
	hijacker, err := findHijacker(w)
	if err != nil {
		a.Report(r, t.name, err)
		http.Error(w, err.Error(), http.StatusNotImplemented)
		return
	}
	d, err := t.upgrade(w, r, hijacker, o)
	if err != nil {
		a.Report(r, t.name, err)
		return
	}
	t.begin(r, a, d)
}

// door is a connection of either engine, from the inside.
type door interface {
	transport.Conn

	// outside is what the core gets to see.
	outside() transport.Conn

	// Exactly one of these follows: start begins reading, refuse makes the closing handshake of a connection that got no
	// session, and abandon drops it.
	start(s transport.Session)
	refuse(code websocket.StatusCode, reason string)
	abandon()
}

// begin introduces the connection to the core and lets it be read.
func (t *Transport) begin(r *http.Request, a transport.Acceptor, d door) {
	started := false
	defer func() {
		if !started { // the acceptor panicked, and nobody else knows the hijacked connection
			d.abandon()
		}
	}()
	session, err := a.Accept(r, d.outside())
	started = true
	if err == nil {
		d.start(session)
		return
	}
	// The handler's goroutine shall not wait for the closing handshake. Ends when that does, after seconds at most.
	if errors.Is(err, transport.ErrUnavailable) {
		go d.refuse(websocket.StatusGoingAway, "shutting down")
		return
	}
	a.Report(r, t.name, err)
	go d.refuse(websocket.StatusInternalError, "internal server error")
}

func (t *Transport) info(o offer) transport.Info {
	i := transport.Info{
		Name:           t.name,
		Encoding:       o.encoding,
		Unidirectional: t.uni,
		ClosePush:      t.uni,
		NativePing:     t.uni || o.nativePing,
	}
	switch {
	case o.encoding == transport.Protobuf:
		i.Framing = binaryFraming{}
	case t.uni && !t.options.JoinPushes:
		i.Framing = singleFraming{}
	default:
		i.Framing = textFraming{}
	}
	return i
}
