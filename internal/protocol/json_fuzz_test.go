package protocol_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare/internal/protocol"
)

// FuzzJSONDecode compares the decoder with a slow one made of encoding/json maps, and passes what decodes through the
// encoder.
func FuzzJSONDecode(f *testing.F) {
	for _, seed := range []string{
		"{\"connect\":{\"token\":\"eyJ…\",\"name\":\"js\"},\"id\":1}\n{\"subscribe\":{\"channel\":\"room:7\",\"flag\":1},\"id\":2}",
		"{}", "{}\n", "", "\n", "{}\n\n{}", "null", `{"id":1`,
		`{"refresh":{"token":"NEW2"},"id":9}`, `{"sub_refresh":{"channel":"a","token":"T","type":4},"id":9}`,
		`{"id":4,"subscribe":{"channel":"orders","recoverable":true,"positioned":true,"recover":true,"offset":42,"epoch":"kTzQwErB"}}`,
		`{"id":2,"subscribe":{"channel":"c","token":"t","data":[1],"join_leave":true,"delta":"fossil","tf":{"op":""},"flag":3,"type":-1}}`,
		`{"id":3,"publish":{"channel":"orders","data":{"v":1},"type":1}}`,
		`{"id":4,"presence":{"channel":"orders"}}`, `{"id":5,"presence_stats":{"channel":"orders"}}`,
		`{"id":6,"history":{"channel":"orders","limit":-1,"since":{"offset":5,"epoch":"e"},"reverse":true}}`,
		`{"id":7,"rpc":{"method":"time","data":{}}}`, `{"send":{"data":{"typing":true}}}`,
		`{"id":10,"unsubscribe":{"channel":"orders"}}`,
		`{"id":2,"connect":{"token":"eyJ…","subs":{"#42":{"recover":true,"offset":6,"epoch":"AaSsDdFf"}}}}`,
		`{"id":1,"connect":{"version":"1.2","data":null,"headers":{"a":"b","c":null}}}`,
		`{"\u0069d":1,"rpc":{"m\u0065thod":"\"\\\ud83c\udf89\ud800","data":"\u2028"},"connect":null}`,
		`{"id":2,"subscribe":{"tf":{"op":"and","nodes":[{"key":"a","cmp":"in","vals":["b", "c" ] },{"op":"not","nodes":[{}]}],"vals":null}}}`,
		`{"id":2,"subscribe":{"tf":{"vals":[null]}}}`, `{"id":2,"subscribe":{"tf":{"nodes":[1]}}}`, `{"id":2,"subscribe":{"tf":[]}}`,
		"{\"id\":1,\"rpc\":{\"data\":\"\xff\"}}", `{"id":[],"id":1,"x":[1,{"a":2}]}`, `{"x":` + strings.Repeat("[", 600) + strings.Repeat("]", 600) + "}",
		" {\t\"id\" : 1 ,\r \"rpc\" : { \"data\" : [ 1 ,\r 2 ] } } \r",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, frame []byte) {
		if r, err := protocol.JSON.DecodeConnect(frame); err == nil {
			want, err := referenceConnect(frame)
			require.NoError(t, err)
			require.Equal(t, want, r)
			requirePassesOn(t, r.Name, r.Data, r.Headers)
		}
		lines := strings.Split(strings.TrimSuffix(string(frame), "\n"), "\n")
		for rest := frame; ; {
			want, wantErr := referenceCommand([]byte(lines[0]))
			cmd, next, err := protocol.JSON.NextCommand(rest)
			if err != nil {
				require.True(t, wantErr != nil || refusedByChoice(lines[0]), "only the decoder fails: %v", err)
				return
			}
			require.NoError(t, wantErr)
			require.Equal(t, want, cmd)
			requireCommandPassesOn(t, cmd)
			lines = lines[1:]
			if rest = next; len(rest) == 0 {
				break
			}
		}
		require.Empty(t, lines)
	})
}

func FuzzJSONString(f *testing.F) {
	for _, seed := range []string{"", "a\"b\\c\n", "é\u2028\u2029🎉\ufffd", "\xff\xed\xa0\x80\xc3"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, s string) {
		encoded := protocol.AppendString(nil, s)
		require.Len(t, encoded, protocol.StringSize(s))
		require.Equal(t, encoded, protocol.AppendString(nil, []byte(s)))
		require.True(t, protocol.ValidPayload(encoded))
		require.False(t, strings.ContainsAny(string(encoded), "\n\r\u2028\u2029"))
		got, ok := protocol.DecodeString(encoded)
		require.True(t, ok)
		require.Equal(t, string([]rune(s)), got) // the conversion replaces each invalid byte too
	})
}

