package brokertest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare"
)

type memory = *fanfare.MemoryBroker

// faults are brokers that break one sentence each, by the sentence's name. They are made anew for every test.
var faults = map[string]func() faulty{
	"PublicationReachesAllNodes": func() faulty {
		return faulty{publication: func(s fanfare.Sink, channel string, p *fanfare.Publication) {
			without := *p
			without.Tags = nil
			s.Publication(channel, &without)
		}}
	},
	"OnlySubscribedChannels": func() faulty {
		var mu sync.Mutex
		var sinks []fanfare.Sink
		return faulty{
			attached: func(s fanfare.Sink) { mu.Lock(); defer mu.Unlock(); sinks = append(sinks, s) },
			publish: func(b memory, ctx context.Context, channel string, p *fanfare.Publication, o fanfare.StoreOptions) (fanfare.Position, error) {
				position, err := b.Publish(ctx, channel, p, o)
				mu.Lock()
				defer mu.Unlock()
				for _, s := range sinks {
					s.Publication(channel, p)
				}
				return position, err
			},
		}
	},
	"SubscribeReturnsWhenReady": func() faulty {
		return faulty{subscribe: func(l fanfare.Link, _ context.Context, channel string) error {
			time.AfterFunc(50*time.Millisecond, func() { _ = l.Subscribe(context.Background(), channel) })
			return nil
		}}
	},
	"OrderIsTheSameForAllSinks": func() faulty { return faulty{publication: pairwise()} },
	"OneOffsetForAll": func() faulty {
		return faulty{publish: func(b memory, ctx context.Context, channel string, p *fanfare.Publication, o fanfare.StoreOptions) (fanfare.Position, error) {
			position, err := b.Publish(ctx, channel, p, o)
			position.Offset++
			return position, err
		}}
	},
	"DeliveredIsStored": func() faulty {
		return faulty{history: func(b memory, ctx context.Context, channel string, q fanfare.HistoryQuery) (fanfare.HistoryResult, error) {
			r, err := b.History(ctx, channel, q)
			r.Offset--
			return r, err
		}}
	},
	"WithoutHistoryOnlyDelivered": func() faulty {
		return faulty{publish: func(b memory, ctx context.Context, channel string, p *fanfare.Publication, o fanfare.StoreOptions) (fanfare.Position, error) {
			o.History = history
			return b.Publish(ctx, channel, p, o)
		}}
	},
	"WithoutHistoryInOrder": func() faulty { return faulty{publication: pairwise()} },
	"AnyNameAnyData": func() faulty {
		return faulty{publication: func(s fanfare.Sink, channel string, p *fanfare.Publication) {
			text := *p
			text.Data = []byte(strings.ToValidUTF8(string(p.Data), "?"))
			s.Publication(channel, &text)
		}}
	},
	"MembershipReachesAllNodes": func() faulty {
		return faulty{membership: func(s fanfare.Sink, channel string, m fanfare.Membership) {
			m.Info.ChanInfo = nil
			s.Membership(channel, m)
		}}
	},
	"TenThousandChannels": func() faulty {
		var n atomic.Int32
		return faulty{subscribe: func(l fanfare.Link, ctx context.Context, channel string) error {
			if n.Add(1) > 5000 {
				return nil
			}
			return l.Subscribe(ctx, channel)
		}}
	},
	"RepeatedPublishDoesNothing":             storing(func(o *fanfare.StoreOptions) { o.IdempotencyKey = "" }),
	"RepeatedPublishDoesNothingConcurrently": storing(func(o *fanfare.StoreOptions) { o.IdempotencyKey = "" }),
	"IdempotencyKeysArePerChannel": func() faulty {
		return faulty{publish: func(b memory, ctx context.Context, channel string, p *fanfare.Publication, o fanfare.StoreOptions) (fanfare.Position, error) {
			if _, err := b.Publish(ctx, "of all channels", p, o); err != nil || p.Offset == 0 {
				return fanfare.Position{}, err
			}
			return b.Publish(ctx, channel, p, fanfare.StoreOptions{History: o.History})
		}}
	},
	"IdempotencyWithoutHistory": storing(func(o *fanfare.StoreOptions) {
		if o.History.Size == 0 {
			o.IdempotencyKey = ""
		}
	}),
	"IdempotencyKeysExpire":   storing(func(o *fanfare.StoreOptions) { o.IdempotencyTTL = time.Hour }),
	"StaleVersionDoesNothing": storing(func(o *fanfare.StoreOptions) { o.Version = 0 }),
	"NewestVersionWins":       storing(func(o *fanfare.StoreOptions) { o.Version = 0 }),
	"PublicationsWithoutVersion": storing(func(o *fanfare.StoreOptions) {
		if o.Version == 0 {
			o.Version, o.VersionEpoch = 1, "none" // it forgets the version
		}
	}),
	"VersionEpochBeginsAnew": storing(func(o *fanfare.StoreOptions) { o.VersionEpoch = "" }),
	"VersionsArePerChannel": func() faulty {
		return faulty{publish: func(b memory, ctx context.Context, channel string, p *fanfare.Publication, o fanfare.StoreOptions) (fanfare.Position, error) {
			if _, err := b.Publish(ctx, "of all channels", p, o); err != nil || p.Offset == 0 {
				return fanfare.Position{}, err
			}
			return b.Publish(ctx, channel, p, fanfare.StoreOptions{History: o.History})
		}}
	},
	"VersionOutlivesPublications": func() faulty {
		var lives atomic.Int32
		return faulty{
			remove: func(b memory, ctx context.Context, channel string) error {
				lives.Add(1)
				return b.RemoveHistory(ctx, channel)
			},
			publish: func(b memory, ctx context.Context, channel string, p *fanfare.Publication, o fanfare.StoreOptions) (fanfare.Position, error) {
				o.VersionEpoch = fmt.Sprint(lives.Load())
				return b.Publish(ctx, channel, p, o)
			},
		}
	},
	"VersionAndIdempotencyKey": storing(func(o *fanfare.StoreOptions) { o.IdempotencyKey = "" }),
	"HistorySelects": reading(func(q *fanfare.HistoryQuery) {
		if q.Since != nil {
			q.Since = &fanfare.Position{Offset: q.Since.Offset + 1} // from a position on, rather than after it
		}
	}),
	"HistoryDoesNotCompareEpochs": read(func(q fanfare.HistoryQuery, r *fanfare.HistoryResult) {
		if q.Since != nil && q.Since.Epoch != r.Epoch {
			r.Publications = nil
		}
	}),
	"SizeIsKept":           storing(func(o *fanfare.StoreOptions) { o.History.Size++ }),
	"SizeOfTheNewestHolds": storing(func(o *fanfare.StoreOptions) { o.History.Size = 8 }),
	"TrimmedEntriesLeaveTheRest": read(func(q fanfare.HistoryQuery, r *fanfare.HistoryResult) {
		if q.Since != nil && len(r.Publications) > 0 && r.Publications[0].Offset > q.Since.Offset+1 {
			r.Publications = nil
		}
	}),
	"RemoveHistoryKeepsTheTop": func() faulty {
		return faulty{remove: func(memory, context.Context, string) error { return nil }}
	},
	"RemoveHistoryOfNothing": func() faulty {
		return faulty{remove: func(b memory, ctx context.Context, channel string) error {
			if r, err := b.History(ctx, channel, fanfare.HistoryQuery{Limit: 1}); err != nil || len(r.Publications) == 0 {
				return errors.New("no such stream")
			}
			return b.RemoveHistory(ctx, channel)
		}}
	},
	"ReadingGivesTheEpoch": read(func(_ fanfare.HistoryQuery, r *fanfare.HistoryResult) {
		if r.Offset == 0 {
			r.Epoch = ""
		}
	}),
	"OneEpochForAll": func() faulty {
		var n atomic.Int32
		return faulty{history: func(b memory, ctx context.Context, channel string, q fanfare.HistoryQuery) (fanfare.HistoryResult, error) {
			r, err := b.History(ctx, channel, q)
			r.Epoch = fmt.Sprint(n.Add(1))
			return r, err
		}}
	},
	"ReadIsAtomic": func() faulty {
		var mu sync.Mutex
		var last fanfare.Position
		return faulty{history: func(b memory, ctx context.Context, channel string, q fanfare.HistoryQuery) (fanfare.HistoryResult, error) {
			r, err := b.History(ctx, channel, q)
			mu.Lock()
			defer mu.Unlock()
			if last.Epoch != "" {
				r.Position, last = last, r.Position // the top was read earlier
			} else {
				last = r.Position
			}
			return r, err
		}}
	},
	"NothingOlderThanTTL":      storing(func(o *fanfare.StoreOptions) { o.History.TTL = time.Hour }),
	"TTLOfTheNewestHolds":      storing(func(o *fanfare.StoreOptions) { o.History.TTL = time.Hour }),
	"LongerTTLProlongsNothing": storing(func(o *fanfare.StoreOptions) { o.History.TTL = time.Hour }),
	"NoHoles":                  storing(func(o *fanfare.StoreOptions) { o.History.TTL = time.Hour }),
	"TopSurvivesAge": read(func(q fanfare.HistoryQuery, r *fanfare.HistoryResult) {
		if q.Limit != 0 && len(r.Publications) == 0 {
			r.Position = fanfare.Position{}
		}
	}),
	"IdleStreamsAreForgotten":     func() faulty { return faulty{} }, // with another bound: see faultyOptions
	"StreamsInUseAreNotForgotten": func() faulty { return faulty{} },
	"AgedStreamsAreForgotten":     func() faulty { return faulty{} },
	"UnsubscribeEndsDelivery": func() faulty {
		return faulty{unsubscribe: func(fanfare.Link, context.Context, string) error { return nil }}
	},
	"SubscribeAndUnsubscribeAtOnce": func() faulty {
		var busy atomic.Int32
		return faulty{subscribe: func(l fanfare.Link, ctx context.Context, channel string) error {
			defer busy.Add(-1)
			if busy.Add(1) > 1 {
				return errors.New("one at a time")
			}
			time.Sleep(time.Millisecond)
			return l.Subscribe(ctx, channel)
		}}
	},
	"LinkCloseEndsDelivery": func() faulty { return faulty{detach: func(fanfare.Link) error { return nil }} },
	"CloseTwice": func() faulty {
		var closed atomic.Bool
		return faulty{closing: func(b memory) error {
			if closed.Swap(true) {
				return errors.New("closed already")
			}
			return b.Close()
		}}
	},
	"CloseDuringPublish": func() faulty { return faulty{closing: func(memory) error { return nil }} },
	"CancelledContext": func() faulty {
		return faulty{publish: func(b memory, ctx context.Context, channel string, p *fanfare.Publication, o fanfare.StoreOptions) (fanfare.Position, error) {
			position, err := b.Publish(context.WithoutCancel(ctx), channel, p, o)
			return position, errors.Join(err, ctx.Err())
		}}
	},
	"ControlReachesOne": func() faulty {
		return faulty{control: func(b memory, ctx context.Context, from, _ string, data []byte) error {
			return b.SendControl(ctx, from, "", data)
		}}
	},
	"ControlReachesAllOthers": func() faulty {
		return faulty{control: func(b memory, ctx context.Context, _, to string, data []byte) error {
			return b.SendControl(ctx, "", to, data)
		}}
	},
	"InterruptedAfterCut":     func() faulty { return faulty{} }, // it says nothing
	"InterruptedAfterRestart": func() faulty { return faulty{} },
	"NodesAreListed": func() faulty { // those that there ever were
		var mu sync.Mutex
		seen := make(map[string]bool)
		return faulty{nodes: func(b memory, ctx context.Context) ([]string, error) {
			mu.Lock()
			defer mu.Unlock()
			ids, err := b.Nodes(ctx)
			for _, id := range ids {
				seen[id] = true
			}
			return slices.Collect(maps.Keys(seen)), err
		}}
	},
	"ConnectionsAreLimitedOnAllNodes": func() faulty { // each node counts its own
		return faulty{count: func(b memory, ctx context.Context, c fanfare.UserConnection, limit int, replace bool) (fanfare.Admission, error) {
			c.User += c.Node
			return b.AddConnection(ctx, c, limit, replace)
		}}
	},
	"ConnectionsAreCountedOnce": func() faulty { // as the newest
		return faulty{count: func(b memory, ctx context.Context, c fanfare.UserConnection, limit int, replace bool) (fanfare.Admission, error) {
			if err := b.RemoveConnection(ctx, c); err != nil {
				return fanfare.Admission{}, err
			}
			return b.AddConnection(ctx, c, limit, replace)
		}}
	},
	"ConnectionsReplaceTheOldest": func() faulty { // and do not tell
		return faulty{count: func(b memory, ctx context.Context, c fanfare.UserConnection, limit int, replace bool) (fanfare.Admission, error) {
			a, err := b.AddConnection(ctx, c, limit, replace)
			a.Replaced = fanfare.UserConnection{}
			return a, err
		}}
	},
	"ConnectionsGoWithTheirNode": func() faulty { return faulty{detach: func(fanfare.Link) error { return nil }} },
	"ConnectionsThatComeAtOnce": func() faulty { // some of those that go are overlooked
		var gone atomic.Int32
		return faulty{discount: func(b memory, ctx context.Context, c fanfare.UserConnection) error {
			if gone.Add(1)%10 == 0 { // so often that some of them were admitted
				return nil
			}
			return b.RemoveConnection(ctx, c)
		}}
	},
	"RestartIsSurvivedOrTold": func() faulty { // offsets start over, and nobody is told
		return faulty{
			history: func(b memory, ctx context.Context, channel string, q fanfare.HistoryQuery) (fanfare.HistoryResult, error) {
				r, err := b.History(ctx, channel, q)
				r.Epoch = "always"
				return r, err
			},
			publish: func(b memory, ctx context.Context, channel string, p *fanfare.Publication, o fanfare.StoreOptions) (fanfare.Position, error) {
				_, err := b.Publish(ctx, channel, p, o)
				p.Position = fanfare.Position{Offset: 1, Epoch: "always"}
				return p.Position, err
			},
		}
	},
}

