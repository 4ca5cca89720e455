package protocol

import (
	"bytes"
	"encoding/json"
	"fmt"
)

// JSONPeer is the client's half of JSON. It is made for a few messages, not for speed. The zero value is ready.
type JSONPeer struct{}

var _ Peer = (*JSONPeer)(nil)

// peerCommand is a command as JSON. Its payloads are left out if there are none.
type peerCommand struct {
	ID        uint32                `json:"id,omitzero"`
	Connect   *peerConnectRequest   `json:"connect,omitempty"`
	Subscribe *peerSubscribeRequest `json:"subscribe,omitempty"`
}

type peerConnectRequest struct {
	Token   string                           `json:"token,omitzero"`
	Data    json.RawMessage                  `json:"data,omitempty"`
	Subs    map[string]*peerSubscribeRequest `json:"subs,omitempty"`
	Name    string                           `json:"name,omitzero"`
	Version string                           `json:"version,omitzero"`
}

type peerSubscribeRequest struct {
	Channel     string          `json:"channel,omitzero"`
	Token       string          `json:"token,omitzero"`
	Recover     bool            `json:"recover,omitzero"`
	Epoch       string          `json:"epoch,omitzero"`
	Offset      uint64          `json:"offset,omitzero"`
	Data        json.RawMessage `json:"data,omitempty"`
	Positioned  bool            `json:"positioned,omitzero"`
	Recoverable bool            `json:"recoverable,omitzero"`
	JoinLeave   bool            `json:"join_leave,omitzero"`
	TagsFilter  *peerFilter     `json:"tf,omitempty"`
	Flag        int64           `json:"flag,omitzero"`
}

type peerFilter struct {
	Op    string        `json:"op,omitzero"`
	Key   string        `json:"key,omitzero"`
	Cmp   string        `json:"cmp,omitzero"`
	Val   string        `json:"val,omitzero"`
	Vals  []string      `json:"vals,omitempty"`
	Nodes []*peerFilter `json:"nodes,omitempty"`
}

// AppendCommand implements [Peer].
func (*JSONPeer) AppendCommand(dst []byte, cmd *Command) []byte {
	c := peerCommand{ID: cmd.ID}
	if r := cmd.Connect; r != nil {
		c.Connect = &peerConnectRequest{Token: r.Token, Data: json.RawMessage(r.Data), Name: r.Name, Version: r.Version}
		for channel, sub := range r.Subs {
			if c.Connect.Subs == nil {
				c.Connect.Subs = make(map[string]*peerSubscribeRequest)
			}
			c.Connect.Subs[channel] = peerSubscribe(sub)
		}
	}
	if cmd.Subscribe != nil {
		c.Subscribe = peerSubscribe(cmd.Subscribe)
	}
	line, err := json.Marshal(&c)
	if err != nil { // a payload that is no JSON: the caller's
		panic(fmt.Errorf("protocol: encode command: %w", err))
	}
	if len(dst) > 0 {
		dst = append(dst, '\n')
	}
	return append(dst, line...)
}

func peerSubscribe(r *SubscribeRequest) *peerSubscribeRequest {
	return &peerSubscribeRequest{Channel: r.Channel, Token: r.Token, Recover: r.Recover, Epoch: r.Epoch, Offset: r.Offset,
		Data: json.RawMessage(r.Data), Positioned: r.Positioned, Recoverable: r.Recoverable, JoinLeave: r.JoinLeave, TagsFilter: peerFilterOf(r.TagsFilter), Flag: r.Flag}
}

func peerFilterOf(n *FilterNode) *peerFilter {
	if n == nil {
		return nil
	}
	f := &peerFilter{Op: n.Op, Key: n.Key, Cmp: n.Cmp, Val: n.Val, Vals: n.Vals}
	for _, child := range n.Nodes {
		f.Nodes = append(f.Nodes, peerFilterOf(child))
	}
	return f
}

// peerMessage is a message from the server as JSON.
type peerMessage struct {
	ID    uint32 `json:"id"`
	Error *struct {
		Code      uint32 `json:"code"`
		Message   string `json:"message"`
		Temporary bool   `json:"temporary"`
	} `json:"error"`
	Push    *peerPush `json:"push"`
	Connect *struct {
		Client  string                          `json:"client"`
		Data    json.RawMessage                 `json:"data"`
		Subs    map[string]*peerSubscribeResult `json:"subs"`
		Ping    uint32                          `json:"ping"`
		Session string                          `json:"session"`
		Node    string                          `json:"node"`
	} `json:"connect"`
	Subscribe *peerSubscribeResult `json:"subscribe"`
}

