//go:build linux

package main

import (
	"bytes"
	"encoding/binary"
	"testing"
	"time"
)

func TestHistogramQuantile(t *testing.T) {
	var h histogram
	if got := h.quantile(0.5); got != 0 {
		t.Errorf("empty histogram: %v", got)
	}
	for i := range int64(1_000_000) {
		h.add(i)
	}
	for _, q := range []float64{0.001, 0.5, 0.99, 0.999} {
		want := q * 1e6
		got := float64(h.quantile(q))
		if got < want-1 || got > want*1.009+1 {
			t.Errorf("quantile %v: got %v, want within 0.9 %% above %v", q, got, want)
		}
	}
	if got := h.quantile(1); got != 999_999 {
		t.Errorf("maximum: %v", got)
	}
	h.add(-5)
	h.add(int64(time.Hour))
	if got := h.quantile(1); got != time.Hour {
		t.Errorf("maximum after an hour: %v", got)
	}
}

func TestSplitFrame(t *testing.T) {
	for _, n := range []int{0, 1, 125, 126, 65535, 65536} {
		frame := []byte{0x81}
		switch {
		case n < 126:
			frame = append(frame, byte(n))
		case n < 65536:
			frame = binary.BigEndian.AppendUint16(append(frame, 126), uint16(n))
		default:
			frame = binary.BigEndian.AppendUint64(append(frame, 127), uint64(n))
		}
		frame = append(frame, bytes.Repeat([]byte{'x'}, n)...)
		for cut := range min(len(frame), 20) {
			if _, _, size := splitFrame(frame[:cut]); size != 0 {
				t.Errorf("payload of %d bytes: %d of its bytes taken for a frame", n, cut)
			}
		}
		opcode, payload, size := splitFrame(append(frame, 0x81))
		if opcode != 1 || len(payload) != n || size != len(frame) {
			t.Errorf("payload of %d bytes: opcode %d, %d bytes, size %d", n, opcode, len(payload), size)
		}
	}
}

func TestParsePayload(t *testing.T) {
	sent, seq, ok := parsePayload([]byte(`"pub":{"data":{"t":1700000000000000001,"n":42,"p":"xx"}}`))
	if !ok || sent != 1700000000000000001 || seq != 42 {
		t.Errorf("got %d, %d, %v", sent, seq, ok)
	}
	for _, bad := range []string{``, `{}`, `{"t":}`, `{"t":1}`, `{"t":1,"n":}`} {
		if _, _, ok := parsePayload([]byte(bad)); ok {
			t.Errorf("%q was accepted", bad)
		}
	}
}

func TestJSONReplies(t *testing.T) {
	frame := []byte(`{"id":1,"connect":{"client":"c"}}` + "\n" +
		`{"id":2,"subscribe":{"recoverable":true,"epoch":"ep","publications":[{"data":{},"offset":4},{"data":{},"offset":5}],"recovered":true,"offset":3}}` + "\n" +
		`{}` + "\n" +
		`{"push":{"channel":"ch","pub":{"data":{"t":7,"n":8}}}}` + "\n" +
		`{"id":2,"error":{"code":103}}`)
	events := allEvents(t, jsonCodec{}, frame)
	wantKinds(t, events, evConnected, evSubscribed, evPing, evPublication, evError)
	if s := events[1]; s.missed != 2 || !s.recovered || s.offset != 3 || string(s.epoch) != "ep" {
		t.Errorf("subscribe reply: %+v", s)
	}
	if sent, seq, ok := parsePayload(events[3].payload); !ok || sent != 7 || seq != 8 {
		t.Errorf("publication: %d, %d, %v", sent, seq, ok)
	}
}

func TestProtobufReplies(t *testing.T) {
	message := func(b []byte) []byte { return append(binary.AppendUvarint(nil, uint64(len(b))), b...) }
	connected := appendBytesField(appendVarintField(nil, fieldReplyID, 1), fieldReplyConnect, "")
	result := appendBytesField(nil, fieldResultEpoch, "ep")
	result = appendBytesField(result, fieldResultPublications, "")
	result = appendVarintField(result, fieldResultRecovered, 1)
	result = appendVarintField(result, fieldResultOffset, 300)
	subscribed := appendBytesField(appendVarintField(nil, fieldReplyID, 2), fieldReplySubscribe, result)
	pub := appendBytesField(nil, fieldPushPub, appendBytesField(nil, fieldPubData, `{"t":7,"n":8}`))
	push := appendBytesField(nil, fieldReplyPush, pub)
	frame := bytes.Join([][]byte{message(connected), message(subscribed), message(nil), message(push)}, nil)

	events := allEvents(t, protobufCodec{}, frame)
	wantKinds(t, events, evConnected, evSubscribed, evPing, evPublication)
	if s := events[1]; s.missed != 1 || !s.recovered || s.offset != 300 || string(s.epoch) != "ep" {
		t.Errorf("subscribe reply: %+v", s)
	}
	if sent, seq, ok := parsePayload(events[3].payload); !ok || sent != 7 || seq != 8 {
		t.Errorf("publication: %d, %d, %v", sent, seq, ok)
	}
	if _, _, err := (protobufCodec{}).next([]byte{5, 1}); err == nil {
		t.Error("a cut message was accepted")
	}
}

func allEvents(t *testing.T, c codec, frame []byte) []event {
	t.Helper()
	var events []event
	for len(frame) > 0 {
		ev, rest, err := c.next(frame)
		if err != nil {
			t.Fatal(err)
		}
		events, frame = append(events, ev), rest
	}
	return events
}

func wantKinds(t *testing.T, events []event, kinds ...eventKind) {
	t.Helper()
	if len(events) != len(kinds) {
		t.Fatalf("%d events, want %d", len(events), len(kinds))
	}
	for i, k := range kinds {
		if events[i].kind != k {
			t.Errorf("event %d: kind %d, want %d", i, events[i].kind, k)
		}
	}
}
