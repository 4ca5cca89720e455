package protocol

import (
	"fmt"

	"google.golang.org/protobuf/encoding/protowire"
)

// maxPeerChannels bounds the names that a [ProtobufPeer] keeps: more than a connection may have.
const maxPeerChannels = 1000

// ProtobufPeer is the client's half of Protobuf. The zero value is ready. Publications cost it no allocation.
type ProtobufPeer struct {
	m        Incoming
	push     Push
	pub      Publication
	channels map[string]string
}

var _ Peer = (*ProtobufPeer)(nil)

// AppendCommand implements [Peer].
func (*ProtobufPeer) AppendCommand(dst []byte, cmd *Command) []byte {
	message := protoUint(nil, 1, uint64(cmd.ID))
	switch {
	case cmd.Connect != nil:
		message = protoMessage(message, 4, cmd.Connect, appendProtoConnectRequest)
	case cmd.Subscribe != nil:
		message = protoMessage(message, 5, cmd.Subscribe, appendProtoSubscribeRequest)
	}
	return append(protowire.AppendVarint(dst, uint64(len(message))), message...)
}

func appendProtoConnectRequest(dst []byte, r *ConnectRequest) []byte {
	dst = protoText(dst, 1, r.Token)
	dst = protoPayload(dst, 2, r.Data)
	dst = protoMap(dst, 3, r.Subs, func(dst []byte, r *SubscribeRequest) []byte {
		return protoMessage(dst, 2, r, appendProtoSubscribeRequest)
	})
	dst = protoText(dst, 4, r.Name)
	return protoText(dst, 5, r.Version)
}

func appendProtoSubscribeRequest(dst []byte, r *SubscribeRequest) []byte {
	dst = protoText(dst, 1, r.Channel)
	dst = protoText(dst, 2, r.Token)
	dst = protoBool(dst, 3, r.Recover)
	dst = protoText(dst, 6, r.Epoch)
	dst = protoUint(dst, 7, r.Offset)
	dst = protoPayload(dst, 8, r.Data)
	dst = protoBool(dst, 9, r.Positioned)
	dst = protoBool(dst, 10, r.Recoverable)
	dst = protoBool(dst, 11, r.JoinLeave)
	if r.TagsFilter != nil {
		dst = protoMessage(dst, 13, r.TagsFilter, appendProtoFilter)
	}
	return protoUint(dst, 14, uint64(r.Flag))
}

func appendProtoFilter(dst []byte, n *FilterNode) []byte {
	dst = protoText(dst, 1, n.Op)
	dst = protoText(dst, 2, n.Key)
	dst = protoText(dst, 3, n.Cmp)
	dst = protoText(dst, 4, n.Val)
	for _, val := range n.Vals {
		dst = protoBytes(dst, 5, []byte(val)) // also an empty one
	}
	for _, child := range n.Nodes {
		dst = protoMessage(dst, 6, child, appendProtoFilter)
	}
	return dst
}

// NextMessage implements [Peer].
func (p *ProtobufPeer) NextMessage(frames []byte) (m *Incoming, rest []byte, err error) {
	message, n := protowire.ConsumeBytes(frames)
	if n < 0 {
		return nil, nil, fmt.Errorf("protocol: decode message: %w", errProtoLength)
	}
	p.m = Incoming{}
	f := protoFields{rest: message}
	for f.next() {
		switch f.num {
		case 1:
			f.uint32(&p.m.ID)
		case 2:
			p.m.Error = new(Error)
			f.nested(func(f *protoFields) { f.replyError(p.m.Error) })
		case 4:
			p.m.Push = &p.push
			p.decodePush(&f)
		case 5:
			p.m.Connect = new(ConnectResult)
			f.nested(func(f *protoFields) { f.connectResult(p.m.Connect) })
		case 6:
			p.m.Subscribe = new(SubscribeResult)
			f.nested(func(f *protoFields) { f.subscribeResult(p.m.Subscribe) })
		}
	}
	if f.err != nil {
		return nil, nil, fmt.Errorf("protocol: decode message: %w", f.err)
	}
	return &p.m, frames[n:], nil
}

// decodePush is written out for what comes most often; everything else is rare.
func (p *ProtobufPeer) decodePush(outer *protoFields) {
	p.push = Push{}
	f := protoFields{rest: outer.bytes}
	for f.next() {
		switch f.num {
		case 2:
			p.push.Channel = p.channel(f.bytes)
		case 4:
			p.pub = Publication{}
			p.push.Pub = &p.pub
			e := protoFields{rest: f.bytes}
			for e.next() {
				e.publication(&p.pub)
			}
			f.err = e.err
		default:
			f.push(&p.push)
		}
	}
	outer.err = f.err
}

