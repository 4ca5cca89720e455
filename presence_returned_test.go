package fanfare_test

import (
	"fmt"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare"
	"github.com/fanfare-go/fanfare/fanfaretest"
)

// returning is a node that others take for dead, with a watcher and some clients in its channel "room".
type returning struct {
	*testing.T
	*mortalPresence
	node    *fanfare.Node
	broker  *faultBroker
	watcher *fanfaretest.Client
	clients []*fanfaretest.Client
	members []fanfare.ClientInfo // of the clients, in their order
}

func startReturning(t *testing.T, o fanfare.ChannelOptions, users ...string) *returning {
	r := &returning{T: t, mortalPresence: &mortalPresence{MemoryPresence: fanfare.NewMemoryPresence()}, broker: newFaultBroker(t)}
	r.node = startNode(t, r.broker.config, func(c *fanfare.Config) { c.Presence = r.mortalPresence })
	o.Public, o.Presence, o.ForceJoinLeave = true, true, true
	r.node.Channel("room", o)
	r.watcher = enter(t, r.node, "watcher")
	for _, user := range users {
		c := enter(t, r.node, user)
		r.clients = append(r.clients, c)
		r.members = append(r.members, fanfare.ClientInfo{User: user, Client: c.ID()})
	}
	r.told()
	return r
}

// told is what the watcher was told since it was asked last.
func (r *returning) told() []string {
	r.Helper()
	return events(r.watcher)
}

// back tells the node that members are in again.
func (r *returning) back(members ...fanfare.ClientInfo) { r.revive(r.node.ID(), "room", members...) }

// leave is what another node tells of a member of this one.
func (r *returning) leave(m fanfare.ClientInfo) {
	r.Helper()
	require.NoError(r, r.broker.PublishMembership(r.Context(), "room", fanfare.Membership{Info: m}))
}

// holdTold makes the broker hold back the next join or leave until the function that it returns is called.
func (r *returning) holdTold() (release func()) {
	var held atomic.Bool
	gate := make(chan struct{})
	r.broker.set(func() {
		r.broker.onMembership = func() {
			if held.CompareAndSwap(false, true) {
				<-gate
			}
		}
	})
	return func() { close(gate) }
}

var eachJoinLeave = map[string]fanfare.ChannelOptions{
	"each client":             {},
	"each client, with grace": {PresenceGrace: 10 * time.Second},
	"per user":                {JoinLeavePerUser: true},
	"per user, with grace":    {JoinLeavePerUser: true, PresenceGrace: 10 * time.Second},
}

