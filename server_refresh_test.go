package fanfare_test

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare"
	"github.com/fanfare-go/fanfare/fanfaretest"
)

// prolonger is a Refresh or SubRefresh hook whose answers are given in their order; the last one is repeated.
type prolonger struct {
	began time.Time

	mu      sync.Mutex // guards below
	answers []answerTo
	times   []time.Duration // when it was asked, since the beginning
	tokens  []string
}

// asked returns when it was asked, and checks that it was by the server.
func (a *prolonger) asked(t *testing.T) []time.Duration {
	t.Helper()
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, token := range a.tokens {
		require.Empty(t, token)
	}
	return slices.Clone(a.times)
}

type answerTo struct {
	after time.Duration // prolongs by so much; 0 for ever
	err   error
}

func (a *prolonger) answer(token string) (time.Time, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.times, a.tokens = append(a.times, time.Since(a.began)), append(a.tokens, token)
	next := a.answers[0]
	if len(a.answers) > 1 {
		a.answers = a.answers[1:]
	}
	switch {
	case next.err != nil:
		return time.Time{}, next.err
	case next.after == 0:
		return time.Time{}, nil
	}
	return time.Now().Add(next.after), nil
}

var errAway = errors.New("database is away")

// serverRefreshes are answers of a hook to a client without a token whose minute is over, and what comes of it.
var serverRefreshes = map[string]struct {
	answers []answerTo
	asked   []time.Duration // exactly; nil if that is left to chance
	ends    *fanfare.Disconnect
	at      time.Duration // 0: it stays
}{
	"for ever":          {answers: []answerTo{{}}, asked: []time.Duration{time.Minute}},
	"from time to time": {answers: []answerTo{{after: time.Hour}, {after: time.Minute}, {}}, asked: []time.Duration{time.Minute, 61 * time.Minute, 62 * time.Minute}},
	"until it is refused": {answers: []answerTo{{after: time.Hour}, {err: fanfare.ErrExpired}}, ends: fanfare.DisconnectExpired,
		asked: []time.Duration{time.Minute, 61 * time.Minute}, at: 61 * time.Minute},
	"a time that is over":   {answers: []answerTo{{after: -1}}, ends: fanfare.DisconnectExpired, at: time.Minute},
	"a token has expired":   {answers: []answerTo{{err: fanfare.ErrTokenExpired}}, ends: fanfare.DisconnectExpired, at: time.Minute},
	"nobody is logged in":   {answers: []answerTo{{err: fanfare.ErrUnauthorized}}, ends: fanfare.DisconnectInvalidToken, at: time.Minute},
	"the app's disconnect":  {answers: []answerTo{{err: fanfare.DisconnectForce}}, ends: fanfare.DisconnectForce, at: time.Minute},
	"an error, then better": {answers: []answerTo{{err: errAway}, {err: fanfare.ErrInternal}, {}}},
	"nothing but errors":    {answers: []answerTo{{err: errAway}}, ends: fanfare.DisconnectExpired, at: time.Minute + 25*time.Second},
}

func TestRefresh_ByTheServer(t *testing.T) {
	for door, opts := range map[string][]fanfaretest.Option{"bidirectional": nil, "unidirectional": {fanfaretest.Unidirectional()}} {
		for name, test := range serverRefreshes {
			inBubble(t, door+": "+name, func(t *testing.T) {
				hook := &prolonger{answers: test.answers, began: time.Now()}
				node := watch(t, fanfare.Config{
					Authenticate: func(context.Context, *fanfare.ConnectRequest) (fanfare.Identity, error) {
						return fanfare.Identity{User: "ann", ExpireAt: time.Now().Add(time.Minute)}, nil
					},
					Refresh: func(_ context.Context, r *fanfare.RefreshRequest) (fanfare.RefreshReply, error) {
						at, err := hook.answer(r.Token)
						return fanfare.RefreshReply{ExpireAt: at}, err
					},
				})
				c := fanfaretest.Dial(t, node.Node, "", opts...)
				r, err := c.Connect()
				require.NoError(t, err)
				require.False(t, r.Expires)
				require.Zero(t, r.TTL)
				received(t, c)
				if test.ends != nil {
					ctx, cancel := context.WithTimeout(t.Context(), 3*time.Hour)
					defer cancel()
					d, err := c.Closed(ctx)
					require.NoError(t, err)
					require.Equal(t, test.ends, d)
					require.Equal(t, test.at, time.Since(hook.began))
				} else {
					time.Sleep(3 * time.Hour)
					requireOpen(t, c)
				}
				for _, line := range received(t, c) {
					require.NotContains(t, line, "refresh")
				}
				if test.asked != nil {
					require.Equal(t, test.asked, hook.asked(t))
				}
				require.Less(t, len(hook.asked(t)), 8)
			})
		}
	}
}

