package prommetrics_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coder/websocket"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare"
	"github.com/fanfare-go/fanfare/fanfaretest"
	"github.com/fanfare-go/fanfare/prommetrics"
)

// peer is a WebSocket that speaks the protocol by hand.
type peer struct {
	t    *testing.T
	conn *websocket.Conn
	id   int
}

func dial(t *testing.T, server *httptest.Server) *peer {
	t.Helper()
	conn, _, err := websocket.Dial(t.Context(), server.URL+"/connection/websocket", nil)
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.CloseNow() })
	p := &peer{t: t, conn: conn}
	p.do(`"connect":{}`)
	return p
}

// do sends a command and returns what comes next.
func (p *peer) do(command string) string {
	p.t.Helper()
	p.id++
	require.NoError(p.t, p.conn.Write(p.t.Context(), websocket.MessageText, fmt.Appendf(nil, `{"id":%d,%s}`, p.id, command)))
	return p.next()
}

func (p *peer) next() string {
	p.t.Helper()
	_, frame, err := p.conn.Read(p.t.Context())
	require.NoError(p.t, err)
	return string(frame)
}

func TestCollector_RealConnections(t *testing.T) {
	node := start(t, prommetrics.New(prommetrics.Config{}), func(c *fanfare.Config) { c.Authenticate = nil })
	node.Channel("room:{id}", fanfare.ChannelOptions{Public: true})
	node.RPC("echo", func(_ context.Context, r *fanfare.RPCRequest) ([]byte, error) { return r.Data, nil })
	server := httptest.NewServer(node)
	t.Cleanup(server.Close)

	ann, bob := dial(t, server), dial(t, server)
	for _, p := range []*peer{ann, bob} {
		require.Contains(t, p.do(`"subscribe":{"channel":"room:secret"}`), `"subscribe":{}`)
	}
	require.Contains(t, ann.do(`"subscribe":{"channel":"nowhere"}`), `"code":102`)
	require.Contains(t, ann.do(`"rpc":{"method":"made up by a client"}`), `"code":104`)
	require.Contains(t, ann.do(`"rpc":{"method":"echo","data":1}`), `"data":1`)
	for range 3 {
		_, err := node.Publish(t.Context(), "room:secret", []byte(`"12345"`))
		require.NoError(t, err)
		require.Contains(t, ann.next(), "12345")
		require.Contains(t, bob.next(), "12345")
	}
	require.Eventually(t, func() bool {
		return gather(t, node.registry)[`fanfare_delivery_lag_seconds_count{pattern="room:{id}"}`] == 3
	}, 10*time.Second, time.Millisecond)
	node.requireSeries(t, map[string]float64{
		`fanfare_connections{transport="websocket"}`: 2,
		`fanfare_connections_pending`:                0,
		`fanfare_users`:                              1,
		`fanfare_channels`:                           1,
		`fanfare_subscriptions{pattern="room:{id}"}`: 2,
		`fanfare_queue_messages`:                     0,
		`fanfare_queue_bytes`:                        0,
		`fanfare_connects_total{outcome="accepted",transport="websocket"}`: 2,
		`fanfare_commands_total{code="0",method="connect"}`:                2,
		`fanfare_commands_total{code="0",method="subscribe"}`:              2,
		`fanfare_commands_total{code="102",method="subscribe"}`:            1,
		`fanfare_commands_total{code="104",method="rpc"}`:                  1,
		`fanfare_commands_total{code="0",method="rpc"}`:                    1,
		`fanfare_command_duration_seconds_count{method="rpc"}`:             2,
		`fanfare_publications_total{pattern="room:{id}"}`:                  3,
		`fanfare_publication_bytes_total{pattern="room:{id}"}`:             21,
		`fanfare_deliveries_total{pattern="room:{id}"}`:                    6,
		`fanfare_dropped_publications_total{pattern="room:{id}"}`:          0,
	})
	problems, err := testutil.GatherAndLint(node.registry)
	require.NoError(t, err)
	require.Empty(t, problems)
	for series := range gather(t, node.registry) {
		require.NotContains(t, series, "secret", "channels are no labels")
		require.NotContains(t, series, "made up", "nor is what clients make up")
	}

	require.NoError(t, bob.conn.Close(websocket.StatusNormalClosure, ""))
	ann.conn.CloseRead(t.Context())
	require.NoError(t, node.Disconnect(t.Context(), "", fanfare.DisconnectForce))
	require.Eventually(t, func() bool {
		s := gather(t, node.registry)
		return s[`fanfare_connections{transport="websocket"}`] == 0 && s[`fanfare_disconnects_total{code="3503",transport="websocket"}`] >= 1
	}, 10*time.Second, time.Millisecond)
	node.requireSeries(t, map[string]float64{`fanfare_subscriptions{pattern="room:{id}"}`: 0, `fanfare_channels`: 0})
}

