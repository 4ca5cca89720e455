package fanfare

import (
	"math/rand/v2"
	"slices"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestRegistry(t *testing.T) {
	var reg registry
	r := rand.New(rand.NewPCG(1, 2))
	strangers, users := make(map[*Client]bool), make(map[*Client]string)
	pick := func(i int) *Client {
		all := slices.Collect(reg.all())
		return all[i%len(all)]
	}
	for range 500 {
		switch action := r.IntN(3); {
		case action == 0 || len(strangers)+len(users) == 0:
			c := &Client{}
			reg.add(c)
			strangers[c] = true
		case action == 1:
			if c := pick(r.Int()); strangers[c] {
				user := strconv.Itoa(r.IntN(5))
				c.identity.Store(&person{user: user})
				require.True(t, reg.has(c))
				reg.know(c)
				require.True(t, reg.has(c))
				delete(strangers, c)
				users[c] = user
			}
		case r.IntN(2) == 0:
			c := pick(r.Int())
			reg.remove(c)
			reg.remove(c)
			require.False(t, reg.has(c))
			delete(strangers, c)
			delete(users, c)
		}
		byUser := make(map[string][]*Client)
		for c, user := range users {
			byUser[user] = append(byUser[user], c)
		}
		require.Len(t, slices.Collect(reg.all()), len(strangers)+len(users))
		require.Len(t, reg.users, len(byUser), "no user without connections")
		for user, clients := range byUser {
			require.ElementsMatch(t, clients, slices.Collect(reg.user(user)))
		}
	}
	for range reg.all() {
		break // leaving early is no harm
	}
	require.Empty(t, slices.Collect(reg.user("nobody")))
}
