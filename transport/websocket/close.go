package websocket

import (
	"encoding/json"
	"strings"
	"unicode/utf8"

	"github.com/coder/websocket"
)

// maxReason is what a close frame holds beside the code.
const maxReason = 123

// closeCode maps codes that a close frame cannot carry to 1011, after which clients reconnect, as they do for codes
// from 5000 on (spec 9.3).
func closeCode(code uint32) websocket.StatusCode {
	switch {
	case code >= 3000 && code <= 4999:
	case code >= 1000 && code <= 1003, code >= 1007 && code <= 1014:
	default:
		return websocket.StatusInternalError
	}
	return websocket.StatusCode(code)
}

// closeReason makes a reason that clients understand (spec 8.1): JavaScript clients ignore the code if the reason is
// empty, and take another one from it if it is JSON; browsers reject a frame that is not UTF-8.
func closeReason(reason string) string {
	reason = cutReason(strings.ToValidUTF8(reason, "\uFFFD"))
	if reason == "" {
		return "disconnect"
	}
	// After the cut, because that may leave a number.
	if json.Valid([]byte(reason)) {
		return cutReason("reason: " + reason)
	}
	return reason
}

func cutReason(reason string) string {
	if len(reason) <= maxReason {
		return reason
	}
	end := maxReason
	for !utf8.RuneStart(reason[end]) {
		end--
	}
	return reason[:end]
}
