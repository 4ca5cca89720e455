package webhook

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/fanfare-go/fanfare"
)

// envelope is what every endpoint answers: exactly one of the three.
type envelope struct {
	Result     json.RawMessage `json:"result"`
	Error      *answerError    `json:"error"`
	Disconnect *answerEnd      `json:"disconnect"`
}

type answerError struct {
	Code      int64  `json:"code"`
	Message   string `json:"message"`
	Temporary bool   `json:"temporary"`
}

type answerEnd struct {
	Code   int64  `json:"code"`
	Reason string `json:"reason"`
}

// errSense wraps what is wrong with an answer: the app's fault, not the client's.
var errSense = errors.New("answer makes no sense")

func senseless(format string, args ...any) error {
	return fmt.Errorf("%w: %s", errSense, fmt.Sprintf(format, args...))
}

// decodeAnswer reads the app's answer: its result, or its refusal as an *[fanfare.Error] or *[fanfare.Disconnect], or an error
// that wraps errSense.
func decodeAnswer[T any](body []byte) (*T, error) {
	var e envelope
	if err := decode(body, &e); err != nil {
		return nil, err
	}
	given := 0
	for _, ok := range []bool{present(e.Result), e.Error != nil, e.Disconnect != nil} {
		if ok {
			given++
		}
	}
	switch {
	case given == 0:
		return nil, senseless("it has none of result, error and disconnect")
	case given > 1:
		return nil, senseless("it has more than one of result, error and disconnect")
	case e.Error != nil:
		return nil, e.Error.refusal()
	case e.Disconnect != nil:
		return nil, e.Disconnect.refusal()
	}
	result := new(T)
	if err := decode(e.Result, result); err != nil {
		return nil, err
	}
	return result, nil
}

// decode reads one JSON value and nothing behind it.
func decode(body []byte, v any) error {
	d := json.NewDecoder(bytes.NewReader(body))
	if err := d.Decode(v); err != nil {
		return senseless("%s", jsonProblem(err))
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return senseless("there is something behind the JSON")
	}
	return nil
}

// jsonProblem names the field, and not what was in it: that may be a secret.
func jsonProblem(err error) string {
	if t, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
		kind, _, _ := strings.Cut(t.Value, " ") // "number 12"
		if t.Field == "" {
			return fmt.Sprintf("it is a JSON %s", kind)
		}
		return fmt.Sprintf("%s is a JSON %s, which should be of type %s", t.Field, kind, t.Type)
	}
	return "it is no JSON of the expected form"
}

// present reports whether a value is there. Many apps write null for what they leave out.
func present(raw json.RawMessage) bool { return len(raw) > 0 && string(raw) != "null" }

// maxMessage bounds what clients are told, in bytes.
const maxMessage = 255

// refusal checks the code: below 100 are those that clients make themselves, from 2000 on there are none (spec 9.1).
func (e *answerError) refusal() error {
	if e.Code < 100 || e.Code > 1999 {
		return senseless("error.code is %d: must be within 100 and 1999, and your own from 400", e.Code)
	}
	return &fanfare.Error{Code: uint32(e.Code), Message: cut(e.Message, maxMessage), Temporary: e.Temporary}
}

// refusal checks the code: 3000 is never sent, and others mean nothing or something else to clients (spec 9.3).
func (d *answerEnd) refusal() error {
	if d.Code <= 3000 || d.Code > 4999 {
		return senseless("disconnect.code is %d: must be within 3001 and 4999, and your own from 4000", d.Code)
	}
	return &fanfare.Disconnect{Code: uint32(d.Code), Reason: cut(d.Reason, 123)} // spec 8.1: more breaks the close frame
}

// cut shortens s to n bytes, not within a character.
func cut(s string, n int) string {
	if len(s) <= n {
		return s
	}
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return strings.Clone(s[:n])
}

// bytesOf returns a payload that comes as JSON or, before that, as base64.
func bytesOf(field string, raw json.RawMessage, b64 string) ([]byte, error) {
	if b64 != "" {
		b, err := base64.StdEncoding.DecodeString(b64)
		if err != nil {
			return nil, senseless("b64%s is no base64", field)
		}
		return b, nil
	}
	if !present(raw) {
		return nil, nil
	}
	return raw, nil
}

// jsonOf is bytesOf for what must be JSON, whichever way it comes.
func jsonOf(field string, raw json.RawMessage, b64 string) ([]byte, error) {
	b, err := bytesOf(field, raw, b64)
	if err == nil && b != nil && (!json.Valid(b) || !utf8.Valid(b)) {
		return nil, senseless("b64%s is no JSON inside", field)
	}
	return b, err
}

// lastSecond is the end of the year 9999. What is later was meant as milliseconds.
const lastSecond = 253402300799

// timeOf returns a time in Unix seconds; 0 is never.
func timeOf(seconds int64) (time.Time, error) {
	switch {
	case seconds == 0:
		return time.Time{}, nil
	case seconds < 0:
		return time.Time{}, senseless("expire_at is negative")
	case seconds > lastSecond:
		return time.Time{}, senseless("expire_at is after the year 9999: it is in seconds since 1970, not milliseconds")
	}
	return time.Unix(seconds, 0), nil
}
