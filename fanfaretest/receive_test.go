package fanfaretest

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare"
)

// recorder is a test that remembers its failures.
type recorder struct {
	testing.TB
	failures []string
}

func (r *recorder) Errorf(format string, args ...any) {
	r.failures = append(r.failures, fmt.Sprintf(format, args...))
}

const welcome = `{"id":1,"connect":{"client":"c1","ping":25,"pong":true}}`

// script makes a client that has sent connect (1), subscribe a (2), unsubscribe a (3) and history a (4).
func script(t *testing.T, opts ...Option) (*Client, *recorder) {
	r := &recorder{TB: t}
	c := newClient(r, newOptions(opts))
	require.NoError(t, c.Raw(`{"id":1,"connect":{}}`+"\n"+`{"id":2,"subscribe":{"channel":"a"}}`+"\n"+
		`{"unsubscribe":{"channel":"a"},"id":3}`+"\n"+`{"id":4,"history":{"channel":"a"}}`))
	return c, r
}

func TestClient_failsTestOnViolation(t *testing.T) {
	const (
		subscribed = `{"id":2,"subscribe":{"positioned":true,"epoch":"e","offset":4}}`
		history    = `{"id":4,"history":{"publications":[],"epoch":"e","offset":0}}`
	)
	tests := []struct {
		name  string
		lines []string
		want  string // "" for nothing wrong
	}{
		{"all well", []string{welcome, subscribed,
			`{"push":{"channel":"a","pub":{"data":{},"offset":5}}}`, `{}`, history,
			`{"push":{"channel":"a","pub":{"data":null}}}`,
			`{"push":{"channel":"a","pub":{"data":"x","offset":6,"info":{"user":"","client":"c"},"tags":{"k":"v"}}}}`,
			`{"push":{"channel":"a","join":{"info":{"user":"u","client":"c","conn_info":{},"chan_info":1}}}}`,
			`{"push":{"message":{"data":1}}}`, `{"id":3,"unsubscribe":{}}`}, ""},
		{"unsubscribed by the server", []string{welcome, subscribed,
			`{"push":{"channel":"a","unsubscribe":{"code":2500,"reason":"insufficient state"}}}`}, ""},
		{"reply error", []string{welcome, `{"id":2,"error":{"code":103,"message":"permission denied"}}`}, ""},
		{"without history", []string{welcome, `{"id":2,"subscribe":{}}`, `{"push":{"channel":"a","pub":{"data":1}}}`}, ""},

		{"empty message", []string{""}, "empty message"},
		{"not JSON", []string{`{"id":1`}, "cannot read"},
		{"two on a line", []string{welcome + welcome}, "more than one value"},
		{"unknown field", []string{`{"id":1,"connect":{"client":"c","pings":1}}`}, "unknown field"},
		{"wrong type", []string{`{"id":"1","connect":{"client":"c"}}`}, "cannot read"},
		{"not UTF-8", []string{"{\"id\":1,\"connect\":{\"client\":\"\xff\"}}"}, "not UTF-8"},
		{"unknown id", []string{welcome, `{"id":9,"publish":{}}`}, "no command"},
		{"reply twice", []string{welcome, history, history}, "no command"},
		{"another's result", []string{welcome, `{"id":4,"publish":{}}`}, "not its result"},
		{"no result", []string{welcome, `{"id":4}`}, "not its result"},
		{"result and error", []string{welcome, `{"id":3,"unsubscribe":{},"error":{"code":100,"message":"m"}}`}, "not its result"},
		{"error without message", []string{`{"id":1,"error":{"code":100}}`}, "without a code"},
		{"error of a client", []string{`{"id":1,"error":{"code":1,"message":"timeout"}}`}, "without a code"},
		{"no client", []string{`{"id":1,"connect":{}}`}, "no client"},
		{"expires without ttl", []string{`{"id":1,"connect":{"client":"c","expires":true}}`}, "expires and ttl"},
		{"ping before connect", []string{`{}`}, "ping before"},
		{"ping not announced", []string{`{"id":1,"connect":{"client":"c"}}`, `{}`}, "none was announced"},
		{"reply before connect", []string{subscribed}, "before the connect reply"},
		{"push before connect", []string{`{"push":{"message":{"data":1}}}`}, "wrong time"},
		{"connect push", []string{welcome, `{"push":{"connect":{"client":"c"}}}`}, "wrong time"},
		{"empty push", []string{welcome, `{"push":{}}`}, "push with 0 bodies"},
		{"push without channel", []string{welcome, `{"push":{"pub":{"data":1}}}`}, "channel missing"},
		{"message with channel", []string{welcome, `{"push":{"channel":"a","message":{"data":1}}}`}, "channel missing, or not"},
		{"publication before subscribe", []string{welcome, `{"push":{"channel":"a","pub":{"data":1}}}`}, "without a subscription"},
		{"publication after unsubscribe reply", []string{welcome, subscribed, `{"id":3,"unsubscribe":{}}`,
			`{"push":{"channel":"a","pub":{"data":1}}}`}, "without a subscription"},
		{"publication after unsubscribe push", []string{welcome, subscribed,
			`{"push":{"channel":"a","unsubscribe":{"code":2000,"reason":"r"}}}`,
			`{"push":{"channel":"a","leave":{"info":{"user":"u","client":"c"}}}}`}, "without a subscription"},
		{"publication without data", []string{welcome, subscribed, `{"push":{"channel":"a","pub":{"offset":5}}}`}, "without data"},
		{"offset goes back", []string{welcome, subscribed, `{"push":{"channel":"a","pub":{"data":1,"offset":4}}}`}, "comes after 4"},
		{"repeated", []string{welcome, subscribed, `{"push":{"channel":"a","pub":{"data":1,"offset":5}}}`,
			`{"push":{"channel":"a","pub":{"data":1,"offset":5}}}`}, "comes after 5"},
		{"recovered twice", []string{welcome, `{"id":2,"subscribe":{"positioned":true,"recoverable":true,"was_recovering":true,` +
			`"recovered":true,"epoch":"e","offset":4,"publications":[{"data":1,"offset":5},{"data":1,"offset":5}]}}`}, "comes after 5"},
		{"other epoch", []string{welcome, subscribed, `{"push":{"channel":"a","pub":{"data":1,"offset":5,"epoch":"f"}}}`}, "has epoch"},
		{"join without info", []string{welcome, subscribed, `{"push":{"channel":"a","join":{}}}`}, "info without"},
		{"info without user", []string{welcome, subscribed, `{"push":{"channel":"a","join":{"info":{"client":"c"}}}}`}, "info without"},
		{"unsubscribe without reason", []string{welcome, subscribed, `{"push":{"channel":"a","unsubscribe":{"code":2000}}}`}, "without a code"},
		{"recoverable without positioned", []string{welcome, `{"id":2,"subscribe":{"recoverable":true}}`}, "without positioned"},
		{"positioned without epoch", []string{welcome, `{"id":2,"subscribe":{"positioned":true}}`}, "without an epoch"},
		{"publications without recovered", []string{welcome, `{"id":2,"subscribe":{"publications":[{"data":1}]}}`}, "without recovered"},
		{"history without publications", []string{welcome, `{"id":4,"history":{"epoch":"e","offset":0}}`}, "in history"},
		{"subscribed twice", []string{welcome, subscribed, `{"push":{"channel":"a","subscribe":{}}}`}, "twice"},
		{"after the disconnect push", []string{welcome, `{"push":{"disconnect":{"code":3001,"reason":"shutdown"}}}`, `{}`}, "after the disconnect"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c, r := script(t)
			c.receive([]byte(strings.Join(tt.lines, "\n") + "\n"))
			if tt.want == "" {
				require.Empty(t, r.failures)
				require.NoError(t, c.Check())
				return
			}
			require.NotEmpty(t, r.failures)
			require.Contains(t, r.failures[0], tt.want)
			require.ErrorContains(t, c.Check(), tt.want)
		})
	}
}

