package main

import (
	"context"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"sync"

	"github.com/fanfare-go/fanfare/transport"
)

// echoes answers every message with itself: the WebSocket door without the node, to tell their costs apart.
type echoes struct {
	mu     sync.Mutex // guards below
	conns  map[transport.Conn]struct{}
	closed bool
}

var _ transport.Acceptor = (*echoes)(nil)

func newEchoes() *echoes { return &echoes{conns: make(map[transport.Conn]struct{})} }

func (e *echoes) Ready() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed {
		return transport.ErrUnavailable
	}
	return nil
}

func (e *echoes) CheckOrigin(r *http.Request) bool {
	origin := r.Header.Get("Origin")
	if origin == "" {
		return true
	}
	u, err := url.Parse(origin)
	return err == nil && u.Host == r.Host
}

func (e *echoes) Forward(context.Context, string, string, []byte) error {
	return transport.ErrUnknownNode
}

func (e *echoes) Report(*http.Request, string, error) {}

func (e *echoes) Accept(_ *http.Request, conn transport.Conn) (transport.Session, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed {
		return nil, transport.ErrUnavailable
	}
	e.conns[conn] = struct{}{}
	return echo{e, conn}, nil
}

func (e *echoes) close() {
	e.mu.Lock()
	e.closed = true
	conns := slices.Collect(maps.Keys(e.conns))
	e.mu.Unlock()
	for _, c := range conns {
		_ = c.Close(0, "") // code 0 waits for nobody
	}
}

type echo struct {
	all  *echoes
	conn transport.Conn
}

func (e echo) Receive(frame []byte) error {
	if len(frame) == 0 { // a framing has no empty messages
		return nil
	}
	err := e.conn.Write(e.conn.Info().Framing.AppendFrame(nil, frame))
	if err != nil {
		_ = e.conn.Close(0, "")
	}
	return err
}

func (e echo) Pong() {}

func (e echo) Closed(error) {
	e.all.mu.Lock()
	defer e.all.mu.Unlock()
	delete(e.all.conns, e.conn)
}
