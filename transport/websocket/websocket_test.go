package websocket_test

import (
	"bufio"
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

	"github.com/fanfare-go/fanfare/transport"
	"github.com/fanfare-go/fanfare/transport/transporttest"
	"github.com/fanfare-go/fanfare/transport/websocket"
)

// wrapper is middleware, as far as it matters here.
type wrapper func(http.ResponseWriter) http.ResponseWriter

// setup serves door, behind wrap if that is not nil.
func setup(t *testing.T, door *websocket.Transport, wrap wrapper) (*transporttest.Acceptor, string) {
	t.Helper()
	a := transporttest.NewAcceptor(t)
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if wrap != nil {
			w = wrap(w)
		}
		door.Serve(w, r, a)
	}))
	server.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelInfo)
	server.Start()
	t.Cleanup(server.Close)
	return a, server.URL
}

func open(t *testing.T, target string, header http.Header, early ...byte) *peer {
	t.Helper()
	p, err := dialPeer(t.Context(), target, header, early...)
	require.NoError(t, err)
	t.Cleanup(func() { _ = p.Drop() })
	return p
}

// hiding embeds the interface, as careless middleware does, and so loses Hijack.
type hiding struct{ http.ResponseWriter }

// unwrapping is what careful middleware does.
type unwrapping struct{ http.ResponseWriter }

func (u unwrapping) Unwrap() http.ResponseWriter { return u.ResponseWriter }

func TestServe_NamesTheWriterThatHidesTheConnection(t *testing.T) {
	t.Parallel()
	a, target := setup(t, websocket.New(websocket.Options{}), func(w http.ResponseWriter) http.ResponseWriter {
		return unwrapping{hiding{w}}
	})
	_, err := dialPeer(t.Context(), target, nil)
	var refused *transporttest.Refused
	require.ErrorAs(t, err, &refused)
	require.Equal(t, http.StatusNotImplemented, refused.Status)
	require.Contains(t, refused.Body, "websocket_test.hiding")
	require.Len(t, a.Reports(), 1)
	require.ErrorContains(t, a.Reports()[0], "websocket_test.hiding")
}

func TestServe_WorksBehindAWriterThatUnwraps(t *testing.T) {
	t.Parallel()
	wrap := func(w http.ResponseWriter) http.ResponseWriter { return unwrapping{w} }
	a, target := setup(t, websocket.New(websocket.Options{}), wrap)
	p := open(t, target, nil)
	require.NoError(t, p.Send([]byte("hello")))
	require.Equal(t, "hello", string(a.Next(t).Frame(t)))
}

// delaying writes the status line when WriteHeaderNow is called, like gin's.
type delaying struct {
	http.ResponseWriter
	status int
}

func (d *delaying) WriteHeader(status int)      { d.status = status }
func (d *delaying) WriteHeaderNow()             { d.ResponseWriter.WriteHeader(d.status) }
func (d *delaying) Unwrap() http.ResponseWriter { return d.ResponseWriter }

func TestServe_WorksBehindAWriterThatDelaysItsHeader(t *testing.T) {
	t.Parallel()
	a, target := setup(t, websocket.New(websocket.Options{}), func(w http.ResponseWriter) http.ResponseWriter {
		return &delaying{ResponseWriter: w}
	})
	open(t, target, nil)
	a.Next(t)
}

func TestServe_TellsOtherRequestsWhatItIs(t *testing.T) {
	t.Parallel()
	_, target := setup(t, websocket.New(websocket.Options{}), nil)
	for method, status := range map[string]int{"GET": http.StatusUpgradeRequired, "POST": http.StatusMethodNotAllowed} {
		r, err := http.NewRequestWithContext(t.Context(), method, target, nil)
		require.NoError(t, err)
		response, err := http.DefaultTransport.RoundTrip(r)
		require.NoError(t, err)
		body, err := io.ReadAll(response.Body)
		require.NoError(t, err)
		require.NoError(t, response.Body.Close())
		require.Equal(t, status, response.StatusCode)
		require.Contains(t, string(body), "this is a WebSocket endpoint")
		if status == http.StatusUpgradeRequired {
			require.Equal(t, "websocket", response.Header.Get("Upgrade"))
		}
	}
	http.DefaultTransport.(*http.Transport).CloseIdleConnections()
}

