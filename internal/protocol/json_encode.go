package protocol

import (
	"bytes"
	"slices"
	"strconv"
)

// AppendReply implements [Codec].
func (jsonCodec) AppendReply(dst []byte, r *Reply) []byte {
	dst = append(dst, '{')
	if r.ID != 0 {
		dst = appendJSONUint(jsonKey(dst, `"id":`), uint64(r.ID))
	}
	return append(appendJSONResult(dst, r), '}')
}

// appendJSONResult writes the result under its key even when it is empty: spec 2.1, clients fail on a bare id.
func appendJSONResult(dst []byte, r *Reply) []byte {
	switch {
	case r.Error != nil:
		return appendJSONError(jsonKey(dst, `"error":`), r.Error)
	case r.Connect != nil:
		return appendJSONConnect(jsonKey(dst, `"connect":`), r.Connect, false)
	case r.Subscribe != nil:
		return appendJSONSubscribe(jsonKey(dst, `"subscribe":`), r.Subscribe)
	case r.Unsubscribe != nil:
		return append(jsonKey(dst, `"unsubscribe":`), "{}"...)
	case r.Publish != nil:
		return append(jsonKey(dst, `"publish":`), "{}"...)
	case r.Presence != nil:
		return appendJSONPresence(jsonKey(dst, `"presence":`), r.Presence)
	case r.PresenceStats != nil:
		dst = append(jsonKey(dst, `"presence_stats":`), `{"num_clients":`...)
		dst = appendJSONUint(dst, uint64(r.PresenceStats.NumClients))
		dst = appendJSONUint(jsonKey(dst, `"num_users":`), uint64(r.PresenceStats.NumUsers))
		return append(dst, '}')
	case r.History != nil:
		dst = append(jsonKey(dst, `"history":`), `{"publications":`...)
		dst = appendJSONPublications(dst, r.History.Publications)
		dst = AppendString(jsonKey(dst, `"epoch":`), r.History.Epoch)
		dst = appendJSONUint(jsonKey(dst, `"offset":`), r.History.Offset)
		return append(dst, '}')
	case r.RPC != nil:
		return appendJSONData(jsonKey(dst, `"rpc":`), r.RPC.Data)
	case r.Refresh != nil:
		return appendJSONExpiry(jsonKey(dst, `"refresh":`), r.Refresh.Expires, r.Refresh.TTL)
	case r.SubRefresh != nil:
		return appendJSONExpiry(jsonKey(dst, `"sub_refresh":`), r.SubRefresh.Expires, r.SubRefresh.TTL)
	}
	return dst
}

// AppendPush implements [Codec].
func (c jsonCodec) AppendPush(dst []byte, p *Push) []byte {
	dst = append(dst, `{"push":`...)
	return append(c.AppendBarePush(dst, p), '}')
}

// AppendBarePush implements [Codec].
func (jsonCodec) AppendBarePush(dst []byte, p *Push) []byte {
	dst = append(dst, '{')
	dst = jsonText(dst, `"channel":`, p.Channel)
	return append(appendJSONPushBody(dst, p), '}')
}

func appendJSONPushBody(dst []byte, p *Push) []byte {
	switch {
	case p.Pub != nil:
		return appendJSONPublication(jsonKey(dst, `"pub":`), p.Pub)
	case p.Join != nil:
		dst = append(jsonKey(dst, `"join":`), `{"info":`...)
		return append(appendJSONInfo(dst, p.Join), '}')
	case p.Leave != nil:
		dst = append(jsonKey(dst, `"leave":`), `{"info":`...)
		return append(appendJSONInfo(dst, p.Leave), '}')
	case p.Unsubscribe != nil:
		return appendJSONEnd(jsonKey(dst, `"unsubscribe":`), p.Unsubscribe.Code, p.Unsubscribe.Reason)
	case p.Message != nil:
		return appendJSONData(jsonKey(dst, `"message":`), p.Message.Data)
	case p.Subscribe != nil:
		dst = append(jsonKey(dst, `"subscribe":`), '{')
		dst = jsonFlag(dst, `"recoverable":`, p.Subscribe.Recoverable)
		dst = jsonFlag(dst, `"positioned":`, p.Subscribe.Positioned)
		dst = jsonText(dst, `"epoch":`, p.Subscribe.Epoch)
		dst = jsonNumber(dst, `"offset":`, p.Subscribe.Offset)
		return append(jsonPayload(dst, `"data":`, p.Subscribe.Data), '}')
	case p.Connect != nil:
		return appendJSONConnect(jsonKey(dst, `"connect":`), p.Connect, true)
	case p.Disconnect != nil:
		return appendJSONEnd(jsonKey(dst, `"disconnect":`), p.Disconnect.Code, p.Disconnect.Reason)
	case p.Refresh != nil:
		return appendJSONExpiry(jsonKey(dst, `"refresh":`), p.Refresh.Expires, p.Refresh.TTL)
	}
	return dst
}

