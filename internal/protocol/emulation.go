package protocol

import (
	"bytes"
	"encoding/json"
	"fmt"
)

// EmulationRequest carries a frame of commands to a session (spec 8.4).
type EmulationRequest struct {
	Node    string
	Session string
	Data    []byte // nil if there is none
}

// DecodeJSONEmulation decodes a request in which the frame is a string. Another kind of value is none.
func DecodeJSONEmulation(body []byte) (EmulationRequest, error) {
	var r struct {
		Node    string          `json:"node"`
		Session string          `json:"session"`
		Data    json.RawMessage `json:"data"`
	}
	if err := json.Unmarshal(body, &r); err != nil {
		return EmulationRequest{}, fmt.Errorf("protocol: decode emulation request: %w", err)
	}
	request := EmulationRequest{Node: r.Node, Session: r.Session}
	if data, ok := DecodeString(bytes.TrimSpace(r.Data)); ok {
		request.Data = []byte(data)
	}
	return request, nil
}

// DecodeProtobufEmulation decodes a request that, alone of all, has no length in front (spec 2.3).
func DecodeProtobufEmulation(body []byte) (EmulationRequest, error) {
	var r EmulationRequest
	f := protoFields{rest: body}
	for f.next() {
		switch f.num {
		case 1:
			f.text(&r.Node)
		case 2:
			f.text(&r.Session)
		case 3:
			f.raw((*Raw)(&r.Data))
		}
	}
	if f.err != nil {
		return EmulationRequest{}, fmt.Errorf("protocol: decode emulation request: %w", f.err)
	}
	return r, nil
}
