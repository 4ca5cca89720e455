package webhook_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare"
	"github.com/fanfare-go/fanfare/fanfaretest"
	"github.com/fanfare-go/fanfare/webhook"
)

// wire is an app without a network, for time that stands still.
type wire struct {
	mu     sync.Mutex // guards below
	calls  int
	answer func(r *http.Request) (*http.Response, error)
}

func (w *wire) RoundTrip(r *http.Request) (*http.Response, error) {
	w.mu.Lock()
	w.calls++
	answer := w.answer
	w.mu.Unlock()
	return answer(r)
}

func (w *wire) set(answer func(r *http.Request) (*http.Response, error)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.answer = answer
}

func (w *wire) asked() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.calls
}

func says(body string) func(*http.Request) (*http.Response, error) {
	return func(r *http.Request) (*http.Response, error) {
		return &http.Response{StatusCode: 200, Header: http.Header{"Content-Type": {"application/json"}}, Body: io.NopCloser(strings.NewReader(body)), Request: r}, nil
	}
}

func refuses(*http.Request) (*http.Response, error) { return nil, errors.New("refused") }

// hangs is an app that does not answer.
func hangs(r *http.Request) (*http.Response, error) {
	<-r.Context().Done()
	return nil, r.Context().Err()
}

func (w *wire) hooks(t *testing.T, change func(*webhook.Config)) (*webhook.Hooks, *logs) {
	t.Helper()
	out := &logs{}
	c := configFor("http://app.test")
	c.Client, c.Logger = &http.Client{Transport: w}, out.logger()
	if change != nil {
		change(&c)
	}
	return newHooks(t, c), out
}

func ask(ctx context.Context, h *webhook.Hooks) error {
	_, err := h.Authenticate(ctx, &fanfare.ConnectRequest{})
	return err
}

func TestBreaker_OpensAndHeals(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := &wire{answer: refuses}
		h, out := w.hooks(t, nil)
		for range 100 {
			require.Equal(t, fanfare.ErrInternal, ask(t.Context(), h))
		}
		require.Equal(t, 5, w.asked(), "then it is left alone")

		time.Sleep(5*time.Second + 1)
		for range 100 {
			require.Equal(t, fanfare.ErrInternal, ask(t.Context(), h))
		}
		require.Equal(t, 6, w.asked(), "one call finds out that it is still down")

		w.set(says(`{"result":{}}`))
		require.Equal(t, fanfare.ErrInternal, ask(t.Context(), h), "not yet")
		time.Sleep(5*time.Second + 1)
		for range 100 {
			require.NoError(t, ask(t.Context(), h))
		}
		require.Equal(t, 106, w.asked())
		require.Equal(t, 3, strings.Count(out.String(), "\n"), "unreachable, left alone, back: %s", out)
	})
}

func TestBreaker_OneTrialAtATime(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := &wire{answer: refuses}
		h, _ := w.hooks(t, nil)
		for range 5 {
			require.Error(t, ask(t.Context(), h))
		}
		time.Sleep(6 * time.Second)
		w.set(hangs)
		var all sync.WaitGroup // waited for below
		for range 50 {
			all.Go(func() {
				if !errors.Is(ask(t.Context(), h), fanfare.ErrInternal) {
					t.Error("let through")
				}
			})
		}
		synctest.Wait()
		require.Equal(t, 6, w.asked())
		all.Wait()
	})
}

func TestBreaker_IsForEachEndpointAndCanBeOff(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := &wire{answer: says(`{"result":{}}`)}
		h, _ := w.hooks(t, nil)
		client := fanfaretest.Connect(t, newNode(t, h), "")
		w.set(refuses)
		for range 10 {
			_, err := client.RPC("x", nil)
			require.Equal(t, fanfare.ErrInternal, err)
		}
		require.Equal(t, 6, w.asked())
		w.set(says(`{"result":{}}`))
		require.NoError(t, ask(t.Context(), h))

		w = &wire{answer: refuses}
		h, _ = w.hooks(t, func(c *webhook.Config) { c.Breaker.Failures = -1 })
		for range 100 {
			require.Equal(t, fanfare.ErrInternal, ask(t.Context(), h))
		}
		require.Equal(t, 100, w.asked())
	})
}

