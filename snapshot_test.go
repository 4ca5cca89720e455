package fanfare_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"html/template"
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

func TestSnapshot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		node := startNode(t)
		node.Channel("room:{id}", kept)
		node.Channel("live", fanfare.ChannelOptions{Public: true})
		off := kept
		off.Recovery = fanfare.RecoveryOff
		node.Channel("off", off)
		one := requirePublish(t, node, "room:1", `1`, `2`)
		two := requirePublish(t, node, "room:2", `1`)

		state, at, err := fanfare.Snapshot(t.Context(), node, func(context.Context) (string, error) {
			requirePublish(t, node, "room:1", `3`) // it is not in the positions
			return "state", nil
		}, "room:1", "room:2", "live", "off")
		require.NoError(t, err)
		require.Equal(t, "state", state)
		require.Equal(t, fanfare.Positions{"room:1": one, "room:2": two}, at)

		decoded, err := fanfare.DecodeCursor(at.Cursor(), "room:1", "room:2", "live")
		require.NoError(t, err)
		require.Equal(t, map[string]fanfare.Position(at), decoded)
		text, err := json.Marshal(at)
		require.NoError(t, err)
		require.JSONEq(t, fmt.Sprintf(`{"room:1":{"offset":2,"epoch":%q},"room:2":{"offset":1,"epoch":%q}}`, one.Epoch, two.Epoch), string(text))
		var page bytes.Buffer
		require.NoError(t, template.Must(template.New("page").Parse(`<script>const at = {{.}};</script>`)).Execute(&page, at))
		require.Contains(t, page.String(), fmt.Sprintf(`"room:1":{"offset":2,"epoch":%q}`, one.Epoch))
	})
}

func TestSnapshot_Errors(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		node := startNode(t)
		node.Channel("x", kept)
		broken := errors.New("no database")
		_, at, err := fanfare.Snapshot(t.Context(), node, func(context.Context) (int, error) { return 7, broken }, "x")
		require.Equal(t, broken, err, "as it is")
		require.Nil(t, at)
		state, at, err := fanfare.Snapshot(t.Context(), node, func(context.Context) (int, error) { panic("not reached") }, "y")
		require.ErrorIs(t, err, fanfare.ErrUnknownChannel)
		require.Nil(t, at)
		require.Zero(t, state)
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		_, _, err = fanfare.Snapshot(ctx, node, func(context.Context) (int, error) { panic("not reached") }, "x")
		require.ErrorIs(t, err, context.Canceled)
	})
}

// register is an app's own store: a list of numbers, that are published once they are in it.
type register struct {
	node *fanfare.Node

	mu        sync.Mutex // guards below
	changed   *sync.Cond // on mu
	rows      []int
	published int
}

func newRegister(node *fanfare.Node) *register {
	r := &register{node: node}
	r.changed = sync.NewCond(&r.mu)
	return r
}

// write stores the next number and then publishes it, as apps do: between the two others may read.
func (r *register) write(ctx context.Context) error {
	r.mu.Lock()
	n := len(r.rows) + 1
	r.rows = append(r.rows, n)
	r.mu.Unlock()
	_, err := r.node.Publish(ctx, "room:1", []byte(strconv.Itoa(n)))
	r.mu.Lock()
	defer r.mu.Unlock()
	r.published = n
	r.changed.Broadcast()
	return err
}

// read is a query that others write before and after.
func (r *register) read(context.Context) (last int, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.awaitMore()
	last = len(r.rows)
	r.awaitMore()
	return last, nil
}

// awaitMore returns when some more have been written and published. The lock is held.
func (r *register) awaitMore() {
	for until := r.published + 3; r.published < until; {
		r.changed.Wait()
	}
}

// races has somebody write all the time while pages open, each of which must see every number from its state on.
func races(t *testing.T, node *fanfare.Node, page func(at fanfare.Positions) (next func() (int, error), leave func())) {
	t.Helper()
	const pages, more = 40, 25
	store := newRegister(node)
	ctx, stop := context.WithCancel(t.Context())
	written := make(chan error, 1)
	defer func() {
		stop()
		require.NoError(t, <-written)
	}()
	go func() {
		var err error
		for ctx.Err() == nil && err == nil {
			err = store.write(context.WithoutCancel(ctx))
			time.Sleep(50 * time.Microsecond) // or the pages would never have seen all
		}
		written <- err
	}()
	overlapped := 0
	for range pages {
		state, at, err := fanfare.Snapshot(t.Context(), node, store.read, "room:1")
		require.NoError(t, err)
		next, leave := page(at)
		for have := state; have < state+more; {
			n, err := next()
			require.NoError(t, err)
			if n <= have {
				overlapped++ // it was in the state already
				continue
			}
			require.Equal(t, have+1, n, "a write between the state and the stream is lost; began at %v", at)
			have = n
		}
		leave()
	}
	require.GreaterOrEqual(t, overlapped, 2*pages, "what was written before the query comes, too: the page has to know it")
}

// A page that opens while others write gets all that is written after its state: over "events", and with the protocol.
func TestSnapshot_WritesBetween(t *testing.T) {
	change := func(c *fanfare.Config) { c.MaxRecovered = 5000 }
	t.Run("events", func(t *testing.T) {
		t.Parallel()
		a := plain(t, change)
		a.Channel("room:1", kept)
		races(t, a.Node, func(at fanfare.Positions) (func() (int, error), func()) {
			s := a.events(t, after(at.Cursor(), "channel=room:1"))
			return func() (int, error) {
				for {
					e, err := s.read()
					if err != nil {
						return 0, err
					}
					if e.Type == "gap" {
						return 0, errors.New("gap")
					}
					if e.Type == "publication" || e.Type == "message" {
						return strconv.Atoi(strings.TrimSpace(e.Data))
					}
				}
			}, s.close
		})
	})
	t.Run("protocol", func(t *testing.T) {
		t.Parallel()
		a := plain(t, change)
		a.Channel("room:1", kept)
		races(t, a.Node, func(at fanfare.Positions) (func() (int, error), func()) {
			c := fanfaretest.Connect(t, a.Node, "u")
			r := requireSubscribe(t, c, "room:1", fanfaretest.Recover(at["room:1"]))
			require.True(t, r.Recovered)
			missed := payloads(r.Publications)
			return func() (int, error) {
				if len(missed) > 0 {
					var n string
					n, missed = missed[0], missed[1:]
					return strconv.Atoi(n)
				}
				e, err := c.Next(t.Context())
				if err != nil {
					return 0, err
				}
				return strconv.Atoi(string(e.Publication.Data))
			}, c.Close
		})
	})
}
