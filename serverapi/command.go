package serverapi

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"time"

	"github.com/fanfare-go/fanfare"
)

// command executes a method. The error is errMalformed if the params are not an object of the method's form.
type command func(a *api, ctx context.Context, params json.RawMessage) (result any, err error)

// commands are the methods, but for batch, which is made of them.
var commands = map[string]command{
	"publish":        method((*api).publish),
	"broadcast":      method((*api).broadcast),
	"subscribe":      method((*api).subscribe),
	"unsubscribe":    method((*api).unsubscribe),
	"disconnect":     method((*api).disconnect),
	"refresh":        method((*api).refresh),
	"presence":       method((*api).presence),
	"presence_stats": method((*api).presenceStats),
	"history":        method((*api).history),
	"history_remove": method((*api).removeHistory),
	"channels":       method((*api).channels),
	"info":           method((*api).info),
	"rpc":            method((*api).rpc),
}

// method makes a command of a function that takes its request decoded.
func method[Request, Result any](fn func(*api, context.Context, *Request) (Result, error)) command {
	return func(a *api, ctx context.Context, params json.RawMessage) (any, error) {
		var r Request
		if err := decode(params, &r); err != nil {
			return nil, err
		}
		result, err := fn(a, ctx, &r)
		if err != nil {
			return nil, err
		}
		return result, nil
	}
}

// decode decodes an object. Fields that are null count as absent, unknown ones are ignored.
func decode(params json.RawMessage, v any) error {
	if params = bytes.TrimSpace(params); len(params) == 0 || params[0] != '{' {
		return fmt.Errorf("%w: not an object", errMalformed)
	}
	if err := json.Unmarshal(params, v); err != nil {
		return fmt.Errorf("%w: %w", errMalformed, err)
	}
	return nil
}

// empty is a result that says nothing but that all went well.
type empty struct{}

// position is a place in a stream.
type position struct {
	Offset uint64 `json:"offset"`
	Epoch  string `json:"epoch"`
}

func (p *position) position() *fanfare.Position {
	if p == nil {
		return nil
	}
	return &fanfare.Position{Offset: p.Offset, Epoch: p.Epoch}
}

// present returns a field that may hold anything, or nil if it is absent.
func present(raw json.RawMessage) json.RawMessage {
	if len(raw) == 0 || string(raw) == "null" {
		return nil
	}
	return raw
}

// either returns what a field in base64 holds or, without it, the other field, and whether it was the first.
func either(plain json.RawMessage, b64 string) (data []byte, binary bool, err error) {
	if b64 == "" {
		return present(plain), false, nil
	}
	data, err = base64.StdEncoding.DecodeString(b64)
	if err != nil {
		return nil, false, errBadRequest
	}
	return data, true, nil
}

// unixTime is a time of the API; 0 is none.
func unixTime(seconds int64) time.Time {
	if seconds == 0 {
		return time.Time{}
	}
	return time.Unix(seconds, 0)
}
