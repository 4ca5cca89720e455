package target

import (
	"context"
	"encoding/json"
	"errors"
	"math"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

func TestMessage_HasExactlyTheSizeAskedFor(t *testing.T) {
	t.Parallel()
	for _, size := range []int{minSize, 128, 4096} {
		for _, number := range []uint64{1, math.MaxUint64} {
			b := message(math.MaxInt64, number, size)
			require.Len(t, b, size)
			var m struct {
				T int64
				N uint64
				P string
			}
			require.NoError(t, json.Unmarshal(b, &m))
			require.Equal(t, int64(math.MaxInt64), m.T)
			require.Equal(t, number, m.N)
		}
	}
}

func TestPublish_SpacesMessagesEvenly(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var at []time.Duration
		start := time.Now()
		p := &publisher{publish: func(context.Context, string, []byte) error {
			at = append(at, time.Since(start))
			return nil
		}}
		require.NoError(t, p.run(t.Context(), publishRequest{channel: "c", count: 4, rate: 50, size: 64}))
		require.Equal(t, []time.Duration{0, 20 * time.Millisecond, 40 * time.Millisecond, 60 * time.Millisecond}, at)
	})
}

func TestPublish_ReachesTheChannelsAskedFor(t *testing.T) {
	t.Parallel()
	seen := make(map[string]int)
	mux := http.NewServeMux()
	HandleControl(mux, func(_ context.Context, channel string, _ []byte) error {
		seen[channel]++
		return nil
	})
	require.Equal(t, http.StatusOK, post(mux, "/publish?channel=one&count=3"))
	require.Equal(t, http.StatusOK, post(mux, "/publish?channel=c&channels=2&count=200"))
	require.Equal(t, 3, seen["one"])
	require.Equal(t, 200, seen["c0"]+seen["c1"])
	require.Len(t, seen, 3, "a random one of c0 and c1")
	require.Equal(t, http.StatusOK, post(mux, "/gc"))
}

func TestPublish_RefusesWhatItCannotDo(t *testing.T) {
	t.Parallel()
	mux := http.NewServeMux()
	HandleControl(mux, func(context.Context, string, []byte) error { return errors.New("no") })
	for _, query := range []string{"", "channel=c&size=63", "channel=c&count=-1", "channel=c&count=x", "channel=c&rate=NaN", "channel=c&channels=-1"} {
		require.Equal(t, http.StatusBadRequest, post(mux, "/publish?"+query), query)
	}
	require.Equal(t, http.StatusInternalServerError, post(mux, "/publish?channel=c"))
}

func post(h http.Handler, target string) int {
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest(http.MethodPost, target, nil))
	return w.Code
}

func TestServe_StopsWhatWasBegunWhenItsContextEnds(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	mux := http.NewServeMux()
	HandleControl(mux, func(context.Context, string, []byte) error {
		cancel()
		return nil
	})
	stopped := false
	served := make(chan error, 1)
	go func() {
		served <- Serve(ctx, l, mux, func(context.Context) error { stopped = true; return nil })
	}()
	// An hour's worth of messages: the end of the context ends the request, too.
	client := &http.Client{Transport: &http.Transport{}}
	resp, err := client.Post("http://"+l.Addr().String()+"/publish?channel=c&count=3600&rate=50", "", strings.NewReader(""))
	require.NoError(t, err)
	require.NoError(t, resp.Body.Close())
	client.CloseIdleConnections()
	require.Equal(t, http.StatusInternalServerError, resp.StatusCode)
	require.NoError(t, <-served)
	require.True(t, stopped)
}
