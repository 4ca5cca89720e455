package redisbroker_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare"
	"github.com/fanfare-go/fanfare/broker/internal/redistest"
	"github.com/fanfare-go/fanfare/broker/redisbroker"
)

// impatient is a broker that gives up soon, and its log.
func impatient(t testing.TB, servers ...redisbroker.Server) (*redisbroker.Broker, *lines) {
	log := &lines{}
	return configured(t, redisbroker.Config{Servers: servers, Timeout: time.Second, Logger: log.logger()}), log
}

func TestFault_APausedServer(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	b, log := impatient(t, at(server.Addr()))
	l, n := attach(t, b, "one", "x")
	before := publish(t, b, "x", "1")
	server.Pause()

	eventually(t, "it is noticed", func() bool { return log.count("Redis is away") == 1 })
	began := time.Now()
	for range 100 {
		_, err := b.Publish(t.Context(), "x", &fanfare.Publication{Data: []byte("lost")}, fanfare.StoreOptions{History: history})
		require.ErrorIs(t, err, redisbroker.ErrUnavailable)
	}
	require.Less(t, time.Since(began), 5*time.Second, "each fails at once")
	require.ErrorIs(t, l.Subscribe(t.Context(), "y"), redisbroker.ErrUnavailable)
	require.NoError(t, l.Unsubscribe(t.Context(), "y"))
	short, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	require.ErrorIs(t, l.Subscribe(short, "z"), context.DeadlineExceeded)
	require.Equal(t, 1, log.count("Redis is away"))

	server.Resume()
	eventually(t, "it serves", func() bool {
		pos, err := b.Publish(t.Context(), "x", &fanfare.Publication{Data: []byte("2")}, fanfare.StoreOptions{History: history})
		return err == nil && pos.Epoch == before.Epoch
	})
	eventually(t, "it delivers", func() bool { return slices.Contains(n.got("x"), "2") })
	eventually(t, "it is said", func() bool { return log.count("Redis is back") == 1 })
	require.Equal(t, 1, log.count("Redis is away"))
	eventually(t, "the node is told", func() bool { return len(n.interruptions()) > 0 })
	require.NoError(t, l.Subscribe(t.Context(), "y"))
}

func TestFault_CallersOfAPausedServerDoNotPileUp(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	b, _ := impatient(t, at(server.Addr()))
	publish(t, b, "x", "1")
	server.Pause()
	began := time.Now()
	const callers = 3000
	failed := make(chan error, callers)
	for range callers {
		go func() {
			_, err := b.Publish(context.Background(), "x", &fanfare.Publication{Data: []byte("2")}, fanfare.StoreOptions{History: history})
			failed <- err
		}()
	}
	for range callers {
		assert.ErrorIs(t, <-failed, redisbroker.ErrUnavailable)
	}
	require.Less(t, time.Since(began), 10*time.Second)
	server.Resume()
	eventually(t, "it serves", func() bool {
		_, err := b.History(t.Context(), "x", fanfare.HistoryQuery{})
		return err == nil
	})
}

func TestFault_ACallersPatienceIsItsOwn(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	b := connect(t, at(server.Addr()))
	publish(t, b, "x", "1")
	connections := received(t, server)
	server.Pause()
	short, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	long := make(chan error, 1)
	go func() {
		_, err := b.History(t.Context(), "x", fanfare.HistoryQuery{})
		long <- err
	}()
	_, err := b.History(short, "x", fanfare.HistoryQuery{})
	require.Equal(t, context.DeadlineExceeded, err)
	server.Resume()
	require.NoError(t, <-long)
	require.Equal(t, connections+1, received(t, server), "nobody but the test connected again")
}

// received returns how many connections a server has had, with that of the question.
func received(t testing.TB, server *redistest.Server) (n int) {
	_, line, _ := strings.Cut(server.CLI("INFO", "stats"), "total_connections_received:")
	_, err := fmt.Sscan(line, &n)
	require.NoError(t, err)
	return n
}

