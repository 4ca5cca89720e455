//go:build unix

package e2e

import (
	"encoding/base64"
	"fmt"
	"math/rand/v2"
	"reflect"
	"strings"
	"unicode"

	"github.com/fanfare-go/fanfare/internal/protocol"
)

// generator makes messages by chance, and says what stands in them in the names of the protocol. It knows the messages only by
// reflection, so it forgets no field of them.
type generator struct {
	*rand.Rand
	full   bool // no field is left out
	narrow bool // numbers are exact in JavaScript, and texts are UTF-8: the SDK makes no others
	within int  // so many tags filters, which are trees: too large ones are not read
}

// maxWithin bounds the levels of tags filters.
const maxWithin = 3

// fillOne fills a message of which one body is set: that whose turn it is.
func (g *generator) fillOne(message any, turn int) {
	v := reflect.ValueOf(message).Elem()
	var bodies []reflect.Value
	for i := range v.NumField() {
		if f := v.Field(i); f.Kind() == reflect.Pointer {
			bodies = append(bodies, f)
		} else {
			g.fill(f)
		}
	}
	body := bodies[turn%len(bodies)]
	body.Set(reflect.New(body.Type().Elem()))
	g.fill(body.Elem())
}

func (g *generator) fill(v reflect.Value) {
	if v.Type() == reflect.TypeFor[protocol.FilterNode]() {
		g.within++
		defer func() { g.within-- }()
	}
	if v.Kind() == reflect.Struct {
		for i := range v.NumField() {
			g.fill(v.Field(i))
		}
		return
	}
	if !g.full && g.IntN(3) == 0 {
		return
	}
	switch v.Kind() {
	case reflect.Bool:
		v.SetBool(true)
	case reflect.String:
		if g.within > 0 {
			v.SetString(g.word())
		} else {
			v.SetString(g.text())
		}
	case reflect.Uint32:
		v.SetUint(uint64(g.Uint32() >> g.IntN(32)))
	case reflect.Uint64:
		v.SetUint(g.Uint64() >> g.from(11))
	case reflect.Int32:
		v.SetInt(int64(int32(g.Uint32()) >> g.IntN(32)))
	case reflect.Int64:
		v.SetInt(g.Int64() >> g.from(11))
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		g.fill(v.Elem())
	case reflect.Slice:
		g.fillSlice(v)
	case reflect.Map:
		v.Set(reflect.MakeMap(v.Type()))
		for range 1 + g.IntN(3) {
			v.SetMapIndex(reflect.ValueOf(g.word()), g.element(v.Type().Elem()))
		}
	default:
		panic(fmt.Sprintf("a field of type %v", v.Type()))
	}
}

func (g *generator) fillSlice(v reflect.Value) {
	if v.Type() == reflect.TypeFor[protocol.Raw]() {
		if data := g.bytes(); len(data) > 0 { // an empty payload is none
			v.SetBytes(data)
		}
		return
	}
	if g.within == maxWithin && v.Type().Elem().Kind() == reflect.Pointer {
		return
	}
	for range 1 + g.IntN(3) {
		v.Set(reflect.Append(v, g.element(v.Type().Elem())))
	}
}

// element is one of a list or a map, and never nil.
func (g *generator) element(t reflect.Type) reflect.Value {
	v := reflect.New(t).Elem()
	if t.Kind() == reflect.Pointer {
		v.Set(reflect.New(t.Elem()))
		g.fill(v.Elem())
		return v
	}
	g.fill(v)
	return v
}

// from is a number of bits to take away from 64, so that all sizes come up.
func (g *generator) from(least int) int {
	if !g.narrow {
		least = 0
	}
	return least + g.IntN(64-least)
}

func (g *generator) bytes() []byte {
	size := g.IntN(8)
	if g.IntN(100) == 0 {
		size = g.IntN(70_000) // lengths of one to three bytes
	}
	b := make([]byte, size)
	for i := range b {
		b[i] = byte(g.Uint32())
	}
	return b
}

var alphabet = []string{"a", "Z", "0", "\x00", "\n", "\"", "\\", "é", "ß", "\u2028", "\ufeff", "\ufffd", "漢", "🎺", "👩‍👩‍👧"}

// word is UTF-8.
func (g *generator) word() string {
	var b strings.Builder
	for range g.IntN(6) {
		b.WriteString(alphabet[g.IntN(len(alphabet))])
	}
	return b.String()
}

func (g *generator) text() string {
	s := g.word()
	switch g.IntN(20) {
	case 0:
		s = strings.Repeat(s, g.IntN(100))
	case 1, 2:
		if !g.narrow {
			s += "\xff\xed\xa0\x80" + s // an app's mistake, which must not cost the message
		}
	}
	return s
}

// bytesValue is how js/codec.mjs takes bytes.
func bytesValue(b []byte) map[string]any {
	return map[string]any{"$bytes": base64.StdEncoding.EncodeToString(b)}
}

// says is what the SDK is to see in a message.
func (g *generator) says(message any) map[string]any {
	return fields(reflect.ValueOf(message).Elem(), func(f reflect.Value) (any, bool) {
		switch v := f.Interface().(type) {
		case string:
			return string([]rune(v)), v != "" // each byte that is no UTF-8 becomes a U+FFFD
		case bool:
			return v, v
		case protocol.Raw:
			return bytesValue(v), len(v) > 0
		}
		return fmt.Sprint(f.Interface()), !f.IsZero()
	})
}

