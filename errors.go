package fanfare

import (
	"errors"
	"fmt"
	"log/slog"
)

// Error is an answer to a command that tells the client what is wrong with it. Hooks return one to refuse, and it
// reaches the client as it is; any other error is logged and reaches the client as [ErrInternal].
//
// Two Errors are the same for [errors.Is] when their codes are equal. Codes 400 to 1999 are free for applications
// (spec 9.1); codes below 100 belong to the clients, and from 2000 on there are none: the log says so, and [ErrInternal] is sent.
type Error struct {
	Code    uint32
	Message string
	// Temporary tells the client to try again, with back-off.
	Temporary bool
}

// Error returns the code and the message.
func (e *Error) Error() string { return fmt.Sprintf("%d: %s", e.Code, e.Message) }

// Is reports whether target is an *Error with the same code.
func (e *Error) Is(target error) bool {
	t, ok := target.(*Error)
	return ok && t.Code == e.Code
}

// The errors that the client protocol defines (spec 9.1).
var (
	// ErrInternal: something went wrong that is not the client's business; it tries again.
	ErrInternal = &Error{Code: 100, Message: "internal server error", Temporary: true}
	// ErrUnauthorized: nobody is logged in. The client stops asking.
	ErrUnauthorized = &Error{Code: 101, Message: "unauthorized"}
	// ErrUnknownChannel: no declared pattern matches the channel.
	ErrUnknownChannel = &Error{Code: 102, Message: "unknown channel"}
	// ErrPermissionDenied: the client may not do that.
	ErrPermissionDenied = &Error{Code: 103, Message: "permission denied"}
	// ErrMethodNotFound: no such RPC method.
	ErrMethodNotFound = &Error{Code: 104, Message: "method not found"}
	// ErrAlreadySubscribed: the connection already has a subscription to the channel.
	ErrAlreadySubscribed = &Error{Code: 105, Message: "already subscribed"}
	// ErrLimitExceeded: too many channels on one connection, or too many subscribers in the channel.
	ErrLimitExceeded = &Error{Code: 106, Message: "limit exceeded"}
	// ErrBadRequest: the request makes no sense.
	ErrBadRequest = &Error{Code: 107, Message: "bad request"}
	// ErrNotAvailable: the channel or the server does not offer that.
	ErrNotAvailable = &Error{Code: 108, Message: "not available"}
	// ErrTokenExpired: the client is to get a new token and try again.
	ErrTokenExpired = &Error{Code: 109, Message: "token expired"}
	// ErrExpired: the credentials have expired and cannot be renewed.
	ErrExpired = &Error{Code: 110, Message: "expired"}
	// ErrTooManyRequests: the client tries again later.
	ErrTooManyRequests = &Error{Code: 111, Message: "too many requests", Temporary: true}
	// ErrUnrecoverablePosition: the stream no longer holds what follows the client's position.
	ErrUnrecoverablePosition = &Error{Code: 112, Message: "unrecoverable position"}
)

// Errors that callers of a [Node] or [Broker] branch on. They do not travel to clients.
var (
	// ErrClosed is returned by a node or broker that was shut down.
	ErrClosed = errors.New("fanfare: closed")
	// ErrUnavailable is wrapped by the errors of a [Broker] or [Presence] whose server is away. It has logged that itself, once:
	// of the calls that fail because of it the node tells at debug level only.
	ErrUnavailable = errors.New("fanfare: broker not available")
	// ErrInHook is returned by [Node.Shutdown] when it is called with a hook's own context: it would wait for itself.
	ErrInHook = errors.New("fanfare: shutdown called from a hook")
	// ErrTooLarge is returned for a publication over [Config.MaxPublicationSize].
	ErrTooLarge = errors.New("fanfare: publication too large")
	// ErrBadPayload is returned for a publication that does not fit the [Payload] kind of its channel.
	ErrBadPayload = errors.New("fanfare: payload does not fit the channel")
	// ErrHistoryDisabled is returned when the history of a channel without history is read.
	ErrHistoryDisabled = errors.New("fanfare: channel has no history")
	// ErrPresenceDisabled is returned when the presence of a channel without presence is read.
	ErrPresenceDisabled = errors.New("fanfare: channel has no presence")
)

// troubled is the level of a line about a call that failed: lower where the cause is that the broker is away, which it has said
// itself, and which makes as many calls fail as there are.
func troubled(err error, level slog.Level) slog.Level {
	if errors.Is(err, ErrUnavailable) {
		return slog.LevelDebug
	}
	return level
}
