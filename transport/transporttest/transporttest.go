// Package transporttest checks a transport against the contract of package transport, frame by frame and without a node:
// a scripted [Acceptor] plays the core, a [Client] of the transport's own protocol plays the peer.
//
//	func TestTransport(t *testing.T) {
//		transporttest.Run(t, transporttest.Options{New: newDoor, Dial: dial, TwoWay: true, CloseFrames: true})
//	}
package transporttest

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare/transport"
)

const (
	// patience bounds everything that must happen. It is generous: reaching it is a failure.
	patience = 20 * time.Second

	maxFrameSize = 64 << 10
)

// Limits are what the kit wants the transport under test to be configured with.
type Limits struct {
	MaxFrameSize int           // bytes of one message from the peer
	WriteTimeout time.Duration // of each write
}

// Options says what is tested, and what it promises beyond the contract.
type Options struct {
	// New makes the transport under test.
	New func(t testing.TB, l Limits) transport.Transport

	// Dial opens a connection to a server at the URL, with these headers added to the request. The error is a *Refused
	// if the server answered with another status than expected. Closing the client at the end of the test is the kit's
	// business.
	Dial func(ctx context.Context, url string, header http.Header) (Client, error)

	// Serve starts a server; nil means [httptest.NewServer].
	Serve func(h http.Handler) *httptest.Server

	// First is the frame that Dial sent with its request and that the session must receive before all others. Nil if
	// there is none.
	First []byte

	// TwoWay: the client can send more frames on the open connection.
	TwoWay bool

	// CloseFrames: the peer is told code and reason when the connection ends.
	CloseFrames bool

	// Detached: Serve returns while the connection lives on.
	Detached bool

	// TooLarge is the code with which a connection ends after an oversized message, with an empty reason. Used with
	// TwoWay and CloseFrames.
	TooLarge uint32

	// NotText is the code with which a connection ends after a message that should be text and is not UTF-8, with an empty
	// reason. Used with TwoWay and CloseFrames.
	NotText uint32
}

// Client is the peer's half of a connection. Send and Next may be used concurrently.
type Client interface {
	// Send sends one frame of commands.
	Send(frame []byte) error

	// Next returns the messages of the next frame. It answers what the transport's protocol wants answered. When the
	// connection has ended with code and reason, the error is a *Closed.
	Next() ([][]byte, error)

	// Leave ends the connection in the ordinary way; Drop vanishes. Both may be called more than once.
	Leave() error
	Drop() error
}

// Pinger is a [Client] of a protocol in which the peer may ping too. Next takes note of the answers.
type Pinger interface {
	Ping() error
	Pongs() int
}

// Closed is how a connection ended, as the peer learnt it.
type Closed struct {
	Code   uint32
	Reason string
}

// Error implements error.
func (c *Closed) Error() string { return fmt.Sprintf("closed with %d %q", c.Code, c.Reason) }

// Refused is the answer to a request that did not become a connection.
type Refused struct {
	Status int
	Body   string
}

// Error implements error.
func (r *Refused) Error() string { return fmt.Sprintf("refused with status %d: %s", r.Status, r.Body) }

