package fanfare_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare"
	"github.com/fanfare-go/fanfare/fanfaretest"
)

func TestRoom_Link(t *testing.T) {
	inBubble(t, "the broker is asked once for all, and let go after the last", func(t *testing.T) {
		g := startGap(t, kept, 5)
		require.Equal(t, 1, g.broker.linkings)
		for i, c := range g.clients {
			require.True(t, g.broker.linked("x"), i)
			require.NoError(t, c.Unsubscribe("x"))
			synctest.Wait()
		}
		require.False(t, g.broker.linked("x"))
		require.Equal(t, 2, g.broker.linkings)
		require.Zero(t, g.Residue().Rooms)
	})
	inBubble(t, "what was published while nobody was there is not delivered to the next", func(t *testing.T) {
		g := startGap(t, kept, 1)
		c := g.clients[0]
		g.publish(1, 2)
		require.NoError(t, c.Unsubscribe("x"))
		g.publish(3, 4)
		events(c)
		requireSubscribe(t, c, "x")
		reads := g.broker.readCount()
		g.publish(5, 6)
		require.Equal(t, []string{"x 5", "x 6"}, events(c))
		require.Equal(t, reads, g.broker.readCount(), "and is no gap")
	})
	inBubble(t, "a subscribe that fails may be tried again, and leaves nothing with the broker", func(t *testing.T) {
		g := startGap(t, kept, 0)
		g.broker.onLink = func(_ context.Context, link func()) error {
			link() // the broker has done it, and the answer is lost
			return errors.New("broker is down")
		}
		c := fanfaretest.Connect(t, g.Node, "ann")
		_, err := c.Subscribe("x")
		require.ErrorIs(t, err, fanfare.ErrInternal)
		synctest.Wait()
		require.Zero(t, g.Residue().Rooms)
		require.False(t, g.broker.linked("x"))

		g.broker.set(func() { g.broker.onLink = nil })
		requireSubscribe(t, c, "x")
		g.publish(1, 1)
		require.Equal(t, []string{"x 1"}, events(c))
	})
	inBubble(t, "that the broker is away it says itself: the node's log tells of other failures only", func(t *testing.T) {
		broker, log := newFaultBroker(t), &logged{}
		node := startNode(t, broker.config, log.config)
		node.Channel("x", kept)
		c := fanfaretest.Connect(t, node, "ann")
		for cause, lines := range map[error]int{fmt.Errorf("redis: %w", fanfare.ErrUnavailable): 0, errors.New("disk full"): 1} {
			broker.set(func() { broker.onLink = func(context.Context, func()) error { return cause } })
			before := strings.Count(log.String(), "\n")
			_, err := c.Subscribe("x")
			require.ErrorIs(t, err, fanfare.ErrInternal)
			require.Equal(t, lines, strings.Count(log.String(), "\n")-before, "%v: %s", cause, log)
		}
	})
	inBubble(t, "a broker that hangs delays only this channel, and is asked again", func(t *testing.T) {
		g := startGap(t, kept, 0)
		g.Channel("y", kept)
		hang := true
		g.broker.onLink = func(ctx context.Context, _ func()) error {
			if !hang {
				return nil
			}
			<-ctx.Done()
			return ctx.Err()
		}
		ann, ben := fanfaretest.Connect(t, g.Node, "ann"), fanfaretest.Connect(t, g.Node, "ben")
		refused, waited := make(chan error, 1), make(chan error, 1)
		subscribe := func(c *fanfaretest.Client, answer chan<- error) { _, err := c.Subscribe("x"); answer <- err }
		began := time.Now()
		go subscribe(ann, refused)
		time.Sleep(time.Second)
		go subscribe(ben, waited)
		synctest.Wait()
		g.broker.set(func() { hang = false })
		requireSubscribe(t, ann, "y")
		require.Equal(t, time.Second, time.Since(began))
		require.ErrorIs(t, <-refused, fanfare.ErrInternal)
		require.NoError(t, <-waited, "who waited for it finds the broker in order")
		requireSubscribe(t, ann, "x")
		g.publish(1, 1)
		require.Equal(t, []string{"x 1"}, events(ann))
		require.Equal(t, []string{"x 1"}, events(ben))
	})
}

// TestRoom_LinkRace lets many clients come and go. The broker's subscription must be there whenever somebody is.
func TestRoom_LinkRace(t *testing.T) {
	broker := newFaultBroker(t)
	node := startNode(t, broker.config)
	node.Channel("x", kept)
	var wg sync.WaitGroup
	for user := range 12 {
		c := fanfaretest.Connect(t, node, strconv.Itoa(user))
		rnd := rand.New(rand.NewPCG(1, uint64(user)))
		wg.Go(func() {
			for range 60 {
				if _, err := c.Subscribe("x"); err != nil {
					t.Errorf("subscribe: %v", err)
					return
				}
				if rnd.IntN(3) == 0 {
					p, err := node.Publish(t.Context(), "x", []byte("1"))
					if err != nil {
						t.Errorf("publish: %v", err)
						return
					}
					// Its own publication must come: nothing is lost in this test.
					for c.Position("x").Offset < p.Offset {
						if _, err := c.Next(t.Context()); err != nil {
							t.Errorf("next: %v", err)
							return
						}
					}
				}
				if err := c.Unsubscribe("x"); err != nil {
					t.Errorf("unsubscribe: %v", err)
					return
				}
			}
		})
	}
	wg.Wait()
	require.Eventually(t, func() bool { return !broker.linked("x") && node.Residue().Rooms == 0 }, 10*time.Second, time.Millisecond)
}

