package serverapi

import (
	"context"
	"errors"
	"log/slog"
	"net/http"

	"github.com/fanfare-go/fanfare"
)

// apiError is an error as callers get it (spec 16.1).
type apiError struct {
	Code    uint32 `json:"code"`
	Message string `json:"message"`
}

// Error returns the message.
func (e *apiError) Error() string { return e.Message }

var (
	errInternal     = &apiError{100, "internal server error"}
	errNotFound     = &apiError{104, "not found"}
	errBadRequest   = &apiError{107, "bad request"}
	errNotAvailable = &apiError{108, "not available"}
)

// errMalformed is a body, or a command of it, that is not what it should be.
var errMalformed = errors.New("malformed request")

// apiErrorOf is what the caller is told of an error. What is not the caller's doing is logged.
func (a *api) apiErrorOf(ctx context.Context, method string, err error) *apiError {
	if e, ok := errors.AsType[*apiError](err); ok {
		return e
	}
	level, told := slog.LevelDebug, errBadRequest
	e, ok := errors.AsType[*fanfare.Error](err)
	switch {
	case ok && e.Code == fanfare.ErrMethodNotFound.Code:
		told = errNotFound
	case ok && e.Code >= errInternal.Code:
		told = &apiError{e.Code, e.Message}
	case errors.Is(err, errMalformed), errors.Is(err, fanfare.ErrBadPayload), errors.Is(err, fanfare.ErrTooLarge):
	case errors.Is(err, fanfare.ErrHistoryDisabled), errors.Is(err, fanfare.ErrPresenceDisabled):
		told = errNotAvailable
	default:
		level, told = slog.LevelError, errInternal
	}
	a.config.Logger.Log(ctx, level, "server API: command failed", slog.String("method", method), slog.Any("err", err))
	return told
}

// status is that of an error in the transport error mode.
func (e *apiError) status() int {
	switch e.Code {
	case 102, 104:
		return http.StatusNotFound
	case 107, 108:
		return http.StatusBadRequest
	case 112:
		return http.StatusRequestedRangeNotSatisfiable
	case 113:
		return http.StatusConflict
	}
	return http.StatusInternalServerError
}
