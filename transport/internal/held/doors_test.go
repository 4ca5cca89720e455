package held_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"encoding/binary"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/fanfare-go/fanfare/transport"
	"github.com/fanfare-go/fanfare/transport/httpstream"
	"github.com/fanfare-go/fanfare/transport/sse"
	"github.com/fanfare-go/fanfare/transport/transporttest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// peer reads a response that does not end.
type peer struct {
	response *http.Response
	body     *bufio.Reader
	conn     net.Conn
	next     func(*bufio.Reader) ([]byte, error)
}

var _ transporttest.Client = (*peer)(nil)

func (p *peer) Send([]byte) error { return fmt.Errorf("there is no way back") }

func (p *peer) Next() ([][]byte, error) {
	m, err := p.next(p.body)
	if err != nil {
		return nil, err
	}
	return [][]byte{m}, nil
}

func (p *peer) Leave() error { return p.Drop() }

func (p *peer) Drop() error {
	_ = p.conn.Close()
	_ = p.response.Body.Close() // with HTTP/2 it tells of the connection's end
	return nil
}

func nextLine(r *bufio.Reader) ([]byte, error) {
	line, err := r.ReadBytes('\n')
	return bytes.TrimSuffix(line, []byte{'\n'}), err
}

func nextPrefixed(r *bufio.Reader) ([]byte, error) {
	size, err := binary.ReadUvarint(r)
	if err != nil {
		return nil, err
	}
	m := make([]byte, size)
	_, err = io.ReadFull(r, m)
	return m, err
}

func nextEvent(r *bufio.Reader) ([]byte, error) {
	for {
		line, err := nextLine(r)
		if err != nil {
			return nil, err
		}
		if data, ok := bytes.CutPrefix(line, []byte("data: ")); ok {
			if empty, err := nextLine(r); err != nil || len(empty) > 0 {
				return nil, fmt.Errorf("event ends with %q: %w", empty, err)
			}
			return data, nil
		}
		if string(line) != "\r" {
			return nil, fmt.Errorf("line %q", line)
		}
	}
}

// door is one kind of request, and how its answer is read.
type door struct {
	http2       bool
	transport   func(limit int, write time.Duration) transport.Transport
	contentType string
	query       string // with a GET
	body        string // with a POST
	first       string
	next        func(*bufio.Reader) ([]byte, error)
}

func (d door) request(ctx context.Context, target string) (*http.Request, error) {
	if d.query != "" {
		return http.NewRequestWithContext(ctx, http.MethodGet, target+"/?"+d.query, nil)
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, target+"/", strings.NewReader(d.body))
	if err == nil && d.contentType != "" {
		r.Header.Set("Content-Type", d.contentType)
	}
	return r, err
}

func (d door) dial(_ context.Context, target string, header http.Header) (transporttest.Client, error) {
	p := &peer{next: d.next}
	client := &http.Transport{ForceAttemptHTTP2: d.http2, TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
		conn, err := new(net.Dialer).DialContext(ctx, network, addr)
		p.conn = conn
		return conn, err
	}}
	r, err := d.request(context.Background(), target) // the connection may outlive the dialing
	if err != nil {
		return nil, err
	}
	for key, values := range header {
		r.Header[key] = values
	}
	r.Close = !d.http2
	if p.response, err = client.RoundTrip(r); err != nil {
		return nil, err
	}
	if p.response.StatusCode != http.StatusOK {
		defer p.Drop()
		body, _ := io.ReadAll(p.response.Body)
		return nil, &transporttest.Refused{Status: p.response.StatusCode, Body: string(body)}
	}
	p.body = bufio.NewReader(p.response.Body)
	return p, nil
}

const connect = `{"id":1,"connect":{}}`

func stream(limit int, write time.Duration) transport.Transport {
	return httpstream.New(httpstream.Options{MaxBodySize: limit, WriteTimeout: write})
}

func events(limit int, write time.Duration) transport.Transport {
	return sse.New(sse.Options{MaxBodySize: limit, WriteTimeout: write})
}

var doors = map[string]door{
	"http_stream, JSON":     {transport: stream, contentType: "application/json", body: connect, first: connect, next: nextLine},
	"http_stream, HTTP/2":   {http2: true, transport: stream, body: connect, first: connect, next: nextLine},
	"sse, HTTP/2":           {http2: true, transport: events, query: "cf_connect=" + url.QueryEscape(connect), first: connect, next: nextEvent},
	"http_stream, Protobuf": {transport: stream, contentType: "application/octet-stream; x=y", body: "\x02\x08\x01", first: "\x02\x08\x01", next: nextPrefixed},
	"uni_http_stream": {transport: func(limit int, write time.Duration) transport.Transport {
		return httpstream.NewUni(httpstream.Options{MaxBodySize: limit, WriteTimeout: write})
	}, body: `{"token":"x"}`, first: `{"token":"x"}`, next: nextLine},
	"sse, GET":  {transport: events, query: "cf_connect=" + url.QueryEscape(connect), first: connect, next: nextEvent},
	"sse, POST": {transport: events, body: connect, first: connect, next: nextEvent},
	"uni_sse": {transport: func(limit int, write time.Duration) transport.Transport {
		return sse.NewUni(sse.Options{MaxBodySize: limit, WriteTimeout: write})
	}, query: "other=1", first: "{}", next: nextEvent},
}