func TestRefresh_ByTheServer_NoneByTheClient(t *testing.T) {
	inBubble(t, "its refresh ends it, as spec 5.9 says", func(t *testing.T) {
		c := fanfaretest.Connect(t, refreshing(t, true), "")
		_, err := c.Refresh("hour")
		require.ErrorIs(t, err, fanfare.DisconnectBadRequest)
	})
	inBubble(t, "a hook that prolongs by next to nothing is not asked in a loop", func(t *testing.T) {
		hook := &prolonger{answers: []answerTo{{after: 1}}, began: time.Now()}
		node := startNode(t, identify(fanfare.Identity{ExpireAt: time.Now().Add(time.Minute)}), func(c *fanfare.Config) {
			c.Refresh = func(_ context.Context, r *fanfare.RefreshRequest) (fanfare.RefreshReply, error) {
				at, err := hook.answer(r.Token)
				return fanfare.RefreshReply{ExpireAt: at}, err
			}
		})
		c := fanfaretest.Connect(t, node, "")
		time.Sleep(time.Minute + 30*time.Second + time.Millisecond)
		requireOpen(t, c)
		require.Len(t, hook.asked(t), 31)
	})
	inBubble(t, "what the app says meanwhile counts", func(t *testing.T) {
		node := startNode(t, identify(fanfare.Identity{User: "ann", ExpireAt: time.Now().Add(time.Minute)}), func(c *fanfare.Config) {
			c.Refresh = func(context.Context, *fanfare.RefreshRequest) (fanfare.RefreshReply, error) {
				time.Sleep(time.Second)
				return fanfare.RefreshReply{}, fanfare.ErrExpired
			}
		})
		began := time.Now()
		c := fanfaretest.Connect(t, node, "")
		time.Sleep(time.Minute + 500*time.Millisecond)
		require.NoError(t, node.Refresh(t.Context(), "ann", began.Add(time.Hour)))
		requireClosed(t, c, fanfare.DisconnectExpired)
		require.Equal(t, time.Hour+time.Second, time.Since(began))
	})
}

func TestSubRefresh_ByTheServer(t *testing.T) {
	for maker, byServer := range map[string]bool{"made by the client without a token": false, "made by the server": true} {
		for name, test := range serverRefreshes {
			inBubble(t, maker+": "+name, func(t *testing.T) {
				hook := &prolonger{answers: test.answers, began: time.Now()}
				node := watch(t, fanfare.Config{})
				node.Channel("room:{id}", fanfare.ChannelOptions{
					Subscribe: func(context.Context, *fanfare.SubscribeRequest) (fanfare.SubscribeReply, error) {
						return fanfare.SubscribeReply{ExpireAt: time.Now().Add(time.Minute)}, nil
					},
					SubRefresh: func(_ context.Context, r *fanfare.SubRefreshRequest) (fanfare.SubRefreshReply, error) {
						require.Equal(t, "7", r.Param("id"))
						at, err := hook.answer(r.Token)
						return fanfare.SubRefreshReply{ExpireAt: at}, err
					},
				})
				c := fanfaretest.Connect(t, node.Node, "ann")
				if byServer {
					require.NoError(t, node.Subscribe(t.Context(), "ann", "room:7", fanfare.SubscribeReply{ExpireAt: time.Now().Add(time.Minute)}))
				} else {
					require.False(t, requireSubscribe(t, c, "room:7").Expires)
				}
				events(c)
				time.Sleep(3 * time.Hour)
				if test.asked != nil && (test.ends == nil || byServer) {
					require.Equal(t, test.asked, hook.asked(t))
				}
				switch {
				case test.ends == nil:
					require.Empty(t, events(c))
					requireOpen(t, c)
				case test.ends == fanfare.DisconnectForce:
					requireClosed(t, c, fanfare.DisconnectForce)
				case byServer:
					requireClosed(t, c, fanfare.DisconnectSubExpired)
				default:
					require.Equal(t, []string{"room:7 unsubscribe 2501 subscription expired"}, events(c))
					requireOpen(t, c)
				}
			})
		}
	}
}

// An app that hangs costs no connection before its time, as one that fails does not.
func TestRefresh_ByTheServer_Hangs(t *testing.T) {
	inBubble(t, "until the grace is over", func(t *testing.T) {
		node := watch(t, fanfare.Config{
			HookTimeout: time.Second,
			Authenticate: func(context.Context, *fanfare.ConnectRequest) (fanfare.Identity, error) {
				return fanfare.Identity{User: "ann", ExpireAt: time.Now().Add(time.Minute)}, nil
			},
			Refresh: func(context.Context, *fanfare.RefreshRequest) (fanfare.RefreshReply, error) {
				time.Sleep(2 * time.Second)
				return fanfare.RefreshReply{}, errAway
			},
		})
		c := fanfaretest.Dial(t, node.Node, "")
		_, err := c.Connect()
		require.NoError(t, err)
		began := time.Now()
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		d, err := c.Closed(ctx)
		require.NoError(t, err)
		require.Equal(t, fanfare.DisconnectExpired, d)
		require.Equal(t, time.Minute+25*time.Second, time.Since(began))
		time.Sleep(2 * time.Second) // Shutdown waits for the last call for a second only
	})
}
