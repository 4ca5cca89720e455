package fanfare_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare"
	"github.com/fanfare-go/fanfare/fanfaretest"
)

func TestNode_Info(t *testing.T) {
	inBubble(t, "a node of its own is asked by nobody", func(t *testing.T) {
		node := startNode(t, func(c *fanfare.Config) { c.Name = "one" })
		node.Channel("x", room)
		node.Channel("y", room)
		c := fanfaretest.Connect(t, node, "ann")
		requireSubscribe(t, c, "x")
		requireSubscribe(t, c, "y")
		requireSubscribe(t, fanfaretest.Connect(t, node, "ann"), "x")
		fanfaretest.Connect(t, node, "")
		fanfaretest.Dial(t, node, "ben")
		began := time.Now()
		time.Sleep(time.Minute)
		info, err := node.Info(t.Context())
		require.NoError(t, err)
		require.Equal(t, time.Minute, time.Since(began), "nothing is waited for")
		require.Equal(t, fanfare.Info{Nodes: []fanfare.NodeInfo{{ID: node.ID(), Name: "one", Version: fanfare.Version,
			Clients: 3, Users: 2, Subscriptions: 3, Channels: 2, Uptime: time.Minute}}}, info)
	})
	inBubble(t, "all nodes, this one first", func(t *testing.T) {
		cluster := startCluster(t)
		a, b := cluster.start(), cluster.start()
		joinAs(t, a, "ann", "x")
		joinAs(t, b, "ann", "x")
		joinAs(t, b, "ben", "lobby")
		info, err := b.Info(t.Context())
		require.NoError(t, err)
		require.Len(t, info.Nodes, 2)
		require.Equal(t, []string{b.ID(), a.ID()}, []string{info.Nodes[0].ID, info.Nodes[1].ID})
		require.Equal(t, []int{2, 1}, []int{info.Nodes[0].Clients, info.Nodes[1].Clients})
		require.NotEmpty(t, info.Nodes[1].Name, "the host's")
		channels, err := a.Channels(t.Context(), "")
		require.NoError(t, err)
		require.Equal(t, map[string]fanfare.ChannelInfo{"x": {Clients: 2}, "lobby": {Clients: 1}}, channels)
	})
	inBubble(t, "a node that has left is not waited for", func(t *testing.T) {
		cluster := startCluster(t)
		a, b := cluster.start(), cluster.start()
		for range 2 {
			_, err := a.Info(t.Context())
			require.NoError(t, err)
		}
		shutDown(t, b)
		began := time.Now()
		info, err := a.Info(t.Context())
		require.NoError(t, err)
		require.Len(t, info.Nodes, 1)
		require.Less(t, time.Since(began), time.Second)
		shutDown(t, a)
		_, err = a.Info(t.Context())
		require.ErrorIs(t, err, fanfare.ErrClosed)
	})
}

// deafBroker loses, while deaf, what is sent to one node. It does not know which nodes there are.
type deafBroker struct {
	fanfare.Broker
	fanfare.ControlBus
	deaf string
}

func newDeafBroker(t *testing.T) *deafBroker {
	b := fanfare.NewMemoryBroker(fanfare.MemoryBrokerConfig{})
	t.Cleanup(func() { require.NoError(t, b.Close()) })
	return &deafBroker{Broker: b, ControlBus: b}
}

func (b *deafBroker) SendControl(ctx context.Context, from, to string, data []byte) error {
	if to == "" && b.deaf != "" {
		return nil
	}
	return b.ControlBus.SendControl(ctx, from, to, data)
}