func TestPresence_NodeTakenForDead(t *testing.T) {
	for name, o := range eachJoinLeave {
		once := func(users ...string) (joins []string) { // as often as they are told of
			if o.JoinLeavePerUser {
				slices.Sort(users)
				users = slices.Compact(users)
			}
			for _, user := range users {
				joins = append(joins, "room join "+user)
			}
			return joins
		}
		inBubble(t, name+": its members come again", func(t *testing.T) {
			r := startReturning(t, o, "ann", "ben", "ben")
			r.back(r.members...)
			require.ElementsMatch(t, once("ann", "ben", "ben"), r.told())
		})
		inBubble(t, name+": anonymous ones are told of each", func(t *testing.T) {
			r := startReturning(t, o, "", "")
			r.back(r.members...)
			require.Equal(t, []string{"room join ", "room join "}, r.told())
		})
		inBubble(t, name+": in parts", func(t *testing.T) {
			r := startReturning(t, o, "ann", "ann")
			for _, m := range r.members {
				r.back(m)
				require.Equal(t, []string{"room join ann"}, r.told(), "a second join does no harm")
			}
		})
		inBubble(t, name+": not those that have gone", func(t *testing.T) {
			r := startReturning(t, o, "ann", "ben")
			r.clients[0].Close()
			time.Sleep(time.Minute)
			r.told()
			r.back(r.members...)
			require.Equal(t, []string{"room join ben"}, r.told())
		})
		inBubble(t, name+": who went meanwhile and comes again is told of", func(t *testing.T) {
			r := startReturning(t, o, "ann")
			r.clients[0].Close()
			synctest.Wait()
			r.leave(r.members[0]) // what others may have told
			r.back(r.members...)
			r.told()
			enter(t, r.node, "ann")
			told := r.told()
			require.Equal(t, "room join ann", told[len(told)-1], "%v", told)
		})
		inBubble(t, name+": who went meanwhile for good leaves, though others may have told that already", func(t *testing.T) {
			for _, others := range []bool{false, true} {
				r := startReturning(t, o, "ann")
				r.clients[0].Close()
				synctest.Wait()
				if others {
					r.leave(r.members[0])
				}
				r.back(r.members...)
				time.Sleep(time.Minute)
				told := r.told()
				require.Equal(t, "room leave ann", told[len(told)-1], "%v", told)
			}
		})
		inBubble(t, name+": a second return", func(t *testing.T) {
			r := startReturning(t, o, "ann")
			for range 3 {
				r.back(r.members...)
				require.Equal(t, []string{"room join ann"}, r.told())
				time.Sleep(50 * time.Second)
			}
			r.leave(r.members[0])
			require.Equal(t, []string{"room leave ann", "room join ann"}, r.told(), "a minute after the last")
		})
		inBubble(t, name+": after an interruption, in which late leaves may have been missed", func(t *testing.T) {
			r := startReturning(t, o, "ann")
			r.back(r.members...)
			r.told()
			r.broker.interrupt()
			require.Equal(t, []string{"room join ann"}, r.told())
		})
		inBubble(t, name+": joins that cannot be published are told later", func(t *testing.T) {
			r := startReturning(t, o, "ann", "ben")
			r.broker.set(func() { r.broker.membershipErr = fanfare.ErrUnavailable })
			r.back(r.members...)
			time.Sleep(5 * time.Second)
			require.Empty(t, r.told())
			r.broker.set(func() { r.broker.membershipErr = nil })
			time.Sleep(5 * time.Second)
			require.ElementsMatch(t, []string{"room join ann", "room join ben"}, r.told())
		})
		inBubble(t, name+": the node goes while joins cannot be published", func(t *testing.T) {
			r := startReturning(t, o, "ann")
			r.broker.set(func() { r.broker.membershipErr = fanfare.ErrUnavailable })
			r.back(r.members...)
			synctest.Wait()
			began := time.Now()
			require.NoError(t, r.node.Shutdown(t.Context()))
			require.Less(t, time.Since(began), 5*time.Second)
		})
		inBubble(t, name+": one of a user's two goes while the joins are told", func(t *testing.T) {
			for i := range 2 {
				r := startReturning(t, o, "ann", "ann")
				release := r.holdTold()
				r.back(r.members...)
				synctest.Wait()
				r.clients[i].Close()
				synctest.Wait()
				release()
				told := r.told()
				require.Contains(t, told, "room join ann")
				if o.JoinLeavePerUser {
					require.NotContains(t, told, "room leave ann")
				}
			}
		})
		inBubble(t, name+": a client that goes while its join is told has left", func(t *testing.T) {
			r := startReturning(t, o, "ann")
			release := r.holdTold()
			r.back(r.members...)
			synctest.Wait()
			r.clients[0].Close()
			synctest.Wait()
			release()
			time.Sleep(time.Minute)
			told := r.told()
			require.Equal(t, "room leave ann", told[len(told)-1], "%v", told)
		})
		inBubble(t, name+": a client that subscribes again while its join is told is there", func(t *testing.T) {
			r := startReturning(t, o, "ann")
			release := r.holdTold()
			r.back(r.members...)
			synctest.Wait()
			again := make(chan error, 1)
			go func() {
				err := r.clients[0].Unsubscribe("room")
				if err == nil {
					_, err = r.clients[0].Subscribe("room")
				}
				again <- err
			}()
			synctest.Wait()
			release()
			require.NoError(t, <-again)
			told := r.told()
			require.Equal(t, "room join ann", told[len(told)-1], "%v", told)
		})
		inBubble(t, name+": a leave that comes late is contradicted", func(t *testing.T) {
			r := startReturning(t, o, "ann", "ben")
			r.back(r.members...)
			r.told()
			time.Sleep(30 * time.Second)
			r.leave(r.members[0])
			require.Equal(t, []string{"room leave ann", "room join ann"}, r.told())
			r.leave(fanfare.ClientInfo{User: "other", Client: "another node's"})
			require.Equal(t, []string{"room leave other"}, r.told())
			time.Sleep(time.Minute)
			r.leave(r.members[1])
			require.Equal(t, []string{"room leave ben"}, r.told(), "nobody tells what was a minute ago")
		})
		inBubble(t, name+": leave and join of what the node itself had to sweep", func(t *testing.T) {
			r := startReturning(t, o, "ann")
			r.bury(t, r.node.ID(), "room", r.members...)
			r.back(r.members...)
			told := r.told()
			require.Equal(t, "room join ann", told[len(told)-1], "%v", told)
		})
	}
	inBubble(t, "a leave of a user names a client that had left before", func(t *testing.T) {
		r := startReturning(t, fanfare.ChannelOptions{JoinLeavePerUser: true}, "ann", "ann")
		r.clients[1].Close()
		synctest.Wait()
		r.back(r.members[0])
		r.told()
		r.leave(r.members[1])
		require.Equal(t, []string{"room leave ann", "room join ann"}, r.told())
	})
	inBubble(t, "a user whose last two clients go while nobody is told", func(t *testing.T) {
		r := startReturning(t, fanfare.ChannelOptions{JoinLeavePerUser: true}, "ann", "ann")
		release := r.holdTold()
		r.back(r.members...)
		synctest.Wait()
		for _, c := range r.clients {
			c.Close()
		}
		synctest.Wait()
		release()
		time.Sleep(time.Second)
		told := r.told()
		require.Equal(t, "room leave ann", told[len(told)-1], "%v", told)
	})
	inBubble(t, "a client whose coming nobody is to know", func(t *testing.T) {
		for name, o := range eachJoinLeave {
			r := startReturning(t, o)
			hidden := fanfaretest.Connect(t, r.node, "hidden")
			off := false
			require.NoError(t, r.node.Subscribe(t.Context(), "hidden", "room", fanfare.SubscribeReply{Override: &fanfare.Override{JoinLeave: &off}}))
			synctest.Wait()
			r.back(fanfare.ClientInfo{User: "hidden", Client: hidden.ID()})
			require.Empty(t, r.told(), name)
		}
	})
	inBubble(t, "who is away comes back at another node", func(t *testing.T) {
		broker, p := fanfare.NewMemoryBroker(fanfare.MemoryBrokerConfig{}), &mortalPresence{MemoryPresence: fanfare.NewMemoryPresence()}
		t.Cleanup(func() { require.NoError(t, broker.Close()) })
		var nodes []*fanfare.Node
		for range 2 {
			n := startNode(t, func(c *fanfare.Config) { c.Broker, c.Presence = broker, p })
			n.Channel("room", fanfare.ChannelOptions{Public: true, Presence: true, ForceJoinLeave: true, JoinLeavePerUser: true, PresenceGrace: 10 * time.Second})
			nodes = append(nodes, n)
		}
		watcher, ann := enter(t, nodes[1], "watcher"), enter(t, nodes[0], "ann")
		gone := fanfare.ClientInfo{User: "ann", Client: ann.ID()}
		ann.Close()
		synctest.Wait()
		require.NoError(t, broker.PublishMembership(t.Context(), "room", fanfare.Membership{Info: gone}))
		p.revive(nodes[0].ID(), "room", gone)
		events(watcher)
		enter(t, nodes[1], "ann")
		time.Sleep(time.Minute)
		told := events(watcher)
		require.Equal(t, "room join ann", told[len(told)-1], "%v", told)
	})
	inBubble(t, "two nodes at once do not leave a user to each other", func(t *testing.T) {
		broker, p := fanfare.NewMemoryBroker(fanfare.MemoryBrokerConfig{}), &mortalPresence{MemoryPresence: fanfare.NewMemoryPresence()}
		t.Cleanup(func() { require.NoError(t, broker.Close()) })
		var nodes []*fanfare.Node
		for range 3 {
			n := startNode(t, func(c *fanfare.Config) { c.Broker, c.Presence = broker, p })
			n.Channel("room", fanfare.ChannelOptions{Public: true, Presence: true, ForceJoinLeave: true, JoinLeavePerUser: true})
			nodes = append(nodes, n)
		}
		watcher := enter(t, nodes[2], "watcher")
		clients := []*fanfaretest.Client{enter(t, nodes[0], "ann"), enter(t, nodes[1], "ann")}
		events(watcher)
		for i, c := range clients {
			p.revive(nodes[i].ID(), "room", fanfare.ClientInfo{User: "ann", Client: c.ID()})
		}
		require.Contains(t, events(watcher), "room join ann")
	})
	inBubble(t, "nobody is told in a channel that tells nobody", func(t *testing.T) {
		r := startReturning(t, fanfare.ChannelOptions{}, "ann")
		r.node.Channel("quiet", fanfare.ChannelOptions{Public: true, Presence: true})
		requireSubscribe(t, r.watcher, "quiet")
		requireSubscribe(t, r.clients[0], "quiet")
		for _, channel := range []string{"quiet", "undeclared"} {
			r.revive(r.node.ID(), channel, r.members...)
		}
		require.Empty(t, r.told())
	})
	inBubble(t, "many", func(t *testing.T) {
		var users []string
		var want []string
		for i := range 300 {
			users = append(users, fmt.Sprint("user", i))
			want = append(want, "room join "+users[i])
		}
		r := startReturning(t, fanfare.ChannelOptions{}, users...)
		for some := range slices.Chunk(r.members, 7) {
			r.back(some...)
		}
		require.ElementsMatch(t, want, r.told())
	})
}
