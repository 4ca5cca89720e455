package rate_test

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	oracle "golang.org/x/time/rate"

	"github.com/fanfare-go/fanfare/internal/rate"
)

var began = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// The times are multiples of what binary fractions of a second can say, so that the oracle, which counts in floating point,
// makes no error, and both must agree also at the very moment at which a token comes.
func TestBucket_AgreesWithXTimeRate(t *testing.T) {
	const grain = time.Second / 512
	for seed := range uint64(300) {
		r := rand.New(rand.NewPCG(seed, 1))
		every := grain << r.IntN(12)
		burst := 1 + r.IntN(1<<r.IntN(8))
		want, limit, bucket := oracle.NewLimiter(oracle.Every(every), burst), rate.New(every, burst), rate.Bucket(0)
		require.True(t, limit.Limits())
		var now time.Duration
		for step := range 500 {
			if r.IntN(3) == 0 {
				now += grain * time.Duration(r.IntN(int(2*every/grain)))
			}
			if r.IntN(100) == 0 {
				now += limit.Refill()
			}
			if allowed, got := want.AllowN(began.Add(now), 1), bucket.Take(now, limit); got != allowed {
				t.Fatalf("seed %d, step %d: every %v, burst %d: %v, and the oracle says %v", seed, step, every, burst, got, allowed)
			}
		}
	}
}

// Whatever the times, no window has more than the burst and what came in meanwhile, and who keeps to the rate is never refused.
func TestBucket_Bounds(t *testing.T) {
	for seed := range uint64(100) {
		r := rand.New(rand.NewPCG(seed, 2))
		every, burst := time.Duration(1+r.Int64N(int64(time.Second))), 1+r.IntN(20)
		limit := rate.New(every, burst)
		var bucket, patient rate.Bucket
		var now time.Duration
		var taken []time.Duration
		for range 300 {
			now += time.Duration(r.Int64N(int64(every)))
			if bucket.Take(now, limit) {
				taken = append(taken, now)
			}
		}
		for i := range taken {
			for k := i; k < len(taken); k++ {
				if k-i+1 > burst+int((taken[k]-taken[i])/every) {
					t.Fatalf("seed %d: %d tokens in %v, of one in %v and %d at once", seed, k-i+1, taken[k]-taken[i], every, burst)
				}
			}
		}
		now = 0
		for range 1000 {
			require.True(t, patient.Take(now, limit))
			now += every + time.Duration(r.Int64N(int64(every)))
		}
	}
}

func TestBucket_IsFullAfterTheRefill(t *testing.T) {
	limit := rate.New(time.Second, 3)
	var b rate.Bucket
	for range 2 {
		for range 3 {
			require.True(t, b.Take(time.Minute, limit))
		}
		require.False(t, b.Take(time.Minute, limit))
		require.False(t, b.Take(0, limit), "time that goes backwards gives nothing")
		b = 0
	}
	for range 3 {
		require.True(t, b.Take(time.Minute, limit))
	}
	require.Equal(t, 3*time.Second, limit.Refill())
	for range 3 {
		require.True(t, b.Take(time.Minute+limit.Refill(), limit))
	}
	require.False(t, b.Take(time.Minute+limit.Refill(), limit))
}

func TestLimit_ZeroIsNone(t *testing.T) { require.False(t, rate.Limit{}.Limits()) }

func TestBucket_TakeDoesNotAllocate(t *testing.T) {
	limit, now := rate.New(time.Millisecond, 100), time.Duration(0)
	var b rate.Bucket
	require.Zero(t, testing.AllocsPerRun(1000, func() {
		now += time.Microsecond
		b.Take(now, limit)
	}))
}

func BenchmarkBucket_Take(b *testing.B) {
	limit, now := rate.New(time.Millisecond, 100), time.Duration(0)
	var bucket rate.Bucket
	b.ReportAllocs()
	for b.Loop() {
		now += time.Microsecond
		bucket.Take(now, limit)
	}
}