// TestCollector_Trouble: what an operator looks for.
func TestCollector_Trouble(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		node := start(t, prommetrics.New(prommetrics.Config{}), func(c *fanfare.Config) { c.MaxQueueSize = 1000 })
		node.Channel("kept:{id}", fanfare.ChannelOptions{Public: true, History: fanfare.History{Size: 10, TTL: time.Hour}})
		node.Channel("lossy", fanfare.ChannelOptions{Public: true, SlowReader: fanfare.SlowReaderDropOldest})
		node.RPC("slow", func(context.Context, *fanfare.RPCRequest) ([]byte, error) {
			time.Sleep(2 * time.Second)
			return nil, nil
		})
		node.RPC("panic", func(context.Context, *fanfare.RPCRequest) ([]byte, error) { panic("boom") })
		before := gather(t, node.registry)
		for _, series := range []string{`fanfare_hook_panics_total{hook="RPC"}`, `fanfare_hook_panics_total{hook="Revalidate"}`,
			`fanfare_dropped_publications_total{pattern="lossy"}`,
			`fanfare_recoveries_total{outcome="failed",pattern="kept:{id}"}`, `fanfare_repairs_total{outcome="incomplete",pattern="kept:{id}"}`} {
			value, ok := before[series]
			require.True(t, ok, "%s is there from the beginning", series)
			require.Zero(t, value)
		}

		for range 3 {
			publish(t, node, "kept:1", `1`)
		}
		first, second := fanfaretest.Connect(t, node.Node, "ann"), fanfaretest.Connect(t, node.Node, "ann")
		top, err := node.History(t.Context(), "kept:1", fanfare.HistoryQuery{})
		require.NoError(t, err)
		_, err = first.Subscribe("kept:1", fanfaretest.Recover(fanfare.Position{Epoch: top.Epoch, Offset: 1}))
		require.NoError(t, err)
		_, err = second.Subscribe("kept:1", fanfaretest.Recover(fanfare.Position{Epoch: "another", Offset: 1}))
		require.NoError(t, err)

		stalled := fanfaretest.Connect(t, node.Node, "bob", fanfaretest.WithWriteTimeout(time.Hour))
		_, err = stalled.Subscribe("lossy")
		require.NoError(t, err)
		stalled.Stall()
		for range 50 {
			publish(t, node, "lossy", `1`)
		}
		synctest.Wait()
		series := gather(t, node.registry)
		require.Positive(t, series[`fanfare_queue_messages`])
		require.Positive(t, series[`fanfare_queue_bytes`])
		require.EqualValues(t, 50, series[`fanfare_dropped_publications_total{pattern="lossy"}`]+series[`fanfare_queue_messages`]+1,
			"one is being written, others wait, and the rest was dropped")

		_, err = first.RPC("slow", nil)
		require.NoError(t, err)
		_, err = first.RPC("panic", nil)
		require.Error(t, err)
		_, err = fanfaretest.Dial(t, node.Node, "").Connect()
		require.NoError(t, err)
		synctest.Wait()
		node.requireSeries(t, map[string]float64{
			`fanfare_recoveries_total{outcome="recovered",pattern="kept:{id}"}`: 1,
			`fanfare_recoveries_total{outcome="failed",pattern="kept:{id}"}`:    1,
			`fanfare_recovered_publications_total{pattern="kept:{id}"}`:         2,
			`fanfare_slow_hook_duration_seconds_count{hook="RPC"}`:              1,
			`fanfare_slow_hook_duration_seconds_sum{hook="RPC"}`:                2,
			`fanfare_hook_panics_total{hook="RPC"}`:                             1,
			`fanfare_disconnects_total{code="3004",transport="memory"}`:         1,
		})
		stalled.Resume()
		synctest.Wait()
		node.requireSeries(t, map[string]float64{`fanfare_queue_messages`: 0, `fanfare_queue_bytes`: 0})
	})
}

