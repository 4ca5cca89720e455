package emulation_test

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare/transport"
	"github.com/fanfare-go/fanfare/transport/emulation"
	"github.com/fanfare-go/fanfare/transport/transporttest"
)

// forwarder is a core with the node "n1".
type forwarder struct {
	*transporttest.Acceptor
	err error
	got []string // node, session and frame of each call
}

func (f *forwarder) Forward(_ context.Context, node, session string, frame []byte) error {
	f.got = append(f.got, node, session, string(frame))
	if node != "n1" {
		return transport.ErrUnknownNode
	}
	return f.err
}

func TestServe(t *testing.T) {
	t.Parallel()
	const octets = "application/octet-stream"
	for name, tt := range map[string]struct {
		method, contentType, body, origin string
		err                               error
		status                            int
		got                               []string
	}{
		"JSON": {contentType: "application/json", body: `{"session":"s1","node":"n1","data":"{\"id\":2}\n{}","more":1}`, status: 204,
			got: []string{"n1", "s1", "{\"id\":2}\n{}"}},
		"Protobuf, spec 20":      {contentType: octets, body: "\x0a\x02n1\x12\x02s1\x1a\x01\x00", status: 204, got: []string{"n1", "s1", "\x00"}},
		"data that is no string": {body: `{"session":"s1","node":"n1","data":{"id":2}}`, status: 204},
		"no data":                {body: `{"session":"s1","node":"n1"}`, status: 204},
		"another node":           {body: `{"session":"s1","node":"n2","data":"{}"}`, status: 404, got: []string{"n2", "s1", "{}"}},
		"too many commands":      {body: `{"session":"s1","node":"n1","data":"{}"}`, err: transport.ErrBusy, status: 503, got: []string{"n1", "s1", "{}"}},
		"a broker that is away":  {body: `{"session":"s1","node":"n1","data":"{}"}`, err: errors.New("away"), status: 500, got: []string{"n1", "s1", "{}"}},
		"malformed JSON":         {body: `{"session":`, status: 400},
		"malformed Protobuf":     {contentType: octets, body: "\x0a\x05n1", status: 400},
		"too large":              {body: strings.Repeat(" ", 1001), status: 413},
		"GET":                    {method: "GET", status: 405},
		"preflight":              {method: "OPTIONS", origin: "http://app.example", status: 204},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := &forwarder{Acceptor: transporttest.NewAcceptor(t), err: tt.err}
			method := tt.method
			if method == "" {
				method = http.MethodPost
			}
			r := httptest.NewRequest(method, "/", strings.NewReader(tt.body))
			r.Header.Set("Content-Type", tt.contentType)
			if tt.origin != "" {
				r.Header.Set("Origin", tt.origin)
			}
			w := httptest.NewRecorder()
			emulation.New(emulation.Options{MaxBodySize: 1000}).Serve(w, r, f)
			require.Equal(t, tt.status, w.Code, w.Body)
			require.Equal(t, tt.got, f.got)
			require.Equal(t, tt.origin, w.Header().Get("Access-Control-Allow-Origin"))
			require.Len(t, f.Reports(), map[bool]int{true: 1}[tt.status == 500])
		})
	}
	t.Run("a node that shuts down forwards to others", func(t *testing.T) {
		f := &forwarder{Acceptor: transporttest.NewAcceptor(t)}
		f.Unready = transport.ErrUnavailable
		w := httptest.NewRecorder()
		emulation.New(emulation.Options{}).Serve(w, httptest.NewRequest(http.MethodPost, "/", strings.NewReader(`{"session":"s1","node":"n1","data":"{}"}`)), f)
		require.Equal(t, http.StatusNoContent, w.Code)
		require.Equal(t, []string{"n1", "s1", "{}"}, f.got)
	})
}