func TestFault_AConnectionForSubscriptionsIsLost(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	b, log := impatient(t, at(server.Addr()))
	channels := make([]string, 3000)
	for i := range channels {
		channels[i] = fmt.Sprint(i)
	}
	_, one := attach(t, b, "one", channels...)
	_, two := attach(t, b, "two", "0")
	other := connect(t, at(server.Addr()))

	// The connection is closed by the server because it does not take what it is sent.
	server.CLI("CONFIG", "SET", "client-output-buffer-limit", "pubsub 100 0 0")
	publish(t, other, "0", strings.Repeat("x", 100_000))
	eventually(t, "it is noticed", func() bool { return log.count("connection for subscriptions lost") > 0 })
	server.CLI("CONFIG", "SET", "client-output-buffer-limit", "pubsub 0 0 0")

	eventually(t, "the nodes are told", func() bool { return len(one.interruptions()) > 0 && len(two.interruptions()) > 0 })
	require.Equal(t, [][]string{nil}, one.interruptions(), "once, of everything")
	for _, c := range channels {
		publish(t, other, c, "after")
	}
	for _, c := range channels {
		eventually(t, "channel "+c+" is there", func() bool { return slices.Contains(one.got(c), "after") })
	}
	require.Zero(t, log.count("Redis is away"))
}

func TestFault_NoConnectionForSubscriptions(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t, "--user app on >secret ~* &* +@all")
	s := at(server.Addr())
	s.Username, s.Password = "app", "secret"
	b, log := impatient(t, s)
	_, n := attach(t, b, "one", "x")
	server.CLI("ACL", "SETUSER", "app", "resetpass", ">changed") // who is logged in stays so
	server.CLI("CLIENT", "KILL", "TYPE", "pubsub")

	const without, again = "no connection for subscriptions", "there is a connection for subscriptions again"
	eventually(t, "it is said", func() bool { return log.count(without) == 1 })
	require.Equal(t, 1, log.count("WRONGPASS"), "why it is so")
	publish(t, b, "x", "missed")
	server.CLI("ACL", "SETUSER", "app", ">secret")
	eventually(t, "that it is there again is said", func() bool { return log.count(again) == 1 })
	eventually(t, "the node is told", func() bool { return len(n.interruptions()) > 0 })
	publish(t, b, "x", "heard")
	eventually(t, "it delivers", func() bool { return slices.Contains(n.got("x"), "heard") })
	require.Equal(t, 1, log.count(without), "once")
	require.Zero(t, log.count("Redis is away"))
}

func TestFault_ASlotMoves(t *testing.T) {
	t.Parallel()
	cluster := redistest.StartCluster(t)
	b := connect(t, at(cluster.Addrs()...))
	_, n := attach(t, b, "one", "moves", "stays")
	before := publish(t, b, "moves", "1")
	publish(t, b, "stays", "1")
	cluster.MoveSlot("fanfare:m:{.moves}")

	// A server may end the subscriptions of a slot more than once while it changes hands; each time it is told.
	var after fanfare.Position
	eventually(t, "it is delivered again", func() bool {
		after = publish(t, b, "moves", "2")
		return slices.Contains(n.got("moves"), "2")
	})
	require.NotEqual(t, before.Epoch, after.Epoch, "another server may not know everything")
	require.NotEmpty(t, n.interruptions())
	for _, channels := range n.interruptions() {
		require.Equal(t, []string{"moves"}, channels)
	}
	h := read(t, b, "moves")
	require.Len(t, h.Publications, int(h.Offset), "offsets go on, and nothing that is stored is lost")
	publish(t, b, "stays", "2")
	eventually(t, "the other is not concerned", func() bool { return slices.Equal(n.got("stays"), []string{"1", "2"}) })
}

func TestFault_AnotherMasterTakesThePlaceOfOneThatIsGone(t *testing.T) {
	t.Parallel()
	cluster := redistest.StartCluster(t, "--cluster-require-full-coverage", "no")
	b, log := impatient(t, at(cluster.Addrs()...))
	gone, channel := cluster.Masters[0], "0"
	for i := 1; cluster.Owner("fanfare:m:{."+channel+"}") != gone; i++ {
		channel = fmt.Sprint(i)
	}
	_, n := attach(t, b, "one", channel)
	publish(t, b, channel, "1")
	_, line, _ := strings.Cut(gone.CLI("CLUSTER", "NODES"), "myself,master")
	line, _, _ = strings.Cut(line, "\n")
	first, last, _ := strings.Cut(strings.Fields(line)[5], "-")
	gone.Kill()
	eventually(t, "it is noticed", func() bool { return log.count("Redis is away") == 1 })
	survivors := cluster.Masters[1:]
	_, err := redisbroker.New(t.Context(), redisbroker.Config{Servers: []redisbroker.Server{at(survivors[0].Addr())}})
	require.ErrorContains(t, err, gone.Addr(), "New needs all masters")

	for _, m := range survivors {
		require.Equal(t, "OK", m.CLI("CLUSTER", "DELSLOTSRANGE", first, last))
	}
	require.Equal(t, "OK", survivors[0].CLI("CLUSTER", "ADDSLOTSRANGE", first, last))
	eventually(t, "it is delivered again, and the node is told", func() bool {
		_, _ = b.Publish(t.Context(), channel, &fanfare.Publication{Data: []byte("2")}, fanfare.StoreOptions{History: history})
		return slices.Contains(n.got(channel), "2") && len(n.interruptions()) > 0
	})
}

