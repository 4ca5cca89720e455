package brokertest

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/fanfare-go/fanfare"
	"github.com/stretchr/testify/require"
)

var interruptionSentences = []sentence{
	{name: "InterruptedAfterCut", run: func(k *kit) { interruptionIsTold(k, k.Cut) },
		text: "When a connection to the server was cut, Interrupted is called once the subscriptions stand again: what is published from then on is delivered."},
	{name: "InterruptedAfterRestart", run: func(k *kit) { interruptionIsTold(k, k.Restart) },
		text: "When the server was restarted, Interrupted is called once the subscriptions stand again: what is published from then on is delivered."},
	{name: "NodesAreListed", run: nodesAreListed,
		text: "Nodes returns the ids of all nodes that are attached, at whatever broker, and of no others. The slice belongs to the caller."},
}

func interruptionIsTold(k *kit, interrupt func(t testing.TB)) {
	if interrupt == nil {
		k.Skip("the options do not say how to interrupt the broker in this way")
	}
	const after = 20
	a, b := k.brokers()
	ch := k.channel("x")
	_, r := k.node(b, "one", ch, k.channel("y"))
	_, two := k.node(a, "two", ch)
	k.publish(a, ch, data(0), history)
	r.got(ch, 1)
	interrupt(k.T)
	r.untilInterrupted(ch)
	two.untilInterrupted(ch)

	// Whether what is published can be stored again is another matter.
	deadline := time.Now().Add(k.Timeout)
	var want []string
	for n := 1; len(want) < after; n++ {
		_, err := a.Publish(k.Context(), ch, &fanfare.Publication{Data: []byte(data(n))}, fanfare.StoreOptions{History: history})
		if err == nil {
			want = append(want, data(n))
			continue
		}
		require.True(k, time.Now().Before(deadline), "not served again after %v; the last error is %v", k.Timeout, err)
		k.wait(10 * time.Millisecond)
	}
	for _, r := range []*recorder{r, two} {
		r.until(fmt.Sprintf("everything that was published after the call of Interrupted: %v", want), func() bool {
			var got []string
			for _, p := range r.publications[ch] {
				got = append(got, string(p.Data))
			}
			return !slices.ContainsFunc(want, func(data string) bool { return !slices.Contains(got, data) })
		})
	}
}

func nodesAreListed(k *kit) {
	a, b := k.brokers()
	listers := make([]fanfare.NodeLister, 0, 2)
	for _, broker := range []fanfare.Broker{a, b} {
		lister, ok := broker.(fanfare.NodeLister)
		if !ok {
			k.Skip("the broker is no NodeLister")
		}
		listers = append(listers, lister)
	}
	// expect compares without those that other tests may have left on a server.
	expect := func(names ...string) {
		k.Helper()
		want := make([]string, 0, len(names))
		for _, name := range names {
			want = append(want, k.prefix+name)
		}
		for _, lister := range listers {
			ids, err := lister.Nodes(k.Context())
			require.NoError(k, err)
			got := slices.DeleteFunc(slices.Clone(ids), func(id string) bool { return len(id) < len(k.prefix) || id[:len(k.prefix)] != k.prefix })
			require.ElementsMatch(k, want, got)
			for i := range ids {
				ids[i] = "changed"
			}
		}
	}
	expect()
	one, _ := k.node(a, "one")
	expect("one")
	two, _ := k.node(b, "two")
	_, _ = k.node(a, "three")
	expect("one", "two", "three")
	require.NoError(k, two.Close())
	expect("one", "three")
	require.NoError(k, one.Close())
	expect("three")
	_, _ = k.node(b, "two")
	expect("two", "three")
}
