package fanfare

import (
	"math/rand/v2"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// valid fails the test if the heap is none.
func (a *agenda) valid(t *testing.T) {
	t.Helper()
	a.mu.Lock()
	defer a.mu.Unlock()
	for i, e := range a.entries {
		require.EqualValues(t, i+1, e.client.entered)
		require.LessOrEqual(t, a.entries[max(0, i-1)/4].at, e.at, strconv.Itoa(i))
	}
}

func TestAgenda_Heap(t *testing.T) {
	a := newAgenda(nil)
	defer a.stop()
	r := rand.New(rand.NewPCG(1, 2))
	someTime := func() moment { return moment(time.Hour) * moment(1+r.IntN(1000)) }
	clients := make([]*Client, 3*minAgenda)
	for i := range clients {
		clients[i] = &Client{}
		a.enter(clients[i], someTime())
	}
	a.valid(t)
	for range 3 * len(clients) {
		if c := clients[r.IntN(len(clients))]; r.IntN(3) == 0 {
			a.leave(c)
		} else {
			a.enter(c, someTime())
		}
	}
	a.valid(t)

	c := clients[0]
	a.enter(c, moment(time.Minute))
	require.EqualValues(t, 1, c.entered, "the first")
	a.enter(c, moment(time.Hour))
	require.EqualValues(t, time.Minute, a.entries[0].at, "later is no change")

	for _, c := range clients {
		a.leave(c)
		a.leave(c)
	}
	require.Empty(t, a.entries)
	require.LessOrEqual(t, cap(a.entries), minAgenda, "room is given back")
}

// inAgenda runs a test with an agenda that notes when it has called whom.
func inAgenda(t *testing.T, name string, test func(t *testing.T, a *agenda, calls func(*Client) []time.Duration)) {
	t.Run(name, func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			var mu sync.Mutex
			called := make(map[*Client][]time.Duration)
			began := time.Now()
			a := newAgenda(func(c *Client) {
				mu.Lock()
				defer mu.Unlock()
				called[c] = append(called[c], time.Since(began))
			})
			defer a.stop()
			test(t, a, func(c *Client) []time.Duration {
				mu.Lock()
				defer mu.Unlock()
				return called[c]
			})
		})
	})
}

func TestAgenda_Calls(t *testing.T) {
	inAgenda(t, "are exact, whatever the order of entry", func(t *testing.T, a *agenda, calls func(*Client) []time.Duration) {
		due := []time.Duration{50 * time.Millisecond, 10*time.Second + 1, time.Second, 10 * time.Second, 1, 10 * time.Second}
		clients := make([]Client, len(due))
		for i, d := range due {
			a.enter(&clients[i], moment(d))
		}
		time.Sleep(time.Minute)
		for i, d := range due {
			require.Equal(t, []time.Duration{d}, calls(&clients[i]))
		}
	})
	inAgenda(t, "come sooner for an entry that moved forward, and not for who left", func(t *testing.T, a *agenda, calls func(*Client) []time.Duration) {
		var moved, gone, other Client
		a.enter(&moved, moment(time.Hour))
		a.enter(&gone, moment(time.Second))
		a.enter(&other, moment(2*time.Second))
		a.leave(&gone)
		a.enter(&moved, moment(time.Millisecond))
		time.Sleep(time.Minute)
		require.Equal(t, []time.Duration{time.Millisecond}, calls(&moved))
		require.Empty(t, calls(&gone))
		require.Equal(t, []time.Duration{2 * time.Second}, calls(&other))
	})
	inAgenda(t, "come at once for what is over already", func(t *testing.T, a *agenda, calls func(*Client) []time.Duration) {
		time.Sleep(time.Second)
		var late Client
		a.enter(&late, moment(time.Millisecond))
		synctest.Wait()
		require.Equal(t, []time.Duration{time.Second}, calls(&late))
	})
	inAgenda(t, "may enter the client again", func(t *testing.T, a *agenda, calls func(*Client) []time.Duration) {
		var c Client
		note := a.tick
		a.tick = func(c *Client) {
			note(c)
			a.enter(c, a.moment(time.Now().Add(time.Second)))
		}
		a.enter(&c, moment(time.Second))
		time.Sleep(3*time.Second + 1)
		require.Equal(t, []time.Duration{time.Second, 2 * time.Second, 3 * time.Second}, calls(&c))
	})
	inAgenda(t, "end when it is stopped", func(t *testing.T, a *agenda, calls func(*Client) []time.Duration) {
		var before, after Client
		a.enter(&before, moment(time.Second))
		a.stop()
		a.enter(&after, moment(time.Second))
		a.leave(&before)
		time.Sleep(time.Minute)
		require.Empty(t, calls(&before))
		require.Empty(t, calls(&after))
	})
}

func TestWallOf(t *testing.T) {
	require.Zero(t, wallOf(time.Time{}), "never")
	require.EqualValues(t, 1, wallOf(time.Unix(-100, 0)))
	require.EqualValues(t, 1, wallOf(time.Date(1066, 10, 14, 9, 0, 0, 0, time.UTC)))
	require.EqualValues(t, 1e9, wallOf(time.Unix(1, 0)))
	require.Positive(t, wallOf(time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC))+wall(100*365*24*time.Hour))
}
