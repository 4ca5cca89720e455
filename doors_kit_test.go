package fanfare_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"

	ws "github.com/coder/websocket"

	"github.com/fanfare-go/fanfare"
	"github.com/fanfare-go/fanfare/internal/protocol"
)

// visit is one connection through some door, which listens to one channel. It knows where it stands.
type visit interface {
	// next returns the data of the next publication.
	next() (string, error)
	// position is that after the last publication.
	position() fanfare.Position
	// cut ends the connection without a word.
	cut()
}

// entrance opens a door and subscribes to a channel: from a position, or, if that is zero, from now on. What was missed beyond
// recovery is an error.
type entrance func(ctx context.Context, base, user, channel string, since fanfare.Position) (visit, error)

// doorsByName are all of them, in every encoding.
var doorsByName = map[string]entrance{
	"websocket, JSON":       spoken(webSocketLine, false, "websocket?"),
	"websocket, Protobuf":   spoken(webSocketLine, true, "websocket?format=protobuf&"),
	"http_stream, JSON":     spoken(streamLine, false, "http_stream?"),
	"http_stream, Protobuf": spoken(streamLine, true, "http_stream?"),
	"sse":                   spoken(sseLine, false, "sse?"),
	"uni_websocket":         enterUni(webSocketLine, "uni_websocket"),
	"uni_http_stream":       enterUni(streamLine, "uni_http_stream"),
	"uni_sse":               enterUni(sseLine, "uni_sse"),
	"events":                enterEvents,
	"poll":                  enterPoll,
}

// line is a connection: of messages in the form of HTTP streaming, whatever they come in.
type line struct {
	read func() ([]byte, error)
	send func(frame []byte) error // nil where later commands are posted
	cut  func()
}

// dialLine opens a connection whose first frame is said by the request, or at once.
type dialLine func(ctx context.Context, target string, first []byte, protobuf bool) (*line, error)

func webSocketLine(ctx context.Context, target string, first []byte, protobuf bool) (*line, error) {
	conn, _, err := ws.Dial(ctx, strings.Replace(target, "http", "ws", 1), nil)
	if err != nil {
		return nil, err
	}
	conn.SetReadLimit(4 << 20)
	kind := ws.MessageText
	if protobuf {
		kind = ws.MessageBinary
	}
	l := &line{
		send: func(frame []byte) error { return conn.Write(ctx, kind, frame) },
		read: func() ([]byte, error) {
			_, data, err := conn.Read(ctx)
			if !protobuf {
				data = append(data, '\n')
			}
			return data, err
		},
		cut: func() { _ = conn.CloseNow() },
	}
	return l, l.send(first)
}

// request makes a request whose answer does not end.
func request(ctx context.Context, method, target, contentType string, body []byte) (*bufio.Reader, func(), error) {
	r, err := http.NewRequestWithContext(ctx, method, target, bytes.NewReader(body))
	if err != nil {
		return nil, nil, err
	}
	r.Header.Set("Content-Type", contentType)
	response, err := (&http.Transport{DisableKeepAlives: true}).RoundTrip(r)
	if err != nil {
		return nil, nil, err
	}
	if response.StatusCode != http.StatusOK {
		defer response.Body.Close()
		text, _ := io.ReadAll(response.Body)
		return nil, nil, fmt.Errorf("status %d: %s", response.StatusCode, text)
	}
	return bufio.NewReader(response.Body), func() { _ = response.Body.Close() }, nil
}

func streamLine(ctx context.Context, target string, first []byte, protobuf bool) (*line, error) {
	contentType := "application/json"
	if protobuf {
		contentType = "application/octet-stream"
	}
	body, cut, err := request(ctx, http.MethodPost, target, contentType, first)
	if err != nil {
		return nil, err
	}
	return &line{cut: cut, read: func() ([]byte, error) {
		if !protobuf {
			return body.ReadBytes('\n')
		}
		size, err := binary.ReadUvarint(body)
		if err != nil {
			return nil, err
		}
		message := binary.AppendUvarint(nil, size)
		n := len(message)
		message = append(message, make([]byte, size)...)
		_, err = io.ReadFull(body, message[n:])
		return message, err
	}}, nil
}

func sseLine(ctx context.Context, target string, first []byte, _ bool) (*line, error) {
	body, cut, err := request(ctx, http.MethodGet, target+"&cf_connect="+url.QueryEscape(string(first)), "", nil)
	if err != nil {
		return nil, err
	}
	return &line{cut: cut, read: func() ([]byte, error) {
		for {
			text, err := body.ReadBytes('\n')
			if data, ok := bytes.CutPrefix(text, []byte("data: ")); ok || err != nil {
				return data, err
			}
		}
	}}, nil
}