// Run runs the kit, one subtest for each promise of the contract.
func Run(t *testing.T, o Options) {
	t.Helper()
	suites := []struct {
		promise string
		need    bool
		test    func(*testing.T, *fixture)
	}{
		{"a node that shuts down answers 503", true, testUnready},
		{"a refused origin is answered with 403", true, testOrigin},
		{"a connection that the core refuses ends", true, testAcceptFails},
		{"the session gets the request that opened the connection", true, testRequest},
		{"Serve returns while the connection lives", o.Detached, testServeReturns},
		{"the first frame arrives first", o.First != nil, testFirst},
		{"frames from the peer arrive in order and whole", o.TwoWay, testInOrder},
		{"an oversized message ends the connection", o.TwoWay && o.TooLarge != 0, testTooLarge},
		{"a message that is not text ends the connection", o.TwoWay && o.NotText != 0, testNotText},
		{"a blocked Receive stops reading and Close still works", o.TwoWay, testBlockedReceive},
		{"a session that ends in Receive is read no more", o.TwoWay, testReceiveFails},
		{"a panic in Receive ends one connection", o.TwoWay && o.Detached, testReceivePanics},

		{"messages reach the peer in order", true, testOutOrder},
		{"messages of one frame stay whole and in order", true, testOutBatch},
		{"several frames go in one write", true, testOutJoined},
		{"equal connections have equal framings", true, testFramingEqual},
		{"native pings are answered", true, testNativePing},

		{"a short TryWrite is finished by Write", true, testTryWrite},
		{"a cut frame is finished before the close", true, testCutThenClose},
		{"a close never cuts into a frame", true, testCutThenDrop},
		{"a Write to a peer that does not read fails in time", true, testWriteTimeout},
		{"Close unblocks a blocked Write", true, testCloseUnblocks},

		{"code and reason reach the peer", o.CloseFrames, testCodes},
		{"reasons are made safe for clients", o.CloseFrames, testReasons},
		{"code 0 drops the connection", true, testDropByCode},
		{"nothing can be written after Close", true, testWriteAfterClose},
		{"a second Close is harmless", true, testCloseTwice},
		{"an ordinary end is no error", true, testLeave},
		{"a peer that vanishes ends the session", true, testVanish},
	}
	for _, s := range suites {
		if !s.need {
			continue
		}
		t.Run(s.promise, func(t *testing.T) {
			t.Parallel()
			s.test(t, newFixture(t, o))
		})
	}
}

// fixture is one transport behind one server, and the acceptor it talks to.
type fixture struct {
	o        Options
	limits   Limits
	door     transport.Transport
	acceptor *Acceptor
	url      string
	serving  chan struct{} // one token for each Serve that returned
}

func newFixture(t *testing.T, o Options) *fixture {
	f := &fixture{
		o:        o,
		limits:   Limits{MaxFrameSize: maxFrameSize, WriteTimeout: time.Second},
		acceptor: NewAcceptor(t),
		serving:  make(chan struct{}, 16),
	}
	f.door = o.New(t, f.limits)
	if o.Serve == nil {
		o.Serve = httptest.NewServer
	}
	server := o.Serve(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		f.door.Serve(w, r, f.acceptor)
		f.serving <- struct{}{}
	}))
	t.Cleanup(server.Close)
	f.url = server.URL
	return f
}

// dial returns the peer of a new connection, which is dropped at the end of the test.
func (f *fixture) dial(t *testing.T) (Client, error) {
	t.Helper()
	client, err := f.o.Dial(t.Context(), f.url, http.Header{"X-Test": {"marked"}})
	if err == nil {
		t.Cleanup(func() { _ = client.Drop() })
	}
	return client, err
}

// open returns both ends of a new connection that has done with its first frame.
func (f *fixture) open(t *testing.T) (Client, *Session) {
	t.Helper()
	client, err := f.dial(t)
	require.NoError(t, err, "the connection must open")
	s := f.acceptor.Next(t)
	if f.o.First != nil {
		require.Equal(t, string(f.o.First), string(s.Frame(t)), "the first frame")
	}
	return client, s
}

// refused opens a connection that must not come about, and returns the answer.
func (f *fixture) refused(t *testing.T) *Refused {
	t.Helper()
	_, err := f.dial(t)
	var r *Refused
	require.ErrorAs(t, err, &r, "the request must be refused")
	return r
}

// within runs fn and fails if it does not return in time.
func within(t *testing.T, what string, limit time.Duration, fn func()) {
	t.Helper()
	done := make(chan struct{})
	go func() { // ends with fn; a fn that hangs fails the test and its leak check
		defer close(done)
		fn()
	}()
	select {
	case <-done:
	case <-time.After(limit):
		t.Fatalf("%s did not return within %v", what, limit)
	}
}