func TestServe_KeepsWhatCameWithTheHandshake(t *testing.T) {
	t.Parallel()
	a, target := setup(t, websocket.New(websocket.Options{}), nil)
	early := masked(0x81, []byte(strings.Repeat("a", 3000)))
	second := masked(0x81, []byte("second"))
	p := open(t, target, nil, append(early, second[:4]...)...)
	require.NoError(t, p.raw(second[4:]))
	s := a.Next(t)
	require.Len(t, s.Frame(t), 3000)
	require.Equal(t, "second", string(s.Frame(t)))
}

func TestServe_ChoosesEncodingAndSubprotocol(t *testing.T) {
	t.Parallel()
	const js, pb = "centrifuge-json", "centrifuge-protobuf"
	tests := []struct {
		offered, query string
		want           transport.Encoding
		echo           string
	}{
		{"", "", transport.JSON, ""},
		{"", "format=json&cf_protocol_version=v2&x=y", transport.JSON, ""},
		{"", "format=protobuf", transport.Protobuf, ""},
		{"", "cf_protocol=protobuf", transport.Protobuf, ""},
		{js, "", transport.JSON, js},
		{pb, "", transport.Protobuf, pb},
		{pb + ", " + js, "", transport.Protobuf, pb},
		{js + "," + pb, "", transport.JSON, js},
		{"foo, " + pb, "", transport.Protobuf, pb},
		{"foo", "", transport.JSON, ""},
		{js, "format=protobuf", transport.Protobuf, js},
		{pb, "format=json", transport.Protobuf, pb},
	}
	both := []transport.Encoding{transport.JSON, transport.Protobuf}
	a, target := setup(t, websocket.New(websocket.Options{Encodings: both}), nil)
	for _, test := range tests {
		header := http.Header{}
		if test.offered != "" {
			header.Set("Sec-WebSocket-Protocol", test.offered)
		}
		p := open(t, target+"/?"+test.query, header)
		info := a.Next(t).Conn.Info()
		require.Equal(t, test.want, info.Encoding, "%+v", test)
		require.Equal(t, test.echo, p.response.Header.Get("Sec-WebSocket-Protocol"), "%+v", test)
		frame := info.Framing.AppendFrame(nil, []byte("x"))
		require.Equal(t, test.want == transport.Protobuf, frame[0] == 0x82, "%+v: text for JSON, binary for Protobuf", test)
	}
}

func TestServe_RefusesEncodingsThatAreNotOffered(t *testing.T) {
	t.Parallel()
	a, target := setup(t, websocket.New(websocket.Options{}), nil)
	_, uni := setup(t, websocket.NewUni(websocket.Options{Encodings: []transport.Encoding{transport.Protobuf}}), nil)
	for _, u := range []string{target, uni} {
		for _, header := range []http.Header{nil, {"Sec-Websocket-Protocol": {"centrifuge-protobuf"}}} {
			query := "/?format=protobuf"
			if header != nil {
				query = "/"
			}
			_, err := dialPeer(t.Context(), u+query, header)
			var refused *transporttest.Refused
			require.ErrorAs(t, err, &refused)
			require.Equal(t, http.StatusBadRequest, refused.Status)
			require.Contains(t, refused.Body, `encoding "protobuf" is not offered`)
		}
	}
	p := open(t, target, http.Header{"Sec-Websocket-Protocol": {"centrifuge-protobuf, centrifuge-json"}})
	require.Equal(t, "centrifuge-json", p.response.Header.Get("Sec-WebSocket-Protocol"), "the first that is offered here")
	require.Equal(t, transport.JSON, a.Next(t).Conn.Info().Encoding)
}

func TestServe_OffersTryWriteOnPlainSocketsOnly(t *testing.T) {
	t.Parallel()
	a, target := setup(t, websocket.New(websocket.Options{}), nil)
	open(t, target, nil)
	require.Implements(t, (*transport.TryWriter)(nil), a.Next(t).Conn)

	door := websocket.New(websocket.Options{})
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { door.Serve(w, r, a) }))
	t.Cleanup(server.Close)
	open(t, server.URL, nil)
	require.NotImplements(t, (*transport.TryWriter)(nil), a.Next(t).Conn)
}

