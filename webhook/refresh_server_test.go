package webhook_test

import (
	"net/http"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare"
	"github.com/fanfare-go/fanfare/fanfaretest"
	"github.com/fanfare-go/fanfare/webhook"
)

// TestRefresh_ByTheServer: who came by a cookie is prolonged without knowing it, also over a time in which the app was down, and
// until the app says that the session is over.
func TestRefresh_ByTheServer(t *testing.T) {
	t.Parallel()
	for name, end := range map[string]func(*http.Request) (*http.Response, error){
		"the session is over": func(r *http.Request) (*http.Response, error) {
			return &http.Response{StatusCode: 401, Body: http.NoBody, Request: r}, nil
		},
		"the app says so":            says(`{"result":{"expired":true}}`),
		"the app is down for longer": refuses,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				minute := func(r *http.Request) (*http.Response, error) {
					return says(`{"result":{"user":"42","expire_at":` + strconv.FormatInt(time.Now().Add(time.Minute).Unix(), 10) + `}}`)(r)
				}
				w := &wire{answer: minute}
				h, _ := w.hooks(t, nil)
				client := fanfaretest.Dial(t, newNode(t, h), "", fanfaretest.WithTimeout(time.Hour))
				connected, err := client.Connect()
				require.NoError(t, err)
				require.False(t, connected.Expires, "there is no token that it could get")
				time.Sleep(10*time.Minute + time.Second)
				require.InDelta(t, 11, w.asked(), 1)
				w.set(refuses)
				time.Sleep(time.Minute + 15*time.Second)
				w.set(minute)
				time.Sleep(10 * time.Minute)
				require.Empty(t, client.Events(), "it has not noticed")

				w.set(end)
				began := time.Now()
				d, err := client.Closed(t.Context())
				require.NoError(t, err)
				require.Equal(t, fanfare.DisconnectExpired.Code, d.Code)
				require.Less(t, time.Since(began), time.Minute+30*time.Second)
			})
		})
	}
}

// TestRefresh_ByTheServerOfNobody: without a URL there is nobody to ask, so what has an expiry ends, and may come back.
func TestRefresh_ByTheServerOfNobody(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		until := strconv.FormatInt(time.Now().Add(time.Minute).Unix(), 10)
		w := &wire{answer: says(`{"result":{"user":"42","expire_at":` + until + `}}`)}
		h, _ := w.hooks(t, func(c *webhook.Config) { c.Refresh = "" })
		client := fanfaretest.Connect(t, newNode(t, h), "", fanfaretest.WithTimeout(time.Hour))
		began := time.Now()
		d, err := client.Closed(t.Context())
		require.NoError(t, err)
		require.Equal(t, fanfare.DisconnectExpired.Code, d.Code)
		require.LessOrEqual(t, time.Since(began), time.Minute)
	})
}
