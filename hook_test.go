package fanfare_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare"
	"github.com/fanfare-go/fanfare/fanfaretest"
)

// requireEntry checks that exactly one line of at least warning level was logged, and that it names the hook.
func requireEntry(t *testing.T, a *app, message, hook, channel string) entry {
	t.Helper()
	entries := a.log.from(slog.LevelWarn)
	require.Len(t, entries, 1)
	e := entries[0]
	require.Equal(t, message, e.message)
	require.Equal(t, hook, e.text("hook"))
	if channel != "" {
		require.Equal(t, channel, e.text("channel"))
	}
	return e
}

func TestHook_Panic_CostsOneConnection(t *testing.T) {
	eachKind(t, nil, func(t *testing.T, k kind) {
		a := newApp(t, fanfare.Config{})
		bystander, client := a.bystander(t), a.victim(t)
		a.misbehave(k.hook, func(context.Context) error { panic("boom") })

		err := k.provoke(client)
		if k.hook == "Disconnected" {
			requireClosed(t, client, fanfare.DisconnectClosed)
		} else {
			requireClosed(t, client, fanfare.DisconnectInternal)
		}
		if !k.silent && !k.notice {
			require.ErrorIs(t, err, fanfare.DisconnectInternal)
		}
		synctest.Wait()
		e := requireEntry(t, a, "hook panicked", k.hook, k.channel)
		require.Equal(t, slog.LevelError, e.level)
		require.Equal(t, "boom", e.text("panic"))
		require.Contains(t, e.text("stack"), "hook_test.go")
		require.Equal(t, client.ID(), e.text("client"))
		require.Equal(t, 1, counted(a.tally, &a.tally.panicked, k.hook))
		require.Equal(t, 1, a.called("Disconnected"))
		a.goesOn(t, bystander)
	})
}

// A hook may end its goroutine, as t.FailNow does in an app's tests: nobody shall wait for it.
func TestHook_Goexit_CostsOneConnection(t *testing.T) {
	eachKind(t, nil, func(t *testing.T, k kind) {
		a := newApp(t, fanfare.Config{})
		bystander, client := a.bystander(t), a.victim(t)
		a.misbehave(k.hook, func(context.Context) error { runtime.Goexit(); return nil })
		began := time.Now()
		_ = k.provoke(client)
		if k.hook == "Disconnected" {
			requireClosed(t, client, fanfare.DisconnectClosed)
		} else {
			requireClosed(t, client, fanfare.DisconnectInternal)
		}
		require.Zero(t, time.Since(began))
		synctest.Wait()
		require.Contains(t, requireEntry(t, a, "hook panicked", k.hook, k.channel).text("panic"), "Goexit")
		a.goesOn(t, bystander)
	})
}

func TestHook_Authenticate_Panic(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newApp(t, fanfare.Config{})
		bystander := a.bystander(t)
		a.misbehave("Authenticate", func(context.Context) error { panic("boom") })
		_, err := fanfaretest.Dial(t, a.Node, victim).Connect()
		require.ErrorIs(t, err, fanfare.DisconnectInternal)
		synctest.Wait()
		requireEntry(t, a, "hook panicked", "Authenticate", "")
		require.Zero(t, a.called("Disconnected"), "it was never accepted")
		a.goesOn(t, bystander)
	})
}

// A hook that was given up long ago still breaks its promise when it panics.
func TestHook_LatePanic_ClosesTheConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newApp(t, fanfare.Config{})
		client := a.victim(t)
		a.misbehave("RPC do", func(context.Context) error {
			time.Sleep(10 * time.Second)
			panic("boom")
		})
		_, err := client.RPC("do", nil)
		require.ErrorIs(t, err, fanfare.ErrInternal)
		requireClosed(t, client, fanfare.DisconnectInternal)
	})
}

// hanging are the two ways to hang: forever, until the test ends it, and until the context ends.
var hanging = map[string]func(release *gate) func(context.Context) error{
	"ignoring its context": func(release *gate) func(context.Context) error {
		return func(context.Context) error { <-release.opened; return nil }
	},
	"obeying its context": func(release *gate) func(context.Context) error {
		return func(ctx context.Context) error {
			select {
			case <-ctx.Done():
				return fmt.Errorf("query: %w", ctx.Err())
			case <-release.opened:
				return nil
			}
		}
	},
}

func TestHook_Hang_DelaysOnlyItsOwnClient(t *testing.T) {
	for way, hang := range hanging {
		t.Run(way, func(t *testing.T) {
			eachKind(t, func(k kind) bool { return !k.notice }, func(t *testing.T, k kind) { testHang(t, k, hang) })
		})
	}
}

