package websocket_test

import (
	"bufio"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare/transport/transporttest"
	"github.com/fanfare-go/fanfare/transport/websocket"
)

// pipeWriter hands over one end of an in-memory connection: it works in a synctest bubble, and takes no byte that the
// other end does not read.
type pipeWriter struct {
	*httptest.ResponseRecorder
	conn net.Conn
}

func (p pipeWriter) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	return p.conn, bufio.NewReadWriter(bufio.NewReader(p.conn), bufio.NewWriter(p.conn)), nil
}

// openPipe serves a connection without a server. The peer has not read anything yet.
func openPipe(t *testing.T, a *transporttest.Acceptor) (*peer, *transporttest.Session) {
	t.Helper()
	ours, theirs := net.Pipe()
	t.Cleanup(func() { _ = theirs.Close() })
	// What http.Server would leave behind for a request.
	require.NoError(t, ours.SetDeadline(time.Now().Add(time.Second)))
	r := httptest.NewRequest(http.MethodGet, "/", nil)
	r.URL = &url.URL{Path: "/"}
	r.Header = http.Header{
		"Connection": {"Upgrade"}, "Upgrade": {"websocket"}, "Sec-Websocket-Version": {"13"},
		"Sec-Websocket-Key": {"dGhlIHNhbXBsZSBub25jZQ=="},
	}
	websocket.New(websocket.Options{}).Serve(pipeWriter{httptest.NewRecorder(), ours}, r, a)
	return &peer{conn: theirs, br: bufio.NewReader(theirs)}, a.Next(t)
}

// bubble runs a test in a synctest bubble with its own acceptor, and checks how long it took there.
func bubble(t *testing.T, least, most time.Duration, test func(*testing.T, *transporttest.Acceptor)) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		begin := time.Now()
		test(t, transporttest.NewAcceptor(t))
		took := time.Since(begin)
		require.True(t, took >= least && took <= most, "took %v, want %v to %v", took, least, most)
	})
}

func TestServe_ClearsTheDeadlinesOfTheRequest(t *testing.T) {
	bubble(t, time.Hour, time.Hour, func(t *testing.T, a *transporttest.Acceptor) {
		p, s := openPipe(t, a)
		time.Sleep(time.Hour)
		require.NoError(t, p.Send([]byte("still here")))
		require.Equal(t, "still here", string(s.Frame(t)))
		go func() { _ = s.Conn.Write(s.Conn.Info().Framing.AppendFrame(nil, []byte("too"))) }() // ends with the read below
		messages, err := p.Next()
		require.NoError(t, err)
		require.Equal(t, "too", string(messages[0]))
		require.NoError(t, p.Drop())
		require.NoError(t, s.Ended(t))
	})
}

func TestClose_WaitsFiveSecondsForThePeer(t *testing.T) {
	bubble(t, 5*time.Second, 5*time.Second, func(t *testing.T, a *transporttest.Acceptor) {
		p, s := openPipe(t, a)
		go func() { _, _, _ = p.frame() }() // takes the close frame, and does not answer
		_ = s.Conn.Close(3001, "shutdown")
		require.NoError(t, s.Ended(t))
	})
}

func TestClose_DropsAPeerThatTakesNothing(t *testing.T) {
	bubble(t, time.Second, time.Second, func(t *testing.T, a *transporttest.Acceptor) {
		_, s := openPipe(t, a)
		require.Error(t, s.Conn.Close(3001, "shutdown"))
		require.NoError(t, s.Ended(t))
	})
}

func TestClose_ByCodeZeroDoesNotWait(t *testing.T) {
	bubble(t, 0, 0, func(t *testing.T, a *transporttest.Acceptor) {
		_, s := openPipe(t, a)
		written := make(chan error, 1)
		go func() { written <- s.Conn.Write(s.Conn.Info().Framing.AppendFrame(nil, []byte("x"))) }() // ends with Close
		synctest.Wait()
		require.NoError(t, s.Conn.Close(0, ""))
		require.Error(t, <-written)
		require.NoError(t, s.Ended(t))
	})
}

func TestClose_IsBoundedWithHalfAMessageOutstanding(t *testing.T) {
	bubble(t, 5*time.Second, 7*time.Second, func(t *testing.T, a *transporttest.Acceptor) {
		p, s := openPipe(t, a)
		require.NoError(t, p.raw(masked(0x81, make([]byte, 2000))[:1000]))
		go func() { _, _, _ = p.frame() }() // takes the close frame, and does not answer
		_ = s.Conn.Close(3001, "shutdown")
		require.NoError(t, s.Ended(t))
	})
}

func TestClose_IsBoundedAfterHalfAnOversizedMessage(t *testing.T) {
	bubble(t, 5*time.Second, 8*time.Second, func(t *testing.T, a *transporttest.Acceptor) {
		p, s := openPipe(t, a)
		go func() { _ = p.raw(masked(0x81, make([]byte, 200_000))[:100_000]) }() // ends when it is read, or with the pipe
		_, payload, err := p.frame()
		require.NoError(t, err)
		require.Equal(t, []byte{0x03, 0xf1}, payload, "1009 without a reason")
		require.Error(t, s.Ended(t))
	})
}

func TestClose_WorksInsideReceive(t *testing.T) {
	bubble(t, 0, 0, func(t *testing.T, a *transporttest.Acceptor) {
		a.Receive = func(s *transporttest.Session, _ []byte) error {
			_ = s.Conn.Close(3501, "bad request")
			return net.ErrClosed
		}
		p, s := openPipe(t, a)
		require.NoError(t, p.Send([]byte("x")))
		_, err := p.Next()
		require.Equal(t, &transporttest.Closed{Code: 3501, Reason: "bad request"}, err)
		require.NoError(t, s.Ended(t))
	})
}

func TestReceive_ThatEndsTheSessionWithoutACloseDoesNotLeak(t *testing.T) {
	bubble(t, 10*time.Second, 15*time.Second, func(t *testing.T, a *transporttest.Acceptor) {
		a.Receive = func(*transporttest.Session, []byte) error { return net.ErrClosed }
		p, s := openPipe(t, a)
		require.NoError(t, p.Send([]byte("x")))
		require.NoError(t, s.Ended(t))
	})
}

func TestRead_DropsAPeerThatPingsAndTakesNoPong(t *testing.T) {
	bubble(t, time.Second, time.Second, func(t *testing.T, a *transporttest.Acceptor) {
		p, s := openPipe(t, a)
		require.NoError(t, p.Ping())
		require.Error(t, s.Ended(t))
	})
}
