package protocol

import (
	"fmt"

	"google.golang.org/protobuf/encoding/protowire"
)

// DecodeJSONFilter decodes a tags filter that stands alone.
func DecodeJSONFilter(text []byte) (*FilterNode, error) {
	val, err := jsonDocument(text)
	if err != nil {
		return nil, fmt.Errorf("protocol: decode filter: %w", err)
	}
	o := jsonObject{val: val, key: []byte("filter")}
	n := o.filter(1)
	switch {
	case o.err != nil:
		return nil, fmt.Errorf("protocol: decode filter: %w", o.err)
	case n == nil:
		return nil, fmt.Errorf("protocol: decode filter: %w", errJSONObject)
	}
	return n, nil
}

// filter returns the tags filter that the value is, at a level counted from 1.
func (o *jsonObject) filter(level int) *FilterNode {
	val := o.object()
	switch {
	case val == nil:
		return nil
	case len(val) > maxFilterSize || level > maxFilterDepth:
		return overlongFilter()
	}
	n := new(FilterNode)
	members := walkJSON(val)
	for members.next() {
		switch string(members.key) {
		case "op":
			n.Op = members.text()
		case "key":
			n.Key = members.text()
		case "cmp":
			n.Cmp = members.text()
		case "val":
			n.Val = members.text()
		case "vals":
			n.Vals = nil
			members.each(func(element *jsonObject) { n.Vals = append(n.Vals, element.text()) })
		case "nodes":
			n.Nodes = nil
			members.each(func(element *jsonObject) { n.Nodes = append(n.Nodes, element.filter(level+1)) })
		}
	}
	if o.err == nil {
		o.err = members.err // without the name of each level: errors go to logs
	}
	return n
}

// each calls f for every element of the value, which must be an array without nulls.
func (o *jsonObject) each(f func(element *jsonObject)) {
	switch {
	case o.null():
		return
	case o.val[0] != '[':
		o.fail("an array")
		return
	}
	rest := jsonObject{rest: o.val[1:], key: o.key}
	for {
		rest.skip(0)
		switch rest.rest[0] {
		case ']':
			return
		case ',':
			rest.skip(1)
		}
		end := jsonValueEnd(rest.rest)
		rest.val, rest.rest = rest.rest[:end], rest.rest[end:]
		if rest.null() {
			rest.fail("no null")
		} else {
			f(&rest)
		}
		if rest.err != nil {
			o.err = rest.err
			return
		}
	}
}

func decodeProtoFilter(message []byte, level int) (*FilterNode, error) {
	if len(message) > maxFilterSize || level > maxFilterDepth {
		return overlongFilter(), nil
	}
	n := new(FilterNode)
	f := protoFields{rest: message}
	for f.next() {
		switch f.num {
		case 1:
			f.text(&n.Op)
		case 2:
			f.text(&n.Key)
		case 3:
			f.text(&n.Cmp)
		case 4:
			f.text(&n.Val)
		case 5:
			if f.typ == protowire.BytesType {
				var val string
				f.text(&val)
				n.Vals = append(n.Vals, val)
			}
		case 6:
			if f.typ != protowire.BytesType {
				continue
			}
			child, err := decodeProtoFilter(f.bytes, level+1)
			if err != nil {
				return nil, err
			}
			n.Nodes = append(n.Nodes, child)
		}
	}
	return n, f.err
}