// TestBreaker_WrongAnswersDoNotCount: a client that makes the app stumble must not shut out the others.
func TestBreaker_WrongAnswersDoNotCount(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := &wire{answer: says(`nonsense`)}
		h, out := w.hooks(t, nil)
		for range 100 {
			require.Equal(t, fanfare.ErrInternal, ask(t.Context(), h))
		}
		require.Equal(t, 100, w.asked())
		require.Equal(t, 1, strings.Count(out.String(), "\n"))
		time.Sleep(2 * time.Minute)
		require.Error(t, ask(t.Context(), h))
		require.Equal(t, 2, strings.Count(out.String(), "\n"))
		require.Contains(t, out.String(), "times_since_last_logged=99")
	})
}

// TestBreaker_ClientsThatLeave: they neither open nor close it.
func TestBreaker_ClientsThatLeave(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := &wire{answer: hangs}
		h, out := w.hooks(t, nil)
		for range 20 {
			ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
			time.AfterFunc(time.Second, cancel)
			require.ErrorIs(t, ask(ctx, h), context.Canceled)
		}
		require.Equal(t, 20, w.asked())
		require.Empty(t, out.String())
	})
}

// TestConcurrency_IsBounded: nobody waits longer than a third of the timeout, and no more calls run than may.
func TestConcurrency_IsBounded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := &wire{answer: hangs}
		h, out := w.hooks(t, func(c *webhook.Config) { c.MaxConcurrent, c.Timeout = 3, 3*time.Second })
		began := time.Now()
		var all sync.WaitGroup // waited for below
		var mu sync.Mutex
		got := make(map[uint32]map[time.Duration]int)
		for range 100 {
			all.Go(func() {
				err := ask(t.Context(), h)
				mu.Lock()
				defer mu.Unlock()
				code := err.(*fanfare.Error).Code
				if got[code] == nil {
					got[code] = make(map[time.Duration]int)
				}
				got[code][time.Since(began)]++
			})
		}
		synctest.Wait()
		require.Equal(t, 3, w.asked())
		all.Wait()
		require.Equal(t, map[uint32]map[time.Duration]int{100: {3 * time.Second: 3}, 111: {time.Second: 97}}, got)
		require.Equal(t, 3, w.asked())
		require.Equal(t, 2, strings.Count(out.String(), "\n"), "busy, and no answer in time: %s", out)

		w.set(says(`{"result":{}}`))
		require.NoError(t, ask(t.Context(), h), "all places are free again")
	})
}

func TestConcurrency_WaitingEndsWithTheClient(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := &wire{answer: hangs}
		h, out := w.hooks(t, func(c *webhook.Config) { c.MaxConcurrent = 1 })
		var all sync.WaitGroup // waited for below
		all.Go(func() { _ = ask(t.Context(), h) })
		synctest.Wait()
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(100*time.Millisecond, cancel)
		require.ErrorIs(t, ask(ctx, h), context.Canceled)
		require.Empty(t, out.String())
		all.Wait()
	})
}

