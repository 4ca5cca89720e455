package protocol

import (
	"bytes"
	"fmt"
	"strconv"
)

// jsonObject walks the members of one object, which must be checked JSON. encoding/json is not used for this because it
// matches names without regard to case and takes `null` payloads for missing ones.
//
// Of several members with one name the last wins. Null is the same as missing, except for payloads. The first error
// ends the walk and stays in err.
type jsonObject struct {
	rest []byte
	key  []byte // escapes decoded
	val  []byte // of the current member, without white space around it
	err  error
}

func walkJSON(val []byte) jsonObject {
	if val[0] != '{' {
		return jsonObject{err: errJSONObject}
	}
	return jsonObject{rest: val[1:]}
}

// next goes to the next member.
func (o *jsonObject) next() bool {
	if o.err != nil {
		return false
	}
	o.skip(0)
	switch o.rest[0] {
	case '}':
		return false
	case ',':
		o.skip(1)
	}
	end := jsonStringEnd(o.rest)
	o.key = o.rest[1 : end-1]
	if bytes.IndexByte(o.key, '\\') >= 0 {
		o.key = []byte(unquoteJSON(o.rest[:end]))
	}
	o.skip(end)
	o.skip(1) // colon
	end = jsonValueEnd(o.rest)
	o.val, o.rest = o.rest[:end], o.rest[end:]
	return true
}

// skip drops n bytes and the white space after them.
func (o *jsonObject) skip(n int) {
	for n < len(o.rest) && jsonSpace(o.rest[n]) {
		n++
	}
	o.rest = o.rest[n:]
}

func (o *jsonObject) fail(want string) {
	if o.err == nil {
		o.err = fmt.Errorf("%.32q: want %s", o.key, want)
	}
}

func (o *jsonObject) null() bool { return o.val[0] == 'n' }

// raw returns the value as a payload that shares no memory with the frame. An explicit null is the payload `null`.
func (o *jsonObject) raw() Raw { return bytes.Clone(o.val) }

func (o *jsonObject) text() string {
	switch {
	case o.val[0] == '"':
		return unquoteJSON(o.val)
	case !o.null():
		o.fail("a string")
	}
	return ""
}

func (o *jsonObject) bool() bool {
	if c := o.val[0]; c != 't' && c != 'f' && c != 'n' {
		o.fail("true or false")
	}
	return o.val[0] == 't'
}

func (o *jsonObject) uint(bits int) uint64 {
	if o.null() {
		return 0
	}
	n, err := strconv.ParseUint(string(o.val), 10, bits)
	if err != nil {
		o.fail(fmt.Sprintf("an unsigned integer of %d bits", bits))
		return 0
	}
	return n
}

func (o *jsonObject) int(bits int) int64 {
	if o.null() {
		return 0
	}
	n, err := strconv.ParseInt(string(o.val), 10, bits)
	if err != nil {
		o.fail(fmt.Sprintf("an integer of %d bits", bits))
		return 0
	}
	return n
}

// object returns the value if it is an object. The result shares memory with the frame.
func (o *jsonObject) object() []byte {
	switch {
	case o.val[0] == '{':
		return o.val
	case !o.null():
		o.fail("an object")
	}
	return nil
}

func (o *jsonObject) position() *StreamPosition {
	val := o.object()
	if val == nil {
		return nil
	}
	p := new(StreamPosition)
	members := walkJSON(val)
	for members.next() {
		switch string(members.key) {
		case "offset":
			p.Offset = members.uint(64)
		case "epoch":
			p.Epoch = members.text()
		}
	}
	o.inner(members.err)
	return p
}

func (o *jsonObject) texts() map[string]string {
	val := o.object()
	if val == nil {
		return nil
	}
	texts := make(map[string]string)
	members := walkJSON(val)
	for members.next() {
		if members.null() {
			delete(texts, string(members.key))
			continue
		}
		texts[string(members.key)] = members.text()
	}
	o.inner(members.err)
	return texts
}

func (o *jsonObject) subs() map[string]*SubscribeRequest {
	val := o.object()
	if val == nil {
		return nil
	}
	subs := make(map[string]*SubscribeRequest)
	members := walkJSON(val)
	for members.next() {
		request := members.object()
		if request == nil {
			delete(subs, string(members.key))
			continue
		}
		r, err := decodeJSONSubscribe(request)
		members.inner(err)
		subs[string(members.key)] = r
	}
	o.inner(members.err)
	return subs
}

// inner takes over the error of a value inside the current member.
func (o *jsonObject) inner(err error) {
	if err != nil && o.err == nil {
		o.err = fmt.Errorf("%.32q: %w", o.key, err)
	}
}

func jsonSpace(c byte) bool { return c == ' ' || c == '\t' || c == '\r' || c == '\n' }

// jsonStringEnd returns the index after the string that b begins with.
func jsonStringEnd(b []byte) int {
	i := 1
	for b[i] != '"' {
		if b[i] == '\\' {
			i++
		}
		i++
	}
	return i + 1
}

// jsonValueEnd returns the index after the value that b begins with. It counts brackets instead of recursing, so deep
// nesting costs no stack.
func jsonValueEnd(b []byte) int {
	depth := 0
	for i := 0; i < len(b); {
		switch c := b[i]; c {
		case '"':
			i += jsonStringEnd(b[i:])
		case '{', '[':
			depth++
			i++
			continue
		case '}', ']':
			depth--
			i++
		case ',', ':', ' ', '\t', '\r', '\n':
			i++
			continue
		default:
			for i < len(b) && !jsonDelimiter(b[i]) {
				i++
			}
		}
		if depth == 0 {
			return i
		}
	}
	return len(b)
}

func jsonDelimiter(c byte) bool { return c == ',' || c == '}' || c == ']' || jsonSpace(c) }

// jsonTooDeep reports whether checked JSON is nested deeper than jsonMaxDepth.
func jsonTooDeep(b []byte) bool {
	if bytes.Count(b, []byte{'['})+bytes.Count(b, []byte{'{'}) <= jsonMaxDepth {
		return false // nearly always, and counting is far faster than walking
	}
	depth := 0
	for i := 0; i < len(b); i++ {
		switch b[i] {
		case '"':
			i += jsonStringEnd(b[i:]) - 1
		case '{', '[':
			if depth++; depth > jsonMaxDepth {
				return true
			}
		case '}', ']':
			depth--
		}
	}
	return false
}
