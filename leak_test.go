package fanfare_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coder/websocket"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"golang.org/x/sync/errgroup"

	"github.com/fanfare-go/fanfare"
	"github.com/fanfare-go/fanfare/fanfaretest"
)

// one is a test's part whose cleanups run when it is over: a test keeps the clients made for it until its end.
type one struct {
	testing.TB
	cleanups []func()
}

func (o *one) Cleanup(f func()) { o.cleanups = append(o.cleanups, f) }

func (o *one) over() {
	for _, f := range o.cleanups {
		f()
	}
}

// life is a connection from its beginning to its end, and an end of it. Whatever it leaves behind is a leak.
type life struct {
	name string
	live func(node *fanfare.Node, c *fanfaretest.Client, user, room string) error
	opts []fanfaretest.Option
}

// settle makes a client of what was dialled, with everything that a node keeps of one.
func settle(c *fanfaretest.Client, room string) error {
	if _, err := c.Connect(); err != nil {
		return err
	}
	for _, channel := range []string{room, "lobby"} {
		if _, err := c.Subscribe(channel, fanfaretest.JoinLeave()); err != nil {
			return err
		}
	}
	return c.Publish(room, []byte(`{"text":"hello"}`))
}

// hang sends a command whose hook does not return in time, and waits until it runs.
func hang(c *fanfaretest.Client, command string) error {
	err := c.Raw(`{"id":1000001,` + command + `}`)
	time.Sleep(time.Second)
	return err
}

var lives = []life{
	{name: "unsubscribes and vanishes", live: func(_ *fanfare.Node, c *fanfaretest.Client, _, room string) error {
		return errors.Join(settle(c, room), c.Unsubscribe(room), c.Unsubscribe("lobby"))
	}},
	{name: "vanishes", live: func(_ *fanfare.Node, c *fanfaretest.Client, _, room string) error { return settle(c, room) }},
	{name: "is disconnected", live: func(node *fanfare.Node, c *fanfaretest.Client, user, room string) error {
		err := errors.Join(settle(c, room), node.Disconnect(context.Background(), user, nil))
		return errors.Join(err, ends(c, fanfare.DisconnectForce.Code))
	}},
	{name: "misbehaves", live: func(_ *fanfare.Node, c *fanfaretest.Client, _, room string) error {
		return errors.Join(settle(c, room), c.Raw(`nonsense`), ends(c, fanfare.DisconnectBadRequest.Code))
	}},
	{name: "never connects", live: func(_ *fanfare.Node, c *fanfaretest.Client, _, _ string) error {
		return ends(c, fanfare.DisconnectStale.Code)
	}},
	{name: "is refused", live: func(_ *fanfare.Node, c *fanfaretest.Client, _, _ string) error {
		_, err := c.Connect()
		if !errors.Is(err, fanfare.ErrUnauthorized) {
			return fmt.Errorf("not refused: %w", err)
		}
		return nil
	}, opts: []fanfaretest.Option{fanfaretest.WithToken("refuse")}},
	{name: "vanishes during Authenticate", live: func(_ *fanfare.Node, c *fanfaretest.Client, _, _ string) error {
		return hang(c, `"connect":{"token":"hang"}`)
	}},
	{name: "vanishes during Subscribe", live: func(_ *fanfare.Node, c *fanfaretest.Client, _, room string) error {
		return errors.Join(settle(c, room), hang(c, `"subscribe":{"channel":"hanging"}`))
	}},
	{name: "vanishes during an RPC", live: func(_ *fanfare.Node, c *fanfaretest.Client, _, room string) error {
		return errors.Join(settle(c, room), hang(c, `"rpc":{"method":"hang"}`))
	}},
	{name: "stops reading", live: func(node *fanfare.Node, c *fanfaretest.Client, _, room string) error {
		err := settle(c, room)
		c.Stall()
		_, publishErr := node.Publish(context.Background(), room, []byte(`{"text":"are you there?"}`))
		return errors.Join(err, publishErr, ends(c, 0))
	}},
}

// ends waits until the server has ended the connection with a code.
func ends(c *fanfaretest.Client, code uint32) error {
	d, err := c.Closed(context.Background())
	if err == nil && d.Code != code {
		err = fmt.Errorf("ended with %w instead of %d", d, code)
	}
	return err
}

// leakNode has hooks that hang, and channels of which a node remembers much.
func leakNode(t *testing.T) *fanfare.Node {
	t.Helper()
	hang := func() { time.Sleep(time.Minute) } // whatever the context says
	node := startNode(t, func(c *fanfare.Config) {
		c.HookTimeout = 2 * time.Second
		c.Authenticate = func(_ context.Context, r *fanfare.ConnectRequest) (fanfare.Identity, error) {
			switch r.Token {
			case "hang":
				hang()
			case "refuse":
				return fanfare.Identity{}, fanfare.ErrUnauthorized
			}
			return fanfare.Identity{User: fanfaretest.User(r.HTTP.Context()), Info: []byte(`{"name":"A name"}`)}, nil
		}
		c.Disconnected = func(context.Context, *fanfare.DisconnectNotice) {}
	})
	node.Channel("room:{id}", fanfare.ChannelOptions{Public: true, AllowPublish: fanfare.Subscribers, Presence: true, JoinLeave: true,
		History: fanfare.History{Size: 10, TTL: time.Minute}, Unsubscribed: func(context.Context, *fanfare.UnsubscribeNotice) {}})
	node.Channel("lobby", fanfare.ChannelOptions{Public: true, Presence: true, JoinLeavePerUser: true, PresenceGrace: 5 * time.Second})
	node.Channel("hanging", fanfare.ChannelOptions{Presence: true,
		Subscribe: func(context.Context, *fanfare.SubscribeRequest) (fanfare.SubscribeReply, error) {
			hang()
			return fanfare.SubscribeReply{}, nil
		}})
	node.RPC("hang", func(context.Context, *fanfare.RPCRequest) ([]byte, error) {
		hang()
		return nil, nil
	})
	return node
}

