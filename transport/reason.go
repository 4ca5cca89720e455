package transport

import (
	"encoding/json"
	"strings"
	"unicode/utf8"
)

// maxCloseReason is what a WebSocket close frame holds beside the code, in bytes (RFC 6455, 5.5).
const maxCloseReason = 123

// CloseReason makes a reason that clients understand (spec 8.1): JavaScript clients ignore the code if the reason is empty,
// and take another one from it if it is JSON; browsers reject a close frame that is not UTF-8, and longer ones do not exist.
// A reason that is fit already stays as it is.
func CloseReason(reason string) string {
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
	if len(reason) <= maxCloseReason {
		return reason
	}
	end := maxCloseReason
	for !utf8.RuneStart(reason[end]) {
		end--
	}
	return reason[:end]
}
