//go:build unix

package e2e

import (
	"context"
	"strings"
	"testing"

	"github.com/coder/websocket"
	"github.com/stretchr/testify/require"
)

// peer is a client on a WebSocket that speaks JSON by hand.
type peer struct {
	t    *testing.T
	conn *websocket.Conn
}

// dialPeer opens a WebSocket at an http URL, and says the connect command with these parameters.
func dialPeer(t *testing.T, url, connect string) *peer {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	conn, _, err := websocket.Dial(ctx, strings.Replace(url, "http", "ws", 1), nil)
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.CloseNow() })
	p := &peer{t, conn}
	p.say(`{"id":1,"connect":` + connect + `}`)
	return p
}

func (p *peer) say(command string) {
	p.t.Helper()
	require.NoError(p.t, p.conn.Write(p.t.Context(), websocket.MessageText, []byte(command)))
}

func (p *peer) read() (string, error) {
	ctx, cancel := context.WithTimeout(p.t.Context(), patience)
	defer cancel()
	_, frame, err := p.conn.Read(ctx)
	return string(frame), err
}

// hears expects that the next frame has this text in it.
func (p *peer) hears(text string) {
	p.t.Helper()
	frame, err := p.read()
	require.NoError(p.t, err)
	require.Contains(p.t, frame, text)
}

// closed expects the end of the connection, with a code.
func (p *peer) closed(code int) {
	p.t.Helper()
	for {
		if _, err := p.read(); err != nil {
			require.EqualValues(p.t, code, websocket.CloseStatus(err), "%v", err)
			return
		}
	}
}
