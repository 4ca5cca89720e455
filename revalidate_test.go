package fanfare_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare"
	"github.com/fanfare-go/fanfare/fanfaretest"
)

// checker is an app's Check, whose answer tests set.
type checker struct {
	mu     sync.Mutex // guards below
	answer func(context.Context, *fanfare.RevalidateRequest) error
	asked  []time.Time
}

func (k *checker) check(ctx context.Context, r *fanfare.RevalidateRequest) error {
	k.mu.Lock()
	k.asked = append(k.asked, time.Now())
	answer := k.answer
	k.mu.Unlock()
	if answer == nil {
		return nil
	}
	return answer(ctx, r)
}

func (k *checker) says(answer func(context.Context, *fanfare.RevalidateRequest) error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.answer = answer
}

func (k *checker) saysError(err error) {
	k.says(func(context.Context, *fanfare.RevalidateRequest) error { return err })
}

// times returns when it was asked, and forgets that.
func (k *checker) times() []time.Time {
	k.mu.Lock()
	defer k.mu.Unlock()
	asked := k.asked
	k.asked = nil
	return asked
}

// revalidating makes a node that re-checks its connections every minute.
func revalidating(t *testing.T, change ...func(*fanfare.Config)) (*watched, *checker) {
	t.Helper()
	k := &checker{}
	c := fanfare.Config{Revalidate: fanfare.Revalidate{Interval: time.Minute, Check: k.check}}
	for _, f := range change {
		f(&c)
	}
	return watch(t, c), k
}

func TestRevalidate_Outcomes(t *testing.T) {
	away := errors.New("database is away")
	for name, test := range map[string]struct {
		err  error
		ends *fanfare.Disconnect // nil: the connection stays
	}{
		"welcome":                        {},
		"the database is away":           {err: away},
		"a temporary refusal":            {err: fanfare.ErrInternal},
		"nobody is logged in":            {err: fanfare.ErrUnauthorized, ends: fanfare.DisconnectInvalidToken},
		"wrapped":                        {err: fmt.Errorf("session: %w", fanfare.ErrUnauthorized), ends: fanfare.DisconnectInvalidToken},
		"expired for good":               {err: fanfare.ErrExpired, ends: fanfare.DisconnectInvalidToken},
		"the app's own error":            {err: &fanfare.Error{Code: 450, Message: "suspended"}, ends: fanfare.DisconnectInvalidToken},
		"not permitted any more":         {err: fanfare.ErrPermissionDenied, ends: fanfare.DisconnectPermissionDenied},
		"the token is to be replaced":    {err: fanfare.ErrTokenExpired, ends: fanfare.DisconnectExpired},
		"the app's own disconnect":       {err: &fanfare.Disconnect{Code: 4501, Reason: "signed out"}, ends: &fanfare.Disconnect{Code: 4501, Reason: "signed out"}},
		"the app's disconnect, reported": {err: fmt.Errorf("session: %w", fanfare.DisconnectForce), ends: fanfare.DisconnectForce},
	} {
		inBubble(t, name, func(t *testing.T) {
			node, k := revalidating(t)
			c := fanfaretest.Connect(t, node.Node, "ann")
			k.saysError(test.err)
			began := time.Now()
			if test.ends != nil {
				requireClosed(t, c, test.ends)
				require.LessOrEqual(t, time.Since(began), time.Minute)
				require.Len(t, k.times(), 1)
				return
			}
			time.Sleep(10*time.Minute + time.Second)
			requireOpen(t, c)
			asked := k.times()
			require.GreaterOrEqual(t, len(asked), 10)
			for i := range asked[1:] {
				require.Equal(t, time.Minute, asked[i+1].Sub(asked[i]))
			}
		})
	}
}

