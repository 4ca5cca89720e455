package fanfare_test

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare"
	"github.com/fanfare-go/fanfare/fanfaretest"
	"github.com/fanfare-go/fanfare/transport"
)

// brokenConn is a connection to which nothing can be written.
type brokenConn struct {
	*countingConn
	tried chan struct{}
}

func (c *brokenConn) TryWrite([]byte) (int, error) {
	close(c.tried)
	return 0, errors.New("broken pipe")
}

// brokenTransport is a transport with a single connection, which is broken.
type brokenTransport struct{ conn *brokenConn }

func (t brokenTransport) Name() string { return "broken" }

func (t brokenTransport) Serve(_ http.ResponseWriter, r *http.Request, a transport.Acceptor) {
	var err error
	if t.conn.session, err = a.Accept(r, t.conn); err != nil {
		panic(err)
	}
}

// TestTeardown_BesideShutdown: a client that is closed by a flush worker, just when its transport reports the end and the
// node shuts down, is taken out all the same.
func TestTeardown_BesideShutdown(t *testing.T) {
	for i := range 2000 { // without a hold on the shutdown one in some hundreds is forgotten
		node, err := fanfare.New(fanfare.Config{DrainWindow: -1, PingInterval: -1, PositionCheck: -1})
		require.NoError(t, err)
		conn := &brokenConn{&countingConn{counter: newCounter(), closed: make(chan struct{})}, make(chan struct{})}
		node.Handler(brokenTransport{conn}).ServeHTTP(nil, &http.Request{})
		require.NoError(t, conn.session.Receive([]byte(`{"id":1,"connect":{}}`)))
		<-conn.tried
		for range i % 400 { // to meet the worker at different places
		}
		conn.session.Closed(nil)
		require.NoError(t, node.Shutdown(context.Background()))
		require.Zero(t, node.Residue())
	}
}

// heldLog holds up whoever logs the end of a connection: between the decision to close it and everything that follows.
type heldLog struct {
	slog.Handler
	gate *gate
}

func (h heldLog) Enabled(context.Context, slog.Level) bool { return true }

func (h heldLog) Handle(_ context.Context, r slog.Record) error {
	if r.Message == "connection ended" {
		<-h.gate.opened
	}
	return nil
}

// TestTeardown_NothingBehindAnOverflow: a reader that wakes up while it is being disconnected for a full queue must not get
// what was published after that, or it would come back for what follows the gap.
func TestTeardown_NothingBehindAnOverflow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		held := newGate(t)
		defer held.open()
		node := startNode(t, func(c *fanfare.Config) {
			c.MaxQueueSize, c.Logger = 1<<10, slog.New(heldLog{slog.DiscardHandler, held})
		})
		node.Channel("x", kept)
		c := fanfaretest.Connect(t, node, "ann")
		requireSubscribe(t, c, "x")
		c.Stall()
		for range 100 {
			requirePublish(t, node, "x", `"more than fits"`)
		}
		synctest.Wait()
		c.Resume()
		synctest.Wait()
		requirePublish(t, node, "x", `"too late"`)
		require.NotContains(t, events(c), `x "too late"`)
		require.NoError(t, c.Check())
		held.open()
		requireClosed(t, c, fanfare.DisconnectSlow)
	})
}