func TestClient_Check_gap(t *testing.T) {
	c, r := script(t)
	c.receive([]byte(welcome + "\n" + `{"id":2,"subscribe":{"positioned":true,"epoch":"e"}}` + "\n" +
		`{"push":{"channel":"a","pub":{"data":1,"offset":2}}}` + "\n"))
	require.Empty(t, r.failures)
	require.ErrorContains(t, c.Check(), "a gap")
	require.Equal(t, fanfare.Position{Offset: 2, Epoch: "e"}, c.Position("a"))
}

func TestClient_receive_cutAnywhere(t *testing.T) {
	all := welcome + "\n" + `{"id":2,"subscribe":{}}` + "\n" + `{"push":{"channel":"a","pub":{"data":"x"}}}` + "\n{}\n"
	for cut := range all {
		c, r := script(t)
		c.receive([]byte(all[:cut]))
		c.receive([]byte(all[cut:]))
		require.Empty(t, r.failures)
		events := c.Events()
		require.Len(t, events, 1)
		require.Equal(t, `"x"`, string(events[0].Publication.Data))
		for _, want := range strings.Split(strings.TrimSuffix(all, "\n"), "\n") {
			got, err := c.NextRaw(t.Context())
			require.NoError(t, err)
			require.Equal(t, want, got)
		}
	}
}

