package protocol

// Incoming is one message from the server, as its client reads it: a reply, or a push, or with neither a ping.
type Incoming struct {
	Reply
	Push *Push
}

// Ping reports whether the message is empty.
func (m *Incoming) Ping() bool { return m.Push == nil && m.Reply == Reply{} }

// Peer is the client's half of an encoding, as far as transports need it that speak the protocol on behalf of peers that do
// not: connecting, subscribing, and what comes then. A Peer may keep memory for the next message, so it is not safe for
// concurrent use.
type Peer interface {
	// AppendCommand appends a command to a frame of commands: one that connects or subscribes, or none, which is a pong. Of the
	// requests it knows what such transports ask for.
	AppendCommand(dst []byte, cmd *Command) []byte
	// NextMessage decodes the first of some messages, each in the form of HTTP streaming (spec 8.2), and returns what
	// follows. It is valid until the next call, and while the memory of frames is.
	NextMessage(frames []byte) (m *Incoming, rest []byte, err error)
}