// storing changes what publications are stored with.
func storing(change func(o *fanfare.StoreOptions)) func() faulty {
	return func() faulty {
		return faulty{publish: func(b memory, ctx context.Context, channel string, p *fanfare.Publication, o fanfare.StoreOptions) (fanfare.Position, error) {
			if o.History.Size > 0 || o.IdempotencyKey != "" {
				change(&o)
			}
			return b.Publish(ctx, channel, p, o)
		}}
	}
}

// reading changes what is asked of history.
func reading(change func(q *fanfare.HistoryQuery)) func() faulty {
	return func() faulty {
		return faulty{history: func(b memory, ctx context.Context, channel string, q fanfare.HistoryQuery) (fanfare.HistoryResult, error) {
			change(&q)
			return b.History(ctx, channel, q)
		}}
	}
}

// read changes what history answers.
func read(change func(q fanfare.HistoryQuery, r *fanfare.HistoryResult)) func() faulty {
	return func() faulty {
		return faulty{history: func(b memory, ctx context.Context, channel string, q fanfare.HistoryQuery) (fanfare.HistoryResult, error) {
			r, err := b.History(ctx, channel, q)
			change(q, &r)
			return r, err
		}}
	}
}

// childVariable is set in the process that runs the kit over what is faulty.
const childVariable = "FANFARE_BROKERTEST_FAULTY"