func publish(t *testing.T, node *scraped, channel, data string) {
	t.Helper()
	_, err := node.Publish(t.Context(), channel, []byte(data))
	require.NoError(t, err)
}

func TestCollector_Outcomes(t *testing.T) {
	node := start(t, prommetrics.New(prommetrics.Config{}))
	node.Channel("x", fanfare.ChannelOptions{})
	m := node.metrics
	m.Connected("websocket", time.Second, nil)
	m.Connected("websocket", time.Second, fanfare.ErrUnauthorized)
	m.Connected("websocket", time.Second, fanfare.DisconnectForce)
	m.Connected("websocket", time.Second, errors.New("gone"))
	m.Connected("websocket", time.Second, fmt.Errorf("broker: %w", fanfare.ErrInternal))
	m.Repaired("x", true, 3)
	m.Repaired("x", false, 0)
	m.Repaired("undeclared", false, 0)
	m.HookSlow("RPC made up by a client", 200*time.Millisecond)
	m.Command("rpc", 30*time.Millisecond, 0)
	m.Command("made up", time.Second, 104)
	node.requireSeries(t, map[string]float64{
		`fanfare_connects_total{outcome="accepted",transport="websocket"}`: 1,
		`fanfare_connects_total{outcome="refused",transport="websocket"}`:  2,
		`fanfare_connects_total{outcome="failed",transport="websocket"}`:   2,
		`fanfare_repairs_total{outcome="repaired",pattern="x"}`:            1,
		`fanfare_repairs_total{outcome="incomplete",pattern="x"}`:          1,
		`fanfare_repaired_publications_total{pattern="x"}`:                 3,
		`fanfare_repairs_total{outcome="incomplete",pattern="unknown"}`:    1,
		`fanfare_slow_hook_duration_seconds_count{hook="RPC"}`:             1,
		`fanfare_command_duration_seconds_sum{method="rpc"}`:               0.03,
		`fanfare_commands_total{code="104",method="other"}`:                1,
		`fanfare_command_duration_seconds_count{method="other"}`:           1,
	})
}

// TestCollector_Bounds: whatever happens, there are only so many series.
func TestCollector_Bounds(t *testing.T) {
	node := start(t, prommetrics.New(prommetrics.Config{}))
	for i := range 1000 {
		node.Channel(fmt.Sprintf("p%d:{id}", i), fanfare.ChannelOptions{})
	}
	node.Channel("\xff:{id}", fanfare.ChannelOptions{})
	var wg sync.WaitGroup
	for g := range 4 {
		wg.Go(func() {
			for i := range 1000 {
				node.metrics.Published(fmt.Sprintf("p%d:%d", i, g), 1, 1)
				node.metrics.Disconnected(fmt.Sprintf("t%d\xff", i), uint32(i))
				node.metrics.Disconnected("websocket", uint32(i))
				node.metrics.Command(fmt.Sprintf("m%d", i), 0, uint32(i))
				node.metrics.HookPanicked(fmt.Sprintf("h%d", i))
			}
			node.metrics.Published("\xff:1", 1, 1)
		})
	}
	wg.Wait()
	bySeries := make(map[string]int)
	total := make(map[string]float64)
	for series, value := range gather(t, node.registry) {
		name, _, _ := strings.Cut(series, "{")
		bySeries[name]++
		total[name] += value
	}
	require.Equal(t, 201, bySeries["fanfare_publications_total"])
	require.EqualValues(t, 4004, total["fanfare_publications_total"], "what is beyond the bounds is counted")
	require.LessOrEqual(t, bySeries["fanfare_subscriptions"], 201)
	require.LessOrEqual(t, bySeries["fanfare_disconnects_total"], 51*101)
	require.EqualValues(t, 8000, total["fanfare_disconnects_total"])
	require.LessOrEqual(t, bySeries["fanfare_commands_total"], 13*101)
	require.EqualValues(t, 4000, total["fanfare_commands_total"])
	require.Equal(t, 51, bySeries["fanfare_hook_panics_total"])
}

