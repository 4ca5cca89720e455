package protocol

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"unicode/utf8"
)

// JSON is the JSON encoding (spec 2.1, 2.2). Payloads given to its Append methods must have passed [ValidPayload]: they
// are embedded as they are.
var JSON Codec = jsonCodec{}

type jsonCodec struct{}

var (
	errJSONEmpty   = errors.New("empty message")
	errJSONInvalid = errors.New("not valid JSON in UTF-8")
	errJSONObject  = errors.New("not an object")
)

// NextCommand implements [Codec].
func (jsonCodec) NextCommand(frame []byte) (*Command, []byte, error) {
	// A cut at the last byte leaves nothing over, which makes the optional trailing line feed legal, and only one.
	line, rest, _ := bytes.Cut(frame, []byte{'\n'})
	val, err := jsonDocument(line)
	if err != nil {
		return nil, nil, fmt.Errorf("protocol: decode command: %w", err)
	}
	cmd, err := decodeJSONCommand(val)
	if err != nil {
		return nil, nil, fmt.Errorf("protocol: decode command: %w", err)
	}
	return cmd, rest, nil
}

// DecodeConnect implements [Codec]. The request stands alone, so line feeds between its tokens are allowed.
func (jsonCodec) DecodeConnect(frame []byte) (*ConnectRequest, error) {
	val, err := jsonDocument(frame)
	if err != nil {
		return nil, fmt.Errorf("protocol: decode connect request: %w", err)
	}
	r, err := decodeJSONConnect(val)
	if err != nil {
		return nil, fmt.Errorf("protocol: decode connect request: %w", err)
	}
	return r, nil
}

// jsonMaxDepth bounds nesting: the parsers of some clients give up at 512 levels, counting the envelope around a payload.
const jsonMaxDepth = 500

// ValidPayload reports whether data can be embedded in a JSON message: one JSON value, without invalid UTF-8 in its
// strings, nested at most 500 levels deep.
func ValidPayload(data []byte) bool {
	// encoding/json lets invalid UTF-8 and 10,000 levels pass, and strict clients fail on the whole frame then.
	return utf8.Valid(data) && json.Valid(data) && !jsonTooDeep(data)
}

// jsonDocument checks that data is one valid value and returns it without the white space around it. Everything below
// works on checked values only, so it looks for their ends and not for mistakes.
func jsonDocument(data []byte) ([]byte, error) {
	if len(data) == 0 {
		return nil, errJSONEmpty
	}
	if !ValidPayload(data) {
		return nil, errJSONInvalid
	}
	return bytes.Trim(data, " \t\r\n"), nil
}

// jsonRequests are the names of the requests in the order in which the first one set wins (spec 3.1).
var jsonRequests = [...]string{
	"connect", "subscribe", "unsubscribe", "publish", "presence", "presence_stats", "history", "rpc", "send", "refresh",
	"sub_refresh",
}

func decodeJSONCommand(val []byte) (*Command, error) {
	cmd := new(Command)
	var requests [len(jsonRequests)][]byte
	o := walkJSON(val)
	for o.next() {
		if string(o.key) == "id" {
			cmd.ID = uint32(o.uint(32))
		} else if i := slices.Index(jsonRequests[:], string(o.key)); i >= 0 {
			requests[i] = o.object()
		}
	}
	if o.err != nil {
		return nil, o.err
	}
	for i, request := range requests {
		if request == nil {
			continue
		}
		if err := decodeJSONRequest(cmd, jsonRequests[i], request); err != nil {
			return nil, fmt.Errorf("%s: %w", jsonRequests[i], err)
		}
		break
	}
	return cmd, nil
}

func decodeJSONRequest(cmd *Command, name string, val []byte) (err error) {
	switch name {
	case "connect":
		cmd.Connect, err = decodeJSONConnect(val)
	case "subscribe":
		cmd.Subscribe, err = decodeJSONSubscribe(val)
	case "unsubscribe":
		cmd.Unsubscribe = new(UnsubscribeRequest)
		cmd.Unsubscribe.Channel, err = decodeJSONChannel(val)
	case "publish":
		cmd.Publish, err = decodeJSONPublish(val)
	case "presence":
		cmd.Presence = new(PresenceRequest)
		cmd.Presence.Channel, err = decodeJSONChannel(val)
	case "presence_stats":
		cmd.PresenceStats = new(PresenceStatsRequest)
		cmd.PresenceStats.Channel, err = decodeJSONChannel(val)
	case "history":
		cmd.History, err = decodeJSONHistory(val)
	case "rpc":
		cmd.RPC, err = decodeJSONRPC(val)
	case "send":
		cmd.Send, err = decodeJSONSend(val)
	case "refresh":
		cmd.Refresh, err = decodeJSONRefresh(val)
	case "sub_refresh":
		cmd.SubRefresh, err = decodeJSONSubRefresh(val)
	}
	return err
}

