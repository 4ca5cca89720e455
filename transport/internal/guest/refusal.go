package guest

import (
	"cmp"
	"net/http"

	"github.com/fanfare-go/fanfare/internal/protocol"
)

// Refusal is why a peer gets nothing, in the terms of HTTP.
type Refusal struct {
	Status    int
	Text      string
	Temporary bool // it may try again
}

// Statuses of the reply errors of spec 9.1 and of the disconnects of spec 9.3 that have a better one than 403, with which the
// app's own refusals are answered.
var (
	errorStatus = map[uint32]int{
		101: http.StatusUnauthorized,
		102: http.StatusNotFound,
		106: http.StatusTooManyRequests,
		107: http.StatusBadRequest,
		108: http.StatusNotAcceptable,
		109: http.StatusUnauthorized,
		110: http.StatusUnauthorized,
	}
	disconnectStatus = map[uint32]int{
		3500: http.StatusUnauthorized,
		3501: http.StatusBadRequest,
		3504: http.StatusTooManyRequests,
		3505: http.StatusBadRequest,
		3506: http.StatusNotAcceptable,
		3508: http.StatusNotAcceptable,
	}
)

func refused(channel string, e *protocol.Error) *Refusal {
	r := &Refusal{Status: cmp.Or(errorStatus[e.Code], http.StatusForbidden), Text: e.Message, Temporary: e.Temporary}
	if r.Temporary {
		r.Status = http.StatusServiceUnavailable
	}
	if channel != "" {
		r.Text = "channel " + channel + ": " + e.Message
	}
	return r
}

func disconnected(code uint32, reason string) *Refusal {
	if terminal := code >= 3500 && code < 4000 || code >= 4500 && code < 5000; !terminal {
		return &Refusal{Status: http.StatusServiceUnavailable, Text: reason, Temporary: true}
	}
	return &Refusal{Status: cmp.Or(disconnectStatus[code], http.StatusForbidden), Text: reason}
}