// churn lives through n connections, some at a time, and returns when the last traces of them have had time to go.
func churn(t *testing.T, node *fanfare.Node, n int) {
	t.Helper()
	var clients errgroup.Group // waited for below
	clients.SetLimit(50)
	for i := range n {
		clients.Go(func() error {
			l := lives[i%len(lives)]
			user, room := fmt.Sprintf("user-%d", i), fmt.Sprintf("room:%d", i/len(lives)%20)
			o := &one{TB: t}
			err := l.live(node, fanfaretest.Dial(o, node, user, l.opts...), user, room)
			o.over()
			if err != nil {
				return fmt.Errorf("client %d, that %s: %w", i, l.name, err)
			}
			return nil
		})
	}
	require.NoError(t, clients.Wait())
	time.Sleep(10 * time.Minute) // hanging hooks, grace and history are over
	synctest.Wait()
}

// heap is how many bytes are in use.
func heap() int64 {
	var m runtime.MemStats
	for range 3 { // what pools hold goes with the second collection
		runtime.GC()
	}
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// TestLeak_TenThousandConnections: nothing is left of connections that came and went, however they ended.
func TestLeak_TenThousandConnections(t *testing.T) {
	// maxGrowth is for maps that have grown, and the like: a leak of 30 bytes a connection is found.
	const warmUp, connections, maxGrowth = 1_000, 10_000, 300_000
	synctest.Test(t, func(t *testing.T) {
		node := leakNode(t)
		own := goleak.IgnoreCurrent() // rather than their number, which takes in some of the runtime's
		churn(t, node, warmUp)
		require.Zero(t, node.Residue())
		before := heap()

		churn(t, node, connections)
		require.Zero(t, node.Residue())
		require.NoError(t, goleak.Find(own, workersOwn, spare))
		require.LessOrEqual(t, heap()-before, int64(maxGrowth))
		runtime.KeepAlive(node)
	})
}

// TestLeak_WebSockets is the same over real connections.
func TestLeak_WebSockets(t *testing.T) {
	const connections = 300
	node := serve(t, fanfare.Config{})
	node.Channel("room:{id}", fanfare.ChannelOptions{Public: true, AllowPublish: fanfare.Subscribers, Presence: true,
		History: fanfare.History{Size: 10, TTL: time.Minute}})
	own := goleak.IgnoreCurrent()
	ends := []func(p *peer) error{
		func(p *peer) error { return p.Close(websocket.StatusNormalClosure, "") },
		func(p *peer) error { return p.CloseNow() },
		func(p *peer) error { return errors.Join(p.tcp.SetLinger(0), p.tcp.Close()) },
		func(p *peer) error { // in the middle of a frame
			_, err := p.tcp.Write([]byte{0x81, 0xfe, 0x01})
			return errors.Join(err, p.tcp.Close())
		},
		func(p *peer) error { // and is told why
			err := p.Write(context.Background(), websocket.MessageText, []byte(`nonsense`))
			for err == nil {
				_, _, err = p.Read(context.Background())
			}
			if websocket.CloseStatus(err) == 3501 {
				return nil
			}
			return err
		},
	}
	var clients errgroup.Group // waited for below
	clients.SetLimit(10)
	for i := range connections {
		clients.Go(func() error {
			o := &one{TB: t}
			defer o.over()
			p := node.dial(o, "websocket", false)
			room := fmt.Sprintf("room:%d", i%7)
			commands := []string{`{"id":1,"connect":{"token":"ann"}}`, `{"id":2,"subscribe":{"channel":"` + room + `"}}`,
				`{"id":3,"publish":{"channel":"` + room + `","data":1}}`}
			if err := p.Write(context.Background(), websocket.MessageText, []byte(strings.Join(commands, "\n"))); err != nil {
				return err
			}
			for answered := false; !answered; {
				_, frame, err := p.Read(context.Background())
				if err != nil {
					return err
				}
				answered = strings.Contains(string(frame), `{"id":3,"publish":{}}`)
			}
			return ends[i%len(ends)](p)
		})
	}
	require.NoError(t, clients.Wait())
	node.requireEmpty(t)
	eventually(t, func() bool { return goleak.Find(own, workersOwn, spare) == nil }, "left behind: %v", func() any { return goleak.Find(own) })
}

// workersOwn is what a worker holds from its first park to the node's end: one for each core, however many connections.
var workersOwn = goleak.IgnoreAnyFunction("github.com/fanfare-go/fanfare.(*parker).open.func1")

// spare are the few goroutines that a node keeps to use them again.
var spare = goleak.IgnoreTopFunction("github.com/fanfare-go/fanfare.await")