func decodeJSONConnect(val []byte) (*ConnectRequest, error) {
	r := new(ConnectRequest)
	o := walkJSON(val)
	for o.next() {
		switch string(o.key) {
		case "token":
			r.Token = o.text()
		case "data":
			r.Data = o.raw()
		case "subs":
			r.Subs = o.subs()
		case "name":
			r.Name = o.text()
		case "version":
			r.Version = o.text()
		case "headers":
			r.Headers = o.texts()
		}
	}
	return r, o.err
}

func decodeJSONSubscribe(val []byte) (*SubscribeRequest, error) {
	r := new(SubscribeRequest)
	o := walkJSON(val)
	for o.next() {
		switch string(o.key) {
		case "channel":
			r.Channel = o.text()
		case "token":
			r.Token = o.text()
		case "recover":
			r.Recover = o.bool()
		case "epoch":
			r.Epoch = o.text()
		case "offset":
			r.Offset = o.uint(64)
		case "data":
			r.Data = o.raw()
		case "positioned":
			r.Positioned = o.bool()
		case "recoverable":
			r.Recoverable = o.bool()
		case "join_leave":
			r.JoinLeave = o.bool()
		case "delta":
			r.Delta = o.text()
		case "tf":
			r.TagsFilter = o.filter(1)
		case "flag":
			r.Flag = o.int(64)
		case "type":
			r.Type = int32(o.int(32))
		}
	}
	return r, o.err
}

func decodeJSONChannel(val []byte) (channel string, err error) {
	o := walkJSON(val)
	for o.next() {
		if string(o.key) == "channel" {
			channel = o.text()
		}
	}
	return channel, o.err
}

func decodeJSONPublish(val []byte) (*PublishRequest, error) {
	r := new(PublishRequest)
	o := walkJSON(val)
	for o.next() {
		switch string(o.key) {
		case "channel":
			r.Channel = o.text()
		case "data":
			r.Data = o.raw()
		case "type":
			r.Type = int32(o.int(32))
		}
	}
	return r, o.err
}

func decodeJSONHistory(val []byte) (*HistoryRequest, error) {
	r := new(HistoryRequest)
	o := walkJSON(val)
	for o.next() {
		switch string(o.key) {
		case "channel":
			r.Channel = o.text()
		case "limit":
			r.Limit = int32(o.int(32))
		case "since":
			r.Since = o.position()
		case "reverse":
			r.Reverse = o.bool()
		}
	}
	return r, o.err
}

func decodeJSONRPC(val []byte) (*RPCRequest, error) {
	r := new(RPCRequest)
	o := walkJSON(val)
	for o.next() {
		switch string(o.key) {
		case "data":
			r.Data = o.raw()
		case "method":
			r.Method = o.text()
		}
	}
	return r, o.err
}

func decodeJSONSend(val []byte) (*SendRequest, error) {
	r := new(SendRequest)
	o := walkJSON(val)
	for o.next() {
		if string(o.key) == "data" {
			r.Data = o.raw()
		}
	}
	return r, o.err
}

func decodeJSONRefresh(val []byte) (*RefreshRequest, error) {
	r := new(RefreshRequest)
	o := walkJSON(val)
	for o.next() {
		if string(o.key) == "token" {
			r.Token = o.text()
		}
	}
	return r, o.err
}

func decodeJSONSubRefresh(val []byte) (*SubRefreshRequest, error) {
	r := new(SubRefreshRequest)
	o := walkJSON(val)
	for o.next() {
		switch string(o.key) {
		case "channel":
			r.Channel = o.text()
		case "token":
			r.Token = o.text()
		case "type":
			r.Type = int32(o.int(32))
		}
	}
	return r, o.err
}
