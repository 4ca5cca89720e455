package fanfaretest

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare/transport"
)

// acceptor is a core that keeps what it is told.
type acceptor struct {
	ready, accept error
	badOrigin     bool
	reported      error
	conn          transport.Conn
	frames        []string
	receive       func(frame []byte) error
	closed        []error
}

func (a *acceptor) Ready() error { return a.ready }
func (a *acceptor) Accept(_ *http.Request, conn transport.Conn) (transport.Session, error) {
	a.conn = conn
	return a, a.accept
}
func (a *acceptor) CheckOrigin(*http.Request) bool { return !a.badOrigin }
func (a *acceptor) Forward(context.Context, string, string, []byte) error {
	return transport.ErrUnknownNode
}
func (a *acceptor) Report(_ *http.Request, _ string, err error) { a.reported = err }
func (a *acceptor) Pong()                                       {}
func (a *acceptor) Closed(err error)                            { a.closed = append(a.closed, err) }
func (a *acceptor) Receive(frame []byte) error {
	a.frames = append(a.frames, string(frame))
	if a.receive != nil {
		return a.receive(frame)
	}
	return nil
}

func open(t *testing.T, a *acceptor, opts ...Option) (*Client, *recorder) {
	r := &recorder{TB: t}
	c := newClient(r, newOptions(opts))
	w := httptest.NewRecorder()
	memory{c.conn}.Serve(w, httptest.NewRequest(http.MethodGet, "/memory", nil), a)
	if c.conn.started {
		t.Cleanup(c.cleanup)
	} else {
		c.status = w.Code
	}
	return c, r
}

func TestMemory_refuses(t *testing.T) {
	boom := errors.New("boom")
	tests := []struct {
		name   string
		a      acceptor
		status int
	}{
		{"not ready", acceptor{ready: transport.ErrUnavailable}, http.StatusServiceUnavailable},
		{"origin", acceptor{badOrigin: true}, http.StatusForbidden},
		{"shutting down", acceptor{accept: transport.ErrUnavailable}, http.StatusServiceUnavailable},
		{"failing", acceptor{accept: boom}, http.StatusInternalServerError},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c, _ := open(t, &tt.a)
			require.False(t, c.conn.started)
			require.Equal(t, tt.status, c.status)
			require.Equal(t, tt.a.accept, tt.a.reported)
		})
	}
}

func TestConn_Receive_inOrderAndNotKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var kept []byte
		a := &acceptor{receive: func(frame []byte) error { kept = frame; return nil }}
		c, _ := open(t, a)
		require.NoError(t, c.Raw("one"))
		require.NoError(t, c.Raw("two"))
		synctest.Wait()
		require.Equal(t, []string{"one", "two"}, a.frames)
		require.Equal(t, "!!!", string(kept))
	})
}

func TestConn_Receive_failing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := &acceptor{receive: func([]byte) error { return errors.New("no") }}
		c, _ := open(t, a)
		require.NoError(t, c.Raw("one"))
		require.NoError(t, c.Raw("two"))
		synctest.Wait()
		require.Empty(t, a.closed)
		require.NoError(t, a.conn.Close(3501, "bad request"))
		synctest.Wait()
		require.Equal(t, []string{"one"}, a.frames)
		require.Equal(t, []error{nil}, a.closed)
	})
}

func TestConn_clientVanishes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := &acceptor{}
		c, r := open(t, a)
		require.NoError(t, c.Raw("last"))
		c.Close()
		synctest.Wait()
		require.Equal(t, []string{"last"}, a.frames, "what was sent before arrives")
		require.Equal(t, []error{io.ErrUnexpectedEOF}, a.closed)
		require.Error(t, a.conn.Write([]byte("{}\n")))
		require.NoError(t, a.conn.Close(3000, "connection closed"))
		require.Error(t, a.conn.Close(3000, "connection closed"))
		require.Len(t, r.failures, 1, "closed twice")
		require.Error(t, c.Raw("more"))
		d, err := c.Closed(t.Context())
		require.NoError(t, err)
		require.EqualValues(t, 3000, d.Code)
	})
}

func TestConn_stall(t *testing.T) {
	line := []byte(`{"push":{"message":{"data":1}}}` + "\n")
	setup := func(t *testing.T) (*Client, transport.Conn) {
		a := &acceptor{}
		c, _ := open(t, a, WithWriteTimeout(3*time.Second))
		require.NoError(t, c.Raw(`{"id":1,"connect":{}}`))
		require.NoError(t, a.conn.Write([]byte(welcome+"\n")))
		return c, a.conn
	}
	bubble := func(name string, f func(t *testing.T)) {
		t.Run(name, func(t *testing.T) { synctest.Test(t, f) })
	}
	bubble("try takes a part", func(t *testing.T) {
		c, conn := setup(t)
		c.StallAfter(5)
		n, err := conn.(transport.TryWriter).TryWrite(line)
		require.NoError(t, err)
		require.Equal(t, 5, n)
		n, err = conn.(transport.TryWriter).TryWrite(line[5:])
		require.NoError(t, err)
		require.Zero(t, n)
		c.Resume()
		require.NoError(t, conn.Write(line[5:]))
		require.Len(t, c.Events(), 1)
		require.NoError(t, c.Check())
	})
	bubble("write waits", func(t *testing.T) {
		c, conn := setup(t)
		c.Stall()
		time.AfterFunc(2*time.Second, c.Resume)
		start := time.Now()
		require.NoError(t, conn.Write(line))
		require.Equal(t, 2*time.Second, time.Since(start))
		require.Len(t, c.Events(), 1)
	})
	bubble("write gives up", func(t *testing.T) {
		c, conn := setup(t)
		c.Stall()
		start := time.Now()
		require.ErrorIs(t, conn.Write(line), os.ErrDeadlineExceeded)
		require.Equal(t, 3*time.Second, time.Since(start))
		require.Empty(t, c.Events())
	})
	bubble("close unblocks a write", func(t *testing.T) {
		c, conn := setup(t)
		c.Stall()
		time.AfterFunc(time.Second, func() { _ = conn.Close(3008, "slow") })
		require.ErrorIs(t, conn.Write(line), errGone)
		d, err := c.Closed(t.Context())
		require.NoError(t, err)
		require.EqualValues(t, 3008, d.Code)
	})
}