type peerSubscribeResult struct {
	Recoverable   bool               `json:"recoverable"`
	Epoch         string             `json:"epoch"`
	Publications  []*peerPublication `json:"publications"`
	Recovered     bool               `json:"recovered"`
	Offset        uint64             `json:"offset"`
	Positioned    bool               `json:"positioned"`
	Data          json.RawMessage    `json:"data"`
	WasRecovering bool               `json:"was_recovering"`
}

type peerPublication struct {
	Data   json.RawMessage   `json:"data"`
	Info   *peerInfo         `json:"info"`
	Offset uint64            `json:"offset"`
	Tags   map[string]string `json:"tags"`
}

type peerInfo struct {
	User     string          `json:"user"`
	Client   string          `json:"client"`
	ConnInfo json.RawMessage `json:"conn_info"`
	ChanInfo json.RawMessage `json:"chan_info"`
}

type peerMembership struct {
	Info *peerInfo `json:"info"`
}

type peerEnd struct {
	Code   uint32 `json:"code"`
	Reason string `json:"reason"`
}

type peerPush struct {
	Channel     string           `json:"channel"`
	Pub         *peerPublication `json:"pub"`
	Join        *peerMembership  `json:"join"`
	Leave       *peerMembership  `json:"leave"`
	Unsubscribe *peerEnd         `json:"unsubscribe"`
	Disconnect  *peerEnd         `json:"disconnect"`
	Message     *struct {
		Data json.RawMessage `json:"data"`
	} `json:"message"`
	Subscribe *peerSubscribeResult `json:"subscribe"`
}

// NextMessage implements [Peer].
func (*JSONPeer) NextMessage(frames []byte) (m *Incoming, rest []byte, err error) {
	line, rest, _ := bytes.Cut(frames, []byte{'\n'})
	var j peerMessage
	if err := json.Unmarshal(line, &j); err != nil {
		return nil, nil, fmt.Errorf("protocol: decode message: %w", err)
	}
	m = &Incoming{Reply: Reply{ID: j.ID}}
	if e := j.Error; e != nil {
		m.Error = &Error{e.Code, e.Message, e.Temporary}
	}
	if r := j.Connect; r != nil {
		m.Connect = &ConnectResult{Client: r.Client, Data: Raw(r.Data), Ping: r.Ping, Session: r.Session, Node: r.Node}
		for channel, sub := range r.Subs {
			if m.Connect.Subs == nil {
				m.Connect.Subs = make(map[string]*SubscribeResult)
			}
			m.Connect.Subs[channel] = sub.result()
		}
	}
	m.Subscribe = j.Subscribe.result()
	m.Push = j.Push.push()
	return m, rest, nil
}

func (r *peerSubscribeResult) result() *SubscribeResult {
	if r == nil {
		return nil
	}
	result := &SubscribeResult{Recoverable: r.Recoverable, Epoch: r.Epoch, Recovered: r.Recovered, Offset: r.Offset,
		Positioned: r.Positioned, Data: Raw(r.Data), WasRecovering: r.WasRecovering}
	for _, p := range r.Publications {
		result.Publications = append(result.Publications, p.publication())
	}
	return result
}

func (p *peerPublication) publication() *Publication {
	if p == nil {
		return nil
	}
	return &Publication{Data: Raw(p.Data), Info: p.Info.info(), Offset: p.Offset, Tags: p.Tags}
}

func (i *peerInfo) info() *ClientInfo {
	if i == nil {
		return nil
	}
	return &ClientInfo{User: i.User, Client: i.Client, ConnInfo: Raw(i.ConnInfo), ChanInfo: Raw(i.ChanInfo)}
}

func (p *peerPush) push() *Push {
	if p == nil {
		return nil
	}
	push := &Push{Channel: p.Channel, Pub: p.Pub.publication()}
	if p.Join != nil {
		push.Join = p.Join.Info.info()
	}
	if p.Leave != nil {
		push.Leave = p.Leave.Info.info()
	}
	if e := p.Unsubscribe; e != nil {
		push.Unsubscribe = &Unsubscribe{e.Code, e.Reason}
	}
	if e := p.Disconnect; e != nil {
		push.Disconnect = &Disconnect{e.Code, e.Reason}
	}
	if p.Message != nil {
		push.Message = &Message{Data: Raw(p.Message.Data)}
	}
	if s := p.Subscribe; s != nil {
		push.Subscribe = &Subscribe{Recoverable: s.Recoverable, Epoch: s.Epoch, Offset: s.Offset, Positioned: s.Positioned, Data: Raw(s.Data)}
	}
	return push
}
