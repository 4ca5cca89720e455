package fanfare

import (
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"
)

// Whoever is there from the beginning of a pass to its end is served once, whoever comes and goes meanwhile.
func TestAudience_PassServesEachOnce(t *testing.T) {
	for seed := range uint64(300) {
		rng := rand.New(rand.NewPCG(seed, 1))
		a := &audience{}
		var here []*subscription
		join := func() {
			s := &subscription{}
			a.add(s)
			here = append(here, s)
		}
		leave := func() *subscription {
			i := rng.IntN(len(here))
			s := here[i]
			here[i] = here[len(here)-1]
			here = here[:len(here)-1]
			a.remove(s)
			return s
		}
		for range rng.IntN(40) {
			join()
		}
		for range 3 {
			stay := make(map[*subscription]int) // how often they were served
			for _, s := range here {
				stay[s] = 0
			}
			var into [4]*subscription
			for n := a.next(into[:]); n > 0; n = a.next(into[:]) {
				for _, s := range into[:n] {
					if _, ok := stay[s]; ok {
						stay[s]++
					}
				}
				for range rng.IntN(4) {
					switch {
					case rng.IntN(2) == 0 && len(here) > 0:
						delete(stay, leave())
					case len(here) < 60:
						join()
					}
				}
			}
			for _, served := range stay {
				require.Equal(t, 1, served, "seed %d", seed)
			}
			for i, s := range a.subs {
				require.Equal(t, i, s.index, "seed %d", seed)
			}
			require.ElementsMatch(t, here, a.subs)
		}
	}
}

// A channel that was large once does not keep the room.
func TestAudience_Shrinks(t *testing.T) {
	a := &audience{}
	var here []*subscription
	for range 10_000 {
		s := &subscription{}
		a.add(s)
		here = append(here, s)
	}
	for len(here) > 5 {
		last := len(here) - 1
		a.remove(here[last])
		here = here[:last]
	}
	require.Equal(t, here, a.subs)
	require.LessOrEqual(t, cap(a.subs), minSubs)
}
