//go:build unix

package e2e

import (
	"bufio"
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare"
)

// member is a node of a cluster with a server in front.
type member struct {
	*fanfare.Node
	url string
}

// cluster is two nodes over Redis, with an app that has one table of sessions.
type cluster struct {
	members [2]member
	out     atomic.Pointer[string] // the user whose session is over
}

func newCluster(t *testing.T, change func(*fanfare.Config)) *cluster {
	t.Helper()
	c := new(cluster)
	c.out.Store(new(string))
	redis := startRedis(t)
	for i, name := range []string{"one", "two"} {
		broker, err := newRedisBroker(redis, "operations")
		require.NoError(t, err)
		config := fanfare.Config{
			Name: name, Broker: broker, Presence: broker.Presence(), DrainWindow: -1,
			Authenticate: func(_ context.Context, r *fanfare.ConnectRequest) (fanfare.Identity, error) {
				user := r.HTTP.URL.Query().Get("user")
				if user == *c.out.Load() {
					return fanfare.Identity{}, fanfare.ErrUnauthorized
				}
				return fanfare.Identity{User: user}, nil
			},
		}
		change(&config)
		node, err := fanfare.New(config)
		require.NoError(t, err)
		history := fanfare.History{Size: 100, TTL: time.Hour}
		node.Channel("x", fanfare.ChannelOptions{History: history})
		node.Channel("room:{id}", fanfare.ChannelOptions{Public: true, History: history, Presence: true})
		server := httptest.NewServer(node)
		c.members[i] = member{node, server.URL}
		t.Cleanup(func() {
			ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
			defer cancel()
			require.NoError(t, node.Shutdown(ctx))
			server.Close()
			require.NoError(t, broker.Close())
		})
	}
	return c
}

// enter connects a user to one of the nodes.
func (m member) enter(t *testing.T, user string) *peer {
	t.Helper()
	p := dialPeer(t, m.url+"/websocket?user="+user, `{}`)
	p.hears(`"client"`)
	return p
}

// everywhere connects a user to each node, and somebody else to the second.
func (c *cluster) everywhere(t *testing.T, user string) (of []*peer, other *peer) {
	t.Helper()
	for _, m := range c.members {
		of = append(of, m.enter(t, user))
	}
	return of, c.members[1].enter(t, "somebody")
}

// goesOn expects that the connection lives, and that nothing has come on it.
func (p *peer) goesOn() {
	p.t.Helper()
	p.say(`{"id":9,"subscribe":{"channel":"room:9"}}`)
	p.hears(`"id":9,"subscribe"`)
}

func TestCluster_Operations(t *testing.T) {
	t.Parallel()
	c := newCluster(t, func(*fanfare.Config) {})
	ctx, one, two := t.Context(), c.members[0], c.members[1]

	t.Run("subscribe and unsubscribe", func(t *testing.T) {
		ann, other := c.everywhere(t, "ann")
		require.NoError(t, one.Subscribe(ctx, "ann", "x", fanfare.SubscribeReply{Data: []byte(`"hi"`)}))
		for _, p := range ann {
			p.hears(`"subscribe":{"recoverable":true`)
		}
		_, err := two.Publish(ctx, "x", []byte(`"first"`))
		require.NoError(t, err)
		for _, p := range ann {
			p.hears(`"data":"first"`)
		}
		require.NoError(t, two.Unsubscribe(ctx, "ann", "x"))
		for _, p := range ann {
			p.hears(`"unsubscribe":{"code":2000`)
		}
		other.goesOn()
	})
	t.Run("refresh", func(t *testing.T) {
		ann, other := c.everywhere(t, "ann")
		require.NoError(t, two.Refresh(ctx, "ann", time.Now().Add(-time.Minute)))
		for _, p := range ann {
			p.closed(3005)
		}
		other.goesOn()
	})
	t.Run("disconnect", func(t *testing.T) {
		ann, other := c.everywhere(t, "ann")
		require.NoError(t, one.Disconnect(ctx, "ann", &fanfare.Disconnect{Code: 4001, Reason: "logged out"}))
		for _, p := range ann {
			p.closed(4001)
		}
		other.goesOn()
	})
	t.Run("info and channels", func(t *testing.T) {
		ann, ben := one.enter(t, "ann"), two.enter(t, "ben")
		for _, p := range []*peer{ann, ben} {
			p.say(`{"id":2,"subscribe":{"channel":"room:1"}}`)
			p.hears(`"id":2,"subscribe"`)
		}
		ben.say(`{"id":3,"subscribe":{"channel":"room:2"}}`)
		ben.hears(`"id":3,"subscribe"`)
		for _, m := range c.members {
			require.Eventually(t, func() bool { // those who were there before are gone by and by
				info, err := m.Info(ctx)
				require.NoError(t, err)
				require.Len(t, info.Nodes, 2)
				got := make(map[string][4]int)
				for _, n := range info.Nodes {
					got[n.Name] = [4]int{n.Clients, n.Users, n.Subscriptions, n.Channels}
				}
				return got["one"] == [4]int{1, 1, 1, 1} && got["two"] == [4]int{1, 1, 2, 2}
			}, patience, 10*time.Millisecond)
			channels, err := m.Channels(ctx, "room:*")
			require.NoError(t, err)
			require.Equal(t, map[string]fanfare.ChannelInfo{"room:1": {Clients: 2}, "room:2": {Clients: 1}}, channels)
			stats, err := m.PresenceStats(ctx, "room:1")
			require.NoError(t, err)
			require.Equal(t, fanfare.PresenceStats{Clients: 2, Users: 2}, stats)
		}
	})
	t.Run("emulation", func(t *testing.T) { requireForwarded(t, one.url, two.url) })
}

