package fanfare_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare"
	"github.com/fanfare-go/fanfare/fanfaretest"
)

// startEcho starts a node with a method that answers, channels "x…" that everybody may watch, and a log.
func startEcho(t *testing.T, change func(*fanfare.Config)) (*fanfare.Node, *logged) {
	t.Helper()
	log := &logged{}
	node := startNode(t, log.config, change)
	node.RPC("echo", func(_ context.Context, r *fanfare.RPCRequest) ([]byte, error) { return r.Data, nil })
	node.Channel("x{n}", fanfare.ChannelOptions{Public: true})
	return node, log
}

// call makes so many calls, one after the other, and returns how many were not refused with 111.
func call(t *testing.T, c *fanfaretest.Client, times int) (ok int) {
	t.Helper()
	for range times {
		_, err := c.RPC("echo", []byte(`1`))
		if err == nil {
			ok++
			continue
		}
		require.ErrorIs(t, err, fanfare.ErrTooManyRequests)
		require.True(t, refusalOf(t, err).Temporary)
	}
	return ok
}

func refusalOf(t *testing.T, err error) *fanfare.Error {
	t.Helper()
	var e *fanfare.Error
	require.ErrorAs(t, err, &e)
	return e
}

// lines counts the lines of a log that hold all of the words.
func lines(log *logged, words ...string) (n int) {
	for line := range strings.Lines(log.String()) {
		has := true
		for _, w := range words {
			has = has && strings.Contains(line, w)
		}
		if has {
			n++
		}
	}
	return n
}

func TestCommandRate(t *testing.T) {
	rate := fanfare.Rate{Every: 100 * time.Millisecond, Burst: 5}
	limited := func(c *fanfare.Config) { c.CommandRate = rate }

	inBubble(t, "the burst, and then one at a time", func(t *testing.T) {
		node, _ := startEcho(t, limited)
		c := fanfaretest.Connect(t, node, "ann")
		require.Equal(t, 5, call(t, c, 7))
		time.Sleep(rate.Every)
		require.Equal(t, 1, call(t, c, 2))
		time.Sleep(time.Minute)
		require.Equal(t, 5, call(t, c, 7), "no more than the burst, however long the quiet")
		require.Equal(t, 5, call(t, fanfaretest.Connect(t, node, "ann"), 5), "another connection")
		require.Equal(t, 5, call(t, fanfaretest.Connect(t, node, ""), 6), "anonymous connections have the rate, too")
	})
	inBubble(t, "who sends twice of what is allowed gets what is allowed, for ever", func(t *testing.T) {
		node, log := startEcho(t, limited)
		c := fanfaretest.Connect(t, node, "ann")
		ok := 0
		for range 1000 {
			time.Sleep(rate.Every / 2)
			ok += call(t, c, 1)
		}
		require.InDelta(t, 500+rate.Burst, ok, 1)
		requireOpen(t, c)
		require.Equal(t, 1, lines(log, "limit=CommandRate", "user=ann", "client="+c.ID()))
	})
	inBubble(t, "who goes on regardless is sent away", func(t *testing.T) {
		node, log := startEcho(t, limited)
		c := fanfaretest.Connect(t, node, "ann")
		require.Equal(t, 5, call(t, c, 10))
		_, err := c.RPC("echo", []byte(`1`))
		require.Error(t, err)
		requireClosed(t, c, fanfare.DisconnectTooManyRequests)
		require.Equal(t, 1, lines(log, "over a limit"))
	})
	inBubble(t, "pongs are not counted", func(t *testing.T) {
		node, log := startEcho(t, limited)
		c := fanfaretest.Connect(t, node, "ann")
		for range 20 {
			time.Sleep(25 * time.Second)
			require.Equal(t, 5, call(t, c, 5))
		}
		require.Empty(t, log.String())
	})
	inBubble(t, "an unsubscribe is counted and not refused", func(t *testing.T) {
		node, _ := startEcho(t, limited)
		c := fanfaretest.Connect(t, node, "ann")
		requireSubscribe(t, c, "x1")
		require.Equal(t, 4, call(t, c, 5))
		require.NoError(t, c.Unsubscribe("x1"))
		require.Zero(t, node.Subscribers("x1"))
		for range 3 {
			require.NoError(t, c.Unsubscribe("x1"))
		}
		require.Error(t, c.Unsubscribe("x1"))
		requireClosed(t, c, fanfare.DisconnectTooManyRequests)
	})
	inBubble(t, "a message outside channels is dropped: it has no reply", func(t *testing.T) {
		came := 0
		node, _ := startEcho(t, func(c *fanfare.Config) {
			limited(c)
			c.Message = func(context.Context, *fanfare.MessageRequest) error { came++; return nil }
		})
		c := fanfaretest.Connect(t, node, "ann")
		for range 7 {
			require.NoError(t, c.Send([]byte(`1`)))
		}
		synctest.Wait()
		require.Equal(t, 5, came)
		requireOpen(t, c)
	})
	inBubble(t, "an observer sees the code", func(t *testing.T) {
		o := &codes{}
		node, _ := startEcho(t, func(c *fanfare.Config) { limited(c); c.Observer = o })
		c := fanfaretest.Connect(t, node, "ann")
		call(t, c, 7)
		requireSubscribeFails(t, c, "x1", fanfare.ErrTooManyRequests)
		require.Equal(t, []string{"connect 0", "rpc 0", "rpc 0", "rpc 0", "rpc 0", "rpc 0", "rpc 111", "rpc 111", "subscribe 111"}, o.seen)
	})
}

