package fanfare_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare"
	"github.com/fanfare-go/fanfare/fanfaretest"
)

func TestHook_MaxRunningHooks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newApp(t, fanfare.Config{MaxRunningHooks: 1})
		client, bystander := a.victim(t), a.bystander(t)
		release := newGate(t)
		a.misbehave("RPC do", func(context.Context) error { <-release.opened; return nil })
		go func() { _, _ = client.RPC("do", nil) }()
		synctest.Wait()
		for range 3 {
			_, err := bystander.RPC("do", nil)
			require.ErrorIs(t, err, fanfare.ErrTooManyRequests)
			require.True(t, err.(*fanfare.Error).Temporary)
		}
		_, err := fanfaretest.Dial(t, a.Node, "late").Connect()
		require.ErrorIs(t, err, fanfare.ErrTooManyRequests)
		entries := a.log.from(slog.LevelWarn)
		require.Len(t, entries, 1, "logged once")
		require.Contains(t, entries[0].message, "too many hooks")

		client.Close() // notices are not refused
		synctest.Wait()
		require.Equal(t, 1, a.called("Disconnected"))
		release.open()
		synctest.Wait()
		_, err = bystander.RPC("do", nil)
		require.NoError(t, err)
	})
}

func TestHook_Subscribe_OverlapUpToConcurrency(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const concurrency, channels = 3, 10
		a := newApp(t, fanfare.Config{Concurrency: concurrency})
		client := fanfaretest.Connect(t, a.Node, victim)
		running, most := 0, 0
		a.misbehave("Subscribe", func(context.Context) error {
			a.mu.Lock()
			running++
			most = max(most, running)
			a.mu.Unlock()
			time.Sleep(time.Second)
			a.mu.Lock()
			running--
			a.mu.Unlock()
			return nil
		})
		received(t, client)
		var frame []string
		for i := range channels {
			frame = append(frame, fmt.Sprintf(`{"id":%d,"subscribe":{"channel":"room:%d"}}`, 1_000_000+i, i))
		}
		began := time.Now()
		require.NoError(t, client.Raw(strings.Join(frame, "\n")))
		for range channels {
			line, err := client.NextRaw(t.Context())
			require.NoError(t, err)
			require.NotContains(t, line, "error")
		}
		require.Equal(t, concurrency, most)
		require.Equal(t, 4*time.Second, time.Since(began))
	})
}

// Hooks of commands other than subscribe run one after the other, in the order in which the commands came.
func TestHook_CommandsStayInOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newApp(t, fanfare.Config{})
		client := a.victim(t)
		received(t, client)
		var order []string
		running := 0
		commands := []struct{ hook, command string }{
			{"Publish", `{"id":%d,"publish":{"channel":"room:1","data":1}}`},
			{"RPC do", `{"id":%d,"rpc":{"method":"do"}}`},
			{"Message", `{"send":{"data":1}}`},
			{"Refresh", `{"id":%d,"refresh":{"token":"t"}}`},
			{"SubRefresh", `{"id":%d,"sub_refresh":{"channel":"room:1","token":"t"}}`},
			{"ReadHistory", `{"id":%d,"history":{"channel":"room:1"}}`},
			{"ReadPresence", `{"id":%d,"presence":{"channel":"room:1"}}`},
		}
		var frame, want []string
		for i := range 20 {
			c := commands[(i*3)%len(commands)]
			want = append(want, c.hook)
			line := c.command
			if strings.Contains(line, "%d") {
				line = fmt.Sprintf(line, 1_000_000+i)
			}
			frame = append(frame, line)
		}
		for i, c := range commands {
			a.misbehave(c.hook, func(context.Context) error {
				a.mu.Lock()
				order = append(order, c.hook)
				running++
				require.Equal(t, 1, running, "no two at once")
				a.mu.Unlock()
				time.Sleep(time.Duration(len(commands)-i) * 10 * time.Millisecond)
				a.mu.Lock()
				running--
				a.mu.Unlock()
				return nil
			})
		}
		require.NoError(t, client.Raw(strings.Join(frame, "\n")))
		time.Sleep(10 * time.Second)
		synctest.Wait()
		require.Equal(t, want, order)
		var ids []string
		for _, line := range received(t, client) {
			if id, _, ok := strings.Cut(strings.TrimPrefix(line, `{"id":`), ","); ok && strings.HasPrefix(line, `{"id":`) {
				require.NotContains(t, line, "error")
				ids = append(ids, id)
			}
		}
		require.True(t, slices.IsSorted(ids), ids)
	})
}

