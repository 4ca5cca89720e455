package protocol

import (
	"encoding/binary"
	"unicode/utf8"

	"google.golang.org/protobuf/encoding/protowire"
)

// Numbers of the fields below are those of spec 3. Fields with their zero value are left out (spec 2.3).

// AppendReply implements [Codec].
func (protobufCodec) AppendReply(dst []byte, r *Reply) []byte {
	dst = protoUint(dst, 1, uint64(r.ID))
	return appendProtoResult(dst, r)
}

// appendProtoResult writes the result even when it is empty, as a field of length 0: spec 20, example E.
func appendProtoResult(dst []byte, r *Reply) []byte {
	switch {
	case r.Error != nil:
		return protoMessage(dst, 2, r.Error, appendProtoError)
	case r.Connect != nil:
		return protoMessage(dst, 5, r.Connect, appendProtoConnect)
	case r.Subscribe != nil:
		return protoMessage(dst, 6, r.Subscribe, appendProtoSubscribe)
	case r.Unsubscribe != nil:
		return protoBytes(dst, 7, nil)
	case r.Publish != nil:
		return protoBytes(dst, 8, nil)
	case r.Presence != nil:
		return protoMessage(dst, 9, r.Presence, appendProtoPresence)
	case r.PresenceStats != nil:
		return protoMessage(dst, 10, r.PresenceStats, appendProtoPresenceStats)
	case r.History != nil:
		return protoMessage(dst, 11, r.History, appendProtoHistory)
	case r.RPC != nil:
		return protoMessage(dst, 13, r.RPC.Data, appendProtoData)
	case r.Refresh != nil:
		return protoMessage(dst, 14, r.Refresh, appendProtoRefresh)
	case r.SubRefresh != nil:
		return protoMessage(dst, 15, r.SubRefresh, appendProtoSubRefresh)
	}
	return dst
}

// AppendPush implements [Codec].
func (c protobufCodec) AppendPush(dst []byte, p *Push) []byte {
	return protoMessage(dst, 4, p, c.AppendBarePush)
}

// AppendBarePush implements [Codec].
func (protobufCodec) AppendBarePush(dst []byte, p *Push) []byte {
	dst = protoText(dst, 2, p.Channel)
	switch {
	case p.Pub != nil:
		return protoMessage(dst, 4, p.Pub, appendProtoPublication)
	case p.Join != nil:
		return protoMessage(dst, 5, p.Join, appendProtoMembership)
	case p.Leave != nil:
		return protoMessage(dst, 6, p.Leave, appendProtoMembership)
	case p.Unsubscribe != nil:
		return protoMessage(dst, 7, p.Unsubscribe, appendProtoUnsubscribe)
	case p.Message != nil:
		return protoMessage(dst, 8, p.Message.Data, appendProtoData)
	case p.Subscribe != nil:
		return protoMessage(dst, 9, p.Subscribe, appendProtoServerSubscribe)
	case p.Connect != nil:
		return protoMessage(dst, 10, p.Connect, appendProtoConnectPush)
	case p.Disconnect != nil:
		return protoMessage(dst, 11, p.Disconnect, appendProtoDisconnect)
	case p.Refresh != nil:
		return protoMessage(dst, 12, p.Refresh, appendProtoRefreshPush)
	}
	return dst
}

// AppendPing implements [Codec]. The empty message is the ping (spec 2.3).
func (protobufCodec) AppendPing(dst []byte) []byte { return dst }

func appendProtoError(dst []byte, e *Error) []byte {
	dst = protoUint(dst, 1, uint64(e.Code))
	dst = protoText(dst, 2, e.Message)
	return protoBool(dst, 3, e.Temporary)
}