func requireSubscribeFails(t *testing.T, c *fanfaretest.Client, channel string, want error) {
	t.Helper()
	_, err := c.Subscribe(channel)
	require.ErrorIs(t, err, want)
}

// codes writes down what became of commands. Only one client may be at work.
type codes struct {
	fanfare.NopObserver
	seen []string
}

func (o *codes) Command(method string, _ time.Duration, code uint32) {
	o.seen = append(o.seen, fmt.Sprint(method, " ", code))
}

// A page that is loaded anew subscribes to all that it shows in one frame; and one that comes back, to as much as it may have.
func TestRates_DefaultBurstsLetPagesLoad(t *testing.T) {
	slow := time.Hour
	inBubble(t, "everything limited", func(t *testing.T) {
		node, log := startEcho(t, func(c *fanfare.Config) {
			c.CommandRate.Every, c.SubscribeRate.Every, c.UserCommandRate.Every, c.ConnectRate.Every = slow, slow, slow, slow
		})
		for range 10 { // tabs
			c := fanfaretest.Connect(t, node, "ann")
			var frame strings.Builder
			for i := range 128 {
				fmt.Fprintf(&frame, `{"id":%d,"subscribe":{"channel":"x%d"}}`+"\n", i+2, i)
			}
			replies := strings.Join(ask(t, c, strings.TrimSuffix(frame.String(), "\n")), "\n")
			require.NotContains(t, replies, "error")
			require.Equal(t, 128, strings.Count(replies, `"subscribe":{`))
		}
		require.Empty(t, log.String())
	})
	inBubble(t, "nothing configured", func(t *testing.T) {
		node, log := startEcho(t, func(*fanfare.Config) {})
		c := fanfaretest.Connect(t, node, "ann")
		require.Equal(t, 5000, call(t, c, 5000), "commands are not limited")
		for range 4 * 160 {
			requireSubscribe(t, c, "x1")
			require.NoError(t, c.Unsubscribe("x1"))
		}
		requireSubscribeFails(t, c, "x1", fanfare.ErrTooManyRequests)
		time.Sleep(time.Second / 20)
		requireSubscribe(t, c, "x1")
		require.Equal(t, 1, lines(log, "limit=SubscribeRate"))
	})
}

func TestSubscribeRate(t *testing.T) {
	inBubble(t, "only subscribes are counted", func(t *testing.T) {
		node, log := startEcho(t, func(c *fanfare.Config) { c.SubscribeRate = fanfare.Rate{Every: time.Second, Burst: 2} })
		c := fanfaretest.Connect(t, node, "ann")
		require.Equal(t, 100, call(t, c, 100))
		requireSubscribe(t, c, "x1")
		requireSubscribe(t, c, "x2")
		requireSubscribeFails(t, c, "x3", fanfare.ErrTooManyRequests)
		requireSubscribeFails(t, c, "x3", fanfare.ErrTooManyRequests)
		require.NoError(t, node.Subscribe(t.Context(), "ann", "x4", fanfare.SubscribeReply{}), "the app's own are not counted")
		time.Sleep(time.Second)
		requireSubscribe(t, c, "x3")
		require.Equal(t, 1, lines(log, "over a limit"))
	})
	inBubble(t, "a loop is sent away", func(t *testing.T) {
		node, _ := startEcho(t, func(c *fanfare.Config) { c.SubscribeRate = fanfare.Rate{Every: time.Second, Burst: 2} })
		c := fanfaretest.Connect(t, node, "ann")
		for i := range 4 {
			_, _ = c.Subscribe(fmt.Sprint("x", i))
		}
		requireOpen(t, c)
		_, err := c.Subscribe("x5")
		require.Error(t, err)
		requireClosed(t, c, fanfare.DisconnectTooManyRequests)
	})
	inBubble(t, "negative is none", func(t *testing.T) {
		node, _ := startEcho(t, func(c *fanfare.Config) { c.SubscribeRate.Every = -1 })
		c := fanfaretest.Connect(t, node, "ann")
		for range 1000 {
			requireSubscribe(t, c, "x1")
			require.NoError(t, c.Unsubscribe("x1"))
		}
	})
}