// requireForwarded posts the commands of a connection to a node that does not have it.
func requireForwarded(t *testing.T, here, there string) {
	t.Helper()
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	stream, err := client.Post(here+"/http_stream?user=ann", "application/json", strings.NewReader(`{"id":1,"connect":{}}`))
	require.NoError(t, err)
	defer stream.Body.Close()
	lines := bufio.NewScanner(stream.Body)
	require.True(t, lines.Scan())
	var hello struct {
		Connect struct{ Session, Node string }
	}
	require.NoError(t, json.Unmarshal(lines.Bytes(), &hello))
	body, err := json.Marshal(map[string]string{
		"session": hello.Connect.Session, "node": hello.Connect.Node, "data": `{"id":2,"subscribe":{"channel":"room:3"}}`,
	})
	require.NoError(t, err)
	posted, err := client.Post(there+"/emulation", "application/json", strings.NewReader(string(body)))
	require.NoError(t, err)
	require.NoError(t, posted.Body.Close())
	require.Equal(t, http.StatusNoContent, posted.StatusCode)
	require.True(t, lines.Scan())
	require.Contains(t, lines.Text(), `"id":2,"subscribe"`)
}

func TestCluster_ConnectionLimit(t *testing.T) {
	t.Parallel()
	c := newCluster(t, func(config *fanfare.Config) { config.MaxUserConnections = 2 })
	ann, _ := c.everywhere(t, "ann")
	for _, m := range c.members {
		dialPeer(t, m.url+"/websocket?user=ann", `{}`).closed(3504)
	}
	require.NoError(t, ann[0].conn.CloseNow())
	require.Eventually(t, func() bool {
		p := dialPeer(t, c.members[1].url+"/websocket?user=ann", `{}`)
		_, err := p.read()
		return err == nil
	}, patience, 10*time.Millisecond, "a place that became free on one node is free on the other")
}

// A session that is over ends its connections on every node, and lets nobody in again.
func TestCluster_Logout(t *testing.T) {
	t.Parallel()
	for name, interval := range map[string]time.Duration{"disconnect": 0, "revalidate": 100 * time.Millisecond} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var c *cluster
			c = newCluster(t, func(config *fanfare.Config) {
				if interval > 0 {
					config.Revalidate = fanfare.Revalidate{Interval: interval, Check: func(_ context.Context, r *fanfare.RevalidateRequest) error {
						if r.Client.User() == *c.out.Load() {
							return fanfare.ErrUnauthorized
						}
						return nil
					}}
				}
			})
			ann, other := c.everywhere(t, "ann")
			user := "ann"
			c.out.Store(&user)
			if interval == 0 {
				require.NoError(t, c.members[0].Disconnect(t.Context(), "ann", nil))
			}
			for _, p := range ann {
				_, err := p.read()
				require.Error(t, err)
			}
			for _, m := range c.members {
				dialPeer(t, m.url+"/websocket?user=ann", `{}`).hears(`"error":{"code":101`)
			}
			other.goesOn()
		})
	}
}