func TestNode_Info_WithoutAnswer(t *testing.T) {
	start := func(t *testing.T) (a, b *fanfare.Node, broker *deafBroker) {
		broker = newDeafBroker(t)
		config := fanfare.Config{Broker: broker, HookTimeout: 3 * time.Second}
		a, b = startMember(t, config), startMember(t, config)
		_, err := a.Info(t.Context())
		require.NoError(t, err)
		broker.deaf = b.ID()
		t.Cleanup(func() { broker.deaf = "" })
		return a, b, broker
	}
	inBubble(t, "it is named once, and heard again when it answers", func(t *testing.T) {
		a, b, broker := start(t)
		began := time.Now()
		info, err := a.Info(t.Context())
		var missing *fanfare.SurveyError
		require.ErrorAs(t, err, &missing)
		require.Equal(t, &fanfare.SurveyError{Missing: []string{b.ID()}, Err: context.DeadlineExceeded}, missing)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.Contains(t, err.Error(), b.ID())
		require.Len(t, info.Nodes, 1)
		require.Equal(t, 3*time.Second, time.Since(began))
		_, err = a.Channels(t.Context(), "")
		require.NoError(t, err)
		broker.deaf = ""
		info, err = a.Info(t.Context())
		require.NoError(t, err)
		require.Len(t, info.Nodes, 2)
	})
	inBubble(t, "the caller's deadline", func(t *testing.T) {
		a, b, _ := start(t)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		began := time.Now()
		channels, err := a.Channels(ctx, "")
		require.ErrorContains(t, err, b.ID())
		require.NotNil(t, channels)
		require.Equal(t, time.Second, time.Since(began))
	})
	inBubble(t, "shutdown ends the wait", func(t *testing.T) {
		a, _, _ := start(t)
		done := make(chan error, 1)
		go func() { _, err := a.Info(context.Background()); done <- err }()
		synctest.Wait()
		shutDown(t, a)
		require.ErrorIs(t, <-done, fanfare.ErrClosed)
	})
	inBubble(t, "a broker that is down", func(t *testing.T) {
		a, _, broker := start(t)
		broker.deaf = ""
		require.NoError(t, broker.Close())
		_, err := a.Info(t.Context())
		require.ErrorIs(t, err, fanfare.ErrClosed)
		_, err = a.Channels(t.Context(), "")
		require.ErrorIs(t, err, fanfare.ErrClosed)
	})
}

// ghostBroker lists nodes that there are not.
type ghostBroker struct {
	*fanfare.MemoryBroker
	ghosts []string
	err    error
}

func (b *ghostBroker) Nodes(ctx context.Context) ([]string, error) {
	nodes, err := b.MemoryBroker.Nodes(ctx)
	return append(nodes, b.ghosts...), errors.Join(err, b.err)
}

func TestNode_Info_ListedNodes(t *testing.T) {
	start := func(t *testing.T) (a, b *fanfare.Node, broker *ghostBroker) {
		broker = &ghostBroker{MemoryBroker: fanfare.NewMemoryBroker(fanfare.MemoryBrokerConfig{})}
		t.Cleanup(func() { require.NoError(t, broker.Close()) })
		config := fanfare.Config{Broker: broker, HookTimeout: 3 * time.Second}
		return startMember(t, config), startMember(t, config), broker
	}
	inBubble(t, "nothing else is waited for", func(t *testing.T) {
		a, b, _ := start(t)
		began := time.Now()
		info, err := a.Info(t.Context())
		require.NoError(t, err)
		require.Len(t, info.Nodes, 2)
		shutDown(t, b)
		info, err = a.Info(t.Context())
		require.NoError(t, err)
		require.Len(t, info.Nodes, 1)
		require.Zero(t, time.Since(began))
	})
	inBubble(t, "one that does not answer is named, every time", func(t *testing.T) {
		a, b, broker := start(t)
		broker.ghosts = []string{"ghost"}
		for range 2 {
			began := time.Now()
			info, err := a.Info(t.Context())
			require.Equal(t, &fanfare.SurveyError{Missing: []string{"ghost"}, Err: context.DeadlineExceeded}, err)
			require.Len(t, info.Nodes, 2)
			require.Equal(t, b.ID(), info.Nodes[1].ID)
			require.Equal(t, 3*time.Second, time.Since(began))
		}
	})
	inBubble(t, "one that leaves meanwhile", func(t *testing.T) {
		a, b, broker := start(t)
		broker.ghosts = []string{"ghost"}
		asked := make(chan error, 1)
		go func() { _, err := a.Info(t.Context()); asked <- err }()
		synctest.Wait()
		gone := fmt.Sprintf(`{"op":"gone","survey":{"from":%q}}`, "00000000-0000-0000-0000-000000000000")
		broker.ghosts = nil
		require.NoError(t, broker.SendControl(t.Context(), b.ID(), a.ID(), []byte(gone)))
		require.Error(t, <-asked, "it was another one")
		broker.ghosts = []string{"00000000-0000-0000-0000-000000000000"}
		go func() { _, err := a.Info(t.Context()); asked <- err }()
		synctest.Wait()
		require.NoError(t, broker.SendControl(t.Context(), b.ID(), a.ID(), []byte(gone)))
		require.NoError(t, <-asked)
	})
	inBubble(t, "one that has left, and is listed still", func(t *testing.T) {
		a, b, broker := start(t)
		_, err := a.Info(t.Context())
		require.NoError(t, err)
		shutDown(t, b)
		broker.ghosts = []string{b.ID()}
		began := time.Now()
		info, err := a.Info(t.Context())
		require.NoError(t, err)
		require.Len(t, info.Nodes, 1)
		require.Zero(t, time.Since(began))
	})
	inBubble(t, "the broker cannot say", func(t *testing.T) {
		a, _, broker := start(t)
		broker.err = errors.New("broker is down")
		_, err := a.Info(t.Context())
		require.ErrorIs(t, err, broker.err)
	})
}