// spoken makes an entrance of a line on which the protocol is spoken in both directions.
func spoken(dial dialLine, protobuf bool, door string) entrance {
	return func(ctx context.Context, base, user, channel string, since fanfare.Position) (visit, error) {
		v := &speaker{base: base, peer: &protocol.JSONPeer{}, channel: channel, protobuf: protobuf, at: since}
		if protobuf {
			v.peer = &protocol.ProtobufPeer{}
		}
		hello := v.peer.AppendCommand(nil, &protocol.Command{ID: 1, Connect: &protocol.ConnectRequest{}})
		var err error
		if v.line, err = dial(ctx, base+"/"+door+"user="+user, hello, protobuf); err != nil {
			return nil, err
		}
		if err := v.subscribe(ctx); err != nil {
			v.cut()
			return nil, err
		}
		return v, nil
	}
}

// speaker speaks the protocol.
type speaker struct {
	line     *line
	base     string
	peer     protocol.Peer
	protobuf bool
	channel  string
	at       fanfare.Position
	connect  *protocol.ConnectResult
	result   *protocol.SubscribeResult
	heard    []heard
}

// heard is a publication that came.
type heard struct {
	data   string
	offset uint64
}

func (v *speaker) cut()                       { v.line.cut() }
func (v *speaker) position() fanfare.Position { return v.at }

// listen reads what comes next.
func (v *speaker) listen() error {
	frames, err := v.line.read()
	for err == nil && len(frames) > 0 {
		var m *protocol.Incoming
		if m, frames, err = v.peer.NextMessage(frames); err != nil {
			return err
		}
		switch {
		case m.Error != nil:
			return fmt.Errorf("refused: %+v", m.Error)
		case m.Connect != nil:
			v.connect = m.Connect
		case m.Subscribe != nil:
			v.result = m.Subscribe
			for _, p := range m.Subscribe.Publications {
				v.heard = append(v.heard, heard{string(p.Data), p.Offset})
			}
		case m.Push != nil && m.Push.Pub != nil:
			v.heard = append(v.heard, heard{string(m.Push.Pub.Data), m.Push.Pub.Offset})
		case m.Push != nil:
			return fmt.Errorf("unexpected push: %+v", m.Push)
		}
	}
	return err
}

func (v *speaker) subscribe(ctx context.Context) error {
	for v.connect == nil {
		if err := v.listen(); err != nil {
			return err
		}
	}
	s := &protocol.SubscribeRequest{Channel: v.channel, Recover: v.at != fanfare.Position{}, Offset: v.at.Offset, Epoch: v.at.Epoch}
	if err := v.command(ctx, &protocol.Command{ID: 2, Subscribe: s}); err != nil {
		return err
	}
	for v.result == nil {
		if err := v.listen(); err != nil {
			return err
		}
	}
	if s.Recover && !v.result.Recovered {
		return fmt.Errorf("not recovered: %+v", v.result)
	}
	v.at = fanfare.Position{Offset: v.result.Offset, Epoch: v.result.Epoch}
	return nil
}

// command says something later, where that is possible, or posts it.
func (v *speaker) command(ctx context.Context, c *protocol.Command) error {
	frame := v.peer.AppendCommand(nil, c)
	if v.line.send != nil {
		return v.line.send(frame)
	}
	contentType := "application/json"
	body, _ := json.Marshal(map[string]string{"session": v.connect.Session, "node": v.connect.Node, "data": string(frame)})
	if v.protobuf {
		contentType, body = "application/octet-stream", nil
		for i, field := range []string{v.connect.Node, v.connect.Session, string(frame)} {
			body = append(binary.AppendUvarint(append(body, byte(i+1)<<3|2), uint64(len(field))), field...)
		}
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, v.base+"/emulation", bytes.NewReader(body))
	if err != nil {
		return err
	}
	r.Header.Set("Content-Type", contentType)
	response, err := (&http.Transport{DisableKeepAlives: true}).RoundTrip(r)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusNoContent {
		return fmt.Errorf("emulation: status %d", response.StatusCode)
	}
	return nil
}

func (v *speaker) next() (string, error) {
	for len(v.heard) == 0 {
		if err := v.listen(); err != nil {
			return "", err
		}
	}
	h := v.heard[0]
	v.heard = v.heard[1:]
	v.at.Offset = h.offset
	return h.data, nil
}

// enterUni listens on a line that says nothing but its connect request, and hears bare pushes.
func enterUni(dial dialLine, door string) entrance {
	return func(ctx context.Context, base, user, channel string, since fanfare.Position) (visit, error) {
		sub := map[string]any{}
		if since != (fanfare.Position{}) {
			sub = map[string]any{"recover": true, "offset": since.Offset, "epoch": since.Epoch}
		}
		hello, _ := json.Marshal(map[string]any{"subs": map[string]any{channel: sub}})
		l, err := dial(ctx, base+"/"+door+"?user="+user, hello, false)
		if err != nil {
			return nil, err
		}
		v := &listener{line: l}
		var first uniPush
		if first, err = v.push(); err == nil && first.Connect == nil {
			err = fmt.Errorf("no connect push: %+v", first)
		}
		if err != nil {
			v.cut()
			return nil, err
		}
		result := first.Connect.Subs[channel]
		if since != (fanfare.Position{}) && !result.Recovered {
			v.cut()
			return nil, fmt.Errorf("not recovered: %+v", result)
		}
		v.at = fanfare.Position{Offset: result.Offset, Epoch: result.Epoch}
		for _, p := range result.Publications {
			v.heard = append(v.heard, heard{string(p.Data), p.Offset})
		}
		return v, nil
	}
}