func TestTryWrite_AllocatesNothing(t *testing.T) {
	a, target := setup(t, websocket.New(websocket.Options{}), nil)
	p := open(t, target, nil)
	s := a.Next(t)
	w := s.Conn.(transport.TryWriter)
	frame := s.Conn.Info().Framing.AppendFrame(nil, []byte(`{"push":{}}`))
	go func() { _, _ = io.Copy(io.Discard, p.br) }() // ends when the connection is dropped
	require.Zero(t, testing.AllocsPerRun(100, func() { _, _ = w.TryWrite(frame) }))
}

func TestReceive_GetsNoMessageThatTheConnectionCutShort(t *testing.T) {
	t.Parallel()
	a, target := setup(t, websocket.New(websocket.Options{}), nil)
	whole := masked(0x81, []byte(strings.Repeat("a", 2000)))
	first := masked(0x01, []byte("fragment"))
	for _, sent := range [][]byte{whole[:8], whole[:8+512], whole[:8+700], first} {
		p := open(t, target, nil)
		require.NoError(t, p.raw(sent))
		s := a.Next(t)
		require.NoError(t, p.conn.(*net.TCPConn).CloseWrite())
		_ = s.Ended(t)
		require.Zero(t, s.Frames())
	}
}

func TestReceive_JoinsFragments(t *testing.T) {
	t.Parallel()
	a, target := setup(t, websocket.New(websocket.Options{}), nil)
	p := open(t, target, nil)
	for _, frame := range [][]byte{
		masked(0x01, []byte("one ")), masked(0x89, nil), masked(0x00, []byte("two ")), masked(0x80, []byte("three")),
	} {
		require.NoError(t, p.raw(frame))
	}
	require.Equal(t, "one two three", string(a.Next(t).Frame(t)))
}

func TestSession_EndsWithAnErrorWhenThePeerBreaksTheProtocol(t *testing.T) {
	t.Parallel()
	a, target := setup(t, websocket.New(websocket.Options{}), nil)
	for name, sent := range map[string]string{
		"unmasked": "\x81\x02hi", "reserved bits": "\xf1\x80abcd", "unknown opcode": "\x83\x80abcd",
		"continuation": "\x80\x80abcd", "close code": string(masked(0x88, []byte{0x03, 0xec})), "ping of 126 bytes": string(masked(0x89, make([]byte, 126))),
		"peer complains": string(masked(0x88, []byte{0x03, 0xea})),
	} {
		p := open(t, target, nil)
		require.NoError(t, p.raw([]byte(sent)))
		require.Error(t, a.Next(t).Ended(t), name)
	}
}

func TestPong_IsOnlyReportedForOurPings(t *testing.T) {
	t.Parallel()
	for query, want := range map[string]int{"": 0, "cf_ws_frame_ping_pong=true": 1} {
		a, target := setup(t, websocket.New(websocket.Options{}), nil)
		pongs := make(chan struct{}, 10)
		a.Pong = func(*transporttest.Session) { pongs <- struct{}{} }
		p := open(t, target+"/?"+query, nil)
		s := a.Next(t)
		require.Equal(t, want == 1, s.Conn.Info().NativePing)
		require.NoError(t, p.raw(masked(0x8a, nil)))
		require.NoError(t, p.raw(masked(0x8a, []byte("ff"))))
		require.NoError(t, p.Send([]byte("after")))
		s.Frame(t)
		require.Len(t, pongs, want)
	}
}