func serveHTTP2(h http.Handler) *httptest.Server {
	server := httptest.NewUnstartedServer(h)
	server.EnableHTTP2 = true
	server.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelInfo)
	server.StartTLS()
	return server
}

// requireThere sends a message to the peer some times, with pauses in real time: the timeouts are those of sockets.
func requireThere(t *testing.T, s *transporttest.Session, p transporttest.Client, times int, pause time.Duration) {
	t.Helper()
	for range times {
		time.Sleep(pause)
		s.Send(t, []byte(`{"still":"there"}`))
		m, err := p.Next()
		require.NoError(t, err)
		require.Equal(t, `{"still":"there"}`, string(m[0]))
	}
}

// With HTTP/2 a deadline for writing ends a stream when it comes, whether somebody writes or not.
func TestDoors_RestForLongerThanAWriteMayTake(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"http_stream, JSON", "http_stream, HTTP/2"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d, a, tr := doors[name], transporttest.NewAcceptor(t), stream(1000, 100*time.Millisecond)
			serve := httptest.NewServer
			if d.http2 {
				serve = serveHTTP2
			}
			server := serve(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				require.Equal(t, d.http2, r.ProtoMajor == 2)
				tr.Serve(w, r, a)
			}))
			t.Cleanup(server.Close)
			p, err := d.dial(t.Context(), server.URL, nil)
			require.NoError(t, err)
			defer p.Drop()
			s := a.Next(t)
			requireThere(t, s, p, 2, 300*time.Millisecond)
		})
	}
}

func TestTransport(t *testing.T) {
	t.Parallel()
	for name, d := range doors {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var serve func(http.Handler) *httptest.Server
			if d.http2 {
				serve = serveHTTP2
			}
			transporttest.Run(t, transporttest.Options{
				Serve: serve,
				New: func(_ testing.TB, l transporttest.Limits) transport.Transport {
					return d.transport(l.MaxFrameSize, l.WriteTimeout)
				},
				Dial: d.dial, First: []byte(d.first),
			})
		})
	}
}

// ask makes a request that is answered.
func ask(t *testing.T, d door, change func(*http.Request)) *http.Response {
	t.Helper()
	a := transporttest.NewAcceptor(t)
	tr := d.transport(100, time.Second)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		a.Foreign = r.Header.Get("Origin") == "http://evil.example"
		tr.Serve(w, r, a)
	}))
	t.Cleanup(server.Close)
	r, err := d.request(t.Context(), server.URL)
	require.NoError(t, err)
	change(r)
	response, err := (&http.Transport{DisableKeepAlives: true}).RoundTrip(r)
	require.NoError(t, err)
	t.Cleanup(func() { _ = response.Body.Close() })
	return response
}

func body(s string) io.ReadCloser { return io.NopCloser(strings.NewReader(s)) }

