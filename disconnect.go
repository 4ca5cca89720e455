package fanfare

import "fmt"

// Disconnect ends a connection and tells the client why, by a code that also says whether to come back. Hooks return
// one to close the connection they were called for.
//
// Clients do not come back after codes 3500 to 3999 and 4500 to 4999; after 3000 to 3499, 4000 to 4499 and from 5000
// on they do. 4000 to 4999 are for applications (spec 9.3). Code 0 drops the connection without a word; of other codes
// below 3001 or above 4999 the log says that they are wrong, and 3004 is sent. The reason is cut to 123 bytes, and
// replaced if it is empty or is JSON, because clients misread those (spec 8.1).
type Disconnect struct {
	Code   uint32
	Reason string
}

// Error returns the code and the reason.
func (d *Disconnect) Error() string { return fmt.Sprintf("disconnect %d: %s", d.Code, d.Reason) }

// Is reports whether target is a *Disconnect with the same code.
func (d *Disconnect) Is(target error) bool {
	t, ok := target.(*Disconnect)
	return ok && t.Code == d.Code
}

// disconnectRefused ends a connection whose connect was answered with an error, if the client does not end it itself: it
// knows already, so it is told nothing more.
var disconnectRefused = &Disconnect{0, "connect refused"}

// The disconnects that the client protocol defines (spec 9.3).
var (
	// DisconnectClosed marks in notices that the peer went away by itself. It is never sent.
	DisconnectClosed           = &Disconnect{3000, "connection closed"}
	DisconnectShutdown         = &Disconnect{3001, "shutdown"}
	DisconnectInternal         = &Disconnect{3004, "internal server error"}
	DisconnectExpired          = &Disconnect{3005, "connection expired"}
	DisconnectSubExpired       = &Disconnect{3006, "subscription expired"}
	DisconnectSlow             = &Disconnect{3008, "slow"}
	DisconnectWriteError       = &Disconnect{3009, "write error"}
	DisconnectInsufficient     = &Disconnect{3010, "insufficient state"}
	DisconnectForceReconnect   = &Disconnect{3011, "force reconnect"}
	DisconnectNoPong           = &Disconnect{3012, "no pong"}
	DisconnectTooManyRequests  = &Disconnect{3013, "too many requests"}
	DisconnectInvalidToken     = &Disconnect{3500, "invalid token"}
	DisconnectBadRequest       = &Disconnect{3501, "bad request"}
	DisconnectStale            = &Disconnect{3502, "stale"}
	DisconnectForce            = &Disconnect{3503, "force disconnect"}
	DisconnectConnectionLimit  = &Disconnect{3504, "connection limit"}
	DisconnectChannelLimit     = &Disconnect{3505, "channel limit"}
	DisconnectInappropriate    = &Disconnect{3506, "inappropriate protocol"}
	DisconnectPermissionDenied = &Disconnect{3507, "permission denied"}
	DisconnectNotAvailable     = &Disconnect{3508, "not available"}
	DisconnectTooManyErrors    = &Disconnect{3509, "too many errors"}
)