// AppendPing implements [Codec].
func (jsonCodec) AppendPing(dst []byte) []byte { return append(dst, "{}"...) }

func appendJSONError(dst []byte, e *Error) []byte {
	dst = appendJSONUint(append(dst, `{"code":`...), uint64(e.Code)) // code and message always: spec 18
	dst = AppendString(jsonKey(dst, `"message":`), e.Message)
	return append(jsonFlag(dst, `"temporary":`, e.Temporary), '}')
}

// appendJSONEnd writes an unsubscribe or a disconnect, both fields always: spec 18.
func appendJSONEnd(dst []byte, code uint32, reason string) []byte {
	dst = appendJSONUint(append(dst, `{"code":`...), uint64(code))
	return append(AppendString(jsonKey(dst, `"reason":`), reason), '}')
}

func appendJSONConnect(dst []byte, r *ConnectResult, push bool) []byte {
	dst = AppendString(append(dst, `{"client":`...), r.Client)
	dst = jsonText(dst, `"version":`, r.Version)
	dst = jsonExpiry(dst, r.Expires, r.TTL)
	dst = jsonPayload(dst, `"data":`, r.Data)
	if len(r.Subs) > 0 {
		dst = append(jsonKey(dst, `"subs":`), '{')
		var room [jsonSortRoom]string
		for _, channel := range sortedKeys(room[:0], r.Subs) {
			dst = appendJSONSubscribe(jsonMember(dst, channel), r.Subs[channel])
		}
		dst = append(dst, '}')
	}
	dst = jsonNumber(dst, `"ping":`, uint64(r.Ping))
	if !push {
		dst = jsonFlag(dst, `"pong":`, r.Pong)
	}
	dst = jsonText(dst, `"session":`, r.Session)
	if !push {
		dst = jsonText(dst, `"node":`, r.Node)
	}
	return append(dst, '}')
}

func appendJSONSubscribe(dst []byte, r *SubscribeResult) []byte {
	dst = jsonExpiry(append(dst, '{'), r.Expires, r.TTL)
	dst = jsonFlag(dst, `"recoverable":`, r.Recoverable)
	dst = jsonFlag(dst, `"positioned":`, r.Positioned)
	dst = jsonFlag(dst, `"was_recovering":`, r.WasRecovering)
	dst = jsonFlag(dst, `"recovered":`, r.Recovered)
	dst = jsonText(dst, `"epoch":`, r.Epoch)
	dst = jsonNumber(dst, `"offset":`, r.Offset)
	dst = jsonFlag(dst, `"delta":`, r.Delta)
	if len(r.Publications) > 0 {
		dst = appendJSONPublications(jsonKey(dst, `"publications":`), r.Publications)
	}
	return append(jsonPayload(dst, `"data":`, r.Data), '}')
}

func appendJSONPublications(dst []byte, pubs []*Publication) []byte {
	dst = append(dst, '[')
	for i, p := range pubs {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = appendJSONPublication(dst, p)
	}
	return append(dst, ']')
}