func testHang(t *testing.T, k kind, hang func(*gate) func(context.Context) error) {
	const timeout = 4 * time.Second
	a := newApp(t, fanfare.Config{PingInterval: time.Second})
	bystander, client := a.bystander(t), a.victim(t)
	release := newGate(t)
	a.misbehave(k.hook, hang(release))
	received(t, client)

	began := time.Now()
	answers := make(chan error, 1)
	go func() { answers <- k.provoke(client) }()
	synctest.Wait()
	a.goesOn(t, bystander)
	synctest.Wait()
	require.Contains(t, received(t, client), `{"push":{"channel":"live","pub":{"data":"go"}}}`, "deliveries go on")
	time.Sleep(timeout - time.Millisecond)
	require.GreaterOrEqual(t, len(received(t, client)), 3, "pings go on")
	require.Empty(t, a.log.from(slog.LevelWarn))

	time.Sleep(time.Millisecond)
	synctest.Wait()
	if err := <-answers; k.silent {
		require.NoError(t, err)
	} else {
		require.ErrorIs(t, err, fanfare.ErrInternal)
		require.True(t, err.(*fanfare.Error).Temporary)
		require.Equal(t, timeout, time.Since(began))
	}
	e := requireEntry(t, a, "hook timed out", k.hook, k.channel)
	require.Equal(t, timeout, e.attrs["took"].Duration())
	require.Equal(t, 1, counted(a.tally, &a.tally.slow, k.hook))
	answer, err := client.RPC("echo", []byte(`1`))
	require.NoError(t, err, "the client's queue goes on")
	require.Equal(t, `1`, string(answer))

	received(t, client)
	release.open()
	synctest.Wait()
	require.Empty(t, received(t, client), "a late result is discarded")
	require.Len(t, a.log.from(slog.LevelWarn), 1, "one warning is enough")
	result, err := a.History(t.Context(), "room:1", fanfare.HistoryQuery{Limit: -1})
	require.NoError(t, err)
	require.Empty(t, result.Publications)

	release = newGate(t)
	a.misbehave(k.hook, hang(release))
	began = time.Now()
	if err := k.provoke(client); !k.silent {
		require.ErrorIs(t, err, fanfare.DisconnectInternal)
	}
	requireClosed(t, client, fanfare.DisconnectInternal) // a second overrun costs the connection
	require.Equal(t, timeout, time.Since(began))
	release.open()
	synctest.Wait()
	a.requireBalanced(t)
}

// requireBalanced checks that the victim, now gone, got every notice once.
func (a *app) requireBalanced(t *testing.T) {
	t.Helper()
	notices := a.notices()
	subscribed, unsubscribed := a.called("Subscribe"), 0
	disconnected := 0
	for _, n := range notices {
		require.NotContains(t, n, "with", n)
		if strings.HasPrefix(n, "Disconnected") {
			disconnected++
		} else {
			unsubscribed++
		}
	}
	require.Equal(t, 1, disconnected, notices)
	require.LessOrEqual(t, unsubscribed, subscribed, notices)
	require.Zero(t, a.Residue().Members)
}

func TestHook_Hang_Notice(t *testing.T) {
	for way, hang := range hanging {
		t.Run(way, func(t *testing.T) {
			eachKind(t, func(k kind) bool { return k.notice }, func(t *testing.T, k kind) {
				a := newApp(t, fanfare.Config{})
				bystander, client := a.bystander(t), a.victim(t)
				release := newGate(t)
				a.misbehave(k.hook, hang(release))
				require.NoError(t, k.provoke(client))
				synctest.Wait()
				a.goesOn(t, bystander)
				time.Sleep(time.Hour)
				synctest.Wait()
				e := requireEntry(t, a, "hook timed out", k.hook, k.channel)
				require.Equal(t, 4*time.Second, e.attrs["took"].Duration())
				a.goesOn(t, bystander)
				release.open()
				synctest.Wait()
				require.Len(t, a.log.from(slog.LevelWarn), 1)
			})
		})
	}
}

func TestHook_Authenticate_Hang(t *testing.T) {
	for way, hang := range hanging {
		t.Run(way, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				a := newApp(t, fanfare.Config{})
				bystander := a.bystander(t)
				release := newGate(t)
				a.misbehave("Authenticate", hang(release))
				client := fanfaretest.Dial(t, a.Node, victim)
				began := time.Now()
				answers := make(chan error, 1)
				go func() { _, err := client.Connect(); answers <- err }()
				synctest.Wait()
				a.goesOn(t, bystander)
				require.ErrorIs(t, <-answers, fanfare.ErrInternal)
				require.Equal(t, 4*time.Second, time.Since(began))
				requireClosed(t, client, dropped) // clients close by themselves, sooner
				require.Empty(t, a.notices())
				requireEntry(t, a, "hook timed out", "Authenticate", "")

				release.open()
				synctest.Wait()
				if way == "ignoring its context" {
					require.Equal(t, []string{"Disconnected 0"}, a.notices(), "it was accepted, too late")
				} else {
					require.Empty(t, a.notices())
				}
			})
		})
	}
}