// slowBroker takes a while for what is sent to one node.
type slowBroker struct{ *fanfare.MemoryBroker }

func (b *slowBroker) SendControl(ctx context.Context, from, to string, data []byte) error {
	if to != "" {
		time.Sleep(10 * time.Millisecond)
	}
	return b.MemoryBroker.SendControl(ctx, from, to, data)
}

func TestNode_Info_AtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		broker := &slowBroker{fanfare.NewMemoryBroker(fanfare.MemoryBrokerConfig{})}
		t.Cleanup(func() { require.NoError(t, broker.Close()) })
		config := fanfare.Config{Broker: broker}
		a, b := startMember(t, config), startMember(t, config)
		_, err := a.Info(t.Context())
		require.NoError(t, err)
		began := time.Now()
		infos, errs := make([]fanfare.Info, 50), make([]error, 50)
		var asked sync.WaitGroup
		for i := range infos {
			asked.Go(func() { infos[i], errs[i] = a.Info(t.Context()) })
		}
		asked.Wait()
		require.Less(t, time.Since(began), time.Second)
		for i, info := range infos {
			require.NoError(t, errs[i])
			require.Len(t, info.Nodes, 2)
			require.Equal(t, b.ID(), info.Nodes[1].ID)
		}
	})
}

func TestNode_Channels(t *testing.T) {
	inBubble(t, "patterns", func(t *testing.T) {
		node := startNode(t)
		node.Channel("room:{id...}", fanfare.ChannelOptions{Public: true})
		node.Channel("news", fanfare.ChannelOptions{Public: true})
		c := fanfaretest.Connect(t, node, "ann")
		for _, channel := range []string{"room:1", "room:2", "room:a:b", "news"} {
			requireSubscribe(t, c, channel)
		}
		requireSubscribe(t, fanfaretest.Connect(t, node, "ben"), "room:2")
		for pattern, want := range map[string]string{
			"":              "map[news:{1} room:1:{1} room:2:{2} room:a:b:{1}]",
			"room:*":        "map[room:1:{1} room:2:{2} room:a:b:{1}]",
			"room:[!1]":     "map[room:2:{2}]",
			"{news,room:1}": "map[news:{1} room:1:{1}]",
			"nothing*":      "map[]",
		} {
			channels, err := node.Channels(t.Context(), pattern)
			require.NoError(t, err)
			require.Equal(t, want, fmt.Sprint(channels), pattern)
		}
		_, err := node.Channels(t.Context(), "[")
		require.ErrorIs(t, err, fanfare.ErrBadRequest)
		require.NoError(t, c.Unsubscribe("news"))
		synctest.Wait()
		channels, err := node.Channels(t.Context(), "news")
		require.NoError(t, err)
		require.Empty(t, channels)
	})
	inBubble(t, "more than a node tells of", func(t *testing.T) {
		node := startNode(t, func(c *fanfare.Config) { c.MaxChannels = 10_001 })
		node.Channel("room:{id}", fanfare.ChannelOptions{Public: true})
		c := fanfaretest.Connect(t, node, "ann")
		for i := range 10_001 {
			require.NoError(t, node.Subscribe(t.Context(), "ann", fmt.Sprint("room:", i), fanfare.SubscribeReply{}))
			if i%100 == 0 {
				c.Events() // read
			}
		}
		channels, err := node.Channels(t.Context(), "room:*")
		require.Len(t, channels, 10_000)
		require.Equal(t, &fanfare.SurveyError{Partial: []string{node.ID()}}, err)
	})
}