func TestClient_pong(t *testing.T) {
	tests := []struct {
		name    string
		opts    []Option
		welcome string
		want    int
	}{
		{"wanted", nil, welcome, 1},
		{"not wanted", nil, `{"id":1,"connect":{"client":"c1","ping":25}}`, 0},
		{"switched off", []Option{NoPong()}, welcome, 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c, r := script(t, tt.opts...)
			before := len(c.conn.inbound)
			c.receive([]byte(tt.welcome + "\n{}\n"))
			require.Empty(t, r.failures)
			require.Len(t, c.conn.inbound, before+tt.want)
		})
	}
}

func TestClient_unidirectional(t *testing.T) {
	c, r := script(t, Unidirectional())
	c.receive([]byte(`{"connect":{"client":"c1","ping":25,"subs":{"a":{}}}}` + "\n{}\n" +
		`{"channel":"a","pub":{"data":1}}` + "\n" + `{"disconnect":{"code":3001,"reason":"shutdown"}}` + "\n"))
	require.Empty(t, r.failures)
	require.Equal(t, "c1", c.ID())
	events := c.Events()
	require.Len(t, events, 2)
	require.Equal(t, KindPublication, events[0].Kind)
	require.Equal(t, KindDisconnect, events[1].Kind)
	require.EqualValues(t, 3001, events[1].Code)
}

func TestClient_closeReason(t *testing.T) {
	for reason, bad := range map[string]bool{
		"shutdown": false, "": true, "123": true, `{"reconnect":false}`: true, strings.Repeat("x", 124): true,
	} {
		c, r := script(t)
		require.NoError(t, c.conn.Close(3001, reason))
		require.Equal(t, bad, len(r.failures) > 0, reason)
		d, err := c.Closed(t.Context())
		require.NoError(t, err)
		require.Equal(t, &fanfare.Disconnect{Code: 3001, Reason: reason}, d)
	}
}

func TestObject(t *testing.T) {
	var o, inner object
	require.Equal(t, `{}`, string(o.bytes()))
	o.text("empty", "")
	o.text("text", "a\"<\n")
	o.flag("no", false)
	o.flag("flag", true)
	o.int("int", -3)
	o.uint("uint", 1<<63)
	o.raw("raw", []byte("{ \"a\" :\n1.0}"))
	o.object("inner", inner)
	require.Equal(t, `{"text":"a\"\u003c\n","flag":true,"int":-3,"uint":9223372036854775808,"raw":{ "a" :1.0},"inner":{}}`, string(o.bytes()))
}