func TestHook_Slow_IsNamedOnce(t *testing.T) {
	eachKind(t, nil, func(t *testing.T, k kind) {
		a := newApp(t, fanfare.Config{})
		client := a.victim(t)
		a.misbehave(k.hook, func(context.Context) error { time.Sleep(2 * time.Second); return nil })
		require.NoError(t, k.provoke(client))
		time.Sleep(time.Minute)
		synctest.Wait()
		e := requireEntry(t, a, "slow hook", k.hook, k.channel)
		require.Equal(t, slog.LevelWarn, e.level)
		require.Equal(t, 2*time.Second, e.attrs["took"].Duration())
		require.Equal(t, 1, counted(a.tally, &a.tally.slow, k.hook))
	})
}

func TestHook_QuickEnough_IsNotNamed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newApp(t, fanfare.Config{})
		client := a.victim(t)
		a.misbehave("RPC do", func(context.Context) error { time.Sleep(time.Second - 1); return nil })
		_, err := client.RPC("do", nil)
		require.NoError(t, err)
		require.Empty(t, a.log.from(slog.LevelWarn))
	})
}

// The client leaves while a hook runs: the hook's context ends, and the notices come after the hook, once.
func TestHook_ClientLeaves(t *testing.T) {
	eachKind(t, func(k kind) bool { return !k.notice }, func(t *testing.T, k kind) {
		a := newApp(t, fanfare.Config{})
		bystander, client := a.bystander(t), a.victim(t)
		var told time.Time
		release := newGate(t)
		a.misbehave(k.hook, func(ctx context.Context) error {
			<-ctx.Done()
			told = time.Now()
			<-release.opened
			return nil
		})
		left := time.Now()
		go func() { _ = k.provoke(client) }()
		synctest.Wait()
		client.Close()
		synctest.Wait()
		require.Equal(t, left, told, "the hook's context ends when the client leaves")
		want := []string{"Disconnected 3000", "Unsubscribed room:1 1"}
		require.ElementsMatch(t, want, a.notices())
		a.goesOn(t, bystander)

		release.open()
		synctest.Wait()
		if k.hook == "Subscribe" {
			want = append(want, "Unsubscribed room:2 1")
		}
		require.ElementsMatch(t, want, a.notices())
		require.Empty(t, a.log.from(slog.LevelWarn), "a client that leaves is no trouble")
		bystander.Close()
		synctest.Wait()
		require.Zero(t, a.Residue())
	})
}

// A hook that nobody waits for because its client has left is still named when it hangs.
func TestHook_ClientLeaves_HangIsNamed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newApp(t, fanfare.Config{})
		client := a.victim(t)
		release := newGate(t)
		a.misbehave("Publish", func(context.Context) error { <-release.opened; return nil })
		go func() { _ = client.Publish("room:1", []byte(`1`)) }()
		synctest.Wait()
		client.Close()
		time.Sleep(time.Hour)
		e := requireEntry(t, a, "hook timed out", "Publish", "room:1")
		require.Equal(t, 4*time.Second, e.attrs["took"].Duration())
		release.open()
	})
}

func TestHook_Authenticate_ClientLeaves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newApp(t, fanfare.Config{})
		release := newGate(t)
		ended := false
		a.misbehave("Authenticate", func(ctx context.Context) error {
			<-ctx.Done()
			ended = true
			<-release.opened
			return nil
		})
		client := fanfaretest.Dial(t, a.Node, victim)
		go func() { _, _ = client.Connect() }()
		synctest.Wait()
		client.Close()
		synctest.Wait()
		require.True(t, ended)
		require.Empty(t, a.notices(), "never before Authenticate returned")
		release.open()
		synctest.Wait()
		require.Equal(t, []string{"Disconnected 3000"}, a.notices())
		require.Zero(t, a.Residue())
	})
}

func TestHook_Subscribe_TimesOut_UnsubscribedComesLate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newApp(t, fanfare.Config{})
		client := a.victim(t)
		release := newGate(t)
		a.misbehave("Subscribe", func(context.Context) error { <-release.opened; return nil })
		_, err := client.Subscribe("room:2")
		require.ErrorIs(t, err, fanfare.ErrInternal)
		synctest.Wait()
		require.Empty(t, a.notices(), "never before Subscribe returned")
		release.open()
		synctest.Wait()
		require.Equal(t, []string{"Unsubscribed room:2 1"}, a.notices())
		_, err = client.Subscribe("room:2")
		require.NoError(t, err, "the client may try again")
		require.NoError(t, client.Unsubscribe("room:2"))
		synctest.Wait()
		require.Equal(t, []string{"Unsubscribed room:2 1", "Unsubscribed room:2 0"}, a.notices())
	})
}

