package fanfare

import (
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare/internal/protocol"
)

// ratedClient is a client of ann whose node limits everything, high.
func ratedClient() *Client {
	r := Rate{Every: time.Nanosecond, Burst: 1 << 20}
	c := &Client{node: &Node{rates: newRates(&Config{CommandRate: r, SubscribeRate: r, UserCommandRate: r, ConnectRate: r})}}
	c.identity.Store(&person{user: "ann"})
	return c
}

func TestCheckRates_DoesNotAllocate(t *testing.T) {
	c := ratedClient()
	cmd := &protocol.Command{ID: 1, Subscribe: &protocol.SubscribeRequest{}}
	began := time.Now()
	require.NoError(t, c.checkRates(cmd, began))
	require.Zero(t, testing.AllocsPerRun(1000, func() {
		if err := c.checkRates(cmd, began); err != nil {
			t.Error(err)
		}
	}))
}

func TestCheckRates_NothingIsKeptWithoutALimit(t *testing.T) {
	c := &Client{node: &Node{rates: newRates(&Config{})}}
	c.identity.Store(&person{user: "ann"})
	require.NoError(t, c.checkRates(&protocol.Command{ID: 1, Subscribe: &protocol.SubscribeRequest{}}, time.Now()))
	require.Nil(t, c.meter)
}

// What is forgotten of a user is nothing: a table with generations decides as one that remembers everything.
func TestUserRates_ForgetOnlyWhatIsFull(t *testing.T) {
	limit := Rate{Every: time.Second, Burst: 10}.limit()
	users := newUserRates(limit)
	all := make(map[string]*allowance)
	now := time.Duration(0)
	for i := range 200_000 {
		now += time.Duration(i*7919%13) * 10 * time.Millisecond
		user := strconv.Itoa(i * i % 101)
		if i%1000 == 0 {
			now += time.Duration(i%7) * 10 * time.Second
		}
		if all[user] == nil {
			all[user] = &allowance{}
		}
		if want, got := all[user].take(now, limit), users.take(user, now); want != got {
			t.Fatalf("step %d, user %s at %v: %v instead of %v", i, user, now, got, want)
		}
	}
}

func BenchmarkCheckRates(b *testing.B) {
	cmd := &protocol.Command{ID: 1, Publish: &protocol.PublishRequest{}}
	for name, c := range map[string]*Client{"none": {node: &Node{rates: newRates(&Config{})}}, "all": ratedClient()} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			now := time.Now()
			for b.Loop() {
				now = now.Add(time.Microsecond)
				if err := c.checkRates(cmd, now); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