func TestHook_UnsubscribeWaitsForItsSubscribe(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newApp(t, fanfare.Config{})
		client := a.victim(t)
		received(t, client)
		a.misbehave("Subscribe", func(context.Context) error { time.Sleep(time.Second); return nil })
		require.NoError(t, client.Raw(`{"id":1000001,"subscribe":{"channel":"room:2"}}
{"id":1000002,"unsubscribe":{"channel":"room:2"}}
{"id":1000003,"subscribe":{"channel":"room:2"}}
{"id":1000004,"publish":{"channel":"room:2","data":1}}`))
		time.Sleep(time.Minute)
		var order []string
		for _, line := range received(t, client) {
			for _, what := range []string{`"id":1000001,"subscribe"`, `"id":1000002,"unsubscribe"`, `"id":1000003,"subscribe"`, `"pub"`, `"id":1000004,"publish"`} {
				if strings.Contains(line, what) {
					order = append(order, what)
				}
			}
		}
		require.Equal(t, []string{`"id":1000001,"subscribe"`, `"id":1000002,"unsubscribe"`, `"id":1000003,"subscribe"`}, order[:3])
		require.ElementsMatch(t, []string{`"pub"`, `"id":1000004,"publish"`}, order[3:])
		require.Equal(t, []string{"Unsubscribed room:2 0"}, a.notices())
	})
}

type middlewareKey struct{}

func TestHook_ConnectRequest_KeepsWhatMiddlewareSet(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var first, later error
		node := watch(t, fanfare.Config{Authenticate: func(ctx context.Context, r *fanfare.ConnectRequest) (fanfare.Identity, error) {
			first = r.HTTP.Context().Err()
			time.Sleep(time.Second) // the handler has returned long ago
			later = errors.Join(ctx.Err(), r.HTTP.Context().Err())
			user, _ := r.HTTP.Context().Value(middlewareKey{}).(string)
			if deadline, ok := r.HTTP.Context().Deadline(); !ok || time.Until(deadline) != 3*time.Second {
				later = errors.New("the request's context has not the hook's deadline")
			}
			cookie, err := r.HTTP.Cookie("session")
			if err != nil {
				return fanfare.Identity{}, err
			}
			return fanfare.Identity{User: user, Data: []byte(`"` + cookie.Value + `"`)}, nil
		}})
		node.Channel("mine", fanfare.ChannelOptions{AllowPublish: fanfare.Users, Subscribe: func(_ context.Context, r *fanfare.SubscribeRequest) (fanfare.SubscribeReply, error) {
			require.Equal(t, "ann", r.Client.User())
			return fanfare.SubscribeReply{}, nil
		}})
		client := fanfaretest.Dial(t, node.Node, "", fanfaretest.WithRequest(func(r *http.Request) {
			*r = *r.WithContext(context.WithValue(r.Context(), middlewareKey{}, "ann"))
			r.AddCookie(&http.Cookie{Name: "session", Value: "s1"})
		}))
		result, err := client.Connect()
		require.NoError(t, err)
		require.NoError(t, first)
		require.NoError(t, later)
		require.Equal(t, `"s1"`, string(result.Data))
		_, err = client.Subscribe("mine")
		require.NoError(t, err)
	})
}