func TestRevalidate_Request(t *testing.T) {
	type seen struct {
		user, method, path, host string
		state                    any
		header                   http.Header
		session                  string
		deadline                 time.Duration
	}
	for name, test := range map[string]struct {
		headers []string
		want    seen
	}{
		"cookie and authorization": {want: seen{host: "", header: http.Header{
			"Cookie": {"session=s3cret; theme=dark", "second=2"}, "Authorization": {"Bearer t"}}}},
		"chosen headers, by any case": {headers: []string{"x-tenant", "HOST", "cookie", "X-Tenant", "X-None"}, want: seen{host: "shop.example", header: http.Header{
			"Cookie": {"session=s3cret; theme=dark", "second=2"}, "X-Tenant": {"blue"}}}},
		"none": {headers: []string{}, want: seen{header: http.Header{}}},
	} {
		inBubble(t, name, func(t *testing.T) {
			node, k := revalidating(t, func(c *fanfare.Config) {
				c.Authenticate = func(_ context.Context, r *fanfare.ConnectRequest) (fanfare.Identity, error) {
					return fanfare.Identity{User: "ann", State: r.HTTP.Header.Get("X-Tenant")}, nil
				}
				c.Revalidate.Headers = test.headers
			})
			told := make(chan seen, 10)
			k.says(func(ctx context.Context, r *fanfare.RevalidateRequest) error {
				deadline, _ := ctx.Deadline()
				got := seen{user: r.Client.User(), state: r.Client.State(), method: r.HTTP.Method, path: r.HTTP.URL.Path, host: r.HTTP.Host,
					header: r.HTTP.Header.Clone(), deadline: time.Until(deadline)}
				if r.HTTP.Context() != ctx {
					return errors.New("the request has another context")
				}
				if cookie, err := r.HTTP.Cookie("session"); err == nil {
					got.session = cookie.Value
				}
				r.HTTP.Header.Set("Cookie", "spoilt=1") // the next check gets its own
				told <- got
				return nil
			})
			c := fanfaretest.Connect(t, node.Node, "", fanfaretest.WithRequest(func(r *http.Request) {
				r.Host = "shop.example"
				r.Header = http.Header{"Cookie": {"session=s3cret; theme=dark", "second=2"}, "Authorization": {"Bearer t"},
					"X-Tenant": {"blue"}, "User-Agent": {"test"}}
			}))
			want := test.want
			want.user, want.state, want.method, want.path, want.deadline = "ann", "blue", http.MethodGet, "/memory", 4*time.Second
			if want.header.Get("Cookie") != "" {
				want.session = "s3cret"
			}
			for range 2 {
				require.Equal(t, want, <-told)
			}
			requireOpen(t, c)
			require.Empty(t, node.log.from(slog.LevelWarn))
		})
	}
}

func TestRevalidate_SpreadsAndStaysSpread(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const clients, parts = 600, 6
		node, k := revalidating(t)
		for range clients {
			fanfaretest.Connect(t, node.Node, "ann")
		}
		for range 5 {
			time.Sleep(time.Minute)
			synctest.Wait()
			perPart := make(map[time.Duration]int)
			asked := k.times()
			require.InDelta(t, clients, len(asked), 1) // the edge of the minute
			for _, at := range asked {
				perPart[time.Since(at)*parts/time.Minute]++
			}
			for part := range time.Duration(parts) {
				require.InDelta(t, clients/parts, perPart[part], clients/parts/2, "part %d of %v", part, perPart)
			}
		}
	})
}

func TestRevalidate_WithTheDatabaseAway_OneLineForAll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		node, k := revalidating(t)
		var clients []*fanfaretest.Client
		for i := range 50 {
			clients = append(clients, fanfaretest.Connect(t, node.Node, fmt.Sprint("user", i)))
		}
		k.saysError(errors.New("database is away"))
		time.Sleep(5 * time.Minute)
		for _, c := range clients {
			requireOpen(t, c)
		}
		require.Greater(t, len(k.times()), 200)
		lines := node.log.from(slog.LevelWarn)
		require.Len(t, lines, 1, "one trouble")
		require.Equal(t, "database is away", lines[0].text("err"))
		require.Equal(t, "Revalidate", lines[0].text("hook"))

		k.saysError(nil)
		time.Sleep(5 * time.Minute)
		require.Len(t, node.log.from(slog.LevelWarn), 1)
		k.saysError(errors.New("database is away again"))
		time.Sleep(5 * time.Minute)
		require.Len(t, node.log.from(slog.LevelWarn), 2, "another trouble")
		k.saysError(fanfare.ErrUnauthorized)
		for _, c := range clients {
			requireClosed(t, c, fanfare.DisconnectInvalidToken)
		}
	})
}