// TestRefresh_AppDown: the connection lives on while there is grace, and is prolonged when the app is back.
func TestRefresh_AppDown(t *testing.T) {
	t.Parallel()
	for name, back := range map[string]bool{"for good": false, "for a while": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				in := func(d time.Duration) string { return strconv.FormatInt(time.Now().Add(d).Unix(), 10) }
				w := &wire{answer: says(`{"result":{"user":"42","expire_at":` + in(time.Minute) + `}}`)}
				h, _ := w.hooks(t, nil)
				client := fanfaretest.Connect(t, newNode(t, h), "", fanfaretest.WithToken("from the page"))
				time.Sleep(time.Minute - 5*time.Second)
				w.set(refuses)
				for range 6 {
					_, err := client.Refresh("from the page")
					require.Equal(t, fanfare.ErrInternal, err, "temporary: the client tries again")
					time.Sleep(4 * time.Second)
				}
				require.Empty(t, client.Events(), "it is there, 19 s after its expiry")
				if !back {
					d, err := client.Closed(t.Context())
					require.NoError(t, err)
					require.Equal(t, fanfare.DisconnectExpired.Code, d.Code)
					return
				}
				w.set(says(`{"result":{"expire_at":` + in(time.Hour) + `}}`))
				r, err := client.Refresh("from the page")
				require.NoError(t, err)
				require.Equal(t, time.Hour, r.TTL)
				time.Sleep(50 * time.Minute)
				require.Empty(t, client.Events())
			})
		})
	}
}

func TestRefresh_AppRefuses(t *testing.T) {
	t.Parallel()
	for name, answer := range map[string]func(*http.Request) (*http.Response, error){
		"expired": says(`{"result":{"expired":true}}`),
		"401": func(r *http.Request) (*http.Response, error) {
			return &http.Response{StatusCode: 401, Body: http.NoBody, Request: r}, nil
		},
		"in the past": says(`{"result":{"expire_at":1}}`),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				w := &wire{answer: says(`{"result":{"user":"42","expire_at":` + strconv.FormatInt(time.Now().Add(time.Minute).Unix(), 10) + `}}`)}
				h, _ := w.hooks(t, nil)
				client := fanfaretest.Connect(t, newNode(t, h), "", fanfaretest.WithToken("from the page"))
				w.set(answer)
				_, err := client.Refresh("from the page")
				require.ErrorIs(t, err, fanfare.DisconnectExpired)
			})
		})
	}
}

func TestSubRefresh(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := &wire{answer: says(`{"result":{"user":"42","meta":{"v":1}}}`)}
		h, _ := w.hooks(t, nil)
		client := fanfaretest.Connect(t, newNode(t, h), "")
		in := func(d time.Duration) string { return strconv.FormatInt(time.Now().Add(d).Unix(), 10) }
		w.set(says(`{"result":{"expire_at":` + in(time.Minute) + `}}`))
		sub, err := client.Subscribe("room:1", fanfaretest.Token("t"))
		require.NoError(t, err)
		require.True(t, sub.Expires)
		var body string
		w.set(func(r *http.Request) (*http.Response, error) {
			b, err := io.ReadAll(r.Body)
			body = string(b)
			if err != nil {
				return nil, err
			}
			return says(`{"result":{"expire_at":` + in(time.Hour) + `,"meta":{"v":2}}}`)(r)
		})
		r, err := client.SubRefresh("room:1", "t2")
		require.NoError(t, err)
		require.Equal(t, time.Hour, r.TTL)
		require.Contains(t, body, `"channel":"room:1","token":"t2","meta":{"v":1}`)
		_, err = client.SubRefresh("room:1", "t3")
		require.NoError(t, err)
		require.Contains(t, body, `"meta":{"v":2}`, "a refresh may replace it")
	})
}

// TestBreaker_WhatCounts: what says that the app is away opens it, what an app says that is there does not.
func TestBreaker_WhatCounts(t *testing.T) {
	t.Parallel()
	for status, opens := range map[int]bool{502: true, 503: true, 504: true, 500: false, 404: false, 429: false, 403: false, 401: false, 302: false} {
		synctest.Test(t, func(t *testing.T) {
			w := &wire{answer: func(r *http.Request) (*http.Response, error) {
				return &http.Response{StatusCode: status, Body: http.NoBody, Request: r}, nil
			}}
			h, _ := w.hooks(t, nil)
			for range 20 {
				require.Error(t, ask(t.Context(), h))
			}
			want := 20
			if opens {
				want = 5
			}
			require.Equal(t, want, w.asked(), status)
		})
	}
}