func TestDoors_AnswerWhatIsNoRequestOfTheirs(t *testing.T) {
	t.Parallel()
	for name, d := range doors {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			methods := "POST, OPTIONS"
			if strings.Contains(name, "sse") {
				methods = "GET, POST, OPTIONS"
			}
			t.Run("a preflight", func(t *testing.T) {
				r := ask(t, d, func(r *http.Request) {
					r.Method, r.Body, r.ContentLength = http.MethodOptions, nil, 0
					r.Header.Set("Origin", "http://app.example")
					r.Header.Set("Access-Control-Request-Headers", "content-type, x-more")
				})
				require.Equal(t, http.StatusNoContent, r.StatusCode)
				require.Equal(t, "http://app.example", r.Header.Get("Access-Control-Allow-Origin"))
				require.Equal(t, "true", r.Header.Get("Access-Control-Allow-Credentials"))
				require.Equal(t, "content-type, x-more", r.Header.Get("Access-Control-Allow-Headers"))
				require.Equal(t, methods, r.Header.Get("Access-Control-Allow-Methods"))
				require.Equal(t, "300", r.Header.Get("Access-Control-Max-Age"))
				require.Equal(t, "Origin", r.Header.Get("Vary"))
			})
			t.Run("another method", func(t *testing.T) {
				r := ask(t, d, func(r *http.Request) { r.Method = http.MethodPut })
				require.Equal(t, http.StatusMethodNotAllowed, r.StatusCode)
				require.Equal(t, methods, r.Header.Get("Allow"))
			})
			t.Run("a foreign origin", func(t *testing.T) {
				r := ask(t, d, func(r *http.Request) { r.Header.Set("Origin", "http://evil.example") })
				require.Equal(t, http.StatusForbidden, r.StatusCode)
				require.Empty(t, r.Header.Get("Access-Control-Allow-Origin"))
			})
			t.Run("too much", func(t *testing.T) {
				long := strings.Repeat("x", 101)
				if d.query != "" {
					r := ask(t, d, func(r *http.Request) { r.URL.RawQuery = "cf_connect=" + long })
					require.Equal(t, http.StatusRequestURITooLong, r.StatusCode)
					return
				}
				r := ask(t, d, func(r *http.Request) { r.Body, r.ContentLength = body(long), 101 })
				require.Equal(t, http.StatusRequestEntityTooLarge, r.StatusCode)
			})
			if strings.HasPrefix(name, "uni") {
				t.Run("no connect request", func(t *testing.T) {
					r := ask(t, d, func(r *http.Request) {
						r.Method, r.Body, r.ContentLength = http.MethodPost, body("{nonsense"), 9
					})
					require.Equal(t, http.StatusBadRequest, r.StatusCode)
				})
			}
		})
	}
	t.Run("sse with more than a link may do", func(t *testing.T) {
		r := ask(t, doors["sse, GET"], func(r *http.Request) {
			r.URL.RawQuery = "cf_connect=" + url.QueryEscape(connect+"\n"+`{"id":2,"send":{}}`)
		})
		require.Equal(t, http.StatusBadRequest, r.StatusCode)
	})
	t.Run("sse by a link on another page", func(t *testing.T) {
		for site, status := range map[string]int{"cross-site": http.StatusForbidden, "same-site": http.StatusForbidden} {
			r := ask(t, doors["sse, GET"], func(r *http.Request) { r.Header.Set("Sec-Fetch-Site", site) })
			require.Equal(t, status, r.StatusCode)
		}
	})
	t.Run("sse with a body", func(t *testing.T) {
		r := ask(t, doors["sse, GET"], func(r *http.Request) { r.Body, r.ContentLength = body("x"), 1 })
		require.Equal(t, http.StatusBadRequest, r.StatusCode)
	})
	t.Run("sse without a command", func(t *testing.T) {
		r := ask(t, doors["sse, GET"], func(r *http.Request) { r.URL.RawQuery = "" })
		require.Equal(t, http.StatusBadRequest, r.StatusCode)
	})
}

// hiding is middleware that embeds the interface, and so loses Flush.
type hiding struct{ http.ResponseWriter }

// unwrapping is what careful middleware does.
type unwrapping struct{ http.ResponseWriter }

func (u unwrapping) Unwrap() http.ResponseWriter { return u.ResponseWriter }

func TestDoors_NameTheWriterThatHoldsBack(t *testing.T) {
	t.Parallel()
	a := transporttest.NewAcceptor(t)
	w := httptest.NewRecorder()
	r := httptest.NewRequest(http.MethodPost, "/", strings.NewReader(connect))
	stream(100, time.Second).Serve(hiding{w}, r, a)
	require.Equal(t, http.StatusNotImplemented, w.Code)
	require.Len(t, a.Reports(), 1)
	require.ErrorContains(t, a.Reports()[0], "held_test.hiding")
}

// panicking is a writer whose connection is aborted under it, as a reverse proxy does.
type panicking struct{ *httptest.ResponseRecorder }

func (panicking) WriteHeader(int) { panic(http.ErrAbortHandler) }

func TestDoors_CloseTheSessionWhenTheWriterPanics(t *testing.T) {
	t.Parallel()
	a := transporttest.NewAcceptor(t) // fails the test unless the session gets its Closed
	r := httptest.NewRequest(http.MethodPost, "/", strings.NewReader(connect))
	require.PanicsWithValue(t, http.ErrAbortHandler, func() {
		stream(100, time.Second).Serve(panicking{httptest.NewRecorder()}, r, a)
	})
	require.NoError(t, a.Next(t).Ended(t))
}

// The timeouts of a server are meant for requests that end.
func TestDoors_OutliveTheServersTimeouts(t *testing.T) {
	t.Parallel()
	a := transporttest.NewAcceptor(t)
	tr := stream(1000, time.Second)
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { tr.Serve(unwrapping{w}, r, a) }))
	server.Config.ReadTimeout, server.Config.WriteTimeout = 500*time.Millisecond, 500*time.Millisecond
	server.Start()
	t.Cleanup(server.Close)
	p, err := doors["http_stream, JSON"].dial(t.Context(), server.URL, nil)
	require.NoError(t, err)
	defer p.Drop()
	s := a.Next(t)
	requireThere(t, s, p, 5, 200*time.Millisecond)
}