func TestUni_TakesTheConnectRequestFromQueryOrFirstMessage(t *testing.T) {
	t.Parallel()
	a, target := setup(t, websocket.NewUni(websocket.Options{}), nil)
	request := `{"token":"a+b&c","subs":{"news":{}}}`

	p := open(t, target+"/?cf_connect="+url.QueryEscape(request), nil)
	s := a.Next(t)
	require.Equal(t, request, string(s.Frame(t)))
	require.NoError(t, p.Send([]byte("ignored")))
	require.NoError(t, p.Leave())
	require.NoError(t, s.Ended(t))
	require.Zero(t, s.Frames())

	p = open(t, target, nil)
	require.NoError(t, p.Send([]byte(request)))
	require.NoError(t, p.Send([]byte("ignored")))
	s = a.Next(t)
	require.Equal(t, request, string(s.Frame(t)))
	require.NoError(t, p.Leave())
	require.NoError(t, s.Ended(t))
	require.Zero(t, s.Frames())

	_, err := dialPeer(t.Context(), target+"/?cf_connect="+strings.Repeat("x", 65537), nil)
	var refused *transporttest.Refused
	require.ErrorAs(t, err, &refused)
	require.Equal(t, http.StatusRequestURITooLong, refused.Status)
}

func TestUni_JoinsPushesOnlyWhenTold(t *testing.T) {
	t.Parallel()
	for _, join := range []bool{false, true} {
		a, target := setup(t, websocket.NewUni(websocket.Options{JoinPushes: join}), nil)
		p := open(t, target+"/?cf_connect={}", nil)
		s := a.Next(t)
		info := s.Conn.Info()
		require.True(t, info.Unidirectional && info.ClosePush && info.NativePing)
		require.Equal(t, "uni_websocket", info.Name)
		s.Send(t, []byte("{}"), []byte(`{"pub":{}}`))
		messages, err := p.Next()
		require.NoError(t, err)
		require.Equal(t, join, len(messages) == 2)
	}
}

// panicking is an acceptor with a bug.
type panicking struct{ *transporttest.Acceptor }

func (panicking) Accept(*http.Request, transport.Conn) (transport.Session, error) {
	panic(http.ErrAbortHandler) // which net/http does not log
}

func TestServe_DropsTheConnectionWhenTheAcceptorPanics(t *testing.T) {
	onEngines(t, func(t *testing.T, door *websocket.Transport) {
		a := panicking{transporttest.NewAcceptor(t)}
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { door.Serve(w, r, a) }))
		t.Cleanup(server.Close)
		p := open(t, server.URL, nil, masked(0x81, []byte("nobody hears this"))...)
		_, err := p.Next()
		require.Error(t, err)
	})
}

// failing cannot hand its connection over, for reasons of its own.
type failing struct{ http.ResponseWriter }

func (failing) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	return nil, nil, fmt.Errorf("already taken")
}

func TestServe_ReportsAHandshakeThatFails(t *testing.T) {
	t.Parallel()
	wrap := func(w http.ResponseWriter) http.ResponseWriter { return failing{w} }
	a, target := setup(t, websocket.New(websocket.Options{}), wrap)
	p, err := dialPeer(t.Context(), target, nil)
	if err == nil { // the status line may have been sent before the failure
		require.NoError(t, p.Drop())
	}
	require.Eventually(t, func() bool { return len(a.Reports()) == 1 }, 10*time.Second, time.Millisecond)
	require.ErrorContains(t, a.Reports()[0], "already taken")

	_, err = dialPeer(t.Context(), target, http.Header{"Sec-Websocket-Version": {"12"}})
	var refused *transporttest.Refused
	require.ErrorAs(t, err, &refused)
	require.Equal(t, http.StatusBadRequest, refused.Status)
}

func TestTryWrite_WorksLongAfterAWrite(t *testing.T) {
	t.Parallel()
	const timeout = time.Second
	a, target := setup(t, websocket.New(websocket.Options{WriteTimeout: timeout}), nil)
	p := open(t, target, nil)
	s := a.Next(t)
	s.Send(t, []byte("one"))
	<-time.After(2 * timeout) // of a real socket: the deadline of the write has passed
	_, err := s.Conn.(transport.TryWriter).TryWrite(s.Conn.Info().Framing.AppendFrame(nil, []byte("two")))
	require.NoError(t, err)
	for _, want := range []string{"one", "two"} {
		messages, err := p.Next()
		require.NoError(t, err)
		require.Equal(t, want, string(messages[0]))
	}
}
