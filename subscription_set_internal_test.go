package fanfare

import (
	"math/rand/v2"
	"slices"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestSubscriptionSet(t *testing.T) {
	var set subscriptionSet
	model := make(map[string]*subscription)
	check := func() {
		t.Helper()
		require.Equal(t, len(model), set.len())
		all := slices.Collect(set.all())
		require.Len(t, all, len(model))
		for _, s := range all {
			require.Same(t, model[s.channel], s)
		}
		for range set.all() {
			break // leaving early is no harm
		}
	}
	r := rand.New(rand.NewPCG(1, 2))
	grown := false
	for _, most := range []int{3, maxFew, 3 * maxFew, 0, 3 * maxFew} { // few, many, none, many again
		for range 50 * maxFew {
			channel := strconv.Itoa(r.IntN(4 * maxFew))
			require.Same(t, model[channel], set.get(channel))
			switch s := model[channel]; {
			case s == nil && len(model) < most:
				s = &subscription{params: params{channel: channel}}
				set.add(s)
				model[channel] = s
			case s != nil:
				set.remove(&subscription{params: params{channel: channel}}) // another one
				require.Same(t, s, set.get(channel))
				if len(model) > most || r.IntN(2) == 0 {
					set.remove(s)
					set.remove(s)
					delete(model, channel)
				}
			}
			grown = grown || set.many != nil
		}
		check()
	}
	require.True(t, grown)
}