// A Check that hangs costs no connection, and never takes more than its places, though its calls do not come back.
func TestRevalidate_ThatHangs(t *testing.T) {
	for name, obeys := range map[string]bool{"until its time is over": true, "for longer than it may": false} {
		inBubble(t, name, func(t *testing.T) {
			node, k := revalidating(t, func(c *fanfare.Config) {
				c.Refresh = func(context.Context, *fanfare.RefreshRequest) (fanfare.RefreshReply, error) {
					return fanfare.RefreshReply{}, nil
				}
			})
			mended := make(chan struct{})
			var mu sync.Mutex
			running, most := 0, 0
			count := func(n int) {
				mu.Lock()
				defer mu.Unlock()
				running += n
				most = max(most, running)
			}
			k.says(func(ctx context.Context, _ *fanfare.RevalidateRequest) error {
				count(1)
				defer count(-1)
				if obeys {
					<-ctx.Done()
					return ctx.Err()
				}
				<-mended
				return fanfare.ErrUnauthorized // too late: nobody listens
			})
			const clients = 300
			var all []*fanfaretest.Client
			for range clients {
				all = append(all, fanfaretest.Connect(t, node.Node, "ann"))
			}
			time.Sleep(10 * time.Minute)
			for _, c := range all {
				requireOpen(t, c)
			}
			_, err := all[0].Refresh("others are served")
			require.NoError(t, err)
			mu.Lock()
			require.LessOrEqual(t, most, 64)
			require.Greater(t, most, 10)
			mu.Unlock()
			require.LessOrEqual(t, len(node.log.from(slog.LevelWarn)), 2, "%v", node.log.from(slog.LevelWarn))

			k.saysError(fanfare.ErrUnauthorized)
			close(mended)
			ended := 0
			time.Sleep(2 * time.Minute)
			for _, c := range all {
				if node.Connection(c.ID()) == nil {
					ended++
				}
			}
			require.Equal(t, clients, ended)
		})
	}
}

func TestRevalidate_APanicCostsThatConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		node, k := revalidating(t)
		k.says(func(_ context.Context, r *fanfare.RevalidateRequest) error {
			if r.Client.User() == "ann" {
				panic("on purpose")
			}
			return nil
		})
		ann, ben := fanfaretest.Connect(t, node.Node, "ann"), fanfaretest.Connect(t, node.Node, "ben")
		requireClosed(t, ann, fanfare.DisconnectInternal)
		time.Sleep(5 * time.Minute)
		requireOpen(t, ben)
	})
}

// Hooks of commands that fill the node hold up a check, and do not end a connection.
func TestRevalidate_WithoutRoomForHooks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		node, k := revalidating(t, func(c *fanfare.Config) {
			c.MaxRunningHooks = 1
			c.Message = func(context.Context, *fanfare.MessageRequest) error { <-release; return nil }
		})
		busy, other := fanfaretest.Connect(t, node.Node, "ann"), fanfaretest.Connect(t, node.Node, "ben")
		require.NoError(t, busy.Send([]byte(`1`)))
		time.Sleep(3 * time.Minute)
		require.Empty(t, k.times())
		requireOpen(t, other)
		close(release)
		time.Sleep(time.Minute + time.Second)
		require.GreaterOrEqual(t, len(k.times()), 2)
		requireOpen(t, other)
	})
}

func TestRevalidate_EndsWithTheConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		node, k := revalidating(t)
		c := fanfaretest.Connect(t, node.Node, "ann")
		c.Close()
		fanfaretest.Dial(t, node.Node, "never connects")
		time.Sleep(5 * time.Minute)
		require.Empty(t, k.times())

		// One that ends while it is asked, and a Shutdown meanwhile.
		canceled := make(chan error, 1)
		k.says(func(ctx context.Context, _ *fanfare.RevalidateRequest) error {
			<-ctx.Done()
			canceled <- ctx.Err()
			return ctx.Err()
		})
		c = fanfaretest.Connect(t, node.Node, "ann")
		for len(k.times()) == 0 {
			time.Sleep(time.Second)
			synctest.Wait()
		}
		c.Close()
		require.ErrorIs(t, <-canceled, context.Canceled)
		synctest.Wait()
		require.Empty(t, node.log.from(slog.LevelWarn))
	})
}

func TestRevalidate_Config(t *testing.T) {
	check := func(context.Context, *fanfare.RevalidateRequest) error { return nil }
	for want, r := range map[string]fanfare.Revalidate{
		"Config.Revalidate needs a Check":                      {Interval: time.Minute},
		"Config.Revalidate.Interval must not be negative":      {Interval: -1, Check: check},
		"Config.Revalidate.Interval of 9528h0m0s is more than": {Interval: 397 * 24 * time.Hour, Check: check},
		"Config.Revalidate.Headers has an empty name":          {Headers: []string{"Cookie", " "}, Check: check},
	} {
		_, err := fanfare.New(fanfare.Config{Revalidate: r})
		require.ErrorContains(t, err, want)
	}
}