func TestFault_UnsubscribeFromAPausedServer(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	b, _ := impatient(t, at(server.Addr()))
	l, n := attach(t, b, "one", "x", "y")
	server.Pause()
	short, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	require.Equal(t, context.DeadlineExceeded, l.Unsubscribe(short, "x"))
	require.NoError(t, l.Unsubscribe(t.Context(), "y"), "nobody is waited for")
	server.Resume()
	eventually(t, "it serves", func() bool { return l.Subscribe(t.Context(), "x") == nil })
	eventually(t, "it delivers", func() bool {
		for _, channel := range []string{"y", "x"} {
			_, _ = b.Publish(t.Context(), channel, &fanfare.Publication{Data: []byte("1")}, fanfare.StoreOptions{History: history})
		}
		return len(n.got("x")) > 0
	})
	require.Empty(t, n.got("y"))
}

func TestFault_AServerThatIsBusy(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t, "--lua-time-limit", "10")
	b, _ := impatient(t, at(server.Addr()))
	l, _ := attach(t, b, "one")
	killed := make(chan struct{})
	go func() {
		defer close(killed)
		_ = server.CLI("EVAL", "while true do end", "0")
	}()
	eventually(t, "it is busy", func() bool { return strings.HasPrefix(server.CLI("PING"), "BUSY") })
	require.ErrorIs(t, l.Subscribe(t.Context(), "x"), redisbroker.ErrUnavailable)
	_, err := b.History(t.Context(), "x", fanfare.HistoryQuery{})
	require.ErrorIs(t, err, redisbroker.ErrUnavailable)

	require.Equal(t, "OK", server.CLI("SCRIPT", "KILL"))
	<-killed
	eventually(t, "it serves", func() bool { return l.Subscribe(t.Context(), "x") == nil })
}

func TestFault_ASubscribeDoesNotDependOnAnotherThatGaveUp(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	b := configured(t, redisbroker.Config{Servers: []redisbroker.Server{at(server.Addr())}, Timeout: patience})
	l, n := attach(t, b, "one")
	server.Kill()
	patient := make(chan error, 1)
	go func() { patient <- l.Subscribe(t.Context(), "x") }()
	for range 3 { // of which at least one gives up after the other has begun
		short, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		require.ErrorIs(t, l.Subscribe(short, "x"), context.DeadlineExceeded)
		cancel()
	}
	server.Start()
	require.NoError(t, <-patient)
	eventually(t, "it delivers", func() bool {
		_, _ = b.Publish(t.Context(), "x", &fanfare.Publication{Data: []byte("1")}, fanfare.StoreOptions{History: history})
		return len(n.got("x")) > 0
	})
}

func TestFault_AServerThatIsGone(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	b, log := impatient(t, at(server.Addr()))
	_, n := attach(t, b, "one", "x")
	server.Kill()
	eventually(t, "it is noticed", func() bool { return log.count("Redis is away") == 1 })
	_, err := b.History(t.Context(), "x", fanfare.HistoryQuery{})
	require.ErrorIs(t, err, redisbroker.ErrUnavailable)
	eventually(t, "the cause is told", func() bool { // which was a connection that broke, at first
		_, err := b.History(t.Context(), "x", fanfare.HistoryQuery{})
		return err != nil && strings.Contains(err.Error(), "refused")
	})
	_, err = b.Attach("two", n)
	require.ErrorIs(t, err, redisbroker.ErrUnavailable)
	_, err = redisbroker.New(t.Context(), redisbroker.Config{Servers: []redisbroker.Server{at(server.Addr())}})
	require.ErrorContains(t, err, server.Addr())

	server.Start()
	eventually(t, "it serves and delivers", func() bool {
		_, err := b.Publish(t.Context(), "x", &fanfare.Publication{Data: []byte("1")}, fanfare.StoreOptions{})
		return (err == nil || errors.Is(err, redisbroker.ErrUnavailable)) && len(n.got("x")) > 0
	})
	require.Equal(t, 1, log.count("Redis is away"))
	eventually(t, "it is said", func() bool { return log.count("Redis is back") == 1 })
}