func inChild() bool { return os.Getenv(childVariable) != "" }

// requireFaultsFound runs the test once more in another process, where a subtest of it fails for every sentence, because
// that sentence is broken; texts are the sentences by name.
func requireFaultsFound(t *testing.T, texts map[string]string) {
	t.Helper()
	program, err := os.Executable()
	require.NoError(t, err)
	cmd := exec.CommandContext(t.Context(), program, "-test.v", "-test.timeout=2m", "-test.run=^"+t.Name()+"$")
	cmd.Env = append(os.Environ(), childVariable+"=1")
	out, err := cmd.CombinedOutput()
	require.Error(t, err, "nothing has failed:\n%s", out)
	for name, text := range texts {
		if !bytes.Contains(out, fmt.Appendf(nil, "--- FAIL: %s/%s ", t.Name(), name)) ||
			!bytes.Contains(out, []byte("broken sentence of the contract: "+text)) {
			t.Errorf("the kit does not notice that this is broken: %s", name)
		}
	}
	if t.Failed() {
		t.Logf("%s", out)
	}
}

// A contract suite that cannot fail holds nothing: every sentence is broken here by some broker, and that is noticed.
func TestRun_FindsFaults(t *testing.T) {
	if inChild() {
		for _, s := range sentences() {
			t.Run(s.name, func(t *testing.T) { s.check(t, faultyOptions(s.name)) })
		}
		return
	}
	texts := make(map[string]string)
	for _, s := range sentences() {
		require.Contains(t, faults, s.name, "no broker breaks this sentence")
		texts[s.name] = s.text
	}
	require.Len(t, faults, len(texts))
	requireFaultsFound(t, texts)
}

// faultyOptions are those of a broker that breaks a sentence.
func faultyOptions(sentence string) Options {
	fault := faults[sentence]
	bound := map[string]func(n int) int{
		"IdleStreamsAreForgotten":     func(n int) int { return n + 1 },
		"StreamsInUseAreNotForgotten": func(int) int { return 1 },
		"AgedStreamsAreForgotten":     func(int) int { return 100 },
	}[sentence]
	return Options{
		New: func(t testing.TB) fanfare.Broker { return fault().on(t, fanfare.MemoryBrokerConfig{}) },
		NewBounded: func(t testing.TB, n int) fanfare.Broker {
			return fault().on(t, fanfare.MemoryBrokerConfig{MaxIdleStreams: bound(n)})
		},
		Restart: func(testing.TB) {},
		Cut:     func(testing.TB) {},
		Bubble:  true,
		Timeout: 300 * time.Millisecond,
	}.withDefaults()
}