func appendJSONPublication(dst []byte, p *Publication) []byte {
	dst = jsonPayload(append(dst, '{'), `"data":`, p.Data)
	if p.Info != nil {
		dst = appendJSONInfo(jsonKey(dst, `"info":`), p.Info)
	}
	dst = jsonNumber(dst, `"offset":`, p.Offset)
	dst = jsonFlag(dst, `"delta":`, p.Delta)
	if len(p.Tags) > 0 {
		dst = append(jsonKey(dst, `"tags":`), '{')
		var room [jsonSortRoom]string
		for _, name := range sortedKeys(room[:0], p.Tags) {
			dst = AppendString(jsonMember(dst, name), p.Tags[name])
		}
		dst = append(dst, '}')
	}
	return append(dst, '}')
}

func appendJSONPresence(dst []byte, r *PresenceResult) []byte {
	dst = append(dst, `{"presence":{`...)
	var room [jsonSortRoom]string
	for _, client := range sortedKeys(room[:0], r.Presence) {
		dst = appendJSONInfo(jsonMember(dst, client), r.Presence[client])
	}
	return append(dst, "}}"...)
}

func appendJSONInfo(dst []byte, info *ClientInfo) []byte {
	dst = AppendString(append(dst, `{"user":`...), info.User)
	dst = AppendString(jsonKey(dst, `"client":`), info.Client)
	dst = jsonPayload(dst, `"conn_info":`, info.ConnInfo)
	return append(jsonPayload(dst, `"chan_info":`, info.ChanInfo), '}')
}

func appendJSONData(dst []byte, data Raw) []byte {
	return append(jsonPayload(append(dst, '{'), `"data":`, data), '}')
}

func appendJSONExpiry(dst []byte, expires bool, ttl uint32) []byte {
	return append(jsonExpiry(append(dst, '{'), expires, ttl), '}')
}

// jsonExpiry writes ttl whenever expires is true, because clients read it then without a default (spec 18).
func jsonExpiry(dst []byte, expires bool, ttl uint32) []byte {
	if expires {
		return appendJSONUint(jsonKey(jsonFlag(dst, `"expires":`, true), `"ttl":`), uint64(ttl))
	}
	return jsonNumber(dst, `"ttl":`, uint64(ttl))
}

// jsonKey appends a comma unless the member is the first of its object, and the key, given with its quotes and colon.
// No value ends in a brace that opens, so the last byte tells.
func jsonKey(dst []byte, key string) []byte {
	if dst[len(dst)-1] != '{' {
		dst = append(dst, ',')
	}
	return append(dst, key...)
}

// jsonMember is jsonKey for names that are data.
func jsonMember(dst []byte, name string) []byte {
	return append(AppendString(jsonKey(dst, ""), name), ':')
}

func jsonFlag(dst []byte, key string, set bool) []byte {
	if !set {
		return dst
	}
	return append(jsonKey(dst, key), "true"...)
}

func jsonNumber(dst []byte, key string, n uint64) []byte {
	if n == 0 {
		return dst
	}
	return appendJSONUint(jsonKey(dst, key), n)
}

func jsonText(dst []byte, key, s string) []byte {
	if s == "" {
		return dst
	}
	return AppendString(jsonKey(dst, key), s)
}

// jsonPayload treats an empty payload, which is no JSON value, like a missing one.
func jsonPayload(dst []byte, key string, data Raw) []byte {
	if len(data) == 0 {
		return dst
	}
	return appendJSONRaw(jsonKey(dst, key), data)
}

// appendJSONRaw embeds a payload without raw line feeds, which delimit messages, and without carriage returns, which
// end a line of an event stream. Valid JSON has both only as white space between tokens.
func appendJSONRaw(dst []byte, data Raw) []byte {
	if bytes.IndexByte(data, '\n') < 0 && bytes.IndexByte(data, '\r') < 0 {
		return append(dst, data...)
	}
	for _, c := range data {
		if c != '\n' && c != '\r' {
			dst = append(dst, c)
		}
	}
	return dst
}

func appendJSONUint(dst []byte, n uint64) []byte { return strconv.AppendUint(dst, n, 10) }

// jsonSortRoom is how many keys of a map are sorted without an allocation.
const jsonSortRoom = 16

// sortedKeys makes the order of maps stable, so that equal messages are equal bytes.
func sortedKeys[V any](keys []string, m map[string]V) []string {
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}
