package poll_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/fanfare-go/fanfare/transport"
	"github.com/fanfare-go/fanfare/transport/poll"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// hasty is a core that ends each connection at once, as a node that shuts down may.
type hasty struct{ ended chan struct{} }

var (
	_ transport.Acceptor = hasty{}
	_ transport.Session  = hasty{}
)

func (hasty) Ready() error                                          { return nil }
func (hasty) CheckOrigin(*http.Request) bool                        { return true }
func (hasty) Forward(context.Context, string, string, []byte) error { return nil }
func (hasty) Report(*http.Request, string, error)                   {}
func (hasty) Receive([]byte) error                                  { return transport.ErrUnavailable }
func (hasty) Pong()                                                 {}
func (h hasty) Closed(error)                                        { <-h.ended }
func (h hasty) Accept(_ *http.Request, c transport.Conn) (transport.Session, error) {
	go func() { // Closed waits for it
		defer close(h.ended)
		_ = c.Write([]byte(`{"push":{"disconnect":{"code":3001,"reason":"shutdown"}}}` + "\n"))
		_ = c.Close(3001, "shutdown")
	}()
	return h, nil
}

func TestPoll_TheCoreMaySpeakFirst(t *testing.T) {
	t.Parallel()
	door := poll.New(poll.Options{})
	query := strings.Repeat("&channel=x%d", 100)
	for range 50 {
		r := httptest.NewRequest(http.MethodGet, "/poll?"+fmt.Sprintf(query, numbers(100)...), nil)
		w := httptest.NewRecorder()
		door.Serve(w, r, hasty{make(chan struct{})})
		require.Equal(t, http.StatusServiceUnavailable, w.Code)
		require.Equal(t, "shutdown\n", w.Body.String())
	}
}

func numbers(n int) (list []any) {
	for i := range n {
		list = append(list, i)
	}
	return list
}