// TestSeam_Concurrency has what may happen while a subscribe is under way.
func TestSeam_Concurrency(t *testing.T) {
	hanging := func(t *testing.T, change ...func(*fanfare.Config)) (g *gapTest, c *fanfaretest.Client, release func()) {
		o := kept
		o.Presence, o.ForceJoinLeave = true, true
		g = startGap(t, o, 0, change...)
		c = fanfaretest.Connect(t, g.Node, "ann")
		release = g.broker.hangHistory()
		require.NoError(t, c.Raw(`{"id":1000001,"subscribe":{"channel":"x","recover":true}}`))
		synctest.Wait()
		g.publish(1, 3)
		return g, c, release
	}
	inBubble(t, "second subscribe", func(t *testing.T) {
		g, c, release := hanging(t)
		_, err := c.Subscribe("x")
		require.ErrorIs(t, err, fanfare.ErrAlreadySubscribed)
		release()
		synctest.Wait()
		g.publish(4, 5)
		require.Equal(t, []string{"x join ann", "x 4", "x 5"}, events(c))
		require.NoError(t, c.Check())
	})
	inBubble(t, "unsubscribe in flight", func(t *testing.T) {
		g, c, release := hanging(t)
		require.NoError(t, c.Raw(`{"id":1000002,"unsubscribe":{"channel":"x"}}`))
		g.publish(4, 5)
		release()
		synctest.Wait()
		g.publish(6, 7)
		require.NotContains(t, events(c), "x 6")
		require.Zero(t, g.Residue().Rooms)
		require.Zero(t, g.Residue().Members)
		requireSubscribe(t, c, "x")
		g.publish(8, 8)
		require.Contains(t, events(c), "x 8")
		require.NoError(t, c.Check())
	})
	inBubble(t, "server unsubscribe in flight", func(t *testing.T) {
		g, c, release := hanging(t)
		ended := make(chan error, 1)
		go func() { ended <- g.Unsubscribe(t.Context(), "ann", "x") }()
		synctest.Wait()
		release()
		require.NoError(t, <-ended)
		g.publish(4, 4)
		got := events(c)
		require.Equal(t, "x unsubscribe 2000 server unsubscribe", got[len(got)-1])
		requireSubscribe(t, c, "x")
		require.NoError(t, c.Check())
	})
	inBubble(t, "close in the middle", func(t *testing.T) {
		g, c, release := hanging(t)
		c.Close()
		synctest.Wait()
		require.Zero(t, g.Residue().Clients, "nobody waits for the broker")
		require.Zero(t, g.Residue().Rooms)
		require.Zero(t, g.Residue().Members)
		require.False(t, g.broker.linked("x"))
		g.publish(4, 5)
		release()
	})
	inBubble(t, "disconnect in the middle", func(t *testing.T) {
		g, c, release := hanging(t)
		require.NoError(t, g.Disconnect(t.Context(), "ann", nil))
		requireClosed(t, c, fanfare.DisconnectForce)
		release()
		synctest.Wait()
		require.Empty(t, events(c))
		require.Zero(t, g.Residue().Rooms)
	})
	inBubble(t, "shutdown in the middle", func(t *testing.T) {
		g, c, release := hanging(t)
		began := time.Now()
		require.NoError(t, g.Shutdown(t.Context()))
		require.Less(t, time.Since(began), time.Second)
		requireClosed(t, c, fanfare.DisconnectShutdown)
		release()
	})
}

// TestSeam_Churn does all of it at random. The clients themselves check what comes.
func TestSeam_Churn(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	broker := newFaultBroker(t)
	node := startNode(t, broker.config)
	node.Channel("{name}", fanfare.ChannelOptions{Public: true, History: kept.History, Presence: true})
	var wg sync.WaitGroup
	for user := range 10 {
		rnd := rand.New(rand.NewPCG(seed, uint64(user)))
		wg.Go(func() {
			for range 10 {
				if err := seamLife(t, node, rnd); err != nil {
					t.Errorf("seed %d: %v", seed, err)
				}
			}
		})
	}
	wg.Wait()
	require.Eventually(t, func() bool { return node.Residue() == fanfare.Residue{} }, 10*time.Second, time.Millisecond)
	require.False(t, broker.linked("0") || broker.linked("1"))
}

// seamLife is the life of one connection.
func seamLife(t *testing.T, node *fanfare.Node, rnd *rand.Rand) error {
	user := strconv.Itoa(rnd.IntN(3))
	c := fanfaretest.Connect(t, node, user)
	for id := range 30 {
		channel := strconv.Itoa(rnd.IntN(2))
		command := func(name string) error {
			return c.Raw(fmt.Sprintf(`{"id":%d,"%s":{"channel":"%s"}}`, 1_000_000+id, name, channel))
		}
		var err error
		switch rnd.IntN(8) {
		case 0, 1, 2:
			err = command("subscribe")
		case 3, 4:
			err = command("unsubscribe")
		case 5, 6:
			_, err = node.Publish(t.Context(), channel, []byte("1"))
		case 7:
			err = node.Unsubscribe(t.Context(), user, channel)
		}
		if err != nil {
			return err
		}
	}
	c.Close()
	return c.Check()
}