func appendProtoConnect(dst []byte, r *ConnectResult) []byte {
	dst = protoText(dst, 1, r.Client)
	dst = protoText(dst, 2, r.Version)
	dst = protoBool(dst, 3, r.Expires)
	dst = protoUint(dst, 4, uint64(r.TTL))
	dst = protoPayload(dst, 5, r.Data)
	dst = appendProtoSubs(dst, 6, r.Subs)
	dst = protoUint(dst, 7, uint64(r.Ping))
	dst = protoBool(dst, 8, r.Pong)
	dst = protoText(dst, 9, r.Session)
	return protoText(dst, 10, r.Node)
}

// appendProtoConnectPush has the same fields under other numbers (spec 3.4), but for those that are not sent.
func appendProtoConnectPush(dst []byte, r *ConnectResult) []byte {
	dst = protoText(dst, 1, r.Client)
	dst = protoText(dst, 2, r.Version)
	dst = protoPayload(dst, 3, r.Data)
	dst = appendProtoSubs(dst, 4, r.Subs)
	dst = protoBool(dst, 5, r.Expires)
	dst = protoUint(dst, 6, uint64(r.TTL))
	dst = protoUint(dst, 7, uint64(r.Ping))
	return protoText(dst, 9, r.Session)
}

func appendProtoSubs(dst []byte, num protowire.Number, subs map[string]*SubscribeResult) []byte {
	return protoMap(dst, num, subs, func(dst []byte, r *SubscribeResult) []byte {
		return protoMessage(dst, 2, r, appendProtoSubscribe)
	})
}

func appendProtoSubscribe(dst []byte, r *SubscribeResult) []byte {
	dst = protoBool(dst, 1, r.Expires)
	dst = protoUint(dst, 2, uint64(r.TTL))
	dst = protoBool(dst, 3, r.Recoverable)
	dst = protoText(dst, 6, r.Epoch)
	dst = appendProtoPublications(dst, 7, r.Publications)
	dst = protoBool(dst, 8, r.Recovered)
	dst = protoUint(dst, 9, r.Offset)
	dst = protoBool(dst, 10, r.Positioned)
	dst = protoPayload(dst, 11, r.Data)
	dst = protoBool(dst, 12, r.WasRecovering)
	return protoBool(dst, 13, r.Delta)
}

func appendProtoPublications(dst []byte, num protowire.Number, pubs []*Publication) []byte {
	for _, p := range pubs {
		dst = protoMessage(dst, num, p, appendProtoPublication)
	}
	return dst
}

func appendProtoPublication(dst []byte, p *Publication) []byte {
	dst = protoPayload(dst, 4, p.Data)
	if p.Info != nil {
		dst = protoMessage(dst, 5, p.Info, appendProtoInfo)
	}
	dst = protoUint(dst, 6, p.Offset)
	dst = protoMap(dst, 7, p.Tags, func(dst []byte, value string) []byte { return protoText(dst, 2, value) })
	return protoBool(dst, 8, p.Delta)
}

func appendProtoInfo(dst []byte, info *ClientInfo) []byte {
	dst = protoText(dst, 1, info.User)
	dst = protoText(dst, 2, info.Client)
	dst = protoPayload(dst, 3, info.ConnInfo)
	return protoPayload(dst, 4, info.ChanInfo)
}

// appendProtoMembership is a join or a leave, whose info must be there even when it is empty (spec 18).
func appendProtoMembership(dst []byte, info *ClientInfo) []byte {
	return protoMessage(dst, 1, info, appendProtoInfo)
}

func appendProtoPresence(dst []byte, r *PresenceResult) []byte {
	return protoMap(dst, 1, r.Presence, func(dst []byte, info *ClientInfo) []byte {
		return protoMessage(dst, 2, info, appendProtoInfo)
	})
}

func appendProtoPresenceStats(dst []byte, r *PresenceStatsResult) []byte {
	dst = protoUint(dst, 1, uint64(r.NumClients))
	return protoUint(dst, 2, uint64(r.NumUsers))
}

func appendProtoHistory(dst []byte, r *HistoryResult) []byte {
	dst = appendProtoPublications(dst, 1, r.Publications)
	dst = protoText(dst, 2, r.Epoch)
	return protoUint(dst, 3, r.Offset)
}