func requireCommandPassesOn(t *testing.T, cmd *protocol.Command) {
	t.Helper()
	switch {
	case cmd.Connect != nil:
		requirePassesOn(t, cmd.Connect.Name, cmd.Connect.Data, cmd.Connect.Headers)
	case cmd.Subscribe != nil:
		requirePassesOn(t, cmd.Subscribe.Channel, cmd.Subscribe.Data, nil)
	case cmd.Publish != nil:
		requirePassesOn(t, cmd.Publish.Channel, cmd.Publish.Data, nil)
	case cmd.RPC != nil:
		requirePassesOn(t, cmd.RPC.Method, cmd.RPC.Data, nil)
	case cmd.Send != nil:
		requirePassesOn(t, "", cmd.Send.Data, nil)
	}
}

// requirePassesOn sends decoded values to another client, who must see the same ones.
func requirePassesOn(t *testing.T, text string, data protocol.Raw, tags map[string]string) {
	t.Helper()
	encoded := protocol.JSON.AppendPush(nil, &protocol.Push{
		Channel: text, Pub: &protocol.Publication{Data: data, Tags: tags},
	})
	require.True(t, protocol.ValidPayload(encoded))
	require.False(t, bytes.ContainsAny(encoded, "\r\n"))
	var got struct {
		Push struct {
			Channel string
			Pub     struct {
				Data json.RawMessage
				Tags map[string]string
			}
		}
	}
	require.NoError(t, json.Unmarshal(encoded, &got))
	require.Equal(t, text, got.Push.Channel)
	require.Len(t, got.Push.Pub.Tags, len(tags))
	for name, value := range tags {
		require.Equal(t, value, got.Push.Pub.Tags[name])
	}
	require.Equal(t, data == nil, got.Push.Pub.Data == nil)
	if data != nil {
		want := strings.NewReplacer("\r", "", "\n", "").Replace(string(data))
		require.Equal(t, want, string(got.Push.Pub.Data))
	}
}

// refusedByChoice reports what encoding/json takes and the decoder does not: deep nesting, and a wrong value that a later
// one of the same name replaces.
func refusedByChoice(line string) bool {
	dec := json.NewDecoder(strings.NewReader(line))
	var names []map[string]bool // by level, nil for arrays
	isName := false
	for {
		token, err := dec.Token()
		if err != nil {
			return false
		}
		switch token {
		case json.Delim('{'):
			names, isName = append(names, map[string]bool{}), true
		case json.Delim('['):
			names, isName = append(names, nil), false
		case json.Delim('}'), json.Delim(']'):
			names = names[:len(names)-1]
			isName = len(names) > 0 && names[len(names)-1] != nil
		default:
			if len(names) == 0 || names[len(names)-1] == nil {
				continue
			}
			if name, ok := token.(string); ok && isName {
				if names[len(names)-1][name] {
					return true
				}
				names[len(names)-1][name] = true
			}
			isName = !isName
		}
		if len(names) > 500 {
			return true
		}
	}
}

// members is an object as encoding/json sees it when names must match exactly.
type members map[string]json.RawMessage

func parseMembers(data []byte) (members, error) {
	if !utf8.Valid(data) {
		return nil, errors.New("invalid UTF-8")
	}
	var m members
	if err := json.Unmarshal(data, &m); err != nil {
		return nil, err
	}
	if m == nil {
		return nil, errors.New("null")
	}
	return m, nil
}

func (m members) set(name string) bool { return m[name] != nil && string(m[name]) != "null" }

// read unmarshals the named fields that are set, given as name, pointer, name, pointer and so on.
func (m members) read(fields ...any) error {
	var errs []error
	for i := 0; i < len(fields); i += 2 {
		name, dst := fields[i].(string), fields[i+1]
		if data, ok := dst.(*protocol.Raw); ok {
			*data = protocol.Raw(m[name])
		} else if m.set(name) {
			errs = append(errs, json.Unmarshal(m[name], dst))
		}
	}
	return errors.Join(errs...)
}

func referenceCommand(line []byte) (*protocol.Command, error) {
	m, err := parseMembers(line)
	if err != nil {
		return nil, err
	}
	c := new(protocol.Command)
	if err := m.read("id", &c.ID); err != nil {
		return nil, err
	}
	names := []string{"connect", "subscribe", "unsubscribe", "publish", "presence", "presence_stats", "history", "rpc",
		"send", "refresh", "sub_refresh"}
	winner := ""
	for _, name := range names {
		if m.set(name) {
			if _, err := parseMembers(m[name]); err != nil {
				return nil, err
			}
			if winner == "" {
				winner = name
			}
		}
	}
	if winner == "" {
		return c, nil
	}
	return c, referenceRequest(c, winner, m[winner])
}

