package fanfare_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare"
	"github.com/fanfare-go/fanfare/fanfaretest"
)

func TestSelect(t *testing.T) {
	type connections struct{ here, there, uni *fanfaretest.Client }
	// start connects ann twice to the node that is told what to do, once of these one-way, and once to another.
	start := func(t *testing.T) (*fanfare.Node, connections, string) {
		cluster := startCluster(t)
		a, b := cluster.start(), cluster.start()
		uni := fanfaretest.Dial(t, a, "ann", fanfaretest.Unidirectional())
		welcome, err := uni.Connect()
		require.NoError(t, err)
		c := connections{fanfaretest.Connect(t, a, "ann", fanfaretest.WithToken("t")), fanfaretest.Connect(t, b, "ann", fanfaretest.WithToken("t")), uni}
		for _, k := range []*fanfaretest.Client{c.here, c.there, c.uni} {
			received(t, k)
			k.Events()
		}
		return a, c, welcome.Session
	}
	for name, test := range map[string]struct {
		opts             func(c connections, session string) []fanfare.SelectOption
		here, there, uni bool
	}{
		"all": {func(connections, string) []fanfare.SelectOption { return nil }, true, true, true},
		"one client": {func(c connections, _ string) []fanfare.SelectOption {
			return []fanfare.SelectOption{fanfare.OnlyClient(c.here.ID())}
		}, true, false, false},
		"one client on another node": {func(c connections, _ string) []fanfare.SelectOption {
			return []fanfare.SelectOption{fanfare.OnlyClient(c.there.ID())}
		}, false, true, false},
		"no client": {func(connections, string) []fanfare.SelectOption {
			return []fanfare.SelectOption{fanfare.OnlyClient("")}
		}, false, false, false},
		"another session": {func(connections, string) []fanfare.SelectOption {
			return []fanfare.SelectOption{fanfare.OnlySession("x")}
		}, false, false, false},
		"no session": {func(connections, string) []fanfare.SelectOption {
			return []fanfare.SelectOption{fanfare.OnlySession("")}
		}, false, false, false},
		"a session": {func(_ connections, session string) []fanfare.SelectOption {
			return []fanfare.SelectOption{fanfare.OnlySession(session)}
		}, false, false, true},
		"all but some": {func(c connections, _ string) []fanfare.SelectOption {
			return []fanfare.SelectOption{fanfare.ExceptClients(c.there.ID(), "x"), fanfare.ExceptClients(c.uni.ID())}
		}, true, false, false},
		"one, and not that one": {func(c connections, _ string) []fanfare.SelectOption {
			return []fanfare.SelectOption{fanfare.OnlyClient(c.here.ID()), fanfare.ExceptClients(c.here.ID())}
		}, false, false, false},
	} {
		inBubble(t, name, func(t *testing.T) {
			node, c, session := start(t)
			opts := test.opts(c, session)
			want := map[*fanfaretest.Client]bool{c.here: test.here, c.there: test.there, c.uni: test.uni}
			expect := func(operation string, err error) {
				require.NoError(t, err)
				synctest.Wait()
				for k, meant := range want {
					var got []fanfaretest.Kind
					for _, e := range k.Events() {
						got = append(got, e.Kind)
					}
					require.Equal(t, meant, len(got) == 1, "%s: %v", operation, got)
				}
			}
			expect("subscribe", node.Subscribe(t.Context(), "ann", "x", fanfare.SubscribeReply{}, opts...))
			want[c.uni] = false // who has no token is not told of an expiry
			expect("refresh", node.Refresh(t.Context(), "ann", time.Now().Add(time.Hour), opts...))
			want[c.uni] = test.uni
			expect("unsubscribe", node.Unsubscribe(t.Context(), "ann", "x", opts...))
			require.NoError(t, node.Disconnect(t.Context(), "ann", nil, opts...))
			for k, meant := range want {
				if meant {
					requireClosed(t, k, fanfare.DisconnectForce)
				} else {
					requireOpen(t, k)
				}
			}
		})
	}
	inBubble(t, "a client of another user is nobody", func(t *testing.T) {
		node, c, _ := start(t)
		require.NoError(t, node.Disconnect(t.Context(), "ben", nil, fanfare.OnlyClient(c.here.ID())))
		requireOpen(t, c.here)
	})
	inBubble(t, "a logout that spares others does not refuse their connects that are under way", func(t *testing.T) {
		deciding, decided := make(chan string, 2), make(chan struct{})
		node := startNode(t, func(c *fanfare.Config) {
			c.Authenticate = func(_ context.Context, r *fanfare.ConnectRequest) (fanfare.Identity, error) {
				deciding <- r.ClientID
				<-decided
				return fanfare.Identity{User: "ann"}, nil
			}
		})
		one, two := fanfaretest.Dial(t, node, ""), fanfaretest.Dial(t, node, "")
		require.NoError(t, one.Raw(`{"id":1,"connect":{}}`))
		id := <-deciding
		require.NoError(t, two.Raw(`{"id":1,"connect":{}}`))
		synctest.Wait()
		require.NoError(t, node.Disconnect(t.Context(), "ann", nil, fanfare.OnlyClient(id)))
		close(decided)
		requireClosed(t, one, fanfare.DisconnectForce)
		requireOpen(t, two)
	})
}

// FuzzControl: whatever comes from the bus, a node does not panic, and understands what it sends.
func FuzzControl(f *testing.F) {
	for _, seed := range []string{
		`{"op":"disconnect","user":"YW5u","code":3503,"reason":"x"}`,
		`{"op":"selected disconnect","user":"YW5u","select":{"client":"c","session":"s","except":["d"]},"code":3503}`,
		`{"op":"disconnect","user":"YW5u","select":{"client":"c"},"code":3503}`, `{"op":"selected disconnect","code":3503}`,
		`{"op":"selected refresh","select":{},"expire_at":"2030-01-01T00:00:00Z"}`,
		`{"op":"subscribe","user":"YW5u","channel":"eA==","reply":{"Since":{"Offset":1,"Epoch":"e"},"Override":{"Presence":true}}}`,
		`{"op":"survey","survey":{"id":"i","from":"00000000-0000-4000-8000-000000000000","ask":"channels","pattern":"a*"}}`,
		`{"op":"surveyed","survey":{"id":"i","from":"00000000-0000-4000-8000-000000000000","channels":[{"name":"eA==","clients":1}],"more":true}}`,
		`{"op":"gone","survey":{"from":"00000000-0000-4000-8000-000000000000"}}`, `{"op":"survey"}`, `{}`, `null`, `[]`,
	} {
		f.Add([]byte(seed))
	}
	broker := fanfare.NewMemoryBroker(fanfare.MemoryBrokerConfig{})
	node, err := fanfare.New(fanfare.Config{Broker: broker, DrainWindow: -1})
	require.NoError(f, err)
	f.Cleanup(func() {
		require.NoError(f, node.Shutdown(context.Background()))
		require.NoError(f, broker.Close())
	})
	f.Fuzz(func(t *testing.T, data []byte) {
		require.NoError(t, fanfare.RecodeControl(data))
		require.NoError(t, broker.SendControl(t.Context(), "somebody", node.ID(), data))
	})
}
