// Package transport is the contract between the session core and the doors through which clients reach it.
//
// A [Transport] turns an HTTP request into a [Conn], introduces it to an [Acceptor], and from then on pushes whatever
// the peer sends into the [Session] it got back. It speaks bytes and integers only: it knows nothing of channels,
// publications or users, and never imports the root package. The core decides what to write and when; a Conn only
// moves it.
package transport

import (
	"context"
	"errors"
	"net/http"
)

// ErrUnavailable is returned by [Acceptor.Ready] and [Acceptor.Accept] while the node is shutting down. A transport
// answers it with status 503.
var ErrUnavailable = errors.New("transport: node is shutting down")

// ErrTooLarge is given to [Session.Closed] by a transport that ended the connection because the peer sent a message over
// the limit.
var ErrTooLarge = errors.New("transport: message is too large")

// ErrWrite is given to [Session.Closed] by a transport that could not write what [TryWriter] had taken over.
var ErrWrite = errors.New("transport: write failed")

// Errors of [Acceptor.Forward].
var (
	// ErrUnknownNode: there is no such node, because it was restarted, say. Answered with status 404.
	ErrUnknownNode = errors.New("transport: unknown node")
	// ErrBusy: the session has more commands waiting than it may. Answered with status 503.
	ErrBusy = errors.New("transport: too many commands are waiting")
)

// Encoding says how messages are encoded on a connection. It does not change during a connection's life (spec 1).
type Encoding uint8

// The encodings of the client protocol (spec 2).
const (
	JSON Encoding = iota + 1
	Protobuf
)

// String returns the lower-case name of the encoding.
func (e Encoding) String() string {
	switch e {
	case JSON:
		return "json"
	case Protobuf:
		return "protobuf"
	}
	return "unknown"
}

// Info describes a connection to the core. It is constant for the connection's life.
type Info struct {
	// Name is the transport's name as in a URL: "websocket", "uni_websocket", "sse", …
	Name string
	// Encoding of all messages in both directions.
	Encoding Encoding
	// Unidirectional connections receive bare pushes, and send nothing but one connect request (spec 8.6).
	Unidirectional bool
	// Emulated connections receive their commands by separate requests; the connect reply then carries a session
	// and a node (spec 8.4).
	Emulated bool
	// ClosePush asks for a disconnect push in front of the close: where there is no close frame to carry code and
	// reason, or where clients expect both (spec 6, 8.6).
	ClosePush bool
	// NativePing asks for pings made by [Pinger], at the level of the transport, instead of protocol pings. On a
	// unidirectional connection they are made in addition to the protocol's.
	NativePing bool
	// Plain says that the transport speaks the protocol on behalf of a peer that knows nothing of it, as a bidirectional client.
	// Such a peer takes text only, cannot refresh what expires, and does not answer pings.
	Plain bool
	// Brief connections last for one request of many. They are not present, and nobody is told that they come and go.
	Brief bool
	// Framing is the wire form of frames on this connection.
	Framing Framing
}

// Framing is one wire form: a pure function from messages to bytes, and the key under which the core caches its
// results. Implementations are comparable, stateless values, so that two connections of the same form have equal
// framings and share frames.
type Framing interface {
	// AppendFrame appends one or more complete frames that hold messages, in order, and returns the extended
	// buffer. The concatenation of two results is itself valid, so the core may join frames into one write. The
	// messages are not kept or changed. No message of JSON is empty; the empty message of Protobuf is its ping.
	AppendFrame(dst []byte, messages ...[]byte) []byte
}

// Conn is the writing half of a connection. The core calls Write and TryWrite from one goroutine at a time, and Close
// once, possibly while a Write is blocked.
type Conn interface {
	// Info describes the connection.
	Info() Info

	// Write writes bytes made by the connection's [Framing]. It may block until the peer takes them, for at most the
	// transport's write timeout without progress. It does not keep frames. After an error the connection is unusable
	// and the core closes it.
	Write(frames []byte) error

	// Close ends the connection and tells the peer the code and reason, in the form of the transport; [CloseReason]
	// makes the reason fit for that. Code 0 drops the connection without a word. Close may wait for the peer's part of
	// a closing handshake, for at most a few seconds; it unblocks a blocked Write, at the latest after the write
	// timeout, and makes the transport call [Session.Closed]. Nothing can be written once it has begun. What a short
	// TryWrite left of a frame is finished first, or else the peer is not told. Further calls are harmless; code 0
	// then hurries the first. The core may call it inside [Session.Receive], but not inside [Session.Pong], and not
	// under a lock that Pong wants.
	Close(code uint32, reason string) error
}

// TryWriter is a [Conn] that can write without blocking.
type TryWriter interface {
	// TryWrite writes as much of frames as the connection takes at once, and returns how many bytes that was. Fewer
	// than len(frames) with a nil error means that the peer is not reading fast enough: the core finishes with a
	// Write of exactly the rest before it writes anything else. It does not keep frames.
	TryWrite(frames []byte) (int, error)
}

// Pinger is a [Conn] whose [Info.NativePing] is set.
type Pinger interface {
	// AppendPing appends a ping in the transport's own form. The peer's answer is reported by [Session.Pong].
	AppendPing(dst []byte) []byte
}

// Session is the core's side of one connection. A transport calls Receive and Pong one after the other, never overlapping
// but not always from the same goroutine, and then Closed exactly once, as the last call.
type Session interface {
	// Receive takes one frame of commands from the peer. It does not keep the frame. It blocks while the client's
	// command queue is full, which stops reading from that client and nothing else. An error means that the session
	// has ended: the transport stops reading (the core has closed the Conn or is about to).
	Receive(frame []byte) error

	// Pong reports the peer's answer to a ping of [Pinger]. It returns at once and does not call the Conn: it runs in
	// the middle of a read.
	Pong()

	// Closed reports that the connection is gone. A nil error is an ordinary end.
	Closed(err error)
}

// Acceptor is the core as a transport sees it. It is safe for concurrent use.
type Acceptor interface {
	// Ready tells whether new connections are wanted, before a handshake is answered. The error is [ErrUnavailable].
	Ready() error

	// Accept begins a session. The request is the one that opened the connection: what middleware put into its
	// context is the identity of the client. It is used after the handler has returned, so the core does not rely
	// on its cancellation. After an error the transport closes the connection itself.
	Accept(r *http.Request, conn Conn) (Session, error)

	// CheckOrigin tells whether a request may come from the origin it names. Requests without an Origin header,
	// and those from the host they are sent to, may.
	CheckOrigin(r *http.Request) bool

	// Forward hands a frame of commands, which came in a request of its own, to the emulated connection of a session: on this
	// node, or on another one with the help of the broker. It returns when the frame is accepted, not when the commands are
	// executed. A session that has ended is no error: its client knows or will know.
	Forward(ctx context.Context, node, session string, frame []byte) error

	// Report logs what went wrong with one request or connection before it had a session, with the transport's name
	// and the request's remote address.
	Report(r *http.Request, transport string, err error)
}

// Transport is a door: it serves the requests of one kind of connection.
type Transport interface {
	// Name is the last path element under which a node mounts the transport.
	Name() string

	// Serve handles one request. For a connection that outlives the handler (a hijacked one) it returns as soon as
	// the session runs; the transport owns the goroutine that reads, and ends it when the connection ends.
	Serve(w http.ResponseWriter, r *http.Request, a Acceptor)
}
