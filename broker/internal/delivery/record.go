package delivery

import (
	"fmt"

	"github.com/fanfare-go/fanfare"
)

// Record is what a run leaves behind of one channel.
type Record struct {
	// Accepted are the publications whose Publish returned nil, those of each publisher in the order in which it made them.
	Accepted []Accepted
	// Attempts are the payloads of publications whose Publish returned an error, at least at first: they may have been stored.
	Attempts map[string]bool
	// Keyed are the payloads that were published with an idempotency key, again and again until one was accepted. A server that
	// lost its data has lost the key, too: such a payload may stand in several lives of the stream, once in each.
	Keyed map[string]bool
	// Tales are what the clients saw, by their names.
	Tales map[string]Tale
	// End is the top of the stream after everything was over.
	End fanfare.Position
}

// Accepted is one publication.
type Accepted struct {
	Publisher string
	Payload   string // unique
	At        fanfare.Position
}

// Tale is what one client lived to see, in order.
type Tale []Scene

// Scene is a part of a [Tale].
type Scene struct {
	Kind    Kind
	At      fanfare.Position
	Payload string // of what was Seen
}

// Kind is the kind of a [Scene].
type Kind uint8

const (
	// Began is the position at which the client began. It is the first scene and comes once.
	Began Kind = iota
	// Seen is a publication.
	Seen
	// Told is the position from which the client goes on after it was told that it has missed something.
	Told
)

func (s Scene) String() string {
	at := fmt.Sprintf("%d@%s", s.At.Offset, s.At.Epoch)
	switch s.Kind {
	case Began:
		return "began at " + at
	case Told:
		return "told of a gap up to " + at
	default:
		return fmt.Sprintf("%s %q", at, s.Payload)
	}
}

// Gaps is how often the client was told that it missed something.
func (t Tale) Gaps() int {
	n := 0
	for _, s := range t {
		if s.Kind == Told {
			n++
		}
	}
	return n
}

// Seen is how many publications came.
func (t Tale) Seen() int {
	n := 0
	for _, s := range t {
		if s.Kind == Seen {
			n++
		}
	}
	return n
}
