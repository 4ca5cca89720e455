package fanfaretest_test

import (
	"fmt"
	"math/rand/v2"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare"
	"github.com/fanfare-go/fanfare/fanfaretest"
)

// reader is a user with a bad line: it gets every publication once and in order over many connections, or is told of a
// gap. It returns an error text, and leaves the test to another goroutine.
type reader struct {
	t    *testing.T
	node *fanfare.Node
	rnd  *rand.Rand
	at   fanfare.Position
	told int // gaps that it was told of
}

func (r *reader) run(last uint64) error {
	for r.at.Offset < last {
		c := fanfaretest.Dial(r.t, r.node, "reader")
		if _, err := c.Connect(); err != nil {
			return err
		}
		if err := r.session(c, last); err != nil {
			return err
		}
		c.Close()
		if err := c.Check(); err != nil {
			return err
		}
		time.Sleep(time.Duration(r.rnd.IntN(30)) * time.Millisecond)
	}
	return nil
}

func (r *reader) session(c *fanfaretest.Client, last uint64) error {
	result, err := c.Subscribe("room:1", fanfaretest.Recover(r.at))
	if err != nil {
		return err
	}
	if result.Recovered {
		for _, p := range result.Publications {
			if err := r.take(p); err != nil {
				return err
			}
		}
	} else {
		r.told++
		r.at = result.Position
	}
	for n := r.rnd.IntN(40); n > 0 && r.at.Offset < last; n-- {
		e, err := c.Next(r.t.Context())
		if err != nil {
			return err
		}
		if err := r.take(e.Publication); err != nil {
			return err
		}
	}
	return nil
}

func (r *reader) take(p *fanfare.Publication) error {
	if want := r.at.Offset + 1; p.Offset != want || string(p.Data) != strconv.FormatUint(want, 10) {
		return fmt.Errorf("got %s at %d, want %d", p.Data, p.Offset, want)
	}
	r.at = p.Position
	return nil
}

func TestClient_everyPublicationOnceOverManyConnections(t *testing.T) {
	for seed := range uint64(3) {
		t.Run(strconv.FormatUint(seed, 10), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				const last = 1000
				node := newNode(t)
				readers := make([]*reader, 8)
				errs := make([]error, len(readers))
				var wg sync.WaitGroup
				for i := range readers {
					readers[i] = &reader{t: t, node: node, rnd: rand.New(rand.NewPCG(seed, uint64(i)))}
					wg.Go(func() { errs[i] = readers[i].run(last) })
				}
				for i := 1; i <= last; i++ {
					publish(t, node, "room:1", i, i)
					if i%3 == 0 {
						time.Sleep(time.Millisecond)
					}
				}
				wg.Wait()
				told := 0
				for i, r := range readers {
					require.NoError(t, errs[i])
					told += r.told
				}
				require.Positive(t, told, "the history is too short for the longest breaks")
			})
		})
	}
}
