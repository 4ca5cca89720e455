package websocket_test

import (
	"net"
	"net/http"
	"net/http/httptest"
	"testing"

	"go.uber.org/goleak"

	"github.com/fanfare-go/fanfare/transport"
	"github.com/fanfare-go/fanfare/transport/transporttest"
	"github.com/fanfare-go/fanfare/transport/websocket"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// engines are the ways to serve a connection; on other systems than Linux they are the same.
var engines = map[string]bool{"dense": false, "portable": true}

func TestTransport(t *testing.T) {
	t.Parallel()
	for engine, portable := range engines {
		t.Run(engine, func(t *testing.T) {
			t.Parallel()
			testTransport(t, portable)
		})
	}
}

// wrappedListener hands out connections of a type that nobody knows, as libraries do that count bytes or read proxy headers.
type wrappedListener struct{ net.Listener }

func (l wrappedListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return struct{ net.Conn }{c}, nil
}

func serveWrapped(h http.Handler) *httptest.Server {
	s := httptest.NewUnstartedServer(h)
	s.Listener = wrappedListener{s.Listener}
	s.Start()
	return s
}

func testTransport(t *testing.T, portable bool) {
	options := func(l transporttest.Limits) websocket.Options {
		return websocket.Options{MaxFrameSize: l.MaxFrameSize, WriteTimeout: l.WriteTimeout, PortableIO: portable}
	}
	bidi := func(_ testing.TB, l transporttest.Limits) transport.Transport { return websocket.New(options(l)) }
	uni := func(_ testing.TB, l transporttest.Limits) transport.Transport { return websocket.NewUni(options(l)) }
	// Compression is offered, but this client does not ask for it.
	offering := func(_ testing.TB, l transporttest.Limits) transport.Transport {
		o := options(l)
		o.Compression = true
		return websocket.New(o)
	}
	base := transporttest.Options{
		New: bidi, Dial: dialer(""), TwoWay: true, CloseFrames: true, Detached: true, TooLarge: 1009, NotText: 1007,
	}
	tests := map[string]func(o *transporttest.Options){
		"plain":        func(*transporttest.Options) {},
		"native pings": func(o *transporttest.Options) { o.Dial = dialer("cf_ws_frame_ping_pong=true") },
		"tls":          func(o *transporttest.Options) { o.Serve = httptest.NewTLSServer },
		"wrapped":      func(o *transporttest.Options) { o.Serve = serveWrapped },
		"offering":     func(o *transporttest.Options) { o.New = offering },
		"uni": func(o *transporttest.Options) {
			o.New, o.Dial, o.TwoWay = uni, dialer("cf_connect=%7B%7D"), false
			o.First = []byte("{}")
		},
	}
	for name, change := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := base
			change(&o)
			transporttest.Run(t, o)
		})
	}
}