func TestCollector_Register(t *testing.T) {
	registry := prometheus.NewPedanticRegistry()
	c := prommetrics.New(prommetrics.Config{})
	require.NoError(t, c.Register(registry))
	require.NoError(t, c.Register(registry))
	require.Error(t, prommetrics.New(prommetrics.Config{}).Register(registry), "another of the same names")
	require.NoError(t, prommetrics.New(prommetrics.Config{Namespace: "app_live"}).Register(registry))
	_, err := registry.Gather()
	require.NoError(t, err)
	require.NoError(t, c.Register(prometheus.NewPedanticRegistry()), "in another registry it is the first time")
}

func TestCollector_SeveralNodes(t *testing.T) {
	t.Run("each its own", func(t *testing.T) {
		registry := prometheus.NewPedanticRegistry()
		for i, name := range []string{"a", "b"} {
			metrics := prommetrics.New(prommetrics.Config{ConstLabels: prometheus.Labels{"node": name}})
			node := start(t, metrics)
			require.NoError(t, metrics.Register(registry))
			for range i + 1 {
				fanfaretest.Connect(t, node.Node, "ann")
			}
		}
		series := gather(t, registry)
		require.EqualValues(t, 1, series[`fanfare_connections{node="a",transport="memory"}`])
		require.EqualValues(t, 2, series[`fanfare_connections{node="b",transport="memory"}`])
		require.EqualValues(t, 2, series[`fanfare_connects_total{node="b",outcome="accepted",transport="memory"}`])
	})
	t.Run("one for both", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			metrics := prommetrics.New(prommetrics.Config{})
			a, b := start(t, metrics), start(t, metrics)
			a.Channel("x", fanfare.ChannelOptions{Public: true})
			b.Channel("x", fanfare.ChannelOptions{Public: true})
			b.Channel("y", fanfare.ChannelOptions{Public: true})
			metrics.Attach(a.Node) // again
			for _, node := range []*scraped{a, b} {
				_, err := fanfaretest.Connect(t, node.Node, "ann").Subscribe("x")
				require.NoError(t, err)
				publish(t, node, "x", `1`)
			}
			_, err := fanfaretest.Connect(t, b.Node, "ann").Subscribe("y")
			require.NoError(t, err)
			publish(t, b, "y", `1`)
			synctest.Wait()
			a.requireSeries(t, map[string]float64{
				`fanfare_connections{transport="memory"}`: 3,
				`fanfare_subscriptions{pattern="x"}`:      2,
				`fanfare_subscriptions{pattern="y"}`:      1,
				`fanfare_publications_total{pattern="x"}`: 2,
				`fanfare_publications_total{pattern="y"}`: 1,
			})
			require.NoError(t, b.Shutdown(t.Context()))
			a.requireSeries(t, map[string]float64{
				`fanfare_connections{transport="memory"}`: 1,
				`fanfare_subscriptions{pattern="x"}`:      1,
				`fanfare_publications_total{pattern="x"}`: 2,
			})
		})
	})
}

// TestCollector_Scrapes looks all the time at a node on which much happens.
func TestCollector_Scrapes(t *testing.T) {
	node := start(t, prommetrics.New(prommetrics.Config{}))
	node.Channel("room:{id}", fanfare.ChannelOptions{Public: true})
	done := make(chan struct{})
	var clients, scrapes sync.WaitGroup
	for i := range 4 {
		clients.Go(func() {
			for k := range 20 {
				node.Channel(fmt.Sprintf("p%d:%d:{id}", i, k), fanfare.ChannelOptions{})
				c := fanfaretest.Connect(t, node.Node, fmt.Sprint(i))
				if _, err := c.Subscribe("room:1"); err != nil {
					t.Error(err)
				}
				if _, err := node.Publish(t.Context(), "room:1", []byte(`1`)); err != nil {
					t.Error(err)
				}
				c.Close()
			}
		})
	}
	for range 2 {
		scrapes.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
				}
				if _, err := node.registry.Gather(); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	clients.Wait()
	close(done)
	scrapes.Wait()
	node.requireSeries(t, map[string]float64{
		`fanfare_connects_total{outcome="accepted",transport="memory"}`: 80,
		`fanfare_publications_total{pattern="room:{id}"}`:               80,
	})
}

