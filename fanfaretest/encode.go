package fanfaretest

import (
	"bytes"
	"encoding/json"
	"strconv"
)

// object builds a JSON object field by field. Zero values are left out, as the published clients do, and payloads go in
// byte for byte, which encoding/json does not do.
type object []byte

func (o *object) key(name string) {
	if len(*o) == 0 {
		*o = append(*o, '{')
	} else {
		*o = append(*o, ',')
	}
	*o = append(append(*o, quote(name)...), ':')
}

func (o *object) text(name, v string) {
	if v != "" {
		o.key(name)
		*o = append(*o, quote(v)...)
	}
}

func (o *object) flag(name string, v bool) {
	if v {
		o.key(name)
		*o = append(*o, "true"...)
	}
}

func (o *object) int(name string, v int64) {
	if v != 0 {
		o.key(name)
		*o = strconv.AppendInt(*o, v, 10)
	}
}

func (o *object) uint(name string, v uint64) {
	if v != 0 {
		o.key(name)
		*o = strconv.AppendUint(*o, v, 10)
	}
}

// raw adds a JSON value without its line feeds, which delimit commands and are only white space in JSON.
func (o *object) raw(name string, v []byte) {
	if len(v) > 0 {
		o.key(name)
		*o = append(*o, bytes.ReplaceAll(v, []byte{'\n'}, nil)...)
	}
}

// object adds a nested object, even an empty one.
func (o *object) object(name string, v object) {
	o.key(name)
	*o = append(*o, v.bytes()...)
}

func (o object) bytes() []byte {
	if len(o) == 0 {
		return []byte("{}")
	}
	return append(bytes.Clone(o), '}')
}

func quote(s string) []byte {
	b, err := json.Marshal(s)
	if err != nil {
		panic(err) // a string always has a JSON form
	}
	return b
}