type uniPublication struct {
	Data   json.RawMessage
	Offset uint64
}

// uniPush is a bare push.
type uniPush struct {
	Connect *struct {
		Subs map[string]struct {
			Epoch        string
			Offset       uint64
			Recovered    bool
			Publications []uniPublication
		}
	}
	Pub *uniPublication
}

// listener only listens.
type listener struct {
	line  *line
	at    fanfare.Position
	heard []heard
}

func (v *listener) cut()                       { v.line.cut() }
func (v *listener) position() fanfare.Position { return v.at }

func (v *listener) push() (p uniPush, err error) {
	text, err := v.line.read()
	if err == nil {
		err = json.Unmarshal(text, &p)
	}
	return p, err
}

func (v *listener) next() (string, error) {
	for len(v.heard) == 0 {
		p, err := v.push()
		if err != nil {
			return "", err
		}
		if p.Pub != nil {
			v.heard = append(v.heard, heard{string(p.Pub.Data), p.Pub.Offset})
		}
	}
	h := v.heard[0]
	v.heard = v.heard[1:]
	v.at.Offset = h.offset
	return h.data, nil
}

// enterEvents reads plain server-sent events.
func enterEvents(ctx context.Context, base, user, channel string, since fanfare.Position) (visit, error) {
	query := url.Values{"channel": {channel}, "user": {user}}
	if since != (fanfare.Position{}) {
		query.Set("cursor", fanfare.EncodeCursor(map[string]fanfare.Position{channel: since}))
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, base+"/events?"+query.Encode(), nil)
	if err != nil {
		return nil, err
	}
	response, err := (&http.Transport{DisableKeepAlives: true}).RoundTrip(r)
	if err != nil {
		return nil, err
	}
	v := &source{eventSource: newEventSource(response), channel: channel, at: since}
	if since == (fanfare.Position{}) {
		// From now on means from here.
		if e, err := v.read(); err != nil || e.Type != "ready" {
			return nil, fmt.Errorf("not ready: %v, %w", e, err)
		}
	}
	return v, nil
}

// source is a visit by the events door.
type source struct {
	*eventSource
	channel string
	at      fanfare.Position
}

func (v *source) cut() { v.close() }

func (v *source) position() fanfare.Position {
	if v.lastID == "" {
		return v.at
	}
	positions, err := fanfare.DecodeCursor(v.lastID, v.channel)
	if err != nil {
		panic(err)
	}
	return positions[v.channel]
}

func (v *source) next() (string, error) {
	for {
		switch e, err := v.read(); {
		case err != nil:
			return "", err
		case e.Type == "publication":
			return e.Data, nil
		case e.Type != "ready":
			return "", fmt.Errorf("unexpected event: %v", e)
		}
	}
}

// enterPoll asks again and again.
func enterPoll(ctx context.Context, base, user, channel string, since fanfare.Position) (visit, error) {
	v := &poller{ctx: ctx, base: base, query: url.Values{"channel": {channel}, "user": {user}}, channel: channel}
	if since != (fanfare.Position{}) {
		v.cursor = fanfare.EncodeCursor(map[string]fanfare.Position{channel: since})
		v.told = v.cursor
		return v, nil
	}
	if err := v.ask("0"); err != nil {
		return nil, err
	}
	v.told = v.cursor
	return v, nil
}

// poller is a visit by the poll door.
type poller struct {
	ctx                   context.Context
	base, channel, cursor string
	told                  string // the cursor of what was handed out
	query                 url.Values
	heard                 []string
}

func (v *poller) cut() {}

func (v *poller) position() fanfare.Position {
	positions, err := fanfare.DecodeCursor(v.told, v.channel)
	if err != nil {
		panic(err)
	}
	at := positions[v.channel]
	at.Offset -= uint64(len(v.heard)) // they are dense
	return at
}

func (v *poller) ask(wait string) error {
	v.query.Set("wait", wait)
	v.query.Set("cursor", v.cursor)
	r, err := http.NewRequestWithContext(v.ctx, http.MethodGet, v.base+"/poll?"+v.query.Encode(), nil)
	if err != nil {
		return err
	}
	response, err := (&http.Transport{DisableKeepAlives: true}).RoundTrip(r)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	var a answer
	if err := json.NewDecoder(response.Body).Decode(&a); err != nil || response.StatusCode != http.StatusOK {
		return fmt.Errorf("status %d, %w", response.StatusCode, err)
	}
	for _, e := range a.Events {
		if e.Type != "publication" {
			return fmt.Errorf("unexpected event: %+v", e)
		}
		v.heard = append(v.heard, string(e.Data))
	}
	v.cursor = a.Cursor
	return nil
}

func (v *poller) next() (string, error) {
	for len(v.heard) == 0 {
		if err := v.ask("30s"); err != nil {
			return "", err
		}
		v.told = v.cursor
	}
	data := v.heard[0]
	v.heard = v.heard[1:]
	return data, nil
}