func TestCollector_APublicationAllocatesNothing(t *testing.T) {
	node := start(t, prommetrics.New(prommetrics.Config{}))
	node.Channel("room:{id}", fanfare.ChannelOptions{})
	require.Zero(t, testing.AllocsPerRun(100, func() {
		node.metrics.Published("room:1", 100, 1000)
		node.metrics.Delivered("room:1", time.Millisecond)
	}))
}

// An app's own observer may stand in front.
type fronted struct {
	*prommetrics.Collector
	published int
}

func (f *fronted) Published(channel string, size, subscribers int) {
	f.published++
	f.Collector.Published(channel, size, subscribers)
}

func TestCollector_Embedded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		front := &fronted{Collector: prommetrics.New(prommetrics.Config{})}
		node := start(t, front.Collector, func(c *fanfare.Config) { c.Observer = front })
		node.Channel("x", fanfare.ChannelOptions{Public: true})
		_, err := fanfaretest.Connect(t, node.Node, "ann").Subscribe("x")
		require.NoError(t, err)
		publish(t, node, "x", `1`)
		synctest.Wait()
		require.Equal(t, 1, front.published)
		node.requireSeries(t, map[string]float64{
			`fanfare_publications_total{pattern="x"}`: 1,
			`fanfare_subscriptions{pattern="x"}`:      1,
		})
	})
}

func TestNew_Config(t *testing.T) {
	for name, config := range map[string]prommetrics.Config{
		`Config.Namespace: "a-b"`:             {Namespace: "a-b"},
		`Config.ConstLabels: "a-b"`:           {ConstLabels: prometheus.Labels{"a-b": "1"}},
		`Config.ConstLabels: "__a"`:           {ConstLabels: prometheus.Labels{"__a": "1"}},
		`a label "pattern" of their own`:      {ConstLabels: prometheus.Labels{"pattern": "1"}},
		`a label "le" of their own`:           {ConstLabels: prometheus.Labels{"le": "1"}},
		`Config.Buckets: each must be larger`: {Buckets: []float64{1, 1}},
		`Config.Buckets: each must`:           {Buckets: []float64{math.NaN()}},
	} {
		t.Run(name, func(t *testing.T) {
			defer func() { require.ErrorContains(t, fmt.Errorf("%v", recover()), name) }()
			prommetrics.New(config)
		})
	}
	c := prommetrics.New(prommetrics.Config{Namespace: "app", Buckets: []float64{1, 2}})
	c.Command("rpc", 1500*time.Millisecond, 0)
	require.NoError(t, testutil.CollectAndCompare(&one{c}, strings.NewReader(`
# HELP app_command_duration_seconds Time from when a command's turn came until its answer was queued.
# TYPE app_command_duration_seconds histogram
app_command_duration_seconds_bucket{method="rpc",le="1"} 0
app_command_duration_seconds_bucket{method="rpc",le="2"} 1
app_command_duration_seconds_bucket{method="rpc",le="+Inf"} 1
app_command_duration_seconds_sum{method="rpc"} 1.5
app_command_duration_seconds_count{method="rpc"} 1
`), "app_command_duration_seconds"))
}

// one is a collector of which only the method rpc is collected.
type one struct{ prometheus.Collector }

func (o *one) Collect(ch chan<- prometheus.Metric) {
	all := make(chan prometheus.Metric)
	go func() {
		defer close(all)
		o.Collector.Collect(all)
	}()
	for m := range all {
		if strings.Contains(labels(m), `method="rpc"`) {
			ch <- m
		}
	}
}
