package held_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare/transport"
	"github.com/fanfare-go/fanfare/transport/emulation"
	"github.com/fanfare-go/fanfare/transport/transporttest"
)

// forwarder is a core that takes commands for any session.
type forwarder struct{ *transporttest.Acceptor }

func (forwarder) Forward(context.Context, string, string, []byte) error { return nil }

// pipes are a listener whose connections are pipes, so that time can be that of a bubble.
type pipes chan net.Conn

func (p pipes) Accept() (net.Conn, error) {
	if conn, ok := <-p; ok {
		return conn, nil
	}
	return nil, net.ErrClosed
}

func (p pipes) Close() error { return nil }

func (p pipes) Addr() net.Addr { return &net.TCPAddr{} }

// open returns a connection to a server with a door, and a channel with a token for each request that was served. All ends with
// the test.
func open(t *testing.T, tr transport.Transport, a transport.Acceptor, server *http.Server) (conn net.Conn, served chan struct{}) {
	t.Helper()
	served = make(chan struct{}, 8)
	server.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		tr.Serve(w, r, a)
		served <- struct{}{}
	})
	listener := make(pipes, 1)
	ours, theirs := net.Pipe()
	listener <- theirs
	go func() { _ = server.Serve(listener) }() // ends with the listener
	t.Cleanup(func() {
		close(listener)
		_ = ours.Close()
		_ = server.Close()
	})
	return ours, served
}

// answer sends text to a door, and returns what comes back until the end of the connection, and how long that took.
func answer(t *testing.T, tr transport.Transport, server *http.Server, text string) (string, time.Duration) {
	t.Helper()
	conn, served := open(t, tr, forwarder{transporttest.NewAcceptor(t)}, server)
	began := time.Now()
	go func() { _, _ = io.WriteString(conn, text) }() // ends with the pipe
	all, err := io.ReadAll(conn)
	require.NoError(t, err)
	<-served
	return string(all), time.Since(began)
}

// bodyDoors are the doors that read a body, by the first line of their requests.
var bodyDoors = map[string]transport.Transport{
	"http_stream": stream(1000, time.Second),
	"sse":         events(1000, time.Second),
	"emulation":   emulation.New(emulation.Options{MaxBodySize: 1000}),
}

const half = "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n{\"id\":1,"

func TestReadBody_OfAClientThatHangs(t *testing.T) {
	for name, tr := range bodyDoors {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				text, took := answer(t, tr, &http.Server{}, half)
				require.True(t, strings.HasPrefix(text, "HTTP/1.1 408 "), text)
				require.Equal(t, 15*time.Second, took.Truncate(time.Second))
			})
		})
	}
	t.Run("sooner if the server says so", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			text, took := answer(t, bodyDoors["http_stream"], &http.Server{ReadTimeout: 3 * time.Second}, half)
			require.True(t, strings.HasPrefix(text, "HTTP/1.1 408 "), text)
			require.Equal(t, 3*time.Second, took.Truncate(time.Second))
		})
	})
	t.Run("later if the server says so", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			_, took := answer(t, bodyDoors["http_stream"], &http.Server{ReadTimeout: time.Minute}, half)
			require.Equal(t, time.Minute, took.Truncate(time.Second))
		})
	})
}

func TestReadBody_WithoutALength(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		chunk := fmt.Sprintf("%x\r\n%s\r\n", 600, strings.Repeat("x", 600))
		text, _ := answer(t, bodyDoors["emulation"], &http.Server{},
			"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"+chunk+chunk+"0\r\n\r\n")
		require.True(t, strings.HasPrefix(text, "HTTP/1.1 413 "), text)
	})
}

// The time is over with the body: not later on the stream, and not in the next request of the connection.
func TestReadBody_LeavesNoDeadline(t *testing.T) {
	t.Run("on the stream", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			a := transporttest.NewAcceptor(t)
			conn, _ := open(t, bodyDoors["http_stream"], a, &http.Server{})
			request(conn, connect)
			response, err := http.ReadResponse(bufio.NewReader(conn), nil)
			require.NoError(t, err)
			s := a.Next(t)
			time.Sleep(time.Minute)
			go s.Send(t, []byte(`{"still":"there"}`))
			line, err := nextLine(bufio.NewReader(response.Body))
			require.NoError(t, err)
			require.Equal(t, `{"still":"there"}`, string(line))
			require.NoError(t, conn.Close())
			require.NoError(t, s.Ended(t))
		})
	})
	t.Run("on the connection", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			conn, _ := open(t, bodyDoors["emulation"], forwarder{transporttest.NewAcceptor(t)}, &http.Server{})
			r := bufio.NewReader(conn)
			for range 3 {
				request(conn, `{"node":"n","session":"s","data":"{}"}`)
				response, err := http.ReadResponse(r, nil)
				require.NoError(t, err)
				require.Equal(t, http.StatusNoContent, response.StatusCode)
				time.Sleep(time.Minute)
			}
		})
	})
}

// request posts a body, while the answer is read.
func request(conn net.Conn, body string) {
	go func() { // ends with the pipe
		_, _ = fmt.Fprintf(conn, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
	}()
}

// A client that leaves in the middle of its body is waited for no longer, and none of its commands count.
func TestReadBody_OfAClientThatLeaves(t *testing.T) {
	for name, tr := range bodyDoors {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				conn, served := open(t, tr, forwarder{transporttest.NewAcceptor(t)}, &http.Server{})
				began := time.Now()
				_, err := io.WriteString(conn, half)
				require.NoError(t, err)
				require.NoError(t, conn.Close())
				<-served
				require.Zero(t, time.Since(began))
			})
		})
	}
}