// fields are those of a message by their names in the protocol. scalar returns the value of a field and whether it stands there;
// of a map only the latter is asked.
func fields(v reflect.Value, scalar func(reflect.Value) (any, bool)) map[string]any {
	out := make(map[string]any)
	for i := range v.NumField() {
		name, f := onTheWire(v.Type().Field(i).Name), v.Field(i)
		switch {
		case f.Kind() == reflect.Pointer:
			if !f.IsNil() {
				out[name] = fields(f.Elem(), scalar)
			}
		case f.Kind() == reflect.Slice && f.Type() != reflect.TypeFor[protocol.Raw]():
			var all []any
			for j := range f.Len() {
				if e := f.Index(j); e.Kind() == reflect.Pointer {
					all = append(all, fields(e.Elem(), scalar))
				} else {
					all = append(all, e.Interface())
				}
			}
			if all != nil {
				out[name] = all
			}
		case f.Kind() == reflect.Map:
			if _, ok := scalar(f); ok {
				out[name] = entries(f, scalar)
			}
		default:
			if value, ok := scalar(f); ok {
				out[name] = value
			}
		}
	}
	if v.Type() == reflect.TypeFor[protocol.Push]() {
		asOnTheWire(out)
	}
	return out
}

func entries(f reflect.Value, scalar func(reflect.Value) (any, bool)) map[string]any {
	out := make(map[string]any)
	for it := f.MapRange(); it.Next(); {
		if it.Value().Kind() == reflect.Pointer {
			out[it.Key().String()] = fields(it.Value().Elem(), scalar)
		} else {
			out[it.Key().String()], _ = scalar(it.Value())
		}
	}
	return out
}

// asOnTheWire makes of a push what spec 3.4 and 8.6 say where the types do not: a join and a leave have an info, and the
// connect of a unidirectional connection has neither node nor pong.
func asOnTheWire(push map[string]any) {
	for _, name := range []string{"join", "leave"} {
		if info, ok := push[name]; ok {
			push[name] = map[string]any{"info": info}
		}
	}
	if connect, ok := push["connect"].(map[string]any); ok {
		delete(connect, "node")
		delete(connect, "pong")
	}
}

// asked is a command as the SDK is asked for it, with fields that the node does not know, and some that have their default.
func (g *generator) asked(cmd *protocol.Command) map[string]any {
	out := fields(reflect.ValueOf(cmd).Elem(), func(f reflect.Value) (any, bool) {
		there := !f.IsZero() || g.IntN(2) == 0
		if data, ok := f.Interface().(protocol.Raw); ok {
			return bytesValue(data), there
		}
		return f.Interface(), there
	})
	g.embellish(out)
	if g.IntN(10) == 0 {
		g.addLoser(out)
	}
	return out
}

// requests are in the order in which the first one counts, if there are several (spec 3.1).
var requests = []string{"connect", "subscribe", "unsubscribe", "publish", "presence", "presence_stats", "history", "rpc", "send",
	"refresh", "sub_refresh"}

// addLoser adds a request that does not count beside the one that is there.
func (g *generator) addLoser(cmd map[string]any) {
	for i, name := range requests[:len(requests)-1] {
		if _, there := cmd[name]; there {
			cmd[requests[i+1+g.IntN(len(requests)-i-1)]] = map[string]any{"channel": "no", "token": "no", "method": "no", "data": bytesValue([]byte("no"))}
			return
		}
	}
}

// unmodelled are fields of requests that the SDK knows and the node does not, with a value.
var unmodelled = map[string]any{
	"connect":     map[string]any{"flag": 1, "dict": "d", "profile": "p", "headers": map[string]any{}},
	"subscribe":   map[string]any{"phase": 2, "cursor": "c", "limit": -1, "asc": true},
	"publish":     map[string]any{"key": "k", "removed": true},
	"sub_refresh": map[string]any{"track": []any{map[string]any{"signature": "s", "items": []any{map[string]any{"key": "k", "version": 7}}}}, "untrack": []any{"a", "b"}},
}

func (g *generator) embellish(cmd map[string]any) {
	for name, request := range cmd {
		r, ok := request.(map[string]any)
		if !ok {
			continue
		}
		for field, value := range asMap(unmodelled[name]) {
			if _, there := r[field]; !there && g.IntN(2) == 0 {
				r[field] = value
			}
		}
	}
}

func asMap(v any) map[string]any {
	m, _ := v.(map[string]any)
	return m
}

// onTheWire is the name of a field in the protocol.
func onTheWire(name string) string {
	if name == "TagsFilter" {
		return "tf"
	}
	return snake(name)
}

// snake turns PresenceStats into presence_stats, and TTL into ttl.
func snake(name string) string {
	var b strings.Builder
	for i, r := range name {
		if unicode.IsUpper(r) && i > 0 && unicode.IsLower(rune(name[i-1])) {
			b.WriteByte('_')
		}
		b.WriteRune(unicode.ToLower(r))
	}
	return b.String()
}
