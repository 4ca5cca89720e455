package fanfare

import (
	"log/slog"
	"net/http"
	"path"
	"strings"

	"github.com/fanfare-go/fanfare/internal/protocol"
	"github.com/fanfare-go/fanfare/transport"
	"github.com/fanfare-go/fanfare/transport/emulation"
	"github.com/fanfare-go/fanfare/transport/events"
	"github.com/fanfare-go/fanfare/transport/httpstream"
	"github.com/fanfare-go/fanfare/transport/poll"
	"github.com/fanfare-go/fanfare/transport/sse"
	"github.com/fanfare-go/fanfare/transport/websocket"
)

// ServeHTTP serves every transport under one route: the last element of the path names it, "websocket", "http_stream" or "sse",
// with "emulation" for the commands of the last two, or, for clients that only listen, "uni_websocket", "uni_http_stream" or
// "uni_sse"; and for those that speak no protocol "events" and "poll". An upgrade request to any other path below the mount
// point is a WebSocket. What the app's middleware put into the request's context reaches [Config.Authenticate].
func (n *Node) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if h, ok := n.handlers[path.Base(r.URL.Path)]; ok {
		h.ServeHTTP(w, r)
		return
	}
	if strings.EqualFold(r.Header.Get("Upgrade"), "websocket") {
		n.handlers["websocket"].ServeHTTP(w, r)
		return
	}
	if n.practice != nil {
		n.practice.strayed(w, r)
	}
	http.NotFound(w, r)
}

// Handler mounts one transport alone, with the transport's own options: what [Config] says of sizes, write timeouts and compression
// does not reach it.
func (n *Node) Handler(t transport.Transport) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if n.practice != nil {
			n.practice.serve(t, w, r, acceptor{n})
			return
		}
		t.Serve(w, r, acceptor{n})
	})
}

// Ready returns nil while the node accepts connections: for a readiness probe. It returns [transport.ErrUnavailable] from the
// moment Shutdown is called.
func (n *Node) Ready() error {
	if n.draining.Load() {
		return transport.ErrUnavailable
	}
	return nil
}

func (n *Node) defaultHandlers() map[string]http.Handler {
	o := websocket.Options{MaxFrameSize: n.config.MaxFrameSize, WriteTimeout: n.config.WriteTimeout, Compression: n.config.Compression,
		PortableIO: n.config.PortableIO, Encodings: []transport.Encoding{transport.JSON, transport.Protobuf}}
	handlers := make(map[string]http.Handler)
	stream := httpstream.Options{MaxBodySize: n.config.MaxFrameSize, WriteTimeout: n.config.WriteTimeout}
	for _, t := range []transport.Transport{
		websocket.New(o), websocket.NewUni(o), httpstream.New(stream), httpstream.NewUni(stream),
		sse.New(sse.Options(stream)), sse.NewUni(sse.Options(stream)), emulation.New(emulation.Options{MaxBodySize: n.config.MaxFrameSize}),
		events.New(events.Options{MaxChannels: n.config.MaxChannels, WriteTimeout: n.config.WriteTimeout}),
		poll.New(poll.Options{MaxChannels: n.config.MaxChannels, WriteTimeout: n.config.WriteTimeout}),
	} {
		handlers[t.Name()] = n.Handler(t)
	}
	return handlers
}

// acceptor is a node as transports see it.
type acceptor struct{ n *Node }

var _ transport.Acceptor = acceptor{}

func (a acceptor) Ready() error { return a.n.Ready() }

func (a acceptor) CheckOrigin(r *http.Request) bool { return a.n.origins.allow(r) }

func (a acceptor) Report(r *http.Request, name string, err error) {
	a.n.log.Log(r.Context(), troubled(err, slog.LevelWarn), "connection refused", slog.String("transport", name), slog.String("remote", r.RemoteAddr), slog.Any("err", err))
}

// Accept begins a session. The request is kept, without its cancellation, until the connect command was executed.
func (a acceptor) Accept(r *http.Request, conn transport.Conn) (transport.Session, error) {
	n := a.n
	c := &Client{node: n, id: newID(), request: r, worker: n.workers[n.nextWorker.Add(1)%uint32(len(n.workers))]}
	c.out.conn, c.out.max, c.out.total = conn, n.config.MaxQueueSize, &c.worker.queued
	c.out.try, _ = conn.(transport.TryWriter)
	info := conn.Info()
	if info.Unidirectional || info.Emulated {
		c.session = newID() // a secret capability, so not the client's id
	}
	n.mu.Lock()
	if n.done != nil || !n.goroutines.hold() { // given back in Closed
		n.mu.Unlock()
		return nil, transport.ErrUnavailable
	}
	c.wireForm = n.formOf(info)
	n.clients.add(c)
	n.strangers++
	var s transport.Session = session{c}
	if info.Emulated {
		e := &emulated{session: session{c}}
		if n.emulated == nil {
			n.emulated = make(map[string]*emulated)
		}
		n.emulated[c.session] = e
		s = e
	}
	n.mu.Unlock()
	c.startWaiting()
	return n.crowd.join(n.log, r, info.Name, s), nil
}

// formOf finds or makes the form of such connections: there are a handful. Node.mu is held.
func (n *Node) formOf(info transport.Info) *wireForm {
	number := len(n.forms)
	for _, f := range n.forms {
		if f.info == info {
			return f
		}
		if f.info.Encoding == info.Encoding && f.info.Unidirectional == info.Unidirectional && f.info.Framing == info.Framing {
			number = f.form
		}
	}
	f := &wireForm{info: info, codec: protocol.JSON, form: number}
	if info.Encoding == transport.Protobuf {
		f.codec = protocol.Protobuf
	}
	n.forms = append(n.forms, f)
	return f
}