func TestHook_ErrorsAreNotToldVerbatim(t *testing.T) {
	eachKind(t, func(k kind) bool { return !k.notice }, func(t *testing.T, k kind) {
		a := newApp(t, fanfare.Config{})
		client := a.victim(t)
		a.misbehave(k.hook, func(context.Context) error { return errors.New("dsn with secret") })
		if err := k.provoke(client); !k.silent {
			require.ErrorIs(t, err, fanfare.ErrInternal)
			require.True(t, err.(*fanfare.Error).Temporary)
		}
		synctest.Wait()
		e := requireEntry(t, a, "hook failed", k.hook, k.channel)
		require.Equal(t, "dsn with secret", e.text("err"))

		a.misbehave(k.hook, func(context.Context) error { return fmt.Errorf("secret: %w", fanfare.ErrPermissionDenied) })
		if err := k.provoke(client); !k.silent {
			require.ErrorIs(t, err, fanfare.ErrPermissionDenied)
		}
		a.misbehave(k.hook, func(context.Context) error { return &fanfare.Error{Code: 1000, Message: "no money"} })
		if err := k.provoke(client); !k.silent {
			require.Equal(t, &fanfare.Error{Code: 1000, Message: "no money"}, err)
		}
		for _, code := range []uint32{7, 99, 2000, 3500} {
			a.misbehave(k.hook, func(context.Context) error { return &fanfare.Error{Code: code} })
			if err := k.provoke(client); !k.silent {
				require.ErrorIs(t, err, fanfare.ErrInternal, "codes below 100 belong to the clients, from 2000 on there are none")
			}
		}
		a.misbehave(k.hook, func(context.Context) error {
			return fmt.Errorf("secret: %w", &fanfare.Disconnect{Code: 4001, Reason: "banned"})
		})
		_ = k.provoke(client)
		requireClosed(t, client, &fanfare.Disconnect{Code: 4001, Reason: "banned"})
		require.NotContains(t, strings.Join(received(t, client), "\n"), "secret")
	})
}

func TestHook_Authenticate_ErrorsAreNotToldVerbatim(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newApp(t, fanfare.Config{})
		a.misbehave("Authenticate", func(context.Context) error { return errors.New("secret") })
		client := fanfaretest.Dial(t, a.Node, victim)
		_, err := client.Connect()
		require.ErrorIs(t, err, fanfare.ErrInternal)
		require.NotContains(t, strings.Join(received(t, client), "\n"), "secret")
		requireEntry(t, a, "hook failed", "Authenticate", "")

		uni := fanfaretest.Dial(t, a.Node, victim, fanfaretest.Unidirectional())
		_, err = uni.Connect()
		require.ErrorIs(t, err, fanfare.DisconnectInternal)
		require.NotContains(t, strings.Join(received(t, uni), "\n"), "secret")
	})
}

// nilInside is an error of an app whose methods do not expect to be called on nil.
type nilInside struct{ inner error }

func (e *nilInside) Error() string { return "wrapped: " + e.inner.Error() }
func (e *nilInside) Unwrap() error { return e.inner }

// A nil pointer in an error interface is a common mistake, and no reason for a process to end.
func TestHook_TypedNilErrors(t *testing.T) {
	for name, err := range map[string]error{
		"Error": (*fanfare.Error)(nil), "Disconnect": (*fanfare.Disconnect)(nil), "of the app": (*nilInside)(nil),
	} {
		inBubble(t, name, func(t *testing.T) {
			eachHook := newApp(t, fanfare.Config{})
			bystander := eachHook.bystander(t)
			eachHook.RPC("nil", func(context.Context, *fanfare.RPCRequest) ([]byte, error) { return []byte(`1`), err })
			client := eachHook.victim(t)
			_, got := client.RPC("nil", nil)
			require.ErrorIs(t, got, fanfare.DisconnectInternal)
			synctest.Wait()
			requireEntry(t, eachHook, "hook panicked", "RPC nil", "")
			eachHook.goesOn(t, bystander)
		})
	}
}

func TestHook_DisconnectCodesThatCannotBeSent(t *testing.T) {
	for _, code := range []uint32{1, 1000, 2999, 3000, 5000} {
		inBubble(t, fmt.Sprint(code), func(t *testing.T) {
			node := startNode(t)
			node.RPC("leave", func(context.Context, *fanfare.RPCRequest) ([]byte, error) {
				return nil, &fanfare.Disconnect{Code: code, Reason: "go"}
			})
			c := fanfaretest.Connect(t, node, "ann")
			_, err := c.RPC("leave", nil)
			require.Error(t, err)
			requireClosed(t, c, fanfare.DisconnectInternal)
		})
	}
}