func TestUserCommandRate(t *testing.T) {
	limited := func(c *fanfare.Config) { c.UserCommandRate = fanfare.Rate{Every: time.Second, Burst: 6} }
	inBubble(t, "all connections of a user together", func(t *testing.T) {
		node, log := startEcho(t, limited)
		a, b, ben := fanfaretest.Connect(t, node, "ann"), fanfaretest.Connect(t, node, "ann"), fanfaretest.Connect(t, node, "ben")
		require.Equal(t, 4, call(t, a, 4))
		require.Equal(t, 2, call(t, b, 4))
		require.Zero(t, call(t, a, 1))
		require.Equal(t, 6, call(t, ben, 6), "another user")
		a.Close()
		synctest.Wait()
		require.Zero(t, call(t, fanfaretest.Connect(t, node, "ann"), 1), "coming back gives nothing")
		require.Equal(t, 1, lines(log, "limit=UserCommandRate", "user=ann"))
		require.Zero(t, lines(log, "user=ben"))
		time.Sleep(time.Second)
		require.Equal(t, 1, call(t, b, 2))
	})
	inBubble(t, "anonymous clients are nobody", func(t *testing.T) {
		node, _ := startEcho(t, limited)
		require.Equal(t, 100, call(t, fanfaretest.Connect(t, node, ""), 100))
	})
	inBubble(t, "those who were quiet are forgotten, and only those", func(t *testing.T) {
		node, _ := startEcho(t, limited)
		busy := fanfaretest.Connect(t, node, "busy")
		for round := range 20 {
			for i := range 500 {
				c := fanfaretest.Connect(t, node, fmt.Sprint("user ", round, " ", i))
				require.Equal(t, 1, call(t, c, 1))
				c.Close()
			}
			synctest.Wait()
			call(t, busy, 5)
			time.Sleep(3 * time.Second)
			require.LessOrEqual(t, node.UserRates(), 5*500)
		}
		require.Equal(t, 3, call(t, busy, 4), "three seconds' worth")
	})
}

func TestConnectRate(t *testing.T) {
	limited := func(c *fanfare.Config) { c.ConnectRate = fanfare.Rate{Every: time.Minute, Burst: 3} }
	inBubble(t, "of one user", func(t *testing.T) {
		node, log := startEcho(t, limited)
		for range 3 {
			fanfaretest.Connect(t, node, "ann").Close()
		}
		for range 5 {
			c := fanfaretest.Dial(t, node, "ann")
			_, err := c.Connect()
			require.ErrorIs(t, err, fanfare.ErrTooManyRequests)
			require.True(t, refusalOf(t, err).Temporary, "SDKs come back, later each time")
		}
		fanfaretest.Connect(t, node, "ben")
		for range 10 {
			fanfaretest.Connect(t, node, "")
		}
		require.Equal(t, 1, lines(log, "over a limit"))
		require.Equal(t, 1, lines(log, "limit=ConnectRate", "user=ann"))
		time.Sleep(time.Minute)
		fanfaretest.Connect(t, node, "ann")
	})
	inBubble(t, "a unidirectional client gets the code that says so", func(t *testing.T) {
		node, _ := startEcho(t, limited)
		for range 3 {
			fanfaretest.Connect(t, node, "ann").Close()
		}
		c := fanfaretest.Dial(t, node, "ann", fanfaretest.Unidirectional())
		_, _ = c.Connect()
		requireClosed(t, c, fanfare.DisconnectTooManyRequests)
	})
}

func TestOffenders(t *testing.T) {
	inBubble(t, "once, and again when they had been quiet", func(t *testing.T) {
		node, log := startEcho(t, func(c *fanfare.Config) { c.CommandRate = fanfare.Rate{Every: time.Second, Burst: 3} })
		a, b, nobody := fanfaretest.Connect(t, node, "ann"), fanfaretest.Connect(t, node, "ann"), fanfaretest.Connect(t, node, "")
		for range 30 {
			for _, c := range []*fanfaretest.Client{a, b, nobody} {
				call(t, c, 5)
			}
			time.Sleep(time.Minute)
		}
		require.Equal(t, 1, lines(log, "limit=CommandRate", "user=ann", "client="+a.ID(), "unnamed=0", "level=WARN"))
		require.Equal(t, 1, lines(log, "limit=CommandRate", `user=""`, "client="+nobody.ID()), "the nameless by their connection")
		require.Equal(t, 2, lines(log, "over a limit"))
		time.Sleep(10 * time.Minute)
		call(t, b, 5)
		require.Equal(t, 1, lines(log, "user=ann", "client="+b.ID(), "unnamed=119"))
		require.Equal(t, 3, lines(log, "over a limit"))
	})
	inBubble(t, "a crowd of them does not fill the log", func(t *testing.T) {
		node, log := startEcho(t, func(c *fanfare.Config) { c.CommandRate = fanfare.Rate{Every: time.Second, Burst: 1} })
		crowd := func(name string) {
			for i := range 1200 {
				c := fanfaretest.Connect(t, node, fmt.Sprint(name, i))
				call(t, c, 2)
				c.Close()
			}
		}
		crowd("a")
		require.Equal(t, 1000, lines(log, "limit=CommandRate"))
		require.Equal(t, 1, lines(log, "too many clients"))
		time.Sleep(time.Hour)
		crowd("b")
		require.Equal(t, 2000, lines(log, "limit=CommandRate"))
		require.Equal(t, 2, lines(log, "too many clients"))
	})
}
