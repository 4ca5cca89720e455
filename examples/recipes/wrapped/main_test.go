package main

import (
	"context"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare/examples/recipes/internal/recipetest"
)

func TestLogin(t *testing.T) {
	const interval = 100 * time.Millisecond
	a, err := newApp(interval)
	require.NoError(t, err)
	recipetest.Run(t, recipetest.App{Handler: a.handler(), Node: a.node, Interval: interval, EndSession: func(user string) {
		require.NoError(t, a.sessions.Iterate(context.Background(), func(ctx context.Context) error {
			if a.sessions.GetString(ctx, "user") != user {
				return nil
			}
			return a.sessions.Destroy(ctx)
		}))
	}})
}

// A WebSocket is taken over from the server, through all wrappers.
func TestWebSocket(t *testing.T) {
	a, err := newApp(time.Minute)
	require.NoError(t, err)
	srv := httptest.NewServer(a.handler())
	t.Cleanup(srv.Close)
	t.Cleanup(func() { require.NoError(t, a.node.Shutdown(context.Background())) })
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	conn, _, err := websocket.Dial(ctx, srv.URL+"/realtime/websocket", nil)
	require.NoError(t, err)
	defer func() { _ = conn.CloseNow() }()
	require.NoError(t, conn.Write(ctx, websocket.MessageText, []byte(`{"id":1,"connect":{}}`)))
	_, reply, err := conn.Read(ctx)
	require.NoError(t, err)
	require.JSONEq(t, `{"id":1,"error":{"code":101,"message":"unauthorized"}}`, string(reply), "nobody is logged in")
}