func appendProtoData(dst []byte, data Raw) []byte { return protoPayload(dst, 1, data) }

func appendProtoRefresh(dst []byte, r *RefreshResult) []byte {
	dst = protoBool(dst, 3, r.Expires)
	return protoUint(dst, 4, uint64(r.TTL))
}

func appendProtoSubRefresh(dst []byte, r *SubRefreshResult) []byte {
	dst = protoBool(dst, 1, r.Expires)
	return protoUint(dst, 2, uint64(r.TTL))
}

func appendProtoRefreshPush(dst []byte, r *Refresh) []byte {
	dst = protoBool(dst, 1, r.Expires)
	return protoUint(dst, 2, uint64(r.TTL))
}

func appendProtoUnsubscribe(dst []byte, u *Unsubscribe) []byte {
	dst = protoUint(dst, 2, uint64(u.Code))
	return protoText(dst, 3, u.Reason)
}

func appendProtoDisconnect(dst []byte, d *Disconnect) []byte {
	dst = protoUint(dst, 1, uint64(d.Code))
	return protoText(dst, 2, d.Reason)
}

func appendProtoServerSubscribe(dst []byte, s *Subscribe) []byte {
	dst = protoBool(dst, 1, s.Recoverable)
	dst = protoText(dst, 4, s.Epoch)
	dst = protoUint(dst, 5, s.Offset)
	dst = protoBool(dst, 6, s.Positioned)
	return protoPayload(dst, 7, s.Data)
}

func protoUint(dst []byte, num protowire.Number, v uint64) []byte {
	if v == 0 {
		return dst
	}
	return protowire.AppendVarint(protowire.AppendTag(dst, num, protowire.VarintType), v)
}

func protoBool(dst []byte, num protowire.Number, v bool) []byte {
	return protoUint(dst, num, protowire.EncodeBool(v))
}

func protoText(dst []byte, num protowire.Number, s string) []byte {
	if s == "" {
		return dst
	}
	if !utf8.ValidString(s) { // strict clients refuse the whole message
		s = string([]rune(s)) // as in JSON, each byte that is wrong becomes U+FFFD
	}
	return protowire.AppendString(protowire.AppendTag(dst, num, protowire.BytesType), s)
}

func protoPayload(dst []byte, num protowire.Number, data Raw) []byte {
	if len(data) == 0 {
		return dst
	}
	return protoBytes(dst, num, data)
}

func protoBytes(dst []byte, num protowire.Number, b []byte) []byte {
	return protowire.AppendBytes(protowire.AppendTag(dst, num, protowire.BytesType), b)
}

// protoMessage appends a nested message. Its length is known when it is there: a byte is left for that, and if it takes more
// the message is moved.
func protoMessage[M any](dst []byte, num protowire.Number, m M, build func([]byte, M) []byte) []byte {
	dst = append(protowire.AppendTag(dst, num, protowire.BytesType), 0)
	start := len(dst)
	dst = build(dst, m)
	size := uint64(len(dst) - start)
	if more := protowire.SizeVarint(size) - 1; more > 0 {
		var room [binary.MaxVarintLen64]byte
		dst = append(dst, room[:more]...)
		copy(dst[start+more:], dst[start:])
	}
	binary.PutUvarint(dst[start-1:], size)
	return dst
}

// protoMap appends a map in the order of its keys, so that equal messages are equal bytes. build appends the value as field 2.
func protoMap[V any](dst []byte, num protowire.Number, m map[string]V, build func([]byte, V) []byte) []byte {
	if len(m) == 0 {
		return dst
	}
	var room [jsonSortRoom]string
	for _, key := range sortedKeys(room[:0], m) {
		dst = protoMessage(dst, num, m[key], func(dst []byte, value V) []byte {
			return build(protoText(dst, 1, key), value)
		})
	}
	return dst
}