func referenceRequest(c *protocol.Command, name string, data []byte) (err error) {
	m, _ := parseMembers(data)
	switch name {
	case "connect":
		c.Connect, err = referenceConnect(data)
	case "subscribe":
		c.Subscribe, err = referenceSubscribe(data)
	case "unsubscribe":
		c.Unsubscribe = new(protocol.UnsubscribeRequest)
		err = m.read("channel", &c.Unsubscribe.Channel)
	case "publish":
		c.Publish = new(protocol.PublishRequest)
		err = m.read("channel", &c.Publish.Channel, "data", &c.Publish.Data, "type", &c.Publish.Type)
	case "presence":
		c.Presence = new(protocol.PresenceRequest)
		err = m.read("channel", &c.Presence.Channel)
	case "presence_stats":
		c.PresenceStats = new(protocol.PresenceStatsRequest)
		err = m.read("channel", &c.PresenceStats.Channel)
	case "history":
		c.History = new(protocol.HistoryRequest)
		err = m.read("channel", &c.History.Channel, "limit", &c.History.Limit, "reverse", &c.History.Reverse)
		if m.set("since") {
			since, sinceErr := parseMembers(m["since"])
			c.History.Since = new(protocol.StreamPosition)
			err = errors.Join(err, sinceErr, since.read("offset", &c.History.Since.Offset, "epoch", &c.History.Since.Epoch))
		}
	case "rpc":
		c.RPC = new(protocol.RPCRequest)
		err = m.read("method", &c.RPC.Method, "data", &c.RPC.Data)
	case "send":
		c.Send = new(protocol.SendRequest)
		err = m.read("data", &c.Send.Data)
	case "refresh":
		c.Refresh = new(protocol.RefreshRequest)
		err = m.read("token", &c.Refresh.Token)
	case "sub_refresh":
		c.SubRefresh = new(protocol.SubRefreshRequest)
		err = m.read("channel", &c.SubRefresh.Channel, "token", &c.SubRefresh.Token, "type", &c.SubRefresh.Type)
	}
	return err
}

func referenceConnect(data []byte) (*protocol.ConnectRequest, error) {
	m, err := parseMembers(data)
	if err != nil {
		return nil, err
	}
	r := new(protocol.ConnectRequest)
	err = m.read("token", &r.Token, "data", &r.Data, "name", &r.Name, "version", &r.Version)
	if m.set("headers") {
		headers, headersErr := parseMembers(m["headers"])
		err = errors.Join(err, headersErr)
		r.Headers = make(map[string]string)
		for name := range headers {
			if headers.set(name) {
				var value string
				err = errors.Join(err, headers.read(name, &value))
				r.Headers[name] = value
			}
		}
	}
	if m.set("subs") {
		subs, subsErr := parseMembers(m["subs"])
		err = errors.Join(err, subsErr)
		r.Subs = make(map[string]*protocol.SubscribeRequest)
		for channel := range subs {
			if subs.set(channel) {
				sub, subErr := referenceSubscribe(subs[channel])
				err = errors.Join(err, subErr)
				r.Subs[channel] = sub
			}
		}
	}
	return r, err
}

func referenceSubscribe(data []byte) (*protocol.SubscribeRequest, error) {
	m, err := parseMembers(data)
	if err != nil {
		return nil, err
	}
	r := new(protocol.SubscribeRequest)
	if m.set("tf") {
		if r.TagsFilter, err = referenceFilter(m["tf"], 1); err != nil {
			return nil, err
		}
	}
	return r, m.read("channel", &r.Channel, "token", &r.Token, "recover", &r.Recover, "epoch", &r.Epoch,
		"offset", &r.Offset, "data", &r.Data, "positioned", &r.Positioned, "recoverable", &r.Recoverable,
		"join_leave", &r.JoinLeave, "delta", &r.Delta, "flag", &r.Flag, "type", &r.Type)
}

func referenceFilter(data []byte, level int) (*protocol.FilterNode, error) {
	m, err := parseMembers(data)
	if err != nil {
		return nil, err
	}
	if len(data) > 16<<10 || level > 32 {
		return &protocol.FilterNode{Op: "overlong"}, nil
	}
	n := new(protocol.FilterNode)
	var vals, nodes []json.RawMessage
	err = m.read("op", &n.Op, "key", &n.Key, "cmp", &n.Cmp, "val", &n.Val, "vals", &vals, "nodes", &nodes)
	for _, data := range vals {
		var val *string
		if valErr := json.Unmarshal(data, &val); valErr != nil || val == nil {
			return nil, errors.Join(errors.New("not a string"), valErr)
		}
		n.Vals = append(n.Vals, *val)
	}
	for _, data := range nodes {
		child, childErr := referenceFilter(data, level+1)
		err = errors.Join(err, childErr)
		n.Nodes = append(n.Nodes, child)
	}
	return n, err
}