// channel returns a name without making it each time.
func (p *ProtobufPeer) channel(name []byte) string {
	if known, ok := p.channels[string(name)]; ok {
		return known
	}
	channel := string(name)
	if p.channels == nil || len(p.channels) >= maxPeerChannels {
		p.channels = make(map[string]string)
	}
	p.channels[channel] = channel
	return channel
}

// nested reads the fields of a nested message, one by one.
func (f *protoFields) nested(read func(*protoFields)) {
	e := protoFields{rest: f.bytes}
	for e.next() {
		read(&e)
	}
	f.err = e.err
}

// alias sets a payload that is part of the message.
func (f *protoFields) alias(v *Raw) {
	if f.typ == protowire.BytesType {
		*v = f.bytes
	}
}

func (f *protoFields) replyError(e *Error) {
	switch f.num {
	case 1:
		f.uint32(&e.Code)
	case 2:
		f.text(&e.Message)
	case 3:
		f.bool(&e.Temporary)
	}
}

func (f *protoFields) connectResult(r *ConnectResult) {
	switch f.num {
	case 1:
		f.text(&r.Client)
	case 5:
		f.alias(&r.Data)
	case 7:
		f.uint32(&r.Ping)
	case 9:
		f.text(&r.Session)
	case 10:
		f.text(&r.Node)
	case 6:
		channel, message, ok := f.messageEntry()
		if !ok {
			return
		}
		if r.Subs == nil {
			r.Subs = make(map[string]*SubscribeResult)
		}
		sub := new(SubscribeResult)
		e := protoFields{rest: message}
		for e.next() {
			e.subscribeResult(sub)
		}
		f.err = e.err
		r.Subs[channel] = sub
	}
}

func (f *protoFields) subscribeResult(r *SubscribeResult) {
	switch f.num {
	case 3:
		f.bool(&r.Recoverable)
	case 6:
		f.text(&r.Epoch)
	case 7:
		p := new(Publication)
		f.nested(func(f *protoFields) { f.publication(p) })
		r.Publications = append(r.Publications, p)
	case 8:
		f.bool(&r.Recovered)
	case 9:
		f.uint64(&r.Offset)
	case 10:
		f.bool(&r.Positioned)
	case 11:
		f.alias(&r.Data)
	case 12:
		f.bool(&r.WasRecovering)
	}
}

func (f *protoFields) publication(p *Publication) {
	switch f.num {
	case 4:
		f.alias(&p.Data)
	case 5:
		p.Info = new(ClientInfo)
		f.nested(func(f *protoFields) { f.clientInfo(p.Info) })
	case 6:
		f.uint64(&p.Offset)
	case 7:
		if key, value, ok := f.textEntry(); ok {
			if p.Tags == nil {
				p.Tags = make(map[string]string)
			}
			p.Tags[key] = value
		}
	}
}

func (f *protoFields) clientInfo(i *ClientInfo) {
	switch f.num {
	case 1:
		f.text(&i.User)
	case 2:
		f.text(&i.Client)
	case 3:
		f.alias(&i.ConnInfo)
	case 4:
		f.alias(&i.ChanInfo)
	}
}

// push reads the rarer kinds of pushes.
func (f *protoFields) push(p *Push) {
	switch f.num {
	case 5, 6:
		info := new(ClientInfo)
		f.nested(func(f *protoFields) {
			if f.num == 1 {
				f.nested(func(f *protoFields) { f.clientInfo(info) })
			}
		})
		if f.num == 5 {
			p.Join = info
		} else {
			p.Leave = info
		}
	case 7:
		p.Unsubscribe = new(Unsubscribe)
		f.nested(func(f *protoFields) {
			switch f.num {
			case 2:
				f.uint32(&p.Unsubscribe.Code)
			case 3:
				f.text(&p.Unsubscribe.Reason)
			}
		})
	case 8:
		p.Message = new(Message)
		f.nested(func(f *protoFields) {
			if f.num == 1 {
				f.alias(&p.Message.Data)
			}
		})
	case 9:
		p.Subscribe = new(Subscribe)
		f.nested(func(f *protoFields) { f.serverSubscribe(p.Subscribe) })
	case 11:
		p.Disconnect = new(Disconnect)
		f.nested(func(f *protoFields) {
			switch f.num {
			case 1:
				f.uint32(&p.Disconnect.Code)
			case 2:
				f.text(&p.Disconnect.Reason)
			}
		})
	}
}

func (f *protoFields) serverSubscribe(s *Subscribe) {
	switch f.num {
	case 1:
		f.bool(&s.Recoverable)
	case 4:
		f.text(&s.Epoch)
	case 5:
		f.uint64(&s.Offset)
	case 6:
		f.bool(&s.Positioned)
	case 7:
		f.alias(&s.Data)
	}
}
